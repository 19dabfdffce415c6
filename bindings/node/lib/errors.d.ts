// What goes wrong, and what a handler throws to say how its attempt ends.

/** What went wrong: the same codes in every language. */
export type ErrorCode =
  /** An argument is out of its range; the message names it. Mend the call. */
  | 'INVALID'
  /** The broker is closed. Open it again. */
  | 'CLOSED'
  /** No message, dead letter or queue of that name or id. */
  | 'NOT_FOUND'
  /** A handle that is none; in C alone. */
  | 'BAD_HANDLE'
  /** Memory for the records of this call could not be had; nothing was changed. Try again. */
  | 'NO_MEMORY'
  /** This build, file or situation does not support what was asked. */
  | 'UNSUPPORTED'
  /** The operating system refused; the message has its reason. */
  | 'IO'
  /** Durable bytes are damaged or missing; nothing was touched. `path` is the file. */
  | 'CORRUPT'
  /** Another broker owns the directory; also when `lockTimeout` ran out. The message names it. */
  | 'LOCKED'
  /** An earlier write or sync failed, and what this call did is unknown. Close and open again. */
  | 'POISONED'
  /** The disk, or `maxBytes`, has no room. Make room and try again. */
  | 'STORAGE_FULL'
  /** `capacity` live messages are there, also after a block ran out. Try again later. */
  | 'FULL'
  /** A body with its headers, or a batch's bytes, are beyond their limit. */
  | 'TOO_LARGE'
  /** `stop` or `close` had to cut handlers off, and is done all the same. */
  | 'TIMEOUT'
  /** The delivery was settled before, or its lease was lost; nothing was changed. Drop it. */
  | 'STALE_LEASE'
  /** Nothing came in time; in C alone. */
  | 'EMPTY'
  /** A bug in libmq was caught; the broker is poisoned. Report it, open again. */
  | 'PANIC'
  /** A child process uses its parent's broker; in other languages alone. */
  | 'FORKED'
  /** The call would wait for itself, as `close` in a handler; or the handler to be replaced is another thread's. */
  | 'DEADLOCK';

/** What goes wrong in libmq. */
export class LibmqError extends Error {
  private constructor();
  readonly code: ErrorCode;
  /** Whether the same call can succeed later. */
  readonly retryable: boolean;
  /** The file or directory concerned. */
  readonly path?: string;
}

/** What a handler's signal is aborted with. */
export class CancelledError extends Error {
  constructor(reason: CancelReason);
  readonly reason: CancelReason;
}

/** Why an attempt was cancelled. If it fails then, it ends as this says; returning is still an ack. */
export type CancelReason =
  /** It ran longer than its `timeout`: a failed attempt. After `cancelGrace` its lease is lost. */
  | 'timeout'
  /** The broker stops or closes: given back, not counted. */
  | 'shutdown'
  /** Somebody called {@link Broker.cancel}: dropped. */
  | 'cancelled'
  /** The lease is lost, and whatever the handler still does changes nothing. */
  | 'lease_lost';

/** Thrown by a handler: again after this time, or after the backoff; counted as an attempt. */
export class RetryError extends Error {
  /** `delay` in milliseconds, 0 for at once; absent, after the backoff. */
  constructor(delay?: number | null, message?: string);
  /** In milliseconds. */
  readonly delay?: number;
}

/** Thrown by a handler: to the dead letters, for this reason. */
export class RejectError extends Error {
  /** Default `rejected`. */
  constructor(reason?: string);
  readonly reason: string;
}

/** Thrown by a handler: given back, ready again after this time; not counted as an attempt. */
export class ReleaseError extends Error {
  /** `delay` in milliseconds; absent, at once. */
  constructor(delay?: number | null);
  /** In milliseconds. */
  readonly delay?: number;
}
