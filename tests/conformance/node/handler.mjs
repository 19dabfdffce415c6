// What a handler of a scenario does, and what was seen of it.

import { RejectError, ReleaseError, RetryError } from '../../../bindings/node/lib/index.mjs';
import { Unknown, Wrong } from './script.mjs';

// What waits, waits this long at most; a call that holds, four times as long.
export const WAIT = 10_000;

// Waits until something is so; answers whether it came to that.
export async function until(what, time = WAIT) {
  const end = Date.now() + time;
  while (!what()) {
    if (Date.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return true;
}

export class ScenarioHandler {
  #outcomes;
  #child;
  #calls = [];
  // Calls before this one do not hold any more.
  #letGo = 0;
  // A fault of this player, which must not count as the handler's failure.
  fault;

  constructor(outcomes, child) {
    this.#outcomes = outcomes;
    this.#child = child;
  }

  // An async handler.
  async call(ctx) {
    await this.callNow(ctx);
  }

  // One that is a plain function, unless it has to wait.
  callNow(ctx) {
    const number = this.#calls.length;
    const outcome = this.#outcomes[number] ?? this.#outcomes.at(-1) ?? 'ack';
    const at = outcome.indexOf(':');
    const [word, rest] = at < 0 ? [outcome, ''] : [outcome.slice(0, at), outcome.slice(at + 1)];
    const call = { body: ctx.raw.toString(), attempt: ctx.attempt, reason: undefined };
    const { signal } = ctx;
    const over = () => (call.reason = signal.reason?.reason ?? '');
    this.#calls.push(call);
    let waiting;
    try {
      if (word === 'extend') extended(ctx, Number(rest));
      if (this.#child !== undefined) ctx.enqueue(this.#child.queue, this.#child.body, this.#child.options);
      waiting = this.#end(signal, number, word, rest);
    } finally {
      if (waiting === undefined) over();
    }
    return waiting?.finally(over);
  }

  #end(signal, number, word, rest) {
    const time = rest === '' ? undefined : Number(rest);
    switch (word) {
      case 'ack':
        return undefined;
      case 'fail':
        throw new Error(rest);
      case 'retry':
        throw new RetryError(time);
      case 'reject':
        throw new RejectError(rest);
      case 'release':
        throw new ReleaseError(time);
      case 'hold':
      case 'extend':
        return until(() => this.#letGo > number, 4 * WAIT);
      case 'cancel':
        return until(() => signal.aborted, 4 * WAIT).then((isAborted) => {
          if (!isAborted || rest !== 'ack') throw new Error('cancel');
        });
      default:
        this.fault = new Unknown(`the outcome ${word}`);
        throw this.fault;
    }
  }

  letGo() {
    this.#letGo = this.#calls.length;
  }

  // Waits until the calls are as expected.
  async expect(step) {
    const count = step.number('expect.count');
    const expected = {
      bodies: step.list('expect.bodies'),
      attempts: step.list('expect.attempts'),
      reasons: step.list('expect.reasons'),
    };
    const seen = () => ({
      bodies: this.#calls.map((call) => call.body),
      attempts: this.#calls.map((call) => String(call.attempt)),
      reasons: this.#calls.map((call) => call.reason).filter((reason) => reason !== undefined),
    });
    const isSo = () => {
      const now = seen();
      return (
        (count === undefined || count === this.#calls.length) &&
        Object.entries(expected).every(([name, list]) => list === undefined || String(list) === String(now[name]))
      );
    };
    const isOver = () => isSo() || (count !== undefined && this.#calls.length > count);
    await until(isOver);
    if (!isSo()) throw new Wrong(`the handler was called ${this.#calls.length} times: ${JSON.stringify(seen())}`);
  }
}

function extended(ctx, ms) {
  try {
    ctx.extend(ms);
  } catch (error) {
    throw new RejectError(error.code);
  }
}
