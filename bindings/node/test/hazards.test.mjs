// What may go wrong with a program, each in a process of its own: exits, exceptions, collected garbage, blocked loops.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { open } from '../lib/index.mjs';
import { directory, program } from './support.mjs';

async function found(path) {
  const broker = await open(path);
  const { messages, suspects } = broker.recovery;
  await broker.close();
  return { messages, suspects };
}

test('process.exit in a handler ends the program as it says, and counts as a crash', async () => {
  const path = directory();
  for (let crash = 1; crash <= 2; crash++) {
    const ended = await program(
      `
      const broker = await open(args[0]);
      broker.handle('q', () => process.exit(7));
      if (broker.recovery.messages === 0) await broker.enqueue('q', 1);
      await broker.start();`,
      path,
    );
    assert.deepEqual([ended.code, ended.signal, ended.stderr], [7, null, '']);
    assert.deepEqual(await found(path), { messages: 1, suspects: 1 });
  }
});

test('process.exit under load is clean, and what was acked before stays acked', async () => {
  for (let round = 0; round < 5; round++) {
    const path = directory();
    const ended = await program(
      `
      const broker = await open(args[0]);
      let calls = 0;
      broker.handle('q', async () => {
        await null;
        if (++calls === 400) { await pause(0); process.exit(0); }
      }, { maxParallelism: 4 });
      await broker.start();
      for (let i = 0; i < 1000; i++) broker.enqueue('q', i, { durability: i % 2 ? 'os' : 'sync' });
      broker.receive('elsewhere');
      broker.waitIdle();`,
      path,
    );
    assert.deepEqual([ended.code, ended.signal, ended.stderr], [0, null, '']);
    const { suspects } = await found(path);
    assert.ok(suspects <= 4, `${suspects} suspects`);
  }
});

test('a program ends by itself when nothing keeps it', async () => {
  for (const [what, source] of Object.entries({
    'an open broker': '',
    'a producer': `await broker.enqueue('q', 1);`,
    'a handler that was not started': `broker.handle('q', () => {});`,
    'a started one that was told not to': `broker.handle('q', () => {}); await broker.start(); broker.unref();`,
    'a stopped one': `broker.handle('q', () => {}); await broker.start(); await broker.stop();`,
    'a held delivery': `await broker.enqueue('q', 1); globalThis.held = await broker.receive('q');`,
  })) {
    const ended = await program(`const broker = await open(args[0]); ${source}`, directory());
    assert.deepEqual([ended.code, ended.signal, ended.stderr], [0, null, ''], what);
  }
});

test('a started broker and an open promise keep the program until they end', async () => {
  const started = await program(
    `
    const broker = await open(args[0]);
    broker.handle('q', async () => { await broker.enqueue('r', 1); console.log('handled'); setTimeout(() => broker.close(), 20); });
    await broker.enqueue('q', 1);
    await broker.start();`,
    directory(),
  );
  assert.deepEqual([started.code, started.stdout], [0, 'handled\n'], started.stderr);
  const waiting = await program(
    `
    const broker = await open(args[0]);
    setTimeout(() => broker.enqueue('q', 1), 50).unref();
    broker.receive('q').then(({ body }) => console.log(body));`,
    directory(),
  );
  assert.deepEqual([waiting.code, waiting.stdout], [0, '1\n'], waiting.stderr);
  const idle = await program(
    `
    const broker = await open(args[0]);
    for (let i = 0; i < 100; i++) broker.enqueue('q', i).then(() => i === 99 && console.log('durable'));`,
    directory(),
  );
  assert.deepEqual([idle.code, idle.stdout], [0, 'durable\n'], idle.stderr);
});

test('an exit with promises that are open is clean', async () => {
  const ended = await program(
    `
    const broker = await open(args[0], { capacity: 10, onFull: 'block' });
    for (let i = 0; i < 50; i++) broker.enqueue('q', i);
    broker.receive('r');
    broker.waitIdle();
    broker.snapshot();
    process.exit(3);`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.signal, ended.stderr], [3, null, '']);
});

test('an uncaught exception ends the program as ever, and nothing is lost', async () => {
  const path = directory();
  const ended = await program(
    `
    const broker = await open(args[0]);
    await broker.enqueueMany('q', [1, 2, 3]);
    broker.handle('q', () => { setTimeout(() => { throw new Error('nobody catches this'); }, 0); return new Promise(() => {}); });
    await broker.start();`,
    path,
  );
  assert.deepEqual([ended.code, ended.signal], [1, null]);
  assert.match(ended.stderr, /nobody catches this/);
  assert.equal((await found(path)).messages, 3);
});

test('handlers go on after an exception that somebody caught', async () => {
  const ended = await program(
    `
    process.on('uncaughtException', (error) => console.log(error.message));
    const broker = await open(args[0]);
    broker.handle('q', (body) => { if (body === 1) setTimeout(() => { throw new Error('later'); }, 0); });
    await broker.enqueueMany('q', [1, 2, 3]);
    await broker.start();
    await pause(20);
    await broker.waitIdle();
    console.log(broker.metrics().acked);
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'later\n3\n'], ended.stderr);
});

test('a delivery that nobody has any more runs out of its lease', async () => {
  const ended = await program(
    `
    const broker = await open(args[0], { clock: 'manual' });
    for (let i = 0; i < 100; i++) await broker.enqueue('q', i);
    await (async () => { for (let i = 0; i < 100; i++) await broker.receive('q', { lease: 1000 }); })();
    for (let i = 0; i < 10; i++) { gc(); await pause(1); }
    console.log(broker.metrics().released, broker.metrics().inFlight);
    broker.advance(1000);
    const again = await broker.receiveMany('q', 100, { timeout: 0 });
    console.log(again.length, again.every(({ attempt }) => attempt === 2));
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, '0 100\n100 true\n'], ended.stderr);
});

test('a broker that nobody has any more goes on until the program ends', async () => {
  const ended = await program(
    `
    await (async () => {
      const broker = await open(args[0]);
      let calls = 0;
      broker.handle('q', async () => { gc(); await pause(1); if (++calls === 20) { console.log(calls); await pause(0); broker.unref(); } });
      await broker.start();
      for (let i = 0; i < 20; i++) await broker.enqueue('q', i);
    })();
    gc();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, '20\n'], ended.stderr);
});

/**
 * A broker whose handle was collected without a close kept its directory LOCKED until the end of the program. One with a
 * handler did so still, where a message had rung for that, though it had not been started, or was stopped.
 */
test('a broker that nobody has any more, and that was not started, gives its directory up', async () => {
  const ended = await program(
    `
    const other = { cacheBytes: 1 << 20 };
    const forget = async (use, path = args[0]) => { await use(await open(path)); };
    const collect = async () => { for (let i = 0; i < 5; i++) { gc(); await pause(1); } };
    const state = (path) => open(path, other).then((broker) => broker.close(), ({ code }) => code);
    const freed = async () => {
      let isOver = false;
      const opening = open(args[0], { ...other, lockTimeout: 60_000 }).finally(() => { isOver = true; });
      while (!isOver) { gc(); await pause(1); }
      return opening;
    };
    for (const use of [
      () => {},
      (broker) => broker.enqueue('q', 1),
      async (broker) => { broker.handle('q', () => {}); broker.handle('r', () => {}); },
      async (broker) => { broker.handle('r', () => {}); await broker.start(); await broker.stop(); },
      async (broker) => { broker.handle('s', () => {}); await broker.enqueue('s', 1); },
      async (broker) => {
        broker.handle('s', () => {});
        await broker.start();
        await broker.enqueue('s', 1);
        await broker.waitIdle();
        await broker.stop();
        await broker.enqueue('s', 2);
      },
      async (broker) => { for await (const delivery of broker.deliveries('q')) { await delivery.ack(); break; } },
    ]) {
      await forget(use);
      const next = await freed();
      console.log(next.recovery.suspects, await next.receive('q', { timeout: 0 }) === null);
      await next.close();
      await open(args[0]).then((broker) => broker.enqueue('q', 1).then(() => broker.close()));
    }
    let held;
    for (const use of [
      async (broker) => { held = await broker.receive('q'); },
      (broker) => { held = broker.deadLetters; },
    ]) {
      await forget(use);
      await collect();
      console.log(await state(args[0]));
      held = undefined;
      await (await freed()).close();
    }
    await forget(async (broker) => { await broker.start(); broker.unref(); });
    await forget((broker) => void broker.receive('q'), args[1]);
    await collect();
    console.log(await state(args[0]), await state(args[1]));
    process.exit();`,
    directory(),
    directory(),
  );
  const free = ['0 true', ...Array(6).fill('0 false')];
  const locked = ['LOCKED', 'LOCKED', 'LOCKED LOCKED', ''];
  assert.deepEqual([ended.code, ended.stdout.split('\n')], [0, [...free, ...locked]], ended.stderr);
});

/** The timer that keeps a loop alive was made by the first call that needed it, and kept what that had in its stores. */
test('what the first caller has in an AsyncLocalStorage is not kept', async () => {
  const ended = await program(
    `
    import { AsyncLocalStorage } from 'node:async_hooks';
    const storage = new AsyncLocalStorage();
    const kept = await (async () => {
      const store = {};
      await storage.run(store, async () => {
        const broker = await open(args[0]);
        await broker.enqueue('q', 1);
        await broker.close();
      });
      return new WeakRef(store);
    })();
    for (let i = 0; i < 20; i++) { gc(); await pause(1); }
    console.log(kept.deref());`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'undefined\n'], ended.stderr);
});

// Nothing this process writes goes beyond so many bytes in a file from now on.
const LIMIT = `
  import { spawnSync } from 'node:child_process';
  process.on('SIGXFSZ', () => {});
  const limit = (bytes) => {
    const { status, stderr } = spawnSync('prlimit', ['--pid', process.pid, '--fsize=' + bytes]);
    if (status !== 0) throw new Error('no limit: ' + stderr);
  };`;

/** Such an ack was told as one whose lease was lost. */
test('an ack that fails is told as what it failed with', async () => {
  const ended = await program(
    `${LIMIT}
    const told = [];
    const broker = await open(args[0], {
      durability: 'os',
      log: (level, event, { error }) => { if (level !== 'info') told.push([event, error?.code]); },
    });
    let letGo;
    broker.handle('q', () => new Promise((resolve) => { letGo = resolve; }));
    await broker.start();
    await broker.enqueue('q', 1);
    while (letGo === undefined) await pause(1);
    limit(0);
    const code = await broker.enqueue('other', 1).catch(({ code }) => code);
    letGo();
    while (!told.some(([event]) => event === 'settle_failed' || event === 'stale_lease')) await pause(1);
    console.log(JSON.stringify([code, ...told.filter(([event]) => event !== 'poisoned')]));
    process.exit();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, '["POISONED",["settle_failed","POISONED"]]\n'], ended.stderr);
});

test('of many that fail together each has an error of its own', async () => {
  // At level os, the first one is written at once, and those behind it together.
  for (const [durability, firstIsWritten] of [
    ['sync', false],
    ['os', true],
  ]) {
    const ended = await program(
      `${LIMIT}
      const [path, durability, firstIsWritten] = args;
      const broker = await open(path, { durability });
      await broker.enqueue('q', 0);
      const first = firstIsWritten === 'true' ? [broker.enqueue('q', 0)] : [];
      limit(0);
      const some = Array.from({ length: 9 }, (_, i) => broker.enqueue('q', i));
      await Promise.all(first);
      const outcomes = await Promise.allSettled([...some, broker.enqueueMany('q', [1, 2])]);
      const codes = new Set(outcomes.map(({ reason }) => reason?.code));
      const errors = new Set(outcomes.map(({ reason }) => reason));
      console.log(JSON.stringify([[...codes], errors.size]));
      process.exit();`,
      directory(),
      durability,
      String(firstIsWritten),
    );
    assert.deepEqual([ended.code, ended.stdout], [0, '[["POISONED"],10]\n'], ended.stderr);
  }
});

/** Each look set one more timer while the disk had no room, and each of those looked, and set the next. */
test('a handler looks once a second while the disk has no room for one more message in flight', async () => {
  const ended = await program(
    `${LIMIT}
    const filled = await open(args[0]);
    await filled.enqueueMany('held', Array(5000).fill(1));
    await filled.close();
    const broker = await open(args[0], { durability: 'os' });
    const ends = [];
    broker.handle('q', () => new Promise((resolve) => ends.push(resolve)), {
      maxParallelism: 10, timeout: 20, cancelGrace: 0, maxRetries: 0,
    });
    await broker.start();
    await broker.enqueueMany('q', Array(10).fill(1));
    while (broker.metrics().stuck < 10) await pause(1);
    limit(100_000);
    let held = 0;
    const receive = async () => { for (;;) held += (await broker.receiveMany('held', 100, { timeout: 0 })).length; };
    const code = await receive().catch(({ code }) => code);
    await broker.enqueue('q', 1);
    let timers = 0;
    const set = globalThis.setTimeout;
    globalThis.setTimeout = (call, ms) => { timers += ms === 1000; return set(call, ms); };
    for (const end of ends) { end(); await pause(2); }
    const { delivered, ready } = broker.metrics().queues.q;
    console.log(code, held > 0, delivered, ready, timers <= 2);
    process.exit();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'STORAGE_FULL true 10 1 true\n'], ended.stderr);
});

/**
 * A body that is longer than a string of JavaScript can be was neither handed out nor given back, and its handler got nothing
 * any more.
 */
test('a body that is longer than any string does not decode, and its handler goes on', async () => {
  const ended = await program(
    `
    const broker = await open(args[0], { durability: 'os', maxMessageBytes: 2 ** 30 });
    const bodies = [];
    broker.handle('q', (body) => void bodies.push(body));
    const body = Buffer.alloc(2 ** 29, '1');
    await broker.enqueue('q', body, { contentType: 'application/json' });
    await broker.enqueue('q', 2);
    await broker.start();
    console.log(await broker.waitIdle({ timeout: 60_000 }), bodies.join(), broker.metrics().dead);
    await broker.enqueue('r', body, { contentType: 'application/json' });
    const delivery = await broker.receive('r', { timeout: 0 });
    try { delivery.body; } catch ({ code }) { console.log(code, delivery.raw.length === body.length); }
    process.exit();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'true 2 1\nINVALID true\n'], ended.stderr);
});

/** A lease is the core's to keep: a loop that is blocked for longer than pulled leases last loses no handler's. */
test('a loop that is blocked for less than the timeout runs nothing twice', async () => {
  const ended = await program(
    `
    const block = (ms) => { const end = Date.now() + ms; while (Date.now() < end); };
    const broker = await open(args[0]);
    const calls = [];
    broker.handle('q', async (body, ctx) => { calls.push(body); block(300); await null; }, { timeout: 20_000, cancelGrace: 0 });
    await broker.enqueueMany('q', [1, 2, 3]);
    await broker.start();
    block(300);
    await broker.waitIdle();
    const { timeouts, stuck, acked } = broker.metrics();
    console.log(calls.join(), timeouts, stuck, acked);
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, '1,2,3 0 0 3\n'], ended.stderr);
});

test('a loop that is blocked beyond the timeout and its grace loses the lease, and its late end changes nothing', async () => {
  const ended = await program(
    `
    const block = (ms) => { const end = Date.now() + ms; while (Date.now() < end); };
    const stale = [];
    const broker = await open(args[0], { log: (_, event) => event === 'stale_lease' && stale.push(event), defaultBackoff: 0 });
    const attempts = [];
    broker.handle('q', async (_, ctx) => { attempts.push(ctx.attempt); if (ctx.attempt === 1) block(500); }, { timeout: 20, cancelGrace: 20 });
    await broker.enqueue('q', 1);
    await broker.start();
    while (broker.metrics().acked < 1) await pause(1);
    console.log(attempts.join(), stale.length, broker.metrics().timeouts);
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, '1,2 1 1\n'], ended.stderr);
});

test('a child process has a broker of its own, and its parent keeps the directory', async () => {
  const ended = await program(
    `
    import { spawnSync } from 'node:child_process';
    const broker = await open(args[0]);
    const child = spawnSync(process.execPath, ['--input-type=module', '--eval', \`
      const { open } = await import('\${LIBRARY}');
      console.log(await open('\${args[0]}').catch(({ code, message }) => code + message.includes(process.ppid)));
    \`], { encoding: 'utf8' });
    process.stdout.write(child.stdout);
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'LOCKEDtrue\n'], ended.stderr);
});
