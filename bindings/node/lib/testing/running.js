'use strict';

// Running one handler once, for one message, with all that an attempt has: its body as it comes back from JSON, its schema, its
// scope, and its end.

const { calleeOf } = require('../callee.js');
const { LibmqError, invalid } = require('../errors.js');
const { optionsOf, tables } = require('../options.js');
const { now } = require('../time.js');
const { recordOf, testBroker } = require('./opening.js');
const { settled } = require('./settling.js');

// Below what test runners give a test, five seconds, so that this is said and not theirs.
const TIMEOUT = 4000;
const OUTCOMES = { acked: 'ack', released: 'release', rejected: 'reject' };

async function runHandler(handler, body, options) {
  const { queue = 'test', attempt = 1, message, runTimeout = TIMEOUT, scope } = optionsOf('run', options);
  const callee = calleeOf(handler, scope !== undefined);
  if (attempt < 1) throw invalid('attempt', attempt, 'a whole number from 1');
  const opened = now();
  const broker = await testBroker();
  const close = () => broker.close({ timeout: 0 }).catch(() => {});
  let ran;
  try {
    await broker.enqueue(queue, body, message);
    broker.advance(untilDue(message, opened));
    // One that gives its message back would have it again at once.
    const once = async (given, ctx) => {
      try {
        await callee(given, ctx);
      } finally {
        broker.pause(queue);
      }
    };
    broker.handle(queue, once, ofHandler(options));
    await reach(broker, queue, attempt);
    ran = await run(broker, runTimeout);
  } catch (error) {
    // One that hangs has its grace, which nobody is to wait for.
    close();
    throw error;
  }
  await close();
  return ran;
}

// The options of a run that are its handler's.
function ofHandler(options) {
  return Object.fromEntries(Object.entries(options ?? {}).filter(([name]) => Object.hasOwn(tables.handler, name)));
}

// How far the clock is from where a message is due; it stands where it did when its broker was opened, or a little later.
function untilDue({ delay, runAt } = {}, opened) {
  return delay ?? Math.max(0, (runAt ?? opened) - opened);
}

// Has the message fail until its next attempt is this one.
async function reach(broker, queue, attempt) {
  for (let before = 1; before < attempt; before++) {
    const delivery = await broker.receive(queue, { timeout: 0 });
    if (delivery === null) throw invalid('attempt', attempt, 'one that maxRetries allows');
    await delivery.retry({ delay: 0 });
  }
  if (broker.metrics().queues[queue].ready === 0) throw invalid('attempt', attempt, 'one that maxRetries allows');
}

async function run(broker, timeout) {
  const record = recordOf(broker);
  const given = record.enqueued.length;
  const figures = broker.metrics();
  await broker.start();
  if (!(await settled(broker, timeout))) {
    throw new LibmqError('TIMEOUT', `the handler has not ended in ${timeout} ms`);
  }
  const after = broker.metrics();
  const counted = Object.keys(OUTCOMES).find((name) => after[name] > figures[name]);
  const [deadLetter = null] = await broker.deadLetters.list();
  const outcome = OUTCOMES[counted] ?? (deadLetter?.reason === 'decode' ? 'reject' : 'retry');
  const { error } = record.attempts.at(-1) ?? {};
  return Object.freeze({ outcome, error, deadLetter, enqueued: Object.freeze(record.enqueued.slice(given)) });
}

module.exports = { runHandler };
