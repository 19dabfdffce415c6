/* Enqueues that nobody waits for: a callback is told when each is durable. A thousand of them share a few syncs.
 *
 * After `make build`:
 *   cc -std=c11 -Iinclude examples/c/async.c -o target/async -Ltarget/release -lmq -Wl,-rpath,target/release
 *   target/async
 */

#include <libmq.h>

#include <stdio.h>
#include <stdlib.h>

enum { REQUESTS = 1000 };

/* What a callback needs lives until it was called: here as long as main. */
struct request {
  int number;
  struct tally *tally;
};

/* Callbacks come one after another on one thread, so they share this without a lock; main reads it after the close. */
struct tally {
  int durable, failed, out_of_order;
  uint64_t last_id;
};

static void must(libmq_status status, libmq_error **error) {
  if (status == LIBMQ_OK) return;
  fprintf(stderr, "%s: %s\n", libmq_status_name(status), libmq_error_message(*error));
  exit(1);
}

/* Here a server would answer its client: 202 Accepted, or 503. */
static void enqueued(void *ctx, libmq_status status, libmq_receipt receipt) {
  struct request *request = ctx;
  struct tally *tally = request->tally;
  if (status != LIBMQ_OK) {
    fprintf(stderr, "request %d: %s\n", request->number, libmq_status_name(status));
    tally->failed++;
    return;
  }
  tally->durable++;
  if (receipt.id <= tally->last_id) tally->out_of_order++;
  tally->last_id = receipt.id;
}

int main(void) {
  static struct request requests[REQUESTS];
  struct tally tally = {0, 0, 0, 0};
  libmq_error *error = NULL;
  libmq_broker *broker = NULL;
  must(libmq_broker_open("target/async-data", NULL, &broker, &error), &error);

  for (int number = 0; number < REQUESTS; number++) {
    char body[32];
    int length = snprintf(body, sizeof body, "request %d", number);
    libmq_message message = LIBMQ_MESSAGE_INIT;
    message.body = body; /* copied by the call */
    message.body_len = (size_t)length;
    requests[number].number = number;
    requests[number].tally = &tally;
    must(libmq_enqueue_async(broker, "requests", &message, enqueued, &requests[number], &error), &error);
  }

  /* Tells all that were begun before it returns. */
  must(libmq_broker_close(broker, 5000, &error), &error);
  printf("%d durable, %d failed, %d out of order\n", tally.durable, tally.failed, tally.out_of_order);
  libmq_broker_free(broker);
  return 0;
}
