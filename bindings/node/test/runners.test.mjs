// Test runners of others: a suite that opens a broker and closes it ends by itself, and leaves nothing open.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { installed, program, run, tools } from './support.mjs';

// What a program does with a broker and with a test broker, in the form that all three runners understand.
const SUITE = `
test('a broker is opened, used and closed', async () => {
  const broker = await open(':memory:');
  let handled = 0;
  broker.handle('orders', async () => void handled++);
  await broker.start();
  await broker.enqueue('orders', { id: 1 });
  await broker.waitIdle();
  await broker.close();
  if (handled !== 1) throw new Error('it was not handled');
});

test('a test broker is drained and asked', async () => {
  const broker = await testBroker();
  broker.handle('orders', (order, ctx) => ctx.enqueue('mail', { order: order.id }, { delay: 1000 }));
  await broker.enqueue('orders', { id: 1, at: new Date() });
  await drain(broker);
  assertEnqueued(broker, 'mail', { order: 1 }, { delay: 1000 });
  assertEnqueued(broker, 'orders', { id: 1 });
  assertNotEnqueued(broker, 'mail', { order: 2 });
  await broker.close();
});
`;

const NAMES = '{ assertEnqueued, assertNotEnqueued, drain, testBroker }';

const FAILING = `
test('a failure says what was there', async () => {
  const broker = await testBroker();
  try {
    await broker.enqueue('orders', { id: 'ORD-1' });
    assertEnqueued(broker, 'orders', { id: 'ORD-2' });
  } finally {
    await broker.close();
  }
});
`;

// Every threadsafe function of the addon was made when the package was loaded, and was there until the thread ended: Jest said of
// each file that used the package that something was left open.
test('jest finds nothing open when brokers are closed, and ends by itself', async (t) => {
  const at = tools(t, 'jest');
  if (at === undefined) return;
  const head = `const { open } = require('@libmq/node'); const ${NAMES} = require('@libmq/node/testing');`;
  const app = installed(at, {
    'package.json': '{ "jest": {} }',
    'one.test.js': head + SUITE,
    'two.test.js': head + SUITE,
  });
  const args = [join(at, 'node_modules/jest/bin/jest.js'), '--detectOpenHandles', '--runInBand'];
  const { code, stderr } = await run(app, process.execPath, args);
  assert.equal(code, 0, stderr);
  assert.doesNotMatch(stderr, /open handle|did not exit/);
  assert.match(stderr, /Tests: +4 passed/);
  const failing = installed(at, { 'package.json': '{ "jest": {} }', 'one.test.js': head + FAILING });
  const ended = await run(failing, process.execPath, args);
  assert.equal(ended.code, 1);
  assert.match(ended.stderr, /body\.id is 'ORD-1', but 'ORD-2' is expected/);
});

test('vitest runs the same suite, and ends by itself', async (t) => {
  const at = tools(t, 'vitest');
  if (at === undefined) return;
  const head = `import { expect, test } from 'vitest'; import { open } from '@libmq/node';
    import ${NAMES} from '@libmq/node/testing';`;
  const matching = `test('a matcher of the runner is one', async () => {
    const broker = await testBroker();
    await broker.enqueue('orders', { id: 'ORD-1' });
    assertEnqueued(broker, 'orders', { id: expect.any(String) });
    expect(() => assertEnqueued(broker, 'orders', { id: expect.any(Number) })).toThrow('but Any<Number> is expected');
    await broker.close();
  });`;
  const app = installed(at, { 'package.json': '{}', 'one.test.mjs': head + SUITE + matching });
  const bin = join(at, 'node_modules/vitest/vitest.mjs');
  for (const pool of ['forks', 'threads']) {
    const { code, stdout, stderr } = await run(app, process.execPath, [bin, 'run', '--pool', pool, '--no-color']);
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /3 passed/);
    assert.doesNotMatch(stdout + stderr, /close timed out|something prevents/i);
  }
});

test("node's own runner runs the same suite, and ends by itself", async () => {
  const { code, stdout } = await program(`
    const { test } = await import('node:test');
    const ${NAMES} = await import(new URL('testing/index.mjs', LIBRARY));
    ${SUITE}`);
  assert.equal(code, 0, stdout);
  assert.match(stdout, /pass 2/);
});

test('what a runner could see of the package is there while a broker or a call is, and no longer', async () => {
  const { code, stderr } = await program(`
    const { createHook } = await import('node:async_hooks');
    const assert = (await import('node:assert/strict')).default;
    const there = new Set();
    createHook({
      init: (id, type) => type === 'napi_rs_threadsafe_function' && there.add(id),
      destroy: (id) => there.delete(id),
    }).enable();
    const settled = async (count) => {
      for (let turn = 0; turn < 1000 && there.size !== count; turn++) await pause(1);
      assert.equal(there.size, count);
    };
    for (let round = 0; round < 3; round++) {
      const [one, two] = [await open(':memory:'), await open(':memory:')];
      await settled(1);
      await one.close();
      await two.enqueue('q', round);
      await settled(1);
      await two.close();
      await settled(0);
    }
    await assert.rejects(open('/dev/null/none'));
    await settled(0);
    await assert.rejects(libmq.verify('/dev/null/none'));
    await settled(0);
    const [last] = await Promise.all([open(':memory:'), assert.rejects(open('/dev/null/none'))]);
    await settled(1);
    await last.enqueue('q', 1);
    await last.close();
    await settled(0);`);
  assert.equal(code, 0, stderr);
});

// Before 20.4 Node has no such symbols: a broker then had a method called "undefined", and a scope was never closed.
test('where there is no Symbol.asyncDispose, brokers and scopes have the one that compilers use', async () => {
  const { code, stderr } = await program(`
    const assert = (await import('node:assert/strict')).default;
    const { createRequire } = await import('node:module');
    const require = createRequire(LIBRARY);
    for (const name of Object.keys(require.cache)) delete require.cache[name];
    const { Symbol } = globalThis;
    const hidden = new Set(['asyncDispose', 'dispose']);
    globalThis.Symbol = new Proxy({}, { get: (_, name) => (hidden.has(name) ? undefined : Symbol[name]) });
    const disposal = require('./disposal.js');
    globalThis.Symbol = Symbol;
    assert.equal(disposal.asyncDispose, Symbol.for('Symbol.asyncDispose'));
    assert.equal(disposal.dispose, Symbol.for('Symbol.dispose'));
    const broker = await require('./index.js').open(':memory:');
    assert.ok(!('undefined' in broker));
    let closed = 0;
    broker.handle('q', () => {}, { scope: () => ({ [Symbol.for('Symbol.asyncDispose')]: () => void closed++ }) });
    await broker.enqueue('q', 1);
    await broker.start();
    await broker.waitIdle();
    assert.equal(closed, 1);
    await broker[Symbol.for('Symbol.asyncDispose')]();
    await assert.rejects(broker.enqueue('q', 1), { code: 'CLOSED' });`);
  assert.equal(code, 0, stderr);
});

test('the package names its exports for both kinds of module', () => {
  const { exports } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  for (const path of ['.', './testing', './nestjs'])
    assert.deepEqual(Object.keys(exports[path]), ['import', 'require']);
});
