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
  #undecodable;
  #settled = false;

  constructor(number, id, attempt, text, about, check) {
    this.#number = number;
    this.#check = check;
    this.id = id;
    this.queue = about.queue;
    this.attempt = attempt;
    this.maxRetries = about.maxRetries;
    this.token = about.token;
    this.headers = headersOf(about.headers);
    this.contentType = about.contentType;
    this.correlationId = about.correlationId;
    this.enqueuedAt = new Date(about.enqueuedAt);
    const { body, error } = decode(text);
    if (error === undefined) this.body = body;
    else this.#undecodable = error;
    forgotten.register(this, number, this);
  }

  // There where the body is not what it says it is; else the body is a property of its own.
  get body() {
    throw new LibmqError('INVALID', `the body does not decode: ${this.#undecodable}`);
  }

  // Hides the above where there is a body.
  set body(body) {
    Object.defineProperty(this, 'body', { value: body, enumerable: true });
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

  // Ends what an iteration did not: given back, or a dead letter where the body does not decode.
  static async letGo(delivery) {
    if (delivery.#undecodable === undefined) await delivery.release();
    else await delivery.#settle('decode', delivery.#undecodable);
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

// The deliveries of a native list.
function deliveriesOf(list, check) {
  const deliveries = [];
  for (let i = 0; i < list.length; i += 4) {
    const about = environment.describe(list[i]);
    deliveries.push(new Delivery(list[i], list[i + 1], list[i + 2], list[i + 3], about, check));
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
