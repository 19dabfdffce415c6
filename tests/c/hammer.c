/* Many threads at one broker with every kind of call, and callbacks that call back: nothing is lost, and all of it ends. */

#include "check.h"

#include <poll.h>

#define THREADS 32
#define CALLS 400

static libmq_broker *broker;
static atomic_int begun, told, registered, dropped;
/* Places at which a status was seen, by its number without the sign. */
static atomic_int seen[400];

static void tell(void *ctx, libmq_status status, libmq_receipt receipt) {
  (void)ctx;
  CHECK((status == LIBMQ_OK) == (receipt.id != 0));
  atomic_fetch_add(&told, 1);
}

static int32_t handle(void *ctx, libmq_delivery *delivery) {
  (void)ctx;
  uint64_t id = libmq_delivery_id(delivery);
  libmq_message child = LIBMQ_MESSAGE_INIT;
  child.delay_ms = 1;
  if (id % 7 == 0) libmq_delivery_enqueue(delivery, "q0", &child, NULL);
  if (id % 5 == 0) libmq_delivery_ack(delivery, NULL);
  return (int32_t)(id % 5);
}

static void drop(void *ctx) {
  (void)ctx;
  atomic_fetch_add(&dropped, 1);
}

static void settle_all(libmq_delivery **deliveries, size_t n) {
  for (size_t i = 0; i < n; i++) {
    CHECK(libmq_delivery_id(deliveries[i]) != 0);
    CHECK(libmq_delivery_queue(deliveries[i]) != NULL && libmq_delivery_content_type(deliveries[i]) != NULL);
    if (i % 5 == 0) libmq_delivery_ack(deliveries[i], NULL);
    if (i % 5 == 1) libmq_delivery_retry(deliveries[i], 0, "why", NULL);
    if (i % 5 == 2) libmq_delivery_reject(deliveries[i], "why", NULL);
    if (i % 5 == 3) libmq_delivery_release(deliveries[i], 0, NULL);
    libmq_delivery_free(deliveries[i]);
    libmq_delivery_free(deliveries[i]);
    CHECK(libmq_delivery_body(deliveries[i], NULL) == NULL);
  }
}

/* One call of the kind that chance says. */
static libmq_status call(unsigned chance, unsigned *seed, libmq_error **error) {
  const char *queues[] = {"q0", "q1", "q2"};
  const char *queue = queues[(unsigned)rand_r(seed) % 3];
  unsigned rare = (unsigned)rand_r(seed) % 20;
  libmq_message message = message_of(queue);
  message.durability = LIBMQ_OS;
  libmq_delivery *deliveries[8];
  libmq_status status;
  size_t n;
  switch (chance % 22) {
    case 0:
    case 1:
    case 2:
      return libmq_enqueue(broker, queue, &message, NULL, error);
    case 3: {
      libmq_message two[2] = {message, message};
      two[1].dedup_key = "key";
      return libmq_enqueue_batch(broker, queue, two, 2, NULL, error);
    }
    case 4:
    case 5:
      status = libmq_enqueue_async(broker, queue, &message, tell, NULL, error);
      if (status == LIBMQ_OK) atomic_fetch_add(&begun, 1);
      return status;
    case 6:
    case 7:
      status = libmq_receive_batch(broker, queue, 8, 1, 0, deliveries, &n, error);
      settle_all(deliveries, n);
      return status;
    case 8:
      status = libmq_receive(broker, queue, 0, 0, deliveries, error);
      settle_all(deliveries, status == LIBMQ_OK ? 1 : 0);
      return status;
    case 9: {
      libmq_handler handler = LIBMQ_HANDLER_INIT;
      handler.handle = handle;
      handler.drop = drop;
      handler.max_parallelism = 1 + (int32_t)(rare % 3);
      handler.backoff_base_ms = 1;
      if (rare > 4) return LIBMQ_OK;
      atomic_fetch_add(&registered, 1);
      return libmq_handle(broker, queue, &handler, error);
    }
    case 10:
      return libmq_scale(broker, queue, 1 + (int32_t)(rare % 4), error);
    case 11:
      return libmq_pause(broker, queue, error);
    case 12:
      return libmq_resume(broker, queue, error);
    case 13:
      return libmq_cancel(broker, 1 + (uint64_t)rand_r(seed) % 5000, error);
    case 14: {
      uint64_t count;
      return rare == 0 ? libmq_purge(broker, queue, &count, error) : LIBMQ_OK;
    }
    case 15:
      return rare == 0 ? libmq_snapshot(broker, error) : LIBMQ_OK;
    case 16: {
      libmq_metrics metrics = LIBMQ_METRICS_INIT;
      return libmq_metrics_read(broker, rare % 2 == 0 ? queue : NULL, &metrics, error);
    }
    case 17: {
      char *text = NULL;
      status = rare % 2 == 0 ? libmq_metrics_text(broker, &text, error) : libmq_recovery_json(broker, &text, error);
      CHECK((status == LIBMQ_OK) == (text != NULL));
      libmq_string_free(text);
      return status;
    }
    case 18: {
      libmq_dead_letters *dead = NULL;
      status = libmq_dead_letters_list(broker, rare % 2 == 0 ? queue : NULL, 5, 0, &dead, error);
      for (size_t i = 0; i < libmq_dead_letters_len(dead); i++) {
        CHECK(libmq_dead_letter_reason(dead, i) != NULL);
        libmq_dead_letter_replay(broker, libmq_dead_letter_id(dead, i), NULL, NULL);
      }
      libmq_dead_letters_free(dead);
      return status;
    }
    case 19: {
      int fd = -1;
      status = libmq_wakeup_open(broker, queue, &fd, error);
      if (status != LIBMQ_OK) return status;
      struct pollfd look = {.fd = fd, .events = POLLIN};
      CHECK(poll(&look, 1, 1) >= 0);
      return libmq_wakeup_close(broker, fd, error);
    }
    case 20:
      return rare % 4 == 0 ? libmq_broker_stop(broker, 1, error) : libmq_broker_start(broker, error);
    default:
      return libmq_broker_wait_idle(broker, 1, error);
  }
}

static void *hammer(void *ctx) {
  unsigned seed = (unsigned)(uintptr_t)ctx;
  for (int i = 0; i < CALLS; i++) {
    libmq_error *error = NULL;
    libmq_status status = call((unsigned)rand_r(&seed), &seed, &error);
    CHECK(status <= 0 && status > -400);
    CHECK((status == LIBMQ_OK) == (error == NULL));
    if (error != NULL) CHECK(libmq_error_code(error) == status && libmq_error_message(error)[0] != 0);
    libmq_error_free(error);
    atomic_fetch_add(&seen[-status], 1);
  }
  return NULL;
}

/* Runs the threads; in the midst of it the broker may be closed and freed. */
static void hammered(bool is_closed_early) {
  libmq_options *options = libmq_options_new();
  CHECK_OK(libmq_options_set_int(options, "capacity", 2000, NULL));
  CHECK_OK(libmq_broker_open("hammered", options, &broker, NULL));
  libmq_options_free(options);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, hammer, (void *)(i + 1)) == 0);
  if (is_closed_early) {
    sleep_ms(50);
    libmq_status closed = libmq_broker_close(broker, 1000, NULL);
    CHECK(closed == LIBMQ_OK || closed == LIBMQ_E_TIMEOUT);
    libmq_broker_free(broker);
  }
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  if (!is_closed_early) {
    CHECK_OK(libmq_broker_close(broker, LONG_MS, NULL));
    libmq_broker_free(broker);
  }
  /* Of all that was begun somebody was told, and every context was dropped. */
  wait_for(&told, atomic_load(&begun));
  wait_for(&dropped, atomic_load(&registered));
  const libmq_status none[] = {LIBMQ_E_PANIC, LIBMQ_E_POISONED, LIBMQ_E_CORRUPT, LIBMQ_E_IO, LIBMQ_E_FORKED};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) CHECK_NUMBER(atomic_load(&seen[-none[i]]), 0);
  libmq_metrics metrics;
  libmq_broker *again = NULL;
  CHECK_OK(libmq_broker_open("hammered", NULL, &again, NULL));
  metrics = metrics_of(again, NULL);
  CHECK(metrics.ready + metrics.delayed <= 2000 && metrics.in_flight == 0);
  close_and_free(again);
}

static void of_many_threads_at_one_broker_each_is_answered(void) { hammered(false); }

static void a_broker_is_closed_and_freed_under_many_threads(void) { hammered(true); }

/* ---- callbacks that call back ------------------------------------------------------------------------------------- */

struct again {
  libmq_broker *broker;
  libmq_error *others_error;
  libmq_options *others_options;
  atomic_int calls, told_within;
};

static void tell_within(void *ctx, libmq_status status, libmq_receipt receipt) {
  struct again *again = ctx;
  (void)receipt;
  CHECK_OK(status);
  atomic_fetch_add(&again->told_within, 1);
}

/* Everything but what waits for callbacks may be called in one. */
static void call_again(void *ctx, libmq_status status, libmq_receipt receipt) {
  struct again *again = ctx;
  (void)receipt;
  CHECK_OK(status);
  libmq_message message = message_of("within");
  CHECK_OK(libmq_enqueue(again->broker, "within", &message, NULL, NULL));
  CHECK_OK(libmq_enqueue_async(again->broker, "within", &message, tell_within, again, NULL));
  libmq_delivery *delivery = receive_now(again->broker, "q");
  CHECK(delivery != NULL);
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  CHECK_OK(libmq_broker_stop(again->broker, 0, NULL));
  CHECK_STATUS(libmq_broker_close(again->broker, 0, NULL), LIBMQ_E_DEADLOCK);
  libmq_error_free(again->others_error);
  libmq_options_free(again->others_options);
  libmq_broker *own = open_memory();
  enqueue_text(own, "q", "x");
  libmq_broker_free(own);
  atomic_fetch_add(&again->calls, 1);
}

static void an_enqueues_callback_may_call_all_but_close(void) {
  struct again again = {.broker = open_memory(), .others_options = libmq_options_new()};
  CHECK_STATUS(libmq_snapshot(NULL, &again.others_error), LIBMQ_E_BAD_HANDLE);
  libmq_message message = message_of("x");
  for (int i = 0; i < 20; i++) CHECK_OK(libmq_enqueue_async(again.broker, "q", &message, call_again, &again, NULL));
  wait_for(&again.told_within, 20);
  CHECK_NUMBER(atomic_load(&again.calls), 20);
  CHECK_NUMBER(metrics_of(again.broker, "within").ready, 40);
  CHECK(libmq_error_message(again.others_error) == NULL);
  close_and_free(again.broker);
}

static int32_t close_another(void *ctx, libmq_delivery *delivery) {
  struct again *again = ctx;
  (void)delivery;
  CHECK_STATUS(libmq_broker_close(again->broker, 0, NULL), LIBMQ_E_DEADLOCK);
  CHECK_STATUS(libmq_broker_stop(again->broker, 0, NULL), LIBMQ_E_DEADLOCK);
  CHECK_STATUS(libmq_broker_wait_idle(again->broker, 0, NULL), LIBMQ_E_DEADLOCK);
  atomic_fetch_add(&again->calls, 1);
  return LIBMQ_ACK;
}

static void a_handler_waits_for_no_broker_of_whichever_handlers(void) {
  libmq_broker *own = open_memory();
  struct again again = {.broker = open_memory()};
  libmq_handler handler = LIBMQ_HANDLER_INIT;
  handler.handle = close_another;
  handler.ctx = &again;
  CHECK_OK(libmq_handle(own, "q", &handler, NULL));
  CHECK_OK(libmq_broker_start(own, NULL));
  enqueue_text(own, "q", "x");
  wait_for(&again.calls, 1);
  close_and_free(own);
  close_and_free(again.broker);
}

int main(void) {
  RUN(of_many_threads_at_one_broker_each_is_answered);
  RUN(a_broker_is_closed_and_freed_under_many_threads);
  RUN(an_enqueues_callback_may_call_all_but_close);
  RUN(a_handler_waits_for_no_broker_of_whichever_handlers);
  return finished();
}
