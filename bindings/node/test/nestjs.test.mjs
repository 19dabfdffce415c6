// NestJS: real applications, written in TypeScript and compiled as theirs are, each in a process of its own.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { open } from '../lib/index.mjs';
import { directory, installed, run, tools } from './support.mjs';

const SOURCE = readFileSync(new URL('nestjs/app.ts', import.meta.url), 'utf8');
const SETTINGS = {
  strict: true,
  noUncheckedIndexedAccess: true,
  noImplicitOverride: true,
  experimentalDecorators: true,
  emitDecoratorMetadata: true,
  target: 'ES2022',
  lib: ['ES2023', 'ESNext.Disposable'],
  module: 'NodeNext',
  moduleResolution: 'NodeNext',
  types: ['node'],
  skipLibCheck: true,
};

const NEEDED = ['typescript', 'reflect-metadata', '@nestjs/common', '@nestjs/core', '@nestjs/testing'];

let compiled;

// Compiles the applications, once; answers where they are.
async function applications(t) {
  const at = tools(t, ...NEEDED);
  if (at === undefined) return undefined;
  compiled ??= (async () => {
    const tsconfig = JSON.stringify({ compilerOptions: SETTINGS, files: ['app.ts'] });
    const app = installed(at, { 'package.json': '{ "type": "module" }', 'tsconfig.json': tsconfig, 'app.ts': SOURCE });
    const { code, stdout } = await run(app, process.execPath, [join(at, 'node_modules/typescript/bin/tsc')]);
    assert.equal(code, 0, stdout);
    return app;
  })();
  return compiled;
}

async function application(t, name, path = ':memory:') {
  const app = await applications(t);
  if (app === undefined) return;
  const { code, stdout, stderr } = await run(app, process.execPath, ['app.js', name, path]);
  assert.equal(code, 0, stdout + stderr);
}

test('methods of providers handle queues, with what is injected into them, and the broker is injected by its class', (t) =>
  application(t, 'handles'));

test('a request-scoped handler has instances of its own in each attempt, which are closed before the ack', (t) =>
  application(t, 'scopes'));

test('the module is configured by a factory, a class, or a provider that is there; controllers and base classes have handlers', (t) =>
  application(t, 'asynchronous'));

test('brokers are told apart by their names', (t) => application(t, 'named'));

test('a queue with two handlers, and a handler of no broker, fail the start and leave nobody with the directory', (t) =>
  application(t, 'doubled', directory()));

test('a module under test has a test broker, and runs when it is drained', (t) => application(t, 'testing'));

test('handlers end before what they use is closed', (t) => application(t, 'ending'));

test('on SIGTERM the handler that runs ends, the rest waits for the next start, and the process ends by the signal', async (t) => {
  const app = await applications(t);
  if (app === undefined) return;
  const path = directory();
  const ended = await run(app, process.execPath, ['app.js', 'signalled', path], {
    whileItRuns: (child) => child.stdout.once('data', () => child.kill('SIGTERM')),
  });
  assert.equal(ended.stdout, 'began\nended\n');
  assert.equal(ended.signal, 'SIGTERM', ended.stderr);
  const broker = await open(path);
  assert.equal(broker.recovery.messages, 1);
  assert.equal(broker.recovery.suspects, 0);
  assert.equal(await broker.deadLetters.count(), 0);
  await broker.close();
});
