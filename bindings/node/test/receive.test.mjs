// Receiving: waiting, giving up, iterating, and what is settled.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { test } from 'node:test';

import { broker, directory, until } from './support.mjs';

test('a receive waits for a message, and for no longer than it is told', async (t) => {
  const queue = await broker(t);
  assert.equal(await queue.receive('q', { timeout: 0 }), null);
  assert.equal(await queue.receive('q', { timeout: 5 }), null);
  const waiting = queue.receive('q');
  await queue.enqueue('q', 'came');
  const delivery = await waiting;
  assert.equal(delivery.body, 'came');
  assert.equal(delivery.attempt, 1);
  await delivery.ack();
  await assert.rejects(delivery.ack(), { code: 'STALE_LEASE' });
  assert.equal(delivery.settled, true);
});

test('those who wait are served in the order in which they came', async (t) => {
  const queue = await broker(t);
  const waiting = [1, 2, 3].map(() => queue.receive('q'));
  const many = queue.receiveMany('q', 5);
  await queue.enqueueMany('q', ['a', 'b', 'c', 'd', 'e']);
  assert.deepEqual(
    (await Promise.all(waiting)).map(({ body }) => body),
    ['a', 'b', 'c'],
  );
  assert.deepEqual(
    (await many).map(({ body }) => body),
    ['d', 'e'],
  );
});

// It ran between them: had it ended the process, it would have accused messages that no code of the program had seen.
test('no handler runs between the taking of a message and whoever receives it', async (t) => {
  const queue = await broker(t);
  let received = 0;
  let early = 0;
  queue.handle('work', () => {
    const { delivered } = queue.metrics().queues.pulled ?? { delivered: 0 };
    if (delivered > received) early += 1;
  });
  await queue.start();
  for (let round = 0; round < 50; round++) {
    const waiting = queue.receiveMany('pulled', 4).then(async (deliveries) => {
      received += deliveries.length;
      for (const delivery of deliveries) await delivery.ack();
    });
    // At first it waits in vain, and in every other round there is something when it comes.
    if (round % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    await Promise.all([
      queue.enqueueMany('pulled', ['a', 'b', 'c', 'd']),
      queue.enqueueMany('work', [1, 2, 3]),
      waiting,
    ]);
  }
  await queue.waitIdle();
  assert.equal(early, 0);
});

test('a loop that receives what is there leaves the others their turns', async (t) => {
  const queue = await broker(t);
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  t.after(() => clearInterval(timer));
  for (let i = 0; i < 200; i++) await queue.enqueueMany('q', new Array(10).fill(i));
  const before = turns;
  for (let i = 0; i < 2000; i++) await (await queue.receive('q')).ack();
  assert.ok(turns > before, 'no timer had its turn');
});

test('a signal ends a wait, and what comes later goes to others', async (t) => {
  const queue = await broker(t);
  const controller = new AbortController();
  const first = queue.receive('q', { signal: controller.signal });
  const second = queue.receive('q', { timeout: 10_000 });
  const reason = new Error('enough');
  controller.abort(reason);
  await assert.rejects(first, reason);
  await assert.rejects(queue.receive('q', { signal: controller.signal }), reason);
  await queue.enqueue('q', 'for the second');
  assert.equal((await second).body, 'for the second');
});

test('the four ends of a delivery', async (t) => {
  const queue = await broker(t, { clock: 'manual' });
  const next = async () => queue.receive('q', { timeout: 0 });
  await queue.enqueue('q', 1);
  await (await next()).release();
  const released = await next();
  assert.equal(released.attempt, 1);
  await released.release({ delay: 50 });
  assert.equal(await next(), null);
  queue.advance(50);
  await (await next()).retry({ delay: 0, error: 'why' });
  const retried = await next();
  assert.equal(retried.attempt, 2);
  retried.enqueue('child', 'of it');
  assert.equal(await queue.receive('child', { timeout: 0 }), null);
  await retried.ack();
  assert.equal((await queue.receive('child', { timeout: 0 })).body, 'of it');
  await queue.enqueue('q', 2);
  await (await next()).reject('unwanted');
  const [letter] = await queue.deadLetters.list({ queue: 'q' });
  assert.deepEqual([letter.reason, letter.body, letter.attempts], ['unwanted', 2, 1]);
});

test('an invalid settle settles nothing', async (t) => {
  const queue = await broker(t);
  await queue.enqueue('q', 1);
  const delivery = await queue.receive('q', { timeout: 0 });
  await assert.rejects(delivery.retry({ delay: 1e15 }), { code: 'INVALID' });
  assert.equal(delivery.settled, false);
  await delivery.ack();
});

test('an extended lease outlives its first end, and a lost one settles nothing', async (t) => {
  const queue = await broker(t, { clock: 'manual' });
  await queue.enqueue('q', 1);
  const delivery = await queue.receive('q', { timeout: 0, lease: 1000 });
  delivery.extend(5000);
  queue.advance(1500);
  assert.equal(await queue.receive('q', { timeout: 0 }), null);
  queue.advance(5000);
  const again = await queue.receive('q', { timeout: 5000 });
  assert.equal(again.attempt, 2);
  assert.throws(() => delivery.extend(1), { code: 'STALE_LEASE' });
  await assert.rejects(delivery.ack(), { code: 'STALE_LEASE' });
  await again.ack();
});

test('an iteration releases what was not settled when the next one is asked for, or when it ends', async (t) => {
  const queue = await broker(t);
  await queue.enqueueMany('q', ['a', 'b']);
  const seen = [];
  for await (const delivery of queue.deliveries('q')) {
    seen.push([delivery.body, delivery.attempt]);
    if (seen.length === 2) await delivery.ack();
    if (seen.length === 3) break;
  }
  // The first one came back at once, in its old place.
  assert.deepEqual(seen, [
    ['a', 1],
    ['a', 1],
    ['b', 1],
  ]);
  await until(() => queue.metrics().ready === 1);
  assert.equal(queue.metrics().released, 2);
});

// Each had a listener of its own, and Node warned of a leak: of a program that is stopped by one signal, at every receive.
test('a signal ends as many waits as there are, without a warning', async (t) => {
  const queue = await broker(t);
  const warnings = [];
  const warned = (warning) => warnings.push(String(warning));
  process.on('warning', warned);
  t.after(() => process.off('warning', warned));
  const controller = new AbortController();
  const { signal } = controller;
  const waits = Array.from({ length: 30 }, () => queue.receive('q', { signal }));
  await queue.enqueueMany('q', [1, 2]);
  for (const wait of waits.splice(0, 2)) await (await wait).ack();
  // One whose time has run out leaves the others' listener in place.
  assert.equal(await queue.receive('other', { signal, timeout: 1 }), null);
  waits.push(queue.receive('third', { signal }));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(warnings, []);
  const reason = new Error('enough');
  controller.abort(reason);
  const ends = await Promise.allSettled(waits);
  assert.equal(ends.length, 29);
  assert.ok(ends.every((end) => end.reason === reason));
});

test('an iteration ends with its signal', async (t) => {
  const queue = await broker(t);
  const controller = new AbortController();
  await queue.enqueue('q', 1);
  const seen = [];
  for await (const delivery of queue.deliveries('q', { signal: controller.signal })) {
    seen.push(delivery.body);
    await delivery.ack();
    setTimeout(() => controller.abort(), 5);
  }
  assert.deepEqual(seen, [1]);
  queue.close();
  await assert.rejects(queue.deliveries('q').next(), { code: 'CLOSED' });
});

// It waited for a message that nobody sends, and the program with it.
test('the end of an iteration ends its wait for the next one', async (t) => {
  const queue = await broker(t);
  const iteration = queue.deliveries('q');
  const next = iteration.next();
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(await iteration.return('over'), { value: 'over', done: true });
  assert.deepEqual(await next, { value: undefined, done: true });
  assert.deepEqual(await iteration.next(), { value: undefined, done: true });
  await queue.enqueue('q', 1);
  const waiting = queue.deliveries('other');
  const rest = waiting.next();
  await assert.rejects(waiting.throw(new Error('mine')), { message: 'mine' });
  assert.equal((await rest).done, true);
  const stream = Readable.from(queue.deliveries('third'));
  stream.read();
  await new Promise((resolve) => setTimeout(resolve, 5));
  const closed = once(stream, 'close');
  stream.destroy();
  await closed;
  const { ready, inFlight } = queue.metrics();
  assert.deepEqual([ready, inFlight], [1, 0]);
});

// Both got the same message, and the first of them had lost it by then.
test('calls of an iteration at once have a message each, held until the next call', async (t) => {
  const queue = await broker(t);
  await queue.enqueueMany('q', ['a', 'b', 'c', 'd']);
  const iteration = queue.deliveries('q');
  const found = await Promise.all([iteration.next(), iteration.next(), iteration.next()]);
  assert.deepEqual(
    found.map(({ value }) => value.body),
    ['a', 'b', 'c'],
  );
  assert.equal(queue.metrics().inFlight, 3);
  await found[1].value.ack();
  assert.equal((await iteration.next()).value.body, 'a');
  assert.equal(queue.metrics().inFlight, 1);
  await iteration.return();
  const { ready, inFlight, acked } = queue.metrics();
  assert.deepEqual([ready, inFlight, acked], [3, 0, 1]);
});

test('the methods of a delivery know it, also taken out of it', async (t) => {
  const queue = await broker(t);
  await queue.enqueueMany('q', [1, 2, 3, 4]);
  const deliveries = await queue.receiveMany('q', 4, { timeout: 0 });
  deliveries[0].extend(60_000);
  const [{ ack, enqueue, extend }, { retry }, { reject }, { release }] = deliveries;
  extend(50_000);
  enqueue('other', 1);
  await ack();
  await retry({ delay: 0 });
  await reject('no');
  await release();
  const { acked, retried, rejected, released } = queue.metrics().queues.q;
  assert.deepEqual([acked, retried, rejected, released], [1, 1, 1, 1]);
  assert.equal(queue.metrics().queues.other.ready, 1);
  deliveries[0].ack = () => 'mine';
  assert.equal(deliveries[0].ack(), 'mine');
});

test('a body that does not decode is there as bytes, and its end is up to who received it', async (t) => {
  const queue = await broker(t);
  await queue.enqueue('q', Buffer.from('{torn'), { contentType: 'application/json' });
  await queue.enqueue('q', Buffer.from([0xff, 0xfe]), { contentType: 'Application/JSON; charset=utf-8' });
  const torn = await queue.receive('q', { timeout: 0 });
  // The engine's own text has a piece of the body in it.
  assert.throws(() => torn.body, {
    code: 'INVALID',
    message: /^the body does not decode: the body is not JSON(?!.*torn)/,
  });
  assert.equal(torn.raw.toString(), '{torn');
  await torn.release();
  await assert.rejects(
    (async () => {
      for await (const delivery of queue.deliveries('q')) assert.ok(delivery.body);
    })(),
    { code: 'INVALID' },
  );
  for await (const delivery of queue.deliveries('q')) {
    assert.deepEqual([...delivery.raw], [0xff, 0xfe]);
    break;
  }
  const letters = await queue.deadLetters.list();
  assert.deepEqual(
    letters.map(({ reason }) => reason),
    ['decode', 'decode'],
  );
  assert.equal(letters[0].body.toString(), '{torn');
  assert.match(letters[0].error, /^the body is not JSON(?!.*torn)/);
});

/**
 * JSON has no bound for numbers, and other languages read those that a double cannot hold, or refuse them. Read as
 * Infinity, it would be another number, which JSON could not even say.
 */
test('a body with a number beyond what a double can hold does not decode', async (t) => {
  const queue = await broker(t);
  const json = (text) => queue.enqueue('q', Buffer.from(text), { contentType: 'application/json' });
  const digits = (count) => `1${'0'.repeat(count)}`;
  const beyond = ['1e999', '[-1E+400]', '{"a":[{"b":1e0309}]}', digits(400), `${digits(250)}.5e99`, '[0.1, 2.5e308]'];
  for (const text of beyond) {
    await json(text);
    const delivery = await queue.receive('q', { timeout: 0 });
    assert.throws(() => delivery.body, { code: 'INVALID', message: /beyond what a double can hold/ }, text);
    assert.equal(delivery.raw.toString(), text);
    await delivery.ack();
  }
  const fine = ['1e308', digits(308), '"1e999"', `{"text":"${digits(400)}"}`, '1e-999', '[1.5e300, -1e+299]'];
  for (const text of fine) {
    await json(text);
    const delivery = await queue.receive('q', { timeout: 0 });
    assert.deepEqual(delivery.body, JSON.parse(text), text);
    await delivery.ack();
  }
  let calls = 0;
  queue.handle('q', () => void calls++);
  for (const text of beyond) await json(text);
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  const letters = await queue.deadLetters.list();
  assert.deepEqual([calls, letters.map(({ reason }) => reason)], [0, beyond.map(() => 'decode')]);
  assert.equal(letters[0].body.toString(), '1e999');
});

test('dead letters are listed, got, replayed and purged', async (t) => {
  const queue = await broker(t);
  const { id } = await queue.enqueue('q', { n: 1 }, { headers: { a: 'b' } });
  await queue.enqueue('other', 2);
  for (const name of ['q', 'other']) await (await queue.receive(name, { timeout: 0 })).reject('no');
  assert.equal(await queue.deadLetters.count(), 2);
  const letter = await queue.deadLetters.get(String(id));
  assert.deepEqual([letter.id, letter.queue, letter.body, letter.headers.a], [id, 'q', { n: 1 }, 'b']);
  assert.ok(letter.failedAt instanceof Date);
  assert.equal(JSON.parse(JSON.stringify(letter)).id, String(id));
  assert.equal(await queue.deadLetters.get(1n), null);
  const replayed = await queue.deadLetters.replay(id);
  assert.ok(replayed.id > id);
  assert.equal((await queue.receive('q', { timeout: 0 })).attempt, 1);
  assert.equal((await queue.deadLetters.list({ after: id })).length, 1);
  assert.equal(await queue.deadLetters.purge({ queue: 'q' }), 0);
  assert.equal(await queue.deadLetters.replayAll(), 1);
  assert.equal(await queue.deadLetters.count(), 0);
});

/** It was taken for settled, and its message went to others though the lease had not ended. */
test('a settle that the disk has no room for settles nothing', async (t) => {
  const queue = await broker(t, { maxBytes: 786_432, segmentBytes: 65_536, durability: 'os' }, directory());
  const body = Buffer.alloc(60_000);
  await queue.enqueueMany('q', Array(4).fill(body));
  const held = await queue.receiveMany('q', 4, { lease: 600_000 });
  for (const delivery of held) for (let i = 0; i < 3; i++) delivery.enqueue('child', body);
  const codes = [];
  for (const delivery of held) codes.push(await delivery.ack().catch(({ code }) => code));
  assert.ok(codes.includes('STORAGE_FULL'), codes.join());
  for (const [i, delivery] of held.entries()) {
    const isHeld = codes[i] === 'STORAGE_FULL';
    assert.equal(delivery.settled, !isHeld);
    await delivery.ack().then(assert.fail, ({ code }) => assert.equal(code, isHeld ? 'STORAGE_FULL' : 'STALE_LEASE'));
  }
  const { inFlight, released } = queue.metrics();
  assert.deepEqual([inFlight, released], [codes.filter((code) => code === 'STORAGE_FULL').length, 0]);
});

/** It waited behind one that had been asked for before, and was refused when that had got something. */
test('an invalid receive is refused at once, whoever waits', async (t) => {
  const queue = await broker(t);
  const waiting = queue.receive('q');
  for (const bad of [
    queue.receiveMany('q', 0),
    queue.receiveMany('q', 10_001),
    queue.receive('q', { lease: 0 }),
    queue.receiveMany('q', 2, { timeout: 0, lease: 0 }),
  ]) {
    await assert.rejects(bad, { code: 'INVALID' });
  }
  await queue.enqueue('q', 1);
  assert.equal((await waiting).body, 1);
});

/** A dead letter was read as if what is no UTF-8 were there as U+FFFD; and a delivery could not be shown as JSON. */
test('what is not UTF-8 is never a body', async (t) => {
  const queue = await broker(t);
  const bytes = Buffer.from([0x22, 0xff, 0x22]);
  await queue.enqueue('q', bytes, { contentType: 'application/json' });
  const delivery = await queue.receive('q', { timeout: 0 });
  const { id, token } = delivery;
  assert.equal(JSON.stringify(delivery), `{"id":"${id}","queue":"q","attempt":1,"token":"${token}"}`);
  await delivery.reject();
  const [letter] = await queue.deadLetters.list();
  assert.deepEqual(letter.body, bytes);
});
