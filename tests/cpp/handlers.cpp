// Handlers in C++: what they throw, what they settle, where they move a delivery, and how long they are kept.

#include "check.hpp"

#include <memory>
#include <mutex>
#include <stdexcept>

namespace {

const auto ONCE = libmq::handler_options().max_retries(0);

// The one dead letter of a broker.
libmq::dead_letter only_letter(const broker &broker) {
  const auto letters = broker.dead_letters();
  CHECK_SAME(letters.size(), 1U);
  return letters.front();
}

void a_handler_that_returns_has_acked() {
  broker broker(":memory:");
  std::string seen;
  broker.handle("q", [&seen](delivery &held) { seen = held.body(); });
  run_one(broker, "3 books");
  CHECK_SAME(seen, "3 books");
  CHECK_SAME(broker.metrics("q").acked, 1U);
  broker.close(LONG);
}

// ---- what it throws ---------------------------------------------------------------------------------------------------

template <typename Thrown>
std::string text_of_failure(const Thrown &thrown) {
  broker broker(":memory:");
  broker.handle("q", ONCE, [&thrown](delivery &) { throw thrown; });
  run_one(broker);
  CHECK_SAME(broker.metrics("q").retried, 1U);
  CHECK_SAME(broker.metrics("q").handler_errors, 1U);
  const auto letter = only_letter(broker);
  CHECK_SAME(letter.reason(), "max_retries");
  CHECK_SAME(letter.attempts(), 1U);
  std::string text(letter.error());
  broker.close(LONG);
  return text;
}

struct alien {};

void what_a_handler_throws_is_a_failed_attempt_with_its_text() {
  CHECK_SAME(text_of_failure(std::runtime_error("the stock is being counted")), "the stock is being counted");
  CHECK_SAME(text_of_failure(libmq::error(LIBMQ_E_FULL, "no room")), "FULL: no room");
  CHECK_SAME(text_of_failure(std::logic_error("")), "");
}

void what_is_no_exception_of_the_standard_is_a_failed_attempt_too() {
  const char *text = "the handler threw what is no std::exception";
  CHECK_SAME(text_of_failure(7), text);
  CHECK_SAME(text_of_failure("text"), text);
  CHECK_SAME(text_of_failure(alien()), text);
}

void a_failure_is_tried_again_after_the_backoff() {
  broker broker = open_manual();
  std::atomic<int> calls{0};
  broker.handle("q", libmq::handler_options().backoff(500ms), [&calls](delivery &held) {
    CHECK_SAME(held.attempt(), static_cast<unsigned>(calls.load()) + 1);
    if (calls++ == 0) throw std::runtime_error("once");
  });
  broker.start();
  broker.enqueue("q", "x");
  WAIT_FOR(broker.metrics("q").delayed == 1);
  broker.advance(499ms);
  CHECK_SAME(broker.metrics("q").delayed, 1U);
  broker.advance(1ms);
  CHECK(broker.wait_idle(LONG));
  CHECK_SAME(calls.load(), 2);
  broker.close(LONG);
}

void a_retry_that_is_thrown_waits_as_long_as_it_says() {
  broker broker = open_manual();
  std::atomic<int> calls{0};
  broker.handle("q", [&calls](delivery &) {
    if (calls++ == 0) throw libmq::retry(2s, "not yet");
  });
  broker.start();
  broker.enqueue("q", "x");
  WAIT_FOR(broker.metrics("q").delayed == 1);
  CHECK_SAME(broker.metrics("q").retried, 1U);
  broker.advance(1999ms);
  CHECK_SAME(broker.metrics("q").delayed, 1U);
  broker.advance(1ms);
  CHECK(broker.wait_idle(LONG));
  CHECK_SAME(calls.load(), 2);
  broker.close(LONG);
}

void a_reject_that_is_thrown_is_a_dead_letter_of_that_reason() {
  broker broker(":memory:");
  broker.handle("q", [](delivery &) { throw libmq::reject("the card has expired"); });
  run_one(broker);
  CHECK_SAME(only_letter(broker).reason(), "the card has expired");
  CHECK_SAME(broker.metrics("q").rejected, 1U);
  broker.close(LONG);
}

void a_release_that_is_thrown_is_not_counted() {
  broker broker(":memory:");
  std::atomic<int> calls{0};
  broker.handle("q", [&calls](delivery &held) {
    CHECK_SAME(held.attempt(), 1U);
    if (calls++ == 0) throw libmq::release(1ms);
  });
  broker.start();
  broker.enqueue("q", "x");
  WAIT_FOR(calls.load() == 2);
  CHECK(broker.wait_idle(LONG));
  CHECK_SAME(broker.metrics("q").released, 1U);
  broker.close(LONG);
}

// C answers INVALID for such a delay, and has the message ready at once: it would come again as fast as the machine goes.
void a_delay_that_is_out_of_range_is_a_failed_attempt() {
  for (int how = 0; how < 4; how++) {
    broker broker(":memory:");
    broker.handle("q", ONCE, [how](delivery &held) {
      if (how == 0) throw libmq::retry(-1ms);
      if (how == 1) throw libmq::release(24h * 366 * 11);
      if (how == 2) held.retry_after(-1ms);
      if (how == 3) held.release(-5s);
    });
    run_one(broker);
    CHECK(only_letter(broker).error().find("INVALID: the delay is ") == 0);
    broker.close(LONG);
  }
}

// ---- what it settles --------------------------------------------------------------------------------------------------

void what_a_handler_settled_stays_settled_whatever_it_throws() {
  broker broker(":memory:");
  broker.handle("q", [](delivery &held) {
    held.reject("by hand");
    CHECK(!held);
    CHECK_ERROR(held.ack(), LIBMQ_E_BAD_HANDLE, "");
    throw std::runtime_error("too late");
  });
  run_one(broker);
  CHECK_SAME(only_letter(broker).reason(), "by hand");
  CHECK_SAME(broker.metrics("q").retried, 0U);
  broker.close(LONG);
}

void what_is_enqueued_in_a_delivery_is_there_with_its_ack_and_not_before() {
  broker broker(":memory:");
  std::atomic<int> calls{0};
  broker.handle("q", libmq::handler_options().backoff(0ms), [&calls](delivery &held) {
    held.enqueue("children", message(held.body()).header("kind", "child"));
    if (calls++ == 0) throw std::runtime_error("once");
  });
  run_one(broker, message("x").correlation_id("c-1"));
  auto child = broker.receive("children", 0ms);
  CHECK(child.has_value() && child->body() == "x" && child->header("kind") == "child");
  CHECK(child->correlation_id() == "c-1");
  child->ack();
  CHECK(!broker.receive("children", 0ms).has_value());
  broker.close(LONG);
}

// ---- where it moves a delivery ------------------------------------------------------------------------------------------

void a_delivery_that_is_moved_elsewhere_is_settled_there() {
  broker broker(":memory:");
  std::mutex lock;
  std::optional<delivery> moved;
  broker.handle("q", [&](delivery &held) {
    const std::lock_guard<std::mutex> guard(lock);
    moved.emplace(std::move(held));
  });
  const auto next = [&]() -> delivery {
    std::optional<delivery> taken;
    const auto is_there = [&] {
      const std::lock_guard<std::mutex> guard(lock);
      taken = std::exchange(moved, std::nullopt);
      return taken.has_value();
    };
    for (int i = 0; i < 30000 && !is_there(); i++) std::this_thread::sleep_for(1ms);
    CHECK(taken.has_value());
    return std::move(*taken);
  };
  broker.start();
  broker.enqueue("q", "x");
  delivery held = next();
  CHECK_SAME(held.body(), "x");
  CHECK_SAME(broker.metrics("q").in_flight, 1U);
  held.ack();
  CHECK(broker.wait_idle(LONG));
  CHECK_SAME(broker.metrics("q").acked, 1U);
  // Destroyed instead, it is given back.
  broker.enqueue("q", "y");
  { const delivery dropped = next(); }
  held = next();
  CHECK_SAME(held.attempt(), 1U);
  held.ack();
  CHECK_SAME(broker.metrics("q").released, 1U);
  broker.close(LONG);
}

// In its own handler C does not free a delivery, but takes an answer: nobody would have settled this one.
void a_delivery_that_is_moved_and_destroyed_in_its_handler_is_released() {
  broker broker(":memory:");
  std::atomic<int> calls{0};
  broker.handle("q", [&calls](delivery &held) {
    if (calls++ > 0) return;
    const delivery mine = std::move(held);
    CHECK_SAME(mine.body(), "x");
  });
  run_one(broker);
  CHECK_SAME(calls.load(), 2);
  CHECK_SAME(broker.metrics("q").released, 1U);
  CHECK_SAME(broker.metrics("q").acked, 1U);
  broker.close(LONG);
}

void an_exception_after_a_move_is_a_failed_attempt_all_the_same() {
  broker broker(":memory:");
  broker.handle("q", ONCE, [](delivery &held) {
    const delivery mine = std::move(held);
    throw std::runtime_error("in the middle");
  });
  run_one(broker);
  CHECK_SAME(only_letter(broker).error(), "in the middle");
  broker.close(LONG);
}

// The other one was acked in place of its own, which nobody had any more.
void a_handler_that_swaps_its_delivery_for_another_holds_its_own_elsewhere() {
  broker broker(":memory:");
  std::optional<delivery> kept;
  std::atomic<int> calls{0};
  broker.handle("q", libmq::handler_options().max_parallelism(2), [&](delivery &held) {
    if (calls == 0) kept.emplace(std::move(held));
    if (calls == 1) std::swap(*kept, held);
    calls++;
  });
  broker.start();
  broker.enqueue("q", "first");
  WAIT_FOR(calls == 1);
  broker.enqueue("q", "second");
  // The first one is given back, and comes once more.
  WAIT_FOR(calls == 3);
  WAIT_FOR(broker.metrics("q").acked == 1);
  CHECK_SAME(kept->body(), "second");
  kept->ack();
  CHECK(broker.wait_idle(LONG));
  CHECK(broker.metrics("q").acked == 2 && broker.metrics("q").released == 1);
  broker.close(LONG);
}

// Its own was acked, though it had let go of it, and the other one stayed in flight.
void a_handler_that_assigns_another_delivery_to_its_own_gives_both_back() {
  broker broker(":memory:");
  std::atomic<int> calls{0};
  broker.enqueue("other", "y");
  broker.handle("q", [&](delivery &held) {
    if (calls++ == 0) held = std::move(*broker.receive("other", 0ms));
  });
  run_one(broker);
  CHECK_SAME(calls.load(), 2);
  CHECK(broker.metrics("q").released == 1 && broker.metrics("q").acked == 1);
  CHECK(broker.metrics("other").released == 1 && broker.metrics("other").ready == 1);
  broker.close(LONG);
}

// ---- options ------------------------------------------------------------------------------------------------------------

void a_timeout_cancels_and_extending_moves_it() {
  broker broker = open_manual();
  std::atomic<int> step{0};
  const auto how = libmq::handler_options().timeout(1s).cancel_grace(200ms).max_retries(0);
  broker.handle("q", how, [&step](delivery &held) {
    held.extend(1500ms);
    step = 1;
    while (!held.cancel_reason().has_value()) std::this_thread::sleep_for(1ms);
    CHECK_SAME(*held.cancel_reason(), "timeout");
    throw std::runtime_error("cancelled");
  });
  broker.start();
  broker.enqueue("q", "x");
  WAIT_FOR(step == 1);
  broker.advance(1499ms);
  CHECK_SAME(broker.metrics("q").timeouts, 0U);
  broker.advance(1ms);
  CHECK(broker.wait_idle(LONG));
  CHECK_SAME(broker.metrics("q").timeouts, 1U);
  CHECK_SAME(broker.metrics("q").dead, 1U);
  broker.close(LONG);
}

void extending_can_be_forbidden() {
  broker broker(":memory:");
  broker.handle("q", libmq::handler_options().lease_extension_enabled(false),
                [](delivery &held) { CHECK_ERROR(held.extend(1s), LIBMQ_E_UNSUPPORTED, ""); });
  run_one(broker);
  broker.close(LONG);
}

void handlers_run_at_once_up_to_their_parallelism_and_can_be_scaled() {
  broker broker(":memory:");
  std::atomic<int> running{0};
  std::atomic<bool> may_end{false};
  broker.handle("q", libmq::handler_options().max_parallelism(2).min_parallelism(2), [&](delivery &) {
    running++;
    while (!may_end) std::this_thread::sleep_for(1ms);
  });
  broker.start();
  for (int i = 0; i < 3; i++) broker.enqueue("q", "x");
  WAIT_FOR(running == 2);
  CHECK_SAME(broker.metrics("q").parallelism, 2U);
  broker.scale("q", 3);
  WAIT_FOR(running == 3);
  may_end = true;
  CHECK(broker.wait_idle(LONG));
  CHECK_ERROR(broker.scale("q", 0), LIBMQ_E_INVALID, "");
  CHECK_ERROR(broker.scale("none", 1), LIBMQ_E_NOT_FOUND, "");
  broker.close(LONG);
}

// As std::move_only_function.
struct holder {
  void (*function)(delivery &);
  void operator()(delivery &given) const { function(given); }
  explicit operator bool() const { return function != nullptr; }
  friend bool operator==(const holder &held, std::nullptr_t) { return held.function == nullptr; }
};

void an_option_that_is_set_is_meant_also_zero() {
  broker broker(":memory:");
  const auto nothing = [](delivery &) {};
  CHECK_ERROR(libmq::handler_options().timeout(-1ms), LIBMQ_E_INVALID, "timeout is -1");
  CHECK_ERROR(libmq::handler_options().max_retries(-1), LIBMQ_E_INVALID, "max_retries is -1");
  // Of these C would have said that they were -1.
  CHECK_ERROR(libmq::handler_options().timeout(0ms), LIBMQ_E_INVALID, "timeout is 0, but goes from 1");
  CHECK_ERROR(libmq::handler_options().max_parallelism(0), LIBMQ_E_INVALID, "max_parallelism is 0, but goes from 1");
  CHECK_ERROR(libmq::handler_options().backoff_factor_permille(0), LIBMQ_E_INVALID, "factor_permille is 0");
  // These were called.
  CHECK_ERROR(broker.handle("q", static_cast<void (*)(delivery &)>(nullptr)), LIBMQ_E_INVALID, "the handler is none");
  CHECK_ERROR(broker.handle("q", std::function<void(delivery &)>()), LIBMQ_E_INVALID, "the handler is none");
  broker.handle("q", std::function<void(delivery &)>(nothing));
  CHECK_ERROR(broker.handle("q", holder{nullptr}), LIBMQ_E_INVALID, "the handler is none");
  CHECK_ERROR(broker.handle("no name", nothing), LIBMQ_E_INVALID, "queue");
  broker.close(LONG);
}

// ---- how long it is kept --------------------------------------------------------------------------------------------------

void a_handler_is_kept_until_its_last_call_has_ended_and_no_longer() {
  const auto kept = std::make_shared<int>(7);
  broker broker(":memory:");
  // It need not be one that can be copied.
  broker.handle("q", [kept, only = std::make_unique<int>(1)](delivery &) mutable { *only += *kept; });
  CHECK_SAME(kept.use_count(), 2);
  run_one(broker);
  broker.handle("q", [kept](delivery &) {});
  CHECK_SAME(kept.use_count(), 2);
  CHECK_ERROR(broker.handle("no name", [kept](delivery &) {}), LIBMQ_E_INVALID, "queue");
  CHECK_SAME(kept.use_count(), 2);
  broker.close(LONG);
  CHECK_SAME(kept.use_count(), 1);
  CHECK_ERROR(broker.handle("q", [kept](delivery &) {}), LIBMQ_E_CLOSED, "");
  CHECK_SAME(kept.use_count(), 1);
}

void a_destroyed_broker_has_stopped_what_refers_to_what_is_destroyed_after_it() {
  std::atomic<int> ended{0};
  {
    std::string local = "still here";
    broker broker(":memory:");
    std::atomic<bool> has_begun{false};
    broker.handle("q", [&](delivery &held) {
      has_begun = true;
      while (!held.cancel_reason().has_value()) std::this_thread::sleep_for(1ms);
      std::this_thread::sleep_for(20ms);
      CHECK_SAME(local, "still here");
      ended++;
    });
    broker.start();
    broker.enqueue("q", "x");
    WAIT_FOR(has_begun.load());
  }
  CHECK_SAME(ended.load(), 1);
}

void what_would_wait_for_itself_is_a_deadlock() {
  broker broker(":memory:");
  std::atomic<int> checked{0};
  broker.handle("q", [&](delivery &) {
    CHECK_ERROR(broker.close(1s), LIBMQ_E_DEADLOCK, "close");
    CHECK_ERROR(broker.stop(1s), LIBMQ_E_DEADLOCK, "stop");
    CHECK_ERROR(broker.wait_idle(1s), LIBMQ_E_DEADLOCK, "wait_idle");
    checked++;
  });
  run_one(broker);
  CHECK_SAME(checked.load(), 1);
  broker.close(LONG);
}

void a_broker_may_be_destroyed_in_its_own_handler() {
  auto owned = std::make_unique<broker>(":memory:");
  const auto kept = std::make_shared<int>(0);
  owned->handle("q", [&owned, kept](delivery &held) {
    owned.reset();
    CHECK_SAME(held.body(), "x");
  });
  owned->start();
  // The message is written by the time it is handled, but the call may find the broker gone.
  libmq_broker *handle = owned->in_c();
  libmq_message message = {};
  message.struct_size = static_cast<std::uint32_t>(sizeof message);
  message.body = "x";
  message.body_len = 1;
  libmq_enqueue(handle, "q", &message, nullptr, nullptr);
  WAIT_FOR(kept.use_count() == 1);
}

void a_close_that_had_to_cancel_says_so_and_has_closed() {
  broker broker(":memory:");
  std::atomic<bool> has_begun{false};
  broker.handle("q", [&](delivery &held) {
    has_begun = true;
    while (!held.cancel_reason().has_value()) std::this_thread::sleep_for(1ms);
  });
  broker.start();
  broker.enqueue("q", "x");
  WAIT_FOR(has_begun.load());
  CHECK_ERROR(broker.close(0ms), LIBMQ_E_TIMEOUT, "cancelled");
  CHECK_ERROR(broker.enqueue("q", "x"), LIBMQ_E_CLOSED, "");
  broker.close(0ms);
}

}  // namespace

int main() {
  RUN(a_handler_that_returns_has_acked);
  RUN(what_a_handler_throws_is_a_failed_attempt_with_its_text);
  RUN(what_is_no_exception_of_the_standard_is_a_failed_attempt_too);
  RUN(a_failure_is_tried_again_after_the_backoff);
  RUN(a_retry_that_is_thrown_waits_as_long_as_it_says);
  RUN(a_reject_that_is_thrown_is_a_dead_letter_of_that_reason);
  RUN(a_release_that_is_thrown_is_not_counted);
  RUN(a_delay_that_is_out_of_range_is_a_failed_attempt);
  RUN(what_a_handler_settled_stays_settled_whatever_it_throws);
  RUN(what_is_enqueued_in_a_delivery_is_there_with_its_ack_and_not_before);
  RUN(a_delivery_that_is_moved_elsewhere_is_settled_there);
  RUN(a_delivery_that_is_moved_and_destroyed_in_its_handler_is_released);
  RUN(an_exception_after_a_move_is_a_failed_attempt_all_the_same);
  RUN(a_handler_that_swaps_its_delivery_for_another_holds_its_own_elsewhere);
  RUN(a_handler_that_assigns_another_delivery_to_its_own_gives_both_back);
  RUN(a_timeout_cancels_and_extending_moves_it);
  RUN(extending_can_be_forbidden);
  RUN(handlers_run_at_once_up_to_their_parallelism_and_can_be_scaled);
  RUN(an_option_that_is_set_is_meant_also_zero);
  RUN(a_handler_is_kept_until_its_last_call_has_ended_and_no_longer);
  RUN(a_destroyed_broker_has_stopped_what_refers_to_what_is_destroyed_after_it);
  RUN(what_would_wait_for_itself_is_a_deadlock);
  RUN(a_broker_may_be_destroyed_in_its_own_handler);
  RUN(a_close_that_had_to_cancel_says_so_and_has_closed);
  return finished();
}
