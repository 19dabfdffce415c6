'use strict';

// Assertions about what was enqueued. They throw an `AssertionError`, which every test runner shows.

const { AssertionError } = require('node:assert');
const { inspect } = require('node:util');

const { kinds, known, queueOf, tables } = require('../options.js');
const { difference } = require('./matching.js');
const { enqueued } = require('./opening.js');

// Messages that a failure tells of.
const SHOWN_MAX = 10;

// Options that a message is to have, and how many such messages there are to be.
const WANTED = { ...tables.message, count: kinds.count };

// There is one like this, or as many as `count` says; answers the first of them.
function assertEnqueued(broker, queue, body, options) {
  const { count, wanted, found, others } = look(broker, queue, body, options, WANTED);
  if (count === undefined ? found.length > 0 : found.length === count) return found[0];
  const many = found.length === 0 ? 'no message like this was' : `${found.length} like this were`;
  const expected = count === undefined ? '' : `, but ${count} ${count === 1 ? 'was' : 'were'} expected`;
  fail(`${many} enqueued to ${queue}${expected}:`, wanted, others, broker, queue, assertEnqueued);
}

function assertNotEnqueued(broker, queue, body, options) {
  const { wanted, found } = look(broker, queue, body, options, tables.message);
  if (found.length === 0) return;
  const many = found.length === 1 ? 'a message like this was' : `${found.length} messages like this were`;
  const lines = [`${many} enqueued to ${queue}:`, shown(wanted), 'that is:', ...found.map((one) => shown(one))];
  throw new AssertionError({
    message: lines.join('\n'),
    operator: 'assertNotEnqueued',
    stackStartFn: assertNotEnqueued,
  });
}

function look(broker, queue, body, options, table) {
  queueOf(queue);
  known('', table, options);
  const { count, ...other } = options ?? {};
  if (count !== undefined) kinds.count('count', count);
  const wanted = { body, options: other };
  const all = enqueued(broker, queue).map((message) => [message, differenceOf(message, body, other)]);
  const found = all.filter(([, why]) => why === undefined).map(([message]) => message);
  return { count, wanted, found, others: all };
}

function differenceOf(message, body, options) {
  return (
    (body === undefined ? undefined : difference(message.body, body, 'body')) ??
    difference(message.options, options, 'options')
  );
}

function fail(first, wanted, others, broker, queue, stackStartFn) {
  const lines = [first, shown(wanted)];
  if (others.length > 0) {
    lines.push(`to ${queue} ${others.length === 1 ? 'this was' : `these ${others.length} were`} enqueued:`);
    for (const [message, why] of others.slice(0, SHOWN_MAX)) {
      lines.push(`${shown(message)}${why === undefined ? '' : `\n    ${why}`}`);
    }
    if (others.length > SHOWN_MAX) lines.push(`  and ${others.length - SHOWN_MAX} more`);
  } else {
    const queues = [...new Set(enqueued(broker).map((message) => message.queue))];
    lines.push(`nothing was enqueued to ${queue}${queues.length > 0 ? `, but to ${queues.join(', ')}` : ''}`);
  }
  throw new AssertionError({ message: lines.join('\n'), operator: 'assertEnqueued', stackStartFn });
}

function shown({ body, options }) {
  const text = body === undefined ? 'anything' : inspect(body, { depth: 6, breakLength: 100 });
  const rest = Object.keys(options).length === 0 ? '' : `, with ${inspect(options, { depth: 6, breakLength: 100 })}`;
  return `  ${text.replaceAll('\n', '\n  ')}${rest.replaceAll('\n', '\n  ')}`;
}

module.exports = { assertEnqueued, assertNotEnqueued };
