'use strict';

// Whether a handler's code is running on this loop right now, up to its first await: what waits for handlers would wait for
// itself there.

// How many calls are running, one within another, stands on the desk, where enqueues see it.
const { desk } = require('./environment.js');

const { numbers, RUNNING } = desk;

// Calls what is a handler's.
function entered(call, first, second) {
  numbers[RUNNING]++;
  try {
    return call(first, second);
  } finally {
    numbers[RUNNING]--;
  }
}

function isRunning() {
  return numbers[RUNNING] > 0;
}

module.exports = { entered, isRunning };
