// What is kept, and told, of what a handler threw.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';

import { directory, handled, program } from './support.mjs';

/** Only a line was kept, and nobody could tell where a handler had failed. */
test('of what a handler threw its calls, its causes and its parts are kept', async (t) => {
  function findOrder() {
    throw new RangeError('no such order', { cause: new TypeError('a cause', { cause: 'the last one' }) });
  }
  const cases = [
    [
      () => findOrder(),
      [
        /^RangeError: no such order\n\nRangeError: no such order\n    at findOrder \(.*failures\.test\.mjs:\d+:\d+\)\n/,
        /\n  cause: TypeError: a cause\n      at findOrder /,
        /\n    cause: the last one$/,
      ],
    ],
    [
      async () => {
        await null;
        throw new AggregateError([new Error('one'), 'two', ...Array(7).fill(3)], 'all of them');
      },
      [
        /^AggregateError: all of them\n\n/,
        /\n  errors\[0\]: Error: one\n      at /,
        /\n  errors\[1\]: two\n/,
        /\n  errors: and 4 more$/,
      ],
    ],
    [
      () => {
        const error = new Error('itself');
        error.cause = error;
        throw error;
      },
      [/^itself\n\nError: itself\n    at /],
    ],
    // One of another realm had no text at all.
    [() => runInNewContext("throw new TypeError('from elsewhere')"), [/^TypeError: from elsewhere(\n\n|$)/]],
    [
      () => {
        throw new DOMException('a name of its own', 'DataError');
      },
      [/^DataError: a name of its own(\n\n|$)/],
    ],
  ];
  for (const [handler, texts] of cases) {
    const queue = await handled(t, handler, { options: { maxRetries: 0 } });
    const [{ error }] = await queue.deadLetters.list();
    for (const text of texts) assert.match(error, text);
    // Neither calls of this package nor those of Node.
    assert.doesNotMatch(error, /[/]lib[/]|node:internal/);
  }
});

test('what is kept of a failure has a bound, and what cannot be shown is left out', async (t) => {
  const far = (depth) =>
    depth === 0 ? new Error('é'.repeat(1000)) : new Error(`level ${depth}`, { cause: far(depth - 1) });
  const hostile = Object.defineProperty(new Error('kept'), 'stack', {
    get() {
      throw new Error('no stack');
    },
  });
  for (const [thrown, text] of [
    [far(50), /^level 50\n\nError: level 50\n/],
    [new Error('x'.repeat(10_000)), /^x{4000,4096}$/],
    [new Error('ä'.repeat(1500)), /^ä{1500}(\n\n|$)/],
    [hostile, /^kept$/],
    [Object.assign(new Error('none'), { stack: undefined }), /^none$/],
    [undefined, /^threw undefined$/],
    [null, /^threw null$/],
    // The first line of these was empty, or ended with nothing behind a colon.
    [new Error(), /^Error(\n\n|$)/],
    [new TypeError(''), /^TypeError(\n\n|$)/],
    [Object.assign(new Error(), { name: undefined }), /^Error(\n\n|$)/],
    ['a text', /^a text$/],
    // These were `threw undefined`, too.
    [function why() {}, /^threw \[Function: why\]$/],
    [{ toJSON() {}, of: 5 }, /^threw \{ toJSON: .*of: 5 \}$/],
  ]) {
    const fails = () => {
      throw thrown;
    };
    const queue = await handled(t, fails, { options: { maxRetries: 0 } });
    const [{ error }] = await queue.deadLetters.list();
    assert.match(error, text);
    assert.ok(Buffer.byteLength(error) <= 4096);
  }
});

// The promise was nobody's: Node ended the program, for what a handler had thrown.
test('a promise that a handler throws is a failed attempt, and is rejected for nobody', async () => {
  const source = `
    const broker = await open(':memory:', { defaultBackoff: 0, log: () => {} });
    class Theirs extends Promise {}
    const mute = () => Object.assign(Promise.reject(new Error('why')), { then: 5 });
    const makes = [() => Promise.reject(new Error('why')), () => Theirs.reject(new Error('why')), mute];
    broker.handle('q', (body) => { throw makes[body](); }, { maxRetries: 0 });
    broker.handle('r', async () => { throw Promise.reject(new Error('why')); }, { maxRetries: 0 });
    await broker.enqueueMany('q', [0, 1, 2]);
    await broker.enqueue('r', 0);
    await broker.start();
    await broker.waitIdle();
    await pause(1);
    for (const { error } of await broker.deadLetters.list()) console.log(error);
    await broker.close();`;
  const ended = await program(source);
  assert.deepEqual([ended.code, ended.stdout], [0, 'threw a promise\n'.repeat(4)], ended.stderr);
});

// One that was the cause, or a part, of what was thrown was nobody's still.
test('a promise within what a handler throws is rejected for nobody', async () => {
  const source = `
    const broker = await open(':memory:', { defaultBackoff: 0, log: () => {} });
    const rejected = () => Promise.reject(new Error('why'));
    const itself = () => {
      const error = new Error('itself');
      error.cause = new Error('of it', { cause: error });
      return Object.assign(error, { errors: [5, null, rejected()] });
    };
    const makes = [
      () => new Error('outer', { cause: rejected() }),
      () => new Error('outer', { cause: new Error('inner', { cause: rejected() }) }),
      () => new AggregateError([new Error('one'), rejected(), new Error('two', { cause: rejected() })], 'all'),
      () => ({ cause: rejected() }),
      () => Object.assign(new libmq.RejectError('no'), { cause: rejected() }),
      itself,
      () => Object.defineProperty(new Error('hostile'), 'cause', { get: () => { throw 5; } }),
    ];
    broker.handle('q', (body) => { throw makes[body](); }, { maxRetries: 0 });
    await broker.enqueueMany('q', [...makes.keys()]);
    await broker.start();
    await broker.waitIdle();
    await pause(1);
    console.log(await broker.deadLetters.count() === makes.length);
    await broker.close();`;
  const ended = await program(source);
  assert.deepEqual([ended.code, ended.stdout], [0, 'true\n'], ended.stderr);
});

// A handler that was not told of stays silent for ever: neither a dead letter nor a retry is printed anywhere.
test('a failure that no log hook hears of is warned of once', async () => {
  const source = (log) => `
    const warnings = [];
    process.on('warning', ({ name, message }) => warnings.push(name + ': ' + message));
    const broker = await open(args[0], { defaultBackoff: 0, log: ${log} });
    for (const queue of ['q', 'r']) broker.handle(queue, () => { throw new TypeError('why'); }, { maxRetries: 1 });
    await broker.enqueue('q', 1);
    await broker.enqueue('r', 1);
    await broker.start();
    await broker.waitIdle();
    await pause(1);
    console.log(warnings.length, /^LibmqWarning: the handler of queue [qr] failed: TypeError: why/.test(warnings[0]));
    await broker.close();`;
  for (const [log, text] of [
    ['undefined', '1 true\n'],
    ['() => {}', '0 false\n'],
  ]) {
    const ended = await program(source(log), directory());
    assert.deepEqual([ended.code, ended.stdout], [0, text], ended.stderr);
  }
});
