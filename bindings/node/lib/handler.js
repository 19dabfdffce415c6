'use strict';

// Handlers: the loop looks into their inbox when it was rung, calls them, and finishes each delivery with what came of it.

const { describe } = require('./body.js');
const { Context } = require('./context.js');
const { desk, environment, forget, listen, TAKE_MAX } = require('./environment.js');
const { RejectError, ReleaseError, RetryError, translated } = require('./errors.js');

// How many handlers' code is running on this loop right now, up to its first await.
let running = 0;

class Handler {
  #ear;
  #queue;
  #call;
  #log;
  #check;
  #contexts = new Map();
  // Deliveries that have ended well and are acked when the loop looks next.
  #acked = [];
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
    this.#lookSoon();
  }

  // Gives the queue up, whatever still runs.
  leave() {
    this.#ackAll();
    forget(this.#ear);
  }

  #rung() {
    this.#turn = 0;
    if (!this.#isLooking) this.#look();
  }

  #look() {
    this.#isLooking = true;
    while (this.#whenIdle === undefined && this.#turn < TAKE_MAX) {
      const last = this.#ackAllButLast();
      const found = environment.take(this.#ear, TAKE_MAX - this.#turn, last);
      const [count, again, cancelled, stale] = desk.numbers;
      if (stale) this.#tellStale();
      if (count === 1) {
        this.#run(desk.numbers[desk.FIRST], desk.ids[0], desk.numbers[desk.FIRST + 1], found);
      } else if (count > 1) {
        const taken = Array.from(found, (body, i) => {
          const place = desk.FIRST + 2 * i;
          return [desk.numbers[place], desk.ids[i], desk.numbers[place + 1], body];
        });
        for (const [number, id, attempt, body] of taken) this.#run(number, id, attempt, body);
      }
      this.#turn += count;
      if (again >= 0) setTimeout(() => this.#rung(), again).unref();
      if (cancelled) this.#tellCancelled();
      if (count === 0) break;
    }
    this.#isLooking = false;
    if (this.#whenIdle !== undefined) {
      this.#ackAll();
      if (this.#contexts.size === 0) this.#whenIdle();
    } else if (this.#turn >= TAKE_MAX) {
      // Everything else on the loop has its turn.
      this.#isLooking = true;
      setImmediate(() => {
        this.#isLooking = false;
        this.#tellCancelled();
        this.#rung();
      });
    }
  }

  // Looks again once what is under way now has ended.
  #lookSoon() {
    if (this.#isLooking) return;
    this.#isLooking = true;
    queueMicrotask(() => this.#look());
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
    if (outcome === '') this.#acked.push(number);
    else this.#settle(() => environment.finish(number, outcome, text, delay));
    this.#lookSoon();
  }

  #ackAll() {
    const last = this.#ackAllButLast();
    if (last >= 0) this.#settle(() => environment.ack(last));
  }

  // Answers the last one, or a negative number if there is none; it is acked by the next look.
  #ackAllButLast() {
    const acked = this.#acked;
    if (acked.length === 0) return -1;
    const last = acked.pop();
    for (const number of acked.splice(0)) this.#settle(() => environment.ack(number));
    return last;
  }

  #settle(end) {
    try {
      if (!end()) this.#tellStale();
    } catch (error) {
      this.#log?.('error', 'settle_failed', { queue: this.#queue, error: translated(error) });
    }
  }

  #tellStale() {
    this.#log?.('warn', 'stale_lease', { queue: this.#queue });
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
