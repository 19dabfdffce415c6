// What the tests share: directories, brokers that are closed, and programs of their own for what may end a program.

import { execFile } from 'node:child_process';
import { appendFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { open } from '../lib/index.mjs';

// What a test waits for comes far sooner, and a program of its own ends.
export const LONG = 20_000;
const PROGRAM_MAX = 120_000;

// Directories go when the tests are over, and their brokers are closed.
const directories = [];
process.on('exit', () => {
  for (const path of directories) rmSync(path, { recursive: true, force: true });
});

export function directory() {
  directories.push(mkdtempSync(join(tmpdir(), 'libmq-node-')));
  return join(directories.at(-1), 'queue');
}

// A broker that is closed with the test; without files, unless a path is given.
export async function broker(t, options = {}, path = ':memory:') {
  const opened = await open(path, { defaultBackoff: 0, ...options });
  t.after(() => opened.close({ timeout: 0 }).catch(() => {}));
  return opened;
}

export async function until(what) {
  const end = Date.now() + LONG;
  while (!(await what())) {
    if (Date.now() > end) throw new Error('it did not come to that');
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

const LIBRARY = new URL('../lib/index.mjs', import.meta.url).href;

// Runs a program in a process of its own, which has `open` and the like and the arguments; answers how it ended.
export function program(source, ...args) {
  const head = `import * as libmq from '${LIBRARY}'; import * as threads from 'node:worker_threads';
    const { open, RetryError } = libmq; const LIBRARY = '${LIBRARY}'; const args = process.argv.slice(1);
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));`;
  const flags = ['--expose-gc', '--input-type=module', '--eval', head + source, '--', ...args];
  return new Promise((resolve) => {
    execFile(process.execPath, flags, { timeout: PROGRAM_MAX, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, signal: error?.signal ?? null, stdout, stderr });
    });
  });
}

// For a program: starts worker threads that run a source, and hears what they post.
export const THREAD = `const thread = (source, workerData) =>
  new threads.Worker(\`import('\${LIBRARY}').then(async (libmq) => {
    const { parentPort: port, workerData } = require('node:worker_threads');
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    \${source}
  })\`, { eval: true, execArgv: [], workerData });
const heard = (worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));`;

// Where the tests' script keeps what is fetched of others; undefined, with the test skipped, where that is not there.
export function tools(t, ...names) {
  const at = process.env.LIBMQ_NODE_TOOLS;
  const missing = names.find((name) => at === undefined || !existsSync(join(at, 'node_modules', name)));
  if (missing === undefined) return at;
  skip(t, `Node: not tested with ${missing}, which is not there`);
  return undefined;
}

export function skip(t, reason) {
  if (process.env.LIBMQ_SKIPS) appendFileSync(process.env.LIBMQ_SKIPS, `${reason}\n`);
  t.skip(reason);
}

// A program's directory in which the package is installed, beside what the tools have of others; it goes with the tests.
export function installed(at, files) {
  const app = mkdtempSync(join(at, 'app-'));
  directories.push(app);
  const place = join(app, 'node_modules', '@libmq', 'node');
  mkdirSync(place, { recursive: true });
  for (const name of ['lib', 'package.json', 'libmq.node']) {
    cpSync(new URL(`../${name}`, import.meta.url), join(place, name), { recursive: true });
  }
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(app, name)), { recursive: true });
    writeFileSync(join(app, name), text);
  }
  return app;
}

// Runs a program of others in a directory; answers how it ended. `whileItRuns` is given the process.
export function run(cwd, command, args, { env = {}, whileItRuns } = {}) {
  const options = {
    cwd,
    timeout: PROGRAM_MAX,
    killSignal: 'SIGKILL',
    env: { ...process.env, ...env },
    maxBuffer: 1 << 24,
  };
  return new Promise((resolve) => {
    const child = execFile(command, args, options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, signal: error?.signal ?? null, stdout, stderr });
    });
    whileItRuns?.(child);
  });
}
