// What is enqueued, how it travels, and what is refused.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import vm from 'node:vm';

import { LibmqError, message } from '../lib/index.mjs';
import { broker, directory } from './support.mjs';

test('an enqueue resolves to a receipt with a bigint id, which prints as decimal text', async (t) => {
  const queue = await broker(t);
  const first = await queue.enqueue('q', { orderId: 'ORD-001' }, { dedupKey: 'ORD-001' });
  assert.equal(typeof first.id, 'bigint');
  assert.equal(first.status, 'accepted');
  assert.equal(JSON.stringify(first), `{"id":"${first.id}","status":"accepted"}`);
  const again = await queue.enqueue('q', {}, { dedupKey: 'ORD-001' });
  assert.deepEqual([again.id, again.status], [first.id, 'replaced']);
  const kept = await queue.enqueue('q', {}, { dedupKey: 'ORD-001', dedup: 'keep' });
  assert.deepEqual([kept.id, kept.status], [first.id, 'duplicate']);
});

test('bytes travel as they are, and anything else as JSON', async (t) => {
  const queue = await broker(t);
  const json = [{ a: [1, null, 'é'] }, 'text', 5, true, null, [], { toJSON: () => 'itself' }, new Date(0)];
  for (const body of json) await queue.enqueue('q', body);
  for (const body of json) {
    const delivery = await queue.receive('q', { timeout: 0 });
    assert.deepEqual(delivery.body, JSON.parse(JSON.stringify(body)));
    assert.equal(delivery.contentType, 'application/json');
    assert.equal(delivery.raw.toString(), JSON.stringify(body));
    await delivery.ack();
  }
  const bytes = [Buffer.from([0, 255, 1]), new Uint8Array(0), vm.runInNewContext('new Uint8Array([7])')];
  for (const body of bytes) await queue.enqueue('q', body);
  for (const body of bytes) {
    const delivery = await queue.receive('q', { timeout: 0 });
    assert.ok(Buffer.isBuffer(delivery.body));
    assert.deepEqual([...delivery.body], [...body]);
    assert.equal(delivery.contentType, 'application/octet-stream');
    await delivery.ack();
  }
});

test('what JSON has no word for is refused, and nothing is enqueued', async (t) => {
  const queue = await broker(t);
  for (const body of [
    undefined,
    () => {},
    Symbol('s'),
    5n,
    { deep: [5n] },
    {
      toJSON() {
        throw new Error('no');
      },
    },
  ]) {
    await assert.rejects(queue.enqueue('q', body), TypeError);
    await assert.rejects(queue.enqueueMany('q', [1, body]), TypeError);
  }
  for (const body of [NaN, -Infinity, { a: { b: [1, NaN] } }, [new Number(Infinity)], { toJSON: () => NaN }]) {
    await assert.rejects(queue.enqueue('q', body), { name: 'LibmqError', code: 'INVALID' });
    await assert.rejects(queue.enqueueMany('q', [1, body]), { code: 'INVALID' });
  }
  const cycle = {};
  cycle.self = { list: [cycle] };
  let deep = [];
  for (let i = 0; i < 1_000_000; i++) deep = [deep];
  for (const [body, text] of [
    [cycle, /contains itself/],
    [deep, /nested too deeply/],
  ]) {
    await assert.rejects(queue.enqueue('q', body), { name: 'LibmqError', code: 'INVALID', message: text });
    await assert.rejects(queue.enqueueMany('q', [1, body]), { code: 'INVALID', message: text });
  }
  for (const body of ['\ud800', { deep: ['a\udc00'] }, '\\\ud800']) {
    await assert.rejects(queue.enqueue('q', body), { code: 'INVALID' }, JSON.stringify(body));
  }
  assert.equal(queue.metrics().enqueued, 0);
  for (const body of ['\\ud800', '\\\\ud800', '\u{1f600}']) await queue.enqueue('q', body);
  assert.equal((await queue.receive('q', { timeout: 0 })).body, '\\ud800');
});

test('what JSON would keep nothing of is refused', async (t) => {
  const queue = await broker(t);
  for (const body of [
    Promise.resolve(1),
    new Map(),
    new Set([1]),
    /x/,
    new Error('x'),
    new ArrayBuffer(4),
    new SharedArrayBuffer(4),
    new DataView(new ArrayBuffer(4)),
    new Uint16Array(2),
    new Blob(['x']),
    new URLSearchParams('a=1'),
    new Headers({ a: '1' }),
    new FormData(),
    new ReadableStream(),
    new Response('x'),
    [1][Symbol.iterator](),
    new Map().values(),
    new WeakRef({}),
    new AbortController().signal,
    Object(Symbol('x')),
    // A query that nobody awaited.
    { then: () => {}, table: 'orders' },
    new (class Query {
      table = 'orders';
      then() {}
    })(),
  ]) {
    const name = Object.prototype.toString.call(body);
    await assert.rejects(queue.enqueue('q', body), { name: 'TypeError', message: /^the body is a/ }, name);
    if (typeof body.then === 'function' && !(body instanceof Promise)) continue;
    // Within an object they were lost without a word; a view of numbers has some left.
    if (body instanceof Uint16Array) continue;
    await assert.rejects(queue.enqueue('q', { deep: [body] }), { message: /^the body contains a/ }, name);
  }
  await assert.rejects(queue.enqueue('q', { toJSON: () => undefined }), { message: /toJSON/ });
  assert.equal(queue.metrics().enqueued, 0);
  await queue.enqueue('q', { empty: {}, none: null, left: undefined });
  assert.deepEqual((await queue.receive('q', { timeout: 0 })).body, { empty: {}, none: null });
});

// They were lost or garbled without a word: bytes became an object of their places, and an invalid Date null.
test('bytes within an object and dates that are none are refused', async (t) => {
  const queue = await broker(t);
  for (const body of [{ a: new Uint8Array(2) }, [[new Uint8Array([7])]], { a: new Uint8Array(0) }]) {
    await assert.rejects(queue.enqueue('q', body), { name: 'TypeError', message: /^the body contains a Uint8Array/ });
  }
  for (const body of [new Date(NaN), { at: new Date(NaN) }, [null, [new Date(NaN)]]]) {
    await assert.rejects(queue.enqueue('q', body), { code: 'INVALID', message: /invalid Date/ });
  }
  for (const body of [{ 0: 'a', 1: 'b' }, [{ 0: 1 }], new Date(0), { nothing: null, at: new Date(5) }]) {
    await queue.enqueue('q', body);
    const delivery = await queue.receive('q', { timeout: 0 });
    assert.deepEqual(delivery.body, JSON.parse(JSON.stringify(body)));
    await delivery.ack();
  }
  // A Buffer says itself what JSON is to make of it.
  await queue.enqueue('q', { a: Buffer.from([1, 2]) });
  assert.deepEqual((await queue.receive('q', { timeout: 0 })).body, { a: { type: 'Buffer', data: [1, 2] } });
});

// One whose buffer was given to a worker arrived as no bytes at all, and of what only inherits from one the native half said
// something of its own.
test('bytes that are not there are refused', async (t) => {
  const queue = await broker(t);
  const moved = new Uint8Array([1, 2]);
  structuredClone(moved.buffer, { transfer: [moved.buffer] });
  const resized = new ArrayBuffer(8, { maxByteLength: 8 });
  const outside = new Uint8Array(resized, 4, 4);
  resized.resize(2);
  const proxied = new Proxy(new Uint8Array(3), {});
  for (const body of [moved, outside, proxied, Object.create(Uint8Array.prototype)]) {
    const isClear = { name: 'TypeError', message: /^the body is .*Uint8Array/ };
    await assert.rejects(queue.enqueue('q', body), isClear);
    await assert.rejects(queue.enqueueMany('q', [1, body]), {
      name: 'TypeError',
      message: /^items\[1\]: the body is /,
    });
  }
  assert.equal(queue.metrics().enqueued, 0);
  await queue.enqueue('q', new Uint8Array(0));
  assert.equal((await queue.receive('q', { timeout: 0 })).raw.length, 0);
});

// A key that was misspelt made a body of the whole, which then had no key.
test('an item that may be a message or a body is refused, and says which option there is not', async (t) => {
  const queue = await broker(t);
  for (const [item, name] of [
    [{ body: 1, dedupkey: 'k' }, 'dedupkey'],
    [{ body: 1, dedup_key: 'k' }, 'dedup_key'],
    [{ body: 1, dedupKey: 'k', prioritty: 1 }, 'prioritty'],
    [{ body: 1, delay: 5, title: 'x' }, 'title'],
  ]) {
    const refused = {
      code: 'INVALID',
      message: new RegExp(`^items\\[1\\]: there is no option ${name}; message\\(body, options\\)`),
    };
    await assert.rejects(queue.enqueueMany('q', [1, item]), refused);
  }
  assert.equal(queue.metrics().enqueued, 0);
  await queue.enqueueMany('q', [message({ body: 1, delay: 5, title: 'x' }), { body: 1, subject: 'y', to: 'z' }]);
  const found = await queue.receiveMany('q', 2, { timeout: 0 });
  assert.deepEqual(
    found.map(({ body }) => body),
    [
      { body: 1, delay: 5, title: 'x' },
      { body: 1, subject: 'y', to: 'z' },
    ],
  );
});

test('a body is JSON if its content type says so by its name or by its end, and else bytes', async (t) => {
  const queue = await broker(t);
  const types = ['application/vnd.api+json', 'Application/Problem+JSON; charset=utf-8', 'application/json'];
  const others = ['text/plain', 'text/x+json', 'application/json5', 'application/jsonx', 'application/octet-stream'];
  for (const contentType of [...types, ...others]) {
    await queue.enqueue('q', Buffer.from('{"a":1}'), { contentType });
    const delivery = await queue.receive('q', { timeout: 0 });
    const expected = types.includes(contentType) ? { a: 1 } : Buffer.from('{"a":1}');
    assert.deepEqual(delivery.body, expected, contentType);
    await delivery.reject();
  }
  for (const { body, contentType, raw } of await queue.deadLetters.list()) {
    assert.deepEqual(body, types.includes(contentType) ? { a: 1 } : raw, contentType);
  }
});

test('an enqueue of level os waits for no other thread, and syncs are shared by those at once', async (t) => {
  for (const [options, path] of [
    [{ durability: 'os' }, directory()],
    [{ durability: 'memory' }, ':memory:'],
  ]) {
    const queue = await broker(t, options, path);
    await queue.enqueue('q', 0);
    let turns = 0;
    let next;
    const turn = () => (turns++, (next = setImmediate(turn)));
    next = setImmediate(turn);
    // Whatever another thread tells comes in a later turn of the loop.
    for (let i = 0; i < 100; i++) await queue.enqueue('q', i);
    await queue.enqueueMany('q', [1, 2, 3]);
    clearImmediate(next);
    // One of 256 lets the loop have a turn.
    assert.ok(turns <= 1, `${turns} turns`);
  }
  const queue = await broker(t, {}, directory());
  const before = queue.metrics().syncs;
  // Where a sync takes no longer than an enqueue takes to begin there is nobody to share it with: the first one takes longer.
  const first = queue.enqueue('q', Buffer.alloc(16 << 20));
  await Promise.all([first, ...Array.from({ length: 1000 }, (_, i) => queue.enqueue('q', i))]);
  const syncs = queue.metrics().syncs - before;
  assert.ok(syncs < 100, `${syncs} syncs`);
});

// Each had a write of its own, which was half of what a thousand at once took.
test('enqueues at once share a write, but the first, which is written when it is asked for', async (t) => {
  const queue = await broker(t, { durability: 'os' }, directory());
  await queue.enqueue('q', 0);
  const unwritten = () => queue.metrics().lsn.reserved - queue.metrics().lsn.written;
  for (const call of ['enqueue', 'enqueueMany']) {
    const first = queue[call]('q', [1]);
    assert.equal(unwritten(), 0);
    const others = Array.from({ length: 9 }, () => queue[call]('q', [1]));
    assert.ok(unwritten() > 0);
    await others[0];
    assert.equal(unwritten(), 0);
    const receipts = (await Promise.all([first, ...others])).flat();
    assert.deepEqual(
      receipts,
      receipts.toSorted((one, other) => (one.id < other.id ? -1 : 1)),
    );
  }
  // Nobody has to wait for them: a close does.
  queue.enqueue('q', 1);
  const last = queue.enqueue('q', 2);
  await queue.close();
  assert.equal((await last).status, 'accepted');
});

// One that came behind a shared write was answered before those of that write, and so was one in 256 that waited for the loop.
test('answers come in the order of the enqueues', async (t) => {
  const queue = await broker(t, { durability: 'os' }, directory());
  const ids = [];
  const put = async () => void ids.push((await queue.enqueue('q', 1)).id);
  const calls = [];
  for (let first = 0; first < 50; first++) {
    // Some at once, and each of the next ones a microtask later, when those are written or being answered.
    for (let i = 0; i < 20; i++) calls.push(put());
    for (let later = 0; later < 10; later++) {
      await null;
      calls.push(put());
    }
  }
  await Promise.all(calls);
  assert.equal(ids.length, 1500);
  assert.deepEqual(
    ids,
    ids.toSorted((one, other) => (one < other ? -1 : 1)),
  );
});

// Only what was enqueued counted: who tried again until there was room kept the handler away that would have made it.
test('who tries again until there is room leaves the loop its turns', async (t) => {
  for (const call of ['enqueue', 'enqueueMany']) {
    const queue = await broker(t, { capacity: 1 });
    let calls = 0;
    queue.handle('q', () => void calls++);
    await queue.start();
    await queue[call]('q', [1]);
    let tries = 0;
    for (; tries < 100_000; tries++) {
      try {
        await queue[call]('q', [2]);
        break;
      } catch (error) {
        assert.equal(error.code, 'FULL');
      }
    }
    assert.ok(tries < 100_000);
    assert.equal(await queue.waitIdle({ timeout: 10_000 }), true);
    assert.equal(calls, 2);
  }
});

// What is kept at once is kept before everything else on the loop: no handler, no timer and no signal came while such a loop ran.
test('enqueues that are awaited one after another leave the loop its turns', async (t) => {
  for (const [options, path] of [
    [{ durability: 'os' }, directory()],
    [{ durability: 'memory' }, ':memory:'],
  ]) {
    for (const call of ['enqueue', 'enqueueMany']) {
      const queue = await broker(t, options, path);
      let [calls, timers] = [0, 0];
      queue.handle('q', () => void calls++);
      await queue.start();
      const timer = setInterval(() => timers++, 1);
      for (let i = 0; i < 20_000 && (calls === 0 || timers === 0); i++) await queue[call]('q', [i]);
      clearInterval(timer);
      assert.ok(calls > 0 && timers > 0, `${calls} calls and ${timers} timers beside ${call} of ${options.durability}`);
      await queue.close();
    }
  }
});

// Once one could not begin without waiting for the next segment, each of those behind it had a sync of its own, and never did
// the others catch up: a thousand callers were slower than one.
test('callers at once share syncs across segments', async (t) => {
  const queue = await broker(t, { segmentBytes: 64 << 10 }, directory());
  const before = queue.metrics().syncs;
  const body = Buffer.alloc(100, 7);
  await Promise.all(
    Array.from({ length: 1000 }, async () => {
      for (let i = 0; i < 4; i++) await queue.enqueue('q', body);
    }),
  );
  assert.equal(queue.metrics().enqueued, 4000);
  const syncs = queue.metrics().syncs - before;
  assert.ok(syncs < 1000, `${syncs} syncs`);
});

test('a queue may have any name that is one', async (t) => {
  const queue = await broker(t);
  await queue.enqueue('__proto__', 1);
  const { queues } = queue.metrics();
  assert.deepEqual(Object.keys(queues), ['__proto__']);
  assert.equal(Object.getOwnPropertyDescriptor(queues, '__proto__').value.ready, 1);
});

test('a body beyond its limit is TOO_LARGE, and a large one within it arrives', async (t) => {
  const queue = await broker(t, { segmentBytes: 64 << 10 }, directory());
  await assert.rejects(queue.enqueue('q', Buffer.alloc((16 << 20) + 1)), { code: 'TOO_LARGE', retryable: false });
  const large = Buffer.alloc(5 << 20, 'x');
  const [one, two] = await Promise.all([queue.enqueue('q', large), queue.enqueue('q', 'behind it')]);
  assert.ok(one.id < two.id, 'the large one was asked for first');
  const delivery = await queue.receive('q', { timeout: 0 });
  assert.ok(delivery.raw.equals(large));
  await delivery.ack();
});

test('a batch is bodies, and messages with options of their own', async (t) => {
  const queue = await broker(t);
  const receipts = await queue.enqueueMany('q', [
    'bare',
    { body: 'with a key', dedupKey: 'k' },
    message({ body: 'b', delay: 5 }, { correlationId: 'c' }),
    { body: 1, other: 2 },
  ]);
  assert.equal(receipts.length, 4);
  assert.ok(receipts.every(({ status }) => status === 'accepted'));
  const found = await queue.receiveMany('q', 10, { timeout: 0 });
  assert.deepEqual(
    found.map(({ body }) => body),
    ['bare', 'with a key', { body: 'b', delay: 5 }, { body: 1, other: 2 }],
  );
  assert.equal(found[2].correlationId, 'c');
  assert.equal(found[0].correlationId, null);
  assert.deepEqual(await queue.enqueueMany('q', []), []);
  assert.deepEqual(await queue.enqueueMany('q', new Set(['a']).values()).then((all) => all.length), 1);
});

test('every option of a message arrives', async (t) => {
  const queue = await broker(t, { clock: 'manual' });
  const options = {
    correlationId: 'c-1',
    headers: { 'x-one': '1', 'x-two': 'zwei' },
    contentType: 'text/plain',
    durability: 'os',
  };
  await queue.enqueue('q', Buffer.from('hi'), options);
  const delivery = await queue.receive('q', { timeout: 0 });
  assert.deepEqual({ ...delivery.headers }, options.headers);
  assert.equal(delivery.correlationId, 'c-1');
  assert.equal(delivery.contentType, 'text/plain');
  assert.equal(delivery.body.toString(), 'hi');
  assert.ok(delivery.enqueuedAt instanceof Date && delivery.deadline instanceof Date);
  await delivery.ack();
  await queue.enqueue('q', 1, { delay: 1000 });
  await queue.enqueue('q', 2, { runAt: new Date(0) });
  assert.equal((await queue.receive('q', { timeout: 0 })).body, 2);
  assert.equal(await queue.receive('q', { timeout: 0 }), null);
  queue.advance(1000);
  assert.equal((await queue.receive('q', { timeout: 0 })).body, 1);
});

test('a full broker says FULL, or lets enqueues wait in their order', async (t) => {
  const full = await broker(t, { capacity: 1 });
  await full.enqueue('q', 1);
  await assert.rejects(
    full.enqueue('q', 2),
    (error) => error instanceof LibmqError && error.code === 'FULL' && error.retryable,
  );
  const patient = await broker(t, { capacity: 1, onFull: 'block' });
  await patient.enqueue('q', 1);
  const waiting = [2, 3, 4].map((body) => patient.enqueue('q', body));
  for (const body of [1, 2, 3, 4]) {
    const delivery = await patient.receive('q', { timeout: 10_000 });
    assert.equal(delivery.body, body);
    await delivery.ack();
  }
  await Promise.all(waiting);
  const short = await broker(t, { capacity: 1, onFull: 'block', blockTimeout: 10 });
  await short.enqueue('q', 1);
  await assert.rejects(short.enqueue('q', 2), { code: 'FULL' });
});

/** What stood in line for room came to the log as it was, whatever its options said. */
test('what waits behind others is checked all the same', async (t) => {
  const queue = await broker(t, { capacity: 1, onFull: 'block' });
  await queue.enqueue('q', 1);
  const waiting = queue.enqueue('q', 2);
  await assert.rejects(queue.enqueue('q', 3, { priority: 10 }), { code: 'INVALID' });
  await assert.rejects(queue.enqueue('q', 3, { headers: { 'a b': 'c' } }), { code: 'INVALID' });
  await assert.rejects(queue.enqueue('no queue', 3), { code: 'INVALID' });
  await assert.rejects(queue.enqueue('q', Buffer.alloc((16 << 20) + 1)), { code: 'TOO_LARGE' });
  await assert.rejects(queue.enqueueMany('q', [3, { body: 4, delay: 5, runAt: new Date() }]), {
    code: 'INVALID',
    message: 'items[1]: delay and runAt exclude each other',
  });
  await (await queue.receive('q')).ack();
  await waiting;
});

test('a batch beyond the capacity is refused at once', async (t) => {
  const queue = await broker(t, { capacity: 2, onFull: 'block' });
  await assert.rejects(queue.enqueueMany('q', [1, 2, 3]), {
    code: 'FULL',
    message: 'the broker is full: no room for 3 messages, as 0 are live and its capacity is 2',
  });
});

/** The time of each began when its turn had come: the last of fifty heard after half an hour that it was full. */
test('the time to wait for room runs from the call', async (t) => {
  const queue = await broker(t, { capacity: 1, onFull: 'block', blockTimeout: 200 });
  await queue.enqueue('q', 0);
  const began = performance.now();
  const waiting = Array.from({ length: 200 }, (_, i) => queue.enqueue('q', i));
  for (const { reason } of await Promise.allSettled(waiting)) assert.equal(reason.code, 'FULL');
  // Of 40 seconds, in their turns.
  assert.ok(performance.now() - began < 20_000);
});

/** All of it was taken, and only then looked at. */
test('a batch without an end is refused', async (t) => {
  const queue = await broker(t);
  let taken = 0;
  const endless = (function* () {
    for (;;) yield taken++;
  })();
  await assert.rejects(queue.enqueueMany('q', endless), { code: 'INVALID', message: /more than 10000 messages/ });
  assert.ok(taken <= 10_001);
  assert.equal((await queue.enqueueMany('q', Array(10_000).fill(1))).length, 10_000);
});

test('enqueues of all levels are in the order in which they were asked for', async (t) => {
  const queue = await broker(t, { segmentBytes: 64 << 10 }, directory());
  const asked = [];
  for (let i = 0; i < 2000; i++) {
    const durability = i % 3 === 0 ? 'sync' : 'os';
    // Some do not fit what is left of a segment, or need one of their own.
    const body = Buffer.alloc(i % 97 === 0 ? 70_000 : i % 50, 'x');
    asked.push(queue.enqueue('q', body, { durability }));
  }
  const ids = (await Promise.all(asked)).map(({ id }) => id);
  assert.deepEqual(
    ids,
    [...ids].sort((one, other) => (one < other ? -1 : 1)),
  );
  assert.equal(new Set(ids).size, ids.length);
});

/** It was refused as a body, and taken within one. */
test('what says itself what JSON is to make of it is a body', async (t) => {
  class Failure extends Error {
    toJSON() {
      return { failed: this.message };
    }
  }
  const queue = await broker(t);
  const error = new Failure('x');
  for (const body of [error, [error], Object.assign(new Map(), { toJSON: () => 'a map' })]) {
    await queue.enqueue('q', body);
    const delivery = await queue.receive('q', { timeout: 0 });
    assert.deepEqual(delivery.body, JSON.parse(JSON.stringify(body)));
    await delivery.ack();
  }
});
