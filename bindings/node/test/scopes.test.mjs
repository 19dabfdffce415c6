// Scopes, handlers that are classes or objects, and the async context of an attempt.

import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { test } from 'node:test';

import { RejectError, ReleaseError, RetryError } from '../lib/index.mjs';
import { broker, directory, program, until } from './support.mjs';

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A broker that has handled one message.
async function handled(t, handler, { options, ...init } = {}) {
  const queue = await broker(t, { defaultMaxRetries: 0, ...init });
  queue.handle('q', handler, options);
  await queue.enqueue('q', 1);
  await queue.start();
  assert.equal(await queue.waitIdle({ timeout: 10_000 }), true);
  return queue;
}

async function letterOf(queue) {
  const [letter] = await queue.deadLetters.list();
  // Below it stands where it came from.
  return letter === undefined ? undefined : [letter.reason, letter.error.split('\n\n')[0]];
}

test('a scope is opened for each attempt, given to its handler, and closed before the ack', async (t) => {
  const told = [];
  let queue;
  const scope = async (ctx) => {
    assert.equal(ctx.scope, undefined);
    await pause(1);
    told.push(`open ${ctx.attempt}`);
    return {
      attempt: ctx.attempt,
      async [Symbol.asyncDispose](succeeded) {
        await pause(1);
        ctx.extend(1000);
        told.push(`close ${ctx.attempt} ${succeeded} ${queue.metrics().inFlight} ${queue.metrics().acked}`);
      },
    };
  };
  queue = await broker(t, { scope });
  queue.handle('q', async (body, ctx) => {
    told.push(`handle ${body} ${ctx.scope.attempt}`);
    await pause(1);
    if (ctx.attempt === 1) throw new Error('not yet');
  });
  await queue.enqueue('q', 'x');
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  const first = ['open 1', 'handle x 1', 'close 1 false 1 0'];
  assert.deepEqual(told, [...first, 'open 2', 'handle x 2', 'close 2 true 1 0']);
  assert.equal(queue.metrics().acked, 1);
});

test('several attempts at once have a scope each, and each closes its own', async (t) => {
  let opened = 0;
  let open = 0;
  let most = 0;
  const scope = async () => {
    const number = ++opened;
    most = Math.max(most, ++open);
    await pause(number % 3);
    return {
      number,
      closed: 0,
      async [Symbol.asyncDispose]() {
        await pause(number % 2);
        open--;
        assert.equal(++this.closed, 1);
      },
    };
  };
  const queue = await broker(t, { scope });
  const scopes = new Set();
  queue.handle(
    'q',
    async (body, ctx) => {
      const mine = ctx.scope;
      scopes.add(mine);
      await pause(body % 4);
      assert.equal(ctx.scope, mine);
      assert.equal(mine.closed, 0);
    },
    { maxParallelism: 8 },
  );
  await queue.enqueueMany(
    'q',
    Array.from({ length: 100 }, (_, i) => i),
  );
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  assert.deepEqual([queue.metrics().acked, opened, scopes.size, open], [100, 100, 100, 0]);
  assert.ok(most > 1 && most <= 8, `${most} at once`);
  assert.ok([...scopes].every(({ closed }) => closed === 1));
});

test('a close that fails fails the attempt, and what came with its ack is gone', async (t) => {
  for (const dispose of [Symbol.asyncDispose, Symbol.dispose]) {
    for (const close of [
      () => {
        throw new Error('not closed');
      },
      async () => {
        await pause(1);
        throw new Error('not closed');
      },
    ]) {
      if (dispose === Symbol.dispose && close.constructor.name === 'AsyncFunction') continue;
      const queue = await handled(t, (_, ctx) => ctx.enqueue('child', 1), { scope: () => ({ [dispose]: close }) });
      assert.deepEqual(await letterOf(queue), ['max_retries', 'not closed']);
      assert.equal(await queue.receive('child', { timeout: 0 }), null);
      assert.equal(queue.metrics().handlerErrors, 1);
    }
  }
  const scope = () => ({
    [Symbol.asyncDispose]() {
      throw new RejectError('by the close');
    },
  });
  assert.deepEqual(await letterOf(await handled(t, () => {}, { scope })), ['by the close', '']);
});

test('the first failure is the attempts, and the close is done all the same', async (t) => {
  const heard = [];
  let closes = 0;
  const scope = () => ({
    async [Symbol.asyncDispose](succeeded) {
      assert.equal(succeeded, false);
      closes++;
      throw new Error('nor closed');
    },
  });
  const log = (_, event, fields) => event === 'scope_error' && heard.push([fields.queue, fields.error.message]);
  const ends = [
    [new Error('failed'), ['max_retries', 'failed']],
    [new RejectError('enough'), ['enough', '']],
    [new RetryError(0, 'again'), ['max_retries', 'again']],
  ];
  for (const [error, letter] of ends) {
    const handler = async () => {
      await pause(1);
      throw error;
    };
    assert.deepEqual(await letterOf(await handled(t, handler, { scope, log })), letter);
  }
  assert.equal(closes, 3);
  assert.deepEqual(heard, Array(3).fill(['q', 'nor closed']));
});

test('a factory that fails, or opens what is no scope, is a failed attempt', async (t) => {
  let calls = 0;
  const hostile = {
    get [Symbol.asyncDispose]() {
      throw new Error('a getter');
    },
  };
  for (const [scope, text] of [
    [() => Promise.reject(new Error('no session')), 'no session'],
    [
      () => {
        throw 'no session';
      },
      'no session',
    ],
    [() => {}, 'TypeError: the scope is undefined, but has to be an object'],
    [async () => null, 'TypeError: the scope is null, but has to be an object'],
    [() => 'text', 'TypeError: the scope is string, but has to be an object'],
    [
      () => ({ [Symbol.asyncDispose]: 5 }),
      'TypeError: the scope cannot be closed: its Symbol.asyncDispose is no function',
    ],
    [() => hostile, 'a getter'],
  ]) {
    const queue = await handled(t, () => void calls++, { scope });
    assert.deepEqual(await letterOf(queue), ['max_retries', text]);
  }
  assert.equal(calls, 0);
  const attempts = [];
  const scope = ({ attempt }) => {
    attempts.push(attempt);
    if (attempts.length === 1) throw new ReleaseError();
    return {};
  };
  const queue = await handled(t, () => {}, { scope });
  assert.deepEqual(attempts, [1, 1]);
  assert.equal(queue.metrics().acked, 1);
});

test('a scope is closed also when its attempt was cancelled, or has lost its lease', async (t) => {
  const closed = [];
  const scope = (ctx) => ({ [Symbol.asyncDispose]: async (succeeded) => void closed.push([ctx.attempt, succeeded]) });
  const until20 = async (_, ctx) => {
    await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
    ctx.signal.throwIfAborted();
  };
  await handled(t, until20, { scope, options: { timeout: 20 } });
  assert.deepEqual(closed, [[1, false]]);
  closed.length = 0;
  const queue = await broker(t, { scope });
  let letGo;
  queue.handle('q', (_, { attempt }) => attempt === 1 && new Promise((resolve) => (letGo = resolve)), {
    timeout: 20,
    cancelGrace: 20,
  });
  await queue.enqueue('q', 1);
  await queue.start();
  await until(() => queue.metrics().acked === 1);
  letGo();
  await until(() => closed.length === 2);
  assert.deepEqual(closed, [
    [2, true],
    [1, true],
  ]);
  await until(() => queue.metrics().staleSettles === 1);
  assert.equal(queue.metrics().acked, 1);
});

test('stop and close wait for the scope, and are a DEADLOCK in it', async (t) => {
  const codes = [];
  let queue;
  const waits = () => queue.stop().catch(({ code }) => codes.push(code));
  const scope = () => {
    waits();
    return {
      resolve(of) {
        waits();
        return new of();
      },
      async [Symbol.asyncDispose]() {
        waits();
        await pause(20);
        codes.push('closed');
      },
    };
  };
  queue = await broker(t, { scope });
  class Handler {
    constructor() {
      waits();
    }

    handle() {
      waits();
    }
  }
  queue.handle('q', Handler);
  await queue.enqueue('q', 1);
  await queue.start();
  await until(() => codes.length === 5);
  await queue.close();
  assert.deepEqual(codes, [...Array(5).fill('DEADLOCK'), 'closed']);
});

test('a handlers own scope replaces the brokers, and a shared brokers threads have one each', async (t) => {
  const queue = await broker(t, { scope: () => ({ of: 'broker' }) });
  const seen = [];
  const handler = (_, ctx) => void seen.push(ctx.scope.of);
  queue.handle('own', handler, { scope: () => ({ of: 'handler' }) });
  queue.handle('absent', handler, { scope: undefined });
  await queue.enqueue('own', 1);
  await queue.enqueue('absent', 1);
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  assert.deepEqual(seen.sort(), ['broker', 'handler']);
  const ended = await program(
    `const broker = await open(args[0], { scope: () => ({ of: 'main' }) });
    const worker = new threads.Worker(\`import('\${LIBRARY}').then(async (libmq) => {
      const { parentPort: port, workerData } = require('node:worker_threads');
      const broker = await libmq.open(workerData, { scope: () => ({ of: 'worker' }) });
      const schema = { '~standard': { version: 1, vendor: 'own', validate: async (value) => ({ value: -value }) } };
      const text = () => broker.prometheus().includes('libmq_ready{queue="w"}');
      broker.handle('w', class { handle(body, ctx) { port.postMessage([ctx.scope.of, body, text()].join()); } }, { schema });
      await broker.start();
    })\`, { eval: true, execArgv: [], workerData: args[0] });
    broker.handle('m', (_, ctx) => console.log(ctx.scope.of));
    await broker.enqueue('w', 1);
    console.log(await new Promise((resolve) => worker.once('message', resolve)));
    await broker.enqueue('m', 1);
    await broker.waitIdle();
    await worker.terminate();
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'worker,-1,true\nmain\n'], ended.stderr);
});

test('a worker that is terminated with its scopes open gives its messages back', async () => {
  const ended = await program(
    `const broker = await open(args[0]);
    await broker.enqueueMany('q', [1, 2, 3, 4]);
    for (let round = 0; round < 10; round++) {
      const worker = new threads.Worker(\`import('\${LIBRARY}').then(async (libmq) => {
        const { parentPort: port, workerData } = require('node:worker_threads');
        const never = () => new Promise(() => {});
        const scope = async () => (workerData.round % 2 ? {} : never());
        const broker = await libmq.open(workerData.path, { scope, log: () => {} });
        broker.handle('q', class { handle() { return never(); } }, { maxParallelism: 4 });
        await broker.start();
        while (broker.metrics().inFlight < 4) await new Promise((resolve) => setTimeout(resolve, 1));
        port.postMessage('held');
      })\`, { eval: true, execArgv: [], workerData: { path: args[0], round } });
      await new Promise((resolve) => worker.once('message', resolve));
      await worker.terminate();
      if (broker.metrics().inFlight !== 0) throw new Error('held by nobody');
    }
    console.log((await broker.receiveMany('q', 10)).map(({ attempt }) => attempt).join());
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.signal, ended.stdout], [0, null, '1,1,1,1\n'], ended.stderr);
});

test('a class is made once an attempt, by its scope where that resolves, else by new', async (t) => {
  const made = [];
  class Handler {
    constructor(...args) {
      made.push(args);
    }

    async handle(body, ctx) {
      await null;
      assert.ok(this instanceof Handler);
      if (ctx.attempt === 1) throw new Error('not yet');
      made.push([body]);
    }
  }
  const options = { maxRetries: 1 };
  const resolving = { resolve: (of) => new of('resolved') };
  const later = { resolve: async (of) => new of('later') };
  for (const [scope, args] of [
    [undefined, []],
    [() => ({}), []],
    [() => resolving, ['resolved']],
    [async () => later, ['later']],
  ]) {
    made.length = 0;
    const queue = await handled(t, Handler, { scope, options });
    assert.equal(queue.metrics().acked, 1);
    assert.deepEqual(made, [args, args, [1]]);
  }
});

test('whatever a class comes as, its method is called', async (t) => {
  function Compiled() {}
  Compiled.prototype.handle = function () {
    this.constructor.calls = (this.constructor.calls ?? 0) + 1;
  };
  class Field {
    handle = () => void (Field.calls = (Field.calls ?? 0) + 1);
  }
  class Base {
    handle() {
      this.constructor.calls = (this.constructor.calls ?? 0) + 1;
    }
  }
  class Derived extends Base {}
  for (const handler of [Compiled, Field, Derived]) {
    const queue = await handled(t, handler);
    assert.deepEqual([queue.metrics().acked, handler.calls], [1, 1]);
  }
});

test('an object with a method is called as it is then', async (t) => {
  const calls = [];
  const handler = {
    name: 'first',
    handle(body, ctx) {
      calls.push([this.name, body, ctx.attempt]);
    },
  };
  const queue = await handled(t, handler);
  handler.handle = () => void calls.push('replaced');
  await queue.enqueue('q', 2);
  await queue.waitIdle({ timeout: 10_000 });
  assert.deepEqual(calls, [['first', 1, 1], 'replaced']);
});

test('a class that cannot be made, or is no handler, fails its attempts', async (t) => {
  class Handler {
    handle() {}
  }
  class Throws extends Handler {
    constructor() {
      super();
      throw new Error('no database');
    }
  }
  class Without {
    constructor() {
      this.handle = undefined;
    }
  }
  class Generates {
    *handle() {}
  }
  const resolving = (resolve) => ({ scope: () => ({ resolve }) });
  const reject = () => Promise.reject(new Error('unknown'));
  for (const [handler, init, text] of [
    [Throws, {}, 'no database'],
    [Without, {}, 'TypeError: new Without() is nothing with a method handle'],
    [Generates, {}, 'LibmqError: a generator as a handler is not supported'],
    [Handler, resolving(() => undefined), 'TypeError: scope.resolve(Handler) is nothing with a method handle'],
    [Handler, resolving(async () => null), 'TypeError: scope.resolve(Handler) is nothing with a method handle'],
    [Handler, resolving(reject), 'unknown'],
  ]) {
    assert.deepEqual(await letterOf(await handled(t, handler, init)), ['max_retries', text]);
  }
});

/** What `enterWith` left in one attempt was in the next ones, and a handler did not have the store it was registered in. */
test('an attempt has the async context of its registration, through scope and handler, and leaves nothing to others', async (t) => {
  const storage = new AsyncLocalStorage();
  const seen = [];
  const see = (where) => seen.push(`${where} ${storage.getStore()}`);
  let opened = 0;
  const scope = async () => {
    see('open');
    storage.enterWith(++opened);
    await pause(1);
    return {
      resolve(of) {
        see('resolve');
        return new of();
      },
      async [Symbol.asyncDispose]() {
        see('close');
        await pause(1);
        see('closed');
      },
    };
  };
  const queue = await broker(t, {});
  class Handler {
    async handle() {
      see('handle');
      await pause(1);
      see('handled');
    }
  }
  storage.run('registered', () => {
    queue.handle('first', () => {}, { scope });
    queue.handle('q', () => see('never'));
    queue.handle('q', (_, ctx) => {
      see(`plain ${ctx.attempt}`);
      storage.enterWith('left behind');
      if (ctx.attempt < 3) throw new Error('again');
    });
    queue.handle('scoped', Handler, { scope });
  });
  await queue.enqueue('q', 1);
  await storage.run('starts', () => queue.start());
  await queue.waitIdle({ timeout: 10_000 });
  assert.deepEqual(seen, ['plain 1 registered', 'plain 2 registered', 'plain 3 registered']);
  seen.length = 0;
  await queue.enqueueMany('scoped', [1, 2]);
  await queue.waitIdle({ timeout: 10_000 });
  const stages = (number) => ['resolve', 'handle', 'handled', 'close', 'closed'].map((where) => `${where} ${number}`);
  assert.deepEqual(seen, ['open registered', ...stages(1), 'open registered', ...stages(2)]);
});
