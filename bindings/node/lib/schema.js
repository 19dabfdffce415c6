'use strict';

// Schemas: anything that keeps to Standard Schema, version 1, as those of zod, valibot and arktype do.

const { entered } = require('./running.js');

// Issues that are told of, and the text of each at most.
const ISSUES_MAX = 10;
const ISSUE_LENGTH_MAX = 300;
// Parts of a body that are looked for in what is told of it.
const PARTS_MAX = 1000;

// A body is not what its schema asks for: a dead letter `decode` at once.
class Undecodable extends Error {}

// What a schema makes of a body.
async function validated(schema, body) {
  const result = await entered(() => schema['~standard'].validate(body));
  if (typeof result !== 'object' || result === null) throw new TypeError('the schema answered no result');
  if (!result.issues) return result.value;
  throw new Undecodable(textOf(result.issues, body));
}

// Issues as text: where, and what. A schema's words often have the value in them that it does not like, which is cut out:
// this text stands where bodies do not belong.
function textOf(issues, body) {
  if (!Array.isArray(issues)) throw new TypeError('the schema answered issues that are no list');
  const lines = issues.slice(0, ISSUES_MAX).map((issue) => {
    const path = Array.from(issue.path ?? [], (step) => (typeof step === 'object' && step !== null ? step.key : step));
    // What was made of the value before it was refused: valibot and arktype say that, and show it.
    const made = issue.received ?? issue.actual;
    const where = path.length === 0 ? '' : `${path.map(String).join('.')}: `;
    return `${where}${withoutValues(String(issue.message), valueAt(body, path), made)}`.slice(0, ISSUE_LENGTH_MAX);
  });
  if (issues.length > ISSUES_MAX) lines.push(`and ${issues.length - ISSUES_MAX} more`);
  return `the body is not as its schema asks: ${lines.join('; ')}`;
}

function valueAt(body, path) {
  let value = body;
  for (const key of path) value = Object(value)[key];
  return value;
}

// A message without the value that it is about, or parts of it, in any of the forms in which it may be there.
function withoutValues(message, value, received) {
  const texts = new Set(typeof received === 'string' && /^["\d-]/.test(received) ? [received] : []);
  const left = [value];
  for (let count = 0; left.length > 0 && count < PARTS_MAX; count++) {
    const part = left.pop();
    if (Array.isArray(part)) {
      left.push(...part.slice(0, PARTS_MAX));
    } else if (typeof part === 'object' && part !== null && !(part instanceof Uint8Array)) {
      left.push(...Object.values(part).slice(0, PARTS_MAX));
    } else if (typeof part === 'string' || typeof part === 'number') {
      texts.add(String(part)).add(JSON.stringify(part));
    }
  }
  let rest = message;
  for (const text of [...texts].sort((a, b) => b.length - a.length)) rest = without(rest, text);
  return rest;
}

// A message without a text, where that is not only a part of a word.
function without(message, text) {
  if (text === '') return message;
  let rest = '';
  let from = 0;
  for (let at = message.indexOf(text); at >= 0; at = message.indexOf(text, at + 1)) {
    const end = at + text.length;
    if (at < from || (isWord(message[at - 1]) && isWord(text[0])) || (isWord(message[end]) && isWord(text.at(-1))))
      continue;
    rest += `${message.slice(from, at)}…`;
    from = end;
  }
  return rest + message.slice(from);
}

function isWord(char) {
  return char !== undefined && /[\p{L}\p{N}]/u.test(char);
}

module.exports = { Undecodable, validated };
