/* What errors say: the name of the field or argument that is wrong, as C has it; and what is said of what was never freed. */

#include "check.h"

static int32_t ack(void *ctx, libmq_delivery *delivery) {
  (void)ctx, (void)delivery;
  return LIBMQ_ACK;
}

/* Above ten years. */
#define TOO_LONG 400000000000

static void a_messages_fields_are_named(void) {
  libmq_broker *broker = open_memory();
#define REFUSED(set, text)                                                                             \
  do {                                                                                                 \
    libmq_message odd = message_of("x");                                                               \
    set;                                                                                               \
    CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, text);                \
    libmq_message two[2] = {message_of("x"), odd};                                                     \
    CHECK_ERROR(libmq_enqueue_batch(broker, "q", two, 2, NULL, &error), LIBMQ_E_INVALID, "messages[1]: " text); \
    CHECK_ERROR(libmq_enqueue_async(broker, "q", &odd, NULL, NULL, &error), LIBMQ_E_INVALID, "done");  \
  } while (0)
  REFUSED(odd.delay_ms = TOO_LONG, "delay_ms is above ten years");
  REFUSED(odd.expires_in_ms = TOO_LONG, "expires_in_ms is above ten years");
  REFUSED((odd.dedup_window_ms = TOO_LONG, odd.dedup_key = "k"), "dedup_window_ms is above ten years");
  REFUSED(odd.run_at_ms = INT64_MAX / 4, "run_at_ms is more than ten years from now");
  REFUSED((odd.delay_ms = 1, odd.run_at_ms = 1), "delay_ms and run_at_ms exclude each other");
  REFUSED((odd.delay_ms = 5, odd.expires_in_ms = 5), "expires_in_ms is over before");
  REFUSED(odd.dedup = 3, "dedup is 3, but takes LIBMQ_DEDUP_REPLACE or LIBMQ_DEDUP_KEEP");
#undef REFUSED
  close_and_free(broker);
}

static void a_handlers_fields_are_named(void) {
  libmq_broker *broker = open_memory();
#define REFUSED(set, text)                                                              \
  do {                                                                                  \
    libmq_handler odd = LIBMQ_HANDLER_INIT;                                             \
    odd.handle = ack;                                                                   \
    set;                                                                                \
    CHECK_ERROR(libmq_handle(broker, "q", &odd, &error), LIBMQ_E_INVALID, text);        \
  } while (0)
  REFUSED(odd.timeout_ms = TOO_LONG, "timeout_ms takes more than zero");
  REFUSED(odd.timeout_ms = -1, "timeout_ms is -1");
  REFUSED(odd.cancel_grace_ms = TOO_LONG, "cancel_grace_ms is above ten years");
  REFUSED(odd.backoff_base_ms = TOO_LONG, "backoff_base_ms and backoff_cap_ms go up to ten years");
  REFUSED(odd.backoff_cap_ms = TOO_LONG, "backoff_base_ms and backoff_cap_ms go up to ten years");
  REFUSED(odd.backoff_factor_permille = 1, "backoff_factor_permille is 1, but goes from 1000 to 1000000");
  REFUSED(odd.backoff_jitter_permille = 1001, "backoff_jitter_permille is 1001, but goes from 0 to 1000");
  REFUSED(odd.max_parallelism = 1025, "max_parallelism is 1025, but goes from 1 to 1024");
  REFUSED((odd.max_parallelism = 2, odd.min_parallelism = 5), "min_parallelism is 5, but goes from 1 to 2");
  REFUSED(odd.min_parallelism = 2, "min_parallelism is 2, but goes from 1 to 1");
  REFUSED(odd.max_retries = 1000001, "max_retries is 1000001");
#undef REFUSED
  close_and_free(broker);
}

static void arguments_are_named(void) {
  libmq_broker *broker = open_manual();
  libmq_delivery *delivery;
  CHECK_ERROR(libmq_receive(broker, "q", 0, TOO_LONG, &delivery, &error), LIBMQ_E_INVALID, "lease_ms takes");
  CHECK_ERROR(libmq_receive(broker, "q", -2, 0, &delivery, &error), LIBMQ_E_INVALID, "timeout_ms is -2");
  CHECK_ERROR(libmq_advance(broker, TOO_LONG, &error), LIBMQ_E_INVALID, "ms takes up to ten years");
  CHECK_ERROR(libmq_advance(broker, -1, &error), LIBMQ_E_INVALID, "ms is -1");
  CHECK_ERROR(libmq_scale(broker, "q", 0, &error), LIBMQ_E_INVALID, "n is 0, but goes from 1 to 1024");
  CHECK_ERROR(libmq_scale(broker, "q", 1025, &error), LIBMQ_E_INVALID, "n is 1025");
  CHECK_ERROR(libmq_scale(broker, "q", -1, &error), LIBMQ_E_INVALID, "n is -1");
  CHECK_ERROR(libmq_broker_stop(broker, -2, &error), LIBMQ_E_INVALID, "timeout_ms is -2");
  enqueue_text(broker, "q", "x");
  delivery = receive_now(broker, "q");
  CHECK_ERROR(libmq_delivery_extend(delivery, TOO_LONG, &error), LIBMQ_E_INVALID, "ms takes at most 24 hours");
  CHECK_ERROR(libmq_delivery_retry(delivery, TOO_LONG, NULL, &error), LIBMQ_E_INVALID, "delay_ms is above ten years");
  delivery = receive_now(broker, "q");
  CHECK_ERROR(libmq_delivery_release(delivery, -2, &error), LIBMQ_E_INVALID, "delay_ms is -2");
  close_and_free(broker);
}

static void options_are_named(void) {
  libmq_options *options = libmq_options_new();
  CHECK_ERROR(libmq_options_set_int(options, "", 1, &error), LIBMQ_E_INVALID, "there is no option \"\" that takes a number");
  CHECK_ERROR(libmq_options_set_str(options, "x", "y", &error), LIBMQ_E_INVALID, "there is no option \"x\" that takes");
  CHECK_ERROR(libmq_options_set_str(options, "durability", "", &error), LIBMQ_E_INVALID, "durability is \"\", but takes");
  static const char *const times[] = {"block_timeout_ms",   "snapshot_interval_ms", "sync_interval_ms",
                                      "default_timeout_ms", "lock_timeout_ms",      "default_backoff_base_ms",
                                      "default_backoff_cap_ms"};
  for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
    libmq_options *odd = libmq_options_new();
    libmq_broker *broker;
    CHECK_OK(libmq_options_set_int(odd, times[i], TOO_LONG, NULL));
    CHECK_ERROR(libmq_broker_open(":memory:", odd, &broker, &error), LIBMQ_E_INVALID, times[i]);
    libmq_options_free(odd);
  }
  libmq_options_free(options);
}

/* It made a directory of that name, which no open opens. */
static void where_there_are_no_files_none_are_copied_or_verified(void) {
  libmq_broker *broker = open_memory();
  CHECK_ERROR(libmq_backup(broker, ":memory:", &error), LIBMQ_E_INVALID, "without files");
  CHECK(access(":memory:", F_OK) != 0);
  char *report = NULL;
  CHECK_ERROR(libmq_verify(":memory:", &report, &error), LIBMQ_E_INVALID, "no files");
  CHECK(report == NULL);
  close_and_free(broker);
}

static void a_wakeup_is_closed_once_also_behind_the_close_of_its_broker(void) {
  libmq_broker *broker = open_memory();
  int fd, other;
  CHECK_OK(libmq_wakeup_open(broker, "q", &fd, NULL));
  CHECK_OK(libmq_wakeup_open(broker, "q", &other, NULL));
  CHECK_OK(libmq_wakeup_close(broker, other, NULL));
  CHECK_ERROR(libmq_wakeup_close(broker, other, &error), LIBMQ_E_INVALID, "fd");
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
  CHECK_OK(libmq_wakeup_close(broker, fd, NULL));
  CHECK_STATUS(libmq_wakeup_close(broker, fd, NULL), LIBMQ_E_CLOSED);
  libmq_broker_free(broker);
}

static void a_key_is_what_its_mode_and_window_are_of(void) {
  libmq_broker *broker = open_memory();
  libmq_message message = message_of("x");
  message.dedup = LIBMQ_DEDUP_KEEP;
  message.dedup_window_ms = 60000;
  for (int i = 0; i < 2; i++) {
    libmq_receipt receipt;
    CHECK_OK(libmq_enqueue(broker, "q", &message, &receipt, NULL));
    CHECK_NUMBER(receipt.status, LIBMQ_ACCEPTED);
  }
  close_and_free(broker);
}

/* What a child has, and when it frees that. */
struct all {
  libmq_error *error;
  libmq_options *options;
  libmq_broker *broker;
  libmq_delivery *delivery;
};
enum when { NEVER, AT_ONCE, AT_ITS_EXIT };

static struct all of_child;
static enum when is_freed = NEVER;

static void free_all(void) {
  libmq_delivery_free(of_child.delivery);
  libmq_error_free(of_child.error);
  libmq_options_free(of_child.options);
  libmq_broker_free(of_child.broker);
}

/* Registered before the first handle, as a destructor of a global in C++ may be: it was called behind the report. */
static void free_at_exit(void) {
  if (is_freed == AT_ITS_EXIT) free_all();
}

/* What a child says at its exit that frees its handles then, before, or not at all. */
static void report_of(enum when when, const char *asked, char *said, size_t room) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    if (asked != NULL) setenv("LIBMQ_LEAKS", asked, 1);
    is_freed = when;
    of_child.options = libmq_options_new();
    of_child.broker = open_memory();
    libmq_snapshot(NULL, &of_child.error);
    enqueue_text(of_child.broker, "q", "x");
    of_child.delivery = receive_now(of_child.broker, "q");
    CHECK_OK(libmq_broker_close(of_child.broker, LONG_MS, NULL));
    if (when == AT_ONCE) free_all();
    exit(0);
  }
  close(ends[1]);
  size_t len = 0;
  ssize_t n;
  while (len < room - 1 && (n = read(ends[0], said + len, room - 1 - len)) > 0) len += (size_t)n;
  said[len] = 0;
  close(ends[0]);
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
}

static void what_is_not_freed_is_counted_at_the_exit_for_who_asks(void) {
  char said[4096];
  /* What this process has is not its child's. */
  libmq_options *options = libmq_options_new();
  const char *nothing = "libmq: not freed: brokers 0, deliveries 0, errors 0, options 0, lists of dead letters 0\n";
  report_of(AT_ONCE, "1", said, sizeof said);
  CHECK(strstr(said, nothing) != NULL);
  report_of(AT_ITS_EXIT, "1", said, sizeof said);
  CHECK(strstr(said, nothing) != NULL);
  report_of(NEVER, "1", said, sizeof said);
  CHECK(strstr(said, "libmq: not freed: brokers 1, deliveries 1, errors 1, options 1, lists of dead letters 0\n") != NULL);
  report_of(NEVER, NULL, said, sizeof said);
  CHECK(strstr(said, "libmq: not freed") == NULL);
  libmq_options_free(options);
}

int main(void) {
  CHECK(atexit(free_at_exit) == 0);
  RUN(a_messages_fields_are_named);
  RUN(a_handlers_fields_are_named);
  RUN(arguments_are_named);
  RUN(options_are_named);
  RUN(where_there_are_no_files_none_are_copied_or_verified);
  RUN(a_wakeup_is_closed_once_also_behind_the_close_of_its_broker);
  RUN(a_key_is_what_its_mode_and_window_are_of);
  RUN(what_is_not_freed_is_counted_at_the_exit_for_who_asks);
  return finished();
}
