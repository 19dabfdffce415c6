'use strict';

// Bodies on their way in and out: bytes as they are, anything else as JSON.

const { Blob } = require('node:buffer');
const { types } = require('node:util');

const { LibmqError } = require('./errors.js');

const JSON_TYPE = 'application/json';

function isBytes(body) {
  return body instanceof Uint8Array || types.isUint8Array(body);
}

// The bytes, or the text, that a body travels as.
function encode(body) {
  if (typeof body === 'object' && body !== null) {
    if (isBytes(body)) return body;
    const kind = emptied(body);
    if (kind !== undefined) throw new TypeError(`the body is ${kind}, of which JSON would keep nothing`);
  }
  let text;
  try {
    text = JSON.stringify(body);
  } catch (error) {
    throw new TypeError(`the body cannot be JSON: ${describe(error)}`, { cause: error });
  }
  if (text === undefined) throw new TypeError(`the body cannot be JSON: it is ${typeof body}`);
  // JSON.stringify says null for NaN and Infinity, and looking for that word is much cheaper than looking at
  // everything.
  if (text.includes('null')) JSON.stringify(body, refuseNotFinite);
  // JSON.stringify escapes a lone surrogate, which is no text in any other language.
  if (text.includes('\\ud') && LONE_SURROGATE.test(text)) {
    throw new LibmqError('INVALID', 'the body has a lone surrogate, which is not UTF-8');
  }
  return text;
}

const LONE_SURROGATE = /(?:^|[^\\])(?:\\\\)*\\ud[89a-f]/;

// What an object is that JSON.stringify makes an empty object of, or a list of numbers by accident.
function emptied(body) {
  if (types.isPromise(body)) return 'a promise: an await is missing';
  if (types.isMap(body)) return 'a Map';
  if (types.isSet(body)) return 'a Set';
  if (types.isRegExp(body)) return 'a RegExp';
  if (types.isNativeError(body)) return 'an Error';
  if (types.isAnyArrayBuffer(body)) return 'an ArrayBuffer: wrap it in a Uint8Array';
  if (ArrayBuffer.isView(body)) return 'a view of bytes that is no Uint8Array';
  if (body instanceof Blob) return 'a Blob';
  return undefined;
}

function refuseNotFinite(_, value) {
  const number = value instanceof Number ? Number(value) : value;
  if (typeof number === 'number' && !Number.isFinite(number)) {
    throw new LibmqError('INVALID', `the body has ${number}, which JSON has no word for`);
  }
  return value;
}

// A text for whatever was thrown.
function describe(error) {
  try {
    if (error instanceof Error) {
      const { name, message } = error;
      return name === 'Error' || name === undefined ? String(message) : `${name}: ${message}`;
    }
    return typeof error === 'object' || typeof error === 'function' ? `threw ${JSON.stringify(error)}` : String(error);
  } catch {
    return 'threw what cannot be shown';
  }
}

module.exports = { JSON_TYPE, describe, encode, isBytes };
