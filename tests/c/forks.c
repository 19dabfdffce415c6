/* Forked children: each call answers, or says FORKED; whatever the threads of the parent were in the middle of, none waits. */

#include "check.h"

#define CHURNING 4
#define FORKS 300

static libmq_broker *broker;
static libmq_delivery *delivery;
static libmq_error *inherited_error;
static libmq_options *inherited_options;
static libmq_dead_letters *inherited_dead;
static atomic_int stop;

static int32_t ack(void *ctx, libmq_delivery *handed) {
  (void)ctx, (void)handed;
  return LIBMQ_ACK;
}

static void told(void *ctx, libmq_status status, libmq_receipt receipt) {
  (void)ctx, (void)status, (void)receipt;
}

static void logged(void *ctx, int32_t level, const char *event, const char *fields_json) {
  (void)ctx, (void)level, (void)event, (void)fields_json;
}

/* Makes, reads, changes and frees handles of every type, so that a fork finds something half done. */
static void *churn(void *ctx) {
  (void)ctx;
  while (!atomic_load(&stop)) {
    libmq_error *error = NULL;
    libmq_snapshot(NULL, &error);
    libmq_error_message(error);
    libmq_error_message(inherited_error);
    libmq_error_free(error);
    libmq_options_set_int(inherited_options, "capacity", 5, NULL);
    libmq_options_free(libmq_options_new());
    libmq_dead_letter_queue(inherited_dead, 0);
    libmq_delivery_body(delivery, NULL);
    libmq_delivery_queue(delivery);
  }
  return NULL;
}

/* The same with those that a broker makes. */
static void *churn_broker(void *ctx) {
  (void)ctx;
  libmq_message message = message_of("x");
  message.durability = LIBMQ_OS;
  while (!atomic_load(&stop)) {
    libmq_dead_letters *dead = NULL;
    CHECK_OK(libmq_dead_letters_list(broker, NULL, 1, 0, &dead, NULL));
    libmq_dead_letter_header(dead, 0, "a");
    libmq_dead_letters_free(dead);
    CHECK_OK(libmq_enqueue(broker, "q", &message, NULL, NULL));
    libmq_delivery *own = NULL;
    CHECK_OK(libmq_receive(broker, "q", 0, 86400000, &own, NULL));
    CHECK_OK(libmq_delivery_ack(own, NULL));
  }
  return NULL;
}

/* What a child checks: it says where it was wrong, and leaves at once, for its checks are no one's. */
#define HERE(condition)                                                                \
  do {                                                                                 \
    if (!(condition)) {                                                                \
      fprintf(stderr, "%s:%d: not so in a child: %s\n", __FILE__, __LINE__, #condition); \
      _exit(1);                                                                        \
    }                                                                                  \
  } while (0)
#define FORKED(call) HERE((call) == LIBMQ_E_FORKED)

static void a_child_calls_everything(void) {
  alarm(30);
  libmq_message message = message_of("x");
  libmq_handler handler = LIBMQ_HANDLER_INIT;
  handler.handle = ack;
  libmq_receipt receipts[1];
  libmq_delivery *deliveries[1];
  libmq_dead_letters *dead;
  libmq_metrics metrics = LIBMQ_METRICS_INIT;
  libmq_error *error = NULL;
  uint64_t count;
  size_t n;
  char *text;
  int fd;
  FORKED(libmq_broker_start(broker, &error));
  HERE(libmq_error_code(error) == LIBMQ_E_FORKED && strstr(libmq_error_message(error), "forked") != NULL);
  HERE(libmq_error_path(error) == NULL && libmq_error_os_code(error) == 0 && libmq_error_is_fatal(error));
  libmq_error_free(error);
  FORKED(libmq_broker_stop(broker, 0, NULL));
  FORKED(libmq_broker_wait_idle(broker, -1, NULL));
  FORKED(libmq_broker_close(broker, -1, NULL));
  FORKED(libmq_enqueue(broker, "q", &message, receipts, NULL));
  FORKED(libmq_enqueue_batch(broker, "q", &message, 1, receipts, NULL));
  FORKED(libmq_enqueue_async(broker, "q", &message, told, NULL, NULL));
  FORKED(libmq_handle(broker, "q", &handler, NULL));
  FORKED(libmq_receive(broker, "q", -1, 0, deliveries, NULL));
  FORKED(libmq_receive_batch(broker, "q", 1, -1, 0, deliveries, &n, NULL));
  FORKED(libmq_wakeup_open(broker, "q", &fd, NULL));
  FORKED(libmq_wakeup_close(broker, 3, NULL));
  FORKED(libmq_scale(broker, "q", 1, NULL));
  FORKED(libmq_pause(broker, "q", NULL));
  FORKED(libmq_resume(broker, "q", NULL));
  FORKED(libmq_cancel(broker, 1, NULL));
  FORKED(libmq_purge(broker, "q", &count, NULL));
  FORKED(libmq_snapshot(broker, NULL));
  FORKED(libmq_backup(broker, "to", NULL));
  FORKED(libmq_advance(broker, 1, NULL));
  FORKED(libmq_metrics_read(broker, NULL, &metrics, NULL));
  FORKED(libmq_metrics_text(broker, &text, NULL));
  FORKED(libmq_recovery_json(broker, &text, NULL));
  FORKED(libmq_dead_letters_list(broker, NULL, 1, 0, &dead, NULL));
  FORKED(libmq_dead_letters_get(broker, 1, &dead, NULL));
  FORKED(libmq_dead_letter_replay(broker, 1, receipts, NULL));
  FORKED(libmq_dead_letters_replay_all(broker, NULL, &count, NULL));
  FORKED(libmq_dead_letters_purge(broker, NULL, &count, NULL));
  HERE(libmq_delivery_body(delivery, &n) == NULL && n == 0 && libmq_delivery_id(delivery) == 0);
  HERE(libmq_delivery_queue(delivery) == NULL && libmq_delivery_content_type(delivery) == NULL);
  HERE(libmq_delivery_header(delivery, "a") == NULL && libmq_delivery_cancel_reason(delivery) == NULL);
  FORKED(libmq_delivery_extend(delivery, 1, NULL));
  FORKED(libmq_delivery_enqueue(delivery, "q", &message, NULL));
  FORKED(libmq_delivery_ack(delivery, NULL));
  FORKED(libmq_delivery_retry(delivery, 0, NULL, NULL));
  FORKED(libmq_delivery_fail(delivery, NULL, NULL));
  FORKED(libmq_delivery_reject(delivery, NULL, NULL));
  FORKED(libmq_delivery_release(delivery, 0, NULL));
  libmq_delivery_free(delivery);
  libmq_broker_free(broker);
  /* Of what is no broker's a child has copies, which it may use. */
  HERE(libmq_error_code(inherited_error) == LIBMQ_E_INVALID && libmq_error_message(inherited_error) != NULL);
  libmq_error_free(inherited_error);
  HERE(libmq_error_message(inherited_error) == NULL);
  HERE(libmq_dead_letters_len(inherited_dead) == 1);
  HERE(strcmp(libmq_dead_letter_queue(inherited_dead, 0), "q") == 0);
  HERE(strcmp(libmq_dead_letter_header(inherited_dead, 0, "a"), "1") == 0);
  libmq_dead_letters_free(inherited_dead);
  HERE(libmq_options_set_int(inherited_options, "capacity", 7, NULL) == LIBMQ_OK);
  HERE(libmq_options_set_str(inherited_options, "durability", "memory", NULL) == LIBMQ_OK);
  HERE(libmq_options_set_log(inherited_options, logged, NULL, NULL) == LIBMQ_OK);
  libmq_options_free(inherited_options);
  /* More of each than the parent had at once. */
  for (int i = 0; i < 100; i++) {
    HERE(libmq_options_new() != NULL);
    HERE(libmq_snapshot(broker, &error) == LIBMQ_E_FORKED && libmq_error_message(error) != NULL);
  }
  leave("exit 0");
}

static void in_a_child_nothing_waits_for_the_parents_threads(void) {
  CHECK_OK(libmq_broker_open("churned", NULL, &broker, NULL));
  libmq_message message = message_of("x");
  libmq_header header = {"a", "1"};
  message.headers = &header;
  message.headers_len = 1;
  message.durability = LIBMQ_OS;
  CHECK_OK(libmq_enqueue(broker, "q", &message, NULL, NULL));
  CHECK_OK(libmq_delivery_reject(receive_now(broker, "q"), "r", NULL));
  CHECK_OK(libmq_enqueue(broker, "held", &message, NULL, NULL));
  CHECK_OK(libmq_receive(broker, "held", 0, 86400000, &delivery, NULL));
  CHECK_OK(libmq_dead_letters_list(broker, NULL, 1, 0, &inherited_dead, NULL));
  CHECK_STATUS(libmq_enqueue(broker, NULL, &message, NULL, &inherited_error), LIBMQ_E_INVALID);
  inherited_options = libmq_options_new();
  pthread_t threads[CHURNING];
  for (int i = 0; i < CHURNING; i++) {
    CHECK(pthread_create(&threads[i], NULL, i == 0 ? churn_broker : churn, NULL) == 0);
  }
  fflush(stdout);
  for (int i = 0; i < FORKS; i++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) a_child_calls_everything();
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_NUMBER(status, 0);
  }
  atomic_store(&stop, 1);
  for (int i = 0; i < CHURNING; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  /* The parent has noticed nothing. */
  CHECK(body_is(delivery, "x"));
  CHECK_OK(libmq_delivery_ack(delivery, NULL));
  libmq_error_free(inherited_error);
  libmq_options_free(inherited_options);
  libmq_dead_letters_free(inherited_dead);
  close_and_free(broker);
}

struct forking {
  atomic_int child;
  bool returns;
};

static int32_t fork_and_answer(void *ctx, libmq_delivery *handed) {
  struct forking *forking = ctx;
  pid_t child = fork();
  if (child == 0) {
    alarm(30);
    HERE(libmq_delivery_id(handed) == 0);
    if (!forking->returns) leave("exit 7");
    /* What it says on its way out is not for who reads the tests. */
    fclose(stderr);
    return LIBMQ_ACK;
  }
  atomic_store(&forking->child, (int)child);
  return LIBMQ_ACK;
}

/* It waited for the next message for ever, on the one thread that it had. */
static void a_child_that_returns_from_a_handler_is_ended(void) {
  for (int returns = 0; returns < 2; returns++) {
    libmq_broker *own = open_memory();
    struct forking forking = {.returns = returns == 1};
    libmq_handler handler = LIBMQ_HANDLER_INIT;
    handler.handle = fork_and_answer;
    handler.ctx = &forking;
    CHECK_OK(libmq_handle(own, "q", &handler, NULL));
    enqueue_text(own, "q", "x");
    CHECK_OK(libmq_broker_start(own, NULL));
    CHECK_OK(libmq_broker_wait_idle(own, LONG_MS, NULL));
    int status = -1;
    CHECK(waitpid((pid_t)atomic_load(&forking.child), &status, 0) > 0);
    if (forking.returns) {
      CHECK(WIFSIGNALED(status));
      CHECK_NUMBER(WTERMSIG(status), SIGABRT);
    } else {
      CHECK(WIFEXITED(status));
      CHECK_NUMBER(WEXITSTATUS(status), 7);
    }
    CHECK_NUMBER(metrics_of(own, "q").acked, 1);
    close_and_free(own);
  }
}

int main(void) {
#ifdef __SANITIZE_ADDRESS__
  skip("a child beside threads that allocate: AddressSanitizer's own allocator may stay locked in it");
#else
  RUN(in_a_child_nothing_waits_for_the_parents_threads);
#endif
  RUN(a_child_that_returns_from_a_handler_is_ended);
  return finished();
}
