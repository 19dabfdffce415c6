'use strict';

// Paths: text, or URLs of files, as the native half takes them.

const { fileURLToPath } = require('node:url');

const { LibmqError } = require('./errors.js');
const { wrongType } = require('./options.js');

function pathOf(path) {
  if (path instanceof URL || (typeof path === 'string' && /^file:\/\//i.test(path))) path = urlToPath(path);
  if (typeof path !== 'string') throw wrongType('path', 'a string or a file URL');
  if (path === '' || path.includes('\0')) throw new LibmqError('INVALID', 'path is empty, or has a NUL in it');
  // The native half would make another name of it.
  if (!path.isWellFormed()) throw new LibmqError('INVALID', 'path is not well-formed text');
  return path;
}

function urlToPath(url) {
  try {
    return fileURLToPath(url);
  } catch (cause) {
    throw new TypeError(`path is a URL of no file here: ${cause.message}`, { cause });
  }
}

module.exports = { pathOf };
