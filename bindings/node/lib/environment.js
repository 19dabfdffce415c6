'use strict';

// The loop's side of the native environment: promises by their numbers, listeners by what rings for them, and whether
// the loop is kept alive.

const native = require('./native.js');
const { errorOf, translated } = require('./errors.js');
const { tellAll } = require('./log.js');
const { setInterval } = require('./time.js');

// What is told what became of a call, by the call's number: its error, or null, and its value.
const promises = new Map();
// Promises that many wait for, by the same numbers.
const rounds = new Map();
const listeners = new Map();
let lastPromise = 0;

// Called when there is something to collect. Nothing may escape from here: it would end the program.
function wake() {
  const [done, rung, events] = environment.collect();
  // A close is not done before its hook has heard of it.
  tellAll(events);
  for (let i = 0; i < done.length; i += 3) settle(done[i], done[i + 1], done[i + 2]);
  for (const ear of rung) listeners.get(ear)?.();
}

// What the native half hands over in shared memory, to be read before the next call; `src/desk.rs` says what lies
// where.
const TAKE_MAX = 256;
const FIRST = 9;
const ACKED = FIRST + 2 * TAKE_MAX;
const desk = {
  // On buffers that are there from the beginning: one that an engine makes when it is first asked for lies elsewhere than what
  // was in the array before, as in Bun.
  numbers: new Float64Array(new ArrayBuffer((ACKED + TAKE_MAX) * Float64Array.BYTES_PER_ELEMENT)),
  ids: new BigUint64Array(new ArrayBuffer((TAKE_MAX + 1) * BigUint64Array.BYTES_PER_ELEMENT)),
  STATUS: 5,
  OVER: 6,
  RUNNING: 7,
  PLACE: 8,
  FIRST,
  ACKED,
  RECEIPT: TAKE_MAX,
};

// The place whose handler was entered last, the last one behind which everything else on the loop had its turn, and whether
// somebody has looked at these, who then may have taken back what was not entered. `src/gate.rs` says who that is.
const ENTERED = 0;
const PASSED = 1;
const ASKED = 2;
const gate = new Float64Array(new ArrayBuffer(3 * Float64Array.BYTES_PER_ELEMENT));

const environment = native.connect(desk.numbers, desk.ids, gate);
const take = environment.taker();

function settle(number, error, value) {
  const tell = promises.get(number);
  if (tell === undefined) return;
  promises.delete(number);
  letGo();
  tell(error, value);
}

function expect(number, tell) {
  promises.set(number, tell);
  hold();
}

// A promise that the native half keeps under the number that `start` is given.
function promised(start) {
  return new Promise((resolve, reject) => {
    const number = ++lastPromise;
    expect(number, telling(resolve, reject));
    try {
      start(number);
    } catch (error) {
      promises.delete(number);
      letGo();
      reject(translated(error));
    }
  });
}

// For a call that is mostly done when it returns: its number, to be waited for if it is not.
function nextPromise() {
  return ++lastPromise;
}

function waitFor(number) {
  return new Promise((resolve, reject) => expect(number, telling(resolve, reject)));
}

function telling(resolve, reject) {
  return (error, value) => {
    if (error === null) resolve(value);
    else reject(errorOf(error));
  };
}

// What the native half keeps under a number that it may answer to many. It brings what failed, or null: each is to throw an
// error of its own.
function together(number) {
  let round = rounds.get(number);
  if (round === undefined) {
    round = new Promise((resolve) => {
      expect(number, (error) => {
        rounds.delete(number);
        resolve(error);
      });
    });
    rounds.set(number, round);
  }
  return round;
}

// While a broker is open, or a call under way, the native half can have the loop look. When nothing is left that can be told,
// it cannot: whoever asks what a program has left open, as test runners do, is to find nothing.
function rouse() {
  environment.rouse(wake);
}

function rest() {
  if (promises.size === 0) environment.rest();
}

// Has `listener` called when an ear rings, until it is forgotten.
function listen(ear, listener) {
  listeners.set(ear, listener);
}

function forget(ear) {
  listeners.delete(ear);
  environment.forget(ear);
}

// Promises that are open, and brokers that are started, keep the loop alive; native threads never do. The timer that does
// it is made here, since it keeps for ever what its maker has in an `AsyncLocalStorage`.
const TIMER_MAX = 2 ** 31 - 1;
const timer = setInterval(() => {}, TIMER_MAX).unref();
let holders = 0;

function hold() {
  if (++holders === 1) timer.ref();
}

function letGo() {
  if (--holders === 0) timer.unref();
}

module.exports = {
  desk,
  environment,
  forget,
  gate,
  hold,
  letGo,
  listen,
  nextPromise,
  promised,
  rest,
  rouse,
  take,
  together,
  waitFor,
  ASKED,
  ENTERED,
  PASSED,
  TAKE_MAX,
  TIMER_MAX,
};
