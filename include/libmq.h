/* libmq: an embedded, persistent message queue. One directory is a broker; no server, no database.
 *
 *   #include <libmq.h>                                      link with -lmq
 *
 *   libmq_broker *broker = NULL;
 *   libmq_broker_open("queue-data", NULL, &broker, NULL);
 *   libmq_message order = LIBMQ_MESSAGE_INIT;
 *   order.body = "3 books", order.body_len = 7;
 *   libmq_enqueue(broker, "orders", &order, NULL, NULL);    (durable when it returns)
 *   libmq_broker_close(broker, 5000, NULL);
 *   libmq_broker_free(broker);
 *
 * Conventions, said once:
 *
 * STATUS    A function that can fail answers LIBMQ_OK or a negative LIBMQ_E_... Its last argument `err` may be NULL; else
 *           *err becomes an error to read and free, or NULL when all went well. It is not read: an error that it held
 *           before is to be freed before. A misaligned `err` is as good as NULL. What each call answers stands with it;
 *           beside that every call answers LIBMQ_E_BAD_HANDLE, LIBMQ_E_INVALID for a NULL or misaligned address where there
 *           must be one, LIBMQ_E_FORKED in a forked child, LIBMQ_E_NO_MEMORY, and LIBMQ_E_PANIC for a bug that was caught.
 *
 * HANDLES   A libmq_broker *, and every other pointer to a type without fields, is a number of 64 bits and no address: libmq
 *           is for machines of 64 bits. One that is NULL, was freed, belongs to another type, or was made up is
 *           LIBMQ_E_BAD_HANDLE, or the NULL, 0 or -1 of a function that answers a value. It is checked before the other
 *           arguments. The caller frees what a call gave in `out`, in any order; freeing it again, or NULL, does nothing.
 *           With LIBMQ_LEAKS in its environment a program says on stderr, when it exits, how many of each type are left.
 *
 * OUTPUTS   On failure, whatever it is of, an output says that there is nothing: a handle or string is NULL, a number 0, a
 *           descriptor -1, a receipt and metrics empty. What lies in an array beyond the number that came is left alone.
 *
 * OWNERSHIP What is passed in is copied before the call returns, except the `ctx` of a callback, which lives as long as that
 *           may be called. What an accessor points to belongs to its handle. A string that a call made (`char **`) is
 *           freed with libmq_string_free.
 *
 * THREADS   "Any thread" means also at the same time, on the same handle. Reading a delivery while another thread settles
 *           it is answered, but what was read before is gone. Callbacks come on threads of the broker; in them everything
 *           may be called but what waits for callbacks, of this broker or of another one, whose callbacks may wait for this
 *           one: that is LIBMQ_E_DEADLOCK. No C++ exception and no longjmp may leave one, and no pthread_exit(). No thread
 *           may be cancelled by pthread_cancel() in a call: the process is aborted then, or it waits on. A callback has a
 *           stack of 2 MiB, whatever the limits of the process are.
 *
 * FORKS     A child of fork() has copies of errors, options and lists of dead letters, and may use those, and open brokers of
 *           its own. Its parent's brokers and deliveries are LIBMQ_E_FORKED there, and freeing them does nothing. A child
 *           forked in a callback has to end in there, by _exit() or exec(): one that returns from the callback is aborted.
 *
 * TEXT      Strings are UTF-8 and end in NUL; bodies are an address and a length, may hold anything, and end in nothing: "%.*s"
 *           prints one. A queue's name is 1 to 128 of A-Z a-z 0-9 . _ - and there are 10,000 at most: what would make one
 *           more is LIBMQ_E_INVALID. A key, a group, a correlation id and a content type have no control characters.
 *
 * STRUCTS   Begin with the initialiser, which sets struct_size to the struct's size. Later versions add fields at the end,
 *           where 0 means what leaving them out did. So a program that was compiled with an older header goes on working;
 *           one with a newer header does where it leaves 0 what this library does not know, and is told
 *           LIBMQ_E_UNSUPPORTED where it does not. A size below that of the first version, above 4,096, or of no whole
 *           fields is LIBMQ_E_INVALID. A field left 0 is its default; where zero or none is wanted, and is not the default,
 *           LIBMQ_NONE says so.
 *
 * TIME      Milliseconds, as int64_t, up to ten years, 316,224,000,000. In `timeout_ms`, as long as a call waits, it may be
 *           more, and -1 is for ever. A signal ends no wait.
 *
 * Names and numbers here never change their meaning. Made from ffi/src, section by section; do not edit.
 */

#ifndef LIBMQ_H
#define LIBMQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if UINTPTR_MAX != 0xffffffffffffffff
#error "libmq needs a machine of 64 bits: its handles are numbers of 64 bits"
#endif

#define LIBMQ_VERSION "0.1.0"
#define LIBMQ_VERSION_MAJOR 0
#define LIBMQ_VERSION_MINOR 1
#define LIBMQ_VERSION_PATCH 0
/* The three in one number, for #if. */
#define LIBMQ_VERSION_NUMBER (LIBMQ_VERSION_MAJOR * 10000 + LIBMQ_VERSION_MINOR * 100 + LIBMQ_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/* Statuses: what a call answers. ---------------------------------------------------------------------------------- */

/** Zero, or none, in a struct's field or a call's argument that takes 0 for its default. (In a `timeout_ms` -1 is for ever.) */
#define LIBMQ_NONE (-1)

/** What a call answers: `LIBMQ_OK`, or a negative number that never changes its meaning. */
typedef int32_t libmq_status;

/** Done. */
#define LIBMQ_OK 0
/** An argument is out of its range; the message names it. Nothing was changed. */
#define LIBMQ_E_INVALID (-1)
/** The broker is closed. */
#define LIBMQ_E_CLOSED (-2)
/** There is no message, dead letter or queue of that name or id. */
#define LIBMQ_E_NOT_FOUND (-3)
/** The handle is NULL, was freed, is of another type, or never was one. */
#define LIBMQ_E_BAD_HANDLE (-4)

/**
 * Memory for the records of this call, or for one more handle, could not be had; nothing was changed. Other memory that
 * cannot be had aborts the process.
 */
#define LIBMQ_E_NO_MEMORY (-5)
/** This build, file or situation does not support what was asked. */
#define LIBMQ_E_UNSUPPORTED (-6)
/** The operating system refused a file operation; `libmq_error_os_code` has its number. */
#define LIBMQ_E_IO (-100)
/** Bytes that were durable are damaged or missing; the files were left alone. */
#define LIBMQ_E_CORRUPT (-101)
/** Another broker owns the directory; the message names the owner. */
#define LIBMQ_E_LOCKED (-102)
/** An earlier write or sync failed, or a bug was caught: free, and open again. */
#define LIBMQ_E_POISONED (-103)
/** The disk has no room for the next segment; asked again, it is tried again. */
#define LIBMQ_E_STORAGE_FULL (-104)
/** `capacity` live messages are in the broker. */
#define LIBMQ_E_FULL (-200)
/** A body with its headers, or a batch's bytes, are beyond their limit. */
#define LIBMQ_E_TOO_LARGE (-201)
/** The time given to `stop`, `close` or `wait_idle` ran out. */
#define LIBMQ_E_TIMEOUT (-202)
/** The delivery's lease was lost; nothing was changed. */
#define LIBMQ_E_STALE_LEASE (-203)
/** Nothing came in time. */
#define LIBMQ_E_EMPTY (-204)
/** A bug inside libmq was caught; the broker is poisoned. */
#define LIBMQ_E_PANIC (-300)
/** The process was forked; a child cannot use its parent's broker. */
#define LIBMQ_E_FORKED (-301)
/** The call would wait for itself, as `close` in a handler. */
#define LIBMQ_E_DEADLOCK (-302)

/**
 * The version of the library that is loaded, such as "0.1.0"; `LIBMQ_VERSION` is that of the header.
 *
 * Any thread. A constant: never NULL, not to be freed.
 */
const char *libmq_version(void);

/**
 * The name of a status without its prefix, such as "FULL" for `LIBMQ_E_FULL`; "UNKNOWN" for a number that is none.
 *
 * Any thread. A constant: never NULL, not to be freed.
 */
const char *libmq_status_name(libmq_status status);

/* Handles: what a program holds, and is never an address. --------------------------------------------------------- */

/** An open broker. Made by `libmq_broker_open`, freed with `libmq_broker_free`. */
typedef struct libmq_broker libmq_broker;

/** A list of dead letters. Made by `libmq_dead_letters_list` and `_get`, freed with `libmq_dead_letters_free`. */
typedef struct libmq_dead_letters libmq_dead_letters;

/** A message that is held. Given by a receive, or to a handler for the time of its call; settling consumes it. */
typedef struct libmq_delivery libmq_delivery;

/** Why a call failed. Made by the call, freed with `libmq_error_free`. */
typedef struct libmq_error libmq_error;

/** Options that brokers are opened with. Made by `libmq_options_new`, freed with `libmq_options_free`. */
typedef struct libmq_options libmq_options;

/* Errors: why a call failed, in a form that can be kept. ---------------------------------------------------------- */

/**
 * The status that the failed call answered; `LIBMQ_E_BAD_HANDLE` if this is no error.
 *
 * Any thread.
 */
libmq_status libmq_error_code(const libmq_error *error);

/**
 * What happened and what to do about it, in lowercase, without bodies, keys or headers. NULL if this is no error.
 *
 * Any thread. Valid until the error is freed.
 */
const char *libmq_error_message(const libmq_error *error);

/**
 * The file or directory concerned. NULL if there is none, or if this is no error.
 *
 * Any thread. Valid until the error is freed.
 */
const char *libmq_error_path(const libmq_error *error);

/**
 * The operating system's number (`errno`). 0 if it was not asked, or if this is no error.
 *
 * Any thread.
 */
int32_t libmq_error_os_code(const libmq_error *error);

/**
 * Whether the same call can succeed later without anything being mended. Not after `LIBMQ_E_TIMEOUT`: a stop or close is
 * done all the same, and of `libmq_broker_wait_idle` it is the answer. False if this is no error.
 *
 * Any thread.
 */
bool libmq_error_is_retryable(const libmq_error *error);

/**
 * Whether the broker is beyond use and has to be opened again. False if this is no error.
 *
 * Any thread.
 */
bool libmq_error_is_fatal(const libmq_error *error);

/**
 * Frees an error. Does nothing for NULL, or for what was freed before.
 *
 * Any thread.
 */
void libmq_error_free(libmq_error *error);

/* Options: what a broker is opened with, by name. ----------------------------------------------------------------- */

/** A log hook: `level` is 1 for an error, 2 a warning, 3 information, 4 detail; `fields_json` is a JSON object. */
typedef void (*libmq_log_fn)(void *ctx, int32_t level, const char *event, const char *fields_json);

/**
 * Options with their defaults. NULL only when memory runs out.
 *
 * Any thread. The caller frees them, at any time after the open.
 */
libmq_options *libmq_options_new(void);

/**
 * Frees options. Does nothing for NULL, or for what was freed before.
 *
 * Any thread.
 */
void libmq_options_free(libmq_options *options);

/**
 * Sets a number. A value set here is meant: 0 is zero.
 *
 * | name | default | range |
 * |---|---|---|
 * | `capacity` | 1,000,000 | live messages, 1 to 2^30 |
 * | `max_bytes` | `LIBMQ_NONE` | bytes the directory may take, snapshots included, from 524,288, some of which is kept for what settles; beyond it an enqueue is `STORAGE_FULL` |
 * | `max_message_bytes` | 16 MiB | body and headers, up to 1 GiB |
 * | `max_batch_bytes` | 64 MiB | bodies and headers of a batch, up to 1 GiB |
 * | `max_dead_letters` | 100,000 | 1 to 2^30 |
 * | `block_timeout_ms` | 30,000 | with `on_full` = `block` |
 * | `snapshot_interval_ms` | 30,000 | from 1 |
 * | `snapshot_threshold` | 100,000 | operations, from 1 |
 * | `segment_bytes` | 64 MiB | 64 KiB to 1 GiB; fewer where the disk has no room for sixteen at open |
 * | `cache_bytes` | 64 MiB | recent journal kept in memory, up to 1 TiB |
 * | `sync_interval_ms` | 50 | what is written is synced by then; from 1 |
 * | `default_timeout_ms` | 120,000 | how long an attempt may run; from 1 |
 * | `default_max_retries` | 5 | after the first attempt, up to 1,000,000 |
 * | `max_crashes` | 3 | 1 to 100 |
 * | `default_backoff_base_ms` | 1,000 | the wait before the first retry |
 * | `default_backoff_cap_ms` | 600,000 | no wait is longer |
 * | `default_backoff_factor_permille` | 2,000 | each wait to the one before, 1,000 to 1,000,000 |
 * | `default_backoff_jitter_permille` | 1,000 | the part of a wait that is left to chance, 0 to 1,000 |
 * | `lock_timeout_ms` | 0 | how long `open` waits for another owner to leave |
 *
 * Times go up to ten years. Any thread. Answers `LIBMQ_E_INVALID` for an unknown name, naming it, and for a number below
 * zero; what else is out of range is answered here or by `libmq_broker_open`.
 */
libmq_status libmq_options_set_int(libmq_options *options,
                                   const char *name,
                                   int64_t value,
                                   libmq_error **err);

/**
 * Sets a word.
 *
 * | name | default | other |
 * |---|---|---|
 * | `durability` | `sync` | `os`; `memory`: a broker without files |
 * | `on_full` | `fail` | `block`: wait for room, at most `block_timeout_ms`; in a handler `fail` |
 * | `on_corruption` | `refuse` | `quarantine`; not supported by this version |
 * | `clock` | `system` | `manual`: time stands still but for `libmq_advance`; for tests |
 *
 * Any thread. Answers `LIBMQ_E_INVALID` for an unknown name or word, naming it.
 */
libmq_status libmq_options_set_str(libmq_options *options, const char *name, const char *value, libmq_error **err);

/**
 * Has `log` called with what happens in brokers opened with these options that is worth a line in a log: one event after
 * another, on one thread of each broker, `libmq-log`, with `ctx`.
 *
 * | `event` | level | fields |
 * |---|---|---|
 * | `open` | 3 | `path`, `messages`, `dead_letters`, `suspects`, `records`, `duration_ms` |
 * | `torn_tail` | 2 | `path`, `dropped_bytes` |
 * | `close` | 3 | `path` |
 * | `dead_letter` | 2 | `queue`, `id`, `attempts`, `reason`: the engine's own, or `rejected` |
 * | `timeout`, `stuck` | 2 | `queue`, `id`, `attempt` |
 * | `all_stuck` | 1 | `queue`, `stuck`: as many as there may be, so that nothing more is handled until one comes back |
 * | `storage_full`, `storage_room` | 2, 3 | `journal_bytes` |
 * | `poisoned` | 1 | `error` |
 * | `snapshot` | 4 | `bytes`, `duration_ms` |
 * | `not_cleaned` | 2 | `error`: what could not be read of an old segment, which stays |
 * | `no_thread` | 2 | `thread`, `error`: a handler's, tried again in a second |
 * | `events_missed` | 2 | `count`, which the hook was too slow for |
 *
 * `fields_json` is an object; it and `event` are valid during the call. No field has anything of a body, a key, or a
 * header's value. The hook may call anything but `libmq_broker_close`, which is `LIBMQ_E_DEADLOCK` there. It is called for the
 * last time before `libmq_broker_close` returns or, without a close, before `libmq_broker_free` and every call of another
 * thread that was under way have; so `ctx` lives until then. Where a hook frees its own broker, or two of them each other's at
 * the same time, the free does not wait for the call that is under way, and that is the last one.
 *
 * Any thread. Answers `LIBMQ_E_INVALID` where `log` is NULL.
 */
libmq_status libmq_options_set_log(libmq_options *options,
                                   libmq_log_fn log,
                                   void *ctx,
                                   libmq_error **err);

/* Brokers: opening a directory, starting and stopping its handlers, and giving it up. ----------------------------- */

/**
 * Opens the broker in a directory, and makes the directory where there is none, with those that it is to lie in. The path
 * ":memory:" is a broker without files. `options` may be NULL, and may be used for other opens, and freed, afterwards.
 *
 * Any thread. The caller frees the broker. A directory has one owner at a time, in the same process too. Answers
 * `LIBMQ_E_INVALID` for an option out of range, naming it, a file, or a directory with other things in it; `LIBMQ_E_LOCKED`
 * naming the owner; `LIBMQ_E_CORRUPT` naming file and offset; `LIBMQ_E_UNSUPPORTED` for another format;
 * `LIBMQ_E_STORAGE_FULL`; `LIBMQ_E_IO`. On failure `*out` is NULL.
 */
libmq_status libmq_broker_open(const char *path,
                               const libmq_options *options,
                               libmq_broker **out,
                               libmq_error **err);

/**
 * Starts to call handlers. Started already: nothing.
 *
 * Any thread. Answers `LIBMQ_E_CLOSED`; in a callback `LIBMQ_E_DEADLOCK` while another thread starts, stops or closes.
 */
libmq_status libmq_broker_start(libmq_broker *broker,
                                libmq_error **err);

/**
 * Stops calling handlers and waits for those that run, and for deliveries they deferred. After `timeout_ms` (-1: never)
 * they are cancelled with "shutdown", and after their grace what they hold is given back. `libmq_broker_start` may follow.
 * The time runs from the call on, also while this waits for its turn, since another thread replaces a handler, stops or
 * closes: when it is over, what that other one waits for is cancelled, too.
 *
 * Any thread, not in a handler or its `drop`: that is `LIBMQ_E_DEADLOCK`. Answers `LIBMQ_E_TIMEOUT` if it had to cancel,
 * stopped all the same; `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_broker_stop(libmq_broker *broker,
                               int64_t timeout_ms,
                               libmq_error **err);

/**
 * Stops as `libmq_broker_stop` does, gives received deliveries back uncounted, syncs, and gives the directory up. Closed
 * already: nothing. Every later call but this one, `libmq_wakeup_close` and `libmq_broker_free` answers `LIBMQ_E_CLOSED`.
 *
 * The time is for handlers: callbacks of `libmq_enqueue_async` and of the log that are under way are waited for beside it.
 *
 * Any thread, not in a callback, of whichever broker: that is `LIBMQ_E_DEADLOCK`. Answers `LIBMQ_E_TIMEOUT` if handlers had
 * to be cancelled, closed all the same; `LIBMQ_E_POISONED` or `LIBMQ_E_IO` if the last sync failed, closed all the same.
 */
libmq_status libmq_broker_close(libmq_broker *broker,
                                int64_t timeout_ms,
                                libmq_error **err);

/**
 * Waits until nothing is in flight, nothing is ready where there is a handler, and no retry is pending, at most for
 * `timeout_ms` (-1: for ever).
 *
 * Any thread, not in a handler or its `drop`: that is `LIBMQ_E_DEADLOCK`. Answers `LIBMQ_E_TIMEOUT`, `LIBMQ_E_CLOSED`, and
 * `LIBMQ_E_POISONED` where it is not idle and never will be.
 */
libmq_status libmq_broker_wait_idle(libmq_broker *broker,
                                    int64_t timeout_ms,
                                    libmq_error **err);

/**
 * Frees a broker. Without a close before it this is a crash, on purpose: what is durable is recovered by the next open.
 * What it gave (deliveries, errors, lists) stays valid and is freed apart. Does nothing for NULL, or for what was freed
 * before.
 *
 * Any thread. Calls of other threads that are under way end first: those that wait for a message, for room or for idleness
 * end at once with `LIBMQ_E_CLOSED`; a stop or close comes to its end. The last of them gives the directory up, and until it
 * has returned the log hook may be called.
 */
void libmq_broker_free(libmq_broker *broker);

/* Messages: what is enqueued, and the receipt for it. ------------------------------------------------------------- */

/** `dedup`: the new message takes the place of a waiting one of its key. The default. */
#define LIBMQ_DEDUP_REPLACE 1
/** `dedup`: the old message stays, and the new one is answered with its id. */
#define LIBMQ_DEDUP_KEEP 2
/** `durability`: an fdatasync that covers the message has succeeded when its enqueue returns. */
#define LIBMQ_SYNC 1
/** `durability`: its bytes are in the kernel; it survives the death of the process, and is synced a little later. */
#define LIBMQ_OS 2
/** A receipt's status: a new message. */
#define LIBMQ_ACCEPTED 1
/** A receipt's status: a waiting message of the same key has this body and these options now. */
#define LIBMQ_REPLACED 2
/** A receipt's status: a message of the same key is there already; nothing was changed. */
#define LIBMQ_DUPLICATE 3

/** A header: a name `[A-Za-z0-9._-]{1,64}` and a value of up to 4 KiB without NUL, CR or LF. */
typedef struct libmq_header {
  /** Its name. */
  const char *name;
  /** Its value. */
  const char *value;
} libmq_header;

/**
 * A message to enqueue. Begin with `LIBMQ_MESSAGE_INIT`; a field left 0 is its default. Everything is copied by the call
 * that takes it.
 */
typedef struct libmq_message {
  /** `sizeof(libmq_message)`. */
  uint32_t struct_size;
  /**
   * `LIBMQ_DEDUP_REPLACE` (default) or `LIBMQ_DEDUP_KEEP`: what happens when `dedup_key` is taken. Without a key it means
   * nothing.
   */
  int32_t dedup;
  /** 0 (default) to 9, higher first. */
  int32_t priority;
  /** `LIBMQ_SYNC` or `LIBMQ_OS`. Default: the broker's. */
  int32_t durability;
  /** The body; NULL only with a length of 0. */
  const void *body;
  /** Bytes of the body. */
  size_t body_len;
  /** What the body is. Default `application/octet-stream`. 1 to 256 bytes. */
  const char *content_type;
  /** The key that makes the message one of its kind in its queue. Default none. 1 to 256 bytes. */
  const char *dedup_key;
  /** An id that follows the work from message to message. Default none. 1 to 256 bytes. */
  const char *correlation_id;
  /** One message of a group at a time, in order. Default none. 1 to 256 bytes. */
  const char *group;
  /** The headers; NULL only with a length of 0. */
  const libmq_header *headers;
  /** How many headers; up to 64. */
  size_t headers_len;
  /** Not before this many milliseconds have passed. Default 0. Excludes `run_at_ms`. */
  int64_t delay_ms;
  /** Not before this moment, in milliseconds since 1970-01-01 UTC, from 1; in the past: now. Default none. */
  int64_t run_at_ms;
  /**
   * No attempt begins after this many milliseconds: never attempted it is dropped, else a dead letter `expired`.
   * Longer than `delay_ms`, and ending behind `run_at_ms`. Default never.
   */
  int64_t expires_in_ms;
  /**
   * How long after its ack the message guards its key against `LIBMQ_DEDUP_KEEP`, in milliseconds. Default 0. Without a key
   * it means nothing.
   */
  int64_t dedup_window_ms;
} libmq_message;

/** What became of an enqueue. */
typedef struct libmq_receipt {
  /** The message's id: of the new message, or of the one that was replaced or kept. 0 on failure. */
  uint64_t id;
  /** `LIBMQ_ACCEPTED`, `LIBMQ_REPLACED` or `LIBMQ_DUPLICATE`. 0 on failure. */
  int32_t status;
} libmq_receipt;

/** Begins a `libmq_message`. */
#define LIBMQ_MESSAGE_INIT \
  { sizeof(libmq_message), 0, 0, 0, NULL, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0 }

/* Enqueueing: messages in. ---------------------------------------------------------------------------------------- */

/**
 * Told what became of an enqueue: on one thread, `libmq-callback`, in the order of the commits. `status` is what
 * `libmq_enqueue` would have answered; unless it is `LIBMQ_OK`, `receipt` is all 0. May call anything but
 * `libmq_broker_close`, which is `LIBMQ_E_DEADLOCK` there; while it runs, the others wait.
 */
typedef void (*libmq_enqueued_fn)(void *ctx, libmq_status status, libmq_receipt receipt);

/**
 * Enqueues a message, and returns when it has reached its durability.
 *
 * Any thread. `out` may be NULL. Answers `LIBMQ_E_INVALID`, `LIBMQ_E_TOO_LARGE`, `LIBMQ_E_UNSUPPORTED`, `LIBMQ_E_FULL`,
 * `LIBMQ_E_STORAGE_FULL`, `LIBMQ_E_NO_MEMORY`, `LIBMQ_E_CLOSED`: not enqueued. `LIBMQ_E_POISONED`: unknown.
 */
libmq_status libmq_enqueue(libmq_broker *broker,
                           const char *queue,
                           const libmq_message *message,
                           libmq_receipt *out,
                           libmq_error **err);

/**
 * Enqueues up to 10,000 messages, all or none, with one commit. They lie in an array, each `messages[0].struct_size`
 * bytes after the one before, and all have that size. Receipts come in the order of the messages.
 *
 * Any thread. `out` is NULL or has room for `n`; beyond 10,000 it is left as it was. Answers as `libmq_enqueue`;
 * `LIBMQ_E_TOO_LARGE` beyond `max_batch_bytes`; more of them than `capacity` wait for no room, whatever `on_full` says.
 */
libmq_status libmq_enqueue_batch(libmq_broker *broker,
                                 const char *queue,
                                 const libmq_message *messages,
                                 size_t n,
                                 libmq_receipt *out,
                                 libmq_error **err);

/**
 * Enqueues a message and returns at once, without waiting for the disk or for room; `done` is called with `ctx`, once, when
 * the message has reached its durability or has failed to. The message, its body too, may be let go of when this returns.
 *
 * Any thread. `libmq_broker_close` and `libmq_broker_free` see to it that what was begun is told. Answers what is wrong with
 * the call: `LIBMQ_E_INVALID`, `LIBMQ_E_UNSUPPORTED`, `LIBMQ_E_TOO_LARGE`, `LIBMQ_E_FULL` (unless `on_full` is `block`),
 * `LIBMQ_E_STORAGE_FULL`, `LIBMQ_E_NO_MEMORY`, `LIBMQ_E_POISONED`, `LIBMQ_E_CLOSED`; then `done` is not called.
 */
libmq_status libmq_enqueue_async(libmq_broker *broker,
                                 const char *queue,
                                 const libmq_message *message,
                                 libmq_enqueued_fn done,
                                 void *ctx,
                                 libmq_error **err);

/* Handlers: functions that libmq calls with messages. ------------------------------------------------------------- */

/** A handler's answer: done. */
#define LIBMQ_ACK 1
/** A handler's answer: failed; tried again after the backoff, up to `max_retries` times. */
#define LIBMQ_RETRY 2
/** A handler's answer: to the dead letters, with the reason "rejected". */
#define LIBMQ_REJECT 3

/**
 * A handler's answer: given back, ready again at once, not counted as an attempt. A handler that answers this while
 * something is not there is called again and again without a pause: use `libmq_delivery_release` with a delay, and
 * `LIBMQ_DEFER`.
 */
#define LIBMQ_RELEASE 4

/**
 * A handler's answer: the delivery is settled already, or will be, from any thread. Until then it takes one of the
 * `max_parallelism` places, and its timeout runs. So: `libmq_delivery_retry(d, 5000, "why", NULL); return LIBMQ_DEFER;`.
 */
#define LIBMQ_DEFER 5

/**
 * A handler. Called with its context and a delivery, on a thread of the broker, up to `max_parallelism` at once; answers
 * `LIBMQ_ACK`, `LIBMQ_RETRY`, `LIBMQ_REJECT`, `LIBMQ_RELEASE` or `LIBMQ_DEFER`. Any other number, 0 included, is a failed
 * attempt and counted as the handler's error. A delivery that it settled itself stays settled, whatever it answers.
 */
typedef int32_t (*libmq_handle_fn)(void *ctx, libmq_delivery *delivery);

/** A handler and how it is run. Begin with `LIBMQ_HANDLER_INIT`; a field left 0 is its default. */
typedef struct libmq_handler {
  /** `sizeof(libmq_handler)`. */
  uint32_t struct_size;
  /** How many run at once, 1 to 1024. Default 1. */
  int32_t max_parallelism;
  /** How many threads stay when idle, 1 (default) to `max_parallelism`. One stays in any case: `LIBMQ_NONE` is 1. */
  int32_t min_parallelism;
  /** Retries after the first attempt, up to 1,000,000. Default the broker's; `LIBMQ_NONE`: none. */
  int32_t max_retries;
  /** Not 0: `libmq_delivery_extend` answers `LIBMQ_E_UNSUPPORTED`. */
  int32_t no_lease_extension;
  /**
   * How long an attempt may run before it is cancelled, in milliseconds, from 1; as every time here up to ten years.
   * Default the broker's.
   */
  int64_t timeout_ms;
  /** From cancellation to the loss of the lease, in milliseconds. Default 5,000; `LIBMQ_NONE`: 0. */
  int64_t cancel_grace_ms;
  /** The wait before the first retry, in milliseconds. Default the broker's; `LIBMQ_NONE`: 0. */
  int64_t backoff_base_ms;
  /** No wait is longer, in milliseconds. Default the broker's; `LIBMQ_NONE`: 0. */
  int64_t backoff_cap_ms;
  /** Each wait to the one before, in thousandths, 1,000 to 1,000,000. Default the broker's. */
  int32_t backoff_factor_permille;
  /** The part of a wait that is left to chance, in thousandths, up to 1,000. Default the broker's; `LIBMQ_NONE`: 0. */
  int32_t backoff_jitter_permille;
  /** What `handle` and `drop` are called with. May be NULL. */
  void *ctx;
  /** The function. Must be there. */
  libmq_handle_fn handle;
  /** Called once with `ctx` when it is needed no more. May be NULL. */
  void (*drop)(void *ctx);
} libmq_handler;

/**
 * Registers a queue's handler. Before the start it waits for it; after it, it is called at once. A second handler for a
 * queue replaces the first when its calls have ended.
 *
 * `drop` is called once, after the last call has ended: when the handler is replaced, before `libmq_broker_close` returns,
 * when the broker is freed, or at once when this call fails; of a `handler` that is NULL, misaligned, or smaller than the
 * first version of the struct, there is no `drop` to be read. A call may outlive the close (which answered
 * `LIBMQ_E_TIMEOUT`, or does not count one that had lost its lease before) and the free: it is waited for by `drop`, not by
 * them. So where a handler may be stuck, free `ctx` in `drop` and nowhere else. In `drop` what waits for handlers (start,
 * stop, close, wait for idleness, register) is `LIBMQ_E_DEADLOCK`.
 *
 * Any thread, not in a `drop`. In a handler a new queue may be given one; to replace one is `LIBMQ_E_DEADLOCK` there, and so
 * is any while another thread starts, stops or closes. Answers `LIBMQ_E_INVALID`, naming the field, and `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_handle(libmq_broker *broker,
                          const char *queue,
                          const libmq_handler *handler,
                          libmq_error **err);

/** Begins a `libmq_handler`. */
#define LIBMQ_HANDLER_INIT { sizeof(libmq_handler), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL }

/* Receiving: messages out, without a handler. --------------------------------------------------------------------- */

/**
 * Takes the next message of a queue, waiting for one at most for `timeout_ms` (0: looks once, -1: for ever). It is held for
 * `lease_ms` (0: 30,000), which is not renewed by itself: when it runs out, that is a failed attempt.
 *
 * Any thread. The caller settles or frees the delivery. Answers `LIBMQ_E_EMPTY` when nothing came; `LIBMQ_E_INVALID` for a
 * name that is none, or a time out of range; `LIBMQ_E_CLOSED`, also to who waits when the broker is closed or freed;
 * `LIBMQ_E_STORAGE_FULL` where the disk has no room for what handing out has to write; `LIBMQ_E_CORRUPT` or
 * `LIBMQ_E_IO` where its bytes are damaged or cannot be read, which poisons the broker; `LIBMQ_E_POISONED`. On failure
 * `*out` is NULL.
 */
libmq_status libmq_receive(libmq_broker *broker,
                           const char *queue,
                           int64_t timeout_ms,
                           int64_t lease_ms,
                           libmq_delivery **out,
                           libmq_error **err);

/**
 * Takes up to `max` messages (1 to 10,000) that are there, waiting for the first one as `libmq_receive` does.
 *
 * Any thread. `out` has room for `max`; `*out_n` is how many came, 0 on failure. Answers as `libmq_receive`.
 */
libmq_status libmq_receive_batch(libmq_broker *broker,
                                 const char *queue,
                                 size_t max,
                                 int64_t timeout_ms,
                                 int64_t lease_ms,
                                 libmq_delivery **out,
                                 size_t *out_n,
                                 libmq_error **err);

/* Wakeups: descriptors by which an event loop learns that a queue may have something. ----------------------------- */

/**
 * Opens a descriptor for an event loop (`poll`, `epoll`, `kqueue`), readable while the queue may have something, and when
 * the broker was closed; a receive from the queue that answers `LIBMQ_E_EMPTY` clears it. So: when it is readable, receive
 * with a timeout of 0 until that is answered. Nothing is to be read from it or written to it.
 *
 * Any thread. The caller closes it with `libmq_wakeup_close`; freeing the broker closes it too. `*out_fd` is -1 on failure.
 * Answers `LIBMQ_E_INVALID` for a name that is none; `LIBMQ_E_IO` where the process may have no more descriptors;
 * `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_wakeup_open(libmq_broker *broker,
                               const char *queue,
                               int *out_fd,
                               libmq_error **err);

/**
 * Closes a descriptor of `libmq_wakeup_open`; also after the broker was closed.
 *
 * Any thread; not while another one waits for it. Answers `LIBMQ_E_INVALID` for one that this broker did not open, or that was
 * closed already; `LIBMQ_E_CLOSED` for such a one after the close of the broker.
 */
libmq_status libmq_wakeup_close(libmq_broker *broker,
                                int fd,
                                libmq_error **err);

/* Deliveries: reading a message that is held. --------------------------------------------------------------------- */

/**
 * The body; `*len`, which may be NULL, is its length. An empty body is an address all the same, with a NUL there.
 * NULL if this is no delivery, with a length of 0. It is aligned for bytes alone.
 *
 * Any thread. Valid until the delivery is settled or freed.
 */
const void *libmq_delivery_body(const libmq_delivery *delivery, size_t *len);

/**
 * The message's id, the same for every attempt. 0 if this is no delivery.
 *
 * Any thread.
 */
uint64_t libmq_delivery_id(const libmq_delivery *delivery);

/**
 * A number that is larger for every later lease and never comes again, for fencing outside effects. 0 if this is no
 * delivery.
 *
 * Any thread.
 */
uint64_t libmq_delivery_token(const libmq_delivery *delivery);

/**
 * The number of this attempt, from 1. 0 if this is no delivery.
 *
 * Any thread.
 */
uint32_t libmq_delivery_attempt(const libmq_delivery *delivery);

/**
 * Retries after the first attempt. 0 if this is no delivery.
 *
 * Any thread.
 */
uint32_t libmq_delivery_max_retries(const libmq_delivery *delivery);

/**
 * The queue it came from. NULL if this is no delivery.
 *
 * Any thread. Valid until the delivery is settled or freed.
 */
const char *libmq_delivery_queue(const libmq_delivery *delivery);

/**
 * What the body is; "application/octet-stream" unless said otherwise. NULL if this is no delivery.
 *
 * Any thread. Valid until the delivery is settled or freed.
 */
const char *libmq_delivery_content_type(const libmq_delivery *delivery);

/**
 * The id that follows the work from message to message. NULL if there is none.
 *
 * Any thread. Valid until the delivery is settled or freed.
 */
const char *libmq_delivery_correlation_id(const libmq_delivery *delivery);

/**
 * The value of the first header of this name. NULL if there is none.
 *
 * Any thread. Valid until the delivery is settled or freed.
 */
const char *libmq_delivery_header(const libmq_delivery *delivery, const char *name);

/**
 * How many headers there are. 0 if this is no delivery.
 *
 * Any thread.
 */
size_t libmq_delivery_headers_len(const libmq_delivery *delivery);

/**
 * A header by its place, from 0, in the order they were given. Two NULLs if there is none.
 *
 * Any thread. Valid until the delivery is settled or freed.
 */
libmq_header libmq_delivery_header_at(const libmq_delivery *delivery, size_t index);

/**
 * When it was enqueued, or replaced, in milliseconds since 1970-01-01 UTC. -1 if this is no delivery.
 *
 * Any thread.
 */
int64_t libmq_delivery_enqueued_at_ms(const libmq_delivery *delivery);

/**
 * Until when it is held, in milliseconds since 1970-01-01 UTC. -1 if this is no delivery.
 *
 * Any thread.
 */
int64_t libmq_delivery_deadline_ms(const libmq_delivery *delivery);

/**
 * Why the attempt was cancelled: "timeout", "shutdown", "cancelled" or "lease_lost". NULL while it is not. A long handler
 * looks at it now and then, and comes back when it is set.
 *
 * Any thread. A constant: not to be freed.
 */
const char *libmq_delivery_cancel_reason(const libmq_delivery *delivery);

/* Settling: what becomes of a message that is held. Each but the first two ends the handle, whatever it answers. -- */

/**
 * Moves the deadline to `ms` milliseconds from now, if that is later; up to 24 hours. The handle stays.
 *
 * Any thread. Answers `LIBMQ_E_STALE_LEASE` once the lease is lost, or the attempt was cancelled with "shutdown";
 * `LIBMQ_E_UNSUPPORTED` where the handler does not allow it; `LIBMQ_E_INVALID` out of range; `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_delivery_extend(libmq_delivery *delivery, int64_t ms, libmq_error **err);

/**
 * Enqueues a message together with the ack of this one, or not at all. It inherits the correlation id and the header
 * `traceparent` unless it has its own. The handle stays; everything is checked, and room taken, now.
 *
 * Any thread. Answers as `libmq_enqueue_batch` for all of them together, without waiting for room;
 * `LIBMQ_E_STALE_LEASE` once the lease is lost.
 */
libmq_status libmq_delivery_enqueue(libmq_delivery *delivery,
                                    const char *queue,
                                    const libmq_message *message,
                                    libmq_error **err);

/**
 * Done. What was enqueued with the delivery is enqueued by the same record. Returns when that is in the kernel.
 *
 * Any thread. Answers `LIBMQ_E_STALE_LEASE` if the lease was lost, `LIBMQ_E_CLOSED`: nothing changed.
 * `LIBMQ_E_STORAGE_FULL`: the disk has no room for the record, and the message is released when it has.
 * `LIBMQ_E_POISONED`: unknown. The handle is gone in any case, and `LIBMQ_E_BAD_HANDLE` is what a delivery answers that was
 * settled before.
 */
libmq_status libmq_delivery_ack(libmq_delivery *delivery,
                                libmq_error **err);

/**
 * Failed: tried again after `delay_ms` (0: now, `LIBMQ_NONE`: the backoff), up to `max_retries` times; then a dead letter
 * "max_retries" that keeps `why`. `why` may be NULL; of it 4 KiB are kept, and what is not UTF-8 in it is replaced. Once the
 * attempt was cancelled with "shutdown" it is a release without a delay.
 *
 * Any thread. Answers as `libmq_delivery_ack`; for a delay out of range `LIBMQ_E_INVALID`, and the message is released.
 */
libmq_status libmq_delivery_retry(libmq_delivery *delivery,
                                  int64_t delay_ms,
                                  const char *why,
                                  libmq_error **err);

/**
 * Failed by itself, as by an exception: as `libmq_delivery_retry` with the backoff, but counted as the handler's error, unless the
 * attempt was cancelled. `why` may be NULL; of it 4 KiB are kept, and what is not UTF-8 in it is replaced.
 *
 * Any thread. Answers as `libmq_delivery_ack`.
 */
libmq_status libmq_delivery_fail(libmq_delivery *delivery,
                                 const char *why,
                                 libmq_error **err);

/**
 * To the dead letters, for this reason; "rejected" for NULL. Of it 4 KiB are kept, and what is not UTF-8 is replaced. Once the
 * attempt was cancelled with "shutdown" it is a release without a delay.
 *
 * Any thread. Answers as `libmq_delivery_ack`.
 */
libmq_status libmq_delivery_reject(libmq_delivery *delivery,
                                   const char *why,
                                   libmq_error **err);

/**
 * Given back, and ready again after `delay_ms` (0 or `LIBMQ_NONE`: at once); not counted as an attempt. Whoever releases
 * without a delay what cannot be done yet is handed it again at once, as fast as the machine goes: give a delay then.
 *
 * Any thread. Answers as `libmq_delivery_ack`; for a delay out of range `LIBMQ_E_INVALID`, and it is ready at once.
 */
libmq_status libmq_delivery_release(libmq_delivery *delivery,
                                    int64_t delay_ms,
                                    libmq_error **err);

/**
 * Frees a delivery; one that was not settled is released. In its own handler this does nothing: there the answer settles.
 * Does nothing either for NULL, or for what was settled or freed before.
 *
 * Any thread.
 */
void libmq_delivery_free(libmq_delivery *delivery);

/* Administration: what is done to a broker while it works. -------------------------------------------------------- */

/**
 * Sets how many of a queue's handler run at once, 1 to 1024, until its next registration or the close. Those that run
 * already, run on.
 *
 * Any thread. Answers `LIBMQ_E_INVALID` out of range, `LIBMQ_E_NOT_FOUND` for a queue without a handler, `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_scale(libmq_broker *broker,
                         const char *queue,
                         int32_t n,
                         libmq_error **err);

/**
 * Has nothing handed out from a queue, to its handler or to a receive, until `libmq_resume` or the close. What is in
 * flight is not touched; an enqueue goes on.
 *
 * Any thread. Answers `LIBMQ_E_INVALID` for a name that is none, `LIBMQ_E_NOT_FOUND` for a queue that nobody has used,
 * `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_pause(libmq_broker *broker,
                         const char *queue,
                         libmq_error **err);

/**
 * Ends a `libmq_pause`, if there is one.
 *
 * Any thread. Answers `LIBMQ_E_INVALID` for a name that is none, `LIBMQ_E_NOT_FOUND` for a queue that nobody has used,
 * `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_resume(libmq_broker *broker,
                          const char *queue,
                          libmq_error **err);

/**
 * Ends a message: one that waits is gone, one that somebody holds is cancelled and does not come back, unless it is
 * acked all the same.
 *
 * Any thread. Answers `LIBMQ_E_NOT_FOUND` where there is no such message; dead letters are none. `LIBMQ_E_STORAGE_FULL`,
 * `LIBMQ_E_POISONED`, `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_cancel(libmq_broker *broker,
                          uint64_t id,
                          libmq_error **err);

/**
 * Removes all messages of a queue that nobody holds; `*out_n` is how many, 0 on failure. Dead letters stay.
 *
 * Any thread. `out_n` may be NULL. Answers `LIBMQ_E_INVALID` for a name that is none, `LIBMQ_E_POISONED`,
 * `LIBMQ_E_STORAGE_FULL`, `LIBMQ_E_CLOSED`; a name that nobody has used is an empty queue.
 */
libmq_status libmq_purge(libmq_broker *broker, const char *queue, uint64_t *out_n, libmq_error **err);

/**
 * Takes a snapshot now, so that the next open has less to read.
 *
 * Any thread. Answers `LIBMQ_E_STORAGE_FULL`, `LIBMQ_E_IO`, `LIBMQ_E_POISONED`, `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_snapshot(libmq_broker *broker, libmq_error **err);

/**
 * Writes a copy of the broker to a directory that is not there yet, or is empty, while work goes on. The copy is complete
 * with everything that was answered before the call, whole to one moment not before it, and can be opened like any
 * directory, also beside this one: as after a close at that moment, but that what was in flight is ready again,
 * uncounted. Of a broker without files it is an ordinary directory.
 *
 * Any thread; it takes as long as writing and syncing the copy does. The directory above `to` has to be there. What fails
 * leaves nothing behind. A close meanwhile ends it. Answers `LIBMQ_E_INVALID` for a `to` that is empty, is something else
 * than an empty directory, lies in the broker's own, or is ":memory:"; `LIBMQ_E_STORAGE_FULL` and `LIBMQ_E_IO`, naming the
 * path; `LIBMQ_E_CORRUPT` where the broker's own files have lost bytes; `LIBMQ_E_POISONED`, `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_backup(libmq_broker *broker,
                          const char *to,
                          libmq_error **err);

/**
 * Reads and checks all of a directory that no broker has open: what an open would read, and every body and dead letter,
 * which an open does not. Changes and makes nothing. `*out_report_json` is an object with `sound` (no problem), and, with
 * problems as far as could be told, `messages`, `dead_letters`, `suspects`, `records` (that an open would replay),
 * `dropped_bytes` (of a torn tail, which is no problem), `segments`, `bytes` (of all files), `snapshot` (the position it
 * begins at, or null), `closed` (it was closed in order), and `problems`: a list, of at most 1000, of objects with `kind`
 * (`"CORRUPT"` for damage, `"IO"` for a file that cannot be read), `path`, `offset` (in the file, or null) and `text`.
 *
 * Any thread. Damage is in the report, and the call succeeds. Meanwhile an open of the directory is `LIBMQ_E_LOCKED`. The
 * caller frees `*out_report_json` with `libmq_string_free`; on failure it is NULL. Answers `LIBMQ_E_INVALID` for what is no
 * directory of libmq, and for ":memory:"; `LIBMQ_E_LOCKED` while a broker has it open, `LIBMQ_E_UNSUPPORTED` for another version of the
 * format, `LIBMQ_E_IO`.
 */
libmq_status libmq_verify(const char *path,
                          char **out_report_json,
                          libmq_error **err);

/**
 * Moves a manual clock by `ms` milliseconds, up to ten years, and does what is due then.
 *
 * Any thread. Answers `LIBMQ_E_INVALID` on a system clock, or out of range; `LIBMQ_E_STORAGE_FULL`, `LIBMQ_E_POISONED`,
 * `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_advance(libmq_broker *broker,
                           int64_t ms,
                           libmq_error **err);

/* Metrics: what a broker counts, and what its opening found. ------------------------------------------------------ */

/**
 * The figures of a queue, or of the whole broker: six gauges, then counters since the open. Begin with
 * `LIBMQ_METRICS_INIT`, which sets `struct_size`.
 */
typedef struct libmq_metrics {
  /** `sizeof(libmq_metrics)`. */
  uint32_t struct_size;
  /** 0. */
  uint32_t reserved;
  /** Messages that could run now. */
  uint64_t ready;
  /** Messages that are held. */
  uint64_t in_flight;
  /** Messages that are not due yet, retries too. */
  uint64_t delayed;
  /** Dead letters. */
  uint64_t dead;
  /** The handler's `max_parallelism`, 0 without one. */
  uint64_t parallelism;
  /** How long the first ready message has been ready, in milliseconds; -1 where none is. */
  int64_t oldest_ready_age_ms;
  /** Messages enqueued, replacements too. */
  uint64_t enqueued;
  /** Attempts begun. */
  uint64_t delivered;
  /** Attempts that ended with an ack. */
  uint64_t acked;
  /** Attempts that failed, timed out, or lost a pulled lease. */
  uint64_t retried;
  /** Attempts that were given back. */
  uint64_t released;
  /** Attempts that ended with a reject. */
  uint64_t rejected;
  /** Messages that became dead letters. */
  uint64_t dead_lettered;
  /** Messages that a newer one of their key took the place of. */
  uint64_t replaced;
  /** Enqueues answered with a message that was there. */
  uint64_t duplicates;
  /** Messages that expired. */
  uint64_t expired;
  /** Messages that were cancelled. */
  uint64_t cancelled;
  /** Settles that came too late. */
  uint64_t stale_settles;
  /** Attempts that the handler failed. */
  uint64_t handler_errors;
  /** Attempts that ran beyond their timeout. */
  uint64_t timeouts;
  /** Attempts in which the process died, found at the open. */
  uint64_t crashes;
  /** Handlers that ran on beyond their grace. */
  uint64_t stuck;
  /** From here on figures of the broker, which are 0 for a queue. Bytes of the journal's segments and the snapshot. */
  uint64_t journal_bytes;
  /** Segments of the journal. */
  uint64_t segments;
  /** Snapshots taken since the open. */
  uint64_t snapshots;
  /** Syncs of the journal since the open. */
  uint64_t syncs;
  /** The position in the log that was given to records. */
  uint64_t lsn_reserved;
  /** The position up to which they are in the kernel. */
  uint64_t lsn_written;
  /** The position up to which they are synced. */
  uint64_t lsn_durable;
  /** The position up to which they are visible. */
  uint64_t lsn_shown;
  /** Bytes of memory held for messages and recent journal. */
  uint64_t memory_bytes;
} libmq_metrics;

/**
 * Reads the figures of a queue, or with NULL the sums of all.
 *
 * Any thread. Answers `LIBMQ_E_NOT_FOUND` for a queue that had no enqueue, handler or receive yet; `LIBMQ_E_INVALID` for a
 * name that is none and where `out->struct_size` is not set; `LIBMQ_E_CLOSED`. On failure all figures are those of nothing.
 */
libmq_status libmq_metrics_read(libmq_broker *broker,
                                const char *queue_or_null,
                                libmq_metrics *out,
                                libmq_error **err);

/**
 * The figures as Prometheus reads them (text format 0.0.4): each queue's under its name as label `queue`, as in
 * `libmq_ready{queue="orders"} 3`; counters end in `_total`, durations in `_seconds`.
 *
 * Any thread. The caller frees `*out_prometheus` with `libmq_string_free`; on failure it is NULL. Answers `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_metrics_text(libmq_broker *broker,
                                char **out_prometheus,
                                libmq_error **err);

/**
 * What opening found, as a JSON object of numbers: `messages` live, `dead_letters`, `suspects` (in hand when the last
 * process died; they run alone from now on), `records` read, `dropped_bytes` of a torn tail, `snapshot` (the position it
 * begins at, or null), `duration_ms`.
 *
 * Any thread. The caller frees `*out` with `libmq_string_free`; on failure it is NULL. Answers `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_recovery_json(libmq_broker *broker,
                                 char **out,
                                 libmq_error **err);

/**
 * Frees a string that one of these functions made. Does nothing for NULL, and for a handle.
 *
 * Any thread. Once for each: a string is no handle, and freeing it twice is not noticed.
 */
void libmq_string_free(char *string);

/** Begins a `libmq_metrics`. */
#define LIBMQ_METRICS_INIT \
  { sizeof(libmq_metrics), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
    0, 0, 0 }

/* Dead letters: messages that will not be tried again. ------------------------------------------------------------ */

/**
 * Lists up to `limit` dead letters of a queue, or with NULL of all, with ids above `after_id` (0: from the first), in the
 * order of their ids.
 *
 * Any thread. The caller frees the list, which is a copy: it stays as it is. Answers `LIBMQ_E_INVALID` for a name that is
 * none, `LIBMQ_E_CLOSED`, `LIBMQ_E_IO`, `LIBMQ_E_CORRUPT`. On failure `*out` is NULL.
 */
libmq_status libmq_dead_letters_list(libmq_broker *broker,
                                     const char *queue_or_null,
                                     size_t limit,
                                     uint64_t after_id,
                                     libmq_dead_letters **out,
                                     libmq_error **err);

/**
 * Frees a list. Does nothing for NULL, or for what was freed before.
 *
 * Any thread.
 */
void libmq_dead_letters_free(libmq_dead_letters *letters);

/**
 * How many there are in the list. 0 if this is none.
 *
 * Any thread.
 */
size_t libmq_dead_letters_len(const libmq_dead_letters *letters);

/**
 * The message's id. 0 if there is none at `i`.
 *
 * Any thread.
 */
uint64_t libmq_dead_letter_id(const libmq_dead_letters *letters, size_t i);

/**
 * Its queue. NULL if there is none at `i`.
 *
 * Any thread. Valid until the list is freed.
 */
const char *libmq_dead_letter_queue(const libmq_dead_letters *letters, size_t i);

/**
 * The text given to a reject, or "max_retries", "crashed", "expired", "decode" or "corrupt". NULL if there is none at `i`.
 *
 * Any thread. Valid until the list is freed.
 */
const char *libmq_dead_letter_reason(const libmq_dead_letters *letters,
                                     size_t i);

/**
 * The last failure's text, which may be empty. NULL if there is none at `i`.
 *
 * Any thread. Valid until the list is freed.
 */
const char *libmq_dead_letter_error(const libmq_dead_letters *letters, size_t i);

/**
 * How often a handler was entered and did not give it back; crashes count here. 0 if there is none at `i`.
 *
 * Any thread.
 */
uint32_t libmq_dead_letter_attempts(const libmq_dead_letters *letters, size_t i);

/**
 * The body; `*len`, which may be NULL, is its length. An empty body is an address all the same, with a NUL there. NULL if
 * there is none at `i`, with a length of 0.
 *
 * Any thread. Valid until the list is freed.
 */
const void *libmq_dead_letter_body(const libmq_dead_letters *letters,
                                   size_t i,
                                   size_t *len);

/**
 * When it became a dead letter, in milliseconds since 1970-01-01 UTC. -1 if there is none at `i`.
 *
 * Any thread.
 */
int64_t libmq_dead_letter_failed_at_ms(const libmq_dead_letters *letters, size_t i);

/**
 * Finds one dead letter by its id: a list of one.
 *
 * Any thread. The caller frees the list. Answers `LIBMQ_E_NOT_FOUND`, and what `libmq_dead_letters_list` answers. On
 * failure `*out` is NULL.
 */
libmq_status libmq_dead_letters_get(libmq_broker *broker, uint64_t id, libmq_dead_letters **out, libmq_error **err);

/**
 * The id that follows the work from message to message. NULL if there is none.
 *
 * Any thread. Valid until the list is freed.
 */
const char *libmq_dead_letter_correlation_id(const libmq_dead_letters *letters, size_t i);

/**
 * The value of the first header of this name. NULL if there is none.
 *
 * Any thread. Valid until the list is freed.
 */
const char *libmq_dead_letter_header(const libmq_dead_letters *letters, size_t i, const char *name);

/**
 * Enqueues a dead letter again, under a new id, with no attempts, its old key and `LIBMQ_DEDUP_KEEP`. Where the key is
 * taken, the receipt says `LIBMQ_DUPLICATE` and the dead letter stays.
 *
 * Any thread. `out` may be NULL. Answers `LIBMQ_E_NOT_FOUND`, and what `libmq_enqueue` answers.
 */
libmq_status libmq_dead_letter_replay(libmq_broker *broker,
                                      uint64_t id,
                                      libmq_receipt *out,
                                      libmq_error **err);

/**
 * Replays the dead letters of a queue, or with NULL all; `*out_n` is how many are dead letters no more, 0 on
 * failure.
 *
 * Any thread. `out_n` may be NULL. Answers `LIBMQ_E_INVALID` for a name that is none, and as
 * `libmq_dead_letter_replay`; what was replayed before a failure stays so.
 */
libmq_status libmq_dead_letters_replay_all(libmq_broker *broker,
                                           const char *queue_or_null,
                                           uint64_t *out_n,
                                           libmq_error **err);

/**
 * Removes the dead letters of a queue, or with NULL all; `*out_n` is how many, 0 on failure.
 *
 * Any thread. `out_n` may be NULL. Answers `LIBMQ_E_INVALID` for a name that is none, `LIBMQ_E_STORAGE_FULL`,
 * `LIBMQ_E_POISONED`, `LIBMQ_E_CLOSED`.
 */
libmq_status libmq_dead_letters_purge(libmq_broker *broker,
                                      const char *queue_or_null,
                                      uint64_t *out_n,
                                      libmq_error **err);

#ifdef __cplusplus
}
#endif

#endif
