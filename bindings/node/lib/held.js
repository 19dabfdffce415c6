'use strict';

// A message in somebody's hands: what a handler's context and a delivery have in common. What is known of it beside its
// id, queue and attempt is asked for when it is first read, unless it is given, and cannot be read any more once the
// message has left.

const { inspect } = require('node:util');

const { environment } = require('./environment.js');
const { calling } = require('./errors.js');
const { bindable } = require('./made.js');
const { headersOf, partsOf } = require('./message.js');
const { kinds, queueOf } = require('./options.js');

class Held {
  #number;
  #queue;
  #id;
  #attempt;
  #check;
  #about;
  #raw;

  constructor(number, queue, id, attempt, check, about) {
    this.#number = number;
    this.#queue = queue;
    this.#id = id;
    this.#attempt = attempt;
    this.#check = check;
    this.#about = about;
  }

  // What the native half knows it by.
  static numberOf(held) {
    return held.#number;
  }

  get id() {
    return this.#id;
  }

  get queue() {
    return this.#queue;
  }

  get attempt() {
    return this.#attempt;
  }

  get maxRetries() {
    return this.#described.maxRetries;
  }

  get token() {
    return this.#described.token;
  }

  get headers() {
    return this.#described.headers;
  }

  get contentType() {
    return this.#described.contentType;
  }

  get correlationId() {
    return this.#described.correlationId;
  }

  get enqueuedAt() {
    return new Date(this.#described.enqueuedAt);
  }

  get deadline() {
    return new Date(calling(() => environment.deadline(this.#number)));
  }

  get raw() {
    return (this.#raw ??= calling(() => environment.raw(this.#number)));
  }

  extend(ms) {
    kinds.extension('extend', ms);
    this.#check();
    calling(() => environment.extend(this.#number, ms));
  }

  enqueue(queue, body, options) {
    queueOf(queue);
    const parts = partsOf(body, options);
    this.#check();
    calling(() => environment.enqueueWith(this.#number, queue, parts.body, parts.extra));
  }

  toJSON() {
    return { id: String(this.#id), queue: this.#queue, attempt: this.#attempt };
  }

  // Its fields are accessors, which are not shown by themselves.
  [inspect.custom](_, options) {
    const shown = { id: this.#id, queue: this.#queue, attempt: this.#attempt };
    return `${this.constructor.name} ${inspect(shown, options)}`;
  }

  get #described() {
    return (this.#about ??= aboutOf(this.#number));
  }
}

bindable(Held, 'extend', 'enqueue');

// What the native half knows of a message.
function aboutOf(number) {
  const about = calling(() => environment.describe(number));
  about.headers = headersOf(about.headers);
  return about;
}

module.exports = { Held, aboutOf };
