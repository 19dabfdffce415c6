/* What a call leaves in its outputs when it fails: that there is nothing, whatever it fails of. A handle, a name or a
 * message was once looked at before some of them, which then kept what they had held. */

#include "check.h"

/* The outputs of all calls. */
static libmq_receipt receipts[2];
static libmq_delivery *deliveries[2];
static libmq_dead_letters *dead;
static libmq_metrics metrics;
static libmq_broker *opened;
static size_t n;
static uint64_t count;
static char *text;
static int fd;

/* Fills the outputs with what is none of a call's. */
static void spoil(void) {
  memset(receipts, 0x55, sizeof receipts);
  memset(&metrics, 0x55, sizeof metrics);
  metrics.struct_size = sizeof metrics;
  deliveries[0] = (libmq_delivery *)(void *)receipts;
  dead = (libmq_dead_letters *)(void *)receipts;
  opened = (libmq_broker *)(void *)receipts;
  text = (char *)receipts;
  n = 7;
  count = 7;
  fd = 7;
}

static bool is_no_receipt(const libmq_receipt *receipt) { return receipt->id == 0 && receipt->status == 0; }

static bool are_no_metrics(void) {
  libmq_metrics none = {0};
  none.struct_size = sizeof none;
  none.oldest_ready_age_ms = -1;
  return memcmp(&metrics, &none, sizeof none) == 0;
}

#define FAILS_WITH(call, expected, left)    \
  do {                                      \
    spoil();                                \
    CHECK_STATUS(call, expected);           \
    CHECK(left);                            \
  } while (0)

/* Every function that takes a broker and leaves something, with arguments of which `queue` alone may be wrong. */
static void every_output_is_emptied(libmq_broker *broker, const char *queue, libmq_status expected) {
  libmq_message message[2] = {message_of("x"), message_of("y")};
  FAILS_WITH(libmq_enqueue(broker, queue, message, receipts, NULL), expected, is_no_receipt(receipts));
  FAILS_WITH(libmq_enqueue_batch(broker, queue, message, 2, receipts, NULL), expected,
             is_no_receipt(receipts) && is_no_receipt(receipts + 1));
  FAILS_WITH(libmq_receive(broker, queue, 0, 0, deliveries, NULL), expected, deliveries[0] == NULL);
  FAILS_WITH(libmq_receive_batch(broker, queue, 2, 0, 0, deliveries, &n, NULL), expected, n == 0);
  FAILS_WITH(libmq_wakeup_open(broker, queue, &fd, NULL), expected, fd == -1);
  FAILS_WITH(libmq_purge(broker, queue, &count, NULL), expected, count == 0);
  FAILS_WITH(libmq_metrics_read(broker, queue, &metrics, NULL), expected, are_no_metrics());
  FAILS_WITH(libmq_dead_letters_list(broker, queue, 1, 0, &dead, NULL), expected, dead == NULL);
  FAILS_WITH(libmq_dead_letters_replay_all(broker, queue, &count, NULL), expected, count == 0);
  FAILS_WITH(libmq_dead_letters_purge(broker, queue, &count, NULL), expected, count == 0);
}

/* Those of them that are given no queue. */
static void every_other_output_is_emptied(libmq_broker *broker, libmq_status expected) {
  FAILS_WITH(libmq_metrics_text(broker, &text, NULL), expected, text == NULL);
  FAILS_WITH(libmq_recovery_json(broker, &text, NULL), expected, text == NULL);
  FAILS_WITH(libmq_dead_letters_get(broker, 1, &dead, NULL), expected, dead == NULL);
  FAILS_WITH(libmq_dead_letter_replay(broker, 1, receipts, NULL), expected, is_no_receipt(receipts));
}

static void outputs_are_emptied_for_a_handle_that_is_none(void) {
  libmq_broker *freed = open_memory();
  close_and_free(freed);
  libmq_broker *none[] = {NULL, freed, (libmq_broker *)(void *)&fd};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
    every_output_is_emptied(none[i], "q", LIBMQ_E_BAD_HANDLE);
    every_other_output_is_emptied(none[i], LIBMQ_E_BAD_HANDLE);
  }
}

static void outputs_are_emptied_for_a_broker_that_is_closed(void) {
  libmq_broker *broker = open_memory();
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
  every_output_is_emptied(broker, "q", LIBMQ_E_CLOSED);
  every_other_output_is_emptied(broker, LIBMQ_E_CLOSED);
  libmq_broker_free(broker);
}

static void outputs_are_emptied_for_a_name_that_is_none(void) {
  libmq_broker *broker = open_memory();
  char long_name[130];
  memset(long_name, 'q', 129);
  long_name[129] = 0;
  const char *none[] = {"", "no such", "q\xff", long_name};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) every_output_is_emptied(broker, none[i], LIBMQ_E_INVALID);
  close_and_free(broker);
}

static void outputs_are_emptied_for_what_is_not_there(void) {
  libmq_broker *broker = open_memory();
  FAILS_WITH(libmq_receive(broker, "q", 0, 0, deliveries, NULL), LIBMQ_E_EMPTY, deliveries[0] == NULL);
  FAILS_WITH(libmq_receive_batch(broker, "q", 2, 0, 0, deliveries, &n, NULL), LIBMQ_E_EMPTY, n == 0);
  FAILS_WITH(libmq_metrics_read(broker, "nobody", &metrics, NULL), LIBMQ_E_NOT_FOUND, are_no_metrics());
  FAILS_WITH(libmq_dead_letters_get(broker, 1, &dead, NULL), LIBMQ_E_NOT_FOUND, dead == NULL);
  FAILS_WITH(libmq_dead_letter_replay(broker, 1, receipts, NULL), LIBMQ_E_NOT_FOUND, is_no_receipt(receipts));
  close_and_free(broker);
}

static void outputs_of_calls_without_a_broker_are_emptied(void) {
  libmq_options *freed = libmq_options_new();
  libmq_options_free(freed);
  FAILS_WITH(libmq_broker_open(":memory:", freed, &opened, NULL), LIBMQ_E_BAD_HANDLE, opened == NULL);
  FAILS_WITH(libmq_broker_open(NULL, NULL, &opened, NULL), LIBMQ_E_INVALID, opened == NULL);
  FAILS_WITH(libmq_verify(NULL, &text, NULL), LIBMQ_E_INVALID, text == NULL);
  FAILS_WITH(libmq_verify("nowhere", &text, NULL), LIBMQ_E_INVALID, text == NULL);
}

static void lengths_of_what_is_none_are_zero(void) {
  n = 7;
  CHECK(libmq_delivery_body(NULL, &n) == NULL && n == 0);
  n = 7;
  CHECK(libmq_dead_letter_body(NULL, 0, &n) == NULL && n == 0);
}

static void an_error_is_left_where_there_is_a_place_alone(void) {
  libmq_error *error = (libmq_error *)(void *)receipts;
  spoil();
  CHECK_STATUS(libmq_receive(NULL, "q", 0, 0, NULL, &error), LIBMQ_E_BAD_HANDLE);
  CHECK_NUMBER(libmq_error_code(error), LIBMQ_E_BAD_HANDLE);
  libmq_error_free(error);
  CHECK_STATUS(libmq_enqueue_batch(NULL, "q", NULL, SIZE_MAX, NULL, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_STATUS(libmq_metrics_read(NULL, NULL, NULL, NULL), LIBMQ_E_BAD_HANDLE);
}

int main(void) {
  RUN(outputs_are_emptied_for_a_handle_that_is_none);
  RUN(outputs_are_emptied_for_a_broker_that_is_closed);
  RUN(outputs_are_emptied_for_a_name_that_is_none);
  RUN(outputs_are_emptied_for_what_is_not_there);
  RUN(outputs_of_calls_without_a_broker_are_emptied);
  RUN(lengths_of_what_is_none_are_zero);
  RUN(an_error_is_left_where_there_is_a_place_alone);
  return finished();
}
