'use strict';

// What this process runs on, and so which native half belongs to it.

// As in the names of packages; `libc` is of Linux alone.
function platform() {
  const { platform: system, arch } = process;
  const libc = system === 'linux' ? libcOf() : undefined;
  const abi = system === 'win32' ? 'msvc' : libc;
  return { system, arch, libc, name: [system, arch, abi].filter((part) => part !== undefined).join('-') };
}

// Node says which version of glibc it has found; musl has none.
function libcOf() {
  return glibc() === undefined ? 'musl' : 'gnu';
}

function glibc() {
  const { report } = process;
  if (typeof report?.getReport !== 'function') return 'unknown';
  // Otherwise it may ask for the names of whoever there is a connection to.
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  try {
    return report.getReport().header.glibcVersionRuntime;
  } finally {
    report.excludeNetwork = before;
  }
}

module.exports = { glibc, platform };
