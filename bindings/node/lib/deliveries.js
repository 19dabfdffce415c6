'use strict';

// An iteration over a queue's messages. Calls of it come one after another; what was handed out when the next one is asked for
// and was not settled is given back. Its end ends a wait for the next one, too.

const { whenAborted } = require('./aborted.js');
const { Delivery } = require('./delivery.js');

class Deliveries {
  #options;
  #receive;
  // What was handed out and may not be settled.
  #out = [];
  #turn = Promise.resolve();
  #stop = new AbortController();

  // `options` is called when the first one is asked for, and may refuse them; `receive` with a lease and a signal.
  constructor(options, receive) {
    this.#options = options;
    this.#receive = receive;
  }

  next() {
    const before = this.#out.splice(0);
    return this.#inTurn(async () => {
      await letGo(before);
      const delivery = this.#stop.signal.aborted ? undefined : await this.#wait();
      if (delivery === undefined) return { value: undefined, done: true };
      this.#out.push(delivery);
      return { value: delivery, done: false };
    });
  }

  return(value) {
    this.#stop.abort();
    return this.#inTurn(async () => {
      await letGo(this.#out.splice(0));
      return { value, done: true };
    });
  }

  async throw(error) {
    await this.return();
    throw error;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async [Symbol.asyncDispose]() {
    await this.return();
  }

  #inTurn(call) {
    const turn = this.#turn.then(call);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  // The next one; none when the iteration is over.
  async #wait() {
    const stop = () => this.#stop.abort();
    let isHeard = () => {};
    try {
      const { lease, signal } = this.#options();
      if (signal?.aborted) stop();
      else if (signal !== undefined) isHeard = whenAborted(signal, stop);
      let delivery = null;
      while (delivery === null && !this.#stop.signal.aborted) delivery = await this.#receive(lease, this.#stop.signal);
      return delivery ?? undefined;
    } catch (error) {
      if (this.#stop.signal.aborted && error === this.#stop.signal.reason) return undefined;
      stop();
      throw error;
    } finally {
      isHeard();
    }
  }
}

async function letGo(deliveries) {
  for (const delivery of deliveries) {
    if (delivery.settled) continue;
    try {
      await Delivery.letGo(delivery);
    } catch (error) {
      // Lost or closed meanwhile: it is given back already.
      if (error.code !== 'STALE_LEASE' && error.code !== 'CLOSED') throw error;
    }
  }
}

module.exports = { Deliveries };
