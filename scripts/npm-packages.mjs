// Makes the packages for npm out of what was built for each platform: `@libmq/node`, which is JavaScript alone, and beside it one
// package a platform with the native half, of which npm installs the one that fits.
//
// node scripts/npm-packages.mjs BINARIES OUT [--some]
//
// BINARIES has `<platform>/libmq.node`, for each platform below that the engine is built for; with --some for those that there are.
// OUT is made, with a directory for each package.

import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HOUSE = fileURLToPath(new URL('..', import.meta.url));
const PACKAGE = join(HOUSE, 'bindings/node');
const LICENCES = ['LICENSE-APACHE', 'LICENSE-MIT'];

const PLATFORMS = {
  'linux-x64-gnu': { os: ['linux'], cpu: ['x64'], libc: ['glibc'] },
  'linux-x64-musl': { os: ['linux'], cpu: ['x64'], libc: ['musl'] },
  'linux-arm64-gnu': { os: ['linux'], cpu: ['arm64'], libc: ['glibc'] },
  'linux-arm64-musl': { os: ['linux'], cpu: ['arm64'], libc: ['musl'] },
  'darwin-x64': { os: ['darwin'], cpu: ['x64'] },
  'darwin-arm64': { os: ['darwin'], cpu: ['arm64'] },
  'win32-x64-msvc': { os: ['win32'], cpu: ['x64'] },
};

// The engine asks for a Unix. Where it is built for another system, that has a package, too.
const NOT_ASKED_FOR = ['win32-x64-msvc'];

const [binaries, out, ...flags] = process.argv.slice(2);
if (out === undefined || flags.some((flag) => flag !== '--some')) fail('usage: npm-packages.mjs BINARIES OUT [--some]');

const built = Object.keys(PLATFORMS).filter((platform) => existsSync(binaryOf(platform)));
const missing = Object.keys(PLATFORMS).filter((platform) => ![...built, ...NOT_ASKED_FOR].includes(platform));
if (built.length === 0 || (missing.length > 0 && !flags.includes('--some'))) {
  fail(`${binaries} has nothing for ${missing.join(', ')}`);
}

const own = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8'));
rmSync(out, { recursive: true, force: true });
for (const platform of built) makePlatform(platform);
makeMain();

function makePlatform(platform) {
  const name = `@libmq/node-${platform}`;
  const at = join(out, platform);
  mkdirSync(at, { recursive: true });
  const { version, license, repository, homepage, bugs, engines } = own;
  const description = `The native half of @libmq/node for ${platform}.`;
  const files = ['libmq.node', ...LICENCES];
  const fixed = { version, description, license, repository, homepage, bugs, engines };
  write(at, { name, ...fixed, ...PLATFORMS[platform], main: 'libmq.node', files });
  writeFileSync(
    join(at, 'README.md'),
    `# ${name}\n\n${description} It is installed with that package, and of no use without.\n`,
  );
  cpSync(binaryOf(platform), join(at, 'libmq.node'));
  chmodSync(join(at, 'libmq.node'), 0o644);
  if (platform.startsWith('linux')) strip(join(at, 'libmq.node'));
}

function makeMain() {
  const at = join(out, 'node');
  mkdirSync(at, { recursive: true });
  cpSync(join(PACKAGE, 'lib'), join(at, 'lib'), { recursive: true });
  copyLicences(at);
  const files = own.files.filter((file) => file !== 'libmq.node');
  const optionalDependencies = Object.fromEntries(built.map((platform) => [`@libmq/node-${platform}`, own.version]));
  write(at, { ...own, files, optionalDependencies });
  // The documentation of this version, whatever becomes of it later.
  const readme = readFileSync(join(PACKAGE, 'README.md'), 'utf8');
  writeFileSync(join(at, 'README.md'), readme.replaceAll('/blob/main/', `/blob/v${own.version}/`));
}

function write(at, description) {
  writeFileSync(join(at, 'package.json'), `${JSON.stringify(description, null, 2)}\n`);
  copyLicences(at);
}

function copyLicences(at) {
  for (const name of LICENCES) cpSync(join(HOUSE, name), join(at, name));
}

// What only debuggers read is three quarters of it. A tool for another kind of processor leaves it as it is.
function strip(file) {
  for (const tool of ['strip', 'llvm-strip']) {
    try {
      execFileSync(tool, ['--strip-unneeded', file], { stdio: 'ignore' });
      return;
    } catch {
      // The next one may be there, or know the processor.
    }
  }
}

function binaryOf(platform) {
  return join(binaries, platform, 'libmq.node');
}

function fail(why) {
  console.error(`error: ${why}`);
  process.exit(1);
}
