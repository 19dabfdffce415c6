'use strict';

// What a handler knows of its message, and can do beside returning. Read lazily: most handlers want only the body.

const { environment } = require('./environment.js');
const { CancelledError, calling } = require('./errors.js');
const { Held } = require('./held.js');

class Context extends Held {
  #number;
  #controller;
  #scope;

  constructor(number, queue, id, attempt, check) {
    super(number, queue, id, attempt, check);
    this.#number = number;
  }

  get signal() {
    if (this.#controller === undefined) {
      const reason = calling(() => environment.cancelReason(this.#number));
      this.#controller = new AbortController();
      if (reason) this.#controller.abort(new CancelledError(reason));
    }
    return this.#controller.signal;
  }

  get scope() {
    return this.#scope;
  }

  // Its scope was opened.
  static enter(context, scope) {
    context.#scope = scope;
  }

  // Aborts the signal, if somebody has it.
  static cancel(context, reason) {
    const controller = context.#controller;
    if (controller !== undefined && !controller.signal.aborted) controller.abort(new CancelledError(reason));
  }
}

module.exports = { Context };
