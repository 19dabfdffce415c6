// Worker threads: each is an environment of its own, which shares brokers and ends whenever it is told to.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { THREAD, directory, program } from './support.mjs';

test('two environments share a broker that is opened with the same options', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0], { segmentBytes: 1 << 20 });
    const share = thread(\`
      const broker = await libmq.open(workerData, { segmentBytes: 1 << 20 });
      broker.handle('q', (body) => port.postMessage(body));
      await broker.start();
      port.postMessage('ready');
      port.once('message', async () => { await broker.close(); port.postMessage('closed'); });
    \`, args[0]);
    if (await heard(share) !== 'ready') throw new Error('not ready');
    for (let i = 0; i < 100; i++) {
      const handled = heard(share);
      await broker.enqueue('q', { i });
      const { i: back } = await handled;
      if (back !== i) throw new Error('wrong one');
    }
    const other = thread(\`
      await libmq.open(workerData, { segmentBytes: 2 << 20 }).catch(({ code }) => port.postMessage(code));
    \`, args[0]);
    console.log(await heard(other));
    const again = await open(args[0], { segmentBytes: 1 << 20 }).catch(({ code }) => code);
    console.log(again);
    const closed = heard(share);
    share.postMessage('close');
    console.log(await closed);
    await broker.enqueue('q', 'left');
    await broker.close();
    const last = await open(args[0]);
    console.log(last.recovery.messages);
    await last.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout.split('\n')], [0, ['LOCKED', 'LOCKED', 'closed', '1', '']], ended.stderr);
});

// What one spelt out and the other left to its default was said to differ, and not by its name; and of a handler of another
// thread it was said that replacing it would wait for itself.
test('a thread shares what is open with options that mean the same, and hears which one differs', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0], { maxCrashes: 3 });
    broker.handle('q', () => {});
    const share = thread(\`
      const other = (options) => libmq.open(workerData, options).catch(({ code, message }) => port.postMessage(code + message));
      await other({ capacity: 5 });
      await other({ defaultBackoff: [5] });
      const broker = await libmq.open(workerData, {
        capacity: 1_000_000, durability: 'sync', defaultBackoff: { jitter: 1 }, lockTimeout: 5,
      });
      try { broker.handle('q', () => {}); } catch ({ code, message }) { port.postMessage(code + ' ' + message); }
      port.postMessage('shared');
    \`, args[0]);
    const said = [];
    share.on('message', (text) => said.push(text));
    while (said.at(-1) !== 'shared') await pause(1);
    console.log(said.join('\\n').replaceAll(args[0], ''));
    process.exit();`,
    directory(),
  );
  const lines = [
    'LOCKED is open in another thread of this program, with another capacity',
    'LOCKED is open in another thread of this program, with another defaultBackoff',
    'DEADLOCK queue q has a handler in another thread, which only that one can replace',
    'shared',
    '',
  ];
  assert.deepEqual([ended.code, ended.stdout.split('\n')], [0, lines], ended.stderr);
});

test('a delivery that was collected stays held when its thread ends, until its lease runs out', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0]);
    await broker.enqueueMany('q', [1, 2]);
    const worker = thread(\`
      const { setFlagsFromString } = require('node:v8');
      setFlagsFromString('--expose-gc');
      const gc = require('node:vm').runInNewContext('gc');
      const broker = await libmq.open(workerData);
      await broker.receive('q', { timeout: 0, lease: 600_000 });
      globalThis.kept = await broker.receive('q', { timeout: 0, lease: 600_000 });
      for (let i = 0; i < 20; i++) { gc(); await pause(5); }
      port.postMessage('collected');
    \`, args[0]);
    await heard(worker);
    await worker.terminate();
    const { ready, inFlight } = broker.metrics();
    console.log(ready, inFlight);
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, '1 1\n'], ended.stderr);
});

test('a thread that leaves a shared broker gives back what it holds', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0]);
    await broker.enqueueMany('pulled', [1, 2]);
    const share = thread(\`
      const broker = await libmq.open(workerData);
      const held = await broker.receive('pulled');
      broker.handle('q', () => new Promise(() => {}), { cancelGrace: 10 });
      await broker.start();
      await broker.enqueue('q', 1);
      while (broker.metrics().inFlight < 2) await pause(1);
      const closed = await broker.close({ timeout: 10 }).catch(({ code }) => code);
      port.postMessage(closed + ' ' + await held.ack().catch(({ code }) => code));
    \`, args[0]);
    console.log(await heard(share));
    const { ready, inFlight, released } = broker.metrics();
    console.log(ready, inFlight, released);
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'TIMEOUT CLOSED\n3 0 2\n'], ended.stderr);
});

test('a thread that is terminated under load gives its messages back, and another one takes over', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0], { capacity: 10_000 });
    let done = 0;
    const unlessFull = (error) => { if (error.code !== 'FULL') throw error; };
    // A hundred of them, but on a slow machine as many as come to it in a minute.
    const end = Date.now() + 60_000;
    for (let round = 0; round < 100 && Date.now() < end; round++) {
      const worker = thread(\`
        const broker = await libmq.open(workerData, { capacity: 10_000 });
        broker.handle('q', async (body, ctx) => { ctx.signal; await pause(body % 3); }, { maxParallelism: 8 });
        broker.handle('r', (body, ctx) => { ctx.enqueue('q', body); }, { maxParallelism: 8 });
        await broker.start();
        port.postMessage('ready');
        for (let i = 0; ; i++) {
          broker.enqueue('q', i, { durability: i % 2 ? 'os' : 'sync' }).catch(() => {});
          broker.receive('pulled', { timeout: 1 });
          if (i % 20 === 0) await pause(0);
        }
      \`, args[0]);
      await heard(worker);
      // A thread that is quick fills the broker.
      for (let i = 0; i < 50; i++) await broker.enqueue('r', i, { durability: 'os' }).catch(unlessFull);
      await pause(round % 20);
      await worker.terminate();
      if (broker.metrics().inFlight !== 0) throw new Error('held by nobody');
      done++;
    }
    broker.handle('q', () => {}, { maxParallelism: 4 });
    broker.handle('r', () => {});
    await broker.start();
    if (!await broker.waitIdle({ timeout: 15_000 })) throw new Error(JSON.stringify(broker.metrics()));
    console.log(done > 5, broker.metrics().ready, broker.metrics().crashes);
    await broker.close();
    console.log((await open(args[0])).recovery.suspects);`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.signal, ended.stdout], [0, null, 'true 0 0\n0\n'], ended.stderr);
});

test('a thread that is terminated while it alone has the broker gives the directory up', async () => {
  const ended = await program(
    `${THREAD}
    for (let round = 0; round < 10; round++) {
      const worker = thread(\`
        const broker = await libmq.open(workerData.path, { segmentBytes: 1 << 16, onFull: 'block', capacity: 100 });
        broker.handle('q', () => new Promise(() => {}), { maxParallelism: 2 });
        await broker.start();
        for (let i = 0; i < 200; i++) broker.enqueue('q', i, { durability: 'os' }).catch(() => {});
        broker.waitIdle();
        broker.receive('elsewhere');
        if (workerData.round % 2) broker.stop();
        port.postMessage('ready');
        while (workerData.round >= 0);
      \`, { path: args[0], round });
      await heard(worker);
      await worker.terminate();
    }
    const broker = await open(args[0], { lockTimeout: 10_000 });
    console.log(broker.recovery.messages > 0);
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.signal, ended.stdout], [0, null, 'true\n'], ended.stderr);
});

test('a thread may end while its opens, enqueues and closes are under way', async () => {
  const ended = await program(
    `${THREAD}
    for (let round = 0; round < 15; round++) {
      const worker = thread(\`
        port.postMessage('ready');
        for (;;) {
          const broker = await libmq.open(workerData, { segmentBytes: 1 << 16 });
          for (let i = 0; i < 50; i++) broker.enqueue('q', Buffer.alloc(10_000)).catch(() => {});
          await broker.close();
        }
      \`, args[0]);
      await heard(worker);
      await pause(round);
      await worker.terminate();
    }
    const broker = await open(args[0], { lockTimeout: 10_000 });
    await broker.close();
    console.log('fine');`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.signal, ended.stdout], [0, null, 'fine\n'], ended.stderr);
});

/**
 * Whoever had closed its broker before still had a handle of it, and with that the directory, until that was collected.
 */
test('the last environment that has a broker closes it, by its close or by its end', async () => {
  const ended = await program(
    `${THREAD}
    const share = \`
      globalThis.broker = await libmq.open(workerData);
      await broker.enqueue('q', 1, { durability: 'os' });
      port.postMessage('open');
      port.on('message', async (what) => {
        if (what === 'close') await broker.close();
        else process.exit();
        port.postMessage('closed');
      });
    \`;
    const ends = {
      terminate: (worker) => worker.terminate(),
      exit: (worker) => { const ended = new Promise((resolve) => worker.once('exit', resolve)); worker.postMessage('exit'); return ended; },
      close: async (worker) => { const closed = heard(worker); worker.postMessage('close'); await closed; },
    };
    const kept = [];
    let messages = 0;
    for (const [name, end] of Object.entries(ends)) {
      for (const isMainLast of [false, true]) {
        const broker = await open(args[0]);
        kept.push(broker);
        const workers = [thread(share, args[0]), thread(share, args[0])];
        await Promise.all(workers.map(heard));
        messages += 2;
        if (!isMainLast) await broker.close();
        for (const worker of workers) await end(worker);
        if (isMainLast) await broker.close();
        const next = await open(args[0], { cacheBytes: 1 << 20 }).catch(({ code }) => code);
        console.log(name, isMainLast, next === 'LOCKED' ? next : next.recovery.messages === messages);
        if (next !== 'LOCKED') await next.close();
        for (const worker of workers) await worker.terminate();
      }
    }`,
    directory(),
  );
  const names = ['terminate', 'exit', 'close'];
  const expected = names.flatMap((name) => [`${name} false true`, `${name} true true`]);
  assert.deepEqual([ended.code, ended.stdout.trim().split('\n')], [0, expected], ended.stderr);
});

/** The old handle of an environment, collected, left in the name of the new one: the broker was closed under it. */
test('an environment that comes back to a shared broker stays when its old handle is collected', async () => {
  const ended = await program(
    `${THREAD}
    const share = thread(\`
      const broker = await libmq.open(workerData);
      port.postMessage('open');
      port.once('message', async () => { await broker.close(); port.postMessage('closed'); });
    \`, args[0]);
    const opened = heard(share);
    await (async () => { const broker = await open(args[0]); await opened; await broker.close(); })();
    const broker = await open(args[0]);
    for (let i = 0; i < 5; i++) { gc(); await pause(1); }
    const closed = heard(share);
    share.postMessage('close');
    await closed;
    console.log((await broker.enqueue('q', 1)).status);
    await broker.close();
    await share.terminate();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'accepted\n'], ended.stderr);
});

/** `lockTimeout` was compared as if it were an option of the broker, and waited for nobody in this process. */
test('an open that cannot share a broker waits for it as long as its lockTimeout says', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0], { lockTimeout: 1 });
    const share = thread(\`
      const broker = await libmq.open(workerData, { lockTimeout: 2 });
      port.postMessage('shared');
      port.once('message', async () => { await broker.close(); port.postMessage('closed'); });
    \`, args[0]);
    console.log(await heard(share));
    for (const init of [{ capacity: 7 }, {}]) {
      const begin = performance.now();
      const code = await open(args[0], { ...init, lockTimeout: 50 }).catch(({ code }) => code);
      console.log(code, performance.now() - begin >= 49);
    }
    console.log(await open(args[0], { lockTimeout: 1e300 }).catch(({ code }) => code));
    const waiting = [open(args[0], { capacity: 7, lockTimeout: 60_000 })];
    const waiter = thread(\`
      libmq.open(workerData, { capacity: 8, lockTimeout: 60_000 });
      setTimeout(() => port.postMessage('waits'), 20);
    \`, args[0]);
    await heard(waiter);
    await waiter.terminate();
    await broker.close();
    const closed = heard(share);
    share.postMessage('close');
    await closed;
    const [next] = await Promise.all(waiting);
    console.log(await next.enqueueMany('q', Array(8).fill(1)).catch(({ code }) => code));
    await next.close();
    await share.terminate();`,
    directory(),
  );
  const expected = ['shared', 'LOCKED true', 'LOCKED true', 'INVALID', 'FULL', ''];
  assert.deepEqual([ended.code, ended.stdout.split('\n')], [0, expected], ended.stderr);
});

/** The end of a thread shut the handlers of all of them, since they share a broker, and nothing opened them again. */
test('a thread that ends by itself leaves the handlers of others alone, and what its own have answered is written', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0], { durability: 'os' });
    let calls = 0;
    broker.handle('q', () => void calls++);
    await broker.start();
    for (let round = 1; round <= 5; round++) {
      const worker = thread(\`
        const broker = await libmq.open(workerData, { durability: 'os' });
        let calls = 0;
        broker.handle('own', () => { if (++calls === 20) process.exit(); });
        await broker.start();
        await broker.enqueueMany('own', Array(20).fill(1));
      \`, args[0]);
      await new Promise((resolve) => worker.once('exit', resolve));
      await broker.enqueue('q', round);
      const end = Date.now() + 20_000;
      while (calls < round && Date.now() < end) await pause(1);
    }
    const { own, q } = broker.metrics().queues;
    console.log(calls, q.ready, own.acked, own.released, own.ready);
    await broker.close();
    console.log((await open(args[0])).recovery.suspects);`,
    directory(),
  );
  // The call that ends the thread has not ended itself: what it held is given back.
  const left = 'the last of each round';
  const [first, suspects] = ended.stdout.split('\n');
  const [calls, ready, acked, released, waiting] = first.split(' ').map(Number);
  assert.deepEqual([ended.code, calls, ready, suspects], [0, 5, 0, '0'], ended.stderr);
  assert.ok(released >= 5 && acked + waiting === 100, left);
});

/** That threw `DEADLOCK`, as if the queue had a handler of another thread; also where those others were done in no time. */
test('a handler is registered when another thread has started, stopped or registered its own', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0], { durability: 'os' });
    const share = thread(\`
      const broker = await libmq.open(workerData, { durability: 'os' });
      let letGo;
      broker.handle('slow', () => new Promise((resolve) => { letGo = resolve; }));
      await broker.start();
      await broker.enqueue('slow', 1);
      while (letGo === undefined) await pause(1);
      const stopping = broker.stop();
      // Time for its thread to begin; were that too short, this would show less, and nothing false.
      await pause(50);
      port.postMessage('stops');
      port.once('message', async () => {
        letGo();
        await stopping;
        await broker.start();
        port.postMessage('started');
        port.once('message', () => broker.close());
      });
    \`, args[0]);
    await heard(share);
    const calls = [];
    broker.handle('q', (body) => void calls.push(body));
    broker.handle('slow', () => {});
    const started = heard(share);
    share.postMessage('let go');
    await started;
    await broker.enqueue('q', 1);
    const end = Date.now() + 20_000;
    while (calls.length === 0 && Date.now() < end) await pause(1);
    let code;
    try { broker.handle('slow', () => {}); } catch (error) { code = error.code; }
    console.log(calls.join(), code);
    share.postMessage('close');
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, '1 DEADLOCK\n'], ended.stderr);
});

/** Its handlers were neither cancelled nor given their grace, and the close said that all had ended. */
test('a thread that leaves a shared broker cancels what has not ended in time, and says so', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0], { durability: 'os' });
    const share = thread(\`
      const broker = await libmq.open(workerData, { durability: 'os' });
      const reasons = [];
      broker.handle('quick', (_, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => {
        reasons.push(signal.reason.reason);
        reject(signal.reason);
      })));
      broker.handle('stuck', (_, { signal }) => {
        signal.addEventListener('abort', () => reasons.push(signal.reason.reason));
        return new Promise(() => {});
      }, { cancelGrace: 50 });
      await broker.start();
      await broker.enqueueMany('quick', [1]);
      await broker.enqueueMany('stuck', [1]);
      while (broker.metrics().inFlight < 2) await pause(1);
      const began = performance.now();
      const said = await broker.close({ timeout: 20 }).then(() => 'closed', ({ code }) => code);
      port.postMessage([said, ...reasons, performance.now() - began > 60]);
    \`, args[0]);
    console.log(JSON.stringify(await heard(share)));
    // Who takes a lease away counts the stuck one a moment later.
    while (broker.metrics().stuck < 1) await pause(1);
    const { ready, inFlight, released, retried, stuck } = broker.metrics();
    console.log(ready, inFlight, released, retried, stuck);
    const other = thread(\`
      const broker = await libmq.open(workerData, { durability: 'os' });
      broker.handle('quick', async () => { port.postMessage('handles'); await pause(20); });
      await broker.start();
      port.once('message', () => broker.close().then(() => port.postMessage('closed')));
    \`, args[0]);
    await heard(other);
    const closed = heard(other);
    other.postMessage('close');
    console.log(await closed, broker.metrics().acked);
    await broker.close();`,
    directory(),
  );
  const expected = ['["TIMEOUT","shutdown","shutdown",true]', '2 0 2 0 1', 'closed 1', ''];
  assert.deepEqual([ended.code, ended.stdout.split('\n')], [0, expected], ended.stderr);
});

/** What was enqueued while the close of a shared broker was under way was never answered, and stopping its thread hung. */
test('what is enqueued while a thread leaves a shared broker is answered', async () => {
  const ended = await program(
    `${THREAD}
    const broker = await open(args[0]);
    const share = thread(\`
      for (let round = 0; round < 10; round++) {
        const broker = await libmq.open(workerData);
        await broker.enqueue('q', 0);
        const closed = broker.close();
        const asked = [];
        // The loop is not told of the end of the close before it has enqueued all of these.
        for (const end = performance.now() + 20; performance.now() < end; ) {
          asked.push(broker.enqueue('q', 1));
          const next = performance.now() + 0.5;
          while (performance.now() < next);
        }
        await closed;
        await Promise.all(asked);
      }
      port.postMessage('answered');
    \`, args[0]);
    console.log(await Promise.race([heard(share), pause(60_000)]));
    await share.terminate();
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'answered\n'], ended.stderr);
});

/** An open waited as long as another one's `lockTimeout` said, for a lock that another process had. */
test('an open waits for another process no longer than it was told, whoever else waits', async () => {
  const ended = await program(
    `
    import { spawn } from 'node:child_process';
    const child = spawn(process.execPath, ['--input-type=module', '--eval', \`
      const { open } = await import('\${LIBRARY}');
      const broker = await open('\${args[0]}');
      console.log('open');
      process.stdin.once('data', () => broker.close().then(() => process.exit()));
    \`]);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const waiting = open(args[0], { lockTimeout: 60_000 });
    await pause(50);
    const { code, message } = await open(args[0]).catch((error) => error);
    console.log(code, message.includes(child.pid));
    child.stdin.write('close');
    const broker = await waiting;
    console.log((await broker.enqueue('q', 1)).status);
    await broker.close();`,
    directory(),
  );
  assert.deepEqual([ended.code, ended.stdout], [0, 'LOCKED true\naccepted\n'], ended.stderr);
});
