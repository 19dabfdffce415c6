'use strict';

// Receivers: those who wait for a queue's messages, first come first served. While somebody waits, the queue has a
// watch, which rings when there may be something; then they are served in order.

const { whenAborted } = require('./aborted.js');
const { deliveriesOf } = require('./delivery.js');
const { environment, forget, hold, letGo, listen, TIMER_MAX } = require('./environment.js');
const { calling } = require('./errors.js');

class Receivers {
  #native;
  #check;
  #queues = new Map();

  constructor(native, check) {
    this.#native = native;
    this.#check = check;
  }

  // Up to `max` deliveries; none where nothing came in time.
  receive(queue, max, { timeout, lease, signal }) {
    signal?.throwIfAborted();
    const line = this.#queues.get(queue);
    if (line === undefined) {
      const found = this.#poll(queue, max, lease);
      if (found.length > 0 || timeout === 0) return found;
    } else {
      calling(() => this.#native.checkReceive(queue, max, lease));
    }
    return new Promise((resolve, reject) => {
      const receiver = { max, lease, resolve, reject, timer: undefined, stop: undefined };
      const leave = (end) => {
        if (this.#leave(queue, receiver)) end();
      };
      if (timeout !== undefined) {
        receiver.timer = after(timeout, () => leave(() => resolve([])));
      }
      if (signal !== undefined) {
        receiver.stop = whenAborted(signal, () => leave(() => reject(signal.reason)));
      }
      hold();
      this.#join(queue, receiver);
    });
  }

  // Nobody waits any more.
  end(error) {
    for (const [queue, line] of this.#queues) {
      for (const receiver of [...line.waiting]) {
        if (this.#leave(queue, receiver)) receiver.reject(error);
      }
    }
  }

  #poll(queue, max, lease) {
    return deliveriesOf(
      calling(() => this.#native.receive(queue, max, lease)),
      this.#check,
    );
  }

  #join(queue, receiver) {
    let line = this.#queues.get(queue);
    if (line !== undefined) {
      line.waiting.push(receiver);
      return;
    }
    let ear;
    try {
      ear = calling(() => this.#native.watch(queue));
    } catch (error) {
      letGo();
      clear(receiver);
      receiver.reject(error);
      return;
    }
    line = { ear, waiting: [receiver] };
    this.#queues.set(queue, line);
    listen(ear, () => this.#serve(queue, line));
    // What came between the look and the watch did not ring.
    this.#serve(queue, line);
  }

  // Answers false if it has left before.
  #leave(queue, receiver) {
    const line = this.#queues.get(queue);
    const place = line === undefined ? -1 : line.waiting.indexOf(receiver);
    if (place < 0) return false;
    line.waiting.splice(place, 1);
    clear(receiver);
    letGo();
    if (line.waiting.length === 0) {
      this.#queues.delete(queue);
      forget(line.ear);
    }
    return true;
  }

  #serve(queue, line) {
    let listens = false;
    while (line.waiting.length > 0) {
      const [receiver] = line.waiting;
      let found;
      try {
        found = this.#poll(queue, receiver.max, receiver.lease);
      } catch (error) {
        this.#leave(queue, receiver);
        receiver.reject(error);
        continue;
      }
      if (found.length > 0) {
        this.#leave(queue, receiver);
        receiver.resolve(found);
        listens = false;
      } else if (listens) {
        return;
      } else {
        environment.listen(line.ear);
        listens = true;
      }
    }
  }
}

function clear(receiver) {
  receiver.timer?.clear();
  receiver.stop?.();
}

// A timer for any time: one of the loop's own is short of 25 days.
function after(ms, call) {
  let left = ms;
  let timer;
  const next = () => {
    const part = Math.min(left, TIMER_MAX);
    left -= part;
    timer = setTimeout(left > 0 ? next : call, part);
  };
  next();
  return { clear: () => clearTimeout(timer) };
}

module.exports = { Receivers };
