// Handlers that hold their loop up, and attempts that never end: whose lease lasts how long, and who waits for whom.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { broker, directory, program, until } from './support.mjs';

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const block = (ms) => {
  const end = Date.now() + ms;
  while (Date.now() < end);
};

/**
 * The time of all that were taken together ran from the take, and none was acked before all had ended: where that was longer
 * than the timeout, each of them failed, was tried again with all the others, and ended as a dead letter.
 */
test('handlers that block the loop one after another lose no lease, however long all of them take', async (t) => {
  for (const work of [() => block(20), async () => block(20), async () => (block(10), await null, block(10))]) {
    const queue = await broker(t);
    let runs = 0;
    const handler = (body) => (runs++, work(body));
    queue.handle('q', handler, { timeout: 1000, cancelGrace: 0, maxRetries: 0, maxParallelism: 64 });
    await queue.enqueueMany('q', Array(64).fill(1));
    await queue.start();
    assert.ok(await queue.waitIdle({ timeout: 60_000 }));
    const { acked, timeouts, dead } = queue.metrics();
    assert.deepEqual([runs, acked, timeouts, dead], [64, 64, 0, 0]);
  }
});

// All that had been fast enough was taken for such as stays so.
test('so do those that begin to block after many that did not', async (t) => {
  const queue = await broker(t);
  const runs = new Map();
  const handler = async (body) => {
    runs.set(body, (runs.get(body) ?? 0) + 1);
    if (body >= 1000) block(500);
  };
  queue.handle('q', handler, { timeout: 3000, cancelGrace: 0, maxRetries: 0, maxParallelism: 8 });
  await queue.enqueueMany(
    'q',
    Array.from({ length: 1008 }, (_, i) => i),
  );
  await queue.start();
  assert.ok(await queue.waitIdle({ timeout: 60_000 }));
  const { acked, timeouts } = queue.metrics();
  assert.deepEqual([runs.size, acked, timeouts], [1008, 1008, 0]);
  assert.ok([...runs.values()].every((count) => count === 1));
});

/** Whatever had been taken with one that blocked its loop for too long failed with it, though it had not begun. */
test('what waits behind a handler that blocks the loop beyond its timeout is given back, uncounted', async (t) => {
  const queue = await broker(t, { defaultBackoff: 60_000 });
  const attempts = [];
  const handler = (body, { attempt }) => {
    if (body !== 'quick') attempts.push([body, attempt]);
    if (body === 0) block(2000);
  };
  queue.handle('q', handler, { timeout: 500, cancelGrace: 500, maxParallelism: 4 });
  await queue.start();
  // Several are taken at once where none takes long.
  await queue.enqueueMany('q', Array(100).fill('quick'));
  await queue.waitIdle();
  await queue.enqueueMany('q', [0, 1, 2, 3]);
  await until(() => queue.metrics().acked === 103);
  assert.deepEqual(attempts, [
    [0, 1],
    [1, 1],
    [2, 1],
    [3, 1],
  ]);
  const { released, timeouts, retried, stuck, staleSettles } = queue.metrics();
  assert.deepEqual([released, timeouts, retried, stuck, staleSettles], [3, 1, 1, 1, 1]);
});

test('of handlers that take long no message is taken ahead', async (t) => {
  const queue = await broker(t);
  const held = [];
  const handler = () => {
    held.push(queue.metrics().inFlight);
    block(10);
  };
  queue.handle('q', handler, { maxParallelism: 64 });
  await queue.enqueueMany('q', Array(16).fill(1));
  await queue.start();
  await queue.waitIdle();
  assert.deepEqual(held, Array(16).fill(1));
});

test('the time of a handler begins when it is entered', async (t) => {
  const queue = await broker(t);
  const left = [];
  const handler = (_, ctx) => {
    left.push(ctx.deadline - Date.now());
    block(100);
  };
  queue.handle('q', handler, { timeout: 10_000, maxParallelism: 8 });
  await queue.enqueueMany('q', Array(8).fill(1));
  await queue.start();
  await queue.waitIdle();
  assert.ok(Math.min(...left) > 9_500, left.join());
});

test('everything else on the loop has its turn between handlers that block it', async (t) => {
  const queue = await broker(t);
  let turns = 0;
  const count = setInterval(() => turns++, 1);
  t.after(() => clearInterval(count));
  const seen = [];
  const handler = async () => {
    seen.push(turns);
    block(10);
  };
  queue.handle('q', handler, { maxParallelism: 64 });
  await queue.enqueueMany('q', Array(32).fill(1));
  await queue.start();
  await queue.waitIdle();
  assert.ok(new Set(seen).size > 16, seen.join());
});

test('what was put off goes to the handler that replaces its own, and with the broker if that is closed', async (t) => {
  const queue = await broker(t);
  const calls = [];
  queue.handle('q', (body) => (calls.push(['first', body]), block(20)), { maxParallelism: 8 });
  await queue.enqueueMany('q', [1, 2, 3, 4, 5]);
  await queue.start();
  await until(() => calls.length > 0);
  queue.handle('q', (body) => void calls.push(['second', body]), { maxParallelism: 8 });
  assert.ok(await queue.waitIdle({ timeout: 20_000 }));
  assert.deepEqual(calls.map(([, body]) => body).sort(), [1, 2, 3, 4, 5]);
  assert.equal(calls.at(-1)[0], 'second');
  const path = directory();
  const filed = await broker(t, {}, path);
  let entered = 0;
  filed.handle('q', () => (entered++, block(20)), { maxParallelism: 8 });
  await filed.enqueueMany('q', [1, 2, 3, 4, 5]);
  await filed.start();
  await until(() => entered > 0);
  await filed.close({ timeout: 0 }).catch(() => {});
  const again = await broker(t, {}, path);
  assert.equal(again.recovery.messages, 5 - entered);
  assert.equal(again.recovery.suspects, 0);
});

/** Between the end of the handler that was there and its successor the messages were nobody's, so that nothing was waited for. */
test('while a handler is replaced its queue has one', async (t) => {
  const queue = await broker(t);
  const calls = [];
  queue.handle('q', (body) => (calls.push(body), block(20)), { maxParallelism: 8 });
  await queue.enqueueMany('q', [1, 2, 3, 4, 5]);
  await queue.start();
  await until(() => calls.length > 0);
  queue.handle('q', (body) => void calls.push(body));
  const idle = queue.waitIdle({ timeout: 20_000 });
  // The successor has to wait for these.
  const turns = Array.from({ length: 16 }, () => queue.start());
  assert.ok(await idle);
  assert.deepEqual(calls.sort(), [1, 2, 3, 4, 5]);
  await Promise.all(turns);
});

test('an attempt that ends after all changes nothing, and is counted as too late', async (t) => {
  const told = [];
  const queue = await broker(t, { log: (_, event) => told.push(event) });
  const ends = [];
  const handler = (body, ctx) => {
    ends[body] ??= { ctx };
    return ctx.attempt > 1
      ? undefined
      : new Promise((resolve, reject) => Object.assign(ends[body], { resolve, reject }));
  };
  queue.handle('q', handler, { timeout: 20, cancelGrace: 20, maxParallelism: 2 });
  await queue.enqueueMany('q', [0, 1]);
  await queue.start();
  await until(() => queue.metrics().acked === 2);
  ends[0].resolve();
  ends[1].reject(new Error('late'));
  await until(() => queue.metrics().staleSettles === 2);
  await pause(5);
  assert.equal(told.filter((event) => event === 'stale_lease').length, 2);
  assert.equal(told.filter((event) => event === 'handler_error').length, 1);
  assert.throws(() => ends[0].ctx.enqueue('q', 1), { code: 'STALE_LEASE' });
  const { acked, stuck } = queue.metrics();
  assert.deepEqual([acked, stuck], [2, 2]);
});

test('a listener of a signal that throws is an exception that nobody catches', async () => {
  const ended = await program(
    `
    const broker = await open(args[0]);
    broker.handle('q', async (_, { signal }) => {
      signal.addEventListener('abort', () => { throw new Error('in a listener'); });
      await pause(10_000);
    }, { timeout: 10 });
    await broker.enqueue('q', 1);
    await broker.start();`,
    directory(),
  );
  assert.deepEqual([ended.code, /in a listener/.test(ended.stderr)], [1, true], ended.stderr);
});
