// What npm installs: from a clone, from a tarball of it, and as it is released, with the native half in a package of its own; and
// what is said where that cannot be had.

import assert from 'node:assert/strict';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { run, skip, tools } from './support.mjs';

const PACKAGE = fileURLToPath(new URL('..', import.meta.url));
const HOUSE = join(PACKAGE, '../..');
const { platform } = createRequire(import.meta.url)('../lib/platform.js');
const HERE = platform().name;

const USE = `
  const broker = await open('data');
  broker.handle('orders', async ({ id }, ctx) => ctx.enqueue('mail', { id }));
  await broker.start();
  await broker.enqueue('orders', { id: 'ORD-1' });
  await broker.waitIdle({ timeout: 20_000 });
  const mail = await broker.receive('mail', { timeout: 0 });
  await mail.ack();
  await broker.close();
  const test = await testBroker();
  await test.close();
  console.log(mail.body.id);`;
const PROGRAMS = {
  'use.mjs': `import libmq, { open } from '@libmq/node'; import { testBroker } from '@libmq/node/testing';
    if (libmq.open !== open) throw new Error('there are two of it'); ${USE}`,
  'use.cjs': `const { open } = require('@libmq/node'); const { testBroker } = require('@libmq/node/testing');
    require("@libmq/node/package.json"); (async () => { ${USE} })();`,
};

const npmIsThere = await run('.', 'npm', ['--version']).then(({ code }) => code === 0);

function empty(t) {
  const path = mkdtempSync(join(tmpdir(), 'libmq-npm-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

// Runs npm, or a part of it that asks nobody; answers what it says.
async function npm(cwd, ...args) {
  const { code, stdout, stderr } = await run(cwd, 'npm', args);
  assert.equal(code, 0, stdout + stderr);
  return stdout;
}

// A tarball of a package.
async function packed(t, from) {
  const to = empty(t);
  const [{ filename, files, size }] = JSON.parse(await npm(from, 'pack', '--json', '--pack-destination', to));
  return { tarball: join(to, filename), files: files.map(({ path }) => path), size };
}

async function installs(t, ...what) {
  const app = empty(t);
  writeFileSync(join(app, 'package.json'), '{ "private": true }');
  await npm(app, 'install', '--offline', '--no-audit', '--no-fund', ...what);
  await works(app);
  return app;
}

async function works(app) {
  for (const [name, text] of Object.entries(PROGRAMS)) {
    writeFileSync(join(app, name), text);
    const { code, stdout, stderr } = await run(app, process.execPath, [name]);
    assert.equal(code, 0, stderr);
    assert.equal(stdout, 'ORD-1\n');
  }
}

// The packages as they are released, of this platform alone.
async function released(t) {
  const [binaries, out] = [empty(t), join(empty(t), 'out')];
  mkdirSync(join(binaries, HERE));
  copyFileSync(join(PACKAGE, 'libmq.node'), join(binaries, HERE, 'libmq.node'));
  const script = join(HOUSE, 'scripts/npm-packages.mjs');
  const { code, stderr } = await run('.', process.execPath, [script, binaries, out, '--some']);
  assert.equal(code, 0, stderr);
  return out;
}

// A program's directory with the released package, and with what is given for this platform's.
async function withNative(t, native) {
  const out = await released(t);
  const app = empty(t);
  const scope = join(app, 'node_modules/@libmq');
  cpSync(join(out, 'node'), join(scope, 'node'), { recursive: true });
  const at = join(scope, `node-${HERE}`);
  cpSync(join(out, HERE), at, { recursive: true });
  native?.(at, scope);
  return app;
}

async function refusal(app, source = "require('@libmq/node')") {
  const { code, stderr } = await run(app, process.execPath, ['--eval', source]);
  assert.equal(code, 1, stderr);
  assert.match(stderr, /code: 'LIBMQ_NOT_LOADED'/);
  return /^Error: (.*)$/m.exec(stderr)[1];
}

test('a clone that was built is installed as it is', { skip: !npmIsThere && 'npm is not there' }, (t) =>
  installs(t, PACKAGE),
);

test('a tarball of a clone has the licences and nothing of the tests, and works where nothing else is', async (t) => {
  if (!npmIsThere) return skip(t, 'Node: npm is not there to pack with');
  const { tarball, files } = await packed(t, PACKAGE);
  for (const name of ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'lib/index.d.mts', 'libmq.node']) {
    assert.ok(files.includes(name), name);
  }
  assert.deepEqual([...new Set(files.map((name) => name.split('/')[0]))].sort(), [
    'LICENSE-APACHE',
    'LICENSE-MIT',
    'README.md',
    'lib',
    'libmq.node',
    'package.json',
  ]);
  await installs(t, tarball);
});

test('as released, the package is JavaScript, and the native half comes in the package of the platform', async (t) => {
  if (!npmIsThere) return skip(t, 'Node: npm is not there to pack with');
  const out = await released(t);
  const [main, native] = [await packed(t, join(out, 'node')), await packed(t, join(out, HERE))];
  assert.ok(!main.files.includes('libmq.node'));
  assert.deepEqual(native.files.sort(), ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'libmq.node', 'package.json']);
  const { optionalDependencies, version } = JSON.parse(readFileSync(join(out, 'node/package.json'), 'utf8'));
  assert.deepEqual(optionalDependencies, { [`@libmq/node-${HERE}`]: version });
  const { os, cpu, libc } = JSON.parse(readFileSync(join(out, HERE, 'package.json'), 'utf8'));
  assert.deepEqual([os, cpu, libc], [['linux'], [process.arch], [HERE.endsWith('musl') ? 'musl' : 'glibc']]);
  assert.ok(native.size < 3_000_000, `${native.size} bytes`);
  await installs(t, main.tarball, native.tarball);
});

test('what is tried before it is published is installed and run as it is here', async (t) => {
  if (!npmIsThere) return skip(t, 'Node: npm is not there to pack with');
  const [out, to] = [await released(t), empty(t)];
  for (const name of ['node', HERE]) await npm(join(out, name), 'pack', '--pack-destination', to);
  const env = { npm_config_offline: 'true' };
  const { code, stdout, stderr } = await run('.', 'sh', [join(HOUSE, 'scripts/try-npm-packages.sh'), to], { env });
  assert.equal(code, 0, stdout + stderr);
  assert.match(stdout, new RegExp(`it works on ${HERE}`));
});

test('a release lacks no platform', async (t) => {
  const [binaries, out] = [empty(t), empty(t)];
  const { code, stderr } = await run('.', process.execPath, [join(HOUSE, 'scripts/npm-packages.mjs'), binaries, out]);
  assert.equal(code, 1);
  assert.match(stderr, /has nothing for linux-x64-gnu, .*, darwin-arm64$/m);
});

test('where the native half is missing, of another version, damaged, or too new, one error says so and what to do', async (t) => {
  await works(await withNative(t));
  const missing = await refusal(await withNative(t, (at) => rmSync(at, { recursive: true })));
  assert.match(
    missing,
    new RegExp(`needs the package @libmq/node-${HERE} for linux ${process.arch} with (glibc|musl), .* not installed`),
  );
  assert.match(missing, /optional dependency.*--omit=optional.*lockfile/);
  const other = (at) => {
    const own = JSON.parse(readFileSync(join(at, 'package.json'), 'utf8'));
    writeFileSync(join(at, 'package.json'), JSON.stringify({ ...own, version: '0.0.9' }));
  };
  assert.match(await refusal(await withNative(t, other)), /needs @libmq.* 0\.1\.0, but 0\.0\.9 is installed/);
  const damaged = (at) => writeFileSync(join(at, 'libmq.node'), 'no library');
  assert.match(
    await refusal(await withNative(t, damaged)),
    /is there but cannot be loaded: it is damaged.*The system says: /,
  );
  const tooNew = (at) => {
    const text = "/lib/libc.so.6: version `GLIBC_2.99' not found (required by libmq.node)";
    writeFileSync(join(at, 'new.js'), `throw new Error(${JSON.stringify(text)})`);
    const own = JSON.parse(readFileSync(join(at, 'package.json'), 'utf8'));
    writeFileSync(join(at, 'package.json'), JSON.stringify({ ...own, main: 'new.js' }));
  };
  assert.match(await refusal(await withNative(t, tooNew)), /needs GLIBC 2\.99 or newer, but this system has glibc/);
});

test('where there is no build for the platform, or a clone was not built, one error says so', async (t) => {
  const strange = "Object.defineProperty(process, 'arch', { value: 'riscv64' }); require('@libmq/node')";
  const app = await withNative(t);
  assert.match(
    await refusal(app, strange),
    new RegExp(`no build for linux riscv64 with .* There are builds for ${HERE};`),
  );
  const clone = empty(t);
  for (const name of ['lib', 'package.json']) {
    cpSync(join(PACKAGE, name), join(clone, 'node_modules/@libmq/node', name), { recursive: true });
  }
  assert.match(await refusal(clone), /was not built yet: `make build`/);
});

test('the types are those of each kind of module, for every way in which compilers look for them', async (t) => {
  const at = tools(t, 'typescript', '@nestjs/common', 'reflect-metadata');
  if (at === undefined) return;
  const app = mkdtempSync(join(at, 'app-'));
  t.after(() => rmSync(app, { recursive: true, force: true }));
  cpSync(join(PACKAGE, 'lib'), join(app, 'node_modules/@libmq/node/lib'), { recursive: true });
  copyFileSync(join(PACKAGE, 'package.json'), join(app, 'node_modules/@libmq/node/package.json'));
  const source = `
    import { open, type Broker, LibmqError } from '@libmq/node';
    import { testBroker, assertEnqueued, runHandler } from '@libmq/node/testing';
    import { LibmqModule, MessageHandler } from '@libmq/node/nestjs';
    export const uses = async (): Promise<void> => {
      const broker: Broker = await open(':memory:');
      const of: Broker = await testBroker();
      const { outcome } = await runHandler((order: { id: string }) => order.id, { id: 'A' });
      // @ts-expect-error: no such outcome
      if (outcome === 'acked') throw new Error();
      assertEnqueued(of, 'orders', { id: 'A' }, { delay: 5 }).id?.toString();
      // @ts-expect-error: there is no such option
      assertEnqueued(of, 'orders', { id: 'A' }, { dely: 5 });
      // @ts-expect-error: it is a number
      await broker.enqueue('orders', 1, { delay: 'soon' });
      console.log(LibmqModule.forRoot({ path: 'data' }), LibmqError.name);
    };
    export class Orders {
      @MessageHandler('orders') handle(order: { id: string }): void { console.log(order); }
      // @ts-expect-error: no method
      @MessageHandler('orders') place = 5;
    }`;
  const fits = {
    strict: true,
    noEmit: true,
    experimentalDecorators: true,
    target: 'ES2022',
    lib: ['ES2023', 'ESNext.Disposable'],
    types: ['node'],
    typeRoots: [join(at, 'node_modules/@types')],
    // The declarations of others are theirs.
    skipLibCheck: true,
  };
  for (const [names, options] of [
    [['esm.mts', 'cjs.cts'], { module: 'NodeNext', moduleResolution: 'NodeNext' }],
    [['bundled.ts'], { module: 'ESNext', moduleResolution: 'Bundler' }],
    [['old.ts'], { module: 'CommonJS', moduleResolution: 'Node10' }],
  ]) {
    for (const name of names) writeFileSync(join(app, name), source);
    const compilerOptions = { ...fits, ...options };
    writeFileSync(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: names }));
    const { code, stdout } = await run(app, process.execPath, [join(at, 'node_modules/typescript/bin/tsc')]);
    assert.equal(code, 0, `${names}: ${stdout}`);
  }
});

test('whoever looks for wrong types finds none', async (t) => {
  const at = tools(t, '@arethetypeswrong/cli');
  if (at === undefined || !npmIsThere) return;
  const { tarball } = await packed(t, PACKAGE);
  const args = [
    join(at, 'node_modules/@arethetypeswrong/cli/dist/index.js'),
    tarball,
    '--no-definitely-typed',
    '--format',
    'ascii',
  ];
  const { code, stdout, stderr } = await run(PACKAGE, process.execPath, args, { env: { NO_COLOR: '1' } });
  assert.equal(code, 0, stdout + stderr);
});

test('the licences in the package are those of the house, and its links lead somewhere from anywhere', () => {
  for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) {
    assert.equal(readFileSync(join(PACKAGE, name), 'utf8'), readFileSync(join(HOUSE, name), 'utf8'));
  }
  const readme = readFileSync(join(PACKAGE, 'README.md'), 'utf8').replace(/`[^`]*`/g, '');
  const links = [...readme.matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link);
  assert.ok(links.length > 2);
  const root = 'https://github.com/libmq/libmq/blob/main/';
  for (const link of links) {
    assert.ok(link.startsWith(root), link);
    assert.ok(existsSync(join(HOUSE, link.slice(root.length).split('#')[0])), link);
  }
});

test('the package runs nothing when it is installed', () => {
  const { scripts = {} } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8'));
  assert.deepEqual(Object.keys(scripts), []);
  assert.ok(readdirSync(PACKAGE).every((name) => name !== 'binding.gyp'));
});
