'use strict';

// Bodies on their way in and out: bytes as they are, anything else as JSON.

const { Blob } = require('node:buffer');
const { types } = require('node:util');

const { LibmqError } = require('./errors.js');
const { describe } = require('./failure.js');

const JSON_TYPE = 'application/json';

// The bytes, or the text, that a body travels as.
function encode(body) {
  const isObject = typeof body === 'object' && body !== null;
  if (isObject && types.isUint8Array(body)) return bytesOf(body);
  let text;
  try {
    // One that says what JSON is to make of it is what it says.
    if (isObject && typeof body.toJSON !== 'function') refuseEmptied('is', body);
    text = JSON.stringify(body);
    // JSON.stringify says null for NaN and Infinity, {} for what it cannot say, and bytes by their places; looking for those
    // words is much cheaper than looking at everything. Text it keeps as it is.
    const mayLose = text !== undefined && typeof body !== 'string';
    if (mayLose && (text.includes('null') || text.includes('{}') || text.includes('{"0":'))) {
      JSON.stringify(body, refuseLost);
    }
  } catch (error) {
    throw error instanceof LibmqError || error instanceof Emptied ? error : unwritable(error);
  }
  if (text === undefined) {
    const what = typeof body === 'object' ? 'its toJSON answers nothing' : `it is ${typeof body}`;
    throw new TypeError(`the body cannot be JSON: ${what}`);
  }
  // JSON.stringify escapes a lone surrogate, which is no text in any other language.
  if (text.includes('\\ud') && LONE_SURROGATE.test(text)) {
    throw new LibmqError('INVALID', 'the body has a lone surrogate, which is not UTF-8');
  }
  return text;
}

// Bytes whose buffer was given away, or has shrunk, look like none at all.
function bytesOf(body) {
  if (body.length === 0) {
    try {
      Uint8Array.prototype.at.call(body, 0);
    } catch (error) {
      throw new TypeError('the body is a Uint8Array whose buffer is detached, or too short for it', { cause: error });
    }
  }
  return body;
}

const LONE_SURROGATE = /(?:^|[^\\])(?:\\\\)*\\ud[89a-f]/;

// What JSON.stringify threw, as every language says it: where JSON has words for all parts of a body, but not for the
// whole, it is of no wrong type.
function unwritable(error) {
  const text = describe(error);
  if (text.startsWith('TypeError: Converting circular structure')) {
    return new LibmqError('INVALID', 'the body is not JSON: it contains itself');
  }
  if (text.startsWith('RangeError: Maximum call stack')) {
    return new LibmqError('INVALID', 'the body is nested too deeply for JSON');
  }
  if (text.startsWith('RangeError: Invalid string length')) {
    return new LibmqError('TOO_LARGE', 'the body is longer as JSON than any string');
  }
  return new TypeError(`the body cannot be JSON: ${text}`, { cause: error });
}

// Something of which JSON would keep nothing.
class Emptied extends TypeError {
  get name() {
    return 'TypeError';
  }
}

function refuseEmptied(verb, value) {
  const [kind, instead = 'JSON would keep nothing of it'] = emptied(value) ?? [];
  if (kind !== undefined) throw new Emptied(`the body ${verb} ${kind}: ${instead}`);
}

// What an object is that JSON.stringify makes an empty object of, or a list of numbers by accident. Most bodies are plain
// objects, which cost no more than a look at their prototype.
function emptied(body) {
  if (types.isPromise(body)) return ['a promise', 'an await is missing'];
  const prototype = Object.getPrototypeOf(body);
  if (prototype === Object.prototype || prototype === Array.prototype || prototype === null) {
    return typeof body.then === 'function' ? THENABLE : undefined;
  }
  if (types.isMap(body)) return ['a Map'];
  if (types.isSet(body)) return ['a Set'];
  if (types.isWeakMap(body)) return ['a WeakMap'];
  if (types.isWeakSet(body)) return ['a WeakSet'];
  if (types.isGeneratorObject(body)) return ['a generator'];
  if (types.isRegExp(body)) return ['a RegExp'];
  if (types.isNativeError(body)) return ['an Error'];
  if (types.isSymbolObject(body)) return ['a boxed symbol'];
  if (types.isAnyArrayBuffer(body)) return ['an ArrayBuffer', 'wrap it in a Uint8Array'];
  if (types.isUint8Array(body)) return ['a Uint8Array', 'bytes are a body by themselves, or text, as base64'];
  if (ArrayBuffer.isView(body)) return ['a view of bytes that is no Uint8Array'];
  if (body instanceof Uint8Array) return ['no Uint8Array, though it inherits from one'];
  if (body instanceof Blob) return ['a Blob'];
  if (typeof body.then === 'function') return THENABLE;
  return Array.isArray(body) || hasKeys(body) ? undefined : hidden(body);
}

const THENABLE = ['a thenable', 'an await is missing'];

// What has no keys, but keeps something where JSON does not look.
function hidden(body) {
  if (typeof body[Symbol.iterator] === 'function') return ['an iterable that is no list', 'spread it into one'];
  const tag = Object.prototype.toString.call(body).slice('[object '.length, -1);
  return OPAQUE.has(tag) ? [`${/^[AEIOU]/.test(tag) ? 'an' : 'a'} ${tag}`] : undefined;
}

const OPAQUE = new Set([
  'AbortController',
  'AbortSignal',
  'EventTarget',
  'FinalizationRegistry',
  'ReadableStream',
  'Request',
  'Response',
  'TransformStream',
  'WeakRef',
  'WritableStream',
]);

function hasKeys(body) {
  for (const name in body) if (Object.hasOwn(body, name)) return true;
  return false;
}

// Told with what had the value, since of a Date there is only what its toJSON made of it.
function refuseLost(name, value) {
  if (typeof value === 'object' && value !== null) refuseEmptied('contains', value);
  const number = value instanceof Number ? Number(value) : value;
  if (typeof number === 'number' && !Number.isFinite(number)) {
    throw new LibmqError('INVALID', `the body has ${number}, which JSON has no word for`);
  }
  if (value === null && types.isDate(this[name])) {
    throw new LibmqError('INVALID', 'the body has an invalid Date, which JSON has no word for');
  }
  return value;
}

// Whether a content type says that a body is JSON.
function isJson(contentType) {
  const type = contentType.split(';')[0].trim().toLowerCase();
  return type === JSON_TYPE || (type.startsWith('application/') && type.endsWith('+json'));
}

// What a body says that came as text which is said to be JSON, or as bytes; null stands for text that is not UTF-8, and
// undefined for text that is longer than any string.
function decode(body) {
  if (body === null) throw new Error('the body is not UTF-8');
  if (body === undefined) throw new Error('the body is longer than any string');
  if (typeof body !== 'string') return body;
  const value = parse(body);
  if (mayHaveInfinity(body) && hasInfinity(value)) {
    throw new Error('the body has a number beyond what a double can hold');
  }
  return value;
}

// What JSON.parse throws has a piece of the body in it, and ends in logs.
function parse(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    const [place = ''] = / at position \d+/.exec(error.message) ?? [];
    throw new Error(`the body is not JSON${place}`);
  }
}

// What bodies say that came as one list, of which `src/bodies.rs` says why they are its values; nothing where one of them is
// no JSON, so that each has to be looked at for itself.
function decodeTogether(list) {
  try {
    return JSON.parse(list);
  } catch {
    return undefined;
  }
}

function mayHaveInfinity(text) {
  return LONG_EXPONENT.test(text) || hasLongNumber(text);
}

// A number that a double cannot hold has such an exponent, or more digits than this; hardly any other has, so that hardly
// any body is looked at twice.
const LONG_EXPONENT = /[eE]\+?\d\d\d/;
const DIGITS = 200;

// Whether so many digits stand side by side. Looking at one place in so many misses none.
function hasLongNumber(text) {
  for (let at = DIGITS - 1; at < text.length; at += DIGITS) {
    if (!isDigit(text, at)) continue;
    let first = at;
    while (isDigit(text, first - 1)) first--;
    while (isDigit(text, at + 1)) at++;
    if (at - first >= DIGITS - 1) return true;
  }
  return false;
}

function isDigit(text, at) {
  const code = text.charCodeAt(at);
  return code >= 48 && code <= 57;
}

// Whether a parsed body has Infinity anywhere, however deep.
function hasInfinity(value) {
  const left = [value];
  while (left.length > 0) {
    const part = left.pop();
    if (part === Infinity || part === -Infinity) return true;
    if (typeof part === 'object' && part !== null) for (const inner of Object.values(part)) left.push(inner);
  }
  return false;
}

module.exports = { decode, decodeTogether, encode, isJson };
