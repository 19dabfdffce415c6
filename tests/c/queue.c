/* Messages in and out: enqueue, batches, keys, receive, settling, dead letters, figures. */

#include "check.h"

static void what_goes_in_comes_out(void) {
  libmq_broker *broker = open_memory();
  libmq_header headers[] = {{"Kind", "new"}, {"traceparent", "00-1-2-03"}, {"Kind", "second"}};
  libmq_message message = message_of("3 books");
  message.content_type = "text/plain";
  message.correlation_id = "c-1";
  message.headers = headers;
  message.headers_len = 3;
  libmq_receipt receipt = {0, 0};
  CHECK_OK(libmq_enqueue(broker, "orders", &message, &receipt, NULL));
  CHECK_NUMBER(receipt.status, LIBMQ_ACCEPTED);

  libmq_delivery *delivery = receive_now(broker, "orders");
  CHECK(body_is(delivery, "3 books"));
  CHECK(libmq_delivery_id(delivery) == receipt.id);
  CHECK(libmq_delivery_token(delivery) != 0);
  CHECK_NUMBER(libmq_delivery_attempt(delivery), 1);
  CHECK_NUMBER(libmq_delivery_max_retries(delivery), 5);
  CHECK_TEXT(libmq_delivery_queue(delivery), "orders");
  CHECK_TEXT(libmq_delivery_content_type(delivery), "text/plain");
  CHECK_TEXT(libmq_delivery_correlation_id(delivery), "c-1");
  CHECK_TEXT(libmq_delivery_header(delivery, "Kind"), "new");
  CHECK(libmq_delivery_header(delivery, "kind") == NULL);
  CHECK(libmq_delivery_header(delivery, NULL) == NULL);
  CHECK_NUMBER(libmq_delivery_headers_len(delivery), 3);
  CHECK_TEXT(libmq_delivery_header_at(delivery, 2).name, "Kind");
  CHECK_TEXT(libmq_delivery_header_at(delivery, 2).value, "second");
  CHECK(libmq_delivery_header_at(delivery, 3).name == NULL && libmq_delivery_header_at(delivery, SIZE_MAX).value == NULL);
  int64_t now_ms = (int64_t)time(NULL) * 1000;
  int64_t enqueued_ms = libmq_delivery_enqueued_at_ms(delivery), deadline_ms = libmq_delivery_deadline_ms(delivery);
  CHECK(enqueued_ms > now_ms - 60000 && enqueued_ms < now_ms + 60000);
  CHECK(deadline_ms > enqueued_ms + 20000 && deadline_ms < enqueued_ms + 60000);
  CHECK(libmq_delivery_cancel_reason(delivery) == NULL);
  /* The same strings each time: they are kept with the delivery. */
  CHECK(libmq_delivery_queue(delivery) == libmq_delivery_queue(delivery));
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  CHECK(receive_now(broker, "orders") == NULL);
  close_and_free(broker);
}

static void what_was_not_said_has_its_default(void) {
  libmq_broker *broker = open_memory();
  libmq_message message = LIBMQ_MESSAGE_INIT;
  CHECK_OK(libmq_enqueue(broker, "q", &message, NULL, NULL));
  libmq_delivery *delivery = receive_now(broker, "q");
  size_t len = 99;
  const char *body = libmq_delivery_body(delivery, &len);
  CHECK(body != NULL && len == 0 && body[0] == 0);
  CHECK(libmq_delivery_body(delivery, NULL) == body);
  CHECK_TEXT(libmq_delivery_content_type(delivery), "application/octet-stream");
  CHECK(libmq_delivery_correlation_id(delivery) == NULL);
  CHECK_NUMBER(libmq_delivery_headers_len(delivery), 0);
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  close_and_free(broker);
}

static void a_body_may_hold_anything(void) {
  libmq_broker *broker = open_memory();
  static char body[1 << 20];
  for (size_t i = 0; i < sizeof body; i++) body[i] = (char)(i * 7);
  libmq_message message = LIBMQ_MESSAGE_INIT;
  message.body = body;
  message.body_len = sizeof body;
  CHECK_OK(libmq_enqueue(broker, "q", &message, NULL, NULL));
  libmq_delivery *delivery = receive_now(broker, "q");
  size_t len = 0;
  const void *received = libmq_delivery_body(delivery, &len);
  CHECK(len == sizeof body && memcmp(received, body, len) == 0);
  libmq_delivery_free(delivery);
  close_and_free(broker);
}

static void a_batch_is_all_or_nothing_in_its_order(void) {
  libmq_broker *broker = open_memory();
  libmq_message messages[3] = {message_of("a"), message_of("b"), message_of("c")};
  libmq_receipt receipts[3];
  CHECK_OK(libmq_enqueue_batch(broker, "q", messages, 3, receipts, NULL));
  CHECK(receipts[0].id < receipts[1].id && receipts[1].id < receipts[2].id);
  CHECK(receipts[0].status == LIBMQ_ACCEPTED && receipts[2].status == LIBMQ_ACCEPTED);
  CHECK_OK(libmq_enqueue_batch(broker, "q", messages, 0, NULL, NULL));
  CHECK_OK(libmq_enqueue_batch(broker, "q", NULL, 0, NULL, NULL));
  messages[2].priority = 10;
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", messages, 3, NULL, &error), LIBMQ_E_INVALID, "priority is 10");

  libmq_delivery *deliveries[8];
  size_t n = 99;
  CHECK_OK(libmq_receive_batch(broker, "q", 8, 0, 0, deliveries, &n, NULL));
  CHECK_NUMBER(n, 3);
  for (size_t i = 0; i < 3; i++) {
    CHECK(libmq_delivery_id(deliveries[i]) == receipts[i].id);
    CHECK(body_is(deliveries[i], i == 0 ? "a" : i == 1 ? "b" : "c"));
    CHECK_OK(libmq_delivery_ack(deliveries[i], NULL));
  }
  CHECK_STATUS(libmq_receive_batch(broker, "q", 8, 0, 0, deliveries, &n, NULL), LIBMQ_E_EMPTY);
  CHECK_NUMBER(n, 0);
  close_and_free(broker);
}

/* A program of tomorrow, whose messages are larger, and one of before the first version, of which there is none. */
static void messages_of_other_versions_lie_apart_as_the_first_says(void) {
  libmq_broker *broker = open_memory();
  struct {
    libmq_message known;
    uint64_t unknown[2];
  } later[2] = {{message_of("a"), {0, 0}}, {message_of("b"), {0, 0}}};
  later[0].known.struct_size = later[1].known.struct_size = sizeof later[0];
  CHECK_OK(libmq_enqueue_batch(broker, "q", &later[0].known, 2, NULL, NULL));
  later[1].unknown[1] = 1;
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", &later[0].known, 2, NULL, &error), LIBMQ_E_UNSUPPORTED, "does not know");
  CHECK_STATUS(libmq_enqueue(broker, "q", &later[1].known, NULL, NULL), LIBMQ_E_UNSUPPORTED);

  struct {
    uint32_t struct_size;
    int32_t dedup, priority, durability;
    const void *body;
    size_t body_len;
  } earlier[2] = {{32, 0, 0, 0, "c", 1}, {32, 0, 0, 0, "d", 1}};
  const libmq_message *none = (const libmq_message *)(const void *)earlier;
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", none, 2, NULL, &error), LIBMQ_E_INVALID, "struct_size of messages is 32");
  for (const char *body = "ab"; *body != 0; body++) {
    libmq_delivery *delivery = receive_now(broker, "q");
    size_t len = 0;
    CHECK(*(const char *)libmq_delivery_body(delivery, &len) == *body && len == 1);
    CHECK_OK(libmq_delivery_ack(delivery, NULL));
  }
  libmq_message odd[2] = {message_of("a"), message_of("b")};
  odd[1].struct_size += 8;
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", odd, 2, NULL, &error), LIBMQ_E_INVALID, "another struct_size");
  close_and_free(broker);
}

static libmq_receipt enqueue_keyed(libmq_broker *broker, const char *body, int32_t dedup) {
  libmq_message message = message_of(body);
  message.dedup_key = "ORD-1";
  message.dedup = dedup;
  libmq_receipt receipt;
  CHECK_OK(libmq_enqueue(broker, "q", &message, &receipt, NULL));
  return receipt;
}

static void a_key_meets_the_newest_message_of_its_own(void) {
  libmq_broker *broker = open_memory();
  libmq_receipt first = enqueue_keyed(broker, "1", 0);
  libmq_receipt second = enqueue_keyed(broker, "2", LIBMQ_DEDUP_REPLACE);
  CHECK(first.status == LIBMQ_ACCEPTED && second.status == LIBMQ_REPLACED && second.id == first.id);
  libmq_receipt third = enqueue_keyed(broker, "3", LIBMQ_DEDUP_KEEP);
  CHECK(third.status == LIBMQ_DUPLICATE && third.id == first.id);
  libmq_delivery *delivery = receive_now(broker, "q");
  CHECK(body_is(delivery, "2"));
  libmq_receipt behind = enqueue_keyed(broker, "4", 0);
  CHECK(behind.status == LIBMQ_ACCEPTED && behind.id != first.id);
  CHECK(receive_now(broker, "q") == NULL);
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  delivery = receive_now(broker, "q");
  CHECK(body_is(delivery, "4"));
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  CHECK_NUMBER(metrics_of(broker, "q").duplicates, 1);
  CHECK_NUMBER(metrics_of(broker, "q").replaced, 1);
  close_and_free(broker);
}

static void delays_are_waited_for(void) {
  libmq_broker *broker = open_manual();
  libmq_message later = message_of("later");
  later.delay_ms = 1000;
  CHECK_OK(libmq_enqueue(broker, "q", &later, NULL, NULL));
  libmq_message past = message_of("past");
  past.run_at_ms = 1;
  CHECK_OK(libmq_enqueue(broker, "q", &past, NULL, NULL));
  libmq_message none = message_of("none");
  none.delay_ms = none.run_at_ms = none.expires_in_ms = none.dedup_window_ms = none.priority = LIBMQ_NONE;
  CHECK_OK(libmq_enqueue(broker, "q", &none, NULL, NULL));
  CHECK_NUMBER(metrics_of(broker, "q").ready, 2);
  CHECK_NUMBER(metrics_of(broker, "q").delayed, 1);
  CHECK_OK(libmq_advance(broker, 1000, NULL));
  CHECK_NUMBER(metrics_of(broker, "q").ready, 3);
  later.run_at_ms = 1;
  CHECK_ERROR(libmq_enqueue(broker, "q", &later, NULL, &error), LIBMQ_E_INVALID, "exclude each other");
  later.run_at_ms = -2;
  CHECK_ERROR(libmq_enqueue(broker, "q", &later, NULL, &error), LIBMQ_E_INVALID, "run_at_ms");
  close_and_free(broker);
}

static void a_failure_waits_for_its_backoff_and_ends_as_a_dead_letter(void) {
  libmq_options *options = libmq_options_new();
  CHECK_OK(libmq_options_set_str(options, "clock", "manual", NULL));
  CHECK_OK(libmq_options_set_int(options, "default_max_retries", 1, NULL));
  CHECK_OK(libmq_options_set_int(options, "default_backoff_base_ms", 100, NULL));
  CHECK_OK(libmq_options_set_int(options, "default_backoff_jitter_permille", 0, NULL));
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_broker_open(":memory:", options, &broker, NULL));
  libmq_options_free(options);
  libmq_message message = message_of("x");
  libmq_header header = {"Kind", "odd"};
  message.headers = &header;
  message.headers_len = 1;
  message.correlation_id = "c-9";
  libmq_receipt receipt;
  CHECK_OK(libmq_enqueue(broker, "q", &message, &receipt, NULL));
  CHECK_OK(libmq_delivery_retry(receive_now(broker, "q"), LIBMQ_NONE, "no luck", NULL));
  CHECK(receive_now(broker, "q") == NULL);
  CHECK_OK(libmq_advance(broker, 99, NULL));
  CHECK(receive_now(broker, "q") == NULL);
  CHECK_OK(libmq_advance(broker, 1, NULL));
  libmq_delivery *delivery = receive_now(broker, "q");
  CHECK_NUMBER(libmq_delivery_attempt(delivery), 2);
  CHECK_OK(libmq_delivery_retry(delivery, 0, "no luck again", NULL));
  CHECK(receive_now(broker, "q") == NULL);

  libmq_dead_letters *dead = NULL;
  CHECK_OK(libmq_dead_letters_list(broker, "q", 10, 0, &dead, NULL));
  CHECK_NUMBER(libmq_dead_letters_len(dead), 1);
  CHECK(libmq_dead_letter_id(dead, 0) == receipt.id);
  CHECK_TEXT(libmq_dead_letter_queue(dead, 0), "q");
  CHECK_TEXT(libmq_dead_letter_reason(dead, 0), "max_retries");
  CHECK_TEXT(libmq_dead_letter_error(dead, 0), "no luck again");
  CHECK_TEXT(libmq_dead_letter_correlation_id(dead, 0), "c-9");
  CHECK_TEXT(libmq_dead_letter_header(dead, 0, "Kind"), "odd");
  CHECK(libmq_dead_letter_header(dead, 0, "Other") == NULL);
  CHECK_NUMBER(libmq_dead_letter_attempts(dead, 0), 2);
  CHECK(libmq_dead_letter_failed_at_ms(dead, 0) >= 0);
  size_t len = 0;
  CHECK(memcmp(libmq_dead_letter_body(dead, 0, &len), "x", 1) == 0 && len == 1);
  /* Beyond its end. */
  CHECK(libmq_dead_letter_id(dead, 1) == 0 && libmq_dead_letter_queue(dead, 1) == NULL);
  CHECK(libmq_dead_letter_body(dead, 1, &len) == NULL && len == 0);
  CHECK_NUMBER(libmq_dead_letter_failed_at_ms(dead, SIZE_MAX), -1);

  libmq_receipt replayed;
  CHECK_OK(libmq_dead_letter_replay(broker, receipt.id, &replayed, NULL));
  CHECK(replayed.status == LIBMQ_ACCEPTED && replayed.id != receipt.id);
  CHECK_ERROR(libmq_dead_letter_replay(broker, receipt.id, NULL, &error), LIBMQ_E_NOT_FOUND, "no dead letter");
  /* The list is a copy. */
  CHECK_NUMBER(libmq_dead_letters_len(dead), 1);
  libmq_dead_letters_free(dead);
  delivery = receive_now(broker, "q");
  CHECK_NUMBER(libmq_delivery_attempt(delivery), 1);
  CHECK_TEXT(libmq_delivery_header(delivery, "Kind"), "odd");
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  close_and_free(broker);
}

static void dead_letters_are_listed_found_replayed_and_purged(void) {
  libmq_broker *broker = open_memory();
  uint64_t ids[4];
  for (int i = 0; i < 4; i++) {
    ids[i] = enqueue_text(broker, i < 3 ? "q" : "other", "x");
    CHECK_OK(libmq_delivery_reject(receive_now(broker, i < 3 ? "q" : "other"), i == 0 ? "broken" : NULL, NULL));
  }
  libmq_dead_letters *dead = NULL;
  CHECK_OK(libmq_dead_letters_list(broker, NULL, 2, ids[0], &dead, NULL));
  CHECK_NUMBER(libmq_dead_letters_len(dead), 2);
  CHECK(libmq_dead_letter_id(dead, 0) == ids[1] && libmq_dead_letter_id(dead, 1) == ids[2]);
  CHECK_TEXT(libmq_dead_letter_reason(dead, 0), "rejected");
  libmq_dead_letters_free(dead);
  CHECK_OK(libmq_dead_letters_get(broker, ids[0], &dead, NULL));
  CHECK_NUMBER(libmq_dead_letters_len(dead), 1);
  CHECK_TEXT(libmq_dead_letter_reason(dead, 0), "broken");
  libmq_dead_letters_free(dead);
  CHECK_STATUS(libmq_dead_letters_get(broker, 12345, &dead, NULL), LIBMQ_E_NOT_FOUND);
  CHECK(dead == NULL);

  uint64_t n = 0;
  CHECK_OK(libmq_dead_letters_replay_all(broker, "q", &n, NULL));
  CHECK_NUMBER(n, 3);
  CHECK_OK(libmq_dead_letters_purge(broker, "q", &n, NULL));
  CHECK_NUMBER(n, 0);
  CHECK_OK(libmq_dead_letters_purge(broker, NULL, &n, NULL));
  CHECK_NUMBER(n, 1);
  CHECK_NUMBER(metrics_of(broker, "q").ready, 3);
  CHECK_NUMBER(metrics_of(broker, NULL).dead, 0);
  close_and_free(broker);
}

static void texts_that_are_no_utf8_are_kept_as_far_as_they_go(void) {
  libmq_broker *broker = open_memory();
  enqueue_text(broker, "q", "x");
  CHECK_OK(libmq_delivery_reject(receive_now(broker, "q"), "a\xff" "b", NULL));
  libmq_dead_letters *dead = NULL;
  CHECK_OK(libmq_dead_letters_list(broker, NULL, 1, 0, &dead, NULL));
  CHECK_TEXT(libmq_dead_letter_reason(dead, 0), "a\xef\xbf\xbd" "b");
  libmq_dead_letters_free(dead);
  close_and_free(broker);
}

static void released_messages_are_not_counted(void) {
  libmq_broker *broker = open_manual();
  enqueue_text(broker, "q", "x");
  CHECK_OK(libmq_delivery_release(receive_now(broker, "q"), 500, NULL));
  CHECK(receive_now(broker, "q") == NULL);
  CHECK_OK(libmq_advance(broker, 500, NULL));
  libmq_delivery *delivery = receive_now(broker, "q");
  CHECK_NUMBER(libmq_delivery_attempt(delivery), 1);
  libmq_delivery_free(delivery);
  delivery = receive_now(broker, "q");
  CHECK_NUMBER(libmq_delivery_attempt(delivery), 1);
  CHECK_OK(libmq_delivery_release(delivery, LIBMQ_NONE, NULL));
  CHECK_NUMBER(metrics_of(broker, "q").released, 3);
  CHECK_NUMBER(metrics_of(broker, "q").ready, 1);
  close_and_free(broker);
}

static void a_lease_runs_out_unless_it_is_extended(void) {
  libmq_broker *broker = open_manual();
  enqueue_text(broker, "q", "x");
  libmq_delivery *delivery = NULL;
  CHECK_OK(libmq_receive(broker, "q", 0, 1000, &delivery, NULL));
  int64_t deadline = libmq_delivery_deadline_ms(delivery);
  CHECK_OK(libmq_delivery_extend(delivery, 5000, NULL));
  CHECK_NUMBER(libmq_delivery_deadline_ms(delivery), deadline + 4000);
  CHECK_OK(libmq_delivery_extend(delivery, 10, NULL));
  CHECK_NUMBER(libmq_delivery_deadline_ms(delivery), deadline + 4000);
  CHECK_STATUS(libmq_delivery_extend(delivery, 24 * 3600 * 1000 + 1, NULL), LIBMQ_E_INVALID);
  CHECK_STATUS(libmq_delivery_extend(delivery, -1, NULL), LIBMQ_E_INVALID);
  CHECK_OK(libmq_advance(broker, 4999, NULL));
  CHECK(libmq_delivery_cancel_reason(delivery) == NULL);
  CHECK_OK(libmq_advance(broker, 1, NULL));
  CHECK_TEXT(libmq_delivery_cancel_reason(delivery), "lease_lost");
  CHECK_STATUS(libmq_delivery_extend(delivery, 10, NULL), LIBMQ_E_STALE_LEASE);
  libmq_delivery *again = receive_now(broker, "q");
  CHECK_NUMBER(libmq_delivery_attempt(again), 2);
  CHECK(libmq_delivery_token(again) > libmq_delivery_token(delivery));
  CHECK_ERROR(libmq_delivery_ack(delivery, &error), LIBMQ_E_STALE_LEASE, "lease was lost");
  /* The handle is gone, though the call failed. */
  CHECK_STATUS(libmq_delivery_ack(delivery, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_OK(libmq_delivery_ack(again, NULL));
  CHECK_NUMBER(metrics_of(broker, "q").stale_settles, 1);
  close_and_free(broker);
}

static void a_settle_that_fails_gives_the_message_back(void) {
  libmq_broker *broker = open_memory();
  enqueue_text(broker, "q", "x");
  libmq_delivery *delivery = receive_now(broker, "q");
  CHECK_ERROR(libmq_delivery_retry(delivery, -2, NULL, &error), LIBMQ_E_INVALID, "delay_ms is -2");
  CHECK_STATUS(libmq_delivery_ack(delivery, NULL), LIBMQ_E_BAD_HANDLE);
  delivery = receive_now(broker, "q");
  CHECK_STATUS(libmq_delivery_release(delivery, INT64_MAX, NULL), LIBMQ_E_INVALID);
  CHECK_NUMBER(metrics_of(broker, "q").ready, 1);
  close_and_free(broker);
}

static void what_a_delivery_enqueues_comes_with_its_ack(void) {
  libmq_broker *broker = open_memory();
  libmq_message message = message_of("parent");
  message.correlation_id = "c-1";
  libmq_header trace = {"traceparent", "00-1-2-03"};
  message.headers = &trace;
  message.headers_len = 1;
  for (int i = 0; i < 2; i++) {
    CHECK_OK(libmq_enqueue(broker, "q", &message, NULL, NULL));
    libmq_delivery *delivery = receive_now(broker, "q");
    char body[] = "child";
    libmq_message child = message_of(body);
    CHECK_OK(libmq_delivery_enqueue(delivery, "children", &child, NULL));
    memset(body, 0, sizeof body); /* copied */
    CHECK_STATUS(libmq_delivery_enqueue(delivery, "bad name", &child, NULL), LIBMQ_E_INVALID);
    CHECK(receive_now(broker, "children") == NULL);
    if (i == 0) CHECK_OK(libmq_delivery_reject(delivery, "no", NULL));
    else CHECK_OK(libmq_delivery_ack(delivery, NULL));
  }
  libmq_delivery *child = receive_now(broker, "children");
  CHECK(body_is(child, "child"));
  CHECK_TEXT(libmq_delivery_correlation_id(child), "c-1");
  CHECK_TEXT(libmq_delivery_header(child, "traceparent"), "00-1-2-03");
  CHECK(receive_now(broker, "children") == NULL);
  CHECK_OK(libmq_delivery_ack(child, NULL));
  close_and_free(broker);
}

static void figures_count_and_unknown_queues_are_not_found(void) {
  libmq_broker *broker = open_memory();
  CHECK_NUMBER(metrics_of(broker, NULL).oldest_ready_age_ms, -1);
  enqueue_text(broker, "q", "x");
  enqueue_text(broker, "other", "x");
  libmq_metrics metrics = metrics_of(broker, NULL);
  CHECK(metrics.struct_size == sizeof metrics && metrics.reserved == 0);
  CHECK(metrics.ready == 2 && metrics.enqueued == 2 && metrics.oldest_ready_age_ms >= 0);
  CHECK_NUMBER(metrics_of(broker, "q").ready, 1);
  CHECK_ERROR(libmq_metrics_read(broker, "none", &metrics, &error), LIBMQ_E_NOT_FOUND, "no queue none");
  /* Of before the first version, and of tomorrow. */
  libmq_metrics part;
  memset(&part, 0xee, sizeof part);
  part.struct_size = 24;
  CHECK_ERROR(libmq_metrics_read(broker, NULL, &part, &error), LIBMQ_E_INVALID, "struct_size of out is 24");
  CHECK(part.ready == 0xeeeeeeeeeeeeeeee && part.delayed == 0xeeeeeeeeeeeeeeee);
  struct {
    libmq_metrics known;
    uint64_t unknown;
  } later;
  memset(&later, 0xee, sizeof later);
  later.known.struct_size = sizeof later;
  CHECK_OK(libmq_metrics_read(broker, NULL, &later.known, NULL));
  CHECK(later.known.struct_size == sizeof later && later.known.stuck == 0 && later.unknown == 0);
  /* What the broker alone has. */
  metrics = metrics_of(broker, NULL);
  CHECK(metrics.segments > 0 && metrics.journal_bytes > 0 && metrics.memory_bytes > 0 && metrics.snapshots == 0);
  CHECK(metrics.lsn_reserved >= metrics.lsn_written && metrics.lsn_written >= metrics.lsn_durable);
  CHECK(metrics_of(broker, "q").segments == 0 && metrics_of(broker, "q").lsn_reserved == 0);
  CHECK_OK(libmq_snapshot(broker, NULL));
  CHECK_NUMBER(metrics_of(broker, NULL).snapshots, 1);
  close_and_free(broker);
}

static void a_full_broker_says_so(void) {
  libmq_options *options = libmq_options_new();
  CHECK_OK(libmq_options_set_int(options, "capacity", 2, NULL));
  CHECK_OK(libmq_options_set_int(options, "max_message_bytes", 10, NULL));
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_broker_open(":memory:", options, &broker, NULL));
  libmq_options_free(options);
  enqueue_text(broker, "q", "x");
  enqueue_text(broker, "q", "y");
  libmq_message message = message_of("z");
  libmq_error *error = NULL;
  CHECK_STATUS(libmq_enqueue(broker, "q", &message, NULL, &error), LIBMQ_E_FULL);
  CHECK(libmq_error_is_retryable(error) && !libmq_error_is_fatal(error));
  CHECK(libmq_error_path(error) == NULL && libmq_error_os_code(error) == 0);
  libmq_error_free(error);
  message = message_of("12345678901");
  CHECK_ERROR(libmq_enqueue(broker, "q", &message, NULL, &error), LIBMQ_E_TOO_LARGE, "max_message_bytes is 10");
  close_and_free(broker);
}

static void *enqueue_soon(void *broker) {
  sleep_ms(50);
  enqueue_text(broker, "q", "x");
  return NULL;
}

static volatile sig_atomic_t signals_heard;

static void hear(int number) {
  (void)number;
  signals_heard++;
}

/* So a loop that waits for ever and looks at a flag never sees it: the header says so. */
static void a_signal_ends_no_wait(void) {
  libmq_broker *broker = open_memory();
  struct sigaction heard = {0};
  heard.sa_handler = hear;
  CHECK(sigaction(SIGALRM, &heard, NULL) == 0);
  struct timespec began, ended;
  CHECK(clock_gettime(CLOCK_MONOTONIC, &began) == 0);
  alarm(1);
  libmq_delivery *delivery = NULL;
  CHECK_STATUS(libmq_receive(broker, "q", 1500, 0, &delivery, NULL), LIBMQ_E_EMPTY);
  CHECK(clock_gettime(CLOCK_MONOTONIC, &ended) == 0);
  CHECK(signals_heard == 1);
  CHECK((ended.tv_sec - began.tv_sec) * 1000 + (ended.tv_nsec - began.tv_nsec) / 1000000 >= 1499);
  close_and_free(broker);
}

static void a_receive_waits_for_what_comes(void) {
  libmq_broker *broker = open_memory();
  libmq_delivery *delivery = NULL;
  CHECK_ERROR(libmq_receive(broker, "q", 20, 0, &delivery, &error), LIBMQ_E_EMPTY, "nothing came");
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, enqueue_soon, broker) == 0);
  CHECK_OK(libmq_receive(broker, "q", -1, 0, &delivery, NULL));
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  CHECK_STATUS(libmq_receive(broker, "q", -2, 0, &delivery, NULL), LIBMQ_E_INVALID);
  CHECK_STATUS(libmq_receive(broker, "q", 0, -1, &delivery, NULL), LIBMQ_E_INVALID);
  close_and_free(broker);
}

static void metrics_come_as_text_for_prometheus(void) {
  libmq_broker *broker = open_memory();
  char *text = NULL;
  enqueue_text(broker, "orders", "x");
  CHECK_OK(libmq_metrics_text(broker, &text, NULL));
  CHECK(strstr(text, "# TYPE libmq_ready gauge\nlibmq_ready{queue=\"orders\"} 1\n") != NULL);
  CHECK(strstr(text, "libmq_enqueued_total{queue=\"orders\"} 1\n") != NULL);
  libmq_string_free(text);
  close_and_free(broker);
}

int main(void) {
  RUN(what_goes_in_comes_out);
  RUN(what_was_not_said_has_its_default);
  RUN(a_body_may_hold_anything);
  RUN(a_batch_is_all_or_nothing_in_its_order);
  RUN(messages_of_other_versions_lie_apart_as_the_first_says);
  RUN(a_key_meets_the_newest_message_of_its_own);
  RUN(delays_are_waited_for);
  RUN(a_failure_waits_for_its_backoff_and_ends_as_a_dead_letter);
  RUN(dead_letters_are_listed_found_replayed_and_purged);
  RUN(texts_that_are_no_utf8_are_kept_as_far_as_they_go);
  RUN(released_messages_are_not_counted);
  RUN(a_lease_runs_out_unless_it_is_extended);
  RUN(a_settle_that_fails_gives_the_message_back);
  RUN(what_a_delivery_enqueues_comes_with_its_ack);
  RUN(figures_count_and_unknown_queues_are_not_found);
  RUN(a_full_broker_says_so);
  RUN(a_receive_waits_for_what_comes);
  RUN(a_signal_ends_no_wait);
  RUN(metrics_come_as_text_for_prometheus);
  return finished();
}
