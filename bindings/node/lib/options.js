'use strict';

// Options: unknown ones are refused by name, wrong types are TypeErrors, and ranges are the core's to check. Absent,
// undefined and null are the default.

const { LibmqError, TEN_YEARS, invalid, translated } = require('./errors.js');

const DAY = 24 * 3600 * 1000;

// How long a stop and a close wait for handlers, in milliseconds.
const STOP_TIMEOUT = 25_000;

const kinds = {
  count(name, value) {
    number(name, value);
    if (!Number.isInteger(value) || value < 0) throw invalid(name, value, 'a whole number that is not negative');
    if (value > Number.MAX_SAFE_INTEGER) throw invalid(name, value, 'a whole number below 2^53');
    return value;
  },
  // What a lease may be extended by.
  extension(name, value) {
    number(name, value);
    if (!(value >= 0 && value <= DAY)) throw invalid(name, value, 'milliseconds from 0 to 24 hours');
    return value;
  },
  // The native half has no room for more than a little more.
  priority(name, value) {
    number(name, value);
    if (!Number.isInteger(value) || value < 0 || value > 9) throw invalid(name, value, 'a whole number from 0 to 9');
    return value;
  },
  time(name, value) {
    number(name, value);
    if (!(value >= 0 && value <= TEN_YEARS)) throw invalid(name, value, 'milliseconds from 0 to ten years');
    return value;
  },
  text(name, value) {
    if (typeof value !== 'string') throw wrongType(name, 'a string');
    if (!value.isWellFormed()) throw new LibmqError('INVALID', `${name} is not well-formed text`);
    return value;
  },
  flag(name, value) {
    if (typeof value !== 'boolean') throw wrongType(name, 'true or false');
    return value;
  },
  callable(name, value) {
    if (typeof value !== 'function') throw wrongType(name, 'a function');
    return value;
  },
  moment(name, value) {
    const time = value instanceof Date ? value.getTime() : value;
    if (typeof time !== 'number') throw wrongType(name, 'a Date or milliseconds since the epoch');
    if (!Number.isFinite(time)) throw invalid(name, value, 'a valid Date');
    return time;
  },
  signal(name, value) {
    if (!(value instanceof AbortSignal)) throw wrongType(name, 'an AbortSignal');
    return value;
  },
  headers(name, value) {
    if (!isPlain(value)) throw wrongType(name, 'an object of strings');
    const flat = [];
    for (const [header, text] of Object.entries(value)) {
      for (const one of Array.isArray(text) ? text : [text]) flat.push(header, kinds.text(`header ${header}`, one));
    }
    return flat;
  },
  backoff(name, value) {
    if (typeof value === 'number') return { steps: [kinds.time(name, value)] };
    if (Array.isArray(value)) return { steps: Array.from(value, (step) => kinds.time(name, step)) };
    if (typeof value !== 'object') throw wrongType(name, 'a number, a list of numbers, or an object');
    const { base, factor, cap, jitter } = checked(`${name}.`, backoff, value);
    return { base, factor, cap, jitter };
  },
  // A function has properties, too: some schemas are functions.
  schema(name, value) {
    const standard = typeof value === 'object' || typeof value === 'function' ? value['~standard'] : undefined;
    if (typeof standard?.validate !== 'function') throw wrongType(name, 'a Standard Schema');
    if (standard.version !== 1) {
      throw new LibmqError('UNSUPPORTED', `${name} is a Standard Schema of another version than 1`);
    }
    return value;
  },
  // Of the enqueue, which is given them as they are.
  message(name, value) {
    known(`${name}.`, tables.message, value);
    return value;
  },
  texts(name, value) {
    if (!Array.isArray(value)) throw wrongType(name, 'a list of strings');
    return value.map((text) => kinds.text(name, text));
  },
  number,
};

function oneOf(...names) {
  return (name, value) => {
    if (typeof value !== 'string') throw wrongType(name, 'a string');
    if (!names.includes(value)) throw invalid(name, value, names.join(' or '));
    return value;
  };
}

function number(name, value) {
  if (typeof value !== 'number') throw wrongType(name, 'a number');
  if (!Number.isFinite(value)) throw invalid(name, value, 'a finite number');
  return value;
}

// Whether something is an object whose properties can be what was meant: of whatever realm, but of no class, whose instances
// may have theirs where nobody looks.
function isPlain(value) {
  if (typeof value !== 'object' || Array.isArray(value) || typeof value[Symbol.iterator] === 'function') return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

function wrongType(name, wanted) {
  return new TypeError(`${name} takes ${wanted}`);
}

// The names of options, all of which a table has.
function known(prefix, table, options) {
  if (options === undefined || options === null) return [];
  if (typeof options.then === 'function')
    throw wrongType('options', 'an object, and is a promise: an await is missing');
  if (!isPlain(options)) throw wrongType('options', 'a plain object');
  const names = Object.keys(options);
  const unknown = names.find((name) => !Object.hasOwn(table, name));
  if (unknown !== undefined) throw new LibmqError('INVALID', `there is no option ${prefix}${unknown}`);
  return names;
}

// The options that are set, each as its kind makes of it.
function checked(prefix, table, options) {
  const found = {};
  for (const name of known(prefix, table, options)) {
    const value = options[name];
    if (value !== undefined && value !== null) found[name] = table[name](prefix + name, value);
  }
  return found;
}

const backoff = { base: kinds.time, factor: kinds.number, cap: kinds.time, jitter: kinds.number };

const handler = {
  maxParallelism: kinds.count,
  minParallelism: kinds.count,
  timeout: kinds.time,
  maxRetries: kinds.count,
  backoff: kinds.backoff,
  cancelGrace: kinds.time,
  leaseExtensionEnabled: kinds.flag,
  schema: kinds.schema,
  scope: kinds.callable,
};

const tables = {
  broker: {
    durability: oneOf('sync', 'os', 'memory'),
    capacity: kinds.count,
    maxBytes: kinds.count,
    maxMessageBytes: kinds.count,
    maxBatchBytes: kinds.count,
    maxDeadLetters: kinds.count,
    onFull: oneOf('fail', 'block'),
    blockTimeout: kinds.time,
    snapshotInterval: kinds.time,
    snapshotThreshold: kinds.count,
    segmentBytes: kinds.count,
    cacheBytes: kinds.count,
    syncInterval: kinds.time,
    defaultTimeout: kinds.time,
    defaultMaxRetries: kinds.count,
    maxCrashes: kinds.count,
    defaultBackoff: kinds.backoff,
    onCorruption: oneOf('refuse', 'quarantine'),
    lockTimeout: kinds.time,
    clock: oneOf('system', 'manual'),
    scope: kinds.callable,
    log: kinds.callable,
  },
  handler,
  message: {
    dedupKey: kinds.text,
    dedup: oneOf('replace', 'keep'),
    dedupWindow: kinds.time,
    correlationId: kinds.text,
    headers: kinds.headers,
    contentType: kinds.text,
    delay: kinds.time,
    runAt: kinds.moment,
    expiresIn: kinds.time,
    priority: kinds.priority,
    group: kinds.text,
    durability: oneOf('sync', 'os'),
  },
  receive: { timeout: kinds.time, lease: kinds.time, signal: kinds.signal },
  deliveries: { lease: kinds.time, signal: kinds.signal },
  wait: { timeout: kinds.time },
  signals: { signals: kinds.texts, timeout: kinds.time, before: kinds.callable },
  retry: { delay: kinds.time, error: kinds.text },
  release: { delay: kinds.time },
  letters: { queue: kinds.text, limit: kinds.count, after: (name, value) => idOf(value, name) },
  queue: { queue: kinds.text },
  // Of the helpers for tests.
  drain: { delayed: kinds.flag, rethrow: kinds.flag, timeout: kinds.time },
  run: { ...handler, queue: kinds.text, attempt: kinds.count, message: kinds.message, runTimeout: kinds.time },
};

function optionsOf(table, options) {
  return checked('', tables[table], options);
}

// Runs a native call that is given options of a table. Where it refuses the value of one, it is the value as it was
// given: the native half has smaller numbers, and times in other units.
function asGiven(table, given, call) {
  try {
    return call();
  } catch (error) {
    throw withGiven(table, given, translated(error));
  }
}

function withGiven(table, given, error) {
  if (!(error instanceof LibmqError && error.code === 'INVALID')) return error;
  const [, name, wanted] = /^(\w+) is [^ ]+, but (.+)$/.exec(error.message) ?? [];
  if (name === undefined || typeof given[name] !== 'number') return error;
  const unit = tables[table][name] === kinds.time ? ' ms' : '';
  return new LibmqError('INVALID', `${name} is ${given[name]}${unit}, but ${wanted}`);
}

function queueOf(queue) {
  if (typeof queue !== 'string') throw wrongType('queue', 'a string');
  return queue;
}

const ID_MAX = 2n ** 64n - 1n;

// An id as the native half takes it.
function idOf(id, name = 'id') {
  const isText = typeof id === 'string' && /^[0-9]{1,20}$/.test(id);
  if (typeof id !== 'bigint' && !isText) throw wrongType(name, 'a bigint, or a string of decimal digits');
  const number = BigInt(id);
  if (number < 0n || number > ID_MAX) throw invalid(name, id, 'an id, from 0 to 2^64 - 1');
  return number;
}

module.exports = { STOP_TIMEOUT, asGiven, idOf, kinds, known, optionsOf, queueOf, tables, withGiven, wrongType };
