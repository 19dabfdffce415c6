// Opening, starting, stopping, closing, and what is found afterwards.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync, truncateSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';

import * as libmq from '../lib/index.mjs';
import { broker, directory, until } from './support.mjs';

const DECLARATIONS = ['index', 'errors']
  .map((name) => readFileSync(new URL(`../lib/${name}.d.ts`, import.meta.url), 'utf8'))
  .join('');

test('both module systems have the same package, which is what is declared', () => {
  const whole = createRequire(import.meta.url)('../lib/index.js');
  assert.equal(libmq.default, whole);
  const { default: _, 'module.exports': __, ...named } = libmq;
  assert.deepEqual(Object.entries(named), Object.entries(whole));
  const declared = [...DECLARATIONS.matchAll(/^export (class|function) (\w+)/gm)];
  assert.deepEqual(declared.map(([, , name]) => name).sort(), Object.keys(whole).sort());
  for (const [, kind, name] of declared) {
    const isClass = /^class\b/.test(Function.prototype.toString.call(whole[name]));
    assert.equal(isClass, kind === 'class', name);
  }
});

// The members that a class or an interface is declared with, those of what it extends included.
function declared(name) {
  const [, base, body] = DECLARATIONS.match(
    new RegExp(`^export (?:class|interface) ${name}\\b(?:<[^{]*?>)?(?: extends (\\w+))?[^{]*\\{\\n(.*?)^\\}`, 'ms'),
  );
  const members = [...body.matchAll(/^  (?:readonly )?(\w+|\[Symbol\.\w+\])[(<:?]/gm)].map(([, member]) => member);
  const all = [...members, ...(base === undefined ? [] : declared(base))];
  return [...new Set(all)].filter((member) => member !== 'constructor').sort();
}

test('what the package makes has every member that is declared, and no other', async (t) => {
  const path = directory();
  const queue = await broker(t, {}, path);
  const [receipt] = await queue.enqueueMany('q', [1, 2]);
  const delivery = await queue.receive('q', { timeout: 0 });
  await (await queue.receive('q', { timeout: 0 })).reject();
  const [letter] = await queue.deadLetters.list();
  let context;
  queue.handle('handled', (_, ctx) => void (context = ctx));
  await queue.enqueue('handled', 1);
  await queue.start();
  await until(() => context !== undefined);
  const metrics = queue.metrics();
  const { recovery, deadLetters } = queue;
  await queue.close();
  const [file] = readdirSync(path).filter((name) => statSync(join(path, name)).size > 4096);
  const sound = await libmq.verify(path);
  truncateSync(join(path, file), 100);
  const report = await libmq.verify(path);
  assert.ok(sound.sound && !report.sound);
  for (const [name, made] of Object.entries({
    Broker: queue,
    Context: context,
    DeadLetter: letter,
    DeadLetters: deadLetters,
    Delivery: delivery,
    Figures: metrics.queues.q,
    Metrics: metrics,
    Problem: report.problems[0],
    Receipt: receipt,
    Recovery: recovery,
    VerifyReport: report,
  })) {
    const found = new Set();
    for (let holder = made; holder !== Object.prototype; holder = Object.getPrototypeOf(holder)) {
      for (const key of Reflect.ownKeys(holder)) {
        if (typeof key === 'string') found.add(key);
        else if (key === Symbol.asyncDispose) found.add('[Symbol.asyncDispose]');
      }
    }
    found.delete('constructor');
    assert.ok(found.size > 0);
    assert.deepEqual([...found].sort(), declared(name), name);
  }
});

test('the declarations name every code that there is', () => {
  const { errorKinds } = createRequire(import.meta.url)('../libmq.node');
  const [, union] = DECLARATIONS.match(/type ErrorCode =(.*?);\n\n/s);
  const codes = errorKinds().map((kind) => kind.split(' ')[0]);
  assert.deepEqual(union.match(/(?<=\| ')[A-Z_]+/g).sort(), codes.sort());
});

test('a desk that both halves lay out differently is refused', () => {
  const require = createRequire(import.meta.url);
  const { connect } = require('../libmq.node');
  const { numbers, ids } = require('../lib/environment.js').desk;
  const call = (more, moreIds) => () =>
    connect(new Float64Array(numbers.length + more), new BigUint64Array(ids.length + moreIds), new Float64Array(3));
  for (const [more, moreIds] of [
    [0, 1],
    [0, -1],
    [1, 0],
    [-1, 0],
  ]) {
    assert.throws(call(more, moreIds), /laid out otherwise/);
  }
  const [desk, deskIds] = [new Float64Array(numbers.length), new BigUint64Array(ids.length)];
  assert.throws(() => connect(desk, deskIds, new Float64Array(1)), /made otherwise/);
  assert.ok(call(0, 0)());
});

test('a broker that is printed says where it is', async (t) => {
  const queue = await broker(t);
  assert.equal(inspect(queue), "Broker { path: ':memory:', closed: false }");
  await queue.close();
  assert.equal(inspect({ queue }), "{ queue: Broker { path: ':memory:', closed: true } }");
});

test('what was enqueued is there after a close and an open', async (t) => {
  const path = directory();
  const first = await broker(t, {}, pathToFileURL(path));
  assert.equal(first.path, path);
  const { id } = await first.enqueue('q', 'kept');
  await first.snapshot();
  await first.close();
  const second = await broker(t, {}, path);
  const { messages, deadLetters, suspects, droppedBytes, duration, snapshot, records } = second.recovery;
  assert.deepEqual([messages, deadLetters, suspects, droppedBytes], [1, 0, 0, 0]);
  assert.ok(duration >= 0 && typeof snapshot === 'number' && records >= 0);
  const delivery = await second.receive('q', { timeout: 0 });
  assert.deepEqual([delivery.id, delivery.body], [id, 'kept']);
});

test('a broker is closed at the end of its block', async (t) => {
  const path = directory();
  const first = await broker(t, {}, path);
  await first[Symbol.asyncDispose]();
  const second = await broker(t, {}, path);
  await second.close();
});

test('two opens at once of one directory: one of them is LOCKED', async (t) => {
  const path = directory();
  const opened = await Promise.allSettled([libmq.open(path), libmq.open(path)]);
  const [one] = opened.filter(({ status }) => status === 'fulfilled');
  const [other] = opened.filter(({ status }) => status === 'rejected');
  assert.equal(other.reason.code, 'LOCKED');
  await one.value.close();
});

test('two brokers without files are two', async (t) => {
  const [one, other] = [await broker(t), await broker(t)];
  await one.enqueue('q', 1);
  assert.equal(other.metrics().ready, 0);
});

test('a stop waits for handlers, and a start goes on', async (t) => {
  const queue = await broker(t);
  const calls = [];
  queue.handle('q', async (body) => {
    await new Promise((resolve) => setTimeout(resolve, 10));
    calls.push(body);
  });
  await queue.enqueueMany('q', [1, 2, 3]);
  await queue.start();
  await until(() => queue.metrics().inFlight === 1);
  await queue.stop();
  const { inFlight, ready } = queue.metrics();
  assert.equal(inFlight, 0);
  assert.equal(calls.length + ready, 3);
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  assert.deepEqual(calls, [1, 2, 3]);
});

test('a stop that runs out of time cancels, says TIMEOUT, and is stopped all the same', async (t) => {
  const queue = await broker(t);
  let reason;
  queue.handle('q', async (_, ctx) => {
    await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
    reason = ctx.signal.reason.reason;
    throw ctx.signal.reason;
  });
  await queue.enqueue('q', 1);
  await queue.start();
  await until(() => queue.metrics().inFlight === 1);
  await assert.rejects(queue.stop({ timeout: 10 }), { code: 'TIMEOUT', retryable: false });
  assert.equal(reason, 'shutdown');
  const { ready, released } = queue.metrics();
  assert.deepEqual([ready, released], [1, 1]);
});

test('a handler that is registered during a stop runs after the next start', async (t) => {
  const queue = await broker(t);
  const calls = [];
  let letGo;
  queue.handle('q', () => new Promise((resolve) => (letGo = resolve)));
  await queue.enqueue('q', 1);
  await queue.start();
  await until(() => letGo !== undefined);
  const stopping = queue.stop();
  queue.handle('q', (body) => void calls.push(body));
  queue.handle('other', (body) => void calls.push(body));
  letGo();
  await stopping;
  await queue.enqueue('q', 2);
  await queue.enqueue('other', 3);
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  assert.deepEqual(calls.sort(), [2, 3]);
});

test('waitIdle answers whether it came to that', async (t) => {
  const queue = await broker(t);
  assert.equal(await queue.waitIdle({ timeout: 0 }), true);
  await queue.enqueue('q', 1);
  assert.equal(await queue.waitIdle({ timeout: 0 }), true, 'a queue without a handler keeps nobody');
  queue.handle('q', () => {});
  assert.equal(await queue.waitIdle({ timeout: 10 }), false, 'not started');
  await queue.start();
  assert.equal(await queue.waitIdle(), true);
});

test('metrics are figures of the broker and of each queue', async (t) => {
  const queue = await broker(t, {}, directory());
  await queue.enqueue('orders', 1);
  const metrics = queue.metrics();
  assert.equal(metrics.ready, 1);
  assert.equal(metrics.queues.orders.ready, 1);
  assert.ok(metrics.queues.orders.oldestReadyAge >= 0);
  assert.ok(metrics.journalBytes > 0 && metrics.segments > 0 && metrics.syncs > 0 && metrics.memoryBytes > 0);
  const { reserved, written, durable, shown } = metrics.lsn;
  assert.ok(reserved > 0 && [written, durable, shown].every((mark) => mark === reserved));
});

test('enqueues that are under way when the broker closes are answered', async (t) => {
  const path = directory();
  const queue = await broker(t, { capacity: 50, onFull: 'block' }, path);
  const asked = Promise.allSettled(Array.from({ length: 60 }, (_, i) => queue.enqueue('q', i)));
  await queue.close();
  const ends = await asked;
  const kept = ends.filter(({ status }) => status === 'fulfilled').length;
  assert.ok(ends.every((end) => end.status === 'fulfilled' || end.reason.code === 'CLOSED'));
  const again = await broker(t, {}, path);
  assert.equal(again.recovery.messages, kept);
});

/**
 * Beyond 256 calls that wait at once each was `INVALID`: a close too, which left the directory locked for good.
 */
test('any number of calls may wait, and a stop and a close do not wait for them', async (t) => {
  const path = directory();
  const queue = await broker(t, {}, path);
  queue.handle('q', () => {});
  await queue.enqueue('q', 1);
  const idle = Array.from({ length: 400 }, () => queue.waitIdle({ timeout: 60_000 }));
  const ends = Promise.allSettled(idle);
  await queue.stop();
  await queue.start();
  assert.ok((await ends).every(({ value }) => value === true));
  await queue.stop();
  await queue.enqueue('q', 2);
  const waiting = Array.from({ length: 400 }, () => queue.waitIdle());
  const codes = Promise.all(waiting.map((idle) => idle.catch(({ code }) => code)));
  await queue.close();
  assert.ok((await codes).every((code) => code === 'CLOSED'));
  await queue.close();
  await (await broker(t, {}, path)).close();
});

test('a waitIdle that waits for others is over in its time', async (t) => {
  const queue = await broker(t);
  queue.handle('q', () => {});
  await queue.enqueue('q', 1);
  const others = Array.from({ length: 300 }, () => queue.waitIdle({ timeout: 500 }));
  const began = performance.now();
  assert.deepEqual(await Promise.all([...others, queue.waitIdle({ timeout: 500 })]), Array(301).fill(false));
  assert.ok(performance.now() - began < 20_000);
});

// Waits until its signal is aborted.
const untilAborted = (_, { signal }) => new Promise((resolve) => signal.addEventListener('abort', resolve));

/** A close waited for a stop that was under way, and the time it was given ran from then on. */
test('the time of a close runs from the call on', async (t) => {
  const queue = await broker(t);
  queue.handle('q', untilAborted);
  await queue.start();
  await queue.enqueue('q', 1);
  await until(() => queue.metrics().inFlight === 1);
  const calls = [queue.stop({ timeout: 600_000 }), queue.close({ timeout: 300_000 }), queue.close({ timeout: 0 })];
  const ends = await Promise.all(calls.map((call) => call.then(String, (error) => error.code ?? error.stack)));
  assert.equal(ends[2], 'TIMEOUT', ends.join());
});

/** The second close said what the first one had said. */
test('a close of what was closed has nothing to say', async (t) => {
  const queue = await broker(t);
  queue.handle('q', untilAborted);
  await queue.start();
  await queue.enqueue('q', 1);
  await until(() => queue.metrics().inFlight === 1);
  await assert.rejects(queue.close({ timeout: 1 }), { code: 'TIMEOUT' });
  await queue.close();
});

test('starts and stops come in the order of their calls', async (t) => {
  const queue = await broker(t);
  let calls = 0;
  queue.handle('q', () => void calls++);
  for (let i = 0; i < 20; i++) {
    queue.start();
    queue.stop();
    queue.start();
    const stopped = queue.stop();
    queue.handle('other', () => {});
    await stopped;
    await queue.enqueue('q', i);
    await new Promise((resolve) => setTimeout(resolve, 1));
    assert.equal(calls, i);
    queue.stop();
    await queue.start();
    await until(() => calls === i + 1);
  }
});

// What waited for its turn behind a close was asked of a native half that wakes nobody any more, and never settled: so a
// signal during a close left a program hanging.
test('what is called while a broker closes is told so', { timeout: 20_000 }, async () => {
  const calls = [(queue) => queue.start(), (queue) => queue.stop()];
  for (const call of calls) {
    const queue = await libmq.open(':memory:');
    await queue.start();
    const closing = queue.close();
    await assert.rejects(call(queue), { code: 'CLOSED' });
    await closing;
  }
});
