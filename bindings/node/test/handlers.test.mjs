// Handlers: how they are called, what they may do, and how their attempts end.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { LibmqError, RejectError, ReleaseError, RetryError } from '../lib/index.mjs';
import { broker, directory, handled, until } from './support.mjs';

test('a handler is given the body and its context', async (t) => {
  let seen;
  const queue = await broker(t, {}, directory());
  queue.handle(
    'q',
    async (body, ctx) => {
      await null;
      const {
        id,
        queue: name,
        attempt,
        maxRetries,
        token,
        deadline,
        headers,
        contentType,
        correlationId,
        enqueuedAt,
        raw,
      } = ctx;
      seen = {
        body,
        id,
        name,
        attempt,
        maxRetries,
        token,
        deadline,
        headers: { ...headers },
        contentType,
        correlationId,
        enqueuedAt,
        raw,
      };
      assert.equal(JSON.stringify(ctx), `{"id":"${id}","queue":"q","attempt":1}`);
    },
    { maxRetries: 3, timeout: 300_000 },
  );
  const { id } = await queue.enqueue('q', { a: 1 }, { headers: { x: 'y' }, correlationId: 'c' });
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  const { token, deadline, enqueuedAt, raw, ...rest } = seen;
  assert.deepEqual(rest, {
    body: { a: 1 },
    id,
    name: 'q',
    attempt: 1,
    maxRetries: 3,
    headers: { x: 'y' },
    contentType: 'application/json',
    correlationId: 'c',
  });
  assert.equal(typeof token, 'bigint');
  assert.equal(raw.toString(), '{"a":1}');
  const left = deadline - Date.now();
  assert.ok(left > 200_000 && left <= 300_000, `${left} ms`);
  assert.ok(Math.abs(Date.now() - enqueuedAt) < 60_000);
});

test('what a handler returns is an ack, whatever it is', async (t) => {
  for (const value of [undefined, null, 5, 'x', {}, [], () => {}, Promise.resolve(5), false, Symbol('s')]) {
    const queue = await handled(t, () => value);
    assert.equal(queue.metrics().acked, 1);
  }
});

test('whatever a handler throws is a failed attempt, and the text is kept', async (t) => {
  const hostile = new Proxy(
    {},
    {
      get() {
        throw new Error('no');
      },
      getPrototypeOf() {
        throw new Error('no');
      },
    },
  );
  const thenable = {
    get then() {
      throw new Error('a then that throws');
    },
  };
  const rejecting = { then: (_, reject) => reject(new Error('a then that rejects')) };
  const own = Object.assign(Promise.resolve(), {
    then() {
      throw new Error('its own then');
    },
  });
  const cases = [
    [
      () => {
        throw new Error('plainly');
      },
      'plainly',
    ],
    [
      async () => {
        throw new TypeError('later');
      },
      'TypeError: later',
    ],
    [
      () => {
        throw 'text';
      },
      'text',
    ],
    [
      () => {
        throw undefined;
      },
      'threw undefined',
    ],
    [
      () => {
        throw null;
      },
      'threw null',
    ],
    [() => Promise.reject({ a: 1 }), 'threw {"a":1}'],
    [
      () => {
        throw hostile;
      },
      'threw what cannot be shown',
    ],
    [() => Promise.reject(hostile), 'threw what cannot be shown'],
    [() => thenable, 'a then that throws'],
    [() => rejecting, 'a then that rejects'],
    [() => own, undefined],
    [
      () => {
        throw Object.create(null);
      },
      'threw {}',
    ],
    [
      () => {
        throw new LibmqError('FULL', 'full');
      },
      'LibmqError: full',
    ],
  ];
  for (const [handler, text] of cases) {
    const queue = await handled(t, handler, { options: { maxRetries: 0 } });
    const [letter] = await queue.deadLetters.list();
    if (text === undefined) {
      assert.equal(letter, undefined, 'awaiting a promise does not look at its then');
      continue;
    }
    // Below it stands where it came from.
    const [said] = letter.error.split('\n\n');
    assert.deepEqual([letter.reason, said, letter.attempts], ['max_retries', text, 1]);
    assert.equal(queue.metrics().handlerErrors, 1);
  }
});

test('a context knows its methods, also taken out of it', async (t) => {
  const queue = await handled(t, (_, { extend, enqueue }) => {
    extend(600_000);
    enqueue('other', 1);
  });
  assert.equal(queue.metrics().queues.other.ready, 1);
});

test('what has made nothing with a method handle is named', async (t) => {
  class Found {
    handle() {}
  }
  class Made {
    static handle = 5;
    handle() {}
    constructor() {
      return { handle: undefined };
    }
  }
  for (const [handler, text, scope] of [
    [Found, /scope\.resolve\(Found\) is nothing with a method handle/, () => ({ resolve: () => ({}) })],
    [Made, /new Made\(\) is nothing with a method handle/],
  ]) {
    const queue = await handled(t, handler, { options: { maxRetries: 0, scope } });
    assert.match((await queue.deadLetters.list())[0].error, text);
  }
  const queue = await broker(t);
  class Static {
    static handle() {}
  }
  assert.throws(() => queue.handle('q', Static), { name: 'TypeError', message: /method handle/ });
});

// It was registered, and each attempt failed.
test('a class that cannot have a method handle is refused, unless a scope makes something else of it', async (t) => {
  class Nothing {
    handel() {}
  }
  class Field {
    handle = () => {};
  }
  class Heir extends Field {}
  const queue = await broker(t);
  const told = { name: 'TypeError', message: /method handle, .*Nothing has none/ };
  assert.throws(() => queue.handle('q', Nothing), told);
  assert.throws(() => queue.handle('q', class extends Nothing {}), TypeError);
  for (const handler of [Field, Heir]) {
    const kept = await handled(t, handler);
    assert.equal(kept.metrics().acked, 1);
  }
  // A class may be but the name by which a scope finds one.
  const scope = () => ({ resolve: () => new Field() });
  assert.equal((await handled(t, Nothing, { options: { scope } })).metrics().acked, 1);
  assert.equal((await handled(t, Nothing, { scope })).metrics().acked, 1);
});

/**
 * A registration that needed not to wait came between one that did and its turn: that one then met the handler that was there
 * now, was told DEADLOCK, and took the next one along. In the end the queue had no handler.
 */
test('however often a queue is given a handler, the last one handles it', async (t) => {
  for (const started of [false, true]) {
    for (let ticks = 0; ticks < 4; ticks++) {
      for (let count = 2; count < 12; count++) {
        const failed = [];
        const log = (level, event, { error }) => level === 'error' && failed.push(event, error);
        const queue = await broker(t, { log });
        if (started) await queue.start();
        const calls = [];
        for (let i = 0; i < count; i++) {
          queue.handle('q', () => void calls.push(i));
          for (let tick = 0; tick < ticks; tick++) await null;
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
        if (!started) await queue.start();
        await queue.enqueue('q', 1);
        assert.ok(await queue.waitIdle({ timeout: 20_000 }));
        assert.deepEqual([calls, failed], [[count - 1], []], `${started} ${ticks} ${count}`);
        await queue.close();
      }
    }
  }
});

test('a handler asks for a retry, a reject or a release by what it throws', async (t) => {
  const ends = [new ReleaseError(), new RetryError(0), new RetryError(), new RejectError('enough')];
  const attempts = [];
  const queue = await handled(t, (_, { attempt }) => {
    attempts.push(attempt);
    throw ends[attempts.length - 1];
  });
  assert.deepEqual(attempts, [1, 1, 2, 3]);
  const [letter] = await queue.deadLetters.list();
  assert.deepEqual([letter.reason, letter.attempts], ['enough', 3]);
  const { released, retried, rejected, handlerErrors } = queue.metrics();
  assert.deepEqual([released, retried, rejected, handlerErrors], [1, 2, 1, 0]);
});

/**
 * What could not be handed over to the native half ended nothing: the message was held until its timeout. With a delay that is no
 * number, or one below 0, it was given back at once, for ever.
 */
test('an attempt ends whatever its error has in its fields', async (t) => {
  const told = [];
  const log = (level, event) => level !== 'info' && told.push(event);
  const cases = [
    [Object.assign(new RetryError(0), { message: 5 }), 'max_retries', '5'],
    [Object.assign(new RejectError(), { message: 5 }), '5', ''],
    [Object.assign(new RetryError(0), { message: Object.create(null) }), 'max_retries', 'threw what cannot be shown'],
    ...['soon', {}, null, NaN, -1, Infinity, 1e15].flatMap((value) =>
      [RetryError, ReleaseError].map((of) => [
        Object.create(of.prototype, { delay: { value } }),
        'max_retries',
        /cannot be told/,
      ]),
    ),
  ];
  for (const [error, reason, text] of cases) {
    const fails = () => {
      throw error;
    };
    const queue = await handled(t, fails, { options: { maxRetries: 0 }, log });
    const [letter] = await queue.deadLetters.list();
    assert.equal(letter.reason, reason);
    assert.match(letter.error, text instanceof RegExp ? text : new RegExp(`^${text}$`));
  }
  await until(() => told.filter((event) => event === 'dead_letter').length === cases.length);
  assert.deepEqual(new Set(told), new Set(['handler_error', 'dead_letter']));
});

test('bodies that are taken together are each taken for what it is', async (t) => {
  const queue = await broker(t);
  const long = JSON.stringify('x'.repeat(5000));
  const good = ['1', '"ä"', '{"a":[1,{"b":null}]}', ' [ ] ', '-0.5e1', 'true', '"],[\\",{"', '"\\\\"', '1e-999'];
  // What is no JSON for itself, but would be beside others; and what must not keep others from being read.
  const bad = [
    '1,[2',
    '3]',
    '',
    ']',
    '[',
    '1,2',
    '"',
    '1],[2',
    '1e999',
    [0xff],
    '"a',
    'b",1',
    '"\\',
    '{"a":[{}',
    '{}]}',
  ];
  const mixes = [good, [...good, long], [...good, ...bad], bad.flatMap((body) => [body, '7']), [...bad, ...bad]];
  for (const mixed of mixes) await takeTogether(queue, mixed);
});

test('so are any bodies', async (t) => {
  const queue = await broker(t);
  const pieces = ['[', ']', '{', '}', ',', '"', '\\', ':', '1', '1e', '400', '"a"', ' ', '[1,', '2]', '{"a":', 'null'];
  let seed = 20_261_126;
  const random = (below) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  for (let round = 0; round < 60; round++) {
    const any = Array.from({ length: 64 }, () => Array.from({ length: random(6) }, () => pieces[random(17)]).join(''));
    await takeTogether(queue, any);
  }
});

function refuseInfinity(_, value) {
  if (value === Infinity) throw new Error('no double holds it');
  return value;
}

// Has bodies taken together that are said to be JSON: each that is has to come as what it is, each other is a dead letter.
async function takeTogether(queue, bodies) {
  const found = [];
  queue.handle('q', (body) => void found.push(body), { maxParallelism: 64 });
  await queue.enqueueMany(
    'q',
    bodies.map((body) => ({ body: Buffer.from(body), contentType: 'application/json' })),
  );
  await queue.start();
  assert.ok(await queue.waitIdle({ timeout: 20_000 }));
  const told = bodies.flatMap((body) => {
    try {
      return [JSON.parse(typeof body === 'string' ? body : '', refuseInfinity)];
    } catch {
      return [];
    }
  });
  assert.deepEqual(found, told);
  assert.equal(await queue.deadLetters.purge(), bodies.length - told.length);
  await queue.stop();
}

test('a body that does not decode is a dead letter, and the handler is not called', async (t) => {
  let calls = 0;
  const queue = await broker(t);
  queue.handle('q', () => void calls++);
  await queue.enqueue('q', Buffer.from('{torn'), { contentType: 'application/json' });
  await queue.enqueue('q', Buffer.from([0xc0]), { contentType: 'application/json' });
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  assert.equal(calls, 0);
  assert.deepEqual(
    (await queue.deadLetters.list()).map(({ reason }) => reason),
    ['decode', 'decode'],
  );
});

test('children come with the ack, or not at all', async (t) => {
  const queue = await handled(t, (_, ctx) => {
    ctx.enqueue('child', ctx.attempt, { correlationId: 'own' });
    assert.throws(() => ctx.enqueue('a b', 1), { code: 'INVALID' });
    assert.throws(() => ctx.enqueue('child', 1n), TypeError);
    if (ctx.attempt === 1) throw new Error('not yet');
  });
  const children = await queue.receiveMany('child', 10, { timeout: 0 });
  assert.deepEqual(
    children.map(({ body, correlationId }) => [body, correlationId]),
    [[2, 'own']],
  );
});

// It was taken for a class, by the word that it begins with.
test('a method may be called class', async (t) => {
  const { class: method } = {
    class(body) {
      return body;
    },
  };
  assert.equal((await handled(t, method)).metrics().acked, 1);
});

test('several run at once, up to maxParallelism', async (t) => {
  const queue = await broker(t);
  let now = 0;
  let most = 0;
  queue.handle(
    'q',
    async () => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setTimeout(resolve, 2));
      now--;
    },
    { maxParallelism: 4 },
  );
  await queue.enqueueMany(
    'q',
    Array.from({ length: 40 }, (_, i) => i),
  );
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  assert.equal(most, 4);
  assert.equal(queue.metrics().acked, 40);
});

test('a timeout aborts the signal, which is made when it is first read', async (t) => {
  const reasons = [];
  const options = { timeout: 20, cancelGrace: 5000, maxRetries: 0 };
  const queue = await handled(
    t,
    async (_, ctx) => {
      await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
      reasons.push(ctx.signal.reason.reason);
      ctx.signal.throwIfAborted();
    },
    { options },
  );
  assert.deepEqual(reasons, ['timeout']);
  assert.equal((await queue.deadLetters.list())[0].error, 'CancelledError: the attempt was cancelled: timeout');
  const late = await handled(
    t,
    async (_, ctx) => {
      await new Promise((resolve) => setTimeout(resolve, 100));
      assert.equal(ctx.signal.aborted, true);
    },
    { options },
  );
  assert.equal(late.metrics().acked, 1, 'returning normally is an ack');
});

test('a handler that never ends loses its lease and gets a substitute', async (t) => {
  const queue = await broker(t);
  const contexts = [];
  queue.handle(
    'q',
    (_, ctx) => {
      contexts.push(ctx);
      return ctx.attempt === 1 ? new Promise(() => {}) : undefined;
    },
    { timeout: 20, cancelGrace: 20 },
  );
  await queue.enqueue('q', 1);
  await queue.start();
  await until(() => queue.metrics().acked === 1);
  const { stuck, timeouts } = queue.metrics();
  assert.deepEqual([stuck, timeouts], [1, 1]);
  assert.throws(() => contexts[0].extend(1000), { code: 'STALE_LEASE' });
});

test('extending moves the deadline, where that is allowed', async (t) => {
  const before = [];
  await handled(t, (_, ctx) => {
    const first = ctx.deadline;
    ctx.extend(600_000);
    before.push(ctx.deadline - first);
    assert.throws(() => ctx.extend(25 * 3_600_000), { code: 'INVALID' });
  });
  assert.ok(before[0] > 400_000);
  const queue = await handled(t, (_, ctx) => ctx.extend(1000), {
    options: { leaseExtensionEnabled: false, maxRetries: 0 },
  });
  assert.match((await queue.deadLetters.list())[0].error, /leaseExtensionEnabled/);
});

test('a context says little when its handler has ended, and never of another message', async (t) => {
  let first;
  await handled(t, (_, ctx) => {
    first = ctx;
  });
  assert.equal(first.attempt, 1);
  assert.equal(first.signal.aborted, false);
  for (const name of ['headers', 'raw', 'deadline']) {
    assert.throws(() => first[name], { code: 'STALE_LEASE' }, name);
  }
});

test('a second handler replaces the first when its calls have ended', async (t) => {
  const queue = await broker(t);
  const calls = [];
  let letGo;
  queue.handle('q', async () => {
    calls.push('first');
    await new Promise((resolve) => (letGo = resolve));
  });
  await queue.start();
  await queue.enqueueMany('q', [1, 2, 3]);
  await until(() => letGo !== undefined);
  queue.handle('q', () => void calls.push('never'));
  queue.handle('q', () => void calls.push('second'), { maxParallelism: 2 });
  assert.throws(() => queue.handle('q', () => {}, { timeout: 0 }), { code: 'INVALID' });
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(calls, ['first']);
  letGo();
  await until(() => queue.metrics().acked === 3);
  assert.deepEqual(calls, ['first', 'second', 'second']);
  assert.equal(queue.metrics().parallelism, 2);
});

// One that never settled was waited for by the handler that was to follow it, and the worker that had taken its place never left:
// the next messages waited, and stop and close hung.
test('a handler that lost its lease keeps neither the next one nor the close waiting', async (t) => {
  const options = { timeout: 50, cancelGrace: 50, maxRetries: 0 };
  for (const after of [0, 300]) {
    const queue = await broker(t);
    let calls = 0;
    queue.handle('q', () => new Promise(() => {}), options);
    await queue.start();
    await queue.enqueue('q', 1);
    await until(() => queue.metrics().inFlight === 1 || queue.metrics().stuck === 1);
    await new Promise((resolve) => setTimeout(resolve, after));
    queue.handle('q', () => void calls++);
    await queue.enqueue('q', 2);
    await until(() => calls === 1);
    assert.equal(queue.metrics().stuck, 1);
    await queue.stop({ timeout: 500 });
    await queue.close({ timeout: 500 });
  }
});

test('a handler that replaces itself and goes on keeps no stop waiting', async (t) => {
  const queue = await broker(t);
  let reason;
  queue.handle(
    'q',
    async (_, ctx) => {
      queue.handle('q', () => {});
      ctx.signal.addEventListener('abort', () => (reason = ctx.signal.reason.reason));
      await new Promise(() => {});
    },
    { cancelGrace: 50 },
  );
  await queue.start();
  await queue.enqueue('q', 1);
  await until(() => queue.metrics().inFlight === 1);
  await assert.rejects(queue.stop({ timeout: 100 }), { code: 'TIMEOUT' });
  assert.equal(reason, 'shutdown');
  await queue.start();
  await until(() => queue.metrics().acked === 1);
});

/** It was registered while the stop that its predecessor had waited for was still at it, refused, and lost. */
test('a handler that waits for another one is there after a stop', async (t) => {
  const failed = [];
  const log = (_, event) => event === 'handle_failed' && failed.push(event);
  for (let round = 0; round < 20; round++) {
    const queue = await broker(t, { log });
    const calls = [];
    let letGo;
    queue.handle('q', () => new Promise((resolve) => (letGo = resolve)), { cancelGrace: 5 });
    await queue.start();
    await queue.enqueue('q', 1);
    await until(() => letGo !== undefined);
    queue.handle('q', (body) => void calls.push(body));
    const stopping = queue.stop(round % 2 === 0 ? {} : { timeout: 5 }).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 2));
    if (round % 2 === 0) letGo();
    await stopping;
    await queue.start();
    await queue.enqueue('q', 2);
    await until(() => calls.includes(2));
    await queue.close();
  }
  assert.deepEqual(failed, []);
});

test('of handlers that wait for their turn the last one is registered', async (t) => {
  const queue = await broker(t);
  const calls = [];
  let letGo;
  queue.handle('busy', () => new Promise((resolve) => (letGo = resolve)));
  await queue.start();
  await queue.enqueue('busy', 1);
  await until(() => letGo !== undefined);
  const stopping = queue.stop();
  await until(() => queue.metrics().queues.busy.inFlight === 1);
  for (const name of ['first', 'second', 'third']) queue.handle('q', () => void calls.push(name));
  letGo();
  await stopping;
  await queue.start();
  await queue.enqueue('q', 1);
  assert.equal(await queue.waitIdle({ timeout: 10_000 }), true);
  assert.deepEqual(calls, ['third']);
});

/** It waited for room that only the ack of its own message could make. */
test('an enqueue inside a handler does not wait for room', async (t) => {
  const queue = await broker(t, { capacity: 1, onFull: 'block', blockTimeout: 600_000 });
  const codes = [];
  queue.handle('q', async () => {
    const asked = [queue.enqueue('r', 1), queue.enqueueMany('r', [1, 2])];
    for (const one of asked) codes.push(await one.catch(({ code }) => code));
  });
  await queue.enqueue('q', 1);
  const behind = queue.enqueue('q', 2);
  await queue.start();
  await until(() => codes.length === 4);
  await behind;
  assert.deepEqual(codes, ['FULL', 'FULL', 'FULL', 'FULL']);
});

test('what a handler would wait for itself for is a DEADLOCK', async (t) => {
  const codes = [];
  const queue = await broker(t);
  queue.handle('q', () => {
    for (const call of ['stop', 'close', 'waitIdle']) queue[call]().catch(({ code }) => codes.push(code));
  });
  await queue.enqueue('q', 1);
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  assert.deepEqual(codes, ['DEADLOCK', 'DEADLOCK', 'DEADLOCK']);
});

test('handlers that never wait leave the loop its turns', async (t) => {
  const queue = await broker(t);
  let timers = 0;
  const timer = setInterval(() => timers++, 1);
  t.after(() => clearInterval(timer));
  queue.handle('q', async () => {
    await null;
    const end = performance.now() + 0.05;
    while (performance.now() < end);
  });
  for (let i = 0; i < 5; i++)
    await queue.enqueueMany(
      'q',
      Array.from({ length: 1000 }, () => 1),
    );
  await queue.start();
  await until(() => queue.metrics().acked === 5000);
  assert.ok(timers > 10, `${timers} turns`);
});

test('scale, pause and resume reach a handler on the loop', async (t) => {
  const queue = await broker(t);
  let now = 0;
  let letGo;
  const held = new Promise((resolve) => (letGo = resolve));
  queue.handle('q', async () => {
    now++;
    await held;
  });
  await queue.enqueueMany('q', [1, 2, 3, 4, 5]);
  await queue.start();
  await until(() => now === 1);
  queue.scale('q', 3);
  await until(() => now === 3);
  queue.pause('q');
  letGo();
  await until(() => queue.metrics().acked === 3);
  assert.equal(queue.metrics().ready, 2);
  queue.resume('q');
  await until(() => queue.metrics().acked === 5);
});

test('a cancelled message aborts the signal of its handler, and is gone', async (t) => {
  const queue = await broker(t);
  let reason;
  queue.handle('q', async (_, ctx) => {
    await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
    reason = ctx.signal.reason.reason;
    throw ctx.signal.reason;
  });
  const { id } = await queue.enqueue('q', 1);
  await queue.start();
  await until(() => queue.metrics().inFlight === 1);
  assert.equal(await queue.cancel(id), true);
  await until(() => queue.metrics().inFlight === 0);
  assert.equal(reason, 'cancelled');
  assert.equal(queue.metrics().ready, 0);
  assert.equal(queue.metrics().cancelled, 1);
});
