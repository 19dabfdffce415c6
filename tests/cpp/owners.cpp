// Owners of handles in C++: errors, what was moved from, in which order things may be destroyed, options, and the log hook.

#include "check.hpp"

#include <cerrno>
#include <memory>
#include <mutex>
#include <type_traits>

#include <unistd.h>

namespace {

static_assert(!std::is_copy_constructible_v<broker> && std::is_nothrow_move_constructible_v<broker>);
static_assert(!std::is_copy_constructible_v<delivery> && std::is_nothrow_move_assignable_v<delivery>);
static_assert(std::is_copy_constructible_v<libmq::options> && std::is_nothrow_move_constructible_v<libmq::options>);
static_assert(!std::is_copy_constructible_v<libmq::wakeup> && std::is_nothrow_move_constructible_v<libmq::wakeup>);
static_assert(std::is_nothrow_copy_constructible_v<libmq::error> && std::is_copy_constructible_v<message>);
static_assert(std::is_nothrow_destructible_v<broker> && std::is_nothrow_destructible_v<delivery>);

// Structs of C begin as they do there, also for who is strict about casts.
[[maybe_unused]] const libmq_message MESSAGE = LIBMQ_MESSAGE_INIT;
[[maybe_unused]] const libmq_handler HANDLER = LIBMQ_HANDLER_INIT;
[[maybe_unused]] const libmq_metrics METRICS = LIBMQ_METRICS_INIT;

// ---- errors -------------------------------------------------------------------------------------------------------------

void an_error_says_what_c_says() {
  broker broker("owned");
  try {
    const libmq::broker second("owned");
    CHECK(false);
  } catch (const std::runtime_error &caught) {
    const auto error = dynamic_cast<const libmq::error &>(caught);
    CHECK_SAME(error.code(), LIBMQ_E_LOCKED);
    CHECK_SAME(std::string(error.name()), "LOCKED");
    CHECK(std::string(error.what()).rfind("LOCKED: ", 0) == 0);
    CHECK(std::string(error.path()).find("owned") != std::string::npos);
    CHECK(error.is_retryable() && !error.is_fatal());
  }
  broker.close(LONG);
  try {
    const libmq::broker none("/dev/null/none");
    CHECK(false);
  } catch (const libmq::error &error) {
    CHECK(error.code() == LIBMQ_E_IO || error.code() == LIBMQ_E_INVALID);
    CHECK(error.code() != LIBMQ_E_IO || error.os_code() == ENOTDIR);
  }
}

// A program, and a future, make errors of a status alone: they sort themselves as C sorts them.
void an_error_of_a_status_alone_is_sorted_as_those_of_c() {
  broker full(":memory:", libmq::options().capacity(1));
  full.enqueue("q", "x");
  try {
    full.enqueue("q", "y");
    CHECK(false);
  } catch (const libmq::error &error) {
    const libmq::error made(error.code(), "made");
    CHECK(made.is_retryable() && error.is_retryable() && !made.is_fatal() && !error.is_fatal());
  }
  full.close(LONG);
  try {
    full.enqueue("q", "y");
    CHECK(false);
  } catch (const libmq::error &error) {
    const libmq::error made(error.code(), "made");
    CHECK(!made.is_retryable() && !error.is_retryable() && made.is_fatal() && error.is_fatal());
    CHECK_SAME(std::string(made.what()), "CLOSED: made");
    CHECK_SAME(std::string(made.path()), "");
  }
}

// ---- moving and destroying ------------------------------------------------------------------------------------------------

void what_was_moved_from_is_a_bad_handle() {
  broker first(":memory:");
  first.enqueue("q", "x");
  broker second = std::move(first);
  CHECK_ERROR(first.enqueue("q", "x"), LIBMQ_E_BAD_HANDLE, "");
  CHECK_ERROR(first.start(), LIBMQ_E_BAD_HANDLE, "");
  CHECK_ERROR(first.close(0ms), LIBMQ_E_BAD_HANDLE, "");
  CHECK_ERROR(first.handle("q", [](delivery &) {}), LIBMQ_E_BAD_HANDLE, "");
  CHECK(first.in_c() == nullptr);
  delivery held = second.receive("q", 0ms).value();
  delivery moved = std::move(held);
  CHECK_ERROR(held.ack(), LIBMQ_E_BAD_HANDLE, "");
  CHECK_ERROR(held.extend(1s), LIBMQ_E_BAD_HANDLE, "");
  CHECK(!held && held.body().empty() && held.queue().empty() && held.id() == 0 && held.headers().empty());
  CHECK(moved.body() == "x");
  libmq::options options;
  const libmq::options taken = std::move(options);
  CHECK_ERROR(options.capacity(1), LIBMQ_E_BAD_HANDLE, "");
  CHECK_ERROR(broker(":memory:", options), LIBMQ_E_BAD_HANDLE, "options");
  CHECK_ERROR(libmq::options(options), LIBMQ_E_BAD_HANDLE, "moved from");
  moved.ack();
  second.close(LONG);
}

void what_is_assigned_to_lets_go_of_what_it_had() {
  broker broker(":memory:");
  broker.enqueue_batch("q", {"1", "2"});
  delivery held = broker.receive("q", 0ms).value();
  held = broker.receive("q", 0ms).value();
  CHECK_SAME(held.body(), "2");
  CHECK_SAME(broker.metrics("q").ready, 1U);
  CHECK_SAME(broker.metrics("q").released, 1U);
  libmq::broker other("assigned");
  other = std::move(broker);
  held.ack();
  CHECK_SAME(other.metrics("q").acked, 1U);
  // The directory was given up.
  libmq::broker again("assigned");
  again.close(LONG);
  other.close(LONG);
}

void owners_are_destroyed_in_any_order() {
  std::optional<delivery> held;
  std::optional<libmq::wakeup> wakeup;
  std::optional<libmq::dead_letter> letter;
  {
    broker broker(":memory:");
    broker.enqueue_batch("q", {"1", "2"});
    broker.receive("q", 0ms)->reject();
    letter = broker.dead_letters().front();
    held = broker.receive("q", 0ms);
    wakeup.emplace(broker.wakeup("q"));
  }
  CHECK_SAME(letter->reason(), "rejected");
  CHECK_SAME(held->body(), "2");
  CHECK_ERROR(held->ack(), LIBMQ_E_CLOSED, "");
  // Whoever has the descriptor of a wakeup by now keeps it.
  const int taken = dup(0);
  wakeup.reset();
  CHECK_SAME(close(taken), 0);
}

void a_delivery_that_is_destroyed_is_given_back() {
  broker broker(":memory:");
  broker.enqueue("q", "x");
  { const auto held = broker.receive("q", 0ms); }
  try {
    const auto held = broker.receive("q", 0ms);
    throw std::runtime_error("in the middle");
  } catch (const std::runtime_error &) {
    CHECK_SAME(broker.metrics("q").released, 2U);
  }
  auto held = broker.receive("q", 0ms);
  CHECK_SAME(held->attempt(), 1U);
  held->ack();
  broker.close(LONG);
}

void a_broker_that_is_destroyed_without_a_close_loses_nothing() {
  {
    broker broker("crashed");
    broker.enqueue("q", "x");
  }
  broker again("crashed");
  CHECK_SAME(again.receive("q", 0ms)->body(), "x");
  again.close(LONG);
}

// ---- options ----------------------------------------------------------------------------------------------------------------

void options_are_those_of_c() {
  auto options = libmq::options();
  options.capacity(10).max_bytes(1 << 20).max_message_bytes(100).max_batch_bytes(200).max_dead_letters(5);
  options.snapshot_interval(1min).snapshot_threshold(10).segment_bytes(64 << 10).cache_bytes(1 << 20);
  options.sync_interval(10ms).default_timeout(1s).default_max_retries(0).max_crashes(1).lock_timeout(10ms);
  options.default_backoff(1s, 2s, 1500, 0).durability(libmq::durability::os).set("on_corruption", "refuse");
  broker broker("options", options);
  CHECK_ERROR(broker.enqueue("q", std::string(101, 'x')), LIBMQ_E_TOO_LARGE, "");
  broker.enqueue("q", "x");
  CHECK_SAME(broker.receive("q", 0ms)->max_retries(), 0U);
  CHECK_ERROR(libmq::broker("options", options), LIBMQ_E_LOCKED, "");
  CHECK_ERROR(options.set("nothing", 1), LIBMQ_E_INVALID, "nothing");
  options.set("default_max_retries", 0);
  CHECK_ERROR(options.log(nullptr), LIBMQ_E_INVALID, "log");
  CHECK_ERROR(options.set("clock", "broken"), LIBMQ_E_INVALID, "broken");
  CHECK_ERROR(libmq::broker(":memory:", libmq::options().capacity(0)), LIBMQ_E_INVALID, "capacity");
  broker.close(LONG);
  libmq::broker without_files("none", libmq::options().durability(libmq::durability::memory));
  without_files.close(LONG);
  CHECK_SAME(std::string(libmq::version()), LIBMQ_VERSION);
}

// A name for options that are made in one line did not compile.
void options_are_copied_with_all_that_is_set() {
  std::atomic<int> told{0};
  auto options = libmq::options().capacity(10).durability(libmq::durability::memory).log(
      [&told](int, std::string_view, std::string_view) { ++told; });
  libmq::options other = options;
  options.capacity(1);
  {
    broker smaller(":memory:", options), larger(":memory:", other);
    larger.enqueue_batch("q", {"1", "2"});
    CHECK_ERROR(smaller.enqueue_batch("q", {"1", "2"}), LIBMQ_E_FULL, "");
    smaller.close(LONG);
    larger.close(LONG);
  }
  CHECK_SAME(told.load(), 4);
  other = options;
  broker smaller(":memory:", other);
  CHECK_ERROR(smaller.enqueue_batch("q", {"1", "2"}), LIBMQ_E_FULL, "");
}

// ---- the log hook -----------------------------------------------------------------------------------------------------------

void a_hook_is_told_may_throw_and_is_kept_as_long_as_it_is_called() {
  std::mutex lock;
  std::string events;
  const auto kept = std::make_shared<int>(0);
  {
    auto options = libmq::options();
    options.log([&, kept](int level, std::string_view event, std::string_view fields) {
      const std::lock_guard<std::mutex> guard(lock);
      CHECK(level >= 1 && level <= 4 && fields.front() == '{' && fields.back() == '}');
      events += std::string(event) + " ";
      throw std::runtime_error("nobody is told");
    });
    broker first(":memory:", options);
    // The options have another hook from here on, and the broker the one it was opened with.
    options.log([](int, std::string_view, std::string_view) {});
    broker second = std::move(first);
    second.enqueue("q", "x");
    second.receive("q", 0ms)->reject();
    second.close(LONG);
    CHECK_SAME(events, "open dead_letter close ");
    CHECK(kept.use_count() > 1);
  }
  CHECK_SAME(kept.use_count(), 1);
}

void a_broker_may_be_destroyed_in_its_log_hook() {
  const auto kept = std::make_shared<int>(0);
  std::mutex lock;
  std::unique_ptr<broker> owned;
  std::atomic<bool> is_gone{false};
  {
    const std::lock_guard<std::mutex> guard(lock);
    owned = std::make_unique<broker>(
        ":memory:", libmq::options().log([&lock, &owned, &is_gone, kept](int, std::string_view, std::string_view) {
          const std::lock_guard<std::mutex> inner(lock);
          owned.reset();
          CHECK(kept.use_count() > 1);
          is_gone = true;
        }));
  }
  WAIT_FOR(is_gone.load());
  WAIT_FOR(kept.use_count() == 1);
}

// The second one was kept instead of the first, whose hook was running and was gone.
void two_brokers_may_be_destroyed_in_the_log_hook_of_one() {
  const auto kept = std::make_shared<int>(0);
  const auto others = std::make_shared<int>(0);
  std::mutex lock;
  std::unique_ptr<broker> first, second;
  std::atomic<bool> is_gone{false};
  second = std::make_unique<broker>(":memory:",
                                    libmq::options().log([others](int, std::string_view, std::string_view) {}));
  {
    const std::lock_guard<std::mutex> guard(lock);
    first = std::make_unique<broker>(
        ":memory:", libmq::options().log([&, kept](int, std::string_view, std::string_view) {
          const std::lock_guard<std::mutex> inner(lock);
          first.reset();
          second.reset();
          CHECK(kept.use_count() > 1);
          CHECK_SAME(others.use_count(), 1);
          is_gone = true;
        }));
  }
  WAIT_FOR(is_gone.load());
  WAIT_FOR(kept.use_count() == 1);
}

}  // namespace

int main() {
  RUN(an_error_says_what_c_says);
  RUN(an_error_of_a_status_alone_is_sorted_as_those_of_c);
  RUN(what_was_moved_from_is_a_bad_handle);
  RUN(what_is_assigned_to_lets_go_of_what_it_had);
  RUN(owners_are_destroyed_in_any_order);
  RUN(a_delivery_that_is_destroyed_is_given_back);
  RUN(a_broker_that_is_destroyed_without_a_close_loses_nothing);
  RUN(options_are_those_of_c);
  RUN(options_are_copied_with_all_that_is_set);
  RUN(a_hook_is_told_may_throw_and_is_kept_as_long_as_it_is_called);
  RUN(a_broker_may_be_destroyed_in_its_log_hook);
  RUN(two_brokers_may_be_destroyed_in_the_log_hook_of_one);
  return finished();
}
