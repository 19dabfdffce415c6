/* The log hook: what it is told, on which thread, and what it may do. */

#include "check.h"

/* What was told. */
struct told {
  atomic_int events;
  atomic_int dead_letters;
  libmq_broker *broker;
  libmq_status closing;
  char last[64];
  char letter[256];
};

static void note(void *ctx, int32_t level, const char *event, const char *fields_json) {
  struct told *told = ctx;
  CHECK(level >= 1 && level <= 4);
  CHECK(fields_json[0] == '{' && fields_json[strlen(fields_json) - 1] == '}');
  snprintf(told->last, sizeof told->last, "%s", event);
  if (strcmp(event, "dead_letter") == 0) {
    CHECK_NUMBER(level, 2);
    snprintf(told->letter, sizeof told->letter, "%s", fields_json);
    told->closing = libmq_broker_close(told->broker, 0, NULL);
    enqueue_text(told->broker, "told", "x");
    atomic_fetch_add(&told->dead_letters, 1);
  }
  atomic_fetch_add(&told->events, 1);
}

static libmq_broker *open_told(struct told *told) {
  libmq_options *options = libmq_options_new();
  CHECK_OK(libmq_options_set_log(options, note, told, NULL));
  CHECK_OK(libmq_broker_open(":memory:", options, &told->broker, NULL));
  libmq_options_free(options);
  return told->broker;
}

static void a_hook_is_told_and_may_call_anything_but_close(void) {
  struct told told = {0};
  libmq_broker *broker = open_told(&told);
  wait_for(&told.events, 1);
  CHECK_TEXT(told.last, "open");
  enqueue_text(broker, "orders", "a secret body");
  CHECK_OK(libmq_delivery_reject(receive_now(broker, "orders"), "a secret reason", NULL));
  wait_for(&told.dead_letters, 1);
  CHECK(strstr(told.letter, "\"queue\":\"orders\"") != NULL && strstr(told.letter, "\"attempts\":1") != NULL);
  CHECK(strstr(told.letter, "\"reason\":\"rejected\"") != NULL && strstr(told.letter, "secret") == NULL);
  CHECK_STATUS(told.closing, LIBMQ_E_DEADLOCK);
  CHECK_NUMBER(metrics_of(broker, "told").ready, 1);
  CHECK_OK(libmq_broker_close(broker, 0, NULL));
  CHECK_TEXT(told.last, "close");
  libmq_broker_free(broker);
}

static void a_hook_is_not_called_after_the_free(void) {
  for (int i = 0; i < 50; i++) {
    struct told told = {0};
    libmq_broker *broker = open_told(&told);
    libmq_broker_free(broker);
    int events = atomic_load(&told.events);
    CHECK_NUMBER(events, 1);
    told.broker = NULL;
  }
}

int main(void) {
  RUN(a_hook_is_told_and_may_call_anything_but_close);
  RUN(a_hook_is_not_called_after_the_free);
  return finished();
}
