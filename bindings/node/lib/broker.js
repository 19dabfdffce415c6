'use strict';

// The broker: an open directory.

const { AsyncResource } = require('node:async_hooks');

const { attemptOf } = require('./attempt.js');
const { calleeOf } = require('./callee.js');
const { DeadLetters } = require('./dead_letters.js');
const { Delivery } = require('./delivery.js');
const { desk, environment, forget, hold, letGo, nextPromise, promised, waitFor } = require('./environment.js');
const { LibmqError, calling, closed, translated } = require('./errors.js');
const { Handler } = require('./handler.js');
const { Log, forget: forgetLog } = require('./log.js');
const { key, onlyMade } = require('./made.js');
const { Receipt, partsOf, partsOfItems } = require('./message.js');
const { asGiven, idOf, kinds, optionsOf, queueOf, withGiven, wrongType } = require('./options.js');
const { Receivers } = require('./receivers.js');
const { isRunning } = require('./running.js');

// What an enqueue answers; the third is that it has begun.
const HANDED_ON = 0;
const REACHED = 2;
const STATUSES = ['accepted', 'replaced', 'duplicate'];

// How long a stop and a close wait for handlers.
const STOP_TIMEOUT = 25_000;

// Brokers that are started: they are kept, whoever else has them.
const started = new Set();

// One that nobody has any more, and that was neither started nor closed, gives its directory up.
const forsaken = new FinalizationRegistry(({ number, ears, log }) => {
  forgetLog(log);
  for (const ear of ears.values()) forget(ear);
  environment.forsake(number);
});

class Broker {
  #native;
  #recovery;
  #deadLetters;
  // What is to be given up when nobody has this any more: its number, what rings for each queue's handler, and the number
  // of its log hook.
  #estate;
  #log;
  #scope;
  #receivers;
  #handlers = new Map();
  // Registrations that wait for a handler to end, or for a stop; the last one of each queue.
  #waiting = new Map();
  #turn = Promise.resolve();
  #turns = 0;
  #started = false;
  #wantsRef = true;
  #holds = false;
  #closing;
  #closed = false;

  constructor(made, native, log, scope) {
    onlyMade(made, 'a broker is opened with open()');
    this.#native = native;
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
    let state;
    try {
      state = this.#native.enqueue(promise, queue, parts.body, parts.contentType, parts.extra);
    } catch (error) {
      throw translated(error);
    }
    if (state === HANDED_ON) {
      const [id, status] = await waitFor(promise);
      return new Receipt(id, status);
    }
    const receipt = new Receipt(desk.ids[desk.RECEIPT], STATUSES[desk.numbers[desk.STATUS]]);
    if (state !== REACHED) await waitFor(promise);
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
    const answer = calling(() =>
      this.#native.enqueueMany(
        promise,
        queue,
        parts.map((part) => part.body),
        parts.map((part) => part.contentType),
        parts.map((part) => part.extra),
      ),
    );
    const reached = answer.length > 0 && answer.pop();
    if (reached) return receiptsOf(answer);
    const receipts = await waitFor(promise);
    return receiptsOf(answer.length > 0 ? answer : receipts);
  }

  handle(queue, handler, options) {
    queueOf(queue);
    const callee = calleeOf(handler);
    const { schema, scope = this.#scope, ...init } = optionsOf('handler', options);
    this.#check();
    const tell = (error, { id, attempt }) => this.#log?.tell('warn', 'scope_error', { queue, id, attempt, error });
    const call = attemptOf(callee, { schema, scope }, tell);
    const register = AsyncResource.bind(() => this.#register(queue, call, init));
    try {
      register();
    } catch (error) {
      // The arguments are good, but one that is there has to end first, or a stop that may wait for it.
      const isWaiting = this.#handlers.has(queue) || this.#turns > 0;
      if (!(error instanceof LibmqError && error.code === 'DEADLOCK' && isWaiting)) throw error;
      this.#waiting.set(queue, register);
      this.#replace(queue);
    }
  }

  async start() {
    this.#check();
    await this.#inTurn(() => promised((promise) => this.#native.start(promise)));
    this.#started = !this.#closed;
    this.#keep();
  }

  async stop(options) {
    const { timeout = STOP_TIMEOUT } = optionsOf('wait', options);
    this.#check();
    refuseInHandler('stop');
    try {
      await this.#inTurn(() => promised((promise) => this.#native.stop(promise, timeout)));
    } finally {
      this.#started = false;
      this.#keep();
      for (const handler of this.#handlers.values()) handler.rest();
    }
  }

  async close(options) {
    const { timeout = STOP_TIMEOUT } = optionsOf('wait', options);
    if (this.#closing === undefined) {
      refuseInHandler('close');
      this.#closing = this.#inTurn(() => this.#close(timeout));
    }
    await this.#closing;
  }

  async [Symbol.asyncDispose]() {
    await this.close();
  }

  async waitIdle(options) {
    const { timeout = -1 } = optionsOf('wait', options);
    this.#check();
    refuseInHandler('waitIdle');
    return promised((promise) => this.#native.waitIdle(promise, timeout));
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

  async *deliveries(queue, options) {
    const { lease, signal } = optionsOf('deliveries', options);
    while (!signal?.aborted) {
      let delivery;
      try {
        delivery = await this.receive(queue, { lease, signal });
      } catch (error) {
        if (signal?.aborted && error === signal.reason) return;
        throw error;
      }
      if (delivery === null) continue;
      try {
        yield delivery;
      } finally {
        if (!delivery.settled) await endUnsettled(delivery);
      }
    }
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

  #check() {
    if (this.#closed) throw closed();
  }

  #register(queue, call, init) {
    const ear = asGiven('handler', init, () => this.#native.handle(queue, init));
    this.#estate.ears.set(queue, ear);
    this.#handlers.set(queue, new Handler(ear, queue, call, this.#log, () => this.#check()));
  }

  // Has the waiting registration of a queue follow once the handler that is there has ended.
  #replace(queue) {
    if (this.#turns > 0) return;
    const before = this.#handlers.get(queue);
    const register = () => {
      const next = this.#waiting.get(queue);
      this.#waiting.delete(queue);
      before?.leave();
      this.#handlers.delete(queue);
      if (next === undefined || this.#closed) return;
      try {
        next();
      } catch (error) {
        this.#log?.tell('error', 'handle_failed', { queue, error });
      }
    };
    if (before === undefined) register();
    else before.retire(register);
  }

  // One after another: starts, stops, and the close.
  #inTurn(call) {
    this.#turns++;
    const turn = this.#turn.then(call).finally(() => {
      this.#turns--;
      if (this.#turns === 0) for (const queue of [...this.#waiting.keys()]) this.#replace(queue);
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #close(timeout) {
    try {
      if (this.#native.isShared()) await this.#withdraw(timeout);
      await promised((promise) => this.#native.close(promise, timeout));
    } finally {
      this.#closed = true;
      this.#started = false;
      this.#log?.end();
      forsaken.unregister(this);
      this.#keep();
      this.#receivers.end(closed());
      for (const handler of this.#handlers.values()) handler.leave();
      environment.giveBack(this.#native.number);
    }
  }

  // Leaves to the others that have the broker open what this environment handles.
  async #withdraw(timeout) {
    const ends = [...this.#handlers.values()].map((handler) => new Promise((resolve) => handler.retire(resolve)));
    let timer;
    const end = new Promise((resolve) => {
      timer = setTimeout(resolve, Math.min(timeout, 2 ** 31 - 1));
    });
    await Promise.race([Promise.all(ends), end]);
    clearTimeout(timer);
  }

  // Started, it keeps the loop alive, unless told not to.
  #keep() {
    if (this.#started) started.add(this);
    else started.delete(this);
    const holds = this.#started && this.#wantsRef;
    if (holds === this.#holds) return;
    this.#holds = holds;
    if (holds) hold();
    else letGo();
  }
}

let watchesExit = false;

// On its own: a listener made in `open` would keep what the first one was given.
function watchExit() {
  if (watchesExit) return;
  watchesExit = true;
  process.on('exit', () => environment.shut());
}

async function open(path, options) {
  const at = pathOf(path);
  const { log: hook, scope, ...init } = optionsOf('broker', options);
  watchExit();
  const log = hook === undefined ? undefined : new Log(hook);
  try {
    const number = await promised((promise) => environment.open(promise, at, init, differing(init), log?.number ?? 0));
    const native = calling(() => environment.broker(number));
    return new Broker(key, native, log, scope);
  } catch (error) {
    log?.end();
    throw withGiven('broker', init, error);
  }
}

// The options in which two environments may not differ, as text.
function differing({ lockTimeout, ...init }) {
  return JSON.stringify(init, Object.keys(init).sort().concat('steps', 'base', 'factor', 'cap', 'jitter'));
}

async function verify(path) {
  const at = pathOf(path);
  return promised((promise) => environment.verify(promise, at));
}

function pathOf(path) {
  if (path instanceof URL) path = require('node:url').fileURLToPath(path);
  if (typeof path !== 'string') throw wrongType('path', 'a string or a file URL');
  if (path === '' || path.includes('\0')) throw new LibmqError('INVALID', 'path is empty, or has a NUL in it');
  // The native half would make another name of it.
  if (!path.isWellFormed()) throw new LibmqError('INVALID', 'path is not well-formed text');
  return path;
}

function receiptsOf(flat) {
  const receipts = [];
  for (let i = 0; i < flat.length; i += 2) receipts.push(new Receipt(flat[i], flat[i + 1]));
  return receipts;
}

function refuseInHandler(call) {
  if (isRunning()) throw new LibmqError('DEADLOCK', `${call} inside a handler would wait for itself`);
}

async function endUnsettled(delivery) {
  try {
    await Delivery.letGo(delivery);
  } catch (error) {
    // Lost or closed meanwhile: it is given back already.
    if (error.code !== 'STALE_LEASE' && error.code !== 'CLOSED') throw error;
  }
}

module.exports = { Broker, open, verify };
