// Signals: a program that asks for it ends with the first one in order, and with the second one at once.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { closeOnSignal, open, verify } from '../lib/index.mjs';
import { broker, directory, program, run } from './support.mjs';

const LIBRARY = new URL('../lib/index.mjs', import.meta.url).href;

// Runs a program that says where it is, and gets these signals, each when it has said one thing more; the first one when it
// has said that it began, since what does not matter may come before.
async function signalled(path, source, ...signals) {
  const head = `import { closeOnSignal, open } from '${LIBRARY}';
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const broker = await open(process.argv[1]);`;
  const flags = ['--input-type=module', '--eval', head + source, '--', path];
  let said = '';
  const sends = (child) =>
    child.stdout.on('data', (more) => {
      said += more;
      if (said.includes('began') && signals.length > 0) child.kill(signals.shift());
    });
  return run('.', process.execPath, flags, { whileItRuns: sends });
}

const SLOW = `
  broker.handle('q', async (body, ctx) => {
    console.log('began');
    await pause(body);
    console.log('ended');
  }, { maxRetries: 0 });
  await broker.start();`;

test('the first signal lets handlers end, closes, and exits with the status of the signal', async () => {
  for (const [signal, status] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ]) {
    const path = directory();
    const source = `${SLOW}
      closeOnSignal(broker, { before: (signal) => pause(1).then(() => console.log(signal)) });
      await broker.enqueueMany('q', [200, 200]);`;
    const { code, stdout, stderr } = await signalled(path, source, signal);
    assert.equal(code, status, stderr);
    assert.deepEqual(stdout.trim().split('\n').sort(), [signal, 'began', 'ended'].sort());
    const after = await open(path);
    assert.equal(after.recovery.messages, 1);
    assert.equal(after.recovery.suspects, 0);
    await after.close();
  }
});

test('the second signal exits at once, and what was running runs again', async () => {
  const path = directory();
  const source = `${SLOW} closeOnSignal(broker, { before: () => console.log('ending') }); await broker.enqueue('q', 60_000);`;
  const { code, stdout } = await signalled(path, source, 'SIGTERM', 'SIGTERM');
  assert.equal(code, 143);
  assert.equal(stdout, 'began\nending\n');
  const after = await open(path);
  assert.equal(after.recovery.messages, 1);
  await after.close();
});

// Each had a listener of its own, and the one that was done first ended the process while handlers of the others ran.
test('what several calls have registered ends together', async () => {
  const other = `const other = await open(':memory:');
    other.handle('q', async () => {
      await pause(FOR);
      console.log('ended, too');
    }, { cancelGrace: 1 });
    await other.start();
    closeOnSignal(other, { signals: ['SIGTERM', 'SIGUSR2'], timeout: 500, before: (signal) => console.log(signal) });
    await other.enqueue('q', 1);`;
  for (const [source, status, told] of [
    [other.replace('FOR', '1'), 143, ['SIGTERM', 'began', 'ended', 'ended, too']],
    [other.replace('FOR', '60_000'), 1, ['SIGTERM', 'began', 'ended']],
    // That of the first call alone: the process ends, and so does what the others have registered.
    [other.replace('FOR', '1').replace("'SIGTERM', ", ''), 143, ['SIGTERM', 'began', 'ended', 'ended, too']],
    // What was taken back is not waited for, and takes nothing else back.
    [
      other.replace('FOR', '1').replace('closeOnSignal(', 'const undo = closeOnSignal(') + 'undo(); undo();',
      143,
      ['began', 'ended'],
    ],
  ]) {
    const path = directory();
    const began = `await broker.enqueue('q', 200);`;
    const ended = await signalled(path, `${SLOW} closeOnSignal(broker); ${source} ${began}`, 'SIGTERM');
    assert.equal(ended.code, status, ended.stderr);
    const lines = ended.stdout.trim().split('\n');
    assert.deepEqual(
      told.filter((line) => !lines.includes(line)),
      [],
    );
    assert.equal((await verify(path)).closed, true);
  }
});

test('a handler that had to be cut off makes the status 1, and is told', async () => {
  const path = directory();
  const source = `
    broker.handle('q', async () => {
      console.log('began');
      await pause(60_000);
    }, { cancelGrace: 1 });
    await broker.start();
    const other = await open(':memory:');
    closeOnSignal([broker, other], { signals: ['SIGUSR2'], timeout: 50 });
    await broker.enqueue('q', 1);`;
  const { code, stderr } = await signalled(path, source, 'SIGUSR2');
  assert.equal(code, 1);
  assert.match(stderr, /TIMEOUT/);
  await (await open(path)).close();
});

// A server's close waits for its last request, which may never end: the program hung, or ended with 0 and its broker open.
test('what is to end before the brokers has the time that handlers have, and then makes the status 1', async () => {
  for (const before of ['() => new Promise(() => {})', '() => pause(60_000)']) {
    const path = directory();
    const source = `closeOnSignal(broker, { timeout: 50, before: ${before} });
      const ending = setTimeout(() => {}, 10_000);
      process.once('SIGTERM', () => clearTimeout(ending)); // nothing else keeps the loop from now on
      console.log('began');`;
    const { code, stderr } = await signalled(path, source, 'SIGTERM');
    assert.equal(code, 1, stderr);
    assert.match(stderr, /before has not ended in 50 ms/);
    assert.equal((await verify(path)).closed, true);
  }
});

// Its handler was called twice for one signal, which was taken for a second one.
test('a signal that is named twice is heard once', async () => {
  const path = directory();
  const source = `${SLOW} closeOnSignal(broker, { signals: ['SIGTERM', 'SIGTERM'] }); await broker.enqueue('q', 200);`;
  const { code, stdout } = await signalled(path, source, 'SIGTERM');
  assert.deepEqual([code, stdout], [143, 'began\nended\n']);
});

test('without it, or when it was taken back, a signal does what it does', async () => {
  const source = `${SLOW} closeOnSignal(broker)(); await broker.enqueue('q', 60_000);`;
  assert.equal((await signalled(directory(), source, 'SIGTERM')).signal, 'SIGTERM');
});

test('what is no broker, no signal, or no main thread is refused', async (t) => {
  const queue = await broker(t);
  assert.throws(() => closeOnSignal(5), TypeError);
  assert.throws(() => closeOnSignal([queue, {}]), TypeError);
  assert.throws(() => closeOnSignal(queue, { signals: 'SIGTERM' }), TypeError);
  assert.throws(() => closeOnSignal(queue, { signals: ['SIGNONE'] }), { code: 'INVALID' });
  assert.throws(() => closeOnSignal(queue, { signal: [] }), { code: 'INVALID' });
  assert.throws(() => closeOnSignal(queue, { signals: [] }), { code: 'INVALID', message: /signals names none/ });
  // These reach no program; what was listened to before them was listened to still.
  for (const signal of ['SIGKILL', 'SIGSTOP']) {
    const signals = ['SIGTERM', signal];
    assert.throws(() => closeOnSignal(queue, { signals }), { code: 'INVALID', message: RegExp(signal) });
    assert.equal(process.listenerCount(signal), 0);
  }
  assert.equal(process.listenerCount('SIGTERM'), 0);
  const { code, stderr } = await program(`
    const worker = new threads.Worker(\`import('\${LIBRARY}').then(async ({ open, closeOnSignal }) =>
      closeOnSignal(await open(':memory:')))\`, { eval: true, execArgv: [] });
    worker.once('error', (error) => process.exit(error.code === 'UNSUPPORTED' ? 0 : 5));
    await pause(60_000);`);
  assert.equal(code, 0, stderr);
});
