'use strict';

// Messages on their way in, and the receipts for them.

const { JSON_TYPE, encode } = require('./body.js');
const { LibmqError, ofPart } = require('./errors.js');
const { optionsOf, tables } = require('./options.js');

// What the core takes at most.
const BATCH_MAX = 10_000;

// A body with options of its own.
class Message {
  constructor(body, options) {
    optionsOf('message', options);
    this.body = body;
    Object.assign(this, options);
    Object.freeze(this);
  }
}

function message(body, options) {
  return new Message(body, options);
}

class Receipt {
  constructor(id, status) {
    this.id = id;
    this.status = status;
    Object.freeze(this);
  }

  toJSON() {
    return { id: String(this.id), status: this.status };
  }
}

// Whether an item of a batch is a message and not a body: it has a body, and beside that only options.
function isMessage(item) {
  if (item instanceof Message) return true;
  if (typeof item !== 'object' || item === null || !Object.hasOwn(item, 'body')) return false;
  const prototype = Object.getPrototypeOf(item);
  if (prototype !== Object.prototype && prototype !== null) return false;
  return Object.keys(item).every((name) => name === 'body' || Object.hasOwn(tables.message, name));
}

// What a message travels as: its body, its content type, and its other options if there are any.
function partsOf(body, options) {
  if (body instanceof Message) {
    if (options !== undefined && options !== null) {
      throw new LibmqError('INVALID', 'a message has its options already');
    }
    ({ body, ...options } = body);
  }
  const encoded = encode(body);
  const type = typeof encoded === 'string' ? JSON_TYPE : undefined;
  if (options === undefined || options === null) return { body: encoded, contentType: type, extra: undefined };
  const { contentType = type, ...extra } = optionsOf('message', options);
  return { body: encoded, contentType, extra };
}

// The parts of all items of a batch; what is wrong with one is told with its place.
function partsOfItems(items) {
  const parts = [];
  for (const item of items) {
    // An iterable may have no end.
    if (parts.length === BATCH_MAX) throw new LibmqError('INVALID', `a batch has more than ${BATCH_MAX} messages`);
    try {
      parts.push(partsOfItem(item));
    } catch (error) {
      throw ofPart(`items[${parts.length}]`, error);
    }
  }
  return parts;
}

function partsOfItem(item) {
  if (!isMessage(item)) return partsOf(item);
  const { body, ...options } = item;
  return partsOf(body, options);
}

// Headers by name, unchangeable; the first one, where a name is there more than once.
function headersOf(flat) {
  const headers = {};
  for (let i = flat.length - 2; i >= 0; i -= 2) {
    Object.defineProperty(headers, flat[i], {
      value: flat[i + 1],
      enumerable: true,
      configurable: true,
    });
  }
  return Object.freeze(headers);
}

module.exports = { Receipt, headersOf, isMessage, message, partsOf, partsOfItems };
