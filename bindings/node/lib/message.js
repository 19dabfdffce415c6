'use strict';

// Messages on their way in, and the receipts for them.

const { encode } = require('./body.js');
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

// Whether an item of a batch is a message and not a body: it has a body, and beside that only options. One that has options,
// or what reads as one, and other things, too, may have been meant as either.
function isMessage(item) {
  if (item instanceof Message) return true;
  if (typeof item !== 'object' || item === null || !Object.hasOwn(item, 'body')) return false;
  const prototype = Object.getPrototypeOf(item);
  if (prototype !== Object.prototype && prototype !== null) return false;
  const others = Object.keys(item).filter((name) => name !== 'body' && !Object.hasOwn(tables.message, name));
  if (others.length === 0) return true;
  const said = Object.keys(item).find((name) => OPTIONS.has(asRead(name)));
  if (said === undefined) return false;
  const odd = others.find((name) => OPTIONS.has(asRead(name))) ?? others[0];
  throw new LibmqError(
    'INVALID',
    `there is no option ${odd}; message(body, options) says which part of it is the body`,
  );
}

// Names of options, however they are written.
const asRead = (name) => name.toLowerCase().replace(/[_-]/g, '');
const OPTIONS = new Set(Object.keys(tables.message).map(asRead));

// What a message travels as: its body, and its options if there are any. Text that nothing else is said of is JSON there.
function partsOf(body, options) {
  if (body instanceof Message) {
    if (options !== undefined && options !== null) {
      throw new LibmqError('INVALID', 'a message has its options already');
    }
    ({ body, ...options } = body);
  }
  const encoded = encode(body);
  if (options === undefined || options === null) return { body: encoded, extra: undefined };
  return { body: encoded, extra: optionsOf('message', options) };
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
