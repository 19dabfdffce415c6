/* Takes webhooks in and routes them: the C half of the demo.
 *
 * Usage: ingest DIRECTORY INDEX_TSV
 *
 * Every payload of the index is enqueued to `webhooks`, some of them twice, as a sender does that got no answer in time.
 * The handler of `webhooks` looks at the event's name and passes the payload on to `events` under its route. That and the
 * handler's ack are one record of the journal: there is no moment at which a crash could lose the message or double it.
 *
 * Kill the program when you like and start it again. It keeps no notes: it sends everything once more, from the start.
 * What still waits answers `duplicate`. What was routed already goes through `webhooks` again and ends at `events`, where
 * the first of its delivery id waits under the same key.
 */

#include <libmq.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEND_TWICE_EVERY 7
#define REPORT_EVERY 30

static atomic_int routed;

static void pause_ms(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

static void must(libmq_status status, libmq_error *error, const char *doing) {
  if (status == LIBMQ_OK) return;
  fprintf(stderr, "ingest: cannot %s: %s (%s)\n", doing, libmq_error_message(error), libmq_status_name(status));
  exit(1);
}

/* ---- routing -------------------------------------------------------------------------------------------------- */

static const struct {
  const char *prefix, *route;
} routes[] = {
    {"issue", "issues"},        {"label", "issues"},         {"milestone", "issues"},   {"pull_request", "pulls"},
    {"check_", "builds"},       {"workflow_", "builds"},     {"status", "builds"},      {"deploy", "builds"},
    {"merge_group", "builds"},  {"push", "code"},            {"create", "code"},        {"delete", "code"},
    {"commit_", "code"},        {"branch_", "code"},         {"fork", "code"},          {"release", "code"},
    {"security_", "security"},  {"code_scanning", "security"}, {"dependabot", "security"}, {"repository_vuln", "security"},
    {"member", "people"},       {"organization", "people"},  {"org_", "people"},        {"team", "people"},
    {"sponsor", "people"},      {"discussion", "planning"},  {"project", "planning"},   {"gollum", "planning"},
};

static const char *route_of(const char *event) {
  for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
    if (strncmp(event, routes[i].prefix, strlen(routes[i].prefix)) == 0) return routes[i].route;
  return "other";
}

static int32_t route(void *ctx, libmq_delivery *delivery) {
  (void)ctx;
  const char *event = libmq_delivery_header(delivery, "X-GitHub-Event");
  const char *id = libmq_delivery_header(delivery, "X-GitHub-Delivery");
  if (event == NULL || id == NULL) return LIBMQ_REJECT;
  pause_ms(15); /* the work a real handler would do */

  libmq_header headers[] = {{"X-GitHub-Event", event}, {"X-GitHub-Delivery", id}, {"Route", route_of(event)}};
  libmq_message message = LIBMQ_MESSAGE_INIT;
  message.body = libmq_delivery_body(delivery, &message.body_len);
  message.content_type = libmq_delivery_content_type(delivery);
  message.headers = headers;
  message.headers_len = sizeof headers / sizeof *headers;
  message.dedup_key = id;
  message.dedup = LIBMQ_DEDUP_KEEP;
  if (libmq_delivery_enqueue(delivery, "events", &message, NULL) != LIBMQ_OK) return LIBMQ_RETRY;
  atomic_fetch_add(&routed, 1);
  return LIBMQ_ACK;
}

/* ---- sending -------------------------------------------------------------------------------------------------- */

struct payload {
  char id[128], event[64], file[1024];
  char *body;
  size_t size;
};

/* Reads the next line of the index and the file it names. */
static int next_payload(FILE *index, struct payload *payload) {
  if (fscanf(index, "%127[^\t]\t%63[^\t]\t%1023[^\n]\n", payload->id, payload->event, payload->file) != 3) return 0;
  FILE *file = fopen(payload->file, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
    perror(payload->file);
    exit(1);
  }
  payload->size = (size_t)ftell(file);
  payload->body = malloc(payload->size + 1);
  rewind(file);
  if (payload->body == NULL || fread(payload->body, 1, payload->size, file) != payload->size) {
    perror(payload->file);
    exit(1);
  }
  fclose(file);
  return 1;
}

static int send_payload(libmq_broker *broker, const struct payload *payload) {
  libmq_header headers[] = {{"X-GitHub-Event", payload->event}, {"X-GitHub-Delivery", payload->id}};
  libmq_message message = LIBMQ_MESSAGE_INIT;
  message.body = payload->body;
  message.body_len = payload->size;
  message.content_type = "application/json";
  message.headers = headers;
  message.headers_len = 2;
  message.dedup_key = payload->id;
  message.dedup = LIBMQ_DEDUP_KEEP;
  libmq_receipt receipt;
  libmq_error *error = NULL;
  must(libmq_enqueue(broker, "webhooks", &message, &receipt, &error), error, "enqueue");
  return receipt.status;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: ingest DIRECTORY INDEX_TSV\n");
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  FILE *index = fopen(argv[2], "r");
  if (index == NULL) {
    perror(argv[2]);
    return 1;
  }

  libmq_error *error = NULL;
  libmq_broker *broker = NULL;
  must(libmq_broker_open(argv[1], NULL, &broker, &error), error, "open the directory");
  char *recovery = NULL;
  must(libmq_recovery_json(broker, &recovery, &error), error, "read the recovery report");
  printf("ingest: opened, recovery %s\n", recovery);
  libmq_string_free(recovery);

  libmq_handler handler = LIBMQ_HANDLER_INIT;
  handler.handle = route;
  handler.max_parallelism = 4;
  must(libmq_handle(broker, "webhooks", &handler, &error), error, "register the handler");
  must(libmq_broker_start(broker, &error), error, "start");

  int payloads = 0, accepted = 0, duplicates = 0;
  for (struct payload payload; next_payload(index, &payload); free(payload.body)) {
    int copies = payloads % SEND_TWICE_EVERY == 0 ? 2 : 1;
    while (copies-- > 0) {
      if (send_payload(broker, &payload) == LIBMQ_DUPLICATE) duplicates++;
      else accepted++;
    }
    pause_ms(3);
    if (++payloads % REPORT_EVERY == 0) printf("ingest: sent %d payloads, routed %d messages\n", payloads, atomic_load(&routed));
  }
  fclose(index);

  must(libmq_broker_wait_idle(broker, 30000, &error), error, "wait for the handlers");
  printf("ingest: done, sent %d payloads: %d accepted, %d duplicates; routed %d messages\n", payloads, accepted, duplicates,
         atomic_load(&routed));
  must(libmq_broker_close(broker, 5000, &error), error, "close");
  libmq_broker_free(broker);
  return 0;
}
