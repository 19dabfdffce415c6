/* Drains the ledger and prints the totals: the last part of the demo.
 *
 * Usage: drain DIRECTORY LEDGER_TSV
 *
 * Every message of `ledger` is one line. It is pulled, written, and acked only when the line is in the file; so a drain
 * that is killed may write its last line once more, and loses none. The program begins the file anew, which is right as
 * long as one drain comes to its end.
 */

#include <libmq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUTES_MAX 64
#define BATCH 100

static struct total {
  char route[64];
  unsigned lines;
} totals[ROUTES_MAX];

static void must(libmq_status status, libmq_error *error, const char *doing) {
  if (status == LIBMQ_OK) return;
  fprintf(stderr, "drain: cannot %s: %s (%s)\n", doing, libmq_error_message(error), libmq_status_name(status));
  exit(1);
}

static void count(const char *route) {
  for (size_t i = 0; i < ROUTES_MAX; i++) {
    if (totals[i].lines == 0) snprintf(totals[i].route, sizeof totals[i].route, "%s", route);
    if (strcmp(totals[i].route, route) == 0) {
      totals[i].lines++;
      return;
    }
  }
  fprintf(stderr, "drain: more than %d routes\n", ROUTES_MAX);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: drain DIRECTORY LEDGER_TSV\n");
    return 2;
  }
  FILE *ledger = fopen(argv[2], "wb");
  if (ledger == NULL) {
    perror(argv[2]);
    return 1;
  }

  libmq_error *error = NULL;
  libmq_broker *broker = NULL;
  must(libmq_broker_open(argv[1], NULL, &broker, &error), error, "open the directory");

  unsigned lines = 0;
  libmq_delivery *deliveries[BATCH];
  for (;;) {
    size_t n = 0;
    libmq_status status = libmq_receive_batch(broker, "ledger", BATCH, 0, 0, deliveries, &n, &error);
    if (status == LIBMQ_E_EMPTY) break;
    must(status, error, "receive");
    for (size_t i = 0; i < n; i++) {
      size_t length;
      const void *line = libmq_delivery_body(deliveries[i], &length);
      if (fwrite(line, 1, length, ledger) != length || fflush(ledger) != 0) {
        perror(argv[2]);
        return 1; /* nothing is acked that is not written: the messages come again */
      }
      const char *route = libmq_delivery_header(deliveries[i], "Route");
      count(route == NULL ? "other" : route);
      must(libmq_delivery_ack(deliveries[i], &error), error, "ack");
      lines++;
    }
  }
  libmq_error_free(error);
  fclose(ledger);

  printf("drain: %u lines\n", lines);
  for (size_t i = 0; i < ROUTES_MAX && totals[i].lines > 0; i++) printf("       %5u  %s\n", totals[i].lines, totals[i].route);
  must(libmq_broker_close(broker, 5000, &error), error, "close");
  libmq_broker_free(broker);
  return 0;
}
