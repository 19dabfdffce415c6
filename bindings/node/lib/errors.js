'use strict';

// What goes wrong, and what a handler throws to say how its attempt ends.

const native = require('./native.js');

// Between the parts of a native error's text: code, path, message.
const SEPARATOR = '\u0001';

const retryable = new Map(
  native.errorKinds().map((kind) => {
    const [code, word] = kind.split(' ');
    return [code, word === 'retryable'];
  }),
);

class LibmqError extends Error {
  constructor(code, message, path) {
    super(message);
    define(this, 'code', code);
    define(this, 'retryable', retryable.get(code) ?? false);
    if (path) define(this, 'path', path);
  }

  get name() {
    return 'LibmqError';
  }
}

// What a handler's signal is aborted with.
class CancelledError extends Error {
  constructor(reason) {
    super(`the attempt was cancelled: ${reason}`);
    define(this, 'reason', reason);
  }

  get name() {
    return 'CancelledError';
  }
}

class RetryError extends Error {
  constructor(delay, message = 'the handler asked for a retry') {
    super(message);
    define(this, 'delay', checkDelay(delay));
  }

  get name() {
    return 'RetryError';
  }
}

class RejectError extends Error {
  constructor(reason = 'rejected') {
    if (typeof reason !== 'string') throw new TypeError('reason takes a string');
    super(reason);
    define(this, 'reason', reason);
  }

  get name() {
    return 'RejectError';
  }
}

class ReleaseError extends Error {
  constructor(delay) {
    super('the handler gave the message back');
    define(this, 'delay', checkDelay(delay));
  }

  get name() {
    return 'ReleaseError';
  }
}

// A field that stays as it is.
function define(error, name, value) {
  Object.defineProperty(error, name, { value, enumerable: true });
}

// The longest time there is, in milliseconds.
const TEN_YEARS = 10 * 366 * 24 * 3600 * 1000;

function checkDelay(delay) {
  if (delay === undefined || delay === null) return undefined;
  if (typeof delay !== 'number') throw new TypeError('delay takes a number of milliseconds');
  if (!isTime(delay)) throw invalid('delay', delay, 'milliseconds from 0 to ten years');
  return delay;
}

function isTime(ms) {
  return typeof ms === 'number' && ms >= 0 && ms <= TEN_YEARS;
}

// Of a value that is told of, so much.
const SHOWN_MAX = 60;

function invalid(name, value, wanted) {
  const text = String(value);
  const shown = text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text;
  return new LibmqError('INVALID', `${name} is ${shown}, but takes ${wanted}`);
}

function closed() {
  return new LibmqError('CLOSED', 'the broker is closed');
}

// The error that a native one stands for.
function errorOf(text) {
  const [code, path, ...message] = text.split(SEPARATOR);
  const words = message.join(SEPARATOR);
  return new LibmqError(code, ABOUT_OPTIONS.has(code) ? inCamelCase(words, path) : words, path);
}

// Throws what failed, if anything did.
function raise(text) {
  if (typeof text === 'string') throw errorOf(text);
}

// Errors that name options, as Rust writes them, and beside a path nothing that may have such a name.
const ABOUT_OPTIONS = new Set(['INVALID', 'TOO_LARGE', 'UNSUPPORTED', 'STORAGE_FULL']);

function inCamelCase(text, path) {
  if (path !== '')
    return text
      .split(path)
      .map((part) => inCamelCase(part, ''))
      .join(path);
  const named = text.replace(/\bbackoff (?=(?:base|factor|cap|jitter) )/, 'backoff.');
  return named.replace(/(?<=[a-z])_([a-z])/g, (_, letter) => letter.toUpperCase());
}

// The same error, of a part of what was given; one that is not this package's is left as it is.
function ofPart(part, error) {
  if (error instanceof LibmqError) return new LibmqError(error.code, `${part}: ${error.message}`, error.path);
  if (error instanceof TypeError) {
    return new TypeError(`${part}: ${error.message}`, 'cause' in error ? { cause: error.cause } : undefined);
  }
  return error;
}

// Of what a native call threw: the error that it stands for, or itself.
function translated(error) {
  const text = error?.message;
  return typeof text === 'string' && text.includes(SEPARATOR) ? errorOf(text) : error;
}

// Runs a native call.
function calling(call) {
  try {
    return call();
  } catch (error) {
    throw translated(error);
  }
}

module.exports = {
  CancelledError,
  LibmqError,
  RejectError,
  ReleaseError,
  RetryError,
  TEN_YEARS,
  calling,
  closed,
  errorOf,
  invalid,
  isTime,
  ofPart,
  raise,
  translated,
};
