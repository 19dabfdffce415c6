// The Node player of the conformance scenarios: `play SCRIPT DIRECTORY NAMES FROM`.
//
// What a script is and what a player owes is said in `README.md` beside this directory.

import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { LibmqError, open, verify } from '../../../bindings/node/lib/index.mjs';
import { ScenarioHandler, WAIT, until } from './handler.mjs';
import { Fields, SYNC, Unknown, Wrong, brokerOptions, handlerOptions, message, same } from './script.mjs';

// How long a receive waits that is expected to get something, and how long stop and close wait.
const TIMEOUT = 5_000;

class Player {
  #options;
  #directory;
  #namesFile;
  #ids;
  #held = new Map();
  // Deliveries that no later step settles.
  #unnamed = [];
  #handlers = new Map();
  #broker;

  constructor(options, directory, namesFile, goesOn) {
    this.#options = options;
    this.#directory = directory;
    this.#namesFile = namesFile;
    const saved = goesOn
      ? readFileSync(namesFile, 'utf8')
          .split('\n')
          .filter((line) => line !== '')
      : [];
    this.#ids = new Map(saved.map((line) => line.split('\t')).map(([name, id]) => [name, BigInt(id)]));
  }

  async begin() {
    const options = brokerOptions(this.#options);
    this.#options.checkAllUsed();
    this.#broker = await open(this.#directory, options);
  }

  async end() {
    for (const handler of this.#handlers.values()) handler.letGo();
    await this.#broker.close({ timeout: TIMEOUT });
  }

  async play(step) {
    const action = step.need('do');
    const player = STEPS[action];
    if (player === undefined) throw new Unknown(`the step ${action}`);
    await player.call(this, step);
    for (const handler of this.#handlers.values()) if (handler.fault !== undefined) throw handler.fault;
  }

  async open(step) {
    await answer(step, open(this.#place(step.get('path')), brokerOptions(this.#options, step)), (broker) => {
      this.#handlers.clear();
      this.#broker = broker;
    });
  }

  async openAgain(step) {
    let again;
    const opened = open(this.#place(step.get('path')), brokerOptions(this.#options, step));
    await answer(step, opened, (broker) => (again = broker));
    await again?.close({ timeout: TIMEOUT });
  }

  async kill() {
    writeFileSync(this.#namesFile, [...this.#ids].map(([name, id]) => `${name}\t${id}\n`).join(''));
    process.kill(process.pid, 'SIGKILL');
    await new Promise(() => {});
  }

  async close(step) {
    await answer(step, this.#broker.close({ timeout: step.number('timeout_ms') ?? TIMEOUT }));
  }

  async stop(step) {
    await answer(step, this.#broker.stop({ timeout: step.number('timeout_ms') ?? TIMEOUT }));
  }

  async start(step) {
    await answer(step, this.#broker.start());
  }

  async snapshot(step) {
    await answer(step, this.#broker.snapshot());
  }

  async advance(step) {
    await answer(step, () => this.#broker.advance(step.number('ms') ?? 0));
  }

  async waitIdle(step) {
    const timeout = step.number('timeout_ms') ?? WAIT;
    await answer(step, this.#broker.waitIdle({ timeout }), (idle) => {
      same('idle', String(idle), step.get('expect.idle') ?? 'true');
    });
  }

  async enqueue(step) {
    const { body, options } = message(step);
    await answer(step, this.#broker.enqueue(step.need('queue'), body, options), (receipt) => {
      this.#receipt(receipt, step.get('as'), step.get('expect.status'), step.get('expect.id'));
    });
  }

  async enqueueMany(step) {
    const count = step.number('messages.#') ?? 0;
    const messages = Array.from({ length: count }, (_, i) => message(step, `messages.${i}.`));
    const items = messages.map(({ body, options }) => ({ body, ...options }));
    await answer(step, this.#broker.enqueueMany(step.need('queue'), items), (receipts) => {
      const lists = ['as', 'expect.statuses', 'expect.ids'].map((key) => step.list(key));
      for (const list of lists) if (list !== undefined) same('the count of receipts', receipts.length, list.length);
      receipts.forEach((receipt, i) => this.#receipt(receipt, ...lists.map((list) => list?.[i])));
    });
  }

  async receive(step) {
    const none = step.get('expect.none') === 'true';
    const timeout = step.number('timeout_ms') ?? (none ? 0 : TIMEOUT);
    const init = { timeout, lease: step.number('lease_ms') };
    await answer(step, this.#broker.receive(step.need('queue'), init), (delivery) => {
      if (none) return same('what came', delivery, null);
      if (delivery === null) throw new Wrong('nothing came');
      this.#expectDelivery(step, delivery);
      this.#hold(step.get('as'), delivery);
    });
  }

  async receiveMany(step) {
    const none = step.get('expect.none') === 'true';
    const timeout = step.number('timeout_ms') ?? (none ? 0 : TIMEOUT);
    const init = { timeout, lease: step.number('lease_ms') };
    await answer(step, this.#broker.receiveMany(step.need('queue'), step.number('max') ?? 1, init), (deliveries) => {
      if (none) return same('what came', deliveries.length, 0);
      const bodies = step.list('expect.bodies');
      if (bodies !== undefined) same('bodies', String(deliveries.map(({ raw }) => raw.toString())), String(bodies));
      const ids = step.list('expect.ids')?.map((name) => this.#id(name));
      if (ids !== undefined) same('ids', String(deliveries.map(({ id }) => id)), String(ids));
      const names = step.list('as') ?? [];
      deliveries.forEach((delivery, i) => this.#hold(names[i], delivery));
    });
  }

  async ack(step) {
    await answer(step, this.#delivery(step).ack());
  }

  async retry(step) {
    const init = { delay: step.number('delay_ms'), error: step.get('why') };
    await answer(step, this.#delivery(step).retry(init));
  }

  async reject(step) {
    await answer(step, this.#delivery(step).reject(step.get('why')));
  }

  async release(step) {
    await answer(step, this.#delivery(step).release({ delay: step.number('delay_ms') }));
  }

  async extend(step) {
    await answer(step, () => this.#delivery(step).extend(step.number('ms') ?? 0));
  }

  async child(step) {
    const { body, options } = message(step);
    await answer(step, () => this.#delivery(step).enqueue(step.need('queue'), body, options));
  }

  async handle(step) {
    const queue = step.need('queue');
    const child = step.has('child.') ? { queue: step.need('child.queue'), ...message(step, 'child.') } : undefined;
    const handler = new ScenarioHandler(step.list('outcomes') ?? [], child);
    const call = SYNC ? (_, ctx) => handler.callNow(ctx) : (_, ctx) => handler.call(ctx);
    const register = () => this.#broker.handle(queue, call, handlerOptions(step));
    await answer(step, register, () => this.#handlers.set(queue, handler));
  }

  async calls(step) {
    await this.#handler(step).expect(step);
  }

  async letGo(step) {
    this.#handler(step).letGo();
  }

  async metrics(step) {
    const queue = step.get('queue');
    const expected = step.below('expect.');
    let off;
    const isSo = () => {
      const all = this.#broker.metrics();
      const figures = queue === undefined ? all : (all.queues[queue] ?? {});
      const value = (name) => {
        const found = figures[name.replace(/_ms$/, '').replace(/_(.)/g, (_, letter) => letter.toUpperCase())];
        return name.endsWith('_ms') && found !== undefined && found !== null ? Math.floor(found) : found;
      };
      off = expected.map(([name, text]) => [name, text, value(name)]).find(([, text, found]) => String(found) !== text);
      return off === undefined;
    };
    await answer(
      step,
      () => until(isSo),
      () => {
        if (off !== undefined) throw new Wrong(`${off[0]} is ${off[2]}, but ${off[1]} was expected`);
      },
    );
  }

  async prometheus(step) {
    await answer(
      step,
      () => this.#broker.prometheus(),
      (text) => {
        const missing = step.list('expect.lines')?.find((line) => !text.split('\n').includes(line));
        if (missing !== undefined) throw new Wrong(`there is no line ${missing} in\n${text}`);
      },
    );
  }

  async deadLetters(step) {
    const after = step.get('after');
    const init = {
      queue: step.get('queue'),
      limit: step.number('limit') ?? 1000,
      after: after === undefined ? undefined : this.#id(after),
    };
    await answer(step, this.#broker.deadLetters.list(init), (letters) => {
      const count = step.number('expect.letters.#');
      if (count === undefined) return;
      same('the count of letters', letters.length, count);
      letters.forEach((letter, i) => {
        const key = (name) => `expect.letters.${i}.${name}`;
        const id = step.get(key('id'));
        if (id !== undefined) same('id', letter.id, this.#id(id));
        // Below a failure's text stands where it came from.
        const [error] = letter.error.split('\n\n');
        const found = { ...letter, error, attempts: String(letter.attempts), body: letter.raw.toString() };
        for (const name of ['queue', 'reason', 'error', 'attempts', 'body']) {
          same(`${name} of letter ${i}`, found[name], step.get(key(name)) ?? found[name]);
        }
      });
    });
  }

  async replay(step) {
    // Ids are taken as they are printed, too.
    const id = String(this.#id(step.need('id')));
    await answer(step, this.#broker.deadLetters.replay(id), (receipt) => {
      this.#receipt(receipt, step.get('as'), step.get('expect.status'), step.get('expect.id'));
    });
  }

  async replayAll(step) {
    await answer(step, this.#broker.deadLetters.replayAll({ queue: step.get('queue') }), count(step));
  }

  async purgeDead(step) {
    await answer(step, this.#broker.deadLetters.purge({ queue: step.get('queue') }), count(step));
  }

  async recovery(step) {
    const { messages, deadLetters, suspects } = this.#broker.recovery;
    for (const [name, found] of Object.entries({ messages, dead_letters: deadLetters, suspects })) {
      same(name, found, step.number(`expect.${name}`) ?? found);
    }
  }

  async scale(step) {
    await answer(step, () => this.#broker.scale(step.need('queue'), step.number('n')));
  }

  async pause(step) {
    await answer(step, () => this.#broker.pause(step.need('queue')));
  }

  async resume(step) {
    await answer(step, () => this.#broker.resume(step.need('queue')));
  }

  async purge(step) {
    await answer(step, this.#broker.purge(step.need('queue')), count(step));
  }

  async cancel(step) {
    await answer(step, this.#broker.cancel(this.#id(step.need('id'))), (existed) => {
      same('existed', String(existed), step.get('expect.existed') ?? String(existed));
    });
  }

  async backup(step) {
    await answer(step, this.#broker.backup(this.#place(step.need('to'))));
  }

  async verify(step) {
    await answer(step, verify(this.#place(step.get('path'))), (report) => {
      const { messages, deadLetters, suspects, droppedBytes, sound, closed } = report;
      const numbers = { messages, dead_letters: deadLetters, suspects, dropped_bytes: droppedBytes };
      for (const [name, found] of Object.entries(numbers)) same(name, found, step.number(`expect.${name}`) ?? found);
      for (const [name, found] of Object.entries({ sound, closed })) {
        same(name, String(found), step.get(`expect.${name}`) ?? String(found));
      }
    });
  }

  // The directory that a name means: beside the broker's, or in it; the broker's where there is none.
  #place(name) {
    if (name === undefined) return this.#directory;
    if (name.startsWith('./')) return this.#directory + name.slice(1);
    return name === '' ? '' : join(dirname(this.#directory), name);
  }

  #id(name) {
    const id = this.#ids.get(name);
    if (id === undefined) throw new Wrong(`nothing was called ${name} before`);
    return id;
  }

  #receipt(receipt, name, status, id) {
    if (status !== undefined) same('status', receipt.status, status);
    if (id !== undefined) same('id', receipt.id, this.#id(id));
    if (name !== undefined) this.#ids.set(name, receipt.id);
  }

  #hold(name, delivery) {
    if (name === undefined || this.#held.has(name))
      this.#unnamed.push(name === undefined ? delivery : this.#held.get(name));
    if (name !== undefined) this.#held.set(name, delivery);
  }

  #delivery(step) {
    const name = step.need('delivery');
    const delivery = this.#held.get(name);
    if (delivery === undefined) throw new Wrong(`no delivery was called ${name}`);
    return delivery;
  }

  #handler(step) {
    const handler = this.#handlers.get(step.need('queue'));
    if (handler === undefined) throw new Wrong('the queue has no handler');
    return handler;
  }

  #expectDelivery(step, delivery) {
    const id = step.get('expect.id');
    if (id !== undefined) same('id', delivery.id, this.#id(id));
    const found = {
      body: delivery.raw.toString(),
      content_type: delivery.contentType,
      correlation_id: delivery.correlationId ?? '',
      attempt: String(delivery.attempt),
      max_retries: String(delivery.maxRetries),
      body_bytes: String(delivery.raw.length),
    };
    for (const [name, value] of Object.entries(found)) same(name, value, step.get(`expect.${name}`) ?? value);
    if (step.get('expect.body_bytes') !== undefined) {
      same(
        'the body is all x',
        delivery.raw.every((byte) => byte === 120),
        true,
      );
    }
    for (const [name, value] of step.below('expect.headers.')) same(`header ${name}`, delivery.headers[name], value);
    const before = step.get('expect.token_after');
    if (before !== undefined && !(this.#held.get(before)?.token < delivery.token)) {
      throw new Wrong(`token ${delivery.token} is not above ${this.#held.get(before)?.token}`);
    }
  }
}

const STEPS = {
  open: Player.prototype.open,
  open_again: Player.prototype.openAgain,
  close: Player.prototype.close,
  stop: Player.prototype.stop,
  start: Player.prototype.start,
  kill: Player.prototype.kill,
  wait_idle: Player.prototype.waitIdle,
  advance: Player.prototype.advance,
  snapshot: Player.prototype.snapshot,
  enqueue: Player.prototype.enqueue,
  enqueue_many: Player.prototype.enqueueMany,
  receive: Player.prototype.receive,
  receive_many: Player.prototype.receiveMany,
  ack: Player.prototype.ack,
  retry: Player.prototype.retry,
  reject: Player.prototype.reject,
  release: Player.prototype.release,
  extend: Player.prototype.extend,
  child: Player.prototype.child,
  handle: Player.prototype.handle,
  calls: Player.prototype.calls,
  let_go: Player.prototype.letGo,
  metrics: Player.prototype.metrics,
  prometheus: Player.prototype.prometheus,
  dead_letters: Player.prototype.deadLetters,
  replay: Player.prototype.replay,
  replay_all: Player.prototype.replayAll,
  purge_dead: Player.prototype.purgeDead,
  recovery: Player.prototype.recovery,
  scale: Player.prototype.scale,
  pause: Player.prototype.pause,
  resume: Player.prototype.resume,
  purge: Player.prototype.purge,
  cancel: Player.prototype.cancel,
  backup: Player.prototype.backup,
  verify: Player.prototype.verify,
};

function count(step) {
  return (found) => same('count', found, step.number('expect.count') ?? found);
}

// Looks at the answer of a call, unless it failed as it was expected to.
async function answer(step, call, look = () => {}) {
  const code = step.get('error');
  let found;
  try {
    found = await (typeof call === 'function' ? call() : call);
  } catch (error) {
    if (!(error instanceof LibmqError)) throw error;
    if (error.code !== code) throw new Wrong(`${error.code}: ${error.message}`);
    return;
  }
  if (code !== undefined) throw new Wrong(`it succeeded, but ${code} was expected`);
  look(found);
}

function end(place, error) {
  const said = error instanceof Unknown ? `this player does not know ${error.message}` : error.stack;
  process.stderr.write(`${place}: ${error instanceof Wrong ? error.message : said}\n`);
  process.exit(error instanceof Unknown ? 3 : 1);
}

const [script, directory, names, from] = process.argv.slice(2);
const lines = readFileSync(script, 'utf8')
  .split('\n')
  .slice(0, -1)
  .map((line) => new Fields(line));
const [options, ...steps] = lines;
const player = new Player(options, directory, names, Number(from) > 0);
await player.begin().catch((error) => end('opening', error));
for (const [number, step] of steps.entries()) {
  if (number < Number(from)) continue;
  try {
    await player.play(step);
    step.checkAllUsed();
  } catch (error) {
    end(`step ${number}`, error);
  }
}
await player.end().catch((error) => end('closing', error));
