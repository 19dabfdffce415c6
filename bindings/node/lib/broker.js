'use strict';

// The broker: an open directory.

const { AsyncResource } = require('node:async_hooks');
const { inspect } = require('node:util');

const { attemptOf } = require('./attempt.js');
const { calleeOf } = require('./callee.js');
const { DeadLetters } = require('./dead_letters.js');
const { Deliveries } = require('./deliveries.js');
const { asyncDispose } = require('./disposal.js');
const {
  TIMER_MAX,
  desk,
  environment,
  forget,
  hold,
  letGo,
  nextPromise,
  promised,
  rest,
  together,
  waitFor,
} = require('./environment.js');
const { LibmqError, calling, closed, raise, translated } = require('./errors.js');
const { Handler } = require('./handler.js');
const { forget: forgetLog } = require('./log.js');
const { onlyMade } = require('./made.js');
const { Receipt, partsOf, partsOfItems } = require('./message.js');
const { STOP_TIMEOUT, asGiven, idOf, kinds, optionsOf, queueOf, withGiven, wrongType } = require('./options.js');
const { pathOf } = require('./path.js');
const { Receivers } = require('./receivers.js');
const { isRunning } = require('./running.js');
const { clearTimeout, elapsed, setTimeout } = require('./time.js');
const { turnBefore } = require('./turns.js');

const now = Promise.resolve();

// What an enqueue answers beside the number of a promise.
const HANDED_ON = -1;
const REACHED = 0;
const UNWRITTEN = -2;
const STATUSES = ['accepted', 'replaced', 'duplicate'];

// The number of no handler.
const NOT_NOW = 0;

// Brokers that are started: they are kept, whoever else has them.
const started = new Set();

// One that nobody has any more, that is not started, and whose handlers have not been given anything since, gives its
// directory up.
const forsaken = new FinalizationRegistry(({ number, ears, log }) => {
  forgetLog(log);
  for (const ear of ears.values()) forget(ear);
  environment.forsake(number);
});

class Broker {
  #native;
  #enqueue;
  #recovery;
  #deadLetters;
  // What is to be given up when nobody has this any more: its number, what rings for each queue's handler, and the number
  // of its log hook.
  #estate;
  #log;
  #scope;
  #receivers;
  #handlers = new Map();
  // Registrations that wait for a handler to end, or for their turn; the last one of each queue.
  #waiting = new Map();
  // The queues of which somebody sees to these.
  #followed = new Set();
  // Calls that are under way, or wait for those.
  #line = new Set();
  // What enqueues wait for that are written together: those that come before whoever awaits the ones before them has had an
  // answer, so that answers come in the order of the enqueues. It brings what failed, if anything.
  #gathered;
  #unwritten = 0;
  #writeGathered = () => this.#write();
  #wantsRef = true;
  #holds = false;
  #closed = false;

  constructor(made, native, log, scope) {
    onlyMade(made, 'a broker is opened with open()');
    this.#native = native;
    this.#enqueue = native.enqueuer();
    this.#log = log;
    this.#scope = scope;
    const check = () => this.#check();
    this.#receivers = new Receivers(native, check);
    this.#recovery = Object.freeze(native.recovery());
    this.#deadLetters = new DeadLetters(native, check);
    this.#estate = { number: native.number, ears: new Map(), log: log?.number };
    forsaken.register(this, this.#estate, this);
  }

  get path() {
    return this.#native.path;
  }

  get recovery() {
    return this.#recovery;
  }

  get deadLetters() {
    return this.#deadLetters;
  }

  async enqueue(queue, body, options) {
    queueOf(queue);
    const parts = partsOf(body, options);
    this.#check();
    const promise = nextPromise();
    let kept;
    try {
      kept = this.#enqueue(promise, queue, parts.body, parts.extra, this.#gathered !== undefined);
    } catch (error) {
      return refuse(error);
    }
    if (kept === HANDED_ON) {
      const [id, status] = await waitFor(promise);
      return new Receipt(id, status);
    }
    const receipt = new Receipt(desk.ids[desk.RECEIPT], STATUSES[desk.numbers[desk.STATUS]]);
    const before = this.#beforeAnswer(kept);
    if (before !== undefined) raise(await before);
    return receipt;
  }

  async enqueueMany(queue, items) {
    queueOf(queue);
    if (typeof items?.[Symbol.iterator] !== 'function' || typeof items === 'string' || ArrayBuffer.isView(items)) {
      throw wrongType('items', 'a list');
    }
    const parts = partsOfItems(items);
    this.#check();
    const promise = nextPromise();
    let answer;
    try {
      answer = this.#native.enqueueMany(
        promise,
        queue,
        parts.map((part) => part.body),
        parts.map((part) => part.extra),
        this.#gathered !== undefined,
      );
    } catch (error) {
      return refuse(error);
    }
    if (answer.length === 0) return receiptsOf(await waitFor(promise));
    const before = this.#beforeAnswer(answer.pop());
    if (before !== undefined) raise(await before);
    return receiptsOf(answer);
  }

  handle(queue, handler, options) {
    queueOf(queue);
    const { schema, scope = this.#scope, ...init } = optionsOf('handler', options);
    const callee = calleeOf(handler, scope !== undefined);
    this.#check();
    const tell = (error, { id, attempt }) => this.#log?.tell('warn', 'scope_error', { queue, id, attempt, error });
    const call = attemptOf(callee, { schema, scope }, tell);
    const adopt = AsyncResource.bind((ear) => {
      this.#handlers.get(queue)?.leave();
      this.#estate.ears.set(queue, ear);
      this.#handlers.set(queue, new Handler(ear, queue, call, this.#log, () => this.#check()));
    });
    const isFollowed = this.#followed.has(queue);
    if (isFollowed) {
      // Nobody registers beside whoever sees to those that wait.
      asGiven('handler', init, () => this.#native.checkHandler(queue, init));
    } else {
      const ear = this.#registerNow(queue, init);
      if (ear !== NOT_NOW) {
        adopt(ear);
        return;
      }
    }
    this.#waiting.set(queue, { init, adopt });
    if (!isFollowed) this.#follow(queue);
  }

  async start() {
    this.#check();
    await this.#inTurn(() => this.#asked((promise) => this.#native.start(promise)));
    if (!this.#closed) started.add(this);
    this.#keep();
  }

  async stop(options) {
    const { timeout = STOP_TIMEOUT } = optionsOf('wait', options);
    this.#check();
    refuseInHandler('stop');
    try {
      await this.#inTurn((left) => this.#asked((promise) => this.#native.stop(promise, left)), timeout);
    } finally {
      started.delete(this);
      this.#keep();
      for (const handler of this.#handlers.values()) handler.rest();
    }
  }

  async close(options) {
    const { timeout = STOP_TIMEOUT } = optionsOf('wait', options);
    if (this.#closed) return;
    refuseInHandler('close');
    await this.#inTurn((left) => this.#close(left), timeout);
  }

  async [asyncDispose]() {
    await this.close();
  }

  async waitIdle(options) {
    const { timeout = Infinity } = optionsOf('wait', options);
    this.#check();
    refuseInHandler('waitIdle');
    const ask = (left) => this.#asked((promise) => this.#native.waitIdle(promise, left === Infinity ? -1 : left));
    // Where a handler is about to be registered, there is one.
    return this.#waiting.size > 0 ? this.#behind([...this.#line], ask, timeout) : ask(timeout);
  }

  async receive(queue, options) {
    const [delivery] = await this.receiveMany(queue, 1, options);
    return delivery ?? null;
  }

  async receiveMany(queue, max, options) {
    queueOf(queue);
    kinds.count('max', max);
    const init = optionsOf('receive', options);
    this.#check();
    return this.#receivers.receive(queue, max, init);
  }

  deliveries(queue, options) {
    const receive = (lease, signal) => this.receive(queue, { lease, signal });
    return new Deliveries(() => optionsOf('deliveries', options), receive);
  }

  async snapshot() {
    this.#check();
    await promised((promise) => this.#native.snapshot(promise));
  }

  metrics() {
    this.#check();
    const metrics = calling(() => this.#native.metrics());
    // A queue may be called `__proto__`.
    metrics.queues = Object.freeze(Object.fromEntries(metrics.queues));
    for (const figures of Object.values(metrics.queues)) Object.freeze(figures);
    Object.freeze(metrics.lsn);
    return Object.freeze(metrics);
  }

  advance(ms) {
    kinds.time('advance', ms);
    this.#check();
    calling(() => this.#native.advance(ms));
  }

  ref() {
    this.#wantsRef = true;
    this.#keep();
  }

  unref() {
    this.#wantsRef = false;
    this.#keep();
  }

  scale(queue, maxParallelism) {
    queueOf(queue);
    kinds.count('maxParallelism', maxParallelism);
    this.#check();
    asGiven('handler', { maxParallelism }, () => this.#native.scale(queue, maxParallelism));
  }

  pause(queue) {
    queueOf(queue);
    this.#check();
    calling(() => this.#native.pause(queue));
  }

  resume(queue) {
    queueOf(queue);
    this.#check();
    calling(() => this.#native.resume(queue));
  }

  prometheus() {
    this.#check();
    return calling(() => this.#native.prometheus());
  }

  async cancel(id) {
    const number = idOf(id);
    this.#check();
    return promised((promise) => this.#native.cancel(promise, number));
  }

  async purge(queue) {
    queueOf(queue);
    this.#check();
    return promised((promise) => this.#native.purge(promise, queue));
  }

  async backup(path) {
    const to = pathOf(path);
    this.#check();
    return promised((promise) => this.#native.backup(promise, to));
  }

  [inspect.custom](_, options) {
    return `${this.constructor.name} ${inspect({ path: this.path, closed: this.#closed }, options)}`;
  }

  #check() {
    if (this.#closed) throw closed();
  }

  // Asks the native half, unless the broker was closed before its turn came: nobody would be woken to hear the answer.
  #asked(ask) {
    this.#check();
    return promised(ask);
  }

  #register(queue, init) {
    return asGiven('handler', init, () => this.#native.handle(queue, init));
  }

  // Registers, unless that has to wait, for others or for the end of the handler that is there.
  #registerNow(queue, init) {
    try {
      return this.#register(queue, init);
    } catch (error) {
      if (isDeadlock(error) && this.#handlers.has(queue)) return NOT_NOW;
      throw toldOfThreads(queue, error);
    }
  }

  // Has registrations of a queue that wait follow, when the handler that is there has ended, and in their turn; of several the
  // last one. There is one at a time of these for a queue.
  async #follow(queue) {
    this.#followed.add(queue);
    while (this.#waiting.has(queue) && !this.#closed) {
      const before = this.#handlers.get(queue);
      // Where there is none, it is in line when this call returns, so that whoever waits for idleness waits for it.
      if (before !== undefined) await before.retire();
      await this.#inTurn(() => this.#registerWaiting(queue));
    }
    this.#followed.delete(queue);
  }

  // Who has retired leaves when the next one is there: a queue that is about to have a handler is not without one meanwhile.
  async #registerWaiting(queue) {
    const next = this.#waiting.get(queue);
    if (next === undefined || this.#closed) return;
    const isLast = () => this.#waiting.get(queue) === next;
    try {
      let ear = this.#register(queue, next.init);
      if (ear === NOT_NOW) ear = await promised((promise) => this.#native.handleInTurn(promise, queue, next.init));
      if (this.#closed) return forget(ear);
      next.adopt(ear);
    } catch (cause) {
      const error = withGiven('handler', next.init, toldOfThreads(queue, cause));
      if (isLast()) this.#log?.tell('error', 'handle_failed', { queue, error });
      this.#handlers.get(queue)?.leave();
      this.#handlers.delete(queue);
    }
    if (isLast()) this.#waiting.delete(queue);
  }

  // One after another, in the order of the calls: starts, stops, closes, and registrations that have to wait for others. A
  // call whose time is over waits no longer: the native half then lets it cut short what is before it.
  #inTurn(call, timeout = Infinity) {
    const turn = this.#behind([...this.#line], call, timeout);
    const over = () => this.#line.delete(turn);
    this.#line.add(turn);
    turn.then(over, over);
    return turn;
  }

  // Calls when all of these are over, at the latest in so many milliseconds, and says what is left of them.
  async #behind(line, call, timeout) {
    if (line.length === 0) return call(timeout);
    const began = elapsed();
    let timer;
    const end = new Promise((resolve) => {
      if (timeout !== Infinity) timer = setTimeout(resolve, Math.min(timeout, TIMER_MAX));
    });
    await Promise.race([Promise.allSettled(line), end]);
    clearTimeout(timer);
    return call(Math.max(0, timeout - (elapsed() - began)));
  }

  async #close(timeout) {
    if (this.#closed) return;
    try {
      await promised((promise) => this.#native.close(promise, timeout));
    } finally {
      this.#closed = true;
      started.delete(this);
      this.#log?.end();
      forsaken.unregister(this);
      this.#keep();
      this.#receivers.end(closed());
      for (const handler of this.#handlers.values()) handler.leave();
      environment.giveBack(this.#native.number);
      rest();
    }
  }

  // What an enqueue that has begun waits for before it answers, if for anything; it brings what failed, if anything.
  #beforeAnswer(kept) {
    if (kept === UNWRITTEN) {
      this.#unwritten++;
      return this.#gathered;
    }
    if (kept !== REACHED) return together(kept);
    const turn = turnBefore(1);
    this.#gathered = (turn ?? now).then(this.#writeGathered);
    return turn;
  }

  #write() {
    const [round, count] = [this.#gathered, this.#unwritten];
    this.#gathered = count === 0 ? undefined : round.then(this.#writeGathered);
    this.#unwritten = 0;
    if (count === 0) return undefined;
    let failure;
    try {
      this.#native.write();
    } catch (error) {
      failure = error.message;
    }
    return turnBefore(count)?.then(() => failure) ?? failure;
  }

  // Started, it keeps the loop alive, unless told not to.
  #keep() {
    const holds = started.has(this) && this.#wantsRef;
    if (holds === this.#holds) return;
    this.#holds = holds;
    if (holds) hold();
    else letGo();
  }
}

// Throws what an enqueue failed with. That counts as well: who tries again until there is room would else keep everything from the
// loop that makes some.
async function refuse(error) {
  await turnBefore(1);
  throw translated(error);
}

function receiptsOf(flat) {
  const receipts = [];
  for (let i = 0; i < flat.length; i += 2) receipts.push(new Receipt(flat[i], flat[i + 1]));
  return receipts;
}

function isDeadlock(error) {
  return error instanceof LibmqError && error.code === 'DEADLOCK';
}

// What a registration threw. Where the handler that is there is none of this thread's, the error says that.
function toldOfThreads(queue, error) {
  if (!isDeadlock(error)) return error;
  return new LibmqError('DEADLOCK', `queue ${queue} has a handler in another thread, which only that one can replace`);
}

function refuseInHandler(call) {
  if (isRunning()) throw new LibmqError('DEADLOCK', `${call} inside a handler would wait for itself`);
}

module.exports = { Broker };
