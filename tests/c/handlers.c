/* Handlers: what their answers mean, who settles, when a context is dropped, and what waits for itself. */

#include "check.h"

/* A context that counts. */
struct counted {
  atomic_int calls, drops;
  int32_t answer;
  libmq_broker *broker;
};

static int32_t answer(void *ctx, libmq_delivery *delivery) {
  (void)delivery;
  struct counted *counted = ctx;
  atomic_fetch_add(&counted->calls, 1);
  return counted->answer;
}

static void count_drop(void *ctx) {
  struct counted *counted = ctx;
  atomic_fetch_add(&counted->drops, 1);
}

static libmq_handler handler_of(libmq_handle_fn handle, void *ctx) {
  libmq_handler handler = LIBMQ_HANDLER_INIT;
  handler.handle = handle;
  handler.ctx = ctx;
  return handler;
}

/* Registers a handler, starts, and enqueues one message to it. */
static libmq_broker *run_one(libmq_broker *broker, libmq_handler handler) {
  CHECK_OK(libmq_handle(broker, "q", &handler, NULL));
  CHECK_OK(libmq_broker_start(broker, NULL));
  enqueue_text(broker, "q", "x");
  return broker;
}

/* ---- answers -------------------------------------------------------------------------------------------------- */

static libmq_metrics figures_after(int32_t answered, int calls) {
  struct counted counted = {.answer = answered};
  libmq_handler handler = handler_of(answer, &counted);
  handler.backoff_base_ms = 1000000;
  handler.backoff_cap_ms = 1000000;
  handler.backoff_jitter_permille = LIBMQ_NONE;
  libmq_broker *broker = run_one(open_manual(), handler);
  wait_for(&counted.calls, calls);
  for (int i = 0; i < LONG_MS && metrics_of(broker, "q").in_flight > 0; i++) sleep_ms(1);
  CHECK_OK(libmq_broker_stop(broker, LONG_MS, NULL));
  libmq_metrics metrics = metrics_of(broker, "q");
  close_and_free(broker);
  return metrics;
}

static void an_answer_settles(void) {
  libmq_metrics acked = figures_after(LIBMQ_ACK, 1);
  CHECK(acked.acked == 1 && acked.handler_errors == 0 && acked.ready == 0 && acked.parallelism == 1);
  libmq_metrics retried = figures_after(LIBMQ_RETRY, 1);
  CHECK(retried.retried == 1 && retried.handler_errors == 0 && retried.delayed == 1);
  libmq_metrics rejected = figures_after(LIBMQ_REJECT, 1);
  CHECK(rejected.rejected == 1 && rejected.dead == 1 && rejected.handler_errors == 0);
}

static void any_other_answer_is_a_failed_attempt(void) {
  const int32_t others[] = {0, -1, 6, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    libmq_metrics failed = figures_after(others[i], 1);
    CHECK(failed.retried == 1 && failed.handler_errors == 1 && failed.delayed == 1 && failed.acked == 0);
  }
}

static int32_t release_then_ack(void *ctx, libmq_delivery *delivery) {
  CHECK_NUMBER(libmq_delivery_attempt(delivery), 1);
  return atomic_fetch_add((atomic_int *)ctx, 1) == 0 ? LIBMQ_RELEASE : LIBMQ_ACK;
}

static void a_released_message_comes_again_uncounted(void) {
  atomic_int calls = 0;
  libmq_broker *broker = run_one(open_memory(), handler_of(release_then_ack, &calls));
  CHECK_OK(libmq_broker_wait_idle(broker, LONG_MS, NULL));
  CHECK_NUMBER(atomic_load(&calls), 2);
  libmq_metrics metrics = metrics_of(broker, "q");
  CHECK(metrics.released == 1 && metrics.acked == 1);
  close_and_free(broker);
}

static void a_failed_answer_is_named_in_the_dead_letter(void) {
  struct counted counted = {.answer = 77};
  libmq_handler handler = handler_of(answer, &counted);
  handler.max_retries = LIBMQ_NONE;
  libmq_broker *broker = run_one(open_memory(), handler);
  CHECK_OK(libmq_broker_wait_idle(broker, LONG_MS, NULL));
  libmq_dead_letters *dead = NULL;
  CHECK_OK(libmq_dead_letters_list(broker, NULL, 9, 0, &dead, NULL));
  CHECK_NUMBER(libmq_dead_letters_len(dead), 1);
  CHECK_TEXT(libmq_dead_letter_reason(dead, 0), "max_retries");
  CHECK_TEXT(libmq_dead_letter_error(dead, 0), "the handler answered 77");
  libmq_dead_letters_free(dead);
  close_and_free(broker);
}

/* ---- settling from inside and outside --------------------------------------------------------------------------- */

static int32_t settle_then_answer(void *ctx, libmq_delivery *delivery) {
  int call = atomic_fetch_add((atomic_int *)ctx, 1);
  if (call == 0) {
    CHECK_OK(libmq_delivery_retry(delivery, 5, "later", NULL));
    return LIBMQ_DEFER;
  }
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  CHECK_STATUS(libmq_delivery_ack(delivery, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK(libmq_delivery_body(delivery, NULL) == NULL);
  return call % 2 == 0 ? LIBMQ_ACK : LIBMQ_REJECT; /* too late to count */
}

static void what_a_handler_settled_stays_settled(void) {
  atomic_int calls = 0;
  libmq_broker *broker = run_one(open_memory(), handler_of(settle_then_answer, &calls));
  CHECK_OK(libmq_broker_wait_idle(broker, LONG_MS, NULL));
  enqueue_text(broker, "q", "y");
  CHECK_OK(libmq_broker_wait_idle(broker, LONG_MS, NULL));
  libmq_metrics metrics = metrics_of(broker, "q");
  CHECK(metrics.retried == 1 && metrics.acked == 2 && metrics.rejected == 0 && metrics.handler_errors == 0);
  close_and_free(broker);
}

/* What a handler says of itself had no text, or was no error of the handler's: an exception of C++ was counted as a retry. */
static int32_t fail_with_a_text(void *ctx, libmq_delivery *delivery) {
  (void)ctx;
  CHECK_OK(libmq_delivery_fail(delivery, "out of paper", NULL));
  CHECK_STATUS(libmq_delivery_fail(delivery, "again", NULL), LIBMQ_E_BAD_HANDLE);
  return LIBMQ_DEFER;
}

static void what_failed_by_itself_is_the_handlers_error_and_keeps_its_text(void) {
  libmq_handler handler = handler_of(fail_with_a_text, NULL);
  handler.max_retries = LIBMQ_NONE;
  libmq_broker *broker = run_one(open_memory(), handler);
  CHECK_OK(libmq_broker_wait_idle(broker, LONG_MS, NULL));
  libmq_metrics metrics = metrics_of(broker, "q");
  CHECK(metrics.retried == 1 && metrics.handler_errors == 1 && metrics.dead == 1);
  libmq_dead_letters *letters = NULL;
  CHECK_OK(libmq_dead_letters_list(broker, "q", 10, 0, &letters, NULL));
  CHECK_TEXT(libmq_dead_letter_reason(letters, 0), "max_retries");
  CHECK_TEXT(libmq_dead_letter_error(letters, 0), "out of paper");
  libmq_dead_letters_free(letters);
  close_and_free(broker);
}

static int32_t free_inside(void *ctx, libmq_delivery *delivery) {
  (void)ctx;
  libmq_delivery_free(delivery);
  CHECK(body_is(delivery, "x"));
  return LIBMQ_ACK;
}

static void freeing_a_delivery_in_its_own_handler_does_nothing(void) {
  libmq_broker *broker = run_one(open_memory(), handler_of(free_inside, NULL));
  CHECK_OK(libmq_broker_wait_idle(broker, LONG_MS, NULL));
  libmq_metrics metrics = metrics_of(broker, "q");
  CHECK(metrics.acked == 1 && metrics.released == 0);
  close_and_free(broker);
}

/* Hands deliveries over to another thread. */
struct mailbox {
  libmq_delivery *_Atomic delivery;
  atomic_int calls;
};

static int32_t hand_over(void *ctx, libmq_delivery *delivery) {
  struct mailbox *mailbox = ctx;
  atomic_store(&mailbox->delivery, delivery);
  atomic_fetch_add(&mailbox->calls, 1);
  return LIBMQ_DEFER;
}

static void *settle_outside(void *ctx) {
  struct mailbox *mailbox = ctx;
  wait_for(&mailbox->calls, 1);
  sleep_ms(30);
  libmq_delivery *delivery = atomic_load(&mailbox->delivery);
  CHECK(body_is(delivery, "x"));
  CHECK_TEXT(libmq_delivery_queue(delivery), "q");
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  return NULL;
}

static void a_deferred_delivery_keeps_its_place_until_it_is_settled(void) {
  struct mailbox mailbox = {.delivery = NULL};
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, settle_outside, &mailbox) == 0);
  libmq_broker *broker = run_one(open_memory(), handler_of(hand_over, &mailbox));
  enqueue_text(broker, "q", "y");
  wait_for(&mailbox.calls, 1);
  sleep_ms(10);
  CHECK_NUMBER(atomic_load(&mailbox.calls), 1); /* max_parallelism is 1 */
  CHECK(pthread_join(thread, NULL) == 0);
  wait_for(&mailbox.calls, 2);
  /* Freed outside its handler: given back, and it comes again. */
  libmq_delivery *second = atomic_load(&mailbox.delivery);
  libmq_delivery_free(second);
  wait_for(&mailbox.calls, 3);
  CHECK_STATUS(libmq_delivery_ack(second, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_OK(libmq_delivery_ack(atomic_load(&mailbox.delivery), NULL));
  libmq_metrics metrics = metrics_of(broker, "q");
  CHECK(metrics.acked == 2 && metrics.released == 1);
  close_and_free(broker);
}

static void a_stop_waits_for_what_was_deferred(void) {
  struct mailbox mailbox = {.delivery = NULL};
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, settle_outside, &mailbox) == 0);
  libmq_broker *broker = run_one(open_memory(), handler_of(hand_over, &mailbox));
  wait_for(&mailbox.calls, 1);
  CHECK_OK(libmq_broker_stop(broker, LONG_MS, NULL));
  CHECK_NUMBER(metrics_of(broker, "q").acked, 1);
  CHECK(pthread_join(thread, NULL) == 0);
  close_and_free(broker);
}

static void a_stop_that_runs_out_cancels_and_takes_back(void) {
  struct mailbox mailbox = {.delivery = NULL};
  libmq_handler handler = handler_of(hand_over, &mailbox);
  handler.cancel_grace_ms = 50;
  libmq_broker *broker = run_one(open_memory(), handler);
  wait_for(&mailbox.calls, 1);
  CHECK_ERROR(libmq_broker_stop(broker, 0, &error), LIBMQ_E_TIMEOUT, "cancelled");
  libmq_delivery *delivery = atomic_load(&mailbox.delivery);
  CHECK(libmq_delivery_cancel_reason(delivery) != NULL);
  CHECK_STATUS(libmq_delivery_ack(delivery, NULL), LIBMQ_E_STALE_LEASE);
  libmq_metrics metrics = metrics_of(broker, "q");
  CHECK(metrics.ready == 1 && metrics.released == 1);
  close_and_free(broker);
}

/* ---- timeouts ----------------------------------------------------------------------------------------------------- */

static void a_timeout_cancels_and_the_end_of_the_grace_takes_the_lease(void) {
  struct mailbox mailbox = {.delivery = NULL};
  libmq_handler handler = handler_of(hand_over, &mailbox);
  handler.timeout_ms = 1000;
  handler.cancel_grace_ms = 200;
  handler.backoff_base_ms = 50;
  handler.backoff_jitter_permille = LIBMQ_NONE;
  libmq_broker *broker = run_one(open_manual(), handler);
  wait_for(&mailbox.calls, 1);
  libmq_delivery *delivery = atomic_load(&mailbox.delivery);
  CHECK_OK(libmq_delivery_extend(delivery, 1500, NULL));
  CHECK_OK(libmq_advance(broker, 1499, NULL));
  CHECK(libmq_delivery_cancel_reason(delivery) == NULL);
  CHECK_OK(libmq_advance(broker, 1, NULL));
  CHECK_TEXT(libmq_delivery_cancel_reason(delivery), "timeout");
  CHECK_NUMBER(metrics_of(broker, "q").timeouts, 1);
  CHECK_OK(libmq_advance(broker, 200, NULL));
  CHECK_STATUS(libmq_delivery_extend(delivery, 10, NULL), LIBMQ_E_STALE_LEASE);
  CHECK_NUMBER(metrics_of(broker, "q").retried, 1);
  /* Its place is free again, though nobody has settled it. */
  CHECK_OK(libmq_advance(broker, 50, NULL));
  wait_for(&mailbox.calls, 2);
  libmq_delivery *again = atomic_load(&mailbox.delivery);
  CHECK_NUMBER(libmq_delivery_attempt(again), 2);
  CHECK_STATUS(libmq_delivery_ack(delivery, NULL), LIBMQ_E_STALE_LEASE);
  CHECK_OK(libmq_delivery_ack(again, NULL));
  close_and_free(broker);
}

static int32_t extend(void *ctx, libmq_delivery *delivery) {
  *(libmq_status *)ctx = libmq_delivery_extend(delivery, 1000, NULL);
  return LIBMQ_ACK;
}

static void extending_can_be_forbidden(void) {
  libmq_status answered = 1;
  libmq_handler handler = handler_of(extend, &answered);
  handler.no_lease_extension = 1;
  libmq_broker *broker = run_one(open_memory(), handler);
  CHECK_OK(libmq_broker_wait_idle(broker, LONG_MS, NULL));
  CHECK_STATUS(answered, LIBMQ_E_UNSUPPORTED);
  close_and_free(broker);
}

/* ---- children ------------------------------------------------------------------------------------------------------ */

static int32_t enqueue_child(void *ctx, libmq_delivery *delivery) {
  (void)ctx;
  libmq_message child = LIBMQ_MESSAGE_INIT;
  child.body = libmq_delivery_body(delivery, &child.body_len);
  CHECK_OK(libmq_delivery_enqueue(delivery, "children", &child, NULL));
  return libmq_delivery_attempt(delivery) == 1 ? LIBMQ_RETRY : LIBMQ_ACK;
}

static void children_are_there_with_the_ack_and_not_before(void) {
  libmq_handler handler = handler_of(enqueue_child, NULL);
  handler.backoff_base_ms = LIBMQ_NONE;
  libmq_broker *broker = run_one(open_memory(), handler);
  CHECK_OK(libmq_broker_wait_idle(broker, LONG_MS, NULL));
  libmq_delivery *child = receive_now(broker, "children");
  CHECK(body_is(child, "x"));
  CHECK(receive_now(broker, "children") == NULL);
  CHECK_OK(libmq_delivery_ack(child, NULL));
  close_and_free(broker);
}

/* ---- contexts ------------------------------------------------------------------------------------------------------ */

static libmq_handler counting_handler(struct counted *counted) {
  counted->answer = LIBMQ_ACK;
  libmq_handler handler = handler_of(answer, counted);
  handler.drop = count_drop;
  return handler;
}

static void a_context_is_dropped_once_when_the_broker_is_closed(void) {
  for (int round = 0; round < 30; round++) {
    struct counted counted = {0};
    libmq_broker *broker = run_one(open_memory(), counting_handler(&counted));
    CHECK_OK(libmq_broker_wait_idle(broker, LONG_MS, NULL));
    CHECK_NUMBER(atomic_load(&counted.drops), 0);
    CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
    CHECK_NUMBER(atomic_load(&counted.drops), 1);
    libmq_broker_free(broker);
    CHECK_NUMBER(atomic_load(&counted.drops), 1);
  }
}

static void a_context_is_dropped_once_when_its_handler_never_ran(void) {
  struct counted counted = {0};
  libmq_broker *broker = open_memory();
  libmq_handler handler = counting_handler(&counted);
  CHECK_OK(libmq_handle(broker, "q", &handler, NULL));
  close_and_free(broker);
  CHECK_NUMBER(atomic_load(&counted.drops), 1);
  CHECK_NUMBER(atomic_load(&counted.calls), 0);
}

static void a_context_is_dropped_once_when_its_handler_is_replaced(void) {
  struct counted first = {0}, second = {0};
  libmq_broker *broker = run_one(open_memory(), counting_handler(&first));
  wait_for(&first.calls, 1);
  libmq_handler handler = counting_handler(&second);
  CHECK_OK(libmq_handle(broker, "q", &handler, NULL));
  CHECK_NUMBER(atomic_load(&first.drops), 1);
  enqueue_text(broker, "q", "y");
  wait_for(&second.calls, 1);
  CHECK_NUMBER(atomic_load(&first.calls), 1);
  close_and_free(broker);
  CHECK_NUMBER(atomic_load(&first.drops), 1);
  CHECK_NUMBER(atomic_load(&second.drops), 1);
}

static void a_context_is_dropped_once_when_the_broker_is_freed(void) {
  struct counted counted = {0};
  libmq_broker *broker = run_one(open_memory(), counting_handler(&counted));
  wait_for(&counted.calls, 1);
  libmq_broker_free(broker); /* without a close: a crash */
  wait_for(&counted.drops, 1);
  sleep_ms(20);
  CHECK_NUMBER(atomic_load(&counted.drops), 1);
}

static void a_context_is_dropped_at_once_when_registering_fails(void) {
  struct counted counted = {0};
  libmq_handler handler = counting_handler(&counted);
  libmq_broker *broker = open_memory();
  int drops = 0;
  CHECK_STATUS(libmq_handle(broker, "bad name", &handler, NULL), LIBMQ_E_INVALID);
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  CHECK_STATUS(libmq_handle(broker, NULL, &handler, NULL), LIBMQ_E_INVALID);
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  CHECK_STATUS(libmq_handle(NULL, "q", &handler, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  handler.max_parallelism = 5000;
  CHECK_ERROR(libmq_handle(broker, "q", &handler, &error), LIBMQ_E_INVALID, "max_parallelism is 5000");
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  handler.max_parallelism = -7;
  CHECK_ERROR(libmq_handle(broker, "q", &handler, &error), LIBMQ_E_INVALID, "max_parallelism is -7");
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  handler.max_parallelism = 1;
  handler.backoff_factor_permille = 999;
  CHECK_ERROR(libmq_handle(broker, "q", &handler, &error), LIBMQ_E_INVALID,
              "backoff_factor_permille is 999, but goes from 1000 to 1000000");
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  handler.backoff_factor_permille = -5;
  CHECK_ERROR(libmq_handle(broker, "q", &handler, &error), LIBMQ_E_INVALID,
              "backoff_factor_permille is -5, but goes from 1000 to 1000000");
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  handler.backoff_factor_permille = 0;
  handler.backoff_jitter_permille = 1001;
  CHECK_ERROR(libmq_handle(broker, "q", &handler, &error), LIBMQ_E_INVALID,
              "backoff_jitter_permille is 1001, but goes from 0 to 1000");
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  handler.backoff_jitter_permille = 0;
  handler.handle = NULL;
  CHECK_ERROR(libmq_handle(broker, "q", &handler, &error), LIBMQ_E_INVALID, "handle is NULL");
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  handler.handle = answer;
  struct {
    libmq_handler known;
    uint64_t unknown;
  } later = {handler, 1};
  later.known.struct_size = sizeof later;
  CHECK_STATUS(libmq_handle(broker, "q", &later.known, NULL), LIBMQ_E_UNSUPPORTED);
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
  CHECK_STATUS(libmq_handle(broker, "q", &handler, NULL), LIBMQ_E_CLOSED);
  CHECK_NUMBER(atomic_load(&counted.drops), ++drops);
  libmq_broker_free(broker);
  /* Where there is no handler to read, there is no context to drop. */
  handler.struct_size = 0;
  CHECK_STATUS(libmq_handle(broker, "q", &handler, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_STATUS(libmq_handle(broker, "q", NULL, NULL), LIBMQ_E_BAD_HANDLE);
  CHECK_NUMBER(atomic_load(&counted.drops), drops);
  CHECK_NUMBER(atomic_load(&counted.calls), 0);
}

static int32_t slow(void *ctx, libmq_delivery *delivery) {
  (void)delivery;
  struct counted *counted = ctx;
  atomic_fetch_add(&counted->calls, 1);
  sleep_ms(150);
  CHECK_NUMBER(atomic_load(&counted->drops), 0);
  return LIBMQ_ACK;
}

static void a_context_outlives_a_call_that_outlives_the_broker(void) {
  for (int closed = 0; closed < 2; closed++) {
    struct counted counted = {0};
    libmq_handler handler = counting_handler(&counted);
    handler.handle = slow;
    handler.cancel_grace_ms = LIBMQ_NONE;
    libmq_broker *broker = run_one(open_memory(), handler);
    wait_for(&counted.calls, 1);
    if (closed) CHECK_STATUS(libmq_broker_close(broker, 0, NULL), LIBMQ_E_TIMEOUT);
    libmq_broker_free(broker);
    wait_for(&counted.drops, 1);
  }
}

/* ---- waiting for oneself ---------------------------------------------------------------------------------------- */

static int32_t wait_for_itself(void *ctx, libmq_delivery *delivery) {
  (void)delivery;
  struct counted *counted = ctx;
  libmq_broker *broker = counted->broker;
  libmq_handler handler = handler_of(answer, counted);
  CHECK_ERROR(libmq_broker_close(broker, 10, &error), LIBMQ_E_DEADLOCK, "close");
  CHECK_ERROR(libmq_broker_stop(broker, 10, &error), LIBMQ_E_DEADLOCK, "stop");
  CHECK_ERROR(libmq_broker_wait_idle(broker, 10, &error), LIBMQ_E_DEADLOCK, "wait_idle");
  CHECK_STATUS(libmq_handle(broker, "q", &handler, NULL), LIBMQ_E_DEADLOCK);
  CHECK_OK(libmq_broker_start(broker, NULL));
  CHECK_OK(libmq_handle(broker, "another", &handler, NULL));
  enqueue_text(broker, "free", "fine");
  CHECK_OK(libmq_snapshot(broker, NULL));
  metrics_of(broker, NULL);
  atomic_fetch_add(&counted->calls, 1);
  return LIBMQ_ACK;
}

static void wait_in_drop(void *ctx) {
  struct counted *counted = ctx;
  libmq_broker *broker = counted->broker;
  libmq_handler handler = handler_of(answer, counted);
  CHECK_STATUS(libmq_broker_close(broker, 10, NULL), LIBMQ_E_DEADLOCK);
  CHECK_STATUS(libmq_broker_stop(broker, 10, NULL), LIBMQ_E_DEADLOCK);
  CHECK_STATUS(libmq_broker_start(broker, NULL), LIBMQ_E_DEADLOCK);
  CHECK_STATUS(libmq_broker_wait_idle(broker, 10, NULL), LIBMQ_E_DEADLOCK);
  CHECK_STATUS(libmq_handle(broker, "more", &handler, NULL), LIBMQ_E_DEADLOCK);
  atomic_fetch_add(&counted->drops, 1);
}

static void what_would_wait_for_itself_is_refused(void) {
  struct counted counted = {.answer = LIBMQ_ACK, .broker = open_memory()};
  libmq_handler handler = handler_of(wait_for_itself, &counted);
  handler.drop = wait_in_drop;
  run_one(counted.broker, handler);
  wait_for(&counted.calls, 1);
  CHECK_OK(libmq_broker_wait_idle(counted.broker, LONG_MS, NULL));
  CHECK_OK(libmq_broker_close(counted.broker, LONG_MS, NULL));
  CHECK_NUMBER(atomic_load(&counted.drops), 1);
  libmq_broker_free(counted.broker);
}

static int32_t free_broker_inside(void *ctx, libmq_delivery *delivery) {
  struct counted *counted = ctx;
  libmq_broker_free(counted->broker);
  CHECK(body_is(delivery, "x"));
  atomic_fetch_add(&counted->calls, 1);
  return LIBMQ_ACK;
}

static void a_broker_may_be_freed_in_its_own_handler(void) {
  struct counted counted = {.broker = open_memory()};
  libmq_handler handler = handler_of(free_broker_inside, &counted);
  handler.drop = count_drop;
  run_one(counted.broker, handler);
  wait_for(&counted.drops, 1);
  CHECK_NUMBER(atomic_load(&counted.calls), 1);
  CHECK_STATUS(libmq_broker_start(counted.broker, NULL), LIBMQ_E_BAD_HANDLE);
}

/* ---- parallel ------------------------------------------------------------------------------------------------------ */

static atomic_int running, most;

static int32_t meet(void *ctx, libmq_delivery *delivery) {
  (void)delivery;
  int now = atomic_fetch_add(&running, 1) + 1;
  for (int seen = atomic_load(&most); seen < now && !atomic_compare_exchange_weak(&most, &seen, now);) {
  }
  for (int i = 0; i < 2000 && atomic_load(&most) < 4; i++) sleep_ms(1);
  atomic_fetch_sub(&running, 1);
  atomic_fetch_add((atomic_int *)ctx, 1);
  return LIBMQ_ACK;
}

static void as_many_run_at_once_as_were_asked_for(void) {
  atomic_int calls = 0;
  libmq_handler handler = handler_of(meet, &calls);
  handler.max_parallelism = 4;
  handler.min_parallelism = LIBMQ_NONE;
  libmq_broker *broker = open_memory();
  for (int i = 0; i < 40; i++) enqueue_text(broker, "q", "x");
  run_one(broker, handler);
  CHECK_OK(libmq_broker_wait_idle(broker, LONG_MS, NULL));
  CHECK_NUMBER(atomic_load(&calls), 41);
  CHECK_NUMBER(atomic_load(&most), 4);
  close_and_free(broker);
}

int main(void) {
  RUN(an_answer_settles);
  RUN(any_other_answer_is_a_failed_attempt);
  RUN(a_released_message_comes_again_uncounted);
  RUN(a_failed_answer_is_named_in_the_dead_letter);
  RUN(what_a_handler_settled_stays_settled);
  RUN(what_failed_by_itself_is_the_handlers_error_and_keeps_its_text);
  RUN(freeing_a_delivery_in_its_own_handler_does_nothing);
  RUN(a_deferred_delivery_keeps_its_place_until_it_is_settled);
  RUN(a_stop_waits_for_what_was_deferred);
  RUN(a_stop_that_runs_out_cancels_and_takes_back);
  RUN(a_timeout_cancels_and_the_end_of_the_grace_takes_the_lease);
  RUN(extending_can_be_forbidden);
  RUN(children_are_there_with_the_ack_and_not_before);
  RUN(a_context_is_dropped_once_when_the_broker_is_closed);
  RUN(a_context_is_dropped_once_when_its_handler_never_ran);
  RUN(a_context_is_dropped_once_when_its_handler_is_replaced);
  RUN(a_context_is_dropped_once_when_the_broker_is_freed);
  RUN(a_context_is_dropped_at_once_when_registering_fails);
  RUN(a_context_outlives_a_call_that_outlives_the_broker);
  RUN(what_would_wait_for_itself_is_refused);
  RUN(a_broker_may_be_freed_in_its_own_handler);
  RUN(as_many_run_at_once_as_were_asked_for);
  return finished();
}
