/**
 * For tests of programs that use libmq: a broker without files whose clock is moved by hand, running what is in it, and
 * assertions about what was enqueued. Nothing here knows a test runner; what fails throws an `AssertionError`.
 */

import type { Broker, BrokerOptions, DeadLetter, Handler, HandlerOptions, MessageOptions } from '../index.js';
import type { SchemaOutput, StandardSchema } from '../index.js';

/**
 * Opens a broker without files that remembers what it is given. Like every other {@link Broker}, but that its clock is
 * `manual`, and the wait before a retry without jitter, unless the options say otherwise.
 */
export function testBroker<S extends object | undefined = undefined>(options?: BrokerOptions<S>): Promise<Broker<S>>;

/** A message that was enqueued. */
export interface Enqueued {
  readonly queue: string;
  /** As a handler gets it. */
  readonly body: unknown;
  readonly options: Readonly<MessageOptions>;
  /** Null for what was enqueued together with an ack. */
  readonly id: bigint | null;
}

/**
 * What a test broker was given since it was opened, or cleared, in this order, whether it was handled since or not: by `enqueue`
 * and `enqueueMany`, and by `ctx.enqueue` and `delivery.enqueue` once the ack is there that it belongs to. What was a duplicate
 * is not among it, and what was replaced is no more.
 */
export function enqueued(broker: Broker<any>, queue?: string): Enqueued[];

/** Forgets what was enqueued. What is in the queues stays there. */
export function clearEnqueued(broker: Broker<any>): void;

/**
 * What a message, or an option of it, has to be like: of an object the properties that are named, a list as long, a text that a
 * `RegExp` fits, what a function says true to, or a matcher of a test runner, as `expect.any(String)`.
 */
export type Expected = unknown;

/** Options that a message has to have, and how many such messages there are to be. */
export type ExpectedOptions = { [Name in keyof MessageOptions]?: Expected } & {
  /** How many. Absent, one or more. */
  count?: number | undefined;
};

/**
 * Asserts that a message was enqueued to a queue, with a body and options like these; answers the first one. What it says when
 * there is none shows what was enqueued instead, and where it differs.
 */
export function assertEnqueued(
  broker: Broker<any>,
  queue: string,
  body?: Expected,
  options?: ExpectedOptions & { count?: undefined },
): Enqueued;
export function assertEnqueued(
  broker: Broker<any>,
  queue: string,
  body: Expected,
  options: ExpectedOptions,
): Enqueued | undefined;

/** Asserts that no message like this was enqueued to a queue. */
export function assertNotEnqueued(
  broker: Broker<any>,
  queue: string,
  body?: Expected,
  options?: Omit<ExpectedOptions, 'count'>,
): void;

export interface DrainOptions {
  /**
   * Moves the clock on, too, until nothing of a queue with a handler is delayed or to be retried. How far it moves is not said:
   * it goes in steps, which grow while nothing comes. Default false.
   */
  delayed?: boolean | undefined;
  /**
   * Throws what handlers have thrown, an `AggregateError` of it if that is more than one, when all is done. A `RetryError`,
   * `RejectError` or `ReleaseError`, and what does not fit a schema, is an outcome and not a failure. Default true.
   */
  rethrow?: boolean | undefined;
  /** How long it may take, in real milliseconds; then it throws, naming the queues that are not done. Default 4,000. */
  timeout?: number | undefined;
}

/** What a drain has done. */
export interface Drained {
  readonly acked: number;
  readonly retried: number;
  readonly released: number;
  readonly rejected: number;
  readonly deadLettered: number;
  /** What handlers have thrown beside outcomes. */
  readonly failures: readonly Failure[];
}

export interface Failure {
  readonly queue: string;
  readonly id: bigint;
  readonly attempt: number;
  readonly error: unknown;
}

/**
 * Runs the handlers of a test broker until nothing is left that is due, what they enqueue included. A broker that is not started
 * is started for as long: so nothing runs but while it is drained. What waits in a queue that is paused, or behind a message
 * of its group, stays.
 */
export function drain(broker: Broker<any>, options?: DrainOptions): Promise<Drained>;

/** How a handler is to be run; its own options, and these. */
export interface RunOptions<S = unknown> extends HandlerOptions<S> {
  /** What `ctx.queue` says. Default `test`. */
  queue?: string | undefined;
  /** Which attempt it is: those before have failed. From 1, default 1. */
  attempt?: number | undefined;
  /** The message's options. One that is put off, by `delay` or `runAt`, is handled as if it were due. */
  message?: MessageOptions | undefined;
  /** How long the handler may take, in real milliseconds; then `TIMEOUT` is thrown. Default 4,000. */
  runTimeout?: number | undefined;
}

/** What has come of a handler. */
export interface Ran {
  /** `retry` after a failure, too; `reject` for a body that does not fit its schema, too. */
  readonly outcome: 'ack' | 'retry' | 'reject' | 'release';
  /** What it threw. */
  readonly error: unknown;
  /** What the message has become, if it was rejected, or failed for the last time. */
  readonly deadLetter: DeadLetter | null;
  /** What it enqueued with its ack. */
  readonly enqueued: readonly Enqueued[];
}

/**
 * Runs a handler once, for one message, in a broker of its own: with all that an attempt has, its body as it comes back from JSON,
 * its schema, its scope, and its end.
 */
export function runHandler<Schema extends StandardSchema, S = unknown>(
  handler: Handler<SchemaOutput<Schema>, S>,
  body: unknown,
  options: Omit<RunOptions<S>, 'schema'> & { schema: Schema },
): Promise<Ran>;
export function runHandler<T = any, S = unknown>(
  handler: Handler<T, S>,
  body: unknown,
  options?: RunOptions<S>,
): Promise<Ran>;
