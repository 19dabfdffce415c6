/// <reference types="node" />

/**
 * libmq: an embedded, persistent message queue. One directory is a broker; this package opens it inside your process.
 *
 * Durations are milliseconds, moments are `Date`s, ids are `bigint`s that `JSON.stringify` writes as decimal text.
 * Whatever may touch the disk answers a promise. A function that is given the wrong type says `TypeError`; everything
 * else that goes wrong is a {@link LibmqError} with a stable code.
 */

import type { ErrorCode } from './errors.js';

export * from './errors.js';

/** A broker's options. An unknown one is refused by its name. `S` is what its scopes are. */
export interface BrokerOptions<S = undefined> {
  /**
   * How far a message has come when its enqueue resolves: `sync`, an fdatasync covers it (default); `os`, its bytes are
   * in the kernel; `memory`, for a whole broker without files: whatever it is opened with, its `path` is `:memory:` then.
   */
  durability?: 'sync' | 'os' | 'memory' | undefined;
  /** Live messages at most. 1 to 2^30, default 1,000,000. */
  capacity?: number | undefined;
  /** Bytes that the directory may take, snapshots included. Default none, at least 524,288. Beyond it an enqueue is
   * `STORAGE_FULL`, and what is there is settled all the same. */
  maxBytes?: number | undefined;
  /** Bytes of one body with its headers. 1 byte to 1 GiB, default 16 MiB. */
  maxMessageBytes?: number | undefined;
  /** Bytes of one batch, of its bodies and headers. 1 byte to 1 GiB, default 64 MiB. */
  maxBatchBytes?: number | undefined;
  /** Dead letters that cost no room; further ones count against `capacity`. Default 100,000, 1 to 2^30. */
  maxDeadLetters?: number | undefined;
  /**
   * What an enqueue does at `capacity`: rejects with `FULL` (default), or waits for room, first come first served. In a
   * handler, up to its first `await`, it always rejects, as does a batch of more than `capacity` that has no room.
   */
  onFull?: 'fail' | 'block' | undefined;
  /** How long `block` waits; then it is `FULL`. From 0, default 30,000. */
  blockTimeout?: number | undefined;
  /** A snapshot is due this long after the last one, if enough was written. At least 1, default 30,000. */
  snapshotInterval?: number | undefined;
  /** A snapshot is due after this many operations, if enough was written. At least 1, default 100,000. */
  snapshotThreshold?: number | undefined;
  /** Bytes of a journal segment. 64 KiB to 1 GiB, default 64 MiB; fewer where the disk has no room for sixteen at open. */
  segmentBytes?: number | undefined;
  /** Bytes of recent journal kept in memory. 0 to 1 TiB, default 64 MiB. */
  cacheBytes?: number | undefined;
  /** What is written is synced within this time. Default 50, at least 1. */
  syncInterval?: number | undefined;
  /** How long a handler may run that has no `timeout` of its own. At least 1, default 120,000. */
  defaultTimeout?: number | undefined;
  /** Retries after the first attempt. 0 to 1,000,000, default 5. */
  defaultMaxRetries?: number | undefined;
  /** Times the process may die in a message's handler before it is a dead letter `crashed`. 1 to 100, default 3. */
  maxCrashes?: number | undefined;
  /** The wait before a retry. Default exponential from 1,000, doubled, at most 600,000, full jitter. */
  defaultBackoff?: Backoff | undefined;
  /** What recovery does with one damaged body. Default `refuse`. `quarantine` is not there yet: `UNSUPPORTED`. */
  onCorruption?: 'refuse' | 'quarantine' | undefined;
  /**
   * How long `open` waits for another owner to leave: another process, or one in this process that cannot be shared;
   * whoever else waits for that. Default 0.
   */
  lockTimeout?: number | undefined;
  /** `manual`: time moves by {@link Broker.advance} alone; for tests. Default `system`. */
  clock?: 'system' | 'manual' | undefined;
  /** Opens a scope for each attempt of every handler that has no `scope` of its own: {@link ScopeFactory}. Default none. */
  scope?: ScopeFactory<S> | undefined;
  /**
   * Hears what happens that no call answers, failures of handlers first of all: {@link LogHook}. Default none: then of the first
   * failure Node warns, once for the process, as `LibmqWarning`.
   */
  log?: LogHook | undefined;
}

/**
 * Opens what has the lifetime of an attempt, as a session or a transaction. Called once an attempt, before the handler, which
 * gets what it answers, an object, as `ctx.scope`. What it throws, or rejects with, fails the attempt.
 *
 * When the handler has ended, however it did, its attempt cancelled or its lease lost, and before its message is acked, the
 * scope is closed: its `Symbol.asyncDispose`, or else its `Symbol.dispose`, is called once, if it has one, with whether the
 * handler succeeded. What that throws, or rejects with, fails an attempt that had succeeded, or ends it as a
 * {@link RejectError} and the like say; after another failure it is told to the log hook alone, as `scope_error`.
 *
 * Factory, handler and close run in one async context, made of that in which the handler was registered.
 */
export type ScopeFactory<S> = (ctx: Context) => S | PromiseLike<S>;

/** A scope that handlers can be resolved from, and that has an end. Any object can be a scope; these two are looked for. */
export interface Scope {
  /** Answers the handler of an attempt, where the handler is a class. Called once an attempt. */
  resolve?<T>(of: abstract new (...args: never[]) => T): T | PromiseLike<T>;
  /** Closes the scope; `succeeded` says whether the handler did. */
  [Symbol.asyncDispose]?(succeeded: boolean): PromiseLike<void>;
}

/**
 * Hears a broker's events, in order, on the loop that opened it, from `open` to `close`, which comes before the promise of
 * `close` is kept; nothing follows that. It keeps no loop alive. What it throws, or rejects with, is ignored. It may
 * call anything.
 *
 * Each thread that opens a shared broker has a hook of its own, or none; all of them hear what the broker tells from then on,
 * and the one that leaves last hears `close`. A hook that 1,024 events wait for, since its loop is blocked, misses further
 * ones and hears how many, `events_missed`. A broker that is collected takes its hook along.
 *
 * The broker tells these; no field has anything of a body, a key, a header's value, or what a handler said:
 *
 * - `error`: `poisoned` (error, a text), `all_stuck` (queue, stuck: twice `maxParallelism` attempts have lost their leases and
 *   not ended, and no other one begins before one does);
 * - `warn`: `dead_letter` (queue, id, attempts, reason: `rejected` for a handler's own), `timeout` and `stuck` (queue, id,
 *   attempt), `storage_full` (journalBytes), `torn_tail` (path, droppedBytes), `events_missed` (count),
 *   `not_cleaned` (error: what could not be read of an old segment, which stays);
 * - `info`: `open` (path, messages, deadLetters, suspects, records, durationMs), `storage_room` (journalBytes), `close` (path);
 * - `debug`: `snapshot` (bytes, durationMs).
 *
 * The handlers of this loop tell, as `warn`, `handler_error` and `scope_error` (queue, id, attempt, and as `error` what was
 * thrown), `cancelled` (queue, id, reason) and `stale_lease` (queue); as `error`, where libmq could not do its work,
 * `take_failed`, `settle_failed` and `handle_failed` (queue, error).
 */
export type LogHook = (level: 'error' | 'warn' | 'info' | 'debug', event: string, fields: LogFields) => unknown;

/** What there is to know of an event, as `queue`, `id` (a bigint), `durationMs`, `path`. */
export interface LogFields {
  readonly [name: string]: unknown;
  /** The same with ids as decimal text and errors as texts. */
  toJSON(): Record<string, unknown>;
}

/** The wait before a retry: always the same, one after another, or `base · factor^n` up to `cap`, with jitter 0 to 1. */
export type Backoff =
  | number
  | number[]
  | { base?: number | undefined; factor?: number | undefined; cap?: number | undefined; jitter?: number | undefined };

/** Options of a message. */
export interface MessageOptions {
  /** Makes the message one of its kind in its queue. 1 to 256 bytes. */
  dedupKey?: string | undefined;
  /** What happens when the key is taken: the new one takes the waiting one's place (default), or the old one stays. */
  dedup?: 'replace' | 'keep' | undefined;
  /** How many milliseconds after its ack the message still guards its key against `keep`. Default 0. */
  dedupWindow?: number | undefined;
  /** Follows the work from message to message; `ctx.enqueue` inherits it. 1 to 256 bytes. */
  correlationId?: string | undefined;
  /** At most 64; names `[A-Za-z0-9._-]{1,64}`, values up to 4 KiB. A list gives a name more than once. */
  headers?: Record<string, string | string[]> | undefined;
  /** What the body is. Default `application/octet-stream` for bytes, else `application/json`. */
  contentType?: string | undefined;
  /** Not before so many milliseconds have passed, up to ten years. Excludes `runAt`. */
  delay?: number | undefined;
  /** Not before this moment; in the past is now. */
  runAt?: Date | number | undefined;
  /**
   * No attempt begins after so many milliseconds: never attempted it is dropped, else it is a dead letter `expired`.
   * Beyond `delay` or `runAt`. Default never.
   */
  expiresIn?: number | undefined;
  /** 0 to 9, higher first. Default 0. */
  priority?: number | undefined;
  /** One message of a group at a time, in order. 1 to 256 bytes. Default none. */
  group?: string | undefined;
  /** `sync` or `os` for this message. Default the broker's. */
  durability?: 'sync' | 'os' | undefined;
}

/** A body with options of its own, for {@link Broker.enqueueMany}. */
export interface MessageInit<T = unknown> extends MessageOptions {
  body: T;
}

/** Builds a message. Needed where a body itself looks like a {@link MessageInit}. */
export function message<T>(body: T, options?: MessageOptions): Readonly<MessageInit<T>>;

/**
 * What is no body: it has no form in JSON, or an `await` is missing. An `Error` is none either, but what has its properties may be
 * one, and types cannot tell these apart.
 */
export type NoBody =
  | undefined
  | bigint
  | symbol
  | ((...args: never[]) => unknown)
  | (abstract new (...args: never[]) => unknown)
  | PromiseLike<unknown>
  | ReadonlyMap<unknown, unknown>
  | ReadonlySet<unknown>
  | WeakMap<WeakKey, unknown>
  | WeakSet<WeakKey>
  | WeakRef<WeakKey>
  | Generator
  | AsyncGenerator
  | RegExp
  | ArrayBuffer
  | SharedArrayBuffer
  | DataView
  | Int8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array
  | Blob
  | FormData
  | Headers
  | URLSearchParams
  | ReadableStream
  | Request
  | Response;

/** A body, as far as types can tell. Of a type that is not known yet, say `enqueue<unknown>`. */
export type Body<T> = T extends NoBody ? never : T;

/** What became of an enqueue. Like everything that is `readonly` here, its fields cannot be set: in strict mode that throws. */
export interface Receipt {
  /** Of the new message, or of the one that was replaced or kept. */
  readonly id: bigint;
  /**
   * `accepted`: it is a new message. `replaced`: it took the place of one of its key that waited, and has its id.
   * `duplicate`: with `dedup: 'keep'`, one of its key is there, of which this is the id; nothing was enqueued.
   */
  readonly status: 'accepted' | 'replaced' | 'duplicate';
  /** The same with the id as decimal text. */
  toJSON(): { id: string; status: string };
}

/** How a handler is run. What is not set is the broker's default. `S` is what its scopes are. */
export interface HandlerOptions<S = unknown> {
  /** How many run at once on this loop. 1 to 1024, default 1. */
  maxParallelism?: number | undefined;
  /** Without meaning on a loop; checked as everywhere. At most `maxParallelism`. */
  minParallelism?: number | undefined;
  /** How long an attempt may run before its signal is aborted. Above 0. */
  timeout?: number | undefined;
  /** Retries after the first attempt. 0 to 1,000,000. */
  maxRetries?: number | undefined;
  /** The wait before a retry. */
  backoff?: Backoff | undefined;
  /** From the abort to the loss of the lease. Default 5,000. */
  cancelGrace?: number | undefined;
  /** Whether the handler may extend its lease. Default true. */
  leaseExtensionEnabled?: boolean | undefined;
  /**
   * Any Standard Schema, version 1, as those of zod, valibot and arktype: each body is validated before a scope is opened and
   * the handler called, which gets what the schema makes of it. A body that is not as the schema asks is a dead letter
   * `decode` at once; its `error` says where and why, without the values. A validation that throws, or rejects, is a failed
   * attempt. Default none.
   */
  schema?: StandardSchema | undefined;
  /** Opens a scope for each attempt, instead of the broker's `scope`: {@link ScopeFactory}. */
  scope?: ScopeFactory<S> | undefined;
}

/** What schemas of many libraries have in common: Standard Schema, version 1. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** What a schema answers: what it has made of a value, or what is wrong with it. */
export type SchemaResult<Output> =
  { readonly value: Output; readonly issues?: undefined } | { readonly issues: ReadonlyArray<SchemaIssue> };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined;
}

/** What a schema makes of a body. */
export type SchemaOutput<Schema extends StandardSchema> = NonNullable<Schema['~standard']['types']>['output'];

/**
 * What a handler knows of its message, and can do beside returning. Of use until the handler has ended, and its scope, if it
 * has one, is closed. `S` is what the scope is.
 */
export interface Context<S = unknown> {
  readonly id: bigint;
  readonly queue: string;
  /** From 1. */
  readonly attempt: number;
  readonly maxRetries: number;
  /** Larger for every later lease, for fencing outside effects. */
  readonly token: bigint;
  /** Until when the message is held. */
  readonly deadline: Date;
  /** The first value of each name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly contentType: string;
  readonly correlationId: string | null;
  readonly enqueuedAt: Date;
  /** The body as it was enqueued. */
  readonly raw: Buffer;
  /** What the handler's `scope`, or else the broker's, has opened for this attempt; undefined where there is none. */
  readonly scope: S;
  /**
   * Aborted with a {@link CancelledError} when the attempt is cancelled. Made when it is first read. A listener that throws is
   * an exception that nobody catches: it ends the program.
   */
  readonly signal: AbortSignal;
  /**
   * Moves the deadline to this long from now, if that is later; at most 24 hours.
   * @throws LibmqError `STALE_LEASE` once the lease is lost, `UNSUPPORTED` where it is not allowed, `INVALID`.
   */
  extend(ms: number): void;
  /**
   * Enqueues a message together with this one's ack, or not at all.
   * @throws What {@link Broker.enqueue} rejects with, at once.
   */
  enqueue<T>(queue: string, body: Body<T>, options?: MessageOptions): void;
  toJSON(): { id: string; queue: string; attempt: number };
}

/**
 * Called for every message of a queue, with its body: parsed where it is JSON, else bytes. Returning, or resolving,
 * acks; throwing, or rejecting, is a failed attempt, unless it is one of the errors below. For a body that says it is JSON
 * and is not, or that has a number beyond what a double can hold, it is not called: that is a dead letter `decode`.
 */
export type HandlerFunction<T = unknown, S = unknown> = (body: T, ctx: Context<S>) => unknown;

/** An object whose method `handle` is the handler. */
export interface HandlerObject<T = unknown, S = unknown> {
  handle(body: T, ctx: Context<S>): unknown;
}

/**
 * A class of handlers. Each attempt has an instance of its own: what `ctx.scope.resolve(TheClass)` answers, or resolves to,
 * where its scope has a method `resolve`, else `new TheClass()`: so without a scope its constructor takes nothing, and a class
 * that cannot have a method `handle` is refused. What an instance needs closed, its scope closes. `Opened` is what is known of
 * that scope where the class itself takes any.
 */
export type HandlerClass<T = unknown, S = unknown, Opened = S> = [Opened] extends [undefined]
  ? new () => HandlerObject<T, S>
  : abstract new (...args: never[]) => HandlerObject<T, S>;

/** What may handle a queue's messages. */
export type Handler<T = unknown, S = unknown, Opened = S> =
  HandlerFunction<T, S> | HandlerObject<T, S> | HandlerClass<T, S, Opened>;

/** A message that was received, held until it is settled or its lease runs out. */
export class Delivery<T = unknown> {
  private constructor();
  readonly id: bigint;
  readonly queue: string;
  /**
   * Parsed where it is JSON, else bytes. Where it says it is JSON and is not, or has a number beyond what a double can
   * hold, reading it throws `INVALID`.
   */
  readonly body: T;
  /** From 1. */
  readonly attempt: number;
  /** Retries after the first attempt. */
  readonly maxRetries: number;
  /** Larger for every later lease of any message, for fencing outside effects. */
  readonly token: bigint;
  /** Until when the message is held. Throws `STALE_LEASE` once the delivery is settled. */
  readonly deadline: Date;
  /** The first value of each name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly contentType: string;
  readonly correlationId: string | null;
  readonly enqueuedAt: Date;
  /** The body as it was enqueued. Throws `STALE_LEASE` once the delivery is settled, unless it was read before. */
  readonly raw: Buffer;
  /**
   * Whether one of the four ends below was called, and had not to be refused: for its arguments (`INVALID`), or since there
   * was no room for it (`STORAGE_FULL`, `NO_MEMORY`). Then the message is held as before, and may be settled again.
   */
  readonly settled: boolean;
  /**
   * Done; resolves when that is in the kernel.
   *
   * Rejects with `STALE_LEASE` if it was settled before or its lease was lost, and `CLOSED`: then nothing has changed;
   * `STORAGE_FULL` and `NO_MEMORY`: it is held as before; `POISONED`: unknown.
   */
  ack(): Promise<void>;
  /** Failed: again after `delay` milliseconds, or after the backoff. `error` is kept with a dead letter. Rejects as `ack`, and `INVALID`. */
  retry(options?: { delay?: number | undefined; error?: string | undefined }): Promise<void>;
  /** To the dead letters, for this reason, `rejected` unless given. Rejects as `ack`. */
  reject(reason?: string): Promise<void>;
  /** Given back, not counted; ready again after `delay` milliseconds, else at once. Rejects as `ack`, and `INVALID`. */
  release(options?: { delay?: number | undefined }): Promise<void>;
  /** As {@link Context.extend}. */
  extend(ms: number): void;
  /** As {@link Context.enqueue}. */
  enqueue<T>(queue: string, body: Body<T>, options?: MessageOptions): void;
  /** Without the body where that does not decode. */
  toJSON(): { id: string; queue: string; attempt: number; body?: T; token: string };
}

export interface ReceiveOptions {
  /** How long to wait for a message. Absent for ever, 0 looks once. */
  timeout?: number | undefined;
  /** How long it is held; not renewed by itself. Above 0, default 30,000. */
  lease?: number | undefined;
  /** Ends the wait; the promise rejects with its reason. */
  signal?: AbortSignal | undefined;
}

/** A message that will not be tried again. */
export class DeadLetter {
  private constructor();
  readonly id: bigint;
  readonly queue: string;
  /** The text given to reject, else `max_retries`, `crashed`, `expired`, `decode` or `corrupt`. */
  readonly reason: string;
  /**
   * The last failure's text. Of what a handler threw: in a line what it is, and below that its name and text, the calls of
   * the handler's code, its `cause`s and what an `AggregateError` has; the innermost calls, where that is longer than 4 KiB.
   */
  readonly error: string;
  readonly attempts: number;
  readonly failedAt: Date;
  /** What a handler would be given; the bytes, where they are not what they say they are. */
  readonly body: unknown;
  readonly raw: Buffer;
  readonly contentType: string;
  readonly correlationId: string | null;
  readonly headers: Readonly<Record<string, string>>;
  toJSON(): Record<string, unknown>;
}

/** The dead letters of a broker. Every call rejects with `CLOSED` once it is closed. */
export interface DeadLetters {
  /**
   * Up to `limit` (100) dead letters of a queue, or all, with ids above `after`, in the order of their ids.
   * Rejects with `INVALID` for a name that is none; `IO` and `CORRUPT` where a body cannot be read.
   */
  list(options?: {
    queue?: string | undefined;
    limit?: number | undefined;
    after?: bigint | string | undefined;
  }): Promise<DeadLetter[]>;
  /** The dead letter of an id, or null. Rejects with `IO`, `CORRUPT`. */
  get(id: bigint | string): Promise<DeadLetter | null>;
  /**
   * Enqueues it again with a new id and no attempts. `duplicate` where its key is taken: then it stays.
   * Rejects with `NOT_FOUND`, and as {@link Broker.enqueue}: `FULL`, `STORAGE_FULL` and the like.
   */
  replay(id: bigint | string): Promise<Receipt>;
  /**
   * Replays all of a queue, or, without one, all; how many are dead letters no more. Without one it is also where `queue` is
   * undefined, which types refuse under `exactOptionalPropertyTypes`. Rejects with `INVALID` for a name that is none, and as
   * `replay`; what was replayed before stays so.
   */
  replayAll(options?: { queue?: string }): Promise<number>;
  /**
   * Removes all of a queue, or, without one, all, as `replayAll`; how many. Rejects with `INVALID` for a name that is none,
   * `POISONED`, `STORAGE_FULL`.
   */
  purge(options?: { queue?: string }): Promise<number>;
  /** How many there are. */
  count(): Promise<number>;
}

/** The figures of a queue: gauges, then counters since open. */
export interface Figures {
  /** How long the first ready message has been ready, in milliseconds; null where none is. */
  readonly oldestReadyAge: number | null;
  /** Messages that could run now. */
  readonly ready: number;
  /** Messages that are held. */
  readonly inFlight: number;
  /** Messages that are not due yet, retries too. */
  readonly delayed: number;
  /** Dead letters. */
  readonly dead: number;
  /** The handler's `maxParallelism`, 0 without one. */
  readonly parallelism: number;
  /** Messages enqueued, replacements too. */
  readonly enqueued: number;
  /** Attempts begun. */
  readonly delivered: number;
  /** Attempts that ended with an ack. */
  readonly acked: number;
  /** Attempts that failed, timed out, or lost a pulled lease. */
  readonly retried: number;
  /** Attempts that were given back. */
  readonly released: number;
  /** Attempts that ended with a reject. */
  readonly rejected: number;
  /** Messages that became dead letters. */
  readonly deadLettered: number;
  /** Messages that a newer one of their key took the place of. */
  readonly replaced: number;
  /** Enqueues answered with a message that was there. */
  readonly duplicates: number;
  /** Messages that expired. */
  readonly expired: number;
  /** Messages that were cancelled. */
  readonly cancelled: number;
  /** Settles that came too late. */
  readonly staleSettles: number;
  /** Attempts that the handler failed. */
  readonly handlerErrors: number;
  /** Attempts that ran beyond their timeout. */
  readonly timeouts: number;
  /** Attempts in which the process died, found at open. */
  readonly crashes: number;
  /** Handlers that ran on beyond their grace. */
  readonly stuck: number;
}

/** The figures of the broker, which are the sums over all queues and some of its own, and those of each queue. */
export interface Metrics extends Figures {
  /** By the queues' names. */
  readonly queues: Readonly<Record<string, Figures>>;
  /** Bytes of the journal's segments and the snapshot. */
  readonly journalBytes: number;
  /** Segments of the journal. */
  readonly segments: number;
  /** Snapshots taken since open. */
  readonly snapshots: number;
  /** Syncs of the journal since open. */
  readonly syncs: number;
  /** The marks of the log, each a position in it, in bytes: given to records, in the kernel, synced, visible. */
  readonly lsn: {
    readonly reserved: number;
    readonly written: number;
    readonly durable: number;
    readonly shown: number;
  };
  /** Bytes of memory that the broker holds for messages and recent journal. */
  readonly memoryBytes: number;
}

/** What opening found. */
export interface Recovery {
  /** Live messages. */
  readonly messages: number;
  readonly deadLetters: number;
  /** Messages that were being handled when the process died; they run one at a time from now on. */
  readonly suspects: number;
  /** Records that were replayed. */
  readonly records: number;
  /** Bytes at the end of the log that were never promised to anybody, and are gone. */
  readonly droppedBytes: number;
  /** Where the snapshot begins that the log was replayed on, a position in the log; null where there was none. */
  readonly snapshot: number | null;
  /** How long it took, in milliseconds. */
  readonly duration: number;
}

/**
 * An open directory. Started, it keeps the loop alive until it is stopped or closed; a producer alone does not, but a
 * promise that is open does.
 *
 * One that nobody has any more is closed when it is collected, unless it is started. With the end of its thread each is
 * closed that nobody else has open.
 *
 * `S` is what its `scope` opens.
 */
export class Broker<S = unknown> implements AsyncDisposable {
  private constructor();
  /** The directory. */
  readonly path: string;
  readonly recovery: Recovery;
  readonly deadLetters: DeadLetters;

  /**
   * Enqueues a message; resolves when it has reached its durability. Bytes (`Buffer`, `Uint8Array`) travel as they are,
   * anything else as `JSON.stringify` writes it. What has no form in JSON is a `TypeError`: a function, a symbol,
   * `undefined`, a `bigint`, a `Map` or a promise, also within it, where `undefined`, functions and symbols are left out. What
   * JSON cannot say of the rest is `INVALID`: a body that contains itself or is nested too deeply, NaN, Infinity, a lone
   * surrogate. One that comes while others of this thread wait for room (`onFull`) waits behind them, as long as they do at most.
   *
   * Rejects with `INVALID`, `TOO_LARGE`, `UNSUPPORTED`, `FULL`, `STORAGE_FULL`, `CLOSED`: not enqueued; `POISONED`:
   * unknown.
   */
  enqueue<T>(queue: string, body: Body<T>, options?: MessageOptions): Promise<Receipt>;
  /**
   * Enqueues up to 10,000 messages, all or none, with one commit; an error says which of them was bad. A plain object with a `body` and options alone is a message; one with a
   * `body`, an option, and anything else may have been meant as either, and is `INVALID`: {@link message} says what it is.
   */
  enqueueMany(queue: string, items: Iterable<unknown>): Promise<Receipt[]>;

  /**
   * Registers a queue's handler, which runs on this loop: a function, an object with a method `handle`, or a class that has
   * one. A second one replaces the first when its calls have ended, or lost their leases. Each attempt runs in an async context of its own, made of
   * the one that this is called in: a store of an `AsyncLocalStorage` is there, and what an attempt enters reaches no other.
   *
   * Where that has to wait, for the first one's calls, or for somebody who registers, starts, stops or closes, on whatever
   * thread, this returns all the same, and what fails then is told to the log hook: `handle_failed`.
   * @throws LibmqError `INVALID`, `CLOSED`, `UNSUPPORTED`; `DEADLOCK` while another thread's environment has a handler there.
   */
  handle<Schema extends StandardSchema, S2 = S>(
    queue: string,
    handler: Handler<SchemaOutput<Schema>, S2>,
    options: Omit<HandlerOptions<S2>, 'schema' | 'scope'> & { schema: Schema; scope: ScopeFactory<S2> },
  ): void;
  handle<T = unknown, S2 = S>(
    queue: string,
    handler: Handler<T, S2>,
    options: Omit<HandlerOptions<S2>, 'scope'> & { scope: ScopeFactory<S2> },
  ): void;
  handle<Schema extends StandardSchema, S2 = S>(
    queue: string,
    handler: Handler<SchemaOutput<Schema>, S2, S>,
    options: Omit<HandlerOptions<S2>, 'schema'> & { schema: Schema },
  ): void;
  handle<T = unknown, S2 = S>(queue: string, handler: Handler<T, S2, S>, options?: HandlerOptions<S2>): void;
  /** Starts to call handlers; started already, nothing. Rejects with `CLOSED`. */
  start(): Promise<void>;
  /**
   * Stops calling handlers and waits for those that run; after `timeout` (from 0, default 25,000) they are cancelled with
   * `shutdown`, and after their grace what they hold is given back. The time runs from the call on, also while another
   * call, on whatever thread, starts, stops or closes. Of a shared broker it stops the handlers of all threads.
   *
   * Rejects with `TIMEOUT` if it had to cancel, stopped all the same; `DEADLOCK` in a handler, up to its first `await`;
   * `INVALID`, `CLOSED`.
   */
  stop(options?: { timeout?: number | undefined }): Promise<void>;
  /**
   * Stops, gives back what was received, syncs, and gives the directory up. Of a broker that other threads have open, too,
   * it stops only the handlers of this one, and leaves it to the others. Closed already, nothing.
   *
   * Rejects with `TIMEOUT` and `POISONED`, closed all the same; `DEADLOCK` as `stop`; `INVALID`.
   */
  close(options?: { timeout?: number | undefined }): Promise<void>;
  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void>;
  /**
   * Waits until nothing is in flight, nothing ready where a handler is, no retry pending; whether it came to that within
   * `timeout`, absent for ever.
   *
   * Rejects with `CLOSED`; `POISONED` where it is not idle and never will be; `DEADLOCK` as `stop`; `INVALID`.
   */
  waitIdle(options?: { timeout?: number | undefined }): Promise<boolean>;

  /**
   * Takes the next message of a queue; null where none came in time. Answers in a later turn of the loop, and nothing else
   * on that loop runs between the taking and the code that awaits it.
   *
   * Rejects with `INVALID`, `CLOSED`, `POISONED`; `STORAGE_FULL` where the disk has no room to note one more message in
   * flight; `CORRUPT` or `IO` where its bytes cannot be read any more; with the reason of an aborted signal.
   */
  receive<T = unknown>(queue: string, options?: ReceiveOptions): Promise<Delivery<T> | null>;
  /** Takes up to `max` (1 to 10,000) messages that are there, waiting for the first. Rejects as `receive`. */
  receiveMany<T = unknown>(queue: string, max: number, options?: ReceiveOptions): Promise<Delivery<T>[]>;
  /**
   * One message after another. One that is not settled when the next is asked for, or when the loop ends, is released;
   * one whose body does not decode is a dead letter `decode` then. Ends when the signal is
   * aborted; throws `CLOSED` when the broker is closed.
   *
   * A loop that ends by an exception cannot be told from one that ends by `break`: its message is given back at once and
   * not counted as an attempt, so a program that begins such a loop again meets it again, for ever. Catch what may go wrong
   * inside the loop, and count it: `catch (error) { await delivery.retry({ error: String(error) }) }`. A handler needs none
   * of this.
   */
  deliveries<T = unknown>(
    queue: string,
    options?: { lease?: number | undefined; signal?: AbortSignal | undefined },
  ): AsyncGenerator<Delivery<T>, void, undefined>;

  /** Takes a snapshot now. Rejects with `STORAGE_FULL`, `IO`, `POISONED`, `CLOSED`. */
  snapshot(): Promise<void>;
  /** What there is and what has happened. @throws LibmqError `CLOSED`. */
  metrics(): Metrics;
  /** Moves a manual clock. @throws LibmqError `INVALID` on a system clock, `CLOSED`. */
  advance(ms: number): void;
  /** Keeps the loop alive while started, which is so unless {@link unref} was called. */
  ref(): void;
  /** Does not keep the loop alive though started. */
  unref(): void;

  /**
   * Sets how many of a queue's handler run at once, 1 to 1024, until its next registration. Those that run already, run on.
   *
   * @throws LibmqError `INVALID` out of range, `NOT_FOUND` for a queue without a handler, `CLOSED`.
   */
  scale(queue: string, maxParallelism: number): void;
  /**
   * Has nothing handed out from a queue, to its handler or to a receive, until `resume` or the close. What is in flight is
   * not touched; an enqueue goes on.
   *
   * @throws LibmqError `NOT_FOUND` for a queue that there is not, `INVALID`, `CLOSED`.
   */
  pause(queue: string): void;
  /** Ends a pause, if there is one. Throws as `pause`. */
  resume(queue: string): void;
  /**
   * The figures of the broker and its queues in the text format of Prometheus, version 0.0.4; durations in seconds.
   *
   * @throws LibmqError `CLOSED`.
   */
  prometheus(): string;
  /**
   * Ends a message: one that waits is gone, one that somebody holds is cancelled and does not come back, unless it is acked
   * all the same. Resolves to whether there was such a message; dead letters are none. Rejects with `STORAGE_FULL`,
   * `POISONED`, `CLOSED`.
   */
  cancel(id: bigint | string): Promise<boolean>;
  /**
   * Removes all messages of a queue that nobody holds; resolves to how many. Dead letters stay. Rejects with `INVALID`,
   * `STORAGE_FULL`, `POISONED`, `CLOSED`.
   */
  purge(queue: string): Promise<number>;
  /**
   * Writes a copy of the broker to a directory that is not there yet, or is empty, while work goes on. The copy is complete
   * with everything that was answered before the call, whole to one moment not before it, and can be opened like any
   * directory, also beside this one: as after a close at that moment, but that what was in flight is ready again, uncounted.
   * Of a broker without files it is an ordinary directory.
   *
   * The directory above has to be there. What fails leaves nothing behind. A close meanwhile ends it.
   *
   * Rejects with `INVALID` for what is something else than an empty directory, or lies in the broker's own, `STORAGE_FULL`
   * and `IO` naming the path, `CORRUPT` where the broker's own files have lost bytes, `POISONED`, `CLOSED`.
   */
  backup(path: string | URL): Promise<void>;
}

/**
 * Opens the broker in a directory, and makes the directory where there is none; `:memory:` is a broker without files. Text that
 * begins with `file://` is a URL.
 * Worker threads of one process share it, where each opens it with the same options, `lockTimeout`, `log` and
 * `scope` aside, of which each has its own. To a thread that has it open already it is `LOCKED`.
 *
 * Rejects with `INVALID`, `LOCKED` (naming the owner), `CORRUPT` (with the file), `UNSUPPORTED`, `STORAGE_FULL`, `IO`.
 */
export function open<S extends object | undefined = undefined>(
  path: string | URL,
  options?: BrokerOptions<S>,
): Promise<Broker<S>>;

/** How a program ends with a signal. */
export interface SignalOptions {
  /** The signals that are listened to, one at least. Default `SIGTERM` and `SIGINT`. */
  signals?: NodeJS.Signals[] | undefined;
  /** How long handlers have to end, {@link Broker.close}, and `before`. From 0, default 25,000. */
  timeout?: number | undefined;
  /**
   * Called at the first signal, and waited for before the brokers are closed, as long as handlers are: ends what else there is, as
   * a server.
   */
  before?: ((signal: NodeJS.Signals) => unknown) | undefined;
}

/**
 * Has the process end with a signal. The first one stops and closes the brokers and then exits with 128 and the signal's number,
 * 143 for `SIGTERM`; with 1 if something failed, as a handler that had to be cut off or a `before` that had no end, which is
 * written to stderr. The second one
 * exits at once: what handlers held runs again, as after a crash. Answers what has it listen no more. What several calls have
 * registered ends together, with the first signal that one of them names.
 *
 * Without this the package listens to no signal.
 * @throws LibmqError `INVALID` for a signal that there is not, or that reaches no program, as `SIGKILL`; `UNSUPPORTED` in a worker thread.
 */
export function closeOnSignal(brokers: Broker<any> | readonly Broker<any>[], options?: SignalOptions): () => void;

/** Something that {@link verify} has found to be wrong. */
export interface Problem {
  /** `CORRUPT` for damage, `IO` for a file that cannot be read. */
  readonly kind: ErrorCode;
  /** The file concerned, or the directory where a file is missing. */
  readonly path: string;
  /** Where in the file, if that is known; of the log where the path is the directory. */
  readonly offset: number | null;
  /** What is wrong, in a sentence. */
  readonly text: string;
}

/** What {@link verify} has found; with problems, as far as could be told. */
export interface VerifyReport {
  /** Whether there is no problem. */
  readonly sound: boolean;
  /** Live messages. */
  readonly messages: number;
  readonly deadLetters: number;
  /** Messages that were being handled when the process died that had the directory open last. */
  readonly suspects: number;
  /** Records that an open would replay. */
  readonly records: number;
  /** Bytes of a torn tail: at the end of the log, never promised to anybody. They are no problem. */
  readonly droppedBytes: number;
  readonly segments: number;
  /** Bytes that all files in the directory have. */
  readonly bytes: number;
  /** Where the newest snapshot begins, if there is one. */
  readonly snapshot: number | null;
  /** Whether the broker was closed in order; else its process died, or the machine. */
  readonly closed: boolean;
  /** What is damaged, in the order it was found: at most 1000, and then nothing more was looked at. */
  readonly problems: readonly Problem[];
}

/**
 * Reads and checks all of a directory that nobody has open: what an open would read, and every body and dead letter, which
 * an open does not. Changes and makes nothing; a directory that cannot be written to can be verified, too. Damage is in the
 * report. Meanwhile nobody can open the directory: an open is `LOCKED`, and names its last owner.
 *
 * Rejects where there is nothing to look at: `INVALID` for what is no directory of libmq, `LOCKED` while somebody has it
 * open, `UNSUPPORTED` for another version of the format, `IO`.
 */
export function verify(path: string | URL): Promise<VerifyReport>;
