// What is written of the package: every program in its documents runs, and what they say of others' is at least JavaScript.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { installed, run, tools } from './support.mjs';

const HOUSE = new URL('../../../', import.meta.url);

// What programs import that is not theirs.
const OTHERS = {
  'database.js': `export const database = { begin: async () => ({
    insert: async (table) => console.log('insert into', table),
    commit: async () => console.log('commit'),
    rollback: async () => console.log('rollback'),
  }) };`,
  'gateway.js': `export const gateway = { isDown: false, charge: async () => ({ status: 200 }) };`,
  'pictures.js': `export const scale = async (file) => console.log('scaled', file);`,
};

// Runs a program, then waits until every broker that it has started has nothing left to do, and ends it.
const RUNNER = `import { Broker } from '@libmq/node';
  const brokers = new Set();
  const { start } = Broker.prototype;
  Broker.prototype.start = function () {
    brokers.add(this);
    return start.call(this);
  };
  await import(process.argv[2]);
  for (const broker of brokers) {
    const figures = await broker.waitIdle({ timeout: 10_000 }).then(() => broker.metrics(), () => undefined);
    if (figures?.handlerErrors > 0 || figures?.deadLettered > 0) throw new Error('a handler has failed');
    await broker.close().catch(() => {});
  }
  // Threads and children that it has started end as it says, or with it.
  if (process.argv[3] === 'end') process.exit();`;

const TYPES = {
  strict: true,
  experimentalDecorators: true,
  emitDecoratorMetadata: true,
  target: 'ES2022',
  lib: ['ES2023', 'ESNext.Disposable'],
  module: 'NodeNext',
  moduleResolution: 'NodeNext',
  types: ['node', 'reflect-metadata'],
  skipLibCheck: true,
};

// The programs of a document, with the lines that they begin at.
function programs(document) {
  const text = readFileSync(new URL(document, HOUSE), 'utf8');
  return [...text.matchAll(/^```(js|ts)( before)?\n(.*?)^```$/gms)].map((found) => {
    const [, language, before, source] = found;
    const place = `${document}:${text.slice(0, found.index).split('\n').length}`;
    return { place, language, isOfOthers: before !== undefined, source };
  });
}

for (const document of ['docs/node.md', 'bindings/node/README.md']) {
  test(`every program in ${document} runs`, async (t) => {
    const all = programs(document);
    assert.ok(all.length >= 2);
    const at = tools(t, 'zod', 'typescript', '@nestjs/core', 'reflect-metadata');
    if (at === undefined) return;
    for (const { place, language, isOfOthers, source } of all) {
      const name = language === 'ts' ? 'program.ts' : source.includes('require(') ? 'program.cjs' : 'program.mjs';
      const tsconfig = JSON.stringify({ compilerOptions: TYPES, files: ['program.ts'] });
      const files = { 'package.json': '{ "type": "module" }', 'run.mjs': RUNNER, 'tsconfig.json': tsconfig, ...OTHERS };
      const app = installed(at, { ...files, [name]: source });
      const node = async (...args) => {
        // Otherwise it would take itself for a part of this one.
        const env = { NODE_TEST_CONTEXT: undefined };
        const { code, stdout, stderr } = await run(app, process.execPath, args, { env });
        assert.equal(code, 0, `${place}: ${stdout}${stderr}`);
        return stdout;
      };
      if (isOfOthers) {
        await node('--check', name);
      } else if (language === 'ts') {
        await node(join(at, 'node_modules/typescript/bin/tsc'));
        await node('--import', 'reflect-metadata', 'run.mjs', './program.js', 'end');
      } else if (source.includes('test(')) {
        assert.match(await node('--test', '--test-reporter', 'tap', name), /# fail 0/, place);
      } else {
        // Those with threads and children are themselves the program.
        await (/cluster|worker_threads/.test(source) ? node(name) : node('run.mjs', `./${name}`, 'end'));
      }
    }
  });
}
