'use strict';

// The native half: what a build leaves beside this directory, or else the package for this platform, which a released package
// has among its optional dependencies, so that npm installs the one that fits.

const { existsSync } = require('node:fs');
const { join } = require('node:path');

const { optionalDependencies: builds, version } = require('../package.json');
const { glibc, platform } = require('./platform.js');

const LOCAL = join(__dirname, '..', 'libmq.node');

function load() {
  if (existsSync(LOCAL)) return loaded(LOCAL, () => require('../libmq.node'));
  const { system, arch, libc, name } = platform();
  const here = `${system} ${arch}${libc === undefined ? '' : ` with ${libc === 'gnu' ? 'glibc' : 'musl'}`}`;
  const wanted = `@libmq/node-${name}`;
  if (builds === undefined) {
    throw failure(
      '@libmq/node is here as its repository has it, and was not built yet: `make build` does that, with Rust.',
    );
  }
  if (!Object.hasOwn(builds, wanted)) {
    const others = Object.keys(builds).map((of) => of.replace('@libmq/node-', ''));
    throw failure(
      `@libmq/node has no build for ${here}. There are builds for ${others.join(', ')}; elsewhere it is built from its ` +
        'repository, with Rust, by `make build`.',
    );
  }
  let of;
  try {
    of = require(`${wanted}/package.json`).version;
  } catch (cause) {
    throw failure(
      `@libmq/node needs the package ${wanted} for ${here}, which is not installed. It is an optional dependency: install ` +
        'without `--omit=optional` or `--no-optional`, on the platform that the program runs on, and without `node_modules` of ' +
        'another one. Where a lockfile was made on another platform and lacks it, remove `node_modules` and the lockfile and ' +
        `install again, or add ${wanted}@${version} yourself.`,
      cause,
    );
  }
  if (of !== version) {
    throw failure(
      `@libmq/node ${version} needs ${wanted} ${version}, but ${of} is installed. Install both again, together.`,
    );
  }
  return loaded(wanted, () => require(wanted));
}

// What is there, but does not load.
function loaded(what, call) {
  try {
    return call();
  } catch (cause) {
    const [, needed] = /version `(GLIBC_[\d.]+)' not found/.exec(cause.message) ?? [];
    if (needed !== undefined) {
      throw failure(
        `${what} needs ${needed.replace('_', ' ')} or newer, but this system has glibc ${glibc()}. Run on a newer system, or build ` +
          'libmq on this one from its repository, by `make build`.',
        cause,
      );
    }
    throw failure(
      `${what} is there but cannot be loaded: it is damaged, or of another platform than ${platform().name}. Install it again. ` +
        `The system says: ${cause.message}`,
      cause,
    );
  }
}

function failure(text, cause) {
  return Object.assign(new Error(text, cause === undefined ? undefined : { cause }), { code: 'LIBMQ_NOT_LOADED' });
}

module.exports = load();
