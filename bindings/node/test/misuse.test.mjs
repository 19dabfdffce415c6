// What every public function says to what it must not be given.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { runInNewContext } from 'node:vm';

import {
  Broker,
  CancelledError,
  DeadLetter,
  Delivery,
  LibmqError,
  RejectError,
  ReleaseError,
  RetryError,
  message,
  open,
  verify,
} from '../lib/index.mjs';
import { broker, directory, until } from './support.mjs';

// A call, made safe for functions that throw and functions that reject.
async function failure(call) {
  try {
    await call();
  } catch (error) {
    return error instanceof LibmqError ? error.code : error.constructor.name;
  }
  return 'nothing';
}

// An object whose property throws when it is read.
class Thrown extends Error {}
const throwing = (name) =>
  Object.defineProperty({}, name, {
    enumerable: true,
    get() {
      throw new Thrown();
    },
  });

const unsettled = async (queue) => {
  await queue.enqueue('held', 1);
  return queue.receive('held', { timeout: 0 });
};

const CALLS = {
  'open, path': [
    (_, value) => open(value),
    { TypeError: [undefined, null, 5, {}, []], INVALID: ['', 'a\0b', 'a\ud800b'] },
  ],
  'open, options': [
    (_, value) => open(':memory:', value),
    {
      TypeError: [
        5,
        'x',
        { capacity: '5' },
        { durability: 5 },
        { log: 'x' },
        { log: {} },
        { scope: 'x' },
        { scope: {} },
        { defaultTimeout: new Date() },
        { defaultBackoff: 'x' },
        { defaultBackoff: { base: 'x' } },
      ],
      INVALID: [
        { capcity: 5 },
        { durability: 'synk' },
        { capacity: -1 },
        { capacity: 0 },
        { capacity: 1.5 },
        { capacity: NaN },
        { capacity: 1e300 },
        { segmentBytes: 5 },
        { defaultTimeout: -1 },
        { defaultTimeout: Infinity },
        { defaultTimeout: 1e300 },
        { clock: 'slow' },
        { defaultBackoff: { bse: 1 } },
        { defaultBackoff: { factor: 0 } },
        { defaultBackoff: [] },
        { maxCrashes: 101 },
        { onFull: 'wait' },
        { lockTimeout: -1 },
      ],
      UNSUPPORTED: [{ onCorruption: 'quarantine' }],
      Thrown: [throwing('log'), throwing('scope'), throwing('capacity')],
    },
  ],
  'enqueue, queue': [
    (queue, value) => queue.enqueue(value, 1),
    {
      TypeError: [undefined, null, 5, {}, Symbol('q')],
      INVALID: ['', 'a b', 'é', 'x'.repeat(129), '../up'],
    },
  ],
  'enqueue, options': [
    (queue, value) => queue.enqueue('q', 1, value),
    {
      TypeError: [
        5,
        'x',
        { dedupKey: 5 },
        { headers: 'x' },
        { headers: { a: 5 } },
        { headers: new Map([['a', 'b']]) },
        { headers: ['a'] },
        [],
        { delay: '5' },
        { runAt: 'now' },
        { priority: '1' },
      ],
      INVALID: [
        { dedupkey: 'k' },
        { dedupKey: '' },
        { dedupKey: 'x'.repeat(257) },
        { dedupKey: '\ud800' },
        { dedupKey: 'a\nb' },
        { dedup: 'merge' },
        { delay: -1 },
        { delay: NaN },
        { delay: 1e15 },
        { delay: 5, runAt: new Date() },
        { runAt: new Date(NaN) },
        { headers: { 'a b': 'x' } },
        { headers: { a: 'x'.repeat(4097) } },
        { headers: { a: 'x\r\ny' } },
        { priority: 10 },
        { priority: 1.5 },
        { group: '' },
        { expiresIn: 5, delay: 5 },
        { dedupKey: 'k', dedupWindow: -1 },
        { durability: 'memory' },
        { contentType: '' },
        { correlationId: 'é'.repeat(129) },
      ],
    },
  ],
  'enqueueMany, items': [
    (queue, value) => queue.enqueueMany('q', value),
    {
      TypeError: [undefined, null, 5, 'text', {}, Buffer.from('ab'), [undefined]],
      INVALID: [[{ body: 1, dedupKey: '' }], Array.from({ length: 10_001 }, () => 1)],
    },
  ],
  message: [(_, value) => message(1, value), { TypeError: [5, { delay: 'x' }], INVALID: [{ dely: 5 }, { delay: -5 }] }],
  'handle, queue': [
    (queue, value) => queue.handle(value, () => {}),
    { TypeError: [undefined, 5], INVALID: ['', 'a b'] },
  ],
  'handle, handler': [
    (queue, value) => queue.handle('q', value),
    {
      TypeError: [undefined, null, 5, {}, 'f', [], { handle: 5 }, new Map([['handle', () => {}]])],
      UNSUPPORTED: [function* () {}, async function* () {}, { *handle() {} }, { async *handle() {} }],
      Thrown: [throwing('handle')],
    },
  ],
  'handle, options': [
    (queue, value) => queue.handle('q', () => {}, value),
    {
      TypeError: [
        5,
        { maxParallelism: '4' },
        { leaseExtensionEnabled: 1 },
        { backoff: [1, 'x'] },
        { backoff: [1, , 2] },
        { scope: {} },
        { schema: 5 },
        { schema: {} },
        { schema: () => {} },
        { schema: { '~standard': null } },
        { schema: { '~standard': { version: 1, vendor: 'x', validate: {} } } },
      ],
      INVALID: [
        { maxParalelism: 4 },
        { maxParallelism: 0 },
        { maxParallelism: 1025 },
        { timeout: 0 },
        { timeout: -1 },
        { maxRetries: -1 },
        { minParallelism: 2 },
        { cancelGrace: NaN },
        { backoff: [-1] },
        { backoff: { jitter: 2 } },
      ],
      UNSUPPORTED: [{ schema: { '~standard': { version: 2, vendor: 'x', validate() {} } } }],
      Thrown: [throwing('schema'), throwing('scope'), { schema: throwing('~standard') }],
    },
  ],
  'receive, queue': [
    (queue, value) => queue.receive(value, { timeout: 0 }),
    { TypeError: [undefined, 5], INVALID: ['', 'a b'] },
  ],
  'receive, options': [
    (queue, value) => queue.receive('q', value),
    {
      TypeError: [5, { timeout: '0' }, { timeout: 0, signal: {} }],
      INVALID: [{ timeout: -1 }, { timeout: 0, lease: 0 }, { timeout: 0, lease: 1e15 }, { timeout: 0, wait: 1 }],
    },
  ],
  'receiveMany, max': [
    (queue, value) => queue.receiveMany('q', value, { timeout: 0 }),
    {
      TypeError: [undefined, '5'],
      INVALID: [0, -1, 1.5, 10_001, NaN],
    },
  ],
  deliveries: [
    (queue, value) => queue.deliveries('q', value).next(),
    { TypeError: [5, { signal: 1 }], INVALID: [{ timeout: 1 }] },
  ],
  stop: [
    (queue, value) => queue.stop(value),
    { TypeError: [5, { timeout: '1' }], INVALID: [{ timeout: -1 }, { timeout: 1e15 }, { grace: 1 }] },
  ],
  close: [(queue, value) => queue.close(value), { TypeError: [5, { timeout: '1' }], INVALID: [{ timeout: NaN }] }],
  waitIdle: [
    (queue, value) => queue.waitIdle(value),
    { TypeError: [5], INVALID: [{ timeout: -1 }, { timeout: 1e15 }] },
  ],
  advance: [(queue, value) => queue.advance(value), { TypeError: [undefined, '5'], INVALID: [-1, NaN, 5, 1e15] }],
  scale: [
    (queue, value) => queue.scale(...value),
    {
      TypeError: [[], ['q'], ['q', '2']],
      INVALID: [
        ['q', 0],
        ['q', 1025],
        ['q', -1],
        ['q', 1.5],
        ['a b', 2],
      ],
      NOT_FOUND: [['q', 2]],
    },
  ],
  pause: [(queue, value) => queue.pause(value), { TypeError: [5], INVALID: ['', 'a b'], NOT_FOUND: ['nobody'] }],
  resume: [(queue, value) => queue.resume(value), { TypeError: [5], INVALID: ['', 'a b'], NOT_FOUND: ['nobody'] }],
  purge: [(queue, value) => queue.purge(value), { TypeError: [5], INVALID: ['', 'a b'] }],
  backup: [
    (queue, value) => queue.backup(value),
    { TypeError: [5, undefined], INVALID: ['', 'a\0b', '/', '.'], IO: ['/no/where/at/all'] },
  ],
  verify: [(_, value) => verify(value), { TypeError: [5, undefined], INVALID: ['', 'a\0b', '/no/where', '.'] }],
  cancel: [
    (queue, value) => queue.cancel(value),
    {
      TypeError: [5, undefined, '0x10', '-1', '', 'ten'],
      INVALID: [-1n, 2n ** 64n, '99999999999999999999'],
    },
  ],
  'deadLetters.get': [
    (queue, value) => queue.deadLetters.get(value),
    { TypeError: [5, '1.0'], INVALID: [-1n], nothing: [1n, '7'] },
  ],
  'deadLetters.replay': [(queue, value) => queue.deadLetters.replay(value), { TypeError: [5], NOT_FOUND: [1n, '7'] }],
  'deadLetters.list': [
    (queue, value) => queue.deadLetters.list(value),
    {
      TypeError: [5, { queue: 5 }, { after: 5 }],
      INVALID: [{ limit: -1 }, { limt: 1 }],
    },
  ],
  'deadLetters.purge': [
    (queue, value) => queue.deadLetters.purge(value),
    { TypeError: ['q', { queue: 1 }], INVALID: [{ id: 1 }] },
  ],
  'deadLetters.replayAll': [
    (queue, value) => queue.deadLetters.replayAll(value),
    { TypeError: ['q'], INVALID: [{ id: 1 }] },
  ],
  'delivery.retry': [
    async (queue, value) => (await unsettled(queue)).retry(value),
    {
      TypeError: [5, { delay: 'x' }, { error: 5 }],
      INVALID: [{ delay: -1 }, { delay: 1e15 }, { because: '' }],
    },
  ],
  'delivery.reject': [async (queue, value) => (await unsettled(queue)).reject(value), { TypeError: [5, null] }],
  'delivery.release': [
    async (queue, value) => (await unsettled(queue)).release(value),
    { TypeError: [5], INVALID: [{ delay: -1 }] },
  ],
  'delivery.extend': [
    async (queue, value) => (await unsettled(queue)).extend(value),
    {
      TypeError: [undefined, '5'],
      INVALID: [-1, NaN, 25 * 3_600_000],
    },
  ],
  'delivery.enqueue': [
    async (queue, value) => (await unsettled(queue)).enqueue(...value),
    {
      TypeError: [[], ['q'], ['q', 5n]],
      INVALID: [
        ['a b', 1],
        ['q', NaN],
        ['q', 1, { dely: 1 }],
        ['q', 1, { group: '' }],
      ],
    },
  ],
  RetryError: [(_, value) => new RetryError(value), { TypeError: ['5', {}], INVALID: [-1, NaN, 1e20, Infinity] }],
  ReleaseError: [(_, value) => new ReleaseError(value), { TypeError: ['5'], INVALID: [-1, 1e20, Infinity] }],
  RejectError: [(_, value) => new RejectError(value), { TypeError: [5, {}] }],
};

for (const [name, [call, refusals]] of Object.entries(CALLS)) {
  test(`${name}: what it is given is checked`, async (t) => {
    const queue = await broker(t);
    for (const [expected, values] of Object.entries(refusals)) {
      for (const value of values) {
        const shown =
          typeof value === 'object' && value !== null ? Object.keys(value).slice(0, 3).join(' ') : String(value);
        assert.equal(await failure(() => call(queue, value)), expected, `${name} of ${shown.slice(0, 80)}`);
      }
    }
    assert.equal(await failure(() => queue.metrics()), 'nothing', 'the broker is as good as before');
  });
}

class Settings {
  capacity = 5;
}

/** What had its options elsewhere than in fields of its own was opened with the defaults. */
test('what is no plain object holds no options', async (t) => {
  const queue = await broker(t);
  const promised = Promise.resolve({ capacity: 5 });
  for (const options of [promised, { then: () => {} }]) {
    const says = { name: 'TypeError', message: /^options takes an object, and is a promise: an await is missing$/ };
    await assert.rejects(open(':memory:', options), says);
    await assert.rejects(queue.enqueue('q', 1, options), says);
    assert.throws(() => queue.handle('q', () => {}, options), says);
  }
  for (const options of [new Date(), new Settings(), new Map(), [], /x/, new Proxy(new Settings(), {})]) {
    await assert.rejects(open(':memory:', options), { name: 'TypeError', message: /^options takes a plain object$/ });
  }
  const headers = new Settings();
  await assert.rejects(queue.enqueue('q', 1, { headers }), { name: 'TypeError', message: /^headers takes/ });
  for (const options of [Object.create(null), runInNewContext('({ capacity: 5 })')]) {
    await (await open(':memory:', options)).close();
  }
});

test('text that is a URL of a file is a path, and no other URL is', async (t) => {
  const path = directory();
  const queue = await broker(t, {}, pathToFileURL(path).href);
  assert.equal(queue.path, path);
  for (const url of ['file://elsewhere/queue', new URL('https://example.org/queue')]) {
    await assert.rejects(open(url), { name: 'TypeError', message: /^path is a URL of no file here: / });
  }
});

test('an extension has its own bound, and a part of a backoff its own name', async (t) => {
  const queue = await broker(t);
  await queue.enqueue('q', 1);
  const delivery = await queue.receive('q', { timeout: 0 });
  const says = { code: 'INVALID', message: 'extend is 86400001, but takes milliseconds from 0 to 24 hours' };
  assert.throws(() => delivery.extend(86_400_001), says);
  for (const [backoff, name] of [
    [{ jitter: 2 }, 'jitter'],
    [{ factor: 0.5 }, 'factor'],
    [{ base: -1 }, 'base'],
  ]) {
    assert.throws(() => queue.handle('q', () => {}, { backoff }), { message: new RegExp(`^backoff\\.${name} `) });
  }
});

test('an error names the option, has a code, and says whether to try again', async (t) => {
  const queue = await broker(t);
  await assert.rejects(queue.enqueue('q', 1, { dedupkey: 'k' }), /dedupkey/);
  await assert.rejects(open(':memory:', { capcity: 1 }), /capcity/);
  await assert.rejects(open(':memory:', { capacity: 0 }), /capacity is 0/);
  const long = queue.enqueueMany('q', ['x'.repeat(20 << 20)]);
  await assert.rejects(long, { code: 'TOO_LARGE', message: /maxMessageBytes is 16777216/ });
  const path = directory();
  await broker(t, {}, path);
  const locked = await open(path).catch((error) => error);
  assert.ok(locked instanceof LibmqError && locked instanceof Error);
  assert.deepEqual([locked.name, locked.code, locked.retryable], ['LibmqError', 'LOCKED', true]);
  const missing = await open('/proc/nowhere/queue').catch((error) => error);
  assert.equal(missing.code, 'IO');
  assert.match(missing.path, /nowhere/);
});

/** Options were named as in Rust, and numbers as far as 32 bits held them: 2^33 was 4294967295, and a time in seconds. */
test('an option that is refused is named as it was written, with the value it was given', async (t) => {
  const queue = await broker(t);
  const handle = (options) => async () => queue.handle('q', () => {}, options);
  const enqueue = (options) => () => queue.enqueue('q', 1, options);
  const opens = (options) => () => open(':memory:', options);
  const said = {
    'maxRetries is 8589934592, but goes from 0 to 1000000': handle({ maxRetries: 2 ** 33 }),
    'maxParallelism is 4294967297, but goes from 1 to 1024': handle({ maxParallelism: 2 ** 32 + 1 }),
    'minParallelism is 7, but goes from 0 to 4': handle({ maxParallelism: 4, minParallelism: 7 }),
    'maxParallelism is 4294967298, but goes from 1 to 1024': async () => queue.scale('q', 2 ** 32 + 2),
    'cancelGrace is 1000000000000000, but takes milliseconds from 0 to ten years': handle({ cancelGrace: 1e15 }),
    'defaultMaxRetries is 4294967296, but goes from 0 to 1000000': opens({ defaultMaxRetries: 2 ** 32 }),
    'maxCrashes is 101, but goes from 1 to 100': opens({ maxCrashes: 101 }),
    'segmentBytes is 5, but goes from 65536 to 1073741824': opens({ segmentBytes: 5 }),
    'syncInterval is 0.5 ms, but goes from 1ms to ten years': opens({ syncInterval: 0.5 }),
    'lockTimeout is 1e+300, but takes milliseconds from 0 to ten years': opens({ lockTimeout: 1e300 }),
    'defaultBackoff factor is 0.5, but goes from 1 to 1000': opens({ defaultBackoff: { factor: 0.5 } }),
    'maxBytes is 1000, but goes from 524288 to 18446744073709551615': opens({ maxBytes: 1000 }),
    'onCorruption quarantine is not supported by this version': opens({ onCorruption: 'quarantine' }),
    'priority is 4294967296, but takes a whole number from 0 to 9': enqueue({ priority: 2 ** 32 }),
    'priority is -1, but takes a whole number from 0 to 9': enqueue({ priority: -1 }),
    'priority is 300, but takes a whole number from 0 to 9': enqueue({ priority: 300 }),
    'delay and runAt exclude each other': enqueue({ delay: 5, runAt: new Date() }),
    'dedupKey takes 1 to 256 bytes without control characters': enqueue({ dedupKey: '' }),
    'header trace has 4097 bytes, but at most 4096': enqueue({ headers: { trace: 'x'.repeat(4097) } }),
    'max is 4294967297, but goes from 1 to 10000': () => queue.receiveMany('q', 2 ** 32 + 1),
  };
  for (const [text, call] of Object.entries(said)) {
    await assert.rejects(call, ({ message: found }) => (assert.equal(found, text), true));
  }
});

test('a batch that is refused names the item', async (t) => {
  const queue = await broker(t);
  const circular = {};
  circular.itself = circular;
  const bad = [
    [{ body: 1, delay: 5, runAt: new Date() }, 'INVALID', 'items[2]: delay and runAt exclude each other'],
    [{ body: 1, priority: 10 }, 'INVALID', 'items[2]: priority is 10, but takes a whole number from 0 to 9'],
    [
      message(1, { group: 'g'.repeat(257) }),
      'INVALID',
      'items[2]: group takes 1 to 256 bytes without control characters',
    ],
    [circular, 'INVALID', 'items[2]: the body is not JSON: it contains itself'],
    [new Map(), undefined, 'items[2]: the body is a Map: JSON would keep nothing of it'],
    [() => {}, undefined, 'items[2]: the body cannot be JSON: it is function'],
    [{ body: 1, delay: '5' }, undefined, 'items[2]: delay takes a number'],
  ];
  for (const [item, code, text] of bad) {
    const wanted = code === undefined ? { name: 'TypeError' } : { name: 'LibmqError', code };
    await assert.rejects(queue.enqueueMany('q', [0, 1, item, 3]), { ...wanted, message: text });
    const first = text.replace('[2]', '[0]');
    await assert.rejects(queue.enqueueMany('q', [item]), { ...wanted, message: first });
  }
  // A batch of nothing names a queue all the same.
  for (const name of ['a b', '', 'x'.repeat(129)]) {
    await assert.rejects(queue.enqueueMany(name, []), { name: 'LibmqError', code: 'INVALID' });
  }
  assert.equal(queue.metrics().enqueued, 0);
});

test('an option is named as it was written beside a path, which stays as it is', async (t) => {
  const path = directory().replace(/queue$/, 'the_queue');
  const queue = await broker(t, { maxBytes: 1 << 20, durability: 'os' }, path);
  const body = Buffer.alloc(10_000);
  const full = async () => {
    for (;;) await queue.enqueue('q', body);
  };
  await assert.rejects(full(), ({ code, message: text }) => {
    assert.equal(code, 'STORAGE_FULL');
    assert.ok(text.startsWith(`maxBytes is 1048576: ${path} takes `), text);
    return true;
  });
  const file = `${path}/../a_file`;
  writeFileSync(file, '');
  await assert.rejects(open(file), { code: 'INVALID', message: /a_file is not a directory/ });
});

test('what is no whole number is no count, and is named as it was given', async (t) => {
  const queue = await broker(t);
  const counts = [
    ['capacity', (value) => open(':memory:', { capacity: value })],
    ['snapshotThreshold', (value) => open(':memory:', { snapshotThreshold: value })],
    ['defaultMaxRetries', (value) => open(':memory:', { defaultMaxRetries: value })],
    ['maxRetries', async (value) => queue.handle('q', () => {}, { maxRetries: value })],
    ['maxParallelism', async (value) => queue.handle('q', () => {}, { maxParallelism: value })],
    ['priority', (value) => queue.enqueue('q', 1, { priority: value })],
    ['max', (value) => queue.receiveMany('q', value)],
    ['maxParallelism', async (value) => queue.scale('q', value)],
    ['limit', (value) => queue.deadLetters.list({ limit: value })],
  ];
  for (const [name, call] of counts) {
    for (const value of [2 ** 53, -1, 1.5, NaN, Infinity]) {
      const told = (error) => error.code === 'INVALID' && error.message.startsWith(`${name} is ${value}, but takes `);
      await assert.rejects(call(value), told, `${name} of ${value}`);
    }
    for (const value of ['5', 5n]) {
      await assert.rejects(call(value), { name: 'TypeError', message: `${name} takes a number` });
    }
  }
});

/** `Cannot read properties of undefined` was said of what the constructor wanted. */
test('what only the package makes says how one comes by it', () => {
  const says = (message) => ({ name: 'TypeError', message });
  assert.throws(() => new Broker(), says('a broker is opened with open()'));
  assert.throws(() => new Broker('queue-data', {}), says('a broker is opened with open()'));
  assert.throws(() => new Delivery(), says('a delivery is received with receive(), receiveMany() or deliveries()'));
  assert.throws(() => new DeadLetter({}), says('a dead letter is found with deadLetters.list() or deadLetters.get()'));
});

/** The declarations say `readonly`, and plain JavaScript could write all the same. */
test('what is readonly stays as it is', async (t) => {
  const queue = await broker(t);
  const receipt = await queue.enqueue('q', { a: 1 }, { headers: { a: 'b' } });
  const delivery = await queue.receive('q', { timeout: 0 });
  assert.ok(delivery instanceof Delivery);
  await queue.enqueue('dead', 1, { headers: { a: 'b' } });
  await (await queue.receive('dead', { timeout: 0 })).reject();
  const [letter] = await queue.deadLetters.list();
  assert.ok(letter instanceof DeadLetter);
  let context;
  queue.handle('handled', async (_, ctx) => {
    context = ctx;
    await new Promise(() => {});
  });
  await queue.enqueue('handled', 1, { headers: { a: 'b' } });
  await queue.start();
  await until(() => context !== undefined);
  const held = ['id', 'queue', 'attempt', 'maxRetries', 'token', 'deadline', 'headers', 'contentType', 'correlationId'];
  held.push('enqueuedAt', 'raw');
  const metrics = queue.metrics();
  const error = await open('').catch((reason) => reason);
  const missing = await open('/proc/nowhere/queue').catch((reason) => reason);
  const letterFields = ['id', 'queue', 'reason', 'error', 'attempts', 'failedAt', 'body', 'raw', 'contentType'];
  letterFields.push('correlationId', 'headers');
  const fields = [
    [queue, ['path', 'recovery', 'deadLetters']],
    [queue.recovery, ['messages', 'duration']],
    [receipt, ['id', 'status']],
    [delivery, [...held, 'body', 'settled']],
    [delivery.headers, ['a']],
    [context, [...held, 'signal']],
    [context.headers, ['a']],
    [letter, letterFields],
    [letter.headers, ['a']],
    [metrics, ['ready', 'queues', 'lsn', 'oldestReadyAge']],
    [metrics.queues, ['q']],
    [metrics.queues.q, ['ready', 'acked']],
    [metrics.lsn, ['durable']],
    [error, ['code', 'retryable']],
    [missing, ['path']],
    [new CancelledError('timeout'), ['reason']],
    [new RetryError(5), ['delay']],
    [new ReleaseError(5), ['delay']],
    [message(1, { delay: 5 }), ['body', 'delay']],
  ];
  for (const [object, names] of fields) {
    for (const name of names) {
      const before = object[name];
      const what = `${object.constructor?.name} ${name}`;
      assert.notEqual(before, undefined, what);
      assert.throws(() => (object[name] = 'other'), TypeError, what);
      assert.deepEqual(object[name], before, what);
    }
  }
  await delivery.ack();
});

test('after the close every call says CLOSED', async (t) => {
  const queue = await broker(t);
  await queue.enqueue('q', 1);
  const delivery = await queue.receive('q', { timeout: 0 });
  const waiting = failure(() => queue.receive('q'));
  await queue.close();
  await queue.close();
  assert.equal(await waiting, 'CLOSED');
  const calls = [
    () => queue.enqueue('q', 1),
    () => queue.enqueueMany('q', [1]),
    () => queue.handle('q', () => {}),
    () => queue.handle('q', { handle() {} }, { scope: () => ({}) }),
    () =>
      queue.handle(
        'q',
        class {
          handle() {}
        },
      ),
    () => queue.start(),
    () => queue.stop(),
    () => queue.waitIdle(),
    () => queue.receive('q', { timeout: 0 }),
    () => queue.receiveMany('q', 1),
    () => queue.deliveries('q').next(),
    () => queue.snapshot(),
    () => queue.metrics(),
    () => queue.advance(1),
    () => queue.scale('q', 1),
    () => queue.pause('q'),
    () => queue.resume('q'),
    () => queue.prometheus(),
    () => queue.cancel(1n),
    () => queue.purge('q'),
    () => queue.backup('x'),
    () => queue.deadLetters.list(),
    () => queue.deadLetters.get(1n),
    () => queue.deadLetters.replay(1n),
    () => queue.deadLetters.replayAll(),
    () => queue.deadLetters.purge(),
    () => queue.deadLetters.count(),
  ];
  for (const call of calls) assert.equal(await failure(call), 'CLOSED', String(call));
  assert.equal(await failure(() => delivery.ack()), 'CLOSED');
  assert.equal(queue.path, ':memory:');
  queue.ref();
  queue.unref();
});
