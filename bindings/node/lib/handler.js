'use strict';

// Handlers: the loop looks into their inbox when it was rung, calls them, and finishes each delivery with what came of it.

const { describe } = require('./body.js');
const { Context } = require('./context.js');
const { environment, forget, listen } = require('./environment.js');
const { RejectError, ReleaseError, RetryError, translated } = require('./errors.js');

// Messages that are handled before everything else on the loop has its turn.
const TURN_MAX = 256;

// How many handlers' code is running on this loop right now, up to its first await.
let running = 0;

class Handler {
  #ear;
  #queue;
  #call;
  #log;
  #check;
  #contexts = new Map();
  #turn = 0;
  #isLooking = false;
  #whenIdle;

  constructor(ear, queue, call, log, check) {
    this.#ear = ear;
    this.#queue = queue;
    this.#call = call;
    this.#log = log;
    this.#check = check;
    listen(ear, () => this.#rung());
  }

  // Whether a handler's code is running: what waits for handlers would wait for itself.
  static get isRunning() {
    return running > 0;
  }

  // Calls that have not ended.
  get size() {
    return this.#contexts.size;
  }

  // Takes nothing more, and calls back when all its calls have ended, now or then.
  retire(whenIdle) {
    this.#whenIdle = whenIdle;
    if (this.#contexts.size === 0) whenIdle();
  }

  // Gives the queue up, whatever still runs.
  leave() {
    forget(this.#ear);
  }

  #rung() {
    this.#turn = 0;
    this.#look();
  }

  #look() {
    while (this.#whenIdle === undefined) {
      if (this.#turn >= TURN_MAX) {
        this.#isLooking = true;
        setImmediate(() => {
          this.#isLooking = false;
          this.#rung();
        });
        break;
      }
      const taken = environment.take(this.#ear, TURN_MAX - this.#turn);
      const whole = taken.length - (taken.length % 4);
      for (let i = 0; i < whole; i += 4) this.#run(taken[i], taken[i + 1], taken[i + 2], taken[i + 3]);
      this.#turn += whole / 4;
      if (whole < taken.length) setTimeout(() => this.#rung(), taken[whole]).unref();
      if (whole === 0) break;
    }
    this.#tellCancelled();
  }

  // Looks again once what is under way now has ended.
  #lookSoon() {
    if (this.#isLooking) return;
    this.#isLooking = true;
    queueMicrotask(() => {
      this.#isLooking = false;
      this.#look();
    });
  }

  #tellCancelled() {
    const cancelled = environment.cancelled(this.#ear);
    for (let i = 0; i < cancelled.length; i += 2) {
      const context = this.#contexts.get(cancelled[i]);
      if (context === undefined) continue;
      this.#log?.('warn', 'cancelled', { queue: this.#queue, id: context.id, reason: cancelled[i + 1] });
      Context.cancel(context, cancelled[i + 1]);
    }
  }

  #run(number, id, attempt, body) {
    const context = new Context(number, this.#queue, id, attempt, this.#check);
    this.#contexts.set(number, context);
    let message = body;
    if (typeof body === 'string') {
      try {
        message = JSON.parse(body);
      } catch (error) {
        return this.#finish(number, context, 'decode', describe(error));
      }
    } else if (body === null) {
      return this.#finish(number, context, 'decode', 'the body is not UTF-8');
    }
    let result;
    running++;
    try {
      result = this.#call(message, context);
    } catch (error) {
      running--;
      return this.#fail(number, context, error);
    }
    running--;
    if ((typeof result === 'object' && result !== null) || typeof result === 'function') {
      this.#await(number, context, result);
    } else {
      this.#finish(number, context, '', '');
    }
  }

  async #await(number, context, result) {
    try {
      await result;
    } catch (error) {
      return this.#fail(number, context, error);
    }
    this.#finish(number, context, '', '');
  }

  #fail(number, context, error) {
    const { outcome, text, delay } = endOf(error);
    if (outcome === 'fail') {
      this.#log?.('warn', 'handler_error', { queue: this.#queue, id: context.id, attempt: context.attempt, error });
    }
    this.#finish(number, context, outcome, text, delay);
  }

  #finish(number, context, outcome, text, delay = -1) {
    this.#contexts.delete(number);
    try {
      const ended = outcome === '' ? environment.ack(number) : environment.finish(number, outcome, text, delay);
      if (!ended) this.#log?.('warn', 'stale_lease', { queue: this.#queue, id: context.id });
    } catch (error) {
      this.#log?.('error', 'settle_failed', { queue: this.#queue, id: context.id, error: translated(error) });
    }
    if (this.#whenIdle === undefined) this.#lookSoon();
    else if (this.#contexts.size === 0) this.#whenIdle();
  }
}

// How an attempt ends that threw this.
function endOf(error) {
  try {
    if (error instanceof RetryError) return { outcome: 'retry', text: error.message, delay: error.delay };
    if (error instanceof RejectError) return { outcome: 'reject', text: error.message };
    if (error instanceof ReleaseError) return { outcome: 'release', text: '', delay: error.delay };
  } catch {
    // A proxy that throws when it is looked at is no error of ours.
  }
  return { outcome: 'fail', text: describe(error) };
}

module.exports = { Handler };
