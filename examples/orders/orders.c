/* A small shop: orders in, payments out. The same program as orders.rs.
 *
 * After `make build`:
 *   cc -Iinclude examples/orders/orders.c -o target/orders -Ltarget/release -lmq -Wl,-rpath,target/release
 *   target/orders
 * Run it again: the directory stays, and so does what is in it.
 */

#include <libmq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(libmq_status status, libmq_error **error) {
  if (status == LIBMQ_OK) return;
  fprintf(stderr, "%s: %s\n", libmq_status_name(status), libmq_error_message(*error));
  exit(1);
}

/* A body is bytes: any number of them, none included, and no string. */
static bool begins_with(const char *body, size_t length, char first) {
  return length > 0 && body[0] == first;
}

/* Fails once for one order, to be tried again; passes each order on to `payments`. */
static int32_t take_order(void *ctx, libmq_delivery *delivery) {
  (void)ctx;
  size_t length;
  const char *order = libmq_delivery_body(delivery, &length);
  if (begins_with(order, length, '3') && libmq_delivery_attempt(delivery) == 1) return LIBMQ_RETRY;

  printf("  took the order of %.*s, attempt %u\n", (int)length, order, libmq_delivery_attempt(delivery));
  libmq_message payment = LIBMQ_MESSAGE_INIT;
  payment.body = order;
  payment.body_len = length;
  /* The payment exists if and only if this attempt is acked: both are one record in the journal. */
  if (libmq_delivery_enqueue(delivery, "payments", &payment, NULL) != LIBMQ_OK) return LIBMQ_RETRY;
  return LIBMQ_ACK;
}

/* Refuses one payment for good: it becomes a dead letter, to be looked at by somebody. */
static int32_t pay(void *ctx, libmq_delivery *delivery) {
  (void)ctx;
  size_t length;
  const char *order = libmq_delivery_body(delivery, &length);
  if (begins_with(order, length, '5')) {
    libmq_delivery_reject(delivery, "the card has expired", NULL);
    return LIBMQ_DEFER; /* settled above */
  }
  printf("  paid %.*s\n", (int)length, order);
  return LIBMQ_ACK;
}

int main(void) {
  libmq_error *error = NULL;
  libmq_broker *broker = NULL;
  must(libmq_broker_open("target/orders-data", NULL, &broker, &error), &error);

  /* A handler takes one message at a time, unless told otherwise. Anything but LIBMQ_ACK is no ack. */
  libmq_handler orders = LIBMQ_HANDLER_INIT;
  orders.handle = take_order;
  orders.max_parallelism = 4;
  orders.backoff_base_ms = 100;
  must(libmq_handle(broker, "orders", &orders, &error), &error);
  libmq_handler payments = LIBMQ_HANDLER_INIT;
  payments.handle = pay;
  payments.timeout_ms = 10000;
  must(libmq_handle(broker, "payments", &payments, &error), &error);
  must(libmq_broker_start(broker, &error), &error);

  /* When libmq_enqueue has returned, the order survives a crash and a power loss. Its key makes it one of its kind: an
   * order sent again before it is handled takes the place of the first. */
  for (int number = 1; number <= 5; number++) {
    char key[32], body[32];
    snprintf(key, sizeof key, "ORD-%03d", number);
    snprintf(body, sizeof body, "%d books", number);
    libmq_message order = LIBMQ_MESSAGE_INIT;
    order.body = body;
    order.body_len = strlen(body);
    order.dedup_key = key;
    libmq_receipt receipt;
    must(libmq_enqueue(broker, "orders", &order, &receipt, &error), &error);
    printf("order %d: %s as message %llu\n", number, receipt.status == LIBMQ_ACCEPTED ? "accepted" : "replaced",
           (unsigned long long)receipt.id);
  }

  must(libmq_broker_wait_idle(broker, 10000, &error), &error);
  libmq_dead_letters *dead = NULL;
  must(libmq_dead_letters_list(broker, NULL, 10, 0, &dead, &error), &error);
  for (size_t i = 0; i < libmq_dead_letters_len(dead); i++)
    printf("dead letter %llu of %s: %s\n", (unsigned long long)libmq_dead_letter_id(dead, i), libmq_dead_letter_queue(dead, i),
           libmq_dead_letter_reason(dead, i));
  libmq_dead_letters_free(dead);

  libmq_metrics total = {0};
  total.struct_size = sizeof total;
  must(libmq_metrics_read(broker, NULL, &total, &error), &error);
  printf("%llu acked, %llu retried, %llu dead\n", (unsigned long long)total.acked, (unsigned long long)total.retried,
         (unsigned long long)total.dead);
  must(libmq_broker_close(broker, 5000, &error), &error);
  libmq_broker_free(broker);
  return 0;
}
