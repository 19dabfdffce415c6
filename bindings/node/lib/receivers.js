'use strict';

// Receivers: those who wait for a queue's messages, first come first served. While somebody waits in vain, the queue has a
// watch, which rings when there may be something; then they are served in order.
//
// Whoever is served is served in a turn of the loop of its own: what was taken counts as being handled, so nothing else may
// run between its taking and its receiver. A handler that ended the process there would accuse a message that nobody has
// seen. And whoever receives again and again leaves the loop its turns.

const { whenAborted } = require('./aborted.js');
const { deliveriesOf } = require('./delivery.js');
const { environment, forget, hold, letGo, listen, TIMER_MAX } = require('./environment.js');
const { calling } = require('./errors.js');
const { clearTimeout, setImmediate: inTurn, setTimeout } = require('./time.js');

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
    calling(() => this.#native.checkReceive(queue, max, lease));
    return new Promise((resolve, reject) => {
      const receiver = { max, lease, timeout, resolve, reject, timer: undefined, stop: undefined };
      if (signal !== undefined) {
        receiver.stop = whenAborted(signal, () => {
          if (this.#leave(queue, receiver)) reject(signal.reason);
        });
      }
      hold();
      let line = this.#queues.get(queue);
      if (line === undefined) {
        line = { ear: undefined, isWatched: false, waiting: [], isDue: false };
        this.#queues.set(queue, line);
      }
      line.waiting.push(receiver);
      this.#serveInTurn(queue, line);
    });
  }

  // Nobody waits any more.
  end(error) {
    for (const [queue, line] of this.#queues) this.#endLine(queue, line, error);
  }

  #endLine(queue, line, error) {
    for (const receiver of [...line.waiting]) {
      if (this.#leave(queue, receiver)) receiver.reject(error);
    }
  }

  // Answers false if it has left before.
  #leave(queue, receiver) {
    const line = this.#queues.get(queue);
    const place = line === undefined ? -1 : line.waiting.indexOf(receiver);
    if (place < 0) return false;
    line.waiting.splice(place, 1);
    receiver.timer?.clear();
    receiver.stop?.();
    letGo();
    if (line.waiting.length === 0) {
      this.#queues.delete(queue);
      if (line.ear !== undefined) forget(line.ear);
    }
    return true;
  }

  #serveInTurn(queue, line) {
    if (line.isDue) return;
    line.isDue = true;
    inTurn(() => {
      line.isDue = false;
      if (this.#serveFirst(queue, line)) {
        this.#serveInTurn(queue, line);
        return;
      }
      this.#beginToWait(queue, line);
      if (line.waiting.length === 0 || line.isWatched) return;
      try {
        this.#watch(queue, line);
      } catch (error) {
        this.#endLine(queue, line, error);
        return;
      }
      // What came between the look and the watch did not ring.
      this.#serveInTurn(queue, line);
    });
  }

  // Serves the first in the line; answers whether there was one and something to serve it with.
  #serveFirst(queue, line) {
    const [receiver] = line.waiting;
    if (receiver === undefined) return false;
    let found;
    try {
      found = deliveriesOf(
        calling(() => this.#native.receive(queue, receiver.max, receiver.lease)),
        this.#check,
      );
    } catch (error) {
      this.#leave(queue, receiver);
      receiver.reject(error);
      return true;
    }
    if (found.length === 0) return false;
    this.#leave(queue, receiver);
    receiver.resolve(found);
    return true;
  }

  // There is nothing now: for those who wait, time begins to run.
  #beginToWait(queue, line) {
    for (const receiver of [...line.waiting]) {
      const { timeout } = receiver;
      const leave = () => {
        if (this.#leave(queue, receiver)) receiver.resolve([]);
      };
      if (timeout === 0) leave();
      else if (timeout !== undefined) receiver.timer ??= after(timeout, leave);
    }
  }

  // Has the queue ring once when there may be something.
  #watch(queue, line) {
    if (line.ear === undefined) {
      line.ear = calling(() => this.#native.watch(queue));
      listen(line.ear, () => {
        line.isWatched = false;
        this.#serveInTurn(queue, line);
      });
    }
    environment.listen(line.ear);
    line.isWatched = true;
  }
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
