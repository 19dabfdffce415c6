'use strict';

// Dead letters: messages that will not be tried again.

const { decode, isJson } = require('./body.js');
const { promised } = require('./environment.js');
const { key, onlyMade } = require('./made.js');
const { Receipt, headersOf } = require('./message.js');
const { idOf, optionsOf } = require('./options.js');

const LIMIT = 100;

// Refuses what is none, as the native half does.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

class DeadLetter {
  constructor(made, letter) {
    onlyMade(made, 'a dead letter is found with deadLetters.list() or deadLetters.get()');
    this.id = letter.id;
    this.queue = letter.queue;
    this.reason = letter.reason;
    this.error = letter.error;
    this.attempts = letter.attempts;
    this.failedAt = new Date(letter.failedAt);
    this.raw = letter.raw;
    this.contentType = letter.contentType;
    this.correlationId = letter.correlationId;
    this.headers = headersOf(letter.headers);
    Object.freeze(this);
  }

  // What a handler would have been given; the bytes, where they are not what they say they are.
  get body() {
    if (!isJson(this.contentType)) return this.raw;
    try {
      return decode(utf8.decode(this.raw));
    } catch {
      return this.raw;
    }
  }

  toJSON() {
    const { id, queue, reason, error, attempts, failedAt, contentType, correlationId, headers, body } = this;
    return { id: String(id), queue, reason, error, attempts, failedAt, contentType, correlationId, headers, body };
  }
}

class DeadLetters {
  #native;
  #check;

  constructor(native, check) {
    this.#native = native;
    this.#check = check;
  }

  async list(options) {
    const { queue, limit = LIMIT, after } = optionsOf('letters', options);
    this.#check();
    const letters = await promised((promise) => this.#native.letters(promise, queue, limit, after));
    return letters.map((letter) => new DeadLetter(key, letter));
  }

  async get(id) {
    const number = idOf(id);
    this.#check();
    const letter = await promised((promise) => this.#native.letter(promise, number));
    return letter === null ? null : new DeadLetter(key, letter);
  }

  async replay(id) {
    const number = idOf(id);
    this.#check();
    const [newId, status] = await promised((promise) => this.#native.replay(promise, number));
    return new Receipt(newId, status);
  }

  async replayAll(options) {
    const { queue } = optionsOf('queue', options);
    this.#check();
    return promised((promise) => this.#native.replayAll(promise, queue));
  }

  async purge(options) {
    const { queue } = optionsOf('queue', options);
    this.#check();
    return promised((promise) => this.#native.purgeLetters(promise, queue));
  }

  async count() {
    this.#check();
    return promised((promise) => this.#native.countLetters(promise));
  }
}

module.exports = { DeadLetter, DeadLetters };
