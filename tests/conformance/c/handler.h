/* What a handler of a scenario does, and what was seen of it. */

#ifndef HANDLER_H
#define HANDLER_H

#include <errno.h>
#include <libmq.h>
#include <pthread.h>
#include <time.h>

#include "script.h"

/* What waits, waits this long at most; a call that holds, four times as long. */
#define WAIT_MS 10000

/* A call of a handler. */
struct call {
  char *body;
  uint32_t attempt;
  /* Once it has ended: why it was cancelled, or nothing. */
  const char *reason;
};

struct handler {
  const struct fields *step;
  size_t outcomes;
  bool has_child;
  libmq_message child;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct call *calls;
  size_t len;
  /* Calls before this one do not hold any more. */
  size_t let_go;
};

static struct timespec in_ms(int64_t ms) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  time.tv_sec += ms / 1000;
  time.tv_nsec += ms % 1000 * 1000000;
  if (time.tv_nsec >= 1000000000) time.tv_sec++, time.tv_nsec -= 1000000000;
  return time;
}

static void sleep_ms(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

/* Whether an outcome is this word; `rest` is what follows its colon, or nothing. */
static bool outcome_is(const char *outcome, const char *word, const char **rest) {
  size_t len = strlen(word);
  if (strncmp(outcome, word, len) != 0 || (outcome[len] != 0 && outcome[len] != ':')) return false;
  *rest = outcome[len] == 0 ? "" : outcome + len + 1;
  return true;
}

static void hold(struct handler *handler, size_t number) {
  struct timespec end = in_ms(4 * WAIT_MS);
  pthread_mutex_lock(&handler->lock);
  while (handler->let_go <= number && pthread_cond_timedwait(&handler->changed, &handler->lock, &end) != ETIMEDOUT) {
  }
  pthread_mutex_unlock(&handler->lock);
}

/* Answers that the delivery is settled, in a call that had to succeed unless the lease was lost. */
static int32_t settled(libmq_status status) {
  if (status != LIBMQ_OK && status != LIBMQ_E_STALE_LEASE && status != LIBMQ_E_CLOSED)
    WRONG("a handler's settle answered %s", libmq_status_name(status));
  return LIBMQ_DEFER;
}

/* Ends a call as its outcome says. Sets the reason, as long as there is a delivery to ask. */
static int32_t end_call(struct handler *handler, libmq_delivery *delivery, size_t number, const char *outcome,
                        const char **reason) {
  const char *rest;
  if (handler->has_child && libmq_delivery_enqueue(delivery, need(handler->step, "child.queue"), &handler->child, NULL) != LIBMQ_OK)
    return -1;
  if (outcome_is(outcome, "hold", &rest) || outcome_is(outcome, "extend", &rest)) {
    hold(handler, number);
    return LIBMQ_ACK;
  }
  if (outcome_is(outcome, "cancel", &rest)) {
    for (int i = 0; i < 4 * WAIT_MS && libmq_delivery_cancel_reason(delivery) == NULL; i++) sleep_ms(1);
    return libmq_delivery_cancel_reason(delivery) != NULL && strcmp(rest, "ack") == 0 ? LIBMQ_ACK : -1;
  }
  if (outcome_is(outcome, "ack", &rest)) return LIBMQ_ACK;
  if (outcome_is(outcome, "fail", &rest)) return -1; /* an answer has no text */
  *reason = libmq_delivery_cancel_reason(delivery);
  if (outcome_is(outcome, "retry", &rest))
    return *rest == 0 ? LIBMQ_RETRY : settled(libmq_delivery_retry(delivery, atoll(rest), NULL, NULL));
  if (outcome_is(outcome, "reject", &rest)) return settled(libmq_delivery_reject(delivery, rest, NULL));
  if (outcome_is(outcome, "release", &rest)) return settled(libmq_delivery_release(delivery, atoll(rest), NULL));
  UNKNOWN("this player does not know the outcome %s", outcome);
}

static int32_t handle_call(void *ctx, libmq_delivery *delivery) {
  struct handler *handler = ctx;
  size_t len;
  const char *body = libmq_delivery_body(delivery, &len), *rest;

  pthread_mutex_lock(&handler->lock);
  size_t number = handler->len;
  size_t which = number < handler->outcomes ? number : handler->outcomes - 1;
  const char *outcome = handler->outcomes == 0 ? "ack" : item_of(handler->step, "outcomes", which);
  libmq_status extended = LIBMQ_OK;
  if (outcome_is(outcome, "extend", &rest)) extended = libmq_delivery_extend(delivery, atoll(rest), NULL);
  struct call *calls = realloc(handler->calls, (number + 1) * sizeof *calls);
  if (calls == NULL) WRONG("out of memory");
  handler->calls = calls;
  calls[number] = (struct call){allocate(len + 1, 1), libmq_delivery_attempt(delivery), NULL};
  memcpy(calls[number].body, body, len);
  handler->len++;
  pthread_cond_broadcast(&handler->changed);
  pthread_mutex_unlock(&handler->lock);

  const char *reason = NULL;
  int32_t answer = extended == LIBMQ_OK ? end_call(handler, delivery, number, outcome, &reason)
                                        : settled(libmq_delivery_reject(delivery, libmq_status_name(extended), NULL));
  if (reason == NULL) reason = libmq_delivery_cancel_reason(delivery);
  pthread_mutex_lock(&handler->lock);
  handler->calls[number].reason = reason == NULL ? "" : reason;
  pthread_cond_broadcast(&handler->changed);
  pthread_mutex_unlock(&handler->lock);
  return answer;
}

static void let_go(struct handler *handler) {
  pthread_mutex_lock(&handler->lock);
  handler->let_go = handler->len;
  pthread_cond_broadcast(&handler->changed);
  pthread_mutex_unlock(&handler->lock);
}

/* Whether the calls are as the step expects; those without a reason have not ended. */
static bool calls_are(const struct handler *handler, const struct fields *step) {
  size_t count, ended = 0;
  bool same = true;
  if (count_of(step, "expect.bodies", &count)) same &= count == handler->len;
  if (count_of(step, "expect.attempts", &count)) same &= count == handler->len;
  for (size_t i = 0; i < handler->len; i++) {
    char attempt[16];
    snprintf(attempt, sizeof attempt, "%" PRIu32, handler->calls[i].attempt);
    const char *body_expected = item_of(step, "expect.bodies", i), *attempt_expected = item_of(step, "expect.attempts", i);
    same &= body_expected == NULL || strcmp(body_expected, handler->calls[i].body) == 0;
    same &= attempt_expected == NULL || strcmp(attempt_expected, attempt) == 0;
    if (handler->calls[i].reason != NULL) {
      const char *reason_expected = item_of(step, "expect.reasons", ended++);
      same &= reason_expected == NULL || strcmp(reason_expected, handler->calls[i].reason) == 0;
    }
  }
  if (count_of(step, "expect.reasons", &count)) same &= count == ended;
  return same;
}

/* Waits until the calls are as expected. */
static void expect_calls(struct handler *handler, const struct fields *step) {
  int64_t count = -1;
  number_in(step, "", "expect.count", &count);
  struct timespec end = in_ms(WAIT_MS);
  pthread_mutex_lock(&handler->lock);
  while (!((count < 0 || (size_t)count == handler->len) && calls_are(handler, step))) {
    bool too_many = count >= 0 && (size_t)count < handler->len;
    if (too_many || pthread_cond_timedwait(&handler->changed, &handler->lock, &end) == ETIMEDOUT) {
      char seen[1024] = "";
      for (size_t i = 0; i < handler->len && strlen(seen) < sizeof seen - 160; i++)
        snprintf(seen + strlen(seen), 160, " [%.80s, attempt %" PRIu32 ", %s]", handler->calls[i].body,
                 handler->calls[i].attempt, handler->calls[i].reason == NULL ? "running" : handler->calls[i].reason);
      WRONG("the handler was called %zu times:%s", handler->len, seen);
    }
  }
  pthread_mutex_unlock(&handler->lock);
}

#endif
