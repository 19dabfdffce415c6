'use strict';

// Deliveries that were received. One that nobody has any more, unsettled, is held until its lease runs out.

const { describe } = require('./body.js');
const { environment } = require('./environment.js');
const { LibmqError, calling } = require('./errors.js');
const { headersOf, partsOf } = require('./message.js');
const { kinds, optionsOf, queueOf, wrongType } = require('./options.js');

const forgotten = new FinalizationRegistry((number) => environment.lapse(number));

class Delivery {
  #number;
  #check;
  #raw;
  #settled = false;

  constructor(number, id, attempt, body, about, check) {
    this.#number = number;
    this.#check = check;
    this.id = id;
    this.queue = about.queue;
    this.body = body;
    this.attempt = attempt;
    this.maxRetries = about.maxRetries;
    this.token = about.token;
    this.headers = headersOf(about.headers);
    this.contentType = about.contentType;
    this.correlationId = about.correlationId;
    this.enqueuedAt = new Date(about.enqueuedAt);
    forgotten.register(this, number, this);
  }

  get settled() {
    return this.#settled;
  }

  get deadline() {
    return new Date(calling(() => environment.deadline(this.#number)));
  }

  get raw() {
    return (this.#raw ??= calling(() => environment.raw(this.#number)));
  }

  async ack() {
    await this.#settle('', '');
  }

  async retry(options) {
    const { delay, error } = optionsOf('retry', options);
    await this.#settle('retry', error ?? '', delay);
  }

  async reject(reason = 'rejected') {
    if (typeof reason !== 'string') throw wrongType('reason', 'a string');
    await this.#settle('reject', reason);
  }

  async release(options) {
    const { delay } = optionsOf('release', options);
    await this.#settle('release', '', delay);
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
    return {
      id: String(this.id),
      queue: this.queue,
      attempt: this.attempt,
      body: this.body,
      token: String(this.token),
    };
  }

  async #settle(outcome, text, delay = -1) {
    this.#check();
    try {
      calling(() => environment.settle(this.#number, outcome, text, delay));
    } catch (error) {
      if (!(error instanceof LibmqError && error.code === 'INVALID')) this.#forget();
      throw error;
    }
    this.#forget();
  }

  #forget() {
    this.#settled = true;
    forgotten.unregister(this);
  }
}

// The deliveries of a native list. What does not decode is a dead letter at once, and nobody's delivery.
function deliveriesOf(list, check) {
  const deliveries = [];
  for (let i = 0; i < list.length; i += 4) {
    const number = list[i];
    const decoded = decode(list[i + 3]);
    if (decoded.error !== undefined) {
      environment.settle(number, 'decode', decoded.error, -1);
      continue;
    }
    const about = environment.describe(number);
    deliveries.push(new Delivery(number, list[i + 1], list[i + 2], decoded.body, about, check));
  }
  return deliveries;
}

function decode(body) {
  if (body === null) return { error: 'the body is not UTF-8' };
  if (typeof body !== 'string') return { body };
  try {
    return { body: JSON.parse(body) };
  } catch (error) {
    return { error: describe(error) };
  }
}

module.exports = { Delivery, decode, deliveriesOf };
