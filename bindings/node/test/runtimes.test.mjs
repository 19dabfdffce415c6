// Bun and Deno: a program that does what most do. What is promised is promised for Node; this says whether it works there.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { installed, run, skip } from './support.mjs';

const PROGRAM = `
  import assert from 'node:assert/strict';
  import { setTimeout as pause } from 'node:timers/promises';
  import { LibmqError, RejectError, RetryError, open, verify } from '@libmq/node';
  import { assertEnqueued, drain, testBroker } from '@libmq/node/testing';

  const broker = await open('data');
  const seen = [];
  broker.handle('orders', async (order, ctx) => {
    seen.push([order.id, ctx.attempt]);
    await pause(1);
    if (order.id === 'again' && ctx.attempt === 1) throw new RetryError(0);
    if (order.id === 'never') throw new RejectError('no');
    ctx.enqueue('mail', { order: order.id });
  }, { maxParallelism: 4 });
  await broker.start();
  const { id, status } = await broker.enqueue('orders', { id: 'once' }, { dedupKey: 'k' });
  assert.equal(typeof id, 'bigint');
  assert.equal(status, 'accepted');
  await broker.enqueueMany('orders', [{ id: 'again' }, { id: 'never' }]);
  assert.equal(await broker.waitIdle({ timeout: 20_000 }), true);
  assert.deepEqual(seen.map(String).sort(), ['again,1', 'again,2', 'never,1', 'once,1']);
  const mail = await broker.receiveMany('mail', 10, { timeout: 1000 });
  assert.deepEqual(mail.map(({ body }) => body.order).sort(), ['again', 'once']);
  for (const one of mail) await one.ack();
  const [letter] = await broker.deadLetters.list();
  assert.equal(letter.reason, 'no');
  await broker.enqueue('bytes', Buffer.from([1, 2, 3]));
  const bytes = await broker.receive('bytes', { timeout: 1000 });
  assert.deepEqual([...bytes.body], [1, 2, 3]);
  await bytes.release();
  await assert.rejects(open('data', { capacity: 5 }), (error) => error instanceof LibmqError && error.code === 'LOCKED');
  await broker.close();
  assert.equal((await verify('data')).sound, true);
  const again = await open('data');
  assert.equal(again.recovery.messages, 1);
  await again.close();
  const tested = await testBroker();
  tested.handle('q', (body, ctx) => ctx.enqueue('r', body));
  await tested.enqueue('q', 1);
  await drain(tested);
  assertEnqueued(tested, 'r', 1);
  await tested.close();
  console.log('all of it');`;

const RUNTIMES = {
  bun: ['run'],
  deno: ['run', '--allow-ffi', '--allow-read', '--allow-env', '--allow-sys'],
};

// Once in a hundred runs or so one on Bun 1.3 has failed, on a crowded machine, and it is not known why: it may try again. On
// Deno none has.
const TRIES = { bun: 3, deno: 1 };

for (const [name, flags] of Object.entries(RUNTIMES)) {
  test(`a program runs on ${name}, and ends by itself`, async (t) => {
    const runtime = join(process.env.LIBMQ_NODE_RUNTIMES ?? '/none', 'node_modules/.bin', name);
    if (!existsSync(runtime)) return skip(t, `Node: not run on ${name}, which npm could not fetch`);
    let ended;
    for (let tries = TRIES[name]; tries > 0 && ended?.code !== 0; tries--) {
      if (ended !== undefined) t.diagnostic(`${ended.signal ?? ended.code}: ${ended.stdout}${ended.stderr}`);
      const app = installed(tmpdir(), { 'package.json': '{ "type": "module" }', 'program.mjs': PROGRAM });
      const env = { DENO_DIR: join(app, 'deno'), DENO_NO_UPDATE_CHECK: '1' };
      ended = await run(app, runtime, [...flags, 'program.mjs'], { env });
    }
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    assert.equal(ended.stdout, 'all of it\n');
  });
}
