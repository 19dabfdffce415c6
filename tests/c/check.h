/* What the C tests share: checks that say what they found, and brokers to try things on.
 *
 * A test is a function whose name is a claim. main() runs them with RUN and ends with `return finished()`; the last line
 * that is printed says how many checks held. The first check that does not ends the program with status 1.
 */

#ifndef CHECK_H
#define CHECK_H

/* fork, mmap, nanosleep and threads, beside C11. */
#define _DEFAULT_SOURCE

#include <libmq.h>

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Long enough for anything that comes at all, on any machine. */
#define LONG_MS 30000

static atomic_int checks_done;
static int tests_run;

#define CHECK(condition)                                                          \
  do {                                                                            \
    atomic_fetch_add(&checks_done, 1);                                            \
    if (!(condition)) {                                                           \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);     \
      exit(1);                                                                    \
    }                                                                             \
  } while (0)

#define CHECK_STATUS(call, expected) check_status(__FILE__, __LINE__, #call, (call), (expected))
#define CHECK_OK(call) CHECK_STATUS(call, LIBMQ_OK)
#define CHECK_TEXT(text, expected) check_text(__FILE__, __LINE__, #text, (text), (expected))
#define CHECK_NUMBER(number, expected) check_number(__FILE__, __LINE__, #number, (int64_t)(number), (int64_t)(expected))

/* Checks that a call fails with this status, and that its error, which the call puts into `error`, contains a text. */
#define CHECK_ERROR(call, expected, text)                                         \
  do {                                                                            \
    libmq_error *error = NULL;                                                    \
    CHECK_STATUS(call, expected);                                                 \
    check_error(__FILE__, __LINE__, #call, error, expected, text);                \
  } while (0)

#define RUN(test)              \
  do {                         \
    printf("%s\n", #test);     \
    fflush(stdout);            \
    test();                    \
    tests_run++;               \
  } while (0)

/* Says what was not run, and why; who counts that finds it in the file that is named by the environment. */
static inline void skip(const char *why) {
  printf("SKIPPED: %s\n", why);
  const char *path = getenv("LIBMQ_SKIPS");
  FILE *skips = path == NULL ? NULL : fopen(path, "a");
  if (skips != NULL) {
    fprintf(skips, "%s\n", why);
    fclose(skips);
  }
}

static inline int finished(void) {
  printf("%d claims, %d checks held\n", tests_run, atomic_load(&checks_done));
  return 0;
}

static inline void check_status(const char *file, int line, const char *call, libmq_status status, libmq_status expected) {
  atomic_fetch_add(&checks_done, 1);
  if (status == expected) return;
  fprintf(stderr, "%s:%d: %s answered %s, not %s\n", file, line, call, libmq_status_name(status),
          libmq_status_name(expected));
  exit(1);
}

static inline void check_text(const char *file, int line, const char *what, const char *text, const char *expected) {
  atomic_fetch_add(&checks_done, 1);
  if (text != NULL && strcmp(text, expected) == 0) return;
  fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", file, line, what, text == NULL ? "(NULL)" : text, expected);
  exit(1);
}

static inline void check_number(const char *file, int line, const char *what, int64_t number, int64_t expected) {
  atomic_fetch_add(&checks_done, 1);
  if (number == expected) return;
  fprintf(stderr, "%s:%d: %s is %" PRId64 ", not %" PRId64 "\n", file, line, what, number, expected);
  exit(1);
}

static inline void check_error(const char *file, int line, const char *call, libmq_error *error, libmq_status expected,
                               const char *text) {
  atomic_fetch_add(&checks_done, 1);
  const char *message = libmq_error_message(error);
  if (libmq_error_code(error) != expected || message == NULL || strstr(message, text) == NULL) {
    fprintf(stderr, "%s:%d: %s said \"%s\", which has no \"%s\"\n", file, line, call, message == NULL ? "(NULL)" : message,
            text);
    exit(1);
  }
  libmq_error_free(error);
}

/* Ends a forked child as another program, so that whoever looks for leaks does not count what its parent's threads had. */
static inline void leave(const char *exit_with) {
  execl("/bin/sh", "sh", "-c", exit_with, (char *)NULL);
  _exit(99);
}

static inline void sleep_ms(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

/* Waits until a number is reached; fails when it is not in time. */
static inline void wait_for(atomic_int *number, int expected) {
  for (int i = 0; i < LONG_MS && atomic_load(number) < expected; i++) sleep_ms(1);
  CHECK_NUMBER(atomic_load(number), expected);
}

/* A broker without files whose time stands still. */
static inline libmq_broker *open_manual(void) {
  libmq_options *options = libmq_options_new();
  CHECK_OK(libmq_options_set_str(options, "clock", "manual", NULL));
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_broker_open(":memory:", options, &broker, NULL));
  libmq_options_free(options);
  return broker;
}

static inline libmq_broker *open_memory(void) {
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_broker_open(":memory:", NULL, &broker, NULL));
  return broker;
}

static inline void close_and_free(libmq_broker *broker) {
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
  libmq_broker_free(broker);
}

static inline libmq_message message_of(const char *body) {
  libmq_message message = LIBMQ_MESSAGE_INIT;
  message.body = body;
  message.body_len = strlen(body);
  return message;
}

static inline uint64_t enqueue_text(libmq_broker *broker, const char *queue, const char *body) {
  libmq_message message = message_of(body);
  libmq_receipt receipt;
  CHECK_OK(libmq_enqueue(broker, queue, &message, &receipt, NULL));
  return receipt.id;
}

/* The next message of a queue, or NULL. */
static inline libmq_delivery *receive_now(libmq_broker *broker, const char *queue) {
  libmq_delivery *delivery = NULL;
  libmq_status status = libmq_receive(broker, queue, 0, 0, &delivery, NULL);
  CHECK(status == (delivery == NULL ? LIBMQ_E_EMPTY : LIBMQ_OK));
  return delivery;
}

static inline bool body_is(const libmq_delivery *delivery, const char *expected) {
  size_t len = 99;
  const void *body = libmq_delivery_body(delivery, &len);
  return body != NULL && len == strlen(expected) && memcmp(body, expected, len) == 0;
}

static inline libmq_metrics metrics_of(libmq_broker *broker, const char *queue_or_null) {
  libmq_metrics metrics = {0};
  metrics.struct_size = sizeof metrics;
  CHECK_OK(libmq_metrics_read(broker, queue_or_null, &metrics, NULL));
  return metrics;
}

#endif
