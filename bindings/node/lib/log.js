'use strict';

// Log hooks: what a broker tells besides what its calls answer. A hook is nobody's concern but its own: what it throws, or
// rejects with, is ignored.

const { describe } = require('./failure.js');

// Those that the native half has events for, by their numbers. Weakly: a hook may know its broker, and then nobody would
// ever see that it has been forgotten.
const logs = new Map();
let last = 0;

class Log {
  #hook;
  #number = ++last;
  #ended = false;

  constructor(hook) {
    this.#hook = hook;
    logs.set(this.#number, new WeakRef(this));
  }

  get number() {
    return this.#number;
  }

  tell(level, event, fields) {
    if (this.#ended) return;
    // What a handler does after that concerns nobody.
    if (event === 'close') this.end();
    const hook = this.#hook;
    try {
      const end = hook(level, event, Object.assign(new Fields(), fields));
      // An async one fails later.
      if (typeof end === 'object' && end !== null) Promise.resolve(end).catch(() => {});
    } catch {
      // There is nowhere left to say it.
    }
  }

  // Tells nothing any more.
  end() {
    this.#ended = true;
    forget(this.#number);
  }
}

// What there is to know about an event.
class Fields {
  toJSON() {
    return Object.fromEntries(Object.entries(this).map(([name, value]) => [name, inJson(value)]));
  }
}

// As what was thrown may be anything, only what is plain is written as it is.
function inJson(value) {
  if (typeof value === 'bigint') return String(value);
  const isPlain = value === null || ['string', 'number', 'boolean'].includes(typeof value);
  return isPlain ? value : describe(value);
}

// Tells the events of a native list.
function tellAll(list) {
  for (let i = 0; i < list.length; i += 4) {
    logs
      .get(list[i])
      ?.deref()
      ?.tell(list[i + 1], list[i + 2], fieldsOf(list[i + 3]));
  }
}

function fieldsOf(flat) {
  const fields = {};
  for (let i = 0; i < flat.length; i += 2) {
    fields[flat[i].replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())] = flat[i + 1];
  }
  return fields;
}

function forget(number) {
  logs.delete(number);
}

module.exports = { Log, forget, tellAll };
