'use strict';

// Waiting until a test broker's handlers have nothing to do that could be done now. `waitIdle` waits for retries, too, which
// never come while the clock stands still; so the figures are looked at.

const { setTimeout: pause } = require('node:timers/promises');

const { elapsed } = require('../time.js');

const POLL = 1;
// How long nothing happens where what is ready cannot run: its queue is paused, or its group held up.
const QUIET = 250;

// Resolves to whether it came to that in so many milliseconds of real time.
async function settled(broker, timeout) {
  const began = elapsed();
  let before = -1;
  let since = began;
  for (;;) {
    const { lsn } = broker.metrics();
    const queues = handled(broker);
    const sum = (name) => queues.reduce((total, queue) => total + queue[name], 0);
    const now = elapsed();
    // What is settled leaves by a record: where none came meanwhile, nothing was missed between two figures.
    const wasStill = lsn.shown === lsn.reserved && lsn.reserved === broker.metrics().lsn.reserved;
    if (wasStill && sum('inFlight') === 0 && sum('ready') === 0) return true;
    if (sum('delivered') !== before || sum('inFlight') > 0) [before, since] = [sum('delivered'), now];
    if (now - since >= QUIET) return true;
    if (now - began >= timeout) return false;
    await pause(POLL);
  }
}

// The figures of the queues that have a handler.
function handled(broker) {
  return Object.values(broker.metrics().queues).filter(({ parallelism }) => parallelism > 0);
}

module.exports = { handled, settled };
