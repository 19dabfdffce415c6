'use strict';

// Ending with a signal, for programs that ask for it: the first one stops and closes, a second one ends at once.

const { constants } = require('node:os');
const { isMainThread } = require('node:worker_threads');

const { LibmqError } = require('./errors.js');
const { optionsOf, wrongType } = require('./options.js');

const SIGNALS = ['SIGTERM', 'SIGINT'];

// The status of a program that has not ended in order.
const FAILED = 1;

function closeOnSignal(brokers, options) {
  const all = Array.isArray(brokers) ? [...brokers] : [brokers];
  if (!all.every((broker) => typeof broker?.close === 'function'))
    throw wrongType('brokers', 'a broker or a list of them');
  const { signals = SIGNALS, timeout, before } = optionsOf('signals', options);
  for (const signal of signals) {
    if (!Object.hasOwn(constants.signals, signal)) throw new LibmqError('INVALID', `there is no signal ${signal}`);
  }
  if (!isMainThread) throw new LibmqError('UNSUPPORTED', 'signals come to the main thread alone');
  let isEnding = false;
  const hear = (signal) => {
    // Not by the signal again: to the first process of a container that would do nothing.
    const status = 128 + constants.signals[signal];
    if (isEnding) process.exit(status);
    isEnding = true;
    end(all, { signal, timeout, before }).then((failures) => {
      for (const failure of failures) console.error(failure);
      process.exit(failures.length > 0 ? FAILED : status);
    });
  };
  for (const signal of signals) process.on(signal, hear);
  return () => {
    for (const signal of signals) process.off(signal, hear);
  };
}

// Ends what else there is, and then the brokers together; answers what failed.
async function end(brokers, { signal, timeout, before }) {
  // No message is taken any more while the rest of the program ends.
  const stops = brokers.map((broker) => broker.stop({ timeout }).catch(unlessClosed));
  const first = await Promise.allSettled([(async () => before?.(signal))(), ...stops]);
  const last = await Promise.allSettled(brokers.map((broker) => broker.close({ timeout })));
  return [...first, ...last].filter(({ status }) => status === 'rejected').map(({ reason }) => reason);
}

function unlessClosed(error) {
  if (error.code !== 'CLOSED') throw error;
}

module.exports = { closeOnSignal };
