'use strict';

// What a handler knows of its message, and can do beside returning. Read lazily: most handlers want only the body. What
// was not read before the handler has ended cannot be read any more.

const { environment } = require('./environment.js');
const { CancelledError, calling } = require('./errors.js');
const { headersOf, partsOf } = require('./message.js');
const { kinds, queueOf } = require('./options.js');

class Context {
  #number;
  #check;
  #about;
  #raw;
  #controller;

  constructor(number, queue, id, attempt, check) {
    this.#number = number;
    this.#check = check;
    this.queue = queue;
    this.id = id;
    this.attempt = attempt;
  }

  get #described() {
    return (this.#about ??= calling(() => {
      const about = environment.describe(this.#number);
      about.headers = headersOf(about.headers);
      return about;
    }));
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

  get signal() {
    if (this.#controller === undefined) {
      const reason = calling(() => environment.cancelReason(this.#number));
      this.#controller = new AbortController();
      if (reason) this.#controller.abort(new CancelledError(reason));
    }
    return this.#controller.signal;
  }

  extend(ms) {
    kinds.time('extend', ms);
    this.#check();
    calling(() => environment.extend(this.#number, ms));
  }

  enqueue(queue, body, options) {
    queueOf(queue);
    const parts = partsOf(body, options);
    this.#check();
    calling(() => environment.enqueueWith(this.#number, queue, parts.body, parts.contentType, parts.extra));
  }

  toJSON() {
    return { id: String(this.id), queue: this.queue, attempt: this.attempt };
  }

  // Aborts the signal, if somebody has it.
  static cancel(context, reason) {
    const controller = context.#controller;
    if (controller !== undefined && !controller.signal.aborted) controller.abort(new CancelledError(reason));
  }
}

module.exports = { Context };
