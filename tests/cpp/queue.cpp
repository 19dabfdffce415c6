// Messages in and out in C++: all that a message may say, batches, enqueues that do not wait, receives, event loops, dead
// letters, and what is done to a broker while it works.

#include "check.hpp"

#include <array>
#include <cstddef>
#include <mutex>

#include <poll.h>

#if __cplusplus >= 202002L
#include <span>
#endif

namespace {

// ---- messages ---------------------------------------------------------------------------------------------------------

void a_message_arrives_with_all_that_was_said_of_it() {
  broker broker(":memory:");
  const auto before = std::chrono::system_clock::now() - 1ms;
  const auto receipt = broker.enqueue("q", message("3 books")
                                               .content_type("text/plain")
                                               .correlation_id("c-1")
                                               .header("a", "1")
                                               .header("b", "2")
                                               .header("a", "3"));
  CHECK_SAME(receipt.status, LIBMQ_ACCEPTED);
  auto held = broker.receive("q", 0ms, 10s);
  CHECK(held.has_value());
  CHECK_SAME(held->body(), "3 books");
  CHECK_SAME(held->id(), receipt.id);
  CHECK_SAME(held->queue(), "q");
  CHECK_SAME(held->content_type(), "text/plain");
  CHECK_SAME(held->correlation_id().value(), "c-1");
  CHECK_SAME(held->header("a").value(), "1");
  CHECK(!held->header("none").has_value());
  const auto headers = held->headers();
  CHECK(headers.size() == 3 && headers[1].first == "b" && headers[2].second == "3");
  CHECK_SAME(held->attempt(), 1U);
  CHECK_SAME(held->max_retries(), 5U);
  CHECK(held->token() > 0);
  CHECK(held->enqueued_at() >= before && held->deadline() > held->enqueued_at() + 5s);
  CHECK(!held->cancel_reason().has_value());
  held->ack();
  broker.close(LONG);
}

std::string passed_on(broker &broker, const message &message) {
  broker.enqueue("bytes", message);
  auto held = broker.receive("bytes", 0ms);
  std::string body(held.value().body());
  held->ack();
  return body;
}

void a_body_is_any_bytes_of_anything_that_holds_them() {
  broker broker(":memory:");
  const std::string zeros("a\0b\0", 4);
  CHECK(passed_on(broker, zeros) == zeros);
  CHECK(passed_on(broker, std::string_view(zeros).substr(0, 2)) == zeros.substr(0, 2));
  CHECK(passed_on(broker, message()).empty());
  CHECK(passed_on(broker, "") == "");
  CHECK(passed_on(broker, message().body(nullptr, 0)).empty());
  CHECK(passed_on(broker, message().body(std::vector<std::byte>{std::byte{0xff}, std::byte{0}})) ==
        std::string("\xff\0", 2));
  CHECK(passed_on(broker, std::array<unsigned char, 2>{1, 2}) == "\1\2");
  CHECK(passed_on(broker, message().body_view(zeros)) == zeros);
  CHECK(passed_on(broker, message("old").body_view("new")) == "new");
  CHECK(passed_on(broker, message().body_view("old").body("new")) == "new");
#if __cplusplus >= 202002L
  CHECK(passed_on(broker, message().body(std::as_bytes(std::span(zeros)))) == zeros);
#endif
  broker.close(LONG);
}

void a_message_owns_what_it_was_given() {
  broker broker(":memory:");
  message kept;
  {
    const std::string key(100, 'k'), body(1000, 'b');
    kept.key(key).body(body).header(std::string(30, 'h'), std::string(200, 'v'));
  }
  const message copy = kept;
  broker.enqueue("q", kept);
  CHECK_SAME(broker.enqueue("q", copy).status, LIBMQ_REPLACED);
  const auto held = broker.receive("q", 0ms);
  CHECK(held->body() == std::string(1000, 'b') && held->header(std::string(30, 'h')) == std::string(200, 'v'));
  broker.close(LONG);
}

void a_key_that_is_taken_replaces_or_keeps() {
  broker broker = open_manual();
  const auto first = broker.enqueue("q", message("1").key("k"));
  const auto second = broker.enqueue("q", message("2").key("k"));
  CHECK(second.status == LIBMQ_REPLACED && second.id == first.id);
  const auto third = broker.enqueue("q", message("3").key("k", libmq::dedup::keep));
  CHECK(third.status == LIBMQ_DUPLICATE && third.id == first.id);
  broker.purge("q");
  broker.enqueue("q", message("4").key("w").dedup_window(1min));
  broker.receive("q", 0ms)->ack();
  CHECK_SAME(broker.enqueue("q", message("5").key("w", libmq::dedup::keep)).status, LIBMQ_DUPLICATE);
  broker.advance(1min);
  CHECK_SAME(broker.enqueue("q", message("6").key("w", libmq::dedup::keep)).status, LIBMQ_ACCEPTED);
  broker.close(LONG);
}

void delays_moments_priorities_groups_and_expiry_are_kept() {
  broker broker = open_manual();
  broker.enqueue("q", message("late").delay(2s));
  broker.enqueue("q", message("past").run_at(std::chrono::system_clock::time_point()));
  broker.enqueue("q", message("urgent").priority(9));
  CHECK_SAME(broker.receive("q", 0ms)->body(), "urgent");
  // It was given back at once, being destroyed.
  broker.receive("q", 0ms)->ack();
  broker.receive("q", 0ms)->ack();
  CHECK(!broker.receive("q", 0ms).has_value());
  broker.advance(2s);
  broker.receive("q", 0ms)->ack();
  broker.enqueue("g", message("1").group("one"));
  broker.enqueue("g", message("2").group("one"));
  auto first = broker.receive("g", 0ms);
  CHECK(!broker.receive("g", 0ms).has_value());
  first->ack();
  broker.receive("g", 0ms)->ack();
  broker.enqueue("q", message("short").expires_in(1s));
  broker.advance(1s);
  CHECK(!broker.receive("q", 0ms).has_value());
  CHECK_SAME(broker.metrics("q").expired, 1U);
  broker.close(LONG);
}

// C takes 0 for the default, and reads a text up to its NUL: neither is what was said.
void what_c_would_read_as_something_else_is_refused() {
  broker broker(":memory:");
  using namespace std::string_view_literals;
  CHECK_ERROR(message().key("a\0b"sv), LIBMQ_E_INVALID, "key has a NUL");
  CHECK_ERROR(message().header("a\0b"sv, ""), LIBMQ_E_INVALID, "NUL");
  CHECK_ERROR(broker.enqueue("q\0b"sv, "x"), LIBMQ_E_INVALID, "queue has a NUL");
  CHECK_ERROR(libmq::broker("a\0b"sv), LIBMQ_E_INVALID, "path has a NUL");
  CHECK_ERROR(message().expires_in(0ms), LIBMQ_E_INVALID, "expires_in is 0");
  CHECK_ERROR(message().priority(-1), LIBMQ_E_INVALID, "priority is -1");
  CHECK_ERROR(message().delay(-1ms), LIBMQ_E_INVALID, "delay is -1");
  CHECK_ERROR(broker.enqueue("q", message().key("")), LIBMQ_E_INVALID, "dedup_key");
  CHECK_ERROR(broker.enqueue("q", message().durability(libmq::durability::memory)), LIBMQ_E_INVALID, "durability");
  CHECK_SAME(broker.metrics().enqueued, 0U);
  broker.close(LONG);
}

// ---- many, and without waiting ------------------------------------------------------------------------------------------

void a_batch_is_enqueued_whole_or_not_at_all() {
  broker broker(":memory:");
  const auto receipts = broker.enqueue_batch("q", {message("1").header("n", "1"), message("2").header("n", "2"), "3"});
  CHECK(receipts.size() == 3 && receipts[0].id < receipts[1].id && receipts[2].status == LIBMQ_ACCEPTED);
  CHECK_ERROR(broker.enqueue_batch("q", {"4", message("5").priority(10)}), LIBMQ_E_INVALID, "priority");
  CHECK(broker.enqueue_batch("q", {}).empty());
  auto held = broker.receive_batch("q", 10, 0ms);
  CHECK_SAME(held.size(), 3U);
  CHECK(held[1].body() == "2" && held[1].header("n") == "2" && held[0].header("n") == "1");
  for (auto &delivery : held) delivery.ack();
  CHECK(broker.receive_batch("q", 10, 0ms).empty());
  CHECK_ERROR(broker.receive_batch("q", 10001, 0ms), LIBMQ_E_INVALID, "max");
  CHECK_ERROR(broker.receive_batch("q", 0, 0ms), LIBMQ_E_INVALID, "max");
  broker.close(LONG);
}

void enqueues_that_are_not_waited_for_are_told_in_order() {
  broker broker("told");
  std::mutex lock;
  std::vector<std::uint64_t> told;
  for (int i = 0; i < 100; i++)
    broker.enqueue_async("q", std::to_string(i), [&](libmq_status status, libmq::receipt receipt) {
      CHECK_SAME(status, LIBMQ_OK);
      CHECK_ERROR(broker.close(0ms), LIBMQ_E_DEADLOCK, "");
      const std::lock_guard<std::mutex> guard(lock);
      told.push_back(receipt.id);
      throw 7;  // Nobody is told.
    });
  std::vector<std::future<libmq::receipt>> futures;
  for (int i = 0; i < 100; i++) futures.push_back(broker.enqueue_async("q", "x"));
  std::uint64_t last = 0;
  for (auto &future : futures) {
    const auto receipt = future.get();
    CHECK(receipt.status == LIBMQ_ACCEPTED && receipt.id > last);
    last = receipt.id;
  }
  {
    const std::lock_guard<std::mutex> guard(lock);
    CHECK(told.size() == 100 && std::is_sorted(told.begin(), told.end()) && told.back() < last);
  }
  CHECK_SAME(broker.receive("q", 0ms)->body(), "0");
  broker.close(LONG);
}

void what_is_wrong_with_an_enqueue_is_thrown_at_once_and_the_callback_let_go() {
  broker broker(":memory:", libmq::options().capacity(1).block_when_full());
  const auto kept = std::make_shared<int>(0);
  CHECK_ERROR(broker.enqueue_async("no name", "x", [kept](libmq_status, libmq::receipt) {}), LIBMQ_E_INVALID, "queue");
  CHECK_SAME(kept.use_count(), 1);
  CHECK_ERROR(broker.enqueue_async("q", "x", nullptr), LIBMQ_E_INVALID, "done");
  CHECK_ERROR(broker.enqueue_async("q", message().priority(10)), LIBMQ_E_INVALID, "priority");
  broker.enqueue("q", "x");
  auto waits = broker.enqueue_async("q", "y");
  broker.enqueue_async("q", "z", [kept](libmq_status status, libmq::receipt) { CHECK_SAME(status, LIBMQ_E_CLOSED); });
  broker.close(LONG);
  CHECK_ERROR(waits.get(), LIBMQ_E_CLOSED, "");
  CHECK_SAME(kept.use_count(), 1);
}

// ---- receiving ------------------------------------------------------------------------------------------------------------

void what_was_received_is_settled_once() {
  broker broker = open_manual();
  for (const char *body : {"1", "2", "3", "4", "5"}) broker.enqueue("q", body);
  broker.receive("q", 0ms)->ack();
  broker.receive("q", 0ms)->retry("why");
  broker.receive("q", 0ms)->retry_after(1h, "later");
  broker.receive("q", 0ms)->reject("no");
  auto last = broker.receive("q", 0ms, 1s);
  last->release(1h);
  CHECK(!*last);
  CHECK_ERROR(last->retry(), LIBMQ_E_BAD_HANDLE, "");
  const auto metrics = broker.metrics("q");
  CHECK(metrics.acked == 1 && metrics.retried == 2 && metrics.rejected == 1 && metrics.released == 1);
  CHECK(metrics.delayed == 3 && metrics.dead == 1);
  broker.enqueue("stale", "x");
  auto stale = broker.receive("stale", 0ms, 1s);
  broker.advance(1s);
  CHECK_ERROR(stale->extend(1s), LIBMQ_E_STALE_LEASE, "");
  CHECK_ERROR(stale->ack(), LIBMQ_E_STALE_LEASE, "");
  broker.close(LONG);
}

void a_receive_that_waits_is_woken_by_a_message_and_by_the_close() {
  broker broker(":memory:");
  std::thread producer([&broker] {
    std::this_thread::sleep_for(20ms);
    broker.enqueue("q", "x");
  });
  broker.receive("q", libmq::forever)->ack();
  producer.join();
  CHECK(!broker.receive("q", 5ms).has_value());
  std::thread closer([&broker] {
    std::this_thread::sleep_for(20ms);
    broker.close(LONG);
  });
  CHECK_ERROR(broker.receive("q", libmq::forever), LIBMQ_E_CLOSED, "");
  closer.join();
}

// What was left of a time was a millisecond less than none, which C takes for a wait without an end.
void a_time_to_wait_that_is_over_is_over() {
  broker broker(":memory:");
  for (const auto over : {-1ms, -2ms, std::chrono::milliseconds::min()}) {
    CHECK(!broker.receive("q", over).has_value());
    CHECK(broker.receive_batch("q", 5, over).empty());
  }
  broker.enqueue("q", "x");
  auto held = broker.receive("q", -1ms);
  CHECK(held.has_value() && !broker.wait_idle(-1ms));
  held->fail("by itself");
  CHECK(broker.metrics("q").handler_errors == 1 && broker.metrics("q").retried == 1);
  broker.close(-1ms);
}

// Less than a millisecond of it was cut off, and most came before their time.
void what_is_to_run_at_a_moment_does_not_run_before_it() {
  broker broker(":memory:");
  for (int i = 0; i < 20; i++) {
    const auto moment = std::chrono::system_clock::now() + std::chrono::microseconds(3999);
    broker.enqueue("q", message("x").run_at(moment));
    broker.receive("q", LONG)->ack();
    CHECK(std::chrono::system_clock::now() >= moment);
  }
  broker.close(LONG);
}

bool is_readable(int fd) {
  pollfd look{fd, POLLIN, 0};
  CHECK(poll(&look, 1, 0) >= 0);
  return (look.revents & POLLIN) != 0;
}

void a_wakeup_is_readable_while_there_may_be_something_and_is_closed_with_its_owner() {
  broker broker(":memory:");
  auto wakeup = broker.wakeup("q");
  const int fd = wakeup.fd();
  broker.enqueue("q", "x");
  CHECK(is_readable(fd));
  broker.receive("q", 0ms)->ack();
  CHECK(!broker.receive("q", 0ms).has_value());
  CHECK(!is_readable(fd));
  {
    const libmq::wakeup moved = std::move(wakeup);
    CHECK(moved.fd() == fd && !is_readable(fd));
  }
  CHECK_SAME(wakeup.fd(), -1);
  pollfd look{fd, POLLIN, 0};
  CHECK(poll(&look, 1, 0) == 1 && (look.revents & POLLNVAL) != 0);
  CHECK_ERROR(broker.wakeup("no name"), LIBMQ_E_INVALID, "queue");
  broker.close(LONG);
}

// ---- dead letters ---------------------------------------------------------------------------------------------------------

void dead_letters_are_listed_found_replayed_and_purged() {
  broker broker(":memory:");
  std::vector<std::uint64_t> ids;
  for (const char *queue : {"a", "a", "b"}) {
    ids.push_back(broker.enqueue(queue, message(queue).correlation_id("c").header("h", "1")).id);
    broker.receive(queue, 0ms)->reject("looked at");
  }
  const auto all = broker.dead_letters();
  CHECK(all.size() == 3 && all[2].queue() == "b" && all[0].id() == ids[0]);
  CHECK_SAME(broker.dead_letters("a").size(), 2U);
  CHECK_SAME(broker.dead_letters("a", 1).size(), 1U);
  CHECK_SAME(broker.dead_letters(std::nullopt, 10, ids[1]).size(), 1U);
  const auto letter = broker.find_dead_letter(ids[0]).value();
  CHECK(letter.reason() == "looked at" && letter.error().empty() && letter.body() == "a" && letter.attempts() == 1);
  CHECK(letter.correlation_id() == "c" && letter.header("h") == "1" && !letter.header("none").has_value());
  CHECK(letter.failed_at() > std::chrono::system_clock::now() - 1h);
  CHECK(!broker.find_dead_letter(99).has_value());
  CHECK(broker.replay(ids[0]).status == LIBMQ_ACCEPTED);
  CHECK_ERROR(broker.replay(ids[0]), LIBMQ_E_NOT_FOUND, "");
  CHECK_SAME(broker.replay_all("a"), 1U);
  CHECK_SAME(broker.purge_dead_letters(), 1U);
  broker.close(LONG);
  CHECK_SAME(letter.body(), "a");
}

// ---- administration ---------------------------------------------------------------------------------------------------------

void queues_are_paused_purged_and_their_messages_cancelled() {
  broker broker(":memory:");
  const auto id = broker.enqueue("q", "x").id;
  broker.pause("q");
  CHECK(!broker.receive("q", 0ms).has_value());
  broker.resume("q");
  auto held = broker.receive("q", 0ms);
  CHECK(broker.cancel(id) && !broker.cancel(99));
  CHECK_SAME(held->cancel_reason().value(), "cancelled");
  held->retry();
  broker.enqueue_batch("q", {"1", "2"});
  CHECK_SAME(broker.purge("q"), 2U);
  CHECK_ERROR(broker.pause("none"), LIBMQ_E_NOT_FOUND, "");
  broker.close(LONG);
}

void figures_and_what_opening_found_can_be_read() {
  broker broker(":memory:");
  broker.enqueue("orders", "x");
  CHECK(broker.metrics("orders").ready == 1 && broker.metrics().enqueued == 1);
  CHECK_ERROR(broker.metrics("none"), LIBMQ_E_NOT_FOUND, "");
  CHECK(broker.metrics_text().find("libmq_ready{queue=\"orders\"} 1") != std::string::npos);
  CHECK(broker.recovery_json().find("\"messages\":0") != std::string::npos);
  broker.close(LONG);
}

void a_backup_can_be_verified_and_opened() {
  broker broker("original");
  broker.enqueue("q", "x");
  broker.snapshot();
  broker.backup("copy");
  CHECK(libmq::verify("copy").find("\"sound\":true") != std::string::npos);
  CHECK_ERROR(libmq::verify("original"), LIBMQ_E_LOCKED, "");
  libmq::broker copy("copy");
  CHECK_SAME(copy.receive("q", 0ms)->body(), "x");
  copy.close(LONG);
  broker.close(LONG);
}

}  // namespace

int main() {
  RUN(a_message_arrives_with_all_that_was_said_of_it);
  RUN(a_body_is_any_bytes_of_anything_that_holds_them);
  RUN(a_message_owns_what_it_was_given);
  RUN(a_key_that_is_taken_replaces_or_keeps);
  RUN(delays_moments_priorities_groups_and_expiry_are_kept);
  RUN(what_c_would_read_as_something_else_is_refused);
  RUN(a_batch_is_enqueued_whole_or_not_at_all);
  RUN(enqueues_that_are_not_waited_for_are_told_in_order);
  RUN(what_is_wrong_with_an_enqueue_is_thrown_at_once_and_the_callback_let_go);
  RUN(what_was_received_is_settled_once);
  RUN(a_receive_that_waits_is_woken_by_a_message_and_by_the_close);
  RUN(a_time_to_wait_that_is_over_is_over);
  RUN(what_is_to_run_at_a_moment_does_not_run_before_it);
  RUN(a_wakeup_is_readable_while_there_may_be_something_and_is_closed_with_its_owner);
  RUN(dead_letters_are_listed_found_replayed_and_purged);
  RUN(queues_are_paused_purged_and_their_messages_cancelled);
  RUN(figures_and_what_opening_found_can_be_read);
  RUN(a_backup_can_be_verified_and_opened);
  return finished();
}
