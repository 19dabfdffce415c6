'use strict';

// Handlers: the loop looks into their inbox when it was rung, calls them, and finishes each delivery with what came of
// it.

const { AsyncResource } = require('node:async_hooks');

const { decode, decodeTogether } = require('./body.js');
const { Calls } = require('./calls.js');
const { Context } = require('./context.js');
const { ASKED, ENTERED, PASSED, TAKE_MAX, desk, environment, forget, gate, listen, take } = require('./environment.js');
const { RejectError, ReleaseError, RetryError, errorOf, isTime, translated } = require('./errors.js');
const { describe, own, reportOf } = require('./failure.js');
const { entered } = require('./running.js');
const { Undecodable } = require('./schema.js');
const { clearTimeout, elapsed, setImmediate, setTimeout } = require('./time.js');

const now = Promise.resolve();

// Handlers that have been given messages, and that are therefore kept, whoever else has their broker.
const kept = new Set();

// What is kept of one that asks for what there is not.
const UNTELLABLE = 'the handler threw what cannot be told';

// How long handlers' code runs before everything else on the loop has its turn, in milliseconds; one of them may take longer.
const TURN_TIME = 5;

// After so many handlers at most there is a look at the clock, which costs as much as some of them do.
const STRIDE_MAX = 8;

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
  // What was taken with others and is entered in a later turn, since those took long.
  #putOff = [];
  #turn = 0;
  // When it ends, by the clock that is never set; when there was a look at that, how many handlers are entered before the next
  // one, and how many were since the last one.
  #turnEnds = 0;
  #lookedAt = 0;
  #stride = 1;
  #unlooked = 0;
  #isLate = false;
  // Everything else on the loop has its turn.
  #isPausing = false;
  // The async context in which it was registered.
  #home = new AsyncResource('LIBMQ_HANDLER');
  #isLooking = false;
  // A delivery has, since the loop was last asked for more.
  #hasEnded = false;
  #isKept = false;
  // Until it looks again though nothing rings.
  #timer;
  #lookNow = () => this.#look();
  #ackNow = () => this.#ackAll();
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

  // Takes nothing more; the promise is kept when all its calls have ended or lost their leases, or when it leaves before.
  retire() {
    return new Promise((resolve) => {
      this.#whenIdle = resolve;
      this.#lookSoon();
    });
  }

  // Gives the queue up, whatever still runs.
  leave() {
    this.#whenIdle?.();
    this.#ackAll();
    this.#giveBack();
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
    this.#lookedAt = elapsed();
    this.#turnEnds = this.#lookedAt + TURN_TIME;
    this.#isLate = false;
    const { numbers, OVER } = desk;
    if (this.#whenIdle === undefined) this.#enterPutOff();
    let isOver = false;
    while (!isOver && this.#whenIdle === undefined && !this.#hasHadItsTurn()) {
      let found;
      try {
        // Of slow ones nothing is taken ahead.
        const most = this.#stride < STRIDE_MAX ? this.#stride : TAKE_MAX - this.#turn;
        found = take(this.#ear, most, this.#putAcked());
      } catch (error) {
        this.#log?.tell('error', 'take_failed', { queue: this.#queue, error: translated(error) });
        this.#lookAfter(TAKE_FAILED_PAUSE);
        break;
      }
      const { 0: count, 1: again, 2: cancelled, 3: stale, 4: failed } = numbers;
      if (stale > 0) this.#tellStale();
      if (failed) this.#tellFailed(errorOf(environment.failedAck()));
      if (count > 0 && !this.#isKept) this.#keep();
      const hasAll = numbers[OVER] !== 0;
      this.#hasEnded = false;
      this.#runAll(count, found);
      this.#turn += count;
      if (again >= 0) this.#lookAfter(again);
      if (cancelled) this.#tellCancelled();
      // What has ended meanwhile, and acks that did not fit, make another turn worth while.
      isOver = (hasAll || count === 0) && !this.#hasEnded && this.#acked.length === 0 && this.#putOff.length === 0;
    }
    this.#isLooking = false;
    if (this.#whenIdle !== undefined) {
      this.#ackAll();
      this.#giveBack();
      environment.retire(this.#ear);
      this.#tellCancelled();
      // A call that has lost its lease is nobody's any more, and may never end.
      if (this.#calls.every((number) => environment.isLost(number))) this.#whenIdle();
    } else if (this.#hasHadItsTurn()) {
      this.#pause();
    }
  }

  #hasHadItsTurn() {
    return this.#turn >= TAKE_MAX || this.#putOff.length > 0 || this.#isLate;
  }

  // Whether this turn is over, as far as that was looked for: where one handler was slow, after each of the next ones.
  #looksLate() {
    return ++this.#unlooked >= this.#stride && this.#isLateNow();
  }

  #isLateNow() {
    const time = elapsed();
    this.#stride = time - this.#lookedAt >= TURN_TIME ? 1 : Math.min(2 * this.#stride, STRIDE_MAX);
    this.#unlooked = 0;
    this.#lookedAt = time;
    this.#isLate = time >= this.#turnEnds;
    return this.#isLate;
  }

  // Everything else on the loop has its turn. What has ended does not wait for that where the others may take long, too.
  #pause() {
    this.#isLooking = true;
    this.#isPausing = this.#isLate;
    if (this.#isPausing) this.#ackAll();
    setImmediate(() => {
      this.#isLooking = false;
      this.#isPausing = false;
      this.#tellCancelled();
      this.#rung();
    });
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

  // Runs what was just taken, of which the numbers lie on the desk. Its time runs from the take on. Where that is found to be
  // a while ago, the time of what was entered begins anew, and the rest is put off.
  #runAll(count, found) {
    const { numbers, ids, FIRST, PLACE } = desk;
    const place = numbers[PLACE];
    const last = place + count - 1;
    gate[ASKED] = 0;
    const messages = count > 1 && typeof found === 'string' ? decodeTogether(found) : undefined;
    const bodies = count === 1 ? [found] : typeof found === 'string' ? (messages ?? environment.bodies(count)) : found;
    for (let i = 0; i < count; i++) {
      // Before it is asked whether somebody has looked: who looks later finds it entered.
      gate[ENTERED] = place + i;
      if (i > 0 && (gate[ASKED] !== 0 || this.#looksLate())) {
        gate[ENTERED]--;
        this.#putOffFrom(i, count, bodies, messages !== undefined);
        count = i;
        break;
      }
      const at = FIRST + 2 * i;
      if (messages !== undefined) this.#run(numbers[at], ids[i], numbers[at + 1], messages[i]);
      else this.#runFor(numbers[at], ids[i], numbers[at + 1], bodies[i]);
    }
    if (count === 1 && this.#putOff.length === 0) this.#looksLate();
    else if (count > 0 && (this.#isLateNow() || this.#putOff.length > 0)) {
      environment.renew(Array.from({ length: count }, (_, i) => numbers[FIRST + 2 * i]));
    }
    if (last >= place) gate[PASSED] = gate[ENTERED] = last;
  }

  #putOffFrom(first, count, bodies, isDecoded) {
    const { numbers, ids, FIRST } = desk;
    for (let i = first; i < count; i++) {
      const [number, attempt] = [numbers[FIRST + 2 * i], numbers[FIRST + 2 * i + 1]];
      this.#putOff.push({ number, id: ids[i], attempt, body: bodies[i], isDecoded });
    }
    environment.putOff(this.#putOff.map(({ number }) => number));
  }

  // Enters what was put off, as long as this turn lasts. What was given back meanwhile is in other hands.
  #enterPutOff() {
    while (this.#putOff.length > 0) {
      const { number, id, attempt, body, isDecoded } = this.#putOff.shift();
      this.#turn++;
      if (environment.enter(number)) {
        if (isDecoded) this.#run(number, id, attempt, body);
        else this.#runFor(number, id, attempt, body);
      }
      if (this.#isLateNow()) return;
    }
  }

  // Gives back what was put off.
  #giveBack() {
    for (const { number } of this.#putOff.splice(0)) this.#end(number, 'release', '', 0);
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
    own(error);
    const { outcome, text, delay } = endOf(error);
    if (outcome === 'fail' && this.#log === undefined) warnOnce(this.#queue, error);
    if (outcome === 'fail') {
      this.#log?.tell('warn', 'handler_error', { queue: this.#queue, id: context.id, attempt: context.attempt, error });
    }
    this.#finish(number, outcome, text, delay);
  }

  #finish(number, outcome, text, delay = -1) {
    if (outcome === '') this.#acked.push(number);
    else this.#end(number, outcome, text, delay);
    this.#hasEnded = true;
    if (this.#isPausing && outcome === '') now.then(this.#ackNow);
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
      this.#tellFailed(translated(cause));
    }
  }

  #tellStale() {
    this.#log?.tell('warn', 'stale_lease', { queue: this.#queue });
  }

  #tellFailed(error) {
    this.#log?.tell('error', 'settle_failed', { queue: this.#queue, error });
  }
}

let hasWarned = false;

// A program that has no log hook would not hear of its handlers' failures at all, and is told of the first one.
function warnOnce(queue, error) {
  if (hasWarned) return;
  hasWarned = true;
  const where =
    'what fails is told to the log hook of open(), and kept with dead letters; there is no hook, and no further warning';
  process.emitWarning(`the handler of queue ${queue} failed: ${describe(error)} (${where})`, { type: 'LibmqWarning' });
}

// How an attempt ends that threw this. One that asks for a delay that is none would be there again at once, for ever.
function endOf(error) {
  const end = askedFor(error) ?? { outcome: 'fail', text: reportOf(error) };
  const isPossible = end.delay === undefined || isTime(end.delay);
  return isPossible ? end : { outcome: 'fail', text: UNTELLABLE };
}

// What was asked for by throwing this; nothing, where it is only a failure.
function askedFor(error) {
  try {
    if (error instanceof RetryError) return { outcome: 'retry', text: String(error.message), delay: error.delay };
    if (error instanceof RejectError) return { outcome: 'reject', text: String(error.message) };
    if (error instanceof Undecodable) return { outcome: 'decode', text: String(error.message) };
    if (error instanceof ReleaseError) return { outcome: 'release', text: '', delay: error.delay };
  } catch {
    // A proxy that throws when it is looked at is no error of ours.
  }
  return undefined;
}

module.exports = { Handler };
