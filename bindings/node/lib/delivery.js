'use strict';

// Deliveries that were received. One that nobody has any more, unsettled, is held until its lease runs out.

const { decode } = require('./body.js');
const { environment } = require('./environment.js');
const { LibmqError, calling } = require('./errors.js');
const { describe } = require('./failure.js');
const { Held, aboutOf } = require('./held.js');
const { bindable, key, onlyMade } = require('./made.js');
const { optionsOf, wrongType } = require('./options.js');

// How a settle fails after which nothing can be done with the delivery any more; after others it is held as before.
const OVER = new Set(['STALE_LEASE', 'CLOSED', 'POISONED', 'PANIC']);

const forgotten = new FinalizationRegistry((number) => environment.lapse(number));

class Delivery extends Held {
  #number;
  #check;
  #body;
  #undecodable;
  #settled = false;

  constructor(made, number, id, attempt, body, check) {
    onlyMade(made, 'a delivery is received with receive(), receiveMany() or deliveries()');
    const about = aboutOf(number);
    super(number, about.queue, id, attempt, check, about);
    this.#number = number;
    this.#check = check;
    try {
      this.#body = decode(body);
    } catch (error) {
      this.#undecodable = describe(error);
    }
    forgotten.register(this, number, this);
  }

  get body() {
    if (this.#undecodable === undefined) return this.#body;
    throw new LibmqError('INVALID', `the body does not decode: ${this.#undecodable}`);
  }

  get settled() {
    return this.#settled;
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

  toJSON() {
    // Left out where it does not decode.
    return { ...super.toJSON(), body: this.#body, token: String(this.token) };
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
      if (OVER.has(error.code)) this.#forget();
      throw error;
    }
    this.#forget();
  }

  #forget() {
    this.#settled = true;
    forgotten.unregister(this);
  }
}

bindable(Delivery, 'ack', 'retry', 'reject', 'release');

// The deliveries of a native list.
function deliveriesOf(list, check) {
  const deliveries = [];
  for (let i = 0; i < list.length; i += 4) {
    deliveries.push(new Delivery(key, list[i], list[i + 1], list[i + 2], list[i + 3], check));
  }
  return deliveries;
}

module.exports = { Delivery, deliveriesOf };
