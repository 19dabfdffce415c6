/* Everything a program can get wrong: it is told so, and lives. */

#include "check.h"

#include <dlfcn.h>
#include <sys/mman.h>

#define AS(type, handle) ((type *)(void *)(handle))

static libmq_message message;
static libmq_handler handler;

static int32_t ack(void *ctx, libmq_delivery *delivery) {
  (void)ctx, (void)delivery;
  return LIBMQ_ACK;
}

static void set_up(void) {
  message = message_of("x");
  handler = (libmq_handler)LIBMQ_HANDLER_INIT;
  handler.handle = ack;
}

/* ---- every call, with one handle ------------------------------------------------------------------------------ */

/* Every function that takes a broker, with arguments that are in order. */
static void every_broker_call_answers(libmq_broker *broker, libmq_status expected) {
  libmq_receipt receipts[2];
  libmq_delivery *deliveries[2];
  libmq_dead_letters *dead;
  libmq_metrics metrics = {0};
  metrics.struct_size = sizeof metrics;
  size_t n;
  uint64_t count;
  char *text;
  int fd;
  CHECK_STATUS(libmq_broker_start(broker, NULL), expected);
  CHECK_STATUS(libmq_broker_stop(broker, 0, NULL), expected);
  CHECK_STATUS(libmq_broker_wait_idle(broker, 0, NULL), expected);
  CHECK_STATUS(libmq_enqueue(broker, "q", &message, receipts, NULL), expected);
  CHECK_STATUS(libmq_enqueue_batch(broker, "q", &message, 1, receipts, NULL), expected);
  CHECK_STATUS(libmq_enqueue_async(broker, "q", &message, NULL, NULL, NULL), expected);
  CHECK_STATUS(libmq_handle(broker, "q", &handler, NULL), expected);
  CHECK_STATUS(libmq_receive(broker, "q", 0, 0, deliveries, NULL), expected);
  CHECK_STATUS(libmq_receive_batch(broker, "q", 1, 0, 0, deliveries, &n, NULL), expected);
  CHECK_STATUS(libmq_wakeup_open(broker, "q", &fd, NULL), expected);
  CHECK_STATUS(libmq_wakeup_close(broker, 3, NULL), expected);
  CHECK_STATUS(libmq_scale(broker, "q", 1, NULL), expected);
  CHECK_STATUS(libmq_pause(broker, "q", NULL), expected);
  CHECK_STATUS(libmq_resume(broker, "q", NULL), expected);
  CHECK_STATUS(libmq_cancel(broker, 1, NULL), expected);
  CHECK_STATUS(libmq_purge(broker, "q", &count, NULL), expected);
  CHECK_STATUS(libmq_snapshot(broker, NULL), expected);
  CHECK_STATUS(libmq_backup(broker, "to", NULL), expected);
  CHECK_STATUS(libmq_advance(broker, 1, NULL), expected);
  CHECK_STATUS(libmq_metrics_read(broker, NULL, &metrics, NULL), expected);
  CHECK_STATUS(libmq_metrics_text(broker, &text, NULL), expected);
  CHECK_STATUS(libmq_recovery_json(broker, &text, NULL), expected);
  CHECK_STATUS(libmq_dead_letters_list(broker, NULL, 1, 0, &dead, NULL), expected);
  CHECK_STATUS(libmq_dead_letters_get(broker, 1, &dead, NULL), expected);
  CHECK_STATUS(libmq_dead_letter_replay(broker, 1, receipts, NULL), expected);
  CHECK_STATUS(libmq_dead_letters_replay_all(broker, NULL, &count, NULL), expected);
  CHECK_STATUS(libmq_dead_letters_purge(broker, NULL, &count, NULL), expected);
}

/* The same with nothing but NULL beside the handle, which is looked at first. */
static void every_broker_call_looks_at_its_handle_first(libmq_broker *broker) {
  libmq_status bad = LIBMQ_E_BAD_HANDLE;
  CHECK_STATUS(libmq_broker_close(broker, -9, NULL), bad);
  CHECK_STATUS(libmq_enqueue(broker, NULL, NULL, NULL, NULL), bad);
  CHECK_STATUS(libmq_enqueue_batch(broker, NULL, NULL, SIZE_MAX, NULL, NULL), bad);
  CHECK_STATUS(libmq_handle(broker, NULL, NULL, NULL), bad);
  CHECK_STATUS(libmq_receive(broker, NULL, -9, -9, NULL, NULL), bad);
  CHECK_STATUS(libmq_receive_batch(broker, NULL, SIZE_MAX, -9, -9, NULL, NULL, NULL), bad);
  CHECK_STATUS(libmq_metrics_read(broker, NULL, NULL, NULL), bad);
  CHECK_STATUS(libmq_recovery_json(broker, NULL, NULL), bad);
  CHECK_STATUS(libmq_dead_letters_list(broker, NULL, 0, 0, NULL, NULL), bad);
  libmq_broker_free(broker);
}

static void every_delivery_call_answers(libmq_delivery *delivery, libmq_status expected) {
  CHECK_STATUS(libmq_delivery_extend(delivery, 1, NULL), expected);
  CHECK_STATUS(libmq_delivery_enqueue(delivery, "q", &message, NULL), expected);
  CHECK_STATUS(libmq_delivery_ack(delivery, NULL), expected);
  if (expected == LIBMQ_E_BAD_HANDLE) {
    CHECK_STATUS(libmq_delivery_retry(delivery, 0, "why", NULL), expected);
    CHECK_STATUS(libmq_delivery_fail(delivery, "why", NULL), expected);
    CHECK_STATUS(libmq_delivery_reject(delivery, "why", NULL), expected);
    CHECK_STATUS(libmq_delivery_release(delivery, 0, NULL), expected);
    CHECK_STATUS(libmq_delivery_enqueue(delivery, NULL, NULL, NULL), expected);
  }
}

/* A bad delivery answers the defaults; so does one of a forked child's parent. */
static void every_delivery_accessor_answers_nothing(const libmq_delivery *delivery) {
  size_t len = 7;
  CHECK(libmq_delivery_body(delivery, &len) == NULL && len == 0);
  CHECK(libmq_delivery_body(delivery, NULL) == NULL);
  CHECK(libmq_delivery_id(delivery) == 0 && libmq_delivery_token(delivery) == 0);
  CHECK(libmq_delivery_attempt(delivery) == 0 && libmq_delivery_max_retries(delivery) == 0);
  CHECK(libmq_delivery_queue(delivery) == NULL && libmq_delivery_content_type(delivery) == NULL);
  CHECK(libmq_delivery_correlation_id(delivery) == NULL && libmq_delivery_header(delivery, "a") == NULL);
  CHECK(libmq_delivery_headers_len(delivery) == 0);
  CHECK(libmq_delivery_header_at(delivery, 0).name == NULL && libmq_delivery_header_at(delivery, 0).value == NULL);
  CHECK(libmq_delivery_enqueued_at_ms(delivery) == -1 && libmq_delivery_deadline_ms(delivery) == -1);
  CHECK(libmq_delivery_cancel_reason(delivery) == NULL);
}

static void every_dead_letter_accessor_answers_nothing(const libmq_dead_letters *dead) {
  size_t len = 7;
  CHECK(libmq_dead_letters_len(dead) == 0 && libmq_dead_letter_id(dead, 0) == 0);
  CHECK(libmq_dead_letter_queue(dead, 0) == NULL && libmq_dead_letter_reason(dead, 0) == NULL);
  CHECK(libmq_dead_letter_error(dead, 0) == NULL && libmq_dead_letter_attempts(dead, 0) == 0);
  CHECK(libmq_dead_letter_body(dead, 0, &len) == NULL && len == 0);
  CHECK(libmq_dead_letter_correlation_id(dead, 0) == NULL && libmq_dead_letter_header(dead, 0, "a") == NULL);
  CHECK(libmq_dead_letter_failed_at_ms(dead, 0) == -1);
}

static void every_error_accessor_answers_nothing(const libmq_error *error) {
  CHECK_NUMBER(libmq_error_code(error), LIBMQ_E_BAD_HANDLE);
  CHECK(libmq_error_message(error) == NULL && libmq_error_path(error) == NULL && libmq_error_os_code(error) == 0);
  CHECK(!libmq_error_is_retryable(error) && !libmq_error_is_fatal(error));
}

/* Tries one value as a handle of every type. */
static void is_no_handle(void *value) {
  every_broker_call_answers(AS(libmq_broker, value), LIBMQ_E_BAD_HANDLE);
  every_broker_call_looks_at_its_handle_first(AS(libmq_broker, value));
  every_delivery_call_answers(AS(libmq_delivery, value), LIBMQ_E_BAD_HANDLE);
  every_delivery_accessor_answers_nothing(AS(libmq_delivery, value));
  libmq_delivery_free(AS(libmq_delivery, value));
  every_dead_letter_accessor_answers_nothing(AS(libmq_dead_letters, value));
  libmq_dead_letters_free(AS(libmq_dead_letters, value));
  every_error_accessor_answers_nothing(AS(libmq_error, value));
  libmq_error_free(AS(libmq_error, value));
  libmq_options *options = AS(libmq_options, value);
  libmq_broker *broker;
  CHECK_STATUS(libmq_options_set_int(options, "capacity", 1, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_STATUS(libmq_options_set_int(options, NULL, 1, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_STATUS(libmq_options_set_str(options, "clock", "manual", NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_STATUS(libmq_options_set_log(options, NULL, NULL, NULL), LIBMQ_E_BAD_HANDLE);
  if (options != NULL) CHECK_STATUS(libmq_broker_open(":memory:", options, &broker, NULL), LIBMQ_E_BAD_HANDLE);
  libmq_options_free(options);
}

/* ---- handles --------------------------------------------------------------------------------------------------- */

static void null_is_no_handle(void) {
  is_no_handle(NULL);
}

static void made_up_numbers_are_no_handles(void) {
  char memory[64] = {0};
  is_no_handle(memory);
  void *allocated = malloc(16);
  is_no_handle(allocated);
  free(allocated);
  const uintptr_t numbers[] = {1, 2, 0xdeadbeef, UINTPTR_MAX, UINTPTR_MAX / 2, (uintptr_t)1 << 60, (uintptr_t)5 << 60};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) is_no_handle((void *)numbers[i]);
  uint64_t random = 88172645463325252u;
  for (int i = 0; i < 200; i++) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    is_no_handle((void *)(uintptr_t)random);
  }
}

static void every_bit_of_a_handle_counts(void) {
  libmq_broker *broker = open_memory();
  for (int bit = 0; bit < 64; bit++) {
    libmq_broker *near = (libmq_broker *)((uintptr_t)broker ^ (uintptr_t)1 << bit);
    CHECK_STATUS(libmq_broker_wait_idle(near, 0, NULL), LIBMQ_E_BAD_HANDLE);
  }
  close_and_free(broker);
}

static void handles_of_another_type_are_none(void) {
  libmq_broker *broker = open_memory();
  enqueue_text(broker, "q", "x");
  libmq_delivery *delivery = receive_now(broker, "q");
  libmq_options *options = libmq_options_new();
  libmq_error *error = NULL;
  libmq_dead_letters *dead = NULL;
  CHECK_STATUS(libmq_enqueue(broker, NULL, &message, NULL, &error), LIBMQ_E_INVALID);
  CHECK_OK(libmq_dead_letters_list(broker, NULL, 1, 0, &dead, NULL));
  void *all[] = {broker, delivery, options, error, dead};
  for (size_t i = 0; i < 5; i++) {
    void *handle = all[i];
    if (i != 0) CHECK_STATUS(libmq_snapshot(AS(libmq_broker, handle), NULL), LIBMQ_E_BAD_HANDLE);
    if (i != 1) CHECK_STATUS(libmq_delivery_ack(AS(libmq_delivery, handle), NULL), LIBMQ_E_BAD_HANDLE);
    if (i != 2) CHECK_STATUS(libmq_options_set_int(AS(libmq_options, handle), "capacity", 1, NULL), LIBMQ_E_BAD_HANDLE);
    if (i != 3) every_error_accessor_answers_nothing(AS(libmq_error, handle));
    if (i != 4) every_dead_letter_accessor_answers_nothing(AS(libmq_dead_letters, handle));
    /* Freeing it as what it is not leaves it what it is. */
    if (i != 0) libmq_broker_free(AS(libmq_broker, handle));
    if (i != 1) libmq_delivery_free(AS(libmq_delivery, handle));
    if (i != 2) libmq_options_free(AS(libmq_options, handle));
    if (i != 3) libmq_error_free(AS(libmq_error, handle));
    if (i != 4) libmq_dead_letters_free(AS(libmq_dead_letters, handle));
  }
  CHECK_NUMBER(libmq_error_code(error), LIBMQ_E_INVALID);
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  libmq_options_free(options);
  libmq_error_free(error);
  libmq_dead_letters_free(dead);
  close_and_free(broker);
}

static void freed_handles_are_none_and_may_be_freed_again(void) {
  libmq_broker *broker = open_memory();
  enqueue_text(broker, "q", "x");
  libmq_delivery *delivery = receive_now(broker, "q");
  libmq_options *options = libmq_options_new();
  libmq_error *error = NULL;
  libmq_dead_letters *dead = NULL;
  CHECK_STATUS(libmq_enqueue(broker, NULL, &message, NULL, &error), LIBMQ_E_INVALID);
  CHECK_OK(libmq_dead_letters_list(broker, NULL, 1, 0, &dead, NULL));
  for (int times = 0; times < 3; times++) {
    libmq_delivery_free(delivery);
    libmq_options_free(options);
    libmq_error_free(error);
    libmq_dead_letters_free(dead);
  }
  is_no_handle(delivery);
  is_no_handle(options);
  is_no_handle(error);
  is_no_handle(dead);
  CHECK_NUMBER(metrics_of(broker, "q").released, 1);
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
  for (int times = 0; times < 3; times++) libmq_broker_free(broker);
  is_no_handle(broker);
}

static void texts_that_a_call_made_are_no_handles_nor_handles_texts(void) {
  libmq_broker *broker = open_memory();
  libmq_error *error = NULL;
  char *text = NULL;
  CHECK_OK(libmq_metrics_text(broker, &text, NULL));
  CHECK_STATUS(libmq_enqueue(broker, NULL, &message, NULL, &error), LIBMQ_E_INVALID);
  is_no_handle(text);
  is_no_handle(AS(void, libmq_error_message(error)));
  libmq_string_free(text);
  libmq_string_free(AS(char, error));
  libmq_string_free(AS(char, broker));
  CHECK_NUMBER(libmq_error_code(error), LIBMQ_E_INVALID);
  libmq_error_free(error);
  libmq_string_free(AS(char, error));
  close_and_free(broker);
}

/* A handle of before is not taken for one that has its place now. */
static void stale_handles_do_not_come_back(void) {
  libmq_broker *broker = open_memory();
  libmq_delivery *old[500];
  for (int i = 0; i < 500; i++) {
    enqueue_text(broker, "q", "x");
    old[i] = receive_now(broker, "q");
    CHECK_OK(libmq_delivery_ack(old[i], NULL));
  }
  enqueue_text(broker, "q", "x");
  libmq_delivery *live = receive_now(broker, "q");
  for (int i = 0; i < 500; i++) {
    CHECK(old[i] != live);
    CHECK_STATUS(libmq_delivery_ack(old[i], NULL), LIBMQ_E_BAD_HANDLE);
  }
  CHECK_OK(libmq_delivery_ack(live, NULL));
  close_and_free(broker);
}

static void a_delivery_is_settled_once(void) {
  libmq_broker *broker = open_memory();
  for (int first = 0; first < 5; first++) {
    enqueue_text(broker, "q", "x");
    libmq_delivery *delivery = receive_now(broker, "q");
    if (first == 0) CHECK_OK(libmq_delivery_ack(delivery, NULL));
    if (first == 1) CHECK_OK(libmq_delivery_retry(delivery, 1000000, NULL, NULL));
    if (first == 2) CHECK_OK(libmq_delivery_reject(delivery, NULL, NULL));
    if (first == 3) CHECK_OK(libmq_delivery_release(delivery, 1000000, NULL));
    if (first == 4) libmq_delivery_free(delivery);
    every_delivery_call_answers(delivery, LIBMQ_E_BAD_HANDLE);
    every_delivery_accessor_answers_nothing(delivery);
    libmq_delivery_free(delivery);
  }
  libmq_metrics metrics = metrics_of(broker, "q");
  CHECK(metrics.acked == 1 && metrics.retried == 1 && metrics.rejected == 1 && metrics.released == 2);
  CHECK_NUMBER(metrics.stale_settles, 0);
  close_and_free(broker);
}

/* ---- arguments -------------------------------------------------------------------------------------------------- */

static void null_arguments_are_named(void) {
  libmq_broker *broker = open_memory();
  libmq_receipt receipt;
  libmq_delivery *delivery = NULL;
  size_t n;
  CHECK_ERROR(libmq_enqueue(broker, NULL, &message, &receipt, &error), LIBMQ_E_INVALID, "queue is NULL");
  CHECK_ERROR(libmq_enqueue(broker, "q", NULL, &receipt, &error), LIBMQ_E_INVALID, "message is NULL");
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", NULL, 1, &receipt, &error), LIBMQ_E_INVALID, "messages is NULL");
  CHECK_ERROR(libmq_handle(broker, "q", NULL, &error), LIBMQ_E_INVALID, "handler is NULL");
  CHECK_ERROR(libmq_receive(broker, "q", 0, 0, NULL, &error), LIBMQ_E_INVALID, "out is NULL");
  CHECK_ERROR(libmq_receive(broker, NULL, 0, 0, &delivery, &error), LIBMQ_E_INVALID, "queue is NULL");
  CHECK_ERROR(libmq_receive_batch(broker, "q", 1, 0, 0, &delivery, NULL, &error), LIBMQ_E_INVALID, "out_n is NULL");
  CHECK_ERROR(libmq_receive_batch(broker, "q", 1, 0, 0, NULL, &n, &error), LIBMQ_E_INVALID, "out is NULL");
  CHECK_ERROR(libmq_metrics_read(broker, NULL, NULL, &error), LIBMQ_E_INVALID, "out is NULL");
  CHECK_ERROR(libmq_recovery_json(broker, NULL, &error), LIBMQ_E_INVALID, "out is NULL");
  CHECK_ERROR(libmq_dead_letters_list(broker, NULL, 1, 0, NULL, &error), LIBMQ_E_INVALID, "out is NULL");
  libmq_broker *none = broker;
  CHECK_ERROR(libmq_broker_open(NULL, NULL, &none, &error), LIBMQ_E_INVALID, "path is NULL");
  CHECK(none == NULL);
  CHECK_ERROR(libmq_broker_open(":memory:", NULL, NULL, &error), LIBMQ_E_INVALID, "out is NULL");
  libmq_string_free(NULL);
  close_and_free(broker);
}

static void a_null_body_has_no_length(void) {
  libmq_broker *broker = open_memory();
  libmq_message odd = LIBMQ_MESSAGE_INIT;
  odd.body_len = 1;
  CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "body is NULL");
  odd.body_len = SIZE_MAX;
  CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_TOO_LARGE, "body");
  odd.body = "x";
  CHECK_STATUS(libmq_enqueue(broker, "q", &odd, NULL, NULL), LIBMQ_E_TOO_LARGE);
  odd.body_len = 0;
  CHECK_OK(libmq_enqueue(broker, "q", &odd, NULL, NULL));
  odd.headers_len = 1;
  CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "headers is NULL");
  odd.headers_len = SIZE_MAX;
  CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "headers are");
  libmq_header headers[2] = {{"a", "1"}, {"b", NULL}};
  odd.headers = headers;
  odd.headers_len = 2;
  CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "value is NULL");
  headers[1] = (libmq_header){NULL, "2"};
  CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "name is NULL");
  close_and_free(broker);
}

static void numbers_out_of_range_are_named(void) {
  libmq_broker *broker = open_memory();
  libmq_message odd = message_of("x");
#define REFUSED(field, value, text)                                                             \
  do {                                                                                          \
    odd = message_of("x");                                                                      \
    odd.field = (value);                                                                        \
    CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, text);         \
  } while (0)
  REFUSED(dedup, 3, "dedup is 3");
  REFUSED(dedup, -1, "dedup is -1");
  REFUSED(priority, 10, "priority is 10");
  REFUSED(priority, -2, "priority is -2");
  REFUSED(priority, INT32_MAX, "priority");
  REFUSED(durability, 3, "durability is 3");
  REFUSED(durability, -1, "durability is -1");
  REFUSED(delay_ms, -2, "delay_ms is -2");
  REFUSED(delay_ms, INT64_MAX, "delay");
  REFUSED(run_at_ms, INT64_MIN, "run_at_ms");
  REFUSED(expires_in_ms, -2, "expires_in_ms");
  REFUSED(dedup_window_ms, -2, "dedup_window_ms");
#undef REFUSED
  libmq_message *many = calloc(10001, sizeof *many);
  CHECK(many != NULL);
  for (int i = 0; i < 10001; i++) many[i] = message_of("x");
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", many, 10001, NULL, &error), LIBMQ_E_INVALID, "10001");
  CHECK_STATUS(libmq_enqueue_batch(broker, "q", many, SIZE_MAX, NULL, NULL), LIBMQ_E_INVALID);
  /* Ten thousand receipts were emptied before the length was looked at. */
  libmq_receipt receipt = {.id = 7};
  CHECK_STATUS(libmq_enqueue_batch(broker, "q", many, SIZE_MAX, &receipt, NULL), LIBMQ_E_INVALID);
  CHECK_NUMBER(receipt.id, 7);
  /* What is wrong with one of many is said of that one. */
  many[3].priority = 10;
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", many, 5, NULL, &error), LIBMQ_E_INVALID, "messages[3]: priority is 10");
  many[3].priority = 0;
  size_t too_large = ((size_t)16 << 20) + 1;
  many[2].body = calloc(1, too_large);
  CHECK(many[2].body != NULL);
  many[2].body_len = too_large;
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", many, 5, NULL, &error), LIBMQ_E_TOO_LARGE,
              "messages[2]: body and headers are 16777217 bytes");
  free((void *)many[2].body);
  many[2] = many[1];
  many[4].struct_size += 8;
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", many, 5, NULL, &error), LIBMQ_E_INVALID,
              "messages[4] has another struct_size than the first");
  /* Of one it was not said, though it is a batch as well. */
  many[0].group = "";
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", many, 1, NULL, &error), LIBMQ_E_INVALID, "messages[0]: group takes 1 to");
  free(many);
  libmq_delivery *deliveries[1];
  size_t n;
  CHECK_STATUS(libmq_receive_batch(broker, "q", 0, 0, 0, deliveries, &n, NULL), LIBMQ_E_INVALID);
  CHECK_STATUS(libmq_receive_batch(broker, "q", 10001, 0, 0, deliveries, &n, NULL), LIBMQ_E_INVALID);
  close_and_free(broker);
}

/* Texts lie at the end of a page behind which nothing can be read: whoever reads on dies. */
static void texts_are_checked_and_read_no_further_than_they_go(void) {
  libmq_broker *broker = open_memory();
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *pages = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(pages != MAP_FAILED && mprotect(pages + 3 * page, page, PROT_NONE) == 0);
  memset(pages, 'a', 3 * page);
  char *end = pages + 3 * page;

  /* Beyond the longest queue's name there is nothing to look for. */
  CHECK_ERROR(libmq_enqueue(broker, end - 129, &message, NULL, &error), LIBMQ_E_INVALID, "longer than 128");
  libmq_message odd = message_of("x");
  odd.dedup_key = end - 257;
  CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "dedup_key is longer than 256");
  odd = message_of("x");
  libmq_header header = {end - 65, "x"};
  odd.headers = &header;
  odd.headers_len = 1;
  CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "name is longer than 64");
  header = (libmq_header){"a", end - 4097};
  CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "value is longer than 4096");
  /* A reason is cut where a dead letter's is. */
  enqueue_text(broker, "q", "x");
  CHECK_OK(libmq_delivery_reject(receive_now(broker, "q"), end - 4097, NULL));
  libmq_dead_letters *dead = NULL;
  CHECK_OK(libmq_dead_letters_list(broker, NULL, 1, 0, &dead, NULL));
  CHECK_NUMBER(strlen(libmq_dead_letter_reason(dead, 0)), 4096);
  libmq_dead_letters_free(dead);

  end[-1] = 0;
  CHECK_OK(libmq_enqueue(broker, end - 129, &message, NULL, NULL));
  const char *bad[] = {"", " ", "a/b", "\xff", "\xc3", "q\x01"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    CHECK_STATUS(libmq_enqueue(broker, bad[i], &message, NULL, NULL), LIBMQ_E_INVALID);
    if (i == 1 || i == 2) continue; /* fine in a key */
    odd = message_of("x");
    odd.dedup_key = bad[i];
    CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "dedup_key");
    odd.dedup_key = NULL;
    odd.content_type = bad[i];
    CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "content_type");
    odd.content_type = NULL;
    odd.correlation_id = bad[i];
    CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "correlation_id");
  }
  CHECK_ERROR(libmq_broker_open("\xff", NULL, &(libmq_broker *){NULL}, &error), LIBMQ_E_INVALID, "path is not UTF-8");
  CHECK(munmap(pages, 4 * page) == 0);
  close_and_free(broker);
}

static void structs_of_no_size_are_refused(void) {
  libmq_broker *broker = open_memory();
  const uint32_t sizes[] = {0, 1, 4, 7, 13, 111, 113, 4104, 1 << 20, UINT32_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    libmq_message odd = message_of("x");
    odd.struct_size = sizes[i];
    CHECK_ERROR(libmq_enqueue(broker, "q", &odd, NULL, &error), LIBMQ_E_INVALID, "struct_size");
    CHECK_STATUS(libmq_enqueue_batch(broker, "q", &odd, 1, NULL, NULL), LIBMQ_E_INVALID);
    libmq_handler odd_handler = handler;
    odd_handler.struct_size = sizes[i];
    CHECK_ERROR(libmq_handle(broker, "q", &odd_handler, &error), LIBMQ_E_INVALID, "struct_size");
    libmq_metrics metrics = {0};
    metrics.struct_size = sizes[i];
    CHECK_ERROR(libmq_metrics_read(broker, NULL, &metrics, &error), LIBMQ_E_INVALID, "struct_size");
  }
  libmq_handler nothing = LIBMQ_HANDLER_INIT;
  CHECK_ERROR(libmq_handle(broker, "q", &nothing, &error), LIBMQ_E_INVALID, "handle is NULL");
  close_and_free(broker);
}

static void misaligned_addresses_are_refused(void) {
  libmq_broker *broker = open_memory();
  static _Alignas(16) char memory[512];
  void *odd = memory + 1;
  memcpy(odd, &message, sizeof message);
  CHECK_ERROR(libmq_enqueue(broker, "q", odd, NULL, &error), LIBMQ_E_INVALID, "aligned");
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", odd, 1, NULL, &error), LIBMQ_E_INVALID, "aligned");
  CHECK_ERROR(libmq_enqueue(broker, "q", &message, odd, &error), LIBMQ_E_INVALID, "aligned");
  CHECK_ERROR(libmq_handle(broker, "q", odd, &error), LIBMQ_E_INVALID, "aligned");
  CHECK_ERROR(libmq_receive(broker, "q", 0, 0, odd, &error), LIBMQ_E_INVALID, "aligned");
  CHECK_ERROR(libmq_metrics_read(broker, NULL, odd, &error), LIBMQ_E_INVALID, "aligned");
  CHECK_NUMBER(metrics_of(broker, NULL).enqueued, 0);
  /* Where the error has no place to go, the status stands for itself. */
  CHECK_STATUS(libmq_enqueue(broker, "q", NULL, NULL, odd), LIBMQ_E_INVALID);
  libmq_message headed = message_of("x");
  headed.headers = odd;
  headed.headers_len = 1;
  CHECK_ERROR(libmq_enqueue(broker, "q", &headed, NULL, &error), LIBMQ_E_INVALID, "aligned");
  /* A body may lie anywhere. */
  headed = message_of("x");
  headed.body = odd;
  CHECK_OK(libmq_enqueue(broker, "q", &headed, NULL, NULL));
  close_and_free(broker);
}

static void an_error_is_null_when_all_went_well(void) {
  libmq_broker *broker = open_memory();
  libmq_error *error = AS(libmq_error, &message);
  CHECK_OK(libmq_snapshot(broker, &error));
  CHECK(error == NULL);
  /* Nor is it freed, or looked at, when there is another one. */
  CHECK_STATUS(libmq_enqueue(broker, NULL, &message, NULL, &error), LIBMQ_E_INVALID);
  libmq_error *first = error;
  CHECK_STATUS(libmq_receive(broker, "q", 0, 0, &(libmq_delivery *){NULL}, &error), LIBMQ_E_EMPTY);
  CHECK(error != first);
  CHECK_NUMBER(libmq_error_code(first), LIBMQ_E_INVALID);
  libmq_error_free(first);
  libmq_error_free(error);
  close_and_free(broker);
}

/* ---- other times, processes and threads --------------------------------------------------------------------------- */

static void after_a_close_every_call_answers_closed(void) {
  libmq_broker *broker = open_memory();
  enqueue_text(broker, "q", "x");
  enqueue_text(broker, "q", "y");
  libmq_delivery *delivery = receive_now(broker, "q"), *other = receive_now(broker, "q");
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
  every_broker_call_answers(broker, LIBMQ_E_CLOSED);
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
  CHECK(body_is(delivery, "x"));
  every_delivery_call_answers(delivery, LIBMQ_E_CLOSED);
  libmq_delivery_free(other);
  libmq_broker_free(broker);
}

static void in_a_forked_child_every_call_answers_forked(void) {
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_broker_open("forked", NULL, &broker, NULL));
  enqueue_text(broker, "q", "x");
  enqueue_text(broker, "q", "y");
  libmq_delivery *delivery = receive_now(broker, "q"), *other = receive_now(broker, "q");
  libmq_options *options = libmq_options_new();
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    every_broker_call_answers(broker, LIBMQ_E_FORKED);
    CHECK_STATUS(libmq_broker_close(broker, 0, NULL), LIBMQ_E_FORKED);
    CHECK_ERROR(libmq_snapshot(broker, &error), LIBMQ_E_FORKED, "forked");
    every_delivery_accessor_answers_nothing(delivery);
    every_delivery_call_answers(delivery, LIBMQ_E_FORKED);
    libmq_delivery_free(other);
    libmq_broker_free(broker);
    /* It may have a broker of its own, with options that it inherited. */
    libmq_broker *own = NULL;
    CHECK_STATUS(libmq_broker_open("forked", options, &own, NULL), LIBMQ_E_LOCKED);
    CHECK_OK(libmq_broker_open("forked-child", options, &own, NULL));
    enqueue_text(own, "q", "x");
    CHECK_OK(libmq_delivery_ack(receive_now(own, "q"), NULL));
    close_and_free(own);
    leave("exit 5");
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
  CHECK_NUMBER(WEXITSTATUS(status), 5);
  libmq_options_free(options);
  /* The parent has noticed nothing. */
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  CHECK_OK(libmq_delivery_ack(other, NULL));
  close_and_free(broker);
}

static void *use_and_lose(void *ctx) {
  libmq_broker *broker = *(libmq_broker **)ctx;
  for (;;) {
    libmq_status enqueued = libmq_enqueue(broker, "q", &message, NULL, NULL);
    CHECK(enqueued == LIBMQ_OK || enqueued == LIBMQ_E_CLOSED || enqueued == LIBMQ_E_BAD_HANDLE);
    libmq_delivery *delivery = NULL;
    libmq_status received = libmq_receive(broker, "q", 1, 0, &delivery, NULL);
    if (received == LIBMQ_OK) {
      libmq_status acked = libmq_delivery_ack(delivery, NULL);
      CHECK(acked == LIBMQ_OK || acked == LIBMQ_E_CLOSED || acked == LIBMQ_E_STALE_LEASE);
    } else {
      CHECK(received == LIBMQ_E_EMPTY || received == LIBMQ_E_CLOSED || received == LIBMQ_E_BAD_HANDLE);
    }
    if (enqueued == LIBMQ_E_BAD_HANDLE && received == LIBMQ_E_BAD_HANDLE) return NULL;
  }
}

static void a_broker_may_be_closed_and_freed_while_others_use_it(void) {
  for (int round = 0; round < 10; round++) {
    libmq_broker *broker = open_memory();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, use_and_lose, &broker) == 0);
    sleep_ms(5);
    if (round % 2 == 0) CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
    libmq_broker_free(broker);
    for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  }
}

struct race {
  libmq_delivery *delivery;
  atomic_int settled, start;
};

static void *settle_first(void *ctx) {
  struct race *race = ctx;
  while (!atomic_load(&race->start)) {
  }
  libmq_status status = libmq_delivery_ack(race->delivery, NULL);
  CHECK(status == LIBMQ_OK || status == LIBMQ_E_BAD_HANDLE);
  if (status == LIBMQ_OK) atomic_fetch_add(&race->settled, 1);
  libmq_delivery_id(race->delivery);
  libmq_delivery_extend(race->delivery, 10, NULL);
  libmq_delivery_free(race->delivery);
  return NULL;
}

static void of_many_threads_that_settle_one_does(void) {
  libmq_broker *broker = open_memory();
  for (int round = 0; round < 100; round++) {
    enqueue_text(broker, "q", "x");
    struct race race = {.delivery = receive_now(broker, "q")};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, settle_first, &race) == 0);
    atomic_store(&race.start, 1);
    for (int i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    /* A free may come first; then nobody settles. */
    CHECK(atomic_load(&race.settled) <= 1);
    libmq_delivery *released = receive_now(broker, "q");
    CHECK((released == NULL) == (atomic_load(&race.settled) == 1));
    libmq_delivery_free(released);
    while ((released = receive_now(broker, "q")) != NULL) CHECK_OK(libmq_delivery_ack(released, NULL));
  }
  close_and_free(broker);
}

static void *read_errors(void *error) {
  for (int i = 0; i < 1000; i++) {
    CHECK_NUMBER(libmq_error_code(error), LIBMQ_E_INVALID);
    CHECK(strstr(libmq_error_message(error), "queue") != NULL);
  }
  return NULL;
}

static void any_thread_may_read_an_error(void) {
  libmq_broker *broker = open_memory();
  libmq_error *error = NULL;
  CHECK_STATUS(libmq_enqueue(broker, NULL, &message, NULL, &error), LIBMQ_E_INVALID);
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, read_errors, error) == 0);
  for (int i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  libmq_error_free(error);
  close_and_free(broker);
}

/* ---- another copy of the library -------------------------------------------------------------------------------- */

/* Where this program has its libmq from; false where it has it within. */
static bool library_of_this(char *path, size_t room) {
  FILE *maps = fopen("/proc/self/maps", "r");
  CHECK(maps != NULL);
  bool is_found = false;
  while (!is_found && fgets(path, (int)room, maps) != NULL) {
    const char *begin = strchr(path, '/');
    if (begin == NULL || strstr(begin, "/libmq.so") == NULL) continue;
    memmove(path, begin, strlen(begin) + 1);
    path[strcspn(path, "\n")] = 0;
    is_found = true;
  }
  fclose(maps);
  return is_found;
}

static void copy_file(const char *from, const char *to) {
  char bytes[1 << 16];
  FILE *source = fopen(from, "rb"), *target = fopen(to, "wb");
  CHECK(source != NULL && target != NULL);
  size_t n;
  while ((n = fread(bytes, 1, sizeof bytes, source)) > 0) CHECK(fwrite(bytes, 1, n, target) == n);
  CHECK(fclose(target) == 0 && fclose(source) == 0);
}

/* The first broker of each had the same number, and a message came into the other one's directory. */
static void a_handle_of_another_copy_of_the_library_is_none(void) {
  char path[4096];
  if (!library_of_this(path, sizeof path)) return;
  copy_file(path, "copy.so");
  void *copy = dlopen("./copy.so", RTLD_NOW | RTLD_LOCAL);
  CHECK(copy != NULL);
  /* ISO C has no other way from an address to a function. */
  libmq_status (*open_there)(const char *, const libmq_options *, libmq_broker **, libmq_error **);
  libmq_status (*snapshot_there)(libmq_broker *, libmq_error **);
  void (*free_there)(libmq_broker *);
  *(void **)&open_there = dlsym(copy, "libmq_broker_open");
  *(void **)&snapshot_there = dlsym(copy, "libmq_snapshot");
  *(void **)&free_there = dlsym(copy, "libmq_broker_free");
  CHECK(open_there != libmq_broker_open);
  libmq_broker *here = open_memory(), *there = NULL;
  CHECK_OK(open_there(":memory:", NULL, &there, NULL));
  CHECK_STATUS(libmq_enqueue(there, "q", &message, NULL, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_STATUS(snapshot_there(here, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_OK(snapshot_there(there, NULL));
  free_there(there);
  close_and_free(here);
}

int main(void) {
  set_up();
  /* With the first broker of this one. */
  RUN(a_handle_of_another_copy_of_the_library_is_none);
  RUN(null_is_no_handle);
  RUN(made_up_numbers_are_no_handles);
  RUN(every_bit_of_a_handle_counts);
  RUN(handles_of_another_type_are_none);
  RUN(freed_handles_are_none_and_may_be_freed_again);
  RUN(texts_that_a_call_made_are_no_handles_nor_handles_texts);
  RUN(stale_handles_do_not_come_back);
  RUN(a_delivery_is_settled_once);
  RUN(null_arguments_are_named);
  RUN(a_null_body_has_no_length);
  RUN(numbers_out_of_range_are_named);
  RUN(texts_are_checked_and_read_no_further_than_they_go);
  RUN(structs_of_no_size_are_refused);
  RUN(misaligned_addresses_are_refused);
  RUN(an_error_is_null_when_all_went_well);
  RUN(after_a_close_every_call_answers_closed);
  RUN(in_a_forked_child_every_call_answers_forked);
  RUN(a_broker_may_be_closed_and_freed_while_others_use_it);
  RUN(of_many_threads_that_settle_one_does);
  RUN(any_thread_may_read_an_error);
  return finished();
}
