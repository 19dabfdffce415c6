'use strict';

// Turns of the loop: promises that are kept at once, or broken, are microtasks alone. Between those that are awaited one after
// another nothing else on the loop would come: no handler, no timer, no signal.

const { setImmediate } = require('./time.js');

// Of so many one waits until everything else on the loop has had its turn.
const AT_ONCE_MAX = 256;

// So many since the last turn.
let count = 0;
// The next one, where somebody waits for it.
let turn;

// Called for so many more that could be told of at once; answers what they have to wait for first, if anything. Where others
// wait, they wait, too, or one alone would go on among many.
function turnBefore(more) {
  count += more;
  if (count >= AT_ONCE_MAX) turn ??= new Promise((resolve) => setImmediate(resolve)).then(begin);
  return turn;
}

function begin() {
  count = 0;
  turn = undefined;
}

module.exports = { turnBefore };
