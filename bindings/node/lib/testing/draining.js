'use strict';

// Draining: running what is there until nothing is left to run.

const { RejectError, ReleaseError, RetryError, TEN_YEARS } = require('../errors.js');
const { optionsOf } = require('../options.js');
const { Undecodable } = require('../schema.js');
const { elapsed } = require('../time.js');
const { recordOf } = require('./opening.js');
const { handled, settled } = require('./settling.js');

// Below what test runners give a test, five seconds, so that this is said and not theirs.
const TIMEOUT = 4000;

// How far the clock is moved first, for what is delayed. It is not told when the next one is due: as long as nothing comes, the
// steps grow.
const STEP = 1000;

const COUNTED = ['acked', 'retried', 'released', 'rejected', 'deadLettered'];

async function drain(broker, options) {
  const record = recordOf(broker);
  const { delayed = false, rethrow = true, timeout = TIMEOUT } = optionsOf('drain', options);
  const from = record.attempts.length;
  const before = broker.metrics();
  const starts = !record.isStarted;
  const stop = () => starts && broker.stop({ timeout: 0 }).catch(() => {});
  if (starts) await broker.start();
  try {
    await runAll(broker, delayed, timeout);
  } catch (error) {
    // What still runs has had its time, and its grace, which nobody is to wait for.
    stop();
    throw error;
  }
  await stop();
  const after = broker.metrics();
  const failures = record.attempts.slice(from).filter(({ failed, error }) => failed && !isOutcome(error));
  if (rethrow && failures.length === 1) throw failures[0].error;
  if (rethrow && failures.length > 1) {
    const words = failures.map(({ queue, attempt, error }) => `${queue}, attempt ${attempt}: ${error}`);
    throw new AggregateError(
      failures.map(({ error }) => error),
      `${failures.length} attempts failed:\n${words.join('\n')}`,
    );
  }
  const counts = Object.fromEntries(COUNTED.map((name) => [name, after[name] - before[name]]));
  const told = failures.map(({ queue, id, attempt, error }) => Object.freeze({ queue, id, attempt, error }));
  return Object.freeze({ ...counts, failures: Object.freeze(told) });
}

async function runAll(broker, delayed, timeout) {
  const end = elapsed() + timeout;
  let step = STEP;
  let moved = 0;
  for (;;) {
    const delivered = broker.metrics().delivered;
    if (!(await settled(broker, end - elapsed()))) throw new Error(overdue(broker, timeout));
    if (!delayed || moved > TEN_YEARS || handled(broker).every((queue) => queue.delayed === 0)) return;
    step = broker.metrics().delivered > delivered ? STEP : Math.min(step * 2, TEN_YEARS);
    broker.advance(step);
    moved += step;
  }
}

function overdue(broker, timeout) {
  const busy = Object.entries(broker.metrics().queues)
    .filter(([, { parallelism, ready, inFlight }]) => parallelism > 0 && ready + inFlight > 0)
    .map(([name, { ready, inFlight }]) => `${name} has ${ready} ready and ${inFlight} in flight`);
  return `the broker was not drained in ${timeout} ms: ${busy.join('; ')}`;
}

// Whether a handler said with what it threw how its attempt ends; the rest is a failure.
function isOutcome(error) {
  return [RejectError, ReleaseError, RetryError, Undecodable].some((outcome) => error instanceof outcome);
}

module.exports = { drain };
