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

  async call(ctx) {
    const number = this.#calls.length;
    const outcome = this.#outcomes[number] ?? this.#outcomes.at(-1) ?? 'ack';
    const at = outcome.indexOf(':');
    const [word, rest] = at < 0 ? [outcome, ''] : [outcome.slice(0, at), outcome.slice(at + 1)];
    let refused;
    if (word === 'extend') {
      try {
        ctx.extend(Number(rest));
      } catch (error) {
        refused = error;
      }
    }
    const call = { body: ctx.raw.toString(), attempt: ctx.attempt, reason: undefined };
    this.#calls.push(call);
    const { signal } = ctx;
    try {
      if (refused !== undefined) throw new RejectError(refused.code);
      await this.#end(ctx, number, word, rest);
    } finally {
      call.reason = signal.reason?.reason ?? '';
    }
  }

  async #end(ctx, number, word, rest) {
    if (this.#child !== undefined) ctx.enqueue(this.#child.queue, this.#child.body, this.#child.options);
    const time = rest === '' ? undefined : Number(rest);
    switch (word) {
      case 'ack':
        return;
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
        await until(() => this.#letGo > number, 4 * WAIT);
        return;
      case 'cancel':
        if ((await until(() => ctx.signal.aborted, 4 * WAIT)) && rest === 'ack') return;
        throw new Error('cancel');
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
