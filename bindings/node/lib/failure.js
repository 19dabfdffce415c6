'use strict';

// Failures as text: what was thrown, in a line, and what is kept of it with a message.

const { dirname, sep } = require('node:path');
const { inspect, types } = require('node:util');

// What is kept at most, in bytes; libmq cuts at 4 KiB. Of each error so many calls, of one error so many causes, one within
// another, and so many of those that it has together.
const KEPT_MAX = 4000;
const FRAMES_MAX = 20;
const CAUSES_MAX = 5;
const TOGETHER_MAX = 5;

// Of what was thrown, with its causes and parts, so many are looked at for promises.
const OWNED_MAX = 100;

// Calls of this package, and those of Node between them and the handler's, are nobody's concern.
const OWN = dirname(__filename) + sep;

// A line for whatever was thrown.
function describe(error) {
  try {
    if (types.isPromise(error)) return 'threw a promise';
    if (isError(error)) {
      const { name, message } = error;
      const saysItself = (name === 'Error' || name === undefined) && message !== '';
      return saysItself ? String(message) : headOf(error);
    }
    if (typeof error === 'string') return error;
    if (error === undefined) return 'threw undefined';
    if (typeof error !== 'object' && typeof error !== 'function') return String(error);
    // A function has no form in JSON, and what says that it has none has none either.
    return `threw ${JSON.stringify(error) ?? inspect(error, { depth: 0, breakLength: Infinity })}`;
  } catch {
    return 'threw what cannot be shown';
  }
}

// Has what was thrown be nobody's failure but the attempt's, with all that caused it and that it has together: a promise that is
// rejected and that nobody looks at ends the program.
function own(error) {
  const parts = new Set([error]);
  for (const part of parts) {
    try {
      if (types.isPromise(part)) Promise.prototype.then.call(part, undefined, () => {});
      else for (const inner of withinIt(part)) if (parts.size < OWNED_MAX) parts.add(inner);
    } catch {
      // The constructor of a promise may make none, and what is looked at may throw.
    }
  }
}

// What was thrown together with something else.
function withinIt(part) {
  if (typeof part !== 'object' || part === null) return [];
  const { cause, errors } = part;
  return Array.isArray(errors) ? [cause, ...errors.slice(0, OWNED_MAX)] : [cause];
}

// One of another realm is an error, too, as in a test runner that gives each file globals of its own.
function isError(error) {
  if (types.isNativeError(error) || error instanceof Error) return true;
  if (typeof error !== 'object' || error === null) return false;
  return typeof error.message === 'string' && typeof error.name === 'string' && typeof error.stack === 'string';
}

// What is kept of a failure: what it is, and below it where it came from, and what caused it. The innermost calls are kept.
function reportOf(error) {
  const said = describe(error);
  let where;
  try {
    where = isError(error) ? traceOf(error, '', 0, new Set()) : [];
  } catch {
    return said;
  }
  // Without calls and causes that is all there is to say.
  if (where.length <= 1) return said;
  let left = KEPT_MAX - Buffer.byteLength(said) - 2;
  const kept = [];
  for (const line of where) {
    left -= Buffer.byteLength(line) + 1;
    if (left < 0) break;
    kept.push(line);
  }
  return kept.length > 1 ? `${said}\n\n${kept.join('\n')}` : said;
}

// An error's name and text, its calls, and the same of what caused it, each line of them further in.
function traceOf(error, indent, depth, seen) {
  seen.add(error);
  const lines = [`${indent}${headOf(error)}`, ...framesOf(error).map((frame) => `${indent}    ${frame}`)];
  const parts = [];
  if (error.cause !== undefined) parts.push(['cause', error.cause]);
  if (Array.isArray(error.errors)) {
    error.errors.slice(0, TOGETHER_MAX).forEach((one, i) => parts.push([`errors[${i}]`, one]));
    if (error.errors.length > TOGETHER_MAX) parts.push(['errors', `and ${error.errors.length - TOGETHER_MAX} more`]);
  }
  for (const [what, part] of parts) {
    if (seen.has(part) || depth === CAUSES_MAX) continue;
    const inner = isError(part) ? traceOf(part, `${indent}  `, depth + 1, seen) : [`${indent}  ${describe(part)}`];
    lines.push(`${indent}  ${what}: ${inner[0].trimStart()}`, ...inner.slice(1));
  }
  return lines;
}

function headOf(error) {
  const { name = 'Error', message } = error;
  return message === '' ? String(name) : `${name}: ${message}`;
}

function framesOf(error) {
  const { stack } = error;
  if (typeof stack !== 'string') return [];
  const frames = stack.split('\n').map((line) => line.trim());
  const isTheirs = (frame) => frame.startsWith('at ') && !frame.includes(OWN) && !/[( ]node:/.test(frame);
  return frames.filter(isTheirs).slice(0, FRAMES_MAX);
}

module.exports = { describe, own, reportOf };
