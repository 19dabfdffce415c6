// Log hooks, and metrics as text.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { open } from '../lib/index.mjs';
import { THREAD, broker, directory, program, until } from './support.mjs';

const fails = () => {
  throw new Error('meant to');
};

test('a hook hears what the broker and its handlers tell, from open to close', async (t) => {
  const heard = [];
  const path = directory();
  const queue = await broker(t, { log: (...event) => heard.push(event) }, path);
  queue.handle('q', fails, { maxRetries: 0 });
  const { id } = await queue.enqueue(
    'q',
    { secret: 'canary-body' },
    { dedupKey: 'canary-key', headers: { a: 'canary-header' } },
  );
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  await queue.snapshot();
  await queue.close();
  const levels = heard.map(([level, event]) => `${level} ${event}`);
  // What a handler throws is told by the loop itself, which may be ahead of the broker's thread by an event or two.
  const byLoop = levels.indexOf('warn handler_error');
  assert.ok(byLoop >= 0 && byLoop < levels.indexOf('warn dead_letter'), levels.join());
  const [[, , failed]] = heard.splice(byLoop, 1);
  levels.splice(byLoop, 1);
  assert.deepEqual(levels, ['info open', 'warn dead_letter', 'debug snapshot', 'info close']);
  const [opened, dead, snapshot, closed] = heard.map(([, , fields]) => fields);
  const { durationMs, ...rest } = opened;
  assert.ok(durationMs >= 0 && Number.isInteger(durationMs));
  assert.deepEqual({ ...rest }, { path, messages: 0, deadLetters: 0, suspects: 0, records: 0 });
  assert.equal(failed.error.message, 'meant to');
  assert.deepEqual({ ...dead }, { queue: 'q', id, attempts: 1, reason: 'max_retries' });
  assert.ok(snapshot.bytes > 0 && snapshot.durationMs >= 0);
  assert.deepEqual({ ...closed }, { path });
  assert.equal(JSON.stringify(failed), `{"queue":"q","id":"${id}","attempt":1,"error":"meant to"}`);
  assert.equal(JSON.stringify(dead), `{"queue":"q","id":"${id}","attempts":1,"reason":"max_retries"}`);
  assert.ok(!JSON.stringify([failed, ...heard]).includes('canary'));
});

/** A circular object that a handler had thrown made the fields unwritable, so that a hook which writes them lost the event. */
test('what a handler throws can always be written', async (t) => {
  const circular = {};
  circular.self = circular;
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const thrown = [
    circular,
    { a: 10n },
    { toJSON: () => thrown.missing.missing },
    revoked.proxy,
    Symbol('s'),
    undefined,
  ];
  const written = [];
  const log = (_, event, fields) => event === 'handler_error' && written.push(JSON.parse(JSON.stringify(fields)));
  const queue = await broker(t, { log });
  queue.handle(
    'q',
    (index) => {
      throw thrown[index];
    },
    { maxRetries: 0 },
  );
  await queue.enqueueMany('q', [...thrown.keys()]);
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  assert.deepEqual(
    written.map(({ error }) => typeof error),
    thrown.map(() => 'string'),
  );
});

test('what a hook throws, or rejects with, is its own affair', async (t) => {
  const throws = () => {
    throw new Error('in the hook');
  };
  const hostile = new Proxy({}, { get: throws, getPrototypeOf: throws });
  for (const log of [
    throws,
    async () => throws(),
    () => Promise.reject(hostile),
    () => hostile,
    () => {
      throw hostile;
    },
    () => ({ then: throws }),
    () => ({ then: (_, reject) => reject(new Error('later')) }),
    () => 5,
  ]) {
    let calls = 0;
    const queue = await broker(t, { log: (...event) => (calls++, log(...event)) });
    queue.handle('q', fails, { maxRetries: 0 });
    await queue.enqueue('q', 1);
    await queue.start();
    await queue.waitIdle({ timeout: 10_000 });
    await queue.close();
    assert.equal(calls, 4);
  }
});

test('a hook may call anything, the close too, and is not called after that', async (t) => {
  const heard = [];
  let closed = false;
  let queue;
  queue = await open(':memory:', {
    log(_, event) {
      heard.push([event, closed]);
      if (event !== 'dead_letter') return;
      assert.equal(queue.metrics().dead, 1);
      queue.enqueue('elsewhere', 1);
      const end = () => (closed = true);
      queue.close({ timeout: 0 }).then(end, end);
    },
  });
  t.after(() => queue.close().catch(() => {}));
  let letGo;
  queue.handle('q', (body) => (body === 1 ? fails() : new Promise((_, reject) => (letGo = reject))), {
    maxRetries: 0,
    maxParallelism: 2,
    cancelGrace: 0,
  });
  await queue.enqueueMany('q', [2, 1]);
  await queue.start();
  await until(() => closed);
  letGo(new Error('late'));
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(heard.at(-1), ['close', false]);
  assert.deepEqual(
    [heard.filter(([, after]) => after).length, heard.filter(([event]) => event === 'close').length],
    [0, 1],
  );
});

test('every close is heard before its promise is kept', async () => {
  for (let round = 0; round < 50; round++) {
    const heard = [];
    const queue = await open(':memory:', { log: (_, event) => heard.push(event) });
    await queue.close();
    assert.deepEqual(heard, ['open', 'close']);
  }
});

test('an open that fails leaves no hook, and one that is refused calls none', async () => {
  const heard = [];
  const log = (_, event) => heard.push(event);
  const path = directory();
  const queue = await open(path);
  await assert.rejects(open(path, { log }), { code: 'LOCKED' });
  await queue.close();
  await assert.rejects(open(path, { log, capacity: 0 }), { code: 'INVALID' });
  await assert.rejects(open('/proc/nowhere/queue', { log }), { code: 'IO' });
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(heard, []);
});

test('a hook that its loop keeps from hearing misses what is too much, and hears how many', async () => {
  const ended = await program(
    `const heard = { dead_letter: 0, close: 0, missed: 0 };
    const broker = await open(':memory:', { log: (_, event, fields) => {
      if (event in heard) heard[event]++;
      if (event === 'events_missed') heard.missed += fields.count;
    } });
    await broker.enqueueMany('q', Array.from({ length: 3000 }, () => 1));
    const held = await broker.receiveMany('q', 3000);
    // Settles without a turn of the loop.
    for (const delivery of held) delivery.reject('no');
    const end = Date.now() + 1000;
    while (Date.now() < end);
    await broker.close();
    console.log(heard.dead_letter >= 1000, heard.missed > 0, heard.dead_letter + heard.close + heard.missed);`,
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'true true 3001\n'], ended.stderr);
});

test('a hook keeps no program alive, and none that ends is the worse for it', async () => {
  for (const [what, source, code] of [
    ['an open broker', '', 0],
    ['a hook that waits', `await open(':memory:', { log: () => new Promise(() => {}) });`, 0],
    ['an exit in a hook', `await open(':memory:', { log: () => process.exit(7) }); await pause(20_000);`, 7],
    [
      'an exit under load',
      `broker.handle('q', () => { throw new Error('x'); }, { maxRetries: 0, maxParallelism: 8 });
      await broker.start();
      for (let i = 0; i < 2000; i++) broker.enqueue('q', i, { durability: 'os' });
      await pause(20);
      process.exit(3);`,
      3,
    ],
  ]) {
    const ended = await program(`const broker = await open(args[0], { log: () => {} }); ${source}`, directory());
    assert.deepEqual([ended.code, ended.signal, ended.stderr], [code, null, ''], what);
  }
});

test('each thread that shares a broker has a hook of its own, or none, and the last one hears the close', async () => {
  const ended = await program(
    `${THREAD}
    for (const mainHas of [true, false]) {
      const heard_ = [];
      const path = args[0] + mainHas;
      const broker = await open(path, mainHas ? { log: (_, event) => heard_.push(event) } : {});
      while (mainHas && heard_.length < 1) await pause(1);
      const share = thread(\`
        const heard = [];
        const broker = await libmq.open(workerData, {
          // What was told of the opening, and nobody heard yet, is heard by whoever comes in time.
          log: (_, event) => event !== 'open' && heard.push(event),
        });
        port.postMessage('open');
        port.on('message', async (what) => {
          if (what === 'close') await broker.close();
          port.postMessage(heard.join());
        });
      \`, path);
      await heard(share);
      await broker.enqueueMany('q', [1, 2]);
      await (await broker.receive('q')).reject('no');
      for (let told = ''; !told.includes('dead_letter'); await pause(1)) {
        share.postMessage('heard');
        told = await heard(share);
        if (told.includes('dead_letter')) console.log(told);
      }
      if (mainHas) {
        share.postMessage('close');
        console.log(await heard(share));
        await (await broker.receive('q')).reject('no');
        await broker.close();
      } else {
        await broker.close();
        share.postMessage('close');
        console.log(await heard(share));
      }
      console.log(heard_.join());
      await share.terminate();
    }`,
    directory(),
  );
  const expected = [
    'dead_letter',
    'dead_letter',
    'open,dead_letter,dead_letter,close',
    'dead_letter',
    'dead_letter,close',
    '',
    '',
  ];
  assert.deepEqual([ended.code, ended.stdout.split('\n')], [0, expected], ended.stderr);
});

test('a thread may be terminated while its hook hears, and while it closes', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0], { log: () => {} });
    for (let round = 0; round < 20; round++) {
      const worker = thread(\`
        const broker = await libmq.open(workerData.path, { log: () => {} });
        const own = await libmq.open(':memory:', { log: () => { if (workerData.round % 4 === 0) while (true); } });
        for (const one of [broker, own]) {
          one.handle('q' + workerData.round, () => { throw new Error('x'); }, { maxRetries: 0, maxParallelism: 8 });
          await one.start();
          for (let i = 0; i < 500; i++) one.enqueue('q' + workerData.round, i, { durability: 'os' }).catch(() => {});
        }
        port.postMessage('ready');
        if (workerData.round % 2) { own.close(); broker.close(); }
      \`, { path: args[0], round });
      await Promise.race([heard(worker), pause(200)]);
      await pause(round);
      await worker.terminate();
    }
    await broker.close();
    console.log('fine');`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.signal, ended.stdout], [0, null, 'fine\n'], ended.stderr);
});

/** A listener for the end of the program kept the hook of the first broker, and with it the broker. */
test('a broker that nobody has any more goes, though its hook knows it', async () => {
  const ended = await program(
    `await (async () => {
      const broker = await open(args[0], { log: () => broker.metrics() });
      await broker.enqueue('q', 1);
      const other = await open(':memory:', { log: () => broker });
    })();
    let next;
    open(args[0], { capacity: 7, lockTimeout: 60_000 }).then((broker) => { next = broker; });
    while (next === undefined) { gc(); await pause(1); }
    console.log(next.recovery.messages);
    await next.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, '1\n'], ended.stderr);
});

test('the figures are there as text for Prometheus, too', async (t) => {
  const queue = await broker(t);
  await queue.enqueueMany('orders', [1, 2]);
  await (await queue.receive('orders')).ack();
  const text = queue.prometheus();
  assert.equal(typeof text, 'string');
  const lines = text.split('\n');
  for (const line of [
    '# TYPE libmq_ready gauge',
    'libmq_ready{queue="orders"} 1',
    '# TYPE libmq_acked_total counter',
    'libmq_acked_total{queue="orders"} 1',
    'libmq_dead{queue="orders"} 0',
  ]) {
    assert.ok(lines.includes(line), `${line} in\n${text}`);
  }
  assert.ok(
    lines.every((line) => line === '' || line.startsWith('# ') || /^libmq_\w+(\{[^}]*\})? [\d.e+-]+$/.test(line)),
  );
});
