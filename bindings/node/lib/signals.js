'use strict';

// Ending with a signal, for programs that ask for it: the first one stops and closes, a second one ends at once.

const { constants } = require('node:os');
const { isMainThread } = require('node:worker_threads');

const { TIMER_MAX } = require('./environment.js');
const { LibmqError } = require('./errors.js');
const { STOP_TIMEOUT, optionsOf, wrongType } = require('./options.js');
const { clearTimeout, setTimeout } = require('./time.js');

const SIGNALS = ['SIGTERM', 'SIGINT'];

// What ends or halts a process without its knowledge.
const UNHEARD = new Set(['SIGKILL', 'SIGSTOP']);

// The status of a program that has not ended in order.
const FAILED = 1;

// All that ends with a signal, whatever has asked for it.
const registered = new Set();
let isEnding = false;

function closeOnSignal(brokers, options) {
  const all = Array.isArray(brokers) ? [...brokers] : [brokers];
  if (!all.every((broker) => typeof broker?.close === 'function'))
    throw wrongType('brokers', 'a broker or a list of them');
  const { signals: named = SIGNALS, timeout = STOP_TIMEOUT, before } = optionsOf('signals', options);
  if (named.length === 0) throw new LibmqError('INVALID', 'signals names none');
  const signals = new Set(named);
  for (const signal of signals) {
    if (!Object.hasOwn(constants.signals, signal)) throw new LibmqError('INVALID', `there is no signal ${signal}`);
    if (UNHEARD.has(signal)) throw new LibmqError('INVALID', `${signal} reaches no program`);
  }
  if (!isMainThread) throw new LibmqError('UNSUPPORTED', 'signals come to the main thread alone');
  const one = { brokers: all, signals, timeout, before };
  for (const signal of signals) if (!isAwaited(signal)) process.on(signal, hear);
  registered.add(one);
  return () => {
    registered.delete(one);
    for (const signal of signals) if (!isAwaited(signal)) process.off(signal, hear);
  };
}

function isAwaited(signal) {
  return [...registered].some(({ signals }) => signals.has(signal));
}

// One listener for all that is registered: were there several, the one that is done first would cut the others off.
function hear(signal) {
  // Not by the signal again: to the first process of a container that would do nothing.
  const status = 128 + constants.signals[signal];
  if (isEnding) process.exit(status);
  isEnding = true;
  end([...registered], signal).then((failures) => {
    for (const failure of failures) console.error(failure);
    process.exit(failures.length > 0 ? FAILED : status);
  });
}

// Ends what else there is, and then the brokers, all of them together; answers what failed.
async function end(all, signal) {
  // No message is taken any more while the rest of the program ends.
  const stops = all.flatMap(({ brokers, timeout }) =>
    brokers.map((broker) => broker.stop({ timeout }).catch(unlessClosed)),
  );
  const others = all.map(({ timeout, before }) => within(timeout, async () => before?.(signal)));
  const first = await Promise.allSettled([...others, ...stops]);
  const closes = all.flatMap(({ brokers, timeout }) => brokers.map((broker) => broker.close({ timeout })));
  const last = await Promise.allSettled(closes);
  return [...first, ...last].filter(({ status }) => status === 'rejected').map(({ reason }) => reason);
}

// What `before` comes to, in the time that handlers have. The timer keeps the program from ending meanwhile for want of work.
async function within(timeout, before) {
  let timer;
  const over = new Promise((_, reject) => {
    const error = new LibmqError('TIMEOUT', `before has not ended in ${timeout} ms`);
    timer = setTimeout(reject, Math.min(timeout, TIMER_MAX), error);
  });
  try {
    await Promise.race([before(), over]);
  } finally {
    clearTimeout(timer);
  }
}

function unlessClosed(error) {
  if (error.code !== 'CLOSED') throw error;
}

module.exports = { closeOnSignal };
