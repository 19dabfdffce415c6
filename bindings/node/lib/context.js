'use strict';

// What a handler knows of its message, and can do beside returning. Read lazily: most handlers want only the body.

const { environment } = require('./environment.js');
const { CancelledError, calling } = require('./errors.js');
const { Held } = require('./held.js');

class Context extends Held {
  #controller;
  // Why it was cancelled, once it was told so without a signal.
  #reason;
  #scope;
  #place;

  get signal() {
    if (this.#controller === undefined) {
      const reason = this.#reason ?? reasonOf(Held.numberOf(this));
      this.#controller = new AbortController();
      if (reason) this.#controller.abort(new CancelledError(reason));
    }
    return this.#controller.signal;
  }

  get scope() {
    return this.#scope;
  }

  // Where it stands among the calls of its handler.
  static place(context, place) {
    context.#place = place;
  }

  static placeOf(context) {
    return context.#place;
  }

  // Its scope was opened.
  static enter(context, scope) {
    context.#scope = scope;
  }

  // Aborts the signal, if somebody has it.
  static cancel(context, reason) {
    const controller = context.#controller;
    context.#reason ??= reason;
    if (controller !== undefined && !controller.signal.aborted) controller.abort(new CancelledError(reason));
  }
}

// Of one that has ended there is nothing to tell any more.
function reasonOf(number) {
  try {
    return calling(() => environment.cancelReason(number));
  } catch (error) {
    if (error.code !== 'STALE_LEASE') throw error;
    return undefined;
  }
}

module.exports = { Context };
