// `@libmq/node/testing`: what programs test themselves with.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Broker, RejectError, ReleaseError, RetryError, message, open } from '../lib/index.mjs';
import {
  assertEnqueued,
  assertNotEnqueued,
  clearEnqueued,
  drain,
  enqueued,
  runHandler,
  testBroker,
} from '../lib/testing/index.mjs';

async function opened(t, options) {
  const broker = await testBroker(options);
  t.after(() => broker.close({ timeout: 0 }).catch(() => {}));
  return broker;
}

const bodies = (broker, queue) => enqueued(broker, queue).map(({ body }) => body);

test('a test broker is a broker, without files and on a manual clock', async (t) => {
  const broker = await opened(t, { defaultMaxRetries: 1 });
  assert.ok(broker instanceof Broker);
  assert.equal(broker.path, ':memory:');
  broker.advance(1);
  await assert.rejects(testBroker({ capacity: -1 }), { code: 'INVALID' });
  await assert.rejects(testBroker({ scope: 5 }), TypeError);
  await assert.rejects(testBroker({ capazity: 1 }), { code: 'INVALID' });
  const other = await open(':memory:');
  t.after(() => other.close());
  assert.throws(() => enqueued(other), TypeError);
  await assert.rejects(drain(other), TypeError);
});

// What came behind a shared write was remembered before what it had replaced, which was there for good.
test('what was replaced at once is not remembered', async (t) => {
  const broker = await opened(t);
  const first = broker.enqueue('other', 0);
  const later = Promise.resolve().then(() => broker.enqueue('q', 'new', { dedupKey: 'k' }));
  const old = broker.enqueue('q', 'old', { dedupKey: 'k' });
  await Promise.all([first, old, later]);
  assert.deepEqual(bodies(broker, 'q'), ['new']);
});

test('what was enqueued is remembered as a handler gets it, whatever becomes of the object later', async (t) => {
  const broker = await opened(t);
  const order = { id: 'ORD-1', at: new Date(0), lines: [1] };
  const bytes = Buffer.from('abc');
  await broker.enqueue('orders', order, { dedupKey: 'k' });
  await broker.enqueue('orders', bytes);
  order.id = 'changed';
  bytes[0] = 0;
  await broker.enqueueMany('orders', [
    message({ n: 1 }, { priority: 5 }),
    { body: { n: 2 }, delay: 10 },
    { body: 1, n: 3 },
  ]);
  assert.deepEqual(bodies(broker, 'orders'), [
    { id: 'ORD-1', at: '1970-01-01T00:00:00.000Z', lines: [1] },
    Buffer.from('abc'),
    { n: 1 },
    { n: 2 },
    { body: 1, n: 3 },
  ]);
  assert.deepEqual(
    enqueued(broker).map(({ options }) => options),
    [{ dedupKey: 'k' }, {}, { priority: 5 }, { delay: 10 }, {}],
  );
  assert.equal(typeof enqueued(broker)[0].id, 'bigint');
  clearEnqueued(broker);
  assert.deepEqual(enqueued(broker), []);
});

test('a duplicate was not enqueued, what was replaced is not any more, and what was refused never was', async (t) => {
  const broker = await opened(t, { capacity: 2 });
  await broker.enqueue('q', 1, { dedupKey: 'a' });
  await broker.enqueue('q', 2, { dedupKey: 'a', dedup: 'keep' });
  await broker.enqueue('q', 3, { dedupKey: 'a' });
  await broker.enqueue('q', 4);
  await assert.rejects(broker.enqueue('q', 5), { code: 'FULL' });
  await assert.rejects(broker.enqueue('q', undefined), TypeError);
  await assert.rejects(broker.enqueue('q', 5, { delya: 1 }), { code: 'INVALID' });
  await assert.rejects(broker.enqueueMany('q', 'text'), TypeError);
  assert.deepEqual(bodies(broker, 'q'), [3, 4]);
});

test('what a handler enqueues is enqueued with its ack, once, and not at all when it fails', async (t) => {
  const broker = await opened(t);
  const close = [];
  broker.handle(
    'orders',
    (order, ctx) => {
      ctx.enqueue('mail', { attempt: ctx.attempt });
      if (ctx.attempt === 1) throw new RetryError(0);
    },
    {
      scope: () => ({
        [Symbol.asyncDispose]: async (succeeded) => {
          close.push(succeeded);
          if (close.length === 2) throw new RetryError(0);
        },
      }),
    },
  );
  await broker.enqueue('orders', 1);
  await drain(broker);
  assert.deepEqual(close, [false, true, true]);
  assert.deepEqual(bodies(broker, 'mail'), [{ attempt: 3 }]);
  const delivery = await broker.receive('mail', { timeout: 0 });
  delivery.enqueue('printed', 1);
  assertNotEnqueued(broker, 'printed');
  await delivery.ack();
  assertEnqueued(broker, 'printed', 1);
});

test('the broker has its scope, its schema, and its log hook, as ever', async (t) => {
  const told = [];
  const broker = await opened(t, {
    scope: () => ({ resolve: (Handler) => new Handler('given'), [Symbol.dispose]: () => told.push('closed') }),
    log: (level, event) => level === 'warn' && told.push(event),
  });
  class Handler {
    constructor(given) {
      this.given = given;
    }
    handle(body) {
      told.push(`${this.given} ${body}`);
    }
  }
  const schema = {
    '~standard': {
      version: 1,
      vendor: 't',
      validate: (n) => (n > 0 ? { value: n + 1 } : { issues: [{ message: 'no' }] }),
    },
  };
  broker.handle('q', Handler, { schema, maxParallelism: 2 });
  await broker.enqueue('q', 1);
  await broker.enqueue('q', 0);
  const { acked, rejected, deadLettered, failures } = await drain(broker);
  assert.deepEqual([acked, deadLettered, failures.length], [1, 1, 0], String(rejected));
  // A log hook is told by another thread, which a drain does not wait for.
  while (!told.includes('dead_letter')) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.deepEqual(told.sort(), ['closed', 'dead_letter', 'given 2']);
  assert.throws(() => broker.handle('q', Handler, { maxParalelism: 2 }), { code: 'INVALID' });
  assert.throws(() => broker.handle('q', 5), TypeError);
});

test('nothing runs but while the broker is drained, and then all that is due', async (t) => {
  const broker = await opened(t);
  const seen = [];
  broker.handle('q', async (body, ctx) => {
    seen.push(body);
    if (body < 3) ctx.enqueue('q', body + 1);
  });
  await broker.enqueue('q', 1);
  await broker.enqueue('q', 9, { delay: 1000 });
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(seen, []);
  const { acked, failures } = await drain(broker);
  assert.deepEqual([acked, failures], [3, []]);
  assert.deepEqual(seen, [1, 2, 3]);
  broker.advance(1000);
  assert.deepEqual(seen.length, 3);
  await drain(broker);
  assert.deepEqual(seen, [1, 2, 3, 9]);
  // One that is started stays so.
  await broker.start();
  await broker.enqueue('q', 7);
  await drain(broker);
  await broker.enqueue('q', 8);
  assert.equal(await broker.waitIdle({ timeout: 10_000 }), true);
  assert.equal(seen.at(-1), 8);
});

test('a drain with what is delayed moves the clock until nothing of a handler is left', async (t) => {
  const broker = await opened(t);
  const seen = [];
  broker.handle('q', (body, ctx) => {
    seen.push(`${body} ${ctx.attempt}`);
    if (body === 'failing') throw new Error('again');
  });
  await broker.enqueue('q', 'failing');
  await broker.enqueue('q', 'in a year', { delay: 365 * 24 * 3600 * 1000 });
  await broker.enqueue('other', 1, { delay: 1000 });
  const { acked, retried, deadLettered, failures } = await drain(broker, { delayed: true, rethrow: false });
  assert.deepEqual([acked, retried, deadLettered], [1, 6, 1]);
  assert.equal(failures.length, 6);
  assert.deepEqual(seen, ['failing 1', 'failing 2', 'failing 3', 'failing 4', 'failing 5', 'failing 6', 'in a year 1']);
});

test('what a handler throws is thrown by the drain, but for what says how an attempt ends', async (t) => {
  const broker = await opened(t, { defaultMaxRetries: 0 });
  broker.handle('q', (body) => {
    if (body === 'reject') throw new RejectError('no');
    if (body === 'release') throw new ReleaseError(1000);
    throw new Error(`about ${body}`);
  });
  await broker.enqueueMany('q', ['reject', 'release']);
  const { rejected, released } = await drain(broker);
  assert.deepEqual([rejected, released], [1, 1]);
  await broker.enqueue('q', 'one');
  await assert.rejects(drain(broker), { message: 'about one' });
  await broker.enqueueMany('q', ['two', 'three']);
  await assert.rejects(drain(broker), ({ errors, message: text }) => {
    assert.deepEqual(
      errors.map((error) => error.message),
      ['about two', 'about three'],
    );
    return text === '2 attempts failed:\nq, attempt 1: Error: about two\nq, attempt 1: Error: about three';
  });
});

test('a drain ends where what is ready cannot run, and says what runs too long', async (t) => {
  const broker = await opened(t);
  broker.handle('paused', () => {});
  broker.handle('grouped', (_, ctx) => {
    if (ctx.attempt === 1) throw new RetryError(60_000);
  });
  await broker.enqueue('paused', 1);
  broker.pause('paused');
  await broker.enqueueMany('grouped', [message(1, { group: 'g' }), message(2, { group: 'g' })]);
  const { acked, retried } = await drain(broker);
  assert.deepEqual([acked, retried], [0, 1]);
  broker.handle('slow', () => new Promise((resolve) => setTimeout(resolve, 5000).unref()), { cancelGrace: 1 });
  await broker.enqueue('slow', 1);
  await assert.rejects(drain(broker, { timeout: 50 }), /not drained in 50 ms: .*slow has 0 ready and 1 in flight/);
});

// It took five seconds more, the grace of the handler that hung, and a test runner said only that the test had no end.
test('what runs too long is said in the time that was given, whatever grace its handler has', async () => {
  const broker = await testBroker();
  broker.handle('slow', () => new Promise(() => {}), { cancelGrace: 3000 });
  await broker.enqueue('slow', 1);
  const began = performance.now();
  await assert.rejects(drain(broker, { timeout: 20 }), /not drained in 20 ms/);
  const slow = () => new Promise((resolve) => setTimeout(resolve, 50));
  await assert.rejects(runHandler(slow, 1, { runTimeout: 20, cancelGrace: 3000 }), { code: 'TIMEOUT' });
  assert.ok(performance.now() - began < 2000);
});

// Their clocks and timers were libmq's, too: handlers stopped after the first 256, and a drain had no end at all.
test('fake timers stop neither handlers nor a drain', { timeout: 20_000 }, async (t) => {
  const broker = await opened(t);
  let calls = 0;
  broker.handle('quick', async () => void calls++, { cancelGrace: 1 });
  broker.handle('slow', () => new Promise(() => {}), { cancelGrace: 1 });
  for (let i = 0; i < 1000; i++) await broker.enqueue('quick', i);
  // As vitest and jest do it: the clocks stand still, in a year that is far from this one.
  t.mock.timers.enable({ now: new Date('2050-01-01') });
  const { performance: real } = globalThis;
  t.after(() => Object.defineProperty(globalThis, 'performance', { value: real }));
  Object.defineProperty(globalThis, 'performance', { value: { now: () => 0 }, configurable: true, writable: true });
  await drain(broker);
  assert.equal(calls, 1000);
  await broker.enqueue('slow', 1);
  await assert.rejects(drain(broker, { timeout: 50 }), /not drained in 50 ms: slow has 0 ready and 1 in flight/);
  const handler = (_, ctx) => assert.ok(ctx.enqueuedAt < new Date());
  for (const message of [{ runAt: new Date('2030-01-01') }, { delay: 3_600_000 }]) {
    assert.equal((await runHandler(handler, 1, { message })).outcome, 'ack');
  }
});

// Vitest and jest give a test five seconds, and then say only that.
test('a drain that nobody gives a time to says what hangs before a test runner does', async () => {
  const broker = await testBroker();
  broker.handle('slow', () => new Promise(() => {}), { cancelGrace: 1 });
  await broker.enqueue('slow', 1);
  await assert.rejects(drain(broker), /not drained in 4000 ms: slow has 0 ready and 1 in flight/);
  await broker.close({ timeout: 0 }).catch(() => {});
});

test('an assertion that holds answers the message, and one that does not says what is there', async (t) => {
  const broker = await opened(t);
  await broker.enqueue('orders', { id: 'ORD-1', lines: [{ what: 'book', count: 2 }] }, { priority: 3 });
  await broker.enqueue('orders', { id: 'ORD-2', lines: [] });
  assert.equal(assertEnqueued(broker, 'orders', { id: 'ORD-2' }).body.lines.length, 0);
  assert.equal(assertEnqueued(broker, 'orders').body.id, 'ORD-1');
  assertEnqueued(broker, 'orders', undefined, { priority: 3 });
  assertEnqueued(broker, 'orders', { lines: [{ count: (n) => n > 1 }] }, { count: 1 });
  assertEnqueued(broker, 'orders', { id: /^ORD-\d$/ }, { count: 2 });
  assert.equal(assertEnqueued(broker, 'orders', { id: 'ORD-3' }, { count: 0 }), undefined);
  assertNotEnqueued(broker, 'orders', { id: 'ORD-3' });
  assertNotEnqueued(broker, 'orders', { id: 'ORD-2' }, { priority: 3 });
  const texts = [
    [
      () => assertEnqueued(broker, 'orders', { id: 'ORD-2', lines: [1] }, { priority: 3 }),
      [
        'no message like this was enqueued to orders:',
        "  { id: 'ORD-2', lines: [ 1 ] }, with { priority: 3 }",
        'to orders these 2 were enqueued:',
        "  { id: 'ORD-1', lines: [ { what: 'book', count: 2 } ] }, with { priority: 3 }",
        "    body.id is 'ORD-1', but 'ORD-2' is expected",
        "  { id: 'ORD-2', lines: [] }",
        '    body.lines has 0 items, but 1 are expected',
      ],
    ],
    [
      () => assertEnqueued(broker, 'mail', { to: 1 }),
      ['no message like this was enqueued to mail:', '  { to: 1 }', 'nothing was enqueued to mail, but to orders'],
    ],
    [
      () => assertNotEnqueued(broker, 'orders', { id: 'ORD-2' }),
      ['a message like this was enqueued to orders:', "  { id: 'ORD-2' }", 'that is:', "  { id: 'ORD-2', lines: [] }"],
    ],
  ];
  for (const [call, lines] of texts) assert.throws(call, { name: 'AssertionError', message: lines.join('\n') });
  assert.throws(
    () => assertEnqueued(broker, 'orders', {}, { count: 1 }),
    /2 like this were enqueued to orders, but 1 was expected/,
  );
  assert.throws(() => assertEnqueued(broker, 5), TypeError);
});

// An option that no message has made the assertion true, whatever was enqueued.
test('an option that there is not is refused by an assertion', async (t) => {
  const broker = await opened(t);
  await broker.enqueue('orders', 1, { priority: 3 });
  const told = { code: 'INVALID', message: 'there is no option priorty' };
  assert.throws(() => assertNotEnqueued(broker, 'orders', 1, { priorty: 3 }), told);
  assert.throws(() => assertEnqueued(broker, 'orders', 1, { priorty: 3 }), told);
  assert.throws(() => assertNotEnqueued(broker, 'orders', 1, { count: 0 }), { code: 'INVALID' });
  for (const options of [5, [], 'priority'])
    assert.throws(() => assertEnqueued(broker, 'orders', 1, options), TypeError);
  assertEnqueued(broker, 'orders', 1, null);
});

// What was misspelt was as if it were not there, a time that is none never came, and null was no object.
test('what the helpers are given is checked, and null is the default', async (t) => {
  const broker = await opened(t);
  const never = () => new Promise(() => {});
  for (const [call, name] of [
    [() => drain(broker, { delayd: true }), 'delayd'],
    [() => runHandler(never, 1, { runTimout: 5 }), 'runTimout'],
    [() => runHandler(never, 1, { message: { dely: 1 } }), 'message.dely'],
    [() => testBroker({ capazity: 1 }), 'capazity'],
  ]) {
    await assert.rejects(call, { code: 'INVALID', message: `there is no option ${name}` });
  }
  for (const call of [
    () => drain(broker, 5),
    () => drain(broker, { timeout: '50' }),
    () => drain(broker, { rethrow: 0 }),
    () => runHandler(never, 1, 5),
    () => runHandler(never, 1, { runTimeout: 'x' }),
    () => runHandler(never, 1, { attempt: '1' }),
    () => runHandler(never, 1, { queue: 5 }),
    () => runHandler(never, 1, { message: 5 }),
    () => testBroker(Promise.resolve({})),
  ]) {
    await assert.rejects(call, { name: 'TypeError', message: / takes / });
  }
  for (const timeout of [-1, NaN, Infinity]) await assert.rejects(drain(broker, { timeout }), { code: 'INVALID' });
  assert.equal((await drain(broker, null)).acked, 0);
  assert.equal((await runHandler(() => {}, 1, null)).outcome, 'ack');
  assert.equal((await runHandler(() => {}, 1, { attempt: null, message: null, scope: null })).outcome, 'ack');
  const given = await opened(t, { clock: undefined, defaultBackoff: null });
  given.advance(1);
});

test('bodies of every kind are compared as they travel', async (t) => {
  const broker = await opened(t);
  const at = new Date(0);
  for (const body of [null, 0, 'text', [1, [2]], { at, none: undefined }, Buffer.from('abc'), new Uint8Array([1, 2])]) {
    await broker.enqueue('q', body);
    assertEnqueued(broker, 'q', body === undefined ? undefined : body, { count: 1 });
    clearEnqueued(broker);
  }
  await broker.enqueue('q', [1, 2]);
  assertNotEnqueued(broker, 'q', [1]);
  assertNotEnqueued(broker, 'q', { 0: 5 });
  assertNotEnqueued(broker, 'q', null);
  assertNotEnqueued(broker, 'q', Buffer.from([1, 2]));
});

test('one handler is run once, and it is said how its attempt ended', async () => {
  const outcomes = [
    [() => {}, 'ack'],
    [async () => Promise.reject(new Error('failed')), 'retry'],
    [
      () => {
        throw new RetryError(5);
      },
      'retry',
    ],
    [
      () => {
        throw new RejectError('never');
      },
      'reject',
    ],
    [
      () => {
        throw new ReleaseError();
      },
      'release',
    ],
  ];
  for (const [handler, expected] of outcomes) assert.equal((await runHandler(handler, 1)).outcome, expected);
  const ran = await runHandler(
    (order, ctx) => {
      assert.deepEqual(order, { at: '1970-01-01T00:00:00.000Z' });
      assert.deepEqual([ctx.attempt, ctx.maxRetries, ctx.queue, ctx.headers.of], [3, 2, 'orders', 'me']);
      assert.equal(ctx.scope.opened, true);
      ctx.enqueue('mail', 1);
    },
    { at: new Date(0) },
    { queue: 'orders', attempt: 3, maxRetries: 2, message: { headers: { of: 'me' } }, scope: () => ({ opened: true }) },
  );
  assert.equal(ran.error, undefined);
  assert.equal(ran.outcome, 'ack');
  assert.deepEqual(
    ran.enqueued.map(({ queue, body }) => [queue, body]),
    [['mail', 1]],
  );
  const last = await runHandler(
    () => {
      throw new Error('for good');
    },
    1,
    { attempt: 2, maxRetries: 1 },
  );
  assert.deepEqual([last.outcome, last.deadLetter.reason, last.deadLetter.attempts], ['retry', 'max_retries', 2]);
  assert.equal(last.error.message, 'for good');
  const schema = { '~standard': { version: 1, vendor: 't', validate: () => ({ issues: [{ message: 'no' }] }) } };
  const unfit = await runHandler(() => assert.fail('it was called'), 1, { schema });
  assert.deepEqual([unfit.outcome, unfit.deadLetter.reason], ['reject', 'decode']);
  await assert.rejects(
    runHandler(() => {}, 1, { attempt: 3, maxRetries: 1 }),
    { code: 'INVALID' },
  );
  await assert.rejects(
    runHandler(() => {}, 1, { attempt: 0 }),
    { code: 'INVALID' },
  );
  await assert.rejects(runHandler(5, 1), TypeError);
  await assert.rejects(
    runHandler(() => new Promise(() => {}), 1, { runTimeout: 20, cancelGrace: 1 }),
    { code: 'TIMEOUT' },
  );
});

// It was told that maxRetries allowed no such attempt.
test('one handler is run for a message that is put off as if it were due', async () => {
  const handler = (_, ctx) => ctx.enqueue('at', ctx.enqueuedAt.getTime());
  for (const message of [{ delay: 3_600_000 }, { runAt: Date.now() + 3_600_000 }, { runAt: new Date(0) }]) {
    for (const attempt of [1, 3]) {
      const { outcome, enqueued } = await runHandler(handler, 1, {
        message: { ...message, expiresIn: 3_610_000 },
        attempt,
      });
      assert.equal(outcome, 'ack');
      assert.ok(Math.abs(enqueued[0].body - Date.now()) < 60_000);
    }
  }
  await assert.rejects(runHandler(handler, 1, { message: { delay: -1 } }), { code: 'INVALID' });
});
