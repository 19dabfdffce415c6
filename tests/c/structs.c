/* Structs of other times: a program is compiled with the structs of its header, and the library has those of its own. */

#include "check.h"

/* What a newer header has, and where. */
struct newer_message {
  libmq_message known;
  uint64_t later[2];
};

struct newer_handler {
  libmq_handler known;
  void *later[2];
};

struct newer_metrics {
  libmq_metrics known;
  uint64_t later[2];
};

static atomic_int drops;

static int32_t ack(void *ctx, libmq_delivery *delivery) {
  (void)ctx, (void)delivery;
  return LIBMQ_ACK;
}

static void count_drop(void *ctx) {
  CHECK(ctx == &drops);
  atomic_fetch_add(&drops, 1);
}

static libmq_handler counting(void) {
  libmq_handler handler = LIBMQ_HANDLER_INIT;
  handler.handle = ack;
  handler.drop = count_drop;
  handler.ctx = &drops;
  atomic_store(&drops, 0);
  return handler;
}

/* Sizes from nothing to that of the first version, which is today's. A message that said it had 8 bytes, and had a body, was
 * enqueued without it: nobody was told that all of it had been left out. */
static void what_is_smaller_than_the_first_version_is_refused(void) {
  libmq_broker *broker = open_memory();
  for (uint32_t size = 0; size < sizeof(libmq_message); size++) {
    libmq_message message = message_of("lost");
    message.struct_size = size;
    libmq_receipt receipt;
    CHECK_ERROR(libmq_enqueue(broker, "q", &message, &receipt, &error), LIBMQ_E_INVALID, "struct_size of message");
    CHECK_ERROR(libmq_enqueue_batch(broker, "q", &message, 1, NULL, &error), LIBMQ_E_INVALID, "struct_size of messages");
    CHECK_ERROR(libmq_enqueue_async(broker, "q", &message, NULL, NULL, &error), LIBMQ_E_INVALID, "struct_size of message");
  }
  for (uint32_t size = 0; size < sizeof(libmq_handler); size++) {
    libmq_handler handler = counting();
    handler.struct_size = size;
    CHECK_ERROR(libmq_handle(broker, "q", &handler, &error), LIBMQ_E_INVALID, "struct_size of handler");
    /* Of such a struct nothing can be read, its `drop` neither. */
    CHECK_NUMBER(atomic_load(&drops), 0);
  }
  for (uint32_t size = 0; size < sizeof(libmq_metrics); size++) {
    libmq_metrics metrics;
    memset(&metrics, 0x5a, sizeof metrics);
    metrics.struct_size = size;
    CHECK_ERROR(libmq_metrics_read(broker, NULL, &metrics, &error), LIBMQ_E_INVALID, "struct_size of out");
    CHECK_NUMBER(metrics.memory_bytes, 0x5a5a5a5a5a5a5a5a);
  }
  CHECK_NUMBER(metrics_of(broker, NULL).enqueued, 0);
  libmq_delivery *delivery;
  enqueue_text(broker, "q", "x");
  CHECK_OK(libmq_receive(broker, "q", 0, 0, &delivery, NULL));
  libmq_message message = message_of("lost");
  message.struct_size = 8;
  CHECK_ERROR(libmq_delivery_enqueue(delivery, "q", &message, &error), LIBMQ_E_INVALID, "struct_size of message");
  libmq_delivery_free(delivery);
  close_and_free(broker);
}

static void what_a_newer_program_leaves_alone_is_nothing(void) {
  libmq_broker *broker = open_memory();
  struct newer_message newer;
  memset(&newer, 0, sizeof newer);
  newer.known = message_of("x");
  newer.known.struct_size = sizeof newer;
  CHECK_OK(libmq_enqueue(broker, "q", &newer.known, NULL, NULL));
  libmq_delivery *delivery = receive_now(broker, "q");
  CHECK(body_is(delivery, "x"));
  CHECK_OK(libmq_delivery_enqueue(delivery, "q", &newer.known, NULL));
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  struct newer_handler handler;
  memset(&handler, 0, sizeof handler);
  handler.known = counting();
  handler.known.struct_size = sizeof handler;
  CHECK_OK(libmq_handle(broker, "q", &handler.known, NULL));
  close_and_free(broker);
  CHECK_NUMBER(atomic_load(&drops), 1);
}

static void what_a_newer_program_uses_is_unsupported(void) {
  libmq_broker *broker = open_memory();
  struct newer_message newer;
  memset(&newer, 0, sizeof newer);
  newer.known = message_of("x");
  newer.known.struct_size = sizeof newer;
  newer.later[1] = 1;
  CHECK_ERROR(libmq_enqueue(broker, "q", &newer.known, NULL, &error), LIBMQ_E_UNSUPPORTED, "message sets fields");
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", &newer.known, 1, NULL, &error), LIBMQ_E_UNSUPPORTED, "messages");
  struct newer_handler handler;
  memset(&handler, 0, sizeof handler);
  handler.known = counting();
  handler.known.struct_size = sizeof handler;
  handler.later[0] = &drops;
  CHECK_ERROR(libmq_handle(broker, "q", &handler.known, &error), LIBMQ_E_UNSUPPORTED, "handler sets fields");
  CHECK_NUMBER(atomic_load(&drops), 1);
  CHECK_NUMBER(metrics_of(broker, NULL).enqueued, 0);
  close_and_free(broker);
}

static void a_newer_program_finds_nothing_where_more_would_be(void) {
  libmq_broker *broker = open_memory();
  enqueue_text(broker, "q", "x");
  struct newer_metrics newer;
  memset(&newer, 0x5a, sizeof newer);
  newer.known.struct_size = sizeof newer;
  CHECK_OK(libmq_metrics_read(broker, "q", &newer.known, NULL));
  CHECK_NUMBER(newer.known.struct_size, sizeof newer);
  CHECK_NUMBER(newer.known.enqueued, 1);
  CHECK(newer.later[0] == 0 && newer.later[1] == 0);
  close_and_free(broker);
}

static void messages_of_a_batch_lie_as_far_apart_as_the_first_says(void) {
  libmq_broker *broker = open_memory();
  struct newer_message newer[3];
  memset(newer, 0, sizeof newer);
  const char *bodies[] = {"a", "b", "c"};
  for (int i = 0; i < 3; i++) {
    newer[i].known = message_of(bodies[i]);
    newer[i].known.struct_size = sizeof newer[i];
  }
  libmq_receipt receipts[3];
  CHECK_OK(libmq_enqueue_batch(broker, "q", &newer[0].known, 3, receipts, NULL));
  for (int i = 0; i < 3; i++) {
    libmq_delivery *delivery = receive_now(broker, "q");
    CHECK(body_is(delivery, bodies[i]));
    CHECK_NUMBER(libmq_delivery_id(delivery), receipts[i].id);
    CHECK_OK(libmq_delivery_ack(delivery, NULL));
  }
  newer[2].known.struct_size = sizeof(libmq_message);
  CHECK_ERROR(libmq_enqueue_batch(broker, "q", &newer[0].known, 3, NULL, &error), LIBMQ_E_INVALID, "messages[2] has another struct_size");
  CHECK_NUMBER(metrics_of(broker, "q").enqueued, 3);
  close_and_free(broker);
}

/* The context of a handler that was refused for its size was never dropped, though its `drop` was there to be read. */
static void a_context_is_dropped_whatever_is_wrong_with_the_size_behind_it(void) {
  libmq_broker *broker = open_memory();
  static const uint32_t sizes[] = {sizeof(libmq_handler) + 1, sizeof(libmq_handler) + 4, 4104, 5000, UINT32_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    libmq_handler handler = counting();
    handler.struct_size = sizes[i];
    CHECK_ERROR(libmq_handle(broker, "q", &handler, &error), LIBMQ_E_INVALID, "struct_size of handler");
    CHECK_NUMBER(atomic_load(&drops), 1);
    handler = counting();
    handler.struct_size = sizes[i];
    CHECK_STATUS(libmq_handle(NULL, "q", &handler, NULL), LIBMQ_E_BAD_HANDLE);
    CHECK_NUMBER(atomic_load(&drops), 1);
  }
  close_and_free(broker);
}

int main(void) {
  RUN(what_is_smaller_than_the_first_version_is_refused);
  RUN(what_a_newer_program_leaves_alone_is_nothing);
  RUN(what_a_newer_program_uses_is_unsupported);
  RUN(a_newer_program_finds_nothing_where_more_would_be);
  RUN(messages_of_a_batch_lie_as_far_apart_as_the_first_says);
  RUN(a_context_is_dropped_whatever_is_wrong_with_the_size_behind_it);
  return finished();
}
