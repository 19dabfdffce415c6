'use strict';

// Bodies on their way in and out: bytes as they are, anything else as JSON.

const { types } = require('node:util');

const { LibmqError } = require('./errors.js');

const JSON_TYPE = 'application/json';

function isBytes(body) {
  return body instanceof Uint8Array || types.isUint8Array(body);
}

// The bytes, or the text, that a body travels as.
function encode(body) {
  if (typeof body === 'object' && body !== null && isBytes(body)) return body;
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
  return text;
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
