'use strict';

// Whether a handler's code is running on this loop right now, up to its first await: what waits for handlers would wait for
// itself there.

let running = 0;

// Calls what is a handler's.
function entered(call, first, second) {
  running++;
  try {
    return call(first, second);
  } finally {
    running--;
  }
}

function isRunning() {
  return running > 0;
}

module.exports = { entered, isRunning };
