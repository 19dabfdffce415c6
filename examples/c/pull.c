/* An event loop of one's own: poll() says when there is something, and the loop receives it. No thread calls back.
 *
 * After `make build`:
 *   cc -Iinclude examples/c/pull.c -o target/pull -Ltarget/release -lmq -Wl,-rpath,target/release
 *   target/pull
 */

#include <libmq.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(libmq_status status, libmq_error **error) {
  if (status == LIBMQ_OK) return;
  fprintf(stderr, "%s: %s\n", libmq_status_name(status), libmq_error_message(*error));
  exit(1);
}

static void enqueue(libmq_broker *broker, const char *queue, const char *body) {
  libmq_error *error = NULL;
  libmq_message message = LIBMQ_MESSAGE_INIT;
  message.body = body;
  message.body_len = strlen(body);
  must(libmq_enqueue(broker, queue, &message, NULL, &error), &error);
}

/* What is to be done with a message: 0 when it is done, else it is tried again in a moment. */
static int work(const char *body, size_t length, unsigned attempt) {
  printf("  %.*s, attempt %u\n", (int)length, body, attempt);
  return attempt == 1 && length > 0 && body[0] == 'f';
}

/* Receives until nothing comes, which clears the descriptor; answers how many are done. */
static int drain(libmq_broker *broker, const char *queue) {
  libmq_error *error = NULL;
  for (int done = 0;;) {
    libmq_delivery *delivery = NULL;
    libmq_status status = libmq_receive(broker, queue, 0, 30000, &delivery, &error);
    if (status == LIBMQ_E_EMPTY) {
      libmq_error_free(error);
      return done;
    }
    must(status, &error);
    size_t length;
    const char *body = libmq_delivery_body(delivery, &length);
    if (work(body, length, libmq_delivery_attempt(delivery)) == 0) {
      must(libmq_delivery_ack(delivery, &error), &error);
      done++;
    } else {
      must(libmq_delivery_retry(delivery, 50, "not yet", &error), &error);
    }
  }
}

int main(void) {
  libmq_error *error = NULL;
  libmq_broker *broker = NULL;
  must(libmq_broker_open("target/pull-data", NULL, &broker, &error), &error);
  int mail = -1;
  must(libmq_wakeup_open(broker, "mail", &mail, &error), &error);
  enqueue(broker, "mail", "a letter");
  enqueue(broker, "mail", "fails once");
  enqueue(broker, "mail", "a card");

  /* Other descriptors of the program, sockets and timers, stand in the same array. */
  struct pollfd loop[] = {{mail, POLLIN, 0}};
  for (int done = 0; done < 3;) {
    if (poll(loop, sizeof loop / sizeof *loop, 10000) <= 0) break;
    if ((loop[0].revents & POLLIN) != 0) done += drain(broker, "mail");
  }

  libmq_metrics mails = LIBMQ_METRICS_INIT;
  must(libmq_metrics_read(broker, "mail", &mails, &error), &error);
  printf("%llu acked, %llu retried\n", (unsigned long long)mails.acked, (unsigned long long)mails.retried);
  must(libmq_wakeup_close(broker, mail, &error), &error);
  must(libmq_broker_close(broker, 0, &error), &error);
  libmq_broker_free(broker);
  return 0;
}
