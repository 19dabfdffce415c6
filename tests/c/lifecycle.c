/* Opening, closing, dying and coming back. */

#include "check.h"

#include <fcntl.h>

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static libmq_broker *open_at(const char *path) {
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_broker_open(path, NULL, &broker, NULL));
  CHECK(broker != NULL);
  return broker;
}

/* A number of the recovery report. */
static long recovered(libmq_broker *broker, const char *name) {
  char *json = NULL;
  CHECK_OK(libmq_recovery_json(broker, &json, NULL));
  char key[64];
  snprintf(key, sizeof key, "\"%s\":", name);
  const char *found = strstr(json, key);
  CHECK(json[0] == '{' && json[strlen(json) - 1] == '}' && found != NULL);
  long number = strtol(found + strlen(key), NULL, 10);
  libmq_string_free(json);
  return number;
}

static void messages_outlive_a_close(void) {
  libmq_broker *broker = open_at("kept");
  CHECK_NUMBER(recovered(broker, "messages"), 0);
  uint64_t id = enqueue_text(broker, "q", "x");
  CHECK_OK(libmq_snapshot(broker, NULL));
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL)); /* closed already: nothing */
  libmq_broker_free(broker);
  broker = open_at("kept");
  CHECK_NUMBER(recovered(broker, "messages"), 1);
  CHECK_NUMBER(recovered(broker, "suspects"), 0);
  libmq_delivery *delivery = receive_now(broker, "q");
  CHECK(libmq_delivery_id(delivery) == id);
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  close_and_free(broker);
}

static void freeing_without_a_close_is_a_crash_that_loses_nothing(void) {
  libmq_broker *broker = open_at("crashed");
  enqueue_text(broker, "q", "in hand");
  enqueue_text(broker, "q", "waiting");
  libmq_delivery *delivery = receive_now(broker, "q");
  libmq_broker_free(broker);
  CHECK(body_is(delivery, "in hand")); /* a child outlives its parent */
  libmq_broker *again = open_at("crashed");
  CHECK_STATUS(libmq_delivery_ack(delivery, NULL), LIBMQ_E_CLOSED);
  CHECK_NUMBER(recovered(again, "messages"), 2);
  CHECK_NUMBER(recovered(again, "suspects"), 1);
  CHECK_NUMBER(recovered(again, "dropped_bytes"), 0);
  close_and_free(again);
}

static void a_program_that_was_killed_has_lost_nothing(void) {
  int ready[2];
  CHECK(pipe(ready) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    libmq_broker *broker = open_at("killed");
    libmq_message os = message_of("os");
    os.durability = LIBMQ_OS;
    CHECK_OK(libmq_enqueue(broker, "q", &os, NULL, NULL));
    enqueue_text(broker, "q", "sync");
    CHECK(receive_now(broker, "q") != NULL);
    CHECK(write(ready[1], "!", 1) == 1);
    for (;;) pause();
  }
  char byte;
  CHECK(read(ready[0], &byte, 1) == 1);
  /* Somebody else has it: the error says who. */
  char owner[32];
  snprintf(owner, sizeof owner, "%ld", (long)child);
  libmq_broker *broker = NULL;
  CHECK_ERROR(libmq_broker_open("killed", NULL, &broker, &error), LIBMQ_E_LOCKED, owner);
  CHECK(kill(child, SIGKILL) == 0);
  CHECK(waitpid(child, NULL, 0) == child);
  broker = open_at("killed");
  CHECK_NUMBER(recovered(broker, "messages"), 2);
  CHECK_NUMBER(recovered(broker, "suspects"), 1);
  close_and_free(broker);
  close(ready[0]);
  close(ready[1]);
}

static void a_directory_has_one_owner(void) {
  libmq_broker *first = open_at("owned"), *second = first;
  char owner[32];
  snprintf(owner, sizeof owner, "%ld", (long)getpid());
  libmq_error *error = NULL;
  CHECK_STATUS(libmq_broker_open("owned", NULL, &second, &error), LIBMQ_E_LOCKED);
  CHECK(second == NULL);
  CHECK(strstr(libmq_error_message(error), owner) != NULL);
  CHECK(libmq_error_is_retryable(error) && !libmq_error_is_fatal(error));
  CHECK(strstr(libmq_error_path(error), "owned") != NULL);
  libmq_error_free(error);
  libmq_options *options = libmq_options_new();
  CHECK_OK(libmq_options_set_int(options, "lock_timeout_ms", 30, NULL));
  CHECK_STATUS(libmq_broker_open("owned", options, &second, NULL), LIBMQ_E_LOCKED);
  libmq_options_free(options);
  close_and_free(first);
  close_and_free(open_at("owned"));
}

static void what_is_no_directory_of_ours_is_refused(void) {
  libmq_broker *broker = NULL;
  write_file("file", "text");
  CHECK_ERROR(libmq_broker_open("file", NULL, &broker, &error), LIBMQ_E_INVALID, "file");
  CHECK(mkdir("foreign", 0700) == 0);
  write_file("foreign/letter.txt", "text");
  CHECK_ERROR(libmq_broker_open("foreign", NULL, &broker, &error), LIBMQ_E_INVALID, "foreign");
  CHECK_ERROR(libmq_broker_open("/proc/none/below", NULL, &broker, &error), LIBMQ_E_IO, "/proc/none");
  CHECK(broker == NULL);
  libmq_error *error = NULL;
  CHECK_STATUS(libmq_broker_open("/proc/none/below", NULL, NULL, &error), LIBMQ_E_INVALID);
  libmq_error_free(error);
  CHECK_STATUS(libmq_broker_open("/proc/none/below", NULL, &broker, &error), LIBMQ_E_IO);
  CHECK(libmq_error_os_code(error) != 0 && libmq_error_path(error) != NULL);
  libmq_error_free(error);
  /* It was left alone. */
  char text[8] = {0};
  FILE *file = fopen("foreign/letter.txt", "r");
  CHECK(file != NULL && fread(text, 1, sizeof text, file) == 4 && fclose(file) == 0);
  CHECK_TEXT(text, "text");
}

static void damage_refuses_to_open(void) {
  libmq_broker *broker = open_at("damaged");
  enqueue_text(broker, "q", "something to lose");
  close_and_free(broker);
  CHECK(system("f=$(ls damaged/*.segment | head -n 1) && printf 'XXXX' | dd of=$f bs=1 seek=4160 conv=notrunc 2>/dev/null") == 0);
  libmq_error *error = NULL;
  CHECK_STATUS(libmq_broker_open("damaged", NULL, &broker, &error), LIBMQ_E_CORRUPT);
  CHECK(libmq_error_is_fatal(error));
  CHECK(libmq_error_path(error) != NULL && strstr(libmq_error_path(error), ".segment") != NULL);
  CHECK(strstr(libmq_error_message(error), "offset") != NULL);
  libmq_error_free(error);
}

static void options_are_named_when_they_are_wrong(void) {
  libmq_options *options = libmq_options_new();
  libmq_broker *broker = NULL;
  CHECK_ERROR(libmq_options_set_int(options, "capasity", 1, &error), LIBMQ_E_INVALID, "capasity");
  CHECK_ERROR(libmq_options_set_int(options, "capacity", -5, &error), LIBMQ_E_INVALID, "capacity is -5");
  CHECK_ERROR(libmq_options_set_str(options, "durability", "much", &error), LIBMQ_E_INVALID, "durability is \"much\"");
  CHECK_ERROR(libmq_options_set_str(options, "capacity", "many", &error), LIBMQ_E_INVALID, "capacity");
  CHECK_ERROR(libmq_options_set_log(options, NULL, NULL, &error), LIBMQ_E_INVALID, "log");
  /* A value that is set is meant: 0 is zero. */
  CHECK_OK(libmq_options_set_int(options, "capacity", 0, NULL));
  CHECK_ERROR(libmq_broker_open(":memory:", options, &broker, &error), LIBMQ_E_INVALID, "capacity is 0");
  CHECK_OK(libmq_options_set_int(options, "capacity", 10, NULL));
  CHECK_OK(libmq_options_set_int(options, "max_bytes", LIBMQ_NONE, NULL));
  CHECK_OK(libmq_broker_open(":memory:", options, &broker, NULL));
  close_and_free(broker);
  CHECK_OK(libmq_options_set_int(options, "default_backoff_factor_permille", 1, NULL));
  CHECK_ERROR(libmq_broker_open(":memory:", options, &broker, &error), LIBMQ_E_INVALID,
              "default_backoff_factor_permille is");
  libmq_options_free(options);
}

static void every_option_of_the_documentation_is_known(void) {
  const char *numbers[] = {"capacity", "max_message_bytes", "max_batch_bytes", "max_dead_letters", "block_timeout_ms",
                           "snapshot_interval_ms", "snapshot_threshold", "segment_bytes", "cache_bytes", "sync_interval_ms",
                           "default_timeout_ms", "default_max_retries", "max_crashes", "default_backoff_base_ms",
                           "default_backoff_cap_ms", "default_backoff_factor_permille", "default_backoff_jitter_permille",
                           "lock_timeout_ms"};
  const int64_t values[] = {1000, 1000, 1000, 1000, 1000, 1000, 1000, 1 << 20, 1 << 20, 1000,
                            1000, 7, 9, 10, 1000, 1500, 500, 1000};
  const char *words[][2] = {{"durability", "sync"}, {"durability", "memory"}, {"durability", "os"}, {"on_full", "fail"},
                            {"on_full", "block"}, {"on_corruption", "refuse"}, {"clock", "manual"}, {"clock", "system"}};
  libmq_options *options = libmq_options_new();
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    CHECK_OK(libmq_options_set_int(options, numbers[i], values[i], NULL));
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    CHECK_OK(libmq_options_set_str(options, words[i][0], words[i][1], NULL));
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_broker_open("options", options, &broker, NULL));
  enqueue_text(broker, "q", "x");
  libmq_delivery *delivery = receive_now(broker, "q");
  CHECK_NUMBER(libmq_delivery_max_retries(delivery), 7);
  libmq_delivery_free(delivery);
  close_and_free(broker);
  libmq_options_free(options);
}

static void a_manual_clock_alone_can_be_advanced(void) {
  libmq_broker *broker = open_memory();
  CHECK_ERROR(libmq_advance(broker, 1, &error), LIBMQ_E_INVALID, "clock");
  close_and_free(broker);
  broker = open_manual();
  CHECK_OK(libmq_advance(broker, 1, NULL));
  CHECK_STATUS(libmq_advance(broker, -1, NULL), LIBMQ_E_INVALID);
  CHECK_STATUS(libmq_advance(broker, INT64_MAX, NULL), LIBMQ_E_INVALID);
  close_and_free(broker);
}

static void what_was_given_may_be_freed_in_any_order(void) {
  libmq_options *options = libmq_options_new();
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_broker_open(":memory:", options, &broker, NULL));
  enqueue_text(broker, "q", "dead");
  CHECK_OK(libmq_delivery_reject(receive_now(broker, "q"), "why", NULL));
  enqueue_text(broker, "q", "held");
  libmq_delivery *delivery = receive_now(broker, "q");
  libmq_dead_letters *dead = NULL;
  libmq_error *error = NULL;
  CHECK_OK(libmq_dead_letters_list(broker, NULL, 1, 0, &dead, NULL));
  CHECK_STATUS(libmq_enqueue(broker, "q", NULL, NULL, &error), LIBMQ_E_INVALID);
  libmq_options_free(options);
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
  libmq_broker_free(broker);
  CHECK(body_is(delivery, "held"));
  CHECK_TEXT(libmq_delivery_queue(delivery), "q");
  CHECK_TEXT(libmq_dead_letter_reason(dead, 0), "why");
  CHECK_NUMBER(libmq_error_code(error), LIBMQ_E_INVALID);
  libmq_delivery_free(delivery);
  libmq_dead_letters_free(dead);
  libmq_error_free(error);
}

static void *receive_for_ever(void *broker) {
  libmq_delivery *delivery = NULL;
  CHECK_STATUS(libmq_receive(broker, "q", -1, 0, &delivery, NULL), LIBMQ_E_CLOSED);
  return NULL;
}

static void a_close_ends_those_who_wait(void) {
  libmq_broker *broker = open_memory();
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, receive_for_ever, broker) == 0);
  sleep_ms(50);
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
  for (int i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  libmq_broker_free(broker);
}

static void *wait_for_rest_for_ever(void *broker) {
  CHECK_STATUS(libmq_broker_wait_idle(broker, -1, NULL), LIBMQ_E_CLOSED);
  return NULL;
}

static void *enqueue_into_no_room(void *broker) {
  libmq_message message = message_of("too many");
  CHECK_STATUS(libmq_enqueue(broker, "q", &message, NULL, NULL), LIBMQ_E_CLOSED);
  return NULL;
}

/* A receive without an end was not woken by a free, and kept the directory for ever. */
static void a_free_ends_those_who_wait(void) {
  libmq_options *options = libmq_options_new();
  CHECK_OK(libmq_options_set_int(options, "capacity", 1, NULL));
  CHECK_OK(libmq_options_set_str(options, "on_full", "block", NULL));
  CHECK_OK(libmq_options_set_int(options, "block_timeout_ms", 10 * LONG_MS, NULL));
  libmq_broker *broker = NULL, *next = NULL;
  CHECK_OK(libmq_broker_open("freed", options, &broker, NULL));
  enqueue_text(broker, "other", "held");
  libmq_delivery *held = receive_now(broker, "other");
  void *(*waits[])(void *) = {receive_for_ever, wait_for_rest_for_ever, enqueue_into_no_room};
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, waits[i], broker) == 0);
  sleep_ms(50);
  libmq_broker_free(broker);
  for (int i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK_STATUS(libmq_delivery_ack(held, NULL), LIBMQ_E_CLOSED);
  CHECK_OK(libmq_broker_open("freed", options, &next, NULL));
  libmq_options_free(options);
  close_and_free(next);
}

static void waiting_for_rest_can_run_out(void) {
  libmq_broker *broker = open_memory();
  CHECK_OK(libmq_broker_wait_idle(broker, 0, NULL));
  CHECK_OK(libmq_broker_wait_idle(broker, -1, NULL));
  CHECK_OK(libmq_broker_wait_idle(broker, INT64_MAX, NULL));
  enqueue_text(broker, "q", "x");
  libmq_delivery *delivery = receive_now(broker, "q");
  CHECK_ERROR(libmq_broker_wait_idle(broker, 10, &error), LIBMQ_E_TIMEOUT, "idle");
  CHECK_STATUS(libmq_broker_wait_idle(broker, -2, NULL), LIBMQ_E_INVALID);
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  CHECK_OK(libmq_broker_start(broker, NULL));
  CHECK_OK(libmq_broker_start(broker, NULL));
  CHECK_OK(libmq_broker_stop(broker, -1, NULL));
  CHECK_OK(libmq_broker_stop(broker, 0, NULL));
  CHECK_OK(libmq_broker_close(broker, -1, NULL));
  libmq_broker_free(broker);
}

/* What a report says: the text behind a field's name, up to the field's end. */
static bool says(const char *report, const char *field) {
  const char *found = strstr(report, field);
  return found != NULL && strchr(",}", found[strlen(field)]) != NULL;
}

static void a_copy_is_a_directory_like_any_other(void) {
  libmq_broker *broker = NULL, *copy = NULL;
  char *report = NULL;
  CHECK_OK(libmq_broker_open("copied", NULL, &broker, NULL));
  enqueue_text(broker, "q", "one");
  enqueue_text(broker, "q", "two");
  libmq_delivery *held = receive_now(broker, "q");
  CHECK_OK(libmq_backup(broker, "copy", NULL));
  CHECK_ERROR(libmq_backup(broker, "copy", &error), LIBMQ_E_INVALID, "not empty");
  CHECK_ERROR(libmq_backup(broker, "copied/below", &error), LIBMQ_E_INVALID, "own directory");
  CHECK_ERROR(libmq_backup(broker, "no/where", &error), LIBMQ_E_IO, "no");
  CHECK_STATUS(libmq_backup(broker, "", NULL), LIBMQ_E_INVALID);
  CHECK_STATUS(libmq_backup(broker, NULL, NULL), LIBMQ_E_INVALID);
  CHECK_OK(libmq_delivery_ack(held, NULL));

  CHECK_ERROR(libmq_verify("copied", &report, &error), LIBMQ_E_LOCKED, "open");
  CHECK(report == NULL);
  CHECK_OK(libmq_verify("copy", &report, NULL));
  CHECK(says(report, "\"sound\":true") && says(report, "\"closed\":true") && says(report, "\"messages\":2"));
  CHECK(says(report, "\"problems\":[]"));
  libmq_string_free(report);
  CHECK_STATUS(libmq_verify("copy", NULL, NULL), LIBMQ_E_INVALID);

  CHECK_OK(libmq_broker_open("copy", NULL, &copy, NULL));
  libmq_delivery *again = receive_now(copy, "q");
  CHECK(libmq_delivery_attempt(again) == 1);
  CHECK_OK(libmq_delivery_ack(again, NULL));
  close_and_free(copy);
  close_and_free(broker);
}

static void damage_is_told_by_a_report(void) {
  char *report = NULL;
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_broker_open("verified", NULL, &broker, NULL));
  enqueue_text(broker, "q", "x");
  close_and_free(broker);
  FILE *segment = fopen("verified/00000001.segment", "r+b");
  CHECK(segment != NULL && fputc('L', segment) == 'L' && fclose(segment) == 0);
  CHECK_OK(libmq_verify("verified", &report, NULL));
  CHECK(says(report, "\"sound\":false") && says(report, "\"kind\":\"CORRUPT\"") && says(report, "\"offset\":0"));
  libmq_string_free(report);
}

int main(void) {
  RUN(messages_outlive_a_close);
  RUN(freeing_without_a_close_is_a_crash_that_loses_nothing);
  RUN(a_program_that_was_killed_has_lost_nothing);
  RUN(a_directory_has_one_owner);
  RUN(what_is_no_directory_of_ours_is_refused);
  RUN(damage_refuses_to_open);
  RUN(options_are_named_when_they_are_wrong);
  RUN(every_option_of_the_documentation_is_known);
  RUN(a_manual_clock_alone_can_be_advanced);
  RUN(what_was_given_may_be_freed_in_any_order);
  RUN(a_close_ends_those_who_wait);
  RUN(a_free_ends_those_who_wait);
  RUN(waiting_for_rest_can_run_out);
  RUN(a_copy_is_a_directory_like_any_other);
  RUN(damage_is_told_by_a_report);
  return finished();
}
