// The declarations and what they declare: every name is on both sides.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import * as libmq from '../lib/index.mjs';
import * as testing from '../lib/testing/index.mjs';
import { broker, tools } from './support.mjs';

const require = createRequire(import.meta.url);
const { tables } = require('../lib/options.js');

// The declarations of a file: of each name its kind, and the names of its members.
function declarations(at, file) {
  const ts = createRequire(join(at, 'tools.js'))('typescript');
  const path = fileURLToPath(new URL(`../lib/${file}`, import.meta.url));
  const program = ts.createProgram([path], { strict: true, noLib: true, types: [] });
  const checker = program.getTypeChecker();
  const exports = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(path)));
  return new Map(
    exports.map((exported) => {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      const { kind } = symbol.declarations[0];
      const members = [...(symbol.members?.keys() ?? [])].filter((name) => /^[a-z]/.test(name));
      const isValue = [ts.SyntaxKind.ClassDeclaration, ts.SyntaxKind.FunctionDeclaration].includes(kind);
      return [exported.name, { isValue, isClass: kind === ts.SyntaxKind.ClassDeclaration, members }];
    }),
  );
}

const valuesOf = (declared) => [...declared].filter(([, { isValue }]) => isValue).map(([name]) => name);
const namesOf = (module) => Object.keys(module).filter((name) => !['default', 'module.exports'].includes(name));

// What an object has that is not the language's.
function publicNames(object, stop) {
  const names = new Set();
  for (let at = object; at !== stop && at !== null; at = Object.getPrototypeOf(at)) {
    for (const name of Object.getOwnPropertyNames(at)) names.add(name);
  }
  return [...names].filter((name) => !['constructor', 'name', 'message', 'stack', 'cause'].includes(name)).sort();
}

test('every export is declared, and every declared value is exported', (t) => {
  const at = tools(t, 'typescript');
  if (at === undefined) return;
  assert.deepEqual(namesOf(libmq).sort(), valuesOf(declarations(at, 'index.d.ts')).sort());
  assert.deepEqual(namesOf(testing).sort(), valuesOf(declarations(at, 'testing/index.d.ts')).sort());
  const { DeadLetters } = require('../lib/dead_letters.js');
  const letters = declarations(at, 'index.d.ts').get('DeadLetters').members.sort();
  assert.deepEqual(publicNames(DeadLetters.prototype, Object.prototype), letters);
});

test('what NestJS is given is declared, and what is declared is given', (t) => {
  const at = tools(t, 'typescript', '@nestjs/common', 'reflect-metadata');
  if (at === undefined) return;
  const declared = declarations(at, 'nestjs/index.d.ts');
  assert.deepEqual(valuesOf(declared).sort(), ['InjectBroker', 'LibmqModule', 'MessageHandler', 'brokerToken']);
});

// Where a program names no types of its own, as `types: []` does, seven names were not found.
test('the declarations bring the types of Node with them', (t) => {
  const at = tools(t, 'typescript', '@types/node');
  if (at === undefined) return;
  const ts = createRequire(join(at, 'tools.js'))('typescript');
  const paths = ['index.d.ts', 'testing/index.d.ts'].map((file) =>
    fileURLToPath(new URL(`../lib/${file}`, import.meta.url)),
  );
  const typeRoots = [join(at, 'node_modules/@types')];
  const lib = ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'];
  const options = { strict: true, noEmit: true, lib, types: [], typeRoots, module: ts.ModuleKind.NodeNext };
  const program = ts.createProgram(paths, options);
  const wrong = ts
    .getPreEmitDiagnostics(program)
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '));
  assert.deepEqual(wrong, []);
});

test('every class has the members that are declared, and no other', async (t) => {
  const at = tools(t, 'typescript');
  if (at === undefined) return;
  const queue = await broker(t, { defaultMaxRetries: 0 });
  await queue.enqueue('q', 1);
  const delivery = await queue.receive('q', { timeout: 0 });
  await delivery.reject();
  const [letter] = await queue.deadLetters.list();
  let context;
  queue.handle('r', (_, ctx) => void (context = ctx));
  await queue.enqueue('r', 1);
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  const declared = declarations(at, 'index.d.ts');
  const receipt = await queue.enqueue('s', 1);
  const plain = { Broker: queue, Delivery: delivery, DeadLetter: letter, Context: context, Receipt: receipt };
  for (const [name, object] of Object.entries(plain)) {
    assert.deepEqual(publicNames(object, Object.prototype), declared.get(name).members.sort(), name);
  }
  const errors = {
    CancelledError: new libmq.CancelledError('timeout'),
    RetryError: new libmq.RetryError(1),
    RejectError: new libmq.RejectError(),
    ReleaseError: new libmq.ReleaseError(1),
  };
  for (const [name, error] of Object.entries(errors)) {
    assert.deepEqual(publicNames(error, Error.prototype), declared.get(name).members.sort(), name);
  }
  assert.deepEqual(Object.keys(queue.metrics()).sort(), membersOfBoth(declared, 'Metrics', 'Figures'));
  assert.deepEqual(Object.keys(queue.metrics().queues.q).sort(), declared.get('Figures').members.sort());
  assert.deepEqual(Object.keys(queue.recovery).sort(), declared.get('Recovery').members.sort());
});

test('every option is declared, and every declared option is taken', (t) => {
  const at = tools(t, 'typescript');
  if (at === undefined) return;
  const declared = new Map([...declarations(at, 'index.d.ts'), ...declarations(at, 'testing/index.d.ts')]);
  for (const [table, ...names] of [
    [tables.broker, 'BrokerOptions'],
    [tables.handler, 'HandlerOptions'],
    [tables.message, 'MessageOptions'],
    [tables.receive, 'ReceiveOptions'],
    [tables.signals, 'SignalOptions'],
    [tables.drain, 'DrainOptions'],
    [tables.run, 'RunOptions', 'HandlerOptions'],
  ]) {
    assert.deepEqual(Object.keys(table).sort(), membersOfBoth(declared, ...names), names[0]);
  }
});

function membersOfBoth(declared, ...names) {
  return names.flatMap((name) => declared.get(name).members).sort();
}
