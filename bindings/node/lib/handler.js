'use strict';

// Handlers: the loop looks into their inbox when it was rung, calls them, and finishes each delivery with what came of
// it.

const { AsyncResource } = require('node:async_hooks');

const { decode, decodeTogether, describe } = require('./body.js');
const { Calls } = require('./calls.js');
const { Context } = require('./context.js');
const { desk, environment, forget, listen, take, TAKE_MAX } = require('./environment.js');
const { LibmqError, RejectError, ReleaseError, RetryError, errorOf, translated } = require('./errors.js');
const { entered } = require('./running.js');
const { Undecodable } = require('./schema.js');

const now = Promise.resolve();

// Handlers that have been given messages, and that are therefore kept, whoever else has their broker.
const kept = new Set();

// What is kept of a failure that cannot be handed over.
const UNTELLABLE = 'the handler threw what cannot be told';

// How long after a take that failed the next one is, in milliseconds.
const TAKE_FAILED_PAUSE = 1000;

class Handler {
  #ear;
  #queue;
  #call;
  #log;
  #check;
  // Of calls that have not ended when they returned.
  #calls = new Calls();
  // Deliveries that have ended well and are acked when the loop looks next.
  #acked = [];
  #turn = 0;
  // The async context in which it was registered.
  #home = new AsyncResource('LIBMQ_HANDLER');
  #isLooking = false;
  // A delivery has, since the loop was last asked for more.
  #hasEnded = false;
  #isKept = false;
  // Until it looks again though nothing rings.
  #timer;
  #lookNow = () => this.#look();
  #whenIdle;

  constructor(ear, queue, call, log, check) {
    this.#ear = ear;
    this.#queue = queue;
    this.#call = call;
    this.#log = log;
    this.#check = check;
    // Weakly: one that was never started is nobody's who has forgotten its broker.
    const self = new WeakRef(this);
    listen(ear, () => self.deref()?.#rung());
    // It may have rung before.
    this.#lookSoon();
  }

  // Takes nothing more, and calls back when all its calls have ended or lost their leases, now or then.
  retire(whenIdle) {
    this.#whenIdle = whenIdle;
    this.#lookSoon();
  }

  // Gives the queue up, whatever still runs.
  leave() {
    this.#ackAll();
    this.rest();
    clearTimeout(this.#timer);
    forget(this.#ear);
  }

  // It was stopped: until it finds something again, nothing here keeps it.
  rest() {
    this.#isKept = false;
    kept.delete(this);
  }

  #rung() {
    this.#turn = 0;
    if (!this.#isLooking) this.#look();
  }

  #look() {
    this.#home.runInAsyncScope(this.#takeAll, this);
  }

  #takeAll() {
    this.#isLooking = true;
    const { numbers, OVER } = desk;
    while (this.#whenIdle === undefined && this.#turn < TAKE_MAX) {
      let found;
      try {
        found = take(this.#ear, TAKE_MAX - this.#turn, this.#putAcked());
      } catch (error) {
        this.#log?.tell('error', 'take_failed', { queue: this.#queue, error: translated(error) });
        this.#lookAfter(TAKE_FAILED_PAUSE);
        break;
      }
      const { 0: count, 1: again, 2: cancelled, 3: stale, 4: failed } = numbers;
      if (stale > 0) this.#tellStale();
      if (failed) this.#tellFailed(errorOf(environment.failedAck()));
      if (count > 0 && !this.#isKept) this.#keep();
      const isOver = numbers[OVER] !== 0;
      this.#hasEnded = false;
      this.#runAll(count, found);
      this.#turn += count;
      if (again >= 0) this.#lookAfter(again);
      if (cancelled) this.#tellCancelled();
      // What has ended meanwhile, and acks that did not fit, make another turn worth while.
      if ((isOver || count === 0) && !this.#hasEnded && this.#acked.length === 0) break;
    }
    this.#isLooking = false;
    if (this.#whenIdle !== undefined) {
      this.#ackAll();
      environment.retire(this.#ear);
      this.#tellCancelled();
      // A call that has lost its lease is nobody's any more, and may never end.
      if (this.#calls.every((number) => environment.isLost(number))) {
        const whenIdle = this.#whenIdle;
        this.#whenIdle = () => {};
        whenIdle();
      }
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

  // Looks again once what is under way now has ended. A promise of its own, since `queueMicrotask` is far more than
  // that.
  #lookSoon() {
    if (this.#isLooking) return;
    this.#isLooking = true;
    now.then(this.#lookNow);
  }

  #lookAfter(ms) {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#rung();
    }, ms).unref();
  }

  #keep() {
    this.#isKept = true;
    kept.add(this);
  }

  #tellCancelled() {
    const cancelled = environment.cancelled(this.#ear);
    for (let i = 0; i < cancelled.length; i += 2) {
      const context = this.#calls.find(cancelled[i]);
      if (context === undefined) continue;
      this.#log?.tell('warn', 'cancelled', { queue: this.#queue, id: context.id, reason: cancelled[i + 1] });
      Context.cancel(context, cancelled[i + 1]);
    }
  }

  // Each attempt has an async context of its own, made of that of its handler: what it leaves there reaches no other.
  // What caused it is given as a number, since what is found out otherwise takes twice as long.
  #enter(message, context) {
    const attempt = new AsyncResource('LIBMQ_ATTEMPT', this.#home.asyncId());
    return attempt.runInAsyncScope(entered, undefined, this.#call, message, context);
  }

  // Runs what was just taken, of which the numbers lie on the desk.
  #runAll(count, found) {
    const { numbers, ids, FIRST } = desk;
    if (count > 1 && typeof found === 'string') {
      const messages = decodeTogether(found);
      if (messages !== undefined) {
        for (let i = 0; i < count; i++) {
          this.#run(numbers[FIRST + 2 * i], ids[i], numbers[FIRST + 2 * i + 1], messages[i]);
        }
        return;
      }
      found = environment.bodies(count);
    }
    for (let i = 0; i < count; i++) {
      const [number, attempt] = [numbers[FIRST + 2 * i], numbers[FIRST + 2 * i + 1]];
      this.#runFor(number, ids[i], attempt, count === 1 ? found : found[i]);
    }
  }

  #runFor(number, id, attempt, body) {
    // The native half could not hand it over.
    if (body === false) return this.#finish(number, 'fail', 'there is no memory for the body');
    let message;
    try {
      message = decode(body);
    } catch (error) {
      return this.#finish(number, 'decode', describe(error));
    }
    this.#run(number, id, attempt, message);
  }

  #run(number, id, attempt, message) {
    const context = new Context(number, this.#queue, id, attempt, this.#check);
    let result;
    try {
      result = this.#enter(message, context);
    } catch (error) {
      return this.#fail(number, context, error);
    }
    if ((typeof result === 'object' && result !== null) || typeof result === 'function') {
      this.#await(number, context, result);
    } else {
      this.#finish(number, '', '');
    }
  }

  async #await(number, context, result) {
    this.#calls.add(context);
    try {
      await result;
    } catch (error) {
      this.#calls.remove(context);
      return this.#fail(number, context, error);
    }
    this.#calls.remove(context);
    this.#finish(number, '', '');
  }

  #fail(number, context, error) {
    const { outcome, text, delay } = endOf(error);
    if (outcome === 'fail') {
      this.#log?.tell('warn', 'handler_error', { queue: this.#queue, id: context.id, attempt: context.attempt, error });
    }
    this.#finish(number, outcome, text, delay);
  }

  #finish(number, outcome, text, delay = -1) {
    if (outcome === '') this.#acked.push(number);
    else this.#end(number, outcome, text, delay);
    this.#hasEnded = true;
    this.#lookSoon();
  }

  // Puts what is to be acked on the desk; answers how many. What does not fit is acked with the next ones.
  #putAcked() {
    const acked = this.#acked;
    const count = Math.min(acked.length, TAKE_MAX);
    for (let i = 0; i < count; i++) desk.numbers[desk.ACKED + i] = acked.pop();
    return count;
  }

  #ackAll() {
    for (const number of this.#acked.splice(0)) this.#end(number, '', '', -1);
  }

  #end(number, outcome, text, delay) {
    try {
      if (!environment.finish(number, outcome, text, delay)) this.#tellStale();
    } catch (cause) {
      const error = translated(cause);
      this.#tellFailed(error);
      // What was thrown has something that cannot be handed over: nothing has happened yet.
      if (!(error instanceof LibmqError) && outcome !== 'fail') this.#end(number, 'fail', UNTELLABLE, -1);
    }
  }

  #tellStale() {
    this.#log?.tell('warn', 'stale_lease', { queue: this.#queue });
  }

  #tellFailed(error) {
    this.#log?.tell('error', 'settle_failed', { queue: this.#queue, error });
  }
}

// How an attempt ends that threw this.
function endOf(error) {
  try {
    if (error instanceof RetryError) return { outcome: 'retry', text: String(error.message), delay: error.delay };
    if (error instanceof RejectError) return { outcome: 'reject', text: String(error.message) };
    if (error instanceof Undecodable) return { outcome: 'decode', text: String(error.message) };
    if (error instanceof ReleaseError) return { outcome: 'release', text: '', delay: error.delay };
  } catch {
    // A proxy that throws when it is looked at is no error of ours.
  }
  return { outcome: 'fail', text: describe(error) };
}

module.exports = { Handler };
