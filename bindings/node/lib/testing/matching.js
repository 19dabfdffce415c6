'use strict';

// Matching: whether a value is as a test expects. Of an object only the properties that are named are looked at; a list has to be
// as long. A function is asked; so is what has a method `asymmetricMatch`, as `expect.any(String)`.

const { inspect, isDeepStrictEqual } = require('node:util');

// Where the value is otherwise, and how; undefined where it is not.
function difference(value, expected, place) {
  if (typeof expected === 'function') return told(expected(value), `${place} is ${show(value)}, which is refused`);
  if (typeof expected?.asymmetricMatch === 'function') {
    return told(expected.asymmetricMatch(value), `${place} is ${show(value)}, but ${show(expected)} is expected`);
  }
  if (expected instanceof RegExp) {
    return told(typeof value === 'string' && expected.test(value), `${place} is ${show(value)}, not like ${expected}`);
  }
  // As it travels, unless it can travel as it is.
  if (
    typeof expected?.toJSON === 'function' &&
    !isDeepStrictEqual(value, expected) &&
    !(expected instanceof Uint8Array)
  ) {
    return difference(value, expected.toJSON(), place);
  }
  if (expected instanceof Uint8Array) {
    const same = value instanceof Uint8Array && Buffer.compare(value, expected) === 0;
    return told(same, `${place} is ${show(value)}, but ${show(expected)} is expected`);
  }
  if (Array.isArray(expected)) return differenceOfLists(value, expected, place);
  if (typeof expected === 'object' && expected !== null) return differenceOfObjects(value, expected, place);
  return told(isDeepStrictEqual(value, expected), `${place} is ${show(value)}, but ${show(expected)} is expected`);
}

function differenceOfLists(value, expected, place) {
  if (!Array.isArray(value)) return `${place} is ${show(value)}, but a list is expected`;
  if (value.length !== expected.length) {
    return `${place} has ${value.length} items, but ${expected.length} are expected`;
  }
  return first(expected.map((item, at) => difference(value[at], item, `${place}[${at}]`)));
}

function differenceOfObjects(value, expected, place) {
  if (typeof value !== 'object' || value === null) return `${place} is ${show(value)}, but an object is expected`;
  return first(Object.entries(expected).map(([name, part]) => difference(value[name], part, `${place}.${name}`)));
}

function first(differences) {
  return differences.find((one) => one !== undefined);
}

function told(same, text) {
  return same ? undefined : text;
}

function show(value) {
  if (typeof value?.toAsymmetricMatcher === 'function') return value.toAsymmetricMatcher();
  return inspect(value, { depth: 2, breakLength: Infinity });
}

module.exports = { difference };
