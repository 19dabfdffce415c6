'use strict';

// Turns of the loop: promises that are kept at once are microtasks alone. Between those that are awaited one after another nothing
// else on the loop would come: no handler, no timer, no signal.

const { setImmediate } = require('./time.js');

// Of so many one waits until everything else on the loop has had its turn.
const AT_ONCE_MAX = 256;

let count = 0;

// Called for each that can be kept at once; answers what it has to wait for first, if anything.
function turnBefore() {
  if (++count % AT_ONCE_MAX !== 0) return undefined;
  return new Promise((resolve) => setImmediate(resolve));
}

module.exports = { turnBefore };
