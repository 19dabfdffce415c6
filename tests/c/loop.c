/* What an event loop needs: enqueues that do not wait, and descriptors that say when to receive. */

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>

/* What callbacks were told. */
struct told {
  atomic_int calls;
  libmq_broker *broker;
  libmq_status status[200];
  uint64_t ids[200];
  pthread_t thread;
  libmq_status closing;
};

static void note(void *ctx, libmq_status status, libmq_receipt receipt) {
  struct told *told = ctx;
  int call = atomic_load(&told->calls);
  if (call == 0) {
    told->thread = pthread_self();
    told->closing = libmq_broker_close(told->broker, 0, NULL);
  }
  CHECK(pthread_equal(told->thread, pthread_self()));
  told->status[call] = status;
  told->ids[call] = receipt.id;
  atomic_store(&told->calls, call + 1);
}

static void enqueues_are_told_in_order_on_one_thread(void) {
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_broker_open("told", NULL, &broker, NULL));
  struct told told = {.broker = broker};
  for (int i = 0; i < 200; i++) {
    char text[16];
    snprintf(text, sizeof text, "%d", i);
    libmq_message message = message_of(text);
    message.durability = i % 2 == 0 ? LIBMQ_SYNC : LIBMQ_OS;
    CHECK_OK(libmq_enqueue_async(broker, "q", &message, note, &told, NULL));
  }
  wait_for(&told.calls, 200);
  CHECK_STATUS(told.closing, LIBMQ_E_DEADLOCK);
  for (int i = 0; i < 200; i++) {
    libmq_delivery *delivery = receive_now(broker, "q");
    char text[16];
    snprintf(text, sizeof text, "%d", i);
    CHECK_OK(told.status[i]);
    CHECK_NUMBER(libmq_delivery_id(delivery), told.ids[i]);
    CHECK(body_is(delivery, text));
    CHECK_OK(libmq_delivery_ack(delivery, NULL));
  }
  close_and_free(broker);
}

static void what_is_wrong_with_an_enqueue_is_said_at_once(void) {
  libmq_broker *broker = open_memory();
  struct told told = {.broker = broker};
  libmq_message message = message_of("x");
  CHECK_ERROR(libmq_enqueue_async(broker, "q", &message, NULL, &told, &error), LIBMQ_E_INVALID, "done");
  CHECK_ERROR(libmq_enqueue_async(broker, "no name", &message, note, &told, &error), LIBMQ_E_INVALID, "queue");
  CHECK_ERROR(libmq_enqueue_async(broker, "q", NULL, note, &told, &error), LIBMQ_E_INVALID, "message");
  message.priority = 10;
  CHECK_ERROR(libmq_enqueue_async(broker, "q", &message, note, &told, &error), LIBMQ_E_INVALID, "priority");
  close_and_free(broker);
  CHECK_NUMBER(atomic_load(&told.calls), 0);
}

static void whoever_waits_for_room_is_told_of_the_close(void) {
  libmq_options *options = libmq_options_new();
  libmq_broker *broker = NULL;
  CHECK_OK(libmq_options_set_int(options, "capacity", 1, NULL));
  CHECK_OK(libmq_options_set_str(options, "on_full", "block", NULL));
  CHECK_OK(libmq_broker_open(":memory:", options, &broker, NULL));
  libmq_options_free(options);
  struct told told = {.broker = broker};
  libmq_message message = message_of("x");
  for (int i = 0; i < 3; i++) CHECK_OK(libmq_enqueue_async(broker, "q", &message, note, &told, NULL));
  wait_for(&told.calls, 1);
  CHECK_OK(libmq_broker_close(broker, 0, NULL));
  CHECK_NUMBER(atomic_load(&told.calls), 3);
  CHECK_OK(told.status[0]);
  CHECK_STATUS(told.status[1], LIBMQ_E_CLOSED);
  CHECK_NUMBER(told.ids[1], 0);
  CHECK_STATUS(told.status[2], LIBMQ_E_CLOSED);
  libmq_broker_free(broker);
}

static bool is_readable(int fd) {
  struct pollfd look = {.fd = fd, .events = POLLIN};
  CHECK(poll(&look, 1, 0) >= 0);
  return (look.revents & POLLIN) != 0;
}

static int receive_all(libmq_broker *broker, const char *queue) {
  for (int count = 0;; count++) {
    libmq_delivery *delivery = receive_now(broker, queue);
    if (delivery == NULL) return count;
    CHECK_OK(libmq_delivery_ack(delivery, NULL));
  }
}

static void a_wakeup_is_readable_while_there_may_be_something(void) {
  libmq_broker *broker = open_memory();
  int fd = -1, other = -1;
  enqueue_text(broker, "q", "x");
  CHECK_OK(libmq_wakeup_open(broker, "q", &fd, NULL));
  CHECK_OK(libmq_wakeup_open(broker, "other", &other, NULL));
  CHECK(fd >= 0 && other >= 0 && fd != other);
  CHECK(is_readable(fd));
  CHECK_NUMBER(receive_all(broker, "q"), 1);
  CHECK(!is_readable(fd));
  CHECK(is_readable(other));
  CHECK_NUMBER(receive_all(broker, "other"), 0);
  CHECK(!is_readable(other));
  for (int i = 0; i < 5; i++) enqueue_text(broker, "q", "x");
  CHECK(is_readable(fd) && !is_readable(other));
  libmq_delivery *delivery = receive_now(broker, "q");
  CHECK(is_readable(fd));
  CHECK_NUMBER(receive_all(broker, "q"), 4);
  CHECK(!is_readable(fd));
  CHECK_OK(libmq_delivery_release(delivery, 0, NULL));
  CHECK(is_readable(fd));
  CHECK_OK(libmq_broker_close(broker, 0, NULL));
  CHECK(is_readable(fd) && is_readable(other));
  CHECK_STATUS(libmq_receive(broker, "q", 0, 0, &delivery, NULL), LIBMQ_E_CLOSED);
  CHECK_OK(libmq_wakeup_close(broker, fd, NULL));
  CHECK_STATUS(libmq_wakeup_close(broker, fd, NULL), LIBMQ_E_CLOSED);
  libmq_broker_free(broker);
  CHECK(fcntl(other, F_GETFD) == -1);
}

static void *enqueue_many(void *ctx) {
  for (int i = 0; i < 10000; i++) enqueue_text(ctx, "q", "x");
  return NULL;
}

/* A loop that polls and then receives until there is nothing misses no message, whenever it comes. */
static void a_loop_misses_nothing(void) {
  libmq_broker *broker = open_memory();
  pthread_t producers[2];
  int fd = -1, received = 0;
  CHECK_OK(libmq_wakeup_open(broker, "q", &fd, NULL));
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&producers[i], NULL, enqueue_many, broker) == 0);
  while (received < 20000) {
    struct pollfd look = {.fd = fd, .events = POLLIN};
    CHECK(poll(&look, 1, LONG_MS) == 1);
    received += receive_all(broker, "q");
  }
  for (int i = 0; i < 2; i++) CHECK(pthread_join(producers[i], NULL) == 0);
  CHECK_OK(libmq_wakeup_close(broker, fd, NULL));
  close_and_free(broker);
}

/* The descriptor is libmq's, but nothing bad comes of it where the program closes it by itself. */
static void a_wakeup_that_was_closed_by_hand_raises_no_signal(void) {
  libmq_broker *broker = open_memory();
  int fd = -1;
  CHECK_OK(libmq_wakeup_open(broker, "q", &fd, NULL));
  CHECK_NUMBER(receive_all(broker, "q"), 0);
  CHECK(dup2(open("/dev/null", O_RDONLY), fd) == fd);
  enqueue_text(broker, "q", "x");
  CHECK_OK(libmq_wakeup_close(broker, fd, NULL));
  close_and_free(broker);
}

static void what_is_no_wakeup_is_refused(void) {
  libmq_broker *broker = open_memory();
  int fd = 7;
  CHECK_ERROR(libmq_wakeup_open(broker, "no name", &fd, &error), LIBMQ_E_INVALID, "queue");
  CHECK_NUMBER(fd, -1);
  CHECK_ERROR(libmq_wakeup_close(broker, 0, &error), LIBMQ_E_INVALID, "fd is 0");
  CHECK_ERROR(libmq_wakeup_close(broker, -1, &error), LIBMQ_E_INVALID, "fd is -1");
  close_and_free(broker);
}

/* The number of the system's error was not there, though the header promises one. */
static void a_wakeup_that_cannot_be_made_says_why(void) {
  libmq_broker *broker = open_memory();
  struct rlimit before;
  CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
  struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
  CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
  libmq_error *error = NULL;
  int fd = 0;
  libmq_status status = libmq_wakeup_open(broker, "q", &fd, &error);
  CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK_STATUS(status, LIBMQ_E_IO);
  /* Valgrind lets the pair be made, and closes it: that it is not there is found by the call behind. */
  CHECK(libmq_error_os_code(error) == EMFILE || libmq_error_os_code(error) == EBADF);
  CHECK_NUMBER(fd, -1);
  libmq_error_free(error);
  close_and_free(broker);
}

int main(void) {
  RUN(enqueues_are_told_in_order_on_one_thread);
  RUN(what_is_wrong_with_an_enqueue_is_said_at_once);
  RUN(whoever_waits_for_room_is_told_of_the_close);
  RUN(a_wakeup_is_readable_while_there_may_be_something);
  RUN(a_loop_misses_nothing);
  RUN(a_wakeup_that_was_closed_by_hand_raises_no_signal);
  RUN(what_is_no_wakeup_is_refused);
  RUN(a_wakeup_that_cannot_be_made_says_why);
  return finished();
}
