/* libmq for C++: what libmq.h has, with owners for its handles, lambdas for its callbacks, and exceptions for its statuses.
 *
 *   #include <libmq.hpp>                                    C++17 or later; link with -lmq
 *
 *   libmq::broker broker("queue-data");
 *   broker.handle("orders", [](libmq::delivery &order) { order.enqueue("payments", order.body()); });
 *   broker.start();
 *   broker.enqueue("orders", libmq::message("3 books").key("ORD-001"));     (durable when it returns)
 *   broker.wait_idle(10s);
 *   broker.close(5s);
 *
 * Conventions, said once; what a call does and answers stands in libmq.h, at the function of its name:
 *
 * ERRORS    A call that fails throws libmq::error, whose code() is the status of C. Nothing that a callback throws gets out of
 *           it: of a handler it is a failed attempt; of the callback of an enqueue, and of a log hook, it is dropped.
 *           What finds nothing says so without an exception: receive, wait_idle, cancel.
 *
 * OWNERS    broker, delivery and wakeup own a handle of C: they are moved, never copied, and may be destroyed in any order.
 *           One that was moved from has none, and what is called on it fails with LIBMQ_E_BAD_HANDLE. Destructors throw
 *           nothing. message, options, handler_options, error and dead_letter are values, and may be copied.
 *
 * VIEWS     What is passed in as a std::string_view is read during the call; a NULL is none. A std::string_view that an
 *           accessor answers belongs to its delivery, until that is settled or destroyed, or to its dead_letter.
 *
 * THREADS   Any thread, at the same time, on the same object; not while it is moved from, assigned or destroyed.
 *
 * TIME      std::chrono. Whatever converts to milliseconds without loss is taken, such as 5s. A call that is to wait for
 *           `forever` waits without an end, and for a negative time, as what is left of one may be, not at all; options are
 *           times within their ranges. Unlike in a struct of C, a value that is set is meant: 0 is zero.
 */

#ifndef LIBMQ_HPP
#define LIBMQ_HPP

#include <libmq.h>

#if !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#error "libmq.hpp throws: without exceptions use libmq.h"
#endif

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

/* There is one of these in a program, though code of it be hidden in a shared library. */
#if defined(__GNUC__)
#define LIBMQ_HPP_ONE __attribute__((visibility("default")))
#else
#define LIBMQ_HPP_ONE
#endif

namespace libmq {

using std::chrono::milliseconds;

/** A moment: of a clock that the system sets, as times in the journal are. */
using time_point = std::chrono::time_point<std::chrono::system_clock, milliseconds>;

/** A time to wait that never runs out. */
inline constexpr milliseconds forever = milliseconds::max();

/** What became of an enqueue: an `id`, and a `status`, which is `LIBMQ_ACCEPTED`, `LIBMQ_REPLACED` or `LIBMQ_DUPLICATE`. */
using receipt = libmq_receipt;

/** The figures of a queue or of the whole broker. */
using metrics = libmq_metrics;

/** When an enqueue returns, as `LIBMQ_SYNC` and `LIBMQ_OS`; `memory` is for a whole broker, which has no files then. */
enum class durability { sync = LIBMQ_SYNC, os = LIBMQ_OS, memory };

/** What an enqueue does whose key is taken, as `LIBMQ_DEDUP_REPLACE` and `LIBMQ_DEDUP_KEEP`. */
enum class dedup { replace = LIBMQ_DEDUP_REPLACE, keep = LIBMQ_DEDUP_KEEP };

namespace detail {
class call;
template <typename Handler>
class registered;
}  // namespace detail

/* Errors: why a call failed. ---------------------------------------------------------------------------------------- */

/** Why a call failed. `what()` begins with the name of the code: "FULL: ...". */
class error : public std::runtime_error {
 public:
  /** An error of this status, with a text to follow its name. */
  error(libmq_status code, const std::string &text)
      : std::runtime_error(std::string(libmq_status_name(code)) + ": " + text), code_(code) {
    is_retryable_ = is_one_of({LIBMQ_E_FULL, LIBMQ_E_STORAGE_FULL, LIBMQ_E_EMPTY, LIBMQ_E_LOCKED, LIBMQ_E_NO_MEMORY});
    is_fatal_ = is_one_of({LIBMQ_E_POISONED, LIBMQ_E_CORRUPT, LIBMQ_E_CLOSED, LIBMQ_E_FORKED, LIBMQ_E_PANIC});
  }

  /** The status that C answers, such as `LIBMQ_E_FULL`. */
  libmq_status code() const noexcept { return code_; }
  /** Its name without the prefix, such as "FULL". */
  const char *name() const noexcept { return libmq_status_name(code_); }
  /** The file or directory concerned; empty if there is none. */
  const char *path() const noexcept { return path_ == nullptr ? "" : path_->c_str(); }
  /** The operating system's number (`errno`). 0 if it was not asked. */
  int os_code() const noexcept { return os_code_; }
  /** Whether the same call can succeed later without anything being mended. */
  bool is_retryable() const noexcept { return is_retryable_; }
  /** Whether the broker is beyond use and has to be opened again. */
  bool is_fatal() const noexcept { return is_fatal_; }

 private:
  friend class detail::call;

  error(libmq_status code, const libmq_error *from)
      : error(code, std::string(libmq_error_message(from) == nullptr ? "no more is known" : libmq_error_message(from))) {
    if (from == nullptr) return;
    os_code_ = libmq_error_os_code(from);
    is_retryable_ = libmq_error_is_retryable(from);
    is_fatal_ = libmq_error_is_fatal(from);
    if (const char *path = libmq_error_path(from)) path_ = std::make_shared<const std::string>(path);
  }

  bool is_one_of(std::initializer_list<libmq_status> codes) const noexcept {
    return std::find(codes.begin(), codes.end(), code_) != codes.end();
  }

  libmq_status code_;
  int os_code_ = 0;
  bool is_retryable_ = false;
  bool is_fatal_ = false;
  // Shared, so that copying an error throws nothing.
  std::shared_ptr<const std::string> path_;
};

/** Not for programs. */
namespace detail {

/** One call of C, with the error it may leave, and what it takes and gives in the forms of both languages. */
class call {
 public:
  call() = default;
  call(const call &) = delete;
  call &operator=(const call &) = delete;
  ~call() { libmq_error_free(error_); }

  libmq_error **err() noexcept { return &error_; }

  void must(libmq_status status) const {
    if (status != LIBMQ_OK) throw error(status, error_);
  }

  /** Whether the call succeeded; one that failed otherwise than so throws. */
  bool unless(libmq_status expected, libmq_status status) const {
    if (status == expected) return false;
    must(status);
    return true;
  }

  /** A text as C takes it. What has a NUL within would be another one there. */
  static std::string text(std::string_view text, const char *what) {
    if (text.find('\0') != std::string_view::npos) throw error(LIBMQ_E_INVALID, std::string(what) + " has a NUL in it");
    return std::string(text);
  }

  static const char *or_null(const std::optional<std::string> &text) noexcept {
    return text.has_value() ? text->c_str() : nullptr;
  }

  static std::optional<std::string> queue_or_all(std::optional<std::string_view> queue) {
    if (!queue.has_value()) return std::nullopt;
    return text(*queue, "queue");
  }

  /** What a text is to a settle: without an address it is none, and of one with a NUL C reads what is before it. */
  static std::optional<std::string> why(std::string_view why) {
    if (why.data() == nullptr) return std::nullopt;
    return std::string(why);
  }

  /** A delay that C takes. There one that is out of range would be none, with which the message comes again at once. */
  static milliseconds delay(milliseconds delay) {
    constexpr std::chrono::hours most(24 * 366 * 10);
    if (delay.count() >= 0 && delay <= most) return delay;
    throw error(LIBMQ_E_INVALID, "the delay is " + std::to_string(delay.count()) + " ms, but goes from 0 to ten years");
  }

  /** A time to wait as C takes it, where a negative one has no end. */
  static std::int64_t wait(milliseconds time) noexcept {
    return time == forever ? std::int64_t{LIBMQ_NONE} : std::max<std::int64_t>(time.count(), 0);
  }

  static std::optional<std::string_view> or_none(const char *text) noexcept {
    if (text == nullptr) return std::nullopt;
    return std::string_view(text);
  }

  static std::string_view bytes(const void *data, std::size_t size) noexcept {
    return data == nullptr ? std::string_view() : std::string_view(static_cast<const char *>(data), size);
  }

  /** A string that a call made, which is freed. */
  static std::string taken(char *made) {
    const std::unique_ptr<char, void (*)(char *)> owned(made, libmq_string_free);
    return made == nullptr ? std::string() : std::string(made);
  }

  /** A value of a struct that is meant, also if it is zero, which C takes for the default. */
  template <typename Number>
  static Number meant(Number value, const char *what) {
    if (value < 0) throw error(LIBMQ_E_INVALID, std::string(what) + " is " + std::to_string(value) + ", but goes from 0");
    return value == 0 ? Number{LIBMQ_NONE} : value;
  }

  /** The same of a value that cannot be zero, which C would be told as none. */
  template <typename Number>
  static Number above_zero(Number value, const char *what) {
    if (value < 1) throw error(LIBMQ_E_INVALID, std::string(what) + " is " + std::to_string(value) + ", but goes from 1");
    return value;
  }

 private:
  libmq_error *error_ = nullptr;
};

}  // namespace detail

/* Outcomes: what a handler throws to say how its attempt ended. ------------------------------------------------------- */

/** Thrown in a handler: failed, and tried again after a delay, up to `max_retries` times. */
class retry : public std::runtime_error {
 public:
  /** Again after `delay` (0: now), which takes the place of the backoff; `why` is kept. */
  explicit retry(milliseconds delay, const std::string &why = "the handler asked for a retry")
      : std::runtime_error(why), delay_(detail::call::delay(delay)) {}
  /** How long to wait. */
  milliseconds delay() const noexcept { return delay_; }

 private:
  milliseconds delay_;
};

/** Thrown in a handler: to the dead letters, for this reason. */
class reject : public std::runtime_error {
 public:
  /** A text that is kept as the dead letter's reason. */
  explicit reject(const std::string &why = "rejected") : std::runtime_error(why) {}
};

/** Thrown in a handler: given back, ready again after a delay, and not counted as an attempt. */
class release : public std::runtime_error {
 public:
  /** Without a delay it is handed out again at once, as fast as the machine goes. */
  explicit release(milliseconds delay)
      : std::runtime_error("the handler gave the message back"), delay_(detail::call::delay(delay)) {}
  /** How long to wait. */
  milliseconds delay() const noexcept { return delay_; }

 private:
  milliseconds delay_;
};

/* Messages: what is enqueued. ----------------------------------------------------------------------------------------- */

/** A message to enqueue. It owns all that it is given, except the bytes of `body_view`. */
class message {
 public:
  /** A message with an empty body. */
  message() = default;
  /** A message with this text as its body. */
  message(const char *text) : body_(text) {}
  /** A message with these bytes as its body, moved in if they may be. */
  message(std::string bytes) : body_(std::move(bytes)) {}
  /** A message with the bytes of a container that lie in one piece, such as a std::span, as its body. */
  template <typename Bytes, typename = decltype(std::declval<const Bytes &>().data())>
  message(const Bytes &bytes) {
    body(bytes);
  }

  /** The body: bytes, moved in if they may be. */
  message &body(std::string bytes) {
    body_ = std::move(bytes);
    view_.reset();
    return *this;
  }
  /** The body: the bytes of a container that lie in one piece, such as a std::span. */
  template <typename Bytes, typename = decltype(std::declval<const Bytes &>().data())>
  message &body(const Bytes &bytes) {
    static_assert(sizeof(*bytes.data()) == 1, "a body is bytes");
    return body(bytes.data(), bytes.size());
  }
  /** The body: `size` bytes from `data` on, which may be null if there are none. */
  message &body(const void *data, std::size_t size) { return body(std::string(detail::call::bytes(data, size))); }
  /** The body, not copied: the bytes stay where they are until the message was enqueued. */
  message &body_view(std::string_view bytes) {
    body_.clear();
    view_ = bytes;
    return *this;
  }
  /** What the body is. Default `application/octet-stream`. */
  message &content_type(std::string_view type) { return set(content_type_, type, "content_type"); }
  /** The key that makes the message one of its kind in its queue, and what happens when it is taken. */
  message &key(std::string_view key, libmq::dedup taken = libmq::dedup::replace) {
    fields_.dedup = static_cast<std::int32_t>(taken);
    return set(key_, key, "key");
  }
  /** How long after its ack the message guards its key against `dedup::keep`. */
  message &dedup_window(milliseconds window) { return set(fields_.dedup_window_ms, window, "dedup_window"); }
  /** An id that follows the work from message to message. */
  message &correlation_id(std::string_view id) { return set(correlation_id_, id, "correlation_id"); }
  /** One message of a group at a time, in order. */
  message &group(std::string_view group) { return set(group_, group, "group"); }
  /** One more header. */
  message &header(std::string_view name, std::string_view value) {
    headers_.emplace_back(detail::call::text(name, "a header's name"), detail::call::text(value, "a header's value"));
    return *this;
  }
  /** 0 (default) to 9, higher first. */
  message &priority(std::int32_t priority) {
    fields_.priority = detail::call::meant(priority, "priority");
    return *this;
  }
  /** When its enqueue returns. Default the broker's. */
  message &durability(libmq::durability level) {
    fields_.durability = static_cast<std::int32_t>(level);
    return *this;
  }
  /** Not before this has passed. Excludes `run_at`. */
  message &delay(milliseconds delay) { return set(fields_.delay_ms, delay, "delay"); }
  /** Not before this moment; in the past: now. */
  message &run_at(std::chrono::system_clock::time_point moment) {
    // The default of C is the moment 0, which is in the past like the one after it.
    const auto since = std::chrono::ceil<milliseconds>(moment.time_since_epoch());
    fields_.run_at_ms = std::max<std::int64_t>(since.count(), 1);
    return *this;
  }
  /** No attempt begins after this: never attempted it is dropped, else a dead letter `expired`. */
  message &expires_in(milliseconds time) {
    if (time.count() == 0) throw error(LIBMQ_E_INVALID, "expires_in is 0, but goes from 1");
    return set(fields_.expires_in_ms, time, "expires_in");
  }

 private:
  friend class broker;
  friend class delivery;

  message &set(std::optional<std::string> &field, std::string_view value, const char *what) {
    field = detail::call::text(value, what);
    return *this;
  }

  message &set(std::int64_t &field, milliseconds time, const char *what) {
    field = detail::call::meant<std::int64_t>(time.count(), what);
    return *this;
  }

  /** The message as C takes it, whose headers are put behind those that are there; they must have room. */
  libmq_message in_c(std::vector<libmq_header> &headers) const {
    libmq_message in_c = fields_;
    const std::string_view bytes = view_.has_value() ? *view_ : std::string_view(body_);
    in_c.struct_size = static_cast<std::uint32_t>(sizeof in_c);
    in_c.body = bytes.data();
    in_c.body_len = bytes.size();
    in_c.content_type = detail::call::or_null(content_type_);
    in_c.dedup_key = detail::call::or_null(key_);
    in_c.correlation_id = detail::call::or_null(correlation_id_);
    in_c.group = detail::call::or_null(group_);
    in_c.headers_len = headers_.size();
    in_c.headers = headers.data() + headers.size();
    for (const auto &[name, value] : headers_) headers.push_back({name.c_str(), value.c_str()});
    return in_c;
  }

  libmq_message fields_{};
  std::string body_;
  std::optional<std::string_view> view_;
  std::optional<std::string> content_type_, key_, correlation_id_, group_;
  std::vector<std::pair<std::string, std::string>> headers_;
};

/* Deliveries: a message that is held. --------------------------------------------------------------------------------- */

/**
 * A message that is held, and is settled once: `ack`, `retry`, `reject` or `release`. Settling ends it, whatever comes of it,
 * unless a delay is out of its range. Destroyed unsettled it is released. One without a message, because it was settled or moved
 * from, has no body and no names, 0 for every number, and the moment of -1 ms for each moment.
 */
class delivery {
 public:
  /** Takes over what another one has. */
  delivery(delivery &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  /** Lets go of what it has, and takes over what another one has. */
  delivery &operator=(delivery &&other) noexcept {
    if (this != &other) {
      drop();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~delivery() { drop(); }

  /** The body. */
  std::string_view body() const noexcept {
    std::size_t size = 0;
    const void *data = libmq_delivery_body(handle_, &size);
    return detail::call::bytes(data, size);
  }
  /** The message's id, the same for every attempt. */
  std::uint64_t id() const noexcept { return libmq_delivery_id(handle_); }
  /** A number that is larger for every later lease and never comes again, for fencing outside effects. */
  std::uint64_t token() const noexcept { return libmq_delivery_token(handle_); }
  /** The number of this attempt, from 1. */
  std::uint32_t attempt() const noexcept { return libmq_delivery_attempt(handle_); }
  /** Retries after the first attempt. */
  std::uint32_t max_retries() const noexcept { return libmq_delivery_max_retries(handle_); }
  /** The queue it came from. */
  std::string_view queue() const noexcept { return detail::call::or_none(libmq_delivery_queue(handle_)).value_or(""); }
  /** What the body is. */
  std::string_view content_type() const noexcept {
    return detail::call::or_none(libmq_delivery_content_type(handle_)).value_or("");
  }
  /** The id that follows the work from message to message, if there is one. */
  std::optional<std::string_view> correlation_id() const noexcept {
    return detail::call::or_none(libmq_delivery_correlation_id(handle_));
  }
  /** The value of the first header of this name, if there is one. */
  std::optional<std::string_view> header(std::string_view name) const {
    return detail::call::or_none(libmq_delivery_header(handle_, detail::call::text(name, "name").c_str()));
  }
  /** All headers, in the order they were given. */
  std::vector<std::pair<std::string_view, std::string_view>> headers() const {
    std::vector<std::pair<std::string_view, std::string_view>> all;
    for (std::size_t i = 0; i < libmq_delivery_headers_len(handle_); i++) {
      const libmq_header header = libmq_delivery_header_at(handle_, i);
      if (header.name != nullptr) all.emplace_back(header.name, header.value);
    }
    return all;
  }
  /** When it was enqueued, or replaced. */
  time_point enqueued_at() const noexcept { return time_point(milliseconds(libmq_delivery_enqueued_at_ms(handle_))); }
  /** Until when it is held. */
  time_point deadline() const noexcept { return time_point(milliseconds(libmq_delivery_deadline_ms(handle_))); }
  /** Why the attempt was cancelled: "timeout", "shutdown", "cancelled" or "lease_lost"; none while it is not. */
  std::optional<std::string_view> cancel_reason() const noexcept {
    return detail::call::or_none(libmq_delivery_cancel_reason(handle_));
  }
  /** Whether there is still something to settle. */
  explicit operator bool() const noexcept { return handle_ != nullptr; }

  /** Moves the deadline to this long from now, if that is later; up to 24 hours. */
  void extend(milliseconds time) {
    detail::call c;
    c.must(libmq_delivery_extend(handle_, time.count(), c.err()));
  }
  /** Enqueues a message together with the ack of this one, or not at all. */
  void enqueue(std::string_view queue, const message &message) {
    detail::call c;
    std::vector<libmq_header> headers;
    headers.reserve(message.headers_.size());
    const libmq_message in_c = message.in_c(headers);
    c.must(libmq_delivery_enqueue(handle_, detail::call::text(queue, "queue").c_str(), &in_c, c.err()));
  }
  /** Done. What was enqueued with the delivery is enqueued by the same record. */
  void ack() {
    detail::call c;
    c.must(libmq_delivery_ack(settled(), c.err()));
  }
  /** Failed: tried again after the backoff, up to `max_retries` times; then a dead letter that keeps `why`. */
  void retry(std::string_view why = {}) { retry_in(LIBMQ_NONE, why); }
  /** Failed: tried again after `delay` (0: now), up to `max_retries` times; then a dead letter that keeps `why`. */
  void retry_after(milliseconds delay, std::string_view why = {}) {
    retry_in(detail::call::delay(delay).count(), why);
  }
  /** Failed by itself, which is what a handler's exception is: as `retry`, but counted as the handler's error. */
  void fail(std::string_view why = {}) {
    detail::call c;
    const auto text = detail::call::why(why);
    c.must(libmq_delivery_fail(settled(), detail::call::or_null(text), c.err()));
  }
  /** To the dead letters, for this reason; without one "rejected". */
  void reject(std::string_view why = {}) {
    detail::call c;
    const auto reason = detail::call::why(why);
    c.must(libmq_delivery_reject(settled(), detail::call::or_null(reason), c.err()));
  }
  /** Given back, and ready again after `delay`; not counted as an attempt. */
  void release(milliseconds delay = milliseconds(0)) {
    detail::call c;
    const std::int64_t delay_ms = detail::call::delay(delay).count();
    c.must(libmq_delivery_release(settled(), delay_ms, c.err()));
  }

  /** The handle of C, which stays this object's. */
  libmq_delivery *in_c() const noexcept { return handle_; }

 private:
  friend class broker;
  template <typename Handler>
  friend class detail::registered;

  /** What the handler that this thread is in holds. In it C does not free that, but takes an answer. */
  struct held {
    libmq_delivery *handle;
    bool is_dropped;
  };
  LIBMQ_HPP_ONE static held *&held_here() noexcept {
    static thread_local held *here = nullptr;
    return here;
  }

  explicit delivery(libmq_delivery *handle) noexcept : handle_(handle) {}

  libmq_delivery *settled() noexcept { return std::exchange(handle_, nullptr); }

  void retry_in(std::int64_t delay_ms, std::string_view why) {
    detail::call c;
    const auto text = detail::call::why(why);
    c.must(libmq_delivery_retry(settled(), delay_ms, detail::call::or_null(text), c.err()));
  }

  void drop() noexcept {
    if (handle_ == nullptr) return;
    held *here = held_here();
    if (here != nullptr && here->handle == handle_) here->is_dropped = true;
    libmq_delivery_free(settled());
  }

  libmq_delivery *handle_;
};

/* Handlers: functions that libmq calls with messages. ----------------------------------------------------------------- */

/** How a handler is run. What is not set is its default. */
class handler_options {
 public:
  /** How many run at once, 1 to 1024. Default 1. */
  handler_options &max_parallelism(std::int32_t n) {
    fields_.max_parallelism = detail::call::above_zero(n, "max_parallelism");
    return *this;
  }
  /** How many threads stay when idle, 1 to `max_parallelism`. Default 1. */
  handler_options &min_parallelism(std::int32_t n) {
    fields_.min_parallelism = detail::call::above_zero(n, "min_parallelism");
    return *this;
  }
  /** Retries after the first attempt. Default the broker's. */
  handler_options &max_retries(std::int32_t n) { return set(fields_.max_retries, n, "max_retries"); }
  /** Whether `delivery::extend` is allowed. Default true. */
  handler_options &lease_extension_enabled(bool is_enabled) {
    fields_.no_lease_extension = is_enabled ? 0 : 1;
    return *this;
  }
  /** How long an attempt may run before it is cancelled. Default the broker's. */
  handler_options &timeout(milliseconds time) {
    fields_.timeout_ms = detail::call::above_zero<std::int64_t>(time.count(), "timeout");
    return *this;
  }
  /** From cancellation to the loss of the lease. Default 5 s. */
  handler_options &cancel_grace(milliseconds time) { return set(fields_.cancel_grace_ms, time.count(), "cancel_grace"); }
  /** The same wait before every retry. */
  handler_options &backoff(milliseconds wait) {
    return backoff_base(wait).backoff_cap(wait).backoff_factor_permille(1000).backoff_jitter_permille(0);
  }
  /** The wait before the first retry. Default the broker's. */
  handler_options &backoff_base(milliseconds time) { return set(fields_.backoff_base_ms, time.count(), "backoff_base"); }
  /** No wait is longer. Default the broker's. */
  handler_options &backoff_cap(milliseconds time) { return set(fields_.backoff_cap_ms, time.count(), "backoff_cap"); }
  /** Each wait to the one before, in thousandths, 1,000 to 1,000,000. Default the broker's. */
  handler_options &backoff_factor_permille(std::int32_t factor) {
    fields_.backoff_factor_permille = detail::call::above_zero(factor, "backoff_factor_permille");
    return *this;
  }
  /** The part of a wait that is left to chance, in thousandths, up to 1,000. Default the broker's. */
  handler_options &backoff_jitter_permille(std::int32_t jitter) {
    return set(fields_.backoff_jitter_permille, jitter, "backoff_jitter_permille");
  }

 private:
  friend class broker;

  template <typename Number>
  handler_options &set(Number &field, Number value, const char *what) {
    field = detail::call::meant<Number>(value, what);
    return *this;
  }

  libmq_handler fields_{};
};

namespace detail {

/** Whether a class says of itself that there may be nothing in it, as `std::function` and its like do. */
template <typename Handler, typename = void>
struct may_be_empty : std::false_type {};
template <typename Handler>
struct may_be_empty<Handler, std::void_t<decltype(std::declval<const Handler &>().operator bool()),
                                         decltype(std::declval<const Handler &>() == nullptr)>> : std::true_type {};

/** Whether there is nothing to call: a function is never none, what points to one or holds one may be. */
template <typename Handler>
bool is_none(const Handler &handler) noexcept {
  if constexpr (std::is_pointer_v<Handler> || may_be_empty<Handler>::value) return handler == nullptr;
  return false;
}

/** A handler that C holds, from its registration to its `drop`. */
template <typename Handler>
class registered {
 public:
  explicit registered(Handler &&handler) : handler_(std::move(handler)) {}
  explicit registered(const Handler &handler) : handler_(handler) {}

  static std::int32_t handle(void *ctx, libmq_delivery *handle) noexcept {
    delivery::held held{handle, false};
    delivery::held_here() = &held;
    delivery given(handle);
    const bool has_returned = static_cast<registered *>(ctx)->has_returned(given, handle);
    delivery::held_here() = nullptr;
    // The handler may have put another delivery there, which is released as anywhere.
    const bool is_there = given.handle_ == handle;
    if (is_there) given.settled();
    // What was settled already stays so, whatever is answered here.
    if (!has_returned) return LIBMQ_RETRY;
    if (is_there) return LIBMQ_ACK;
    return held.is_dropped ? LIBMQ_RELEASE : LIBMQ_DEFER;
  }

  static void drop(void *ctx) noexcept { delete static_cast<registered *>(ctx); }

 private:
  /** Whether the handler returned. If it threw, the attempt was ended accordingly, whoever holds the delivery now. */
  bool has_returned(delivery &given, libmq_delivery *handle) noexcept {
    try {
      handler_(given);
      return true;
    } catch (const retry &outcome) {
      const std::int64_t delay_ms = outcome.delay().count();
      libmq_delivery_retry(handle, delay_ms, outcome.what(), nullptr);
    } catch (const reject &outcome) {
      libmq_delivery_reject(handle, outcome.what(), nullptr);
    } catch (const release &outcome) {
      libmq_delivery_release(handle, outcome.delay().count(), nullptr);
    } catch (const std::exception &failure) {
      libmq_delivery_fail(handle, failure.what(), nullptr);
    } catch (...) {
      libmq_delivery_fail(handle, "the handler threw what is no std::exception", nullptr);
    }
    return false;
  }

  Handler handler_;
};

}  // namespace detail

/* Options: what a broker is opened with. ------------------------------------------------------------------------------ */

/** Options that brokers are opened with, a value as any other; what is not set is its default, which stands in libmq.h. */
class options {
 public:
  options() : handle_(libmq_options_new(), libmq_options_free) {
    if (handle_ == nullptr) throw error(LIBMQ_E_NO_MEMORY, "there is no memory for options");
  }
  /** What was moved from is an invalid handle. */
  options(options &&) noexcept = default;
  /** What is set there is set here, too, from here on apart; a log hook is the same one. */
  options(const options &other) : options() {
    if (other.handle_ == nullptr) throw error(LIBMQ_E_BAD_HANDLE, "the options were moved from");
    for (const auto &[name, value] : other.said_) {
      if (const auto *number = std::get_if<std::int64_t>(&value)) set(name, *number);
      if (const auto *word = std::get_if<std::string>(&value)) set(name, *word);
    }
    if (other.log_ != nullptr) hook(other.log_);
  }
  /** What was moved from is an invalid handle. */
  options &operator=(options &&) noexcept = default;
  /** As a copy. */
  options &operator=(const options &other) { return *this = options(other); }
  ~options() = default;

  /** Sets a number by its name in C. */
  options &set(std::string_view name, std::int64_t value) {
    detail::call c;
    const std::string named = detail::call::text(name, "name");
    c.must(libmq_options_set_int(handle_.get(), named.c_str(), value, c.err()));
    said_.emplace_back(named, value);
    return *this;
  }
  /** Sets a word by its name in C. */
  options &set(std::string_view name, std::string_view word) {
    detail::call c;
    const std::string named = detail::call::text(name, "name"), value = detail::call::text(word, "a word");
    c.must(libmq_options_set_str(handle_.get(), named.c_str(), value.c_str(), c.err()));
    said_.emplace_back(named, value);
    return *this;
  }

  /** When an enqueue returns: synced, in the kernel, or in memory, which is a broker without files. */
  options &durability(libmq::durability level) {
    const bool is_sync = level == libmq::durability::sync, is_os = level == libmq::durability::os;
    return set("durability", is_sync ? "sync" : is_os ? "os" : "memory");
  }
  /** Live messages. */
  options &capacity(std::int64_t messages) { return set("capacity", messages); }
  /** Bytes the directory may take, snapshots included. */
  options &max_bytes(std::int64_t bytes) { return set("max_bytes", bytes); }
  /** Bytes of a body with its headers. */
  options &max_message_bytes(std::int64_t bytes) { return set("max_message_bytes", bytes); }
  /** Bytes of the bodies and headers of a batch. */
  options &max_batch_bytes(std::int64_t bytes) { return set("max_batch_bytes", bytes); }
  /** Dead letters. */
  options &max_dead_letters(std::int64_t letters) { return set("max_dead_letters", letters); }
  /** Where the broker is full, an enqueue waits for room, so long at most. */
  options &block_when_full(milliseconds timeout = std::chrono::seconds(30)) {
    return set("on_full", "block").set("block_timeout_ms", timeout.count());
  }
  /** How often a snapshot is taken. */
  options &snapshot_interval(milliseconds time) { return set("snapshot_interval_ms", time.count()); }
  /** After how many operations a snapshot is taken. */
  options &snapshot_threshold(std::int64_t operations) { return set("snapshot_threshold", operations); }
  /** Bytes of a segment of the journal. */
  options &segment_bytes(std::int64_t bytes) { return set("segment_bytes", bytes); }
  /** Bytes of recent journal that are kept in memory. */
  options &cache_bytes(std::int64_t bytes) { return set("cache_bytes", bytes); }
  /** What is written is synced by then. */
  options &sync_interval(milliseconds time) { return set("sync_interval_ms", time.count()); }
  /** How long an attempt may run. */
  options &default_timeout(milliseconds time) { return set("default_timeout_ms", time.count()); }
  /** Retries after the first attempt. */
  options &default_max_retries(std::int64_t retries) { return set("default_max_retries", retries); }
  /** How often the process may die in a message. */
  options &max_crashes(std::int64_t crashes) { return set("max_crashes", crashes); }
  /** The waits before retries: the first, the longest, each to the one before, and the part that is left to chance. */
  options &default_backoff(milliseconds base, milliseconds cap, std::int32_t factor_permille = 2000,
                           std::int32_t jitter_permille = 1000) {
    set("default_backoff_base_ms", base.count()).set("default_backoff_cap_ms", cap.count());
    set("default_backoff_factor_permille", factor_permille);
    return set("default_backoff_jitter_permille", jitter_permille);
  }
  /** How long an open waits for another owner to leave. */
  options &lock_timeout(milliseconds time) { return set("lock_timeout_ms", time.count()); }
  /** Time stands still but for `broker::advance`; for tests. */
  options &manual_clock() { return set("clock", "manual"); }
  /**
   * Has `hook` called with what is worth a line in a log: its level (1 an error, 2 a warning, 3 information, 4 detail), its
   * event, and its fields as a JSON object. One event after another, on one thread of each broker. It may do anything but
   * close.
   */
  options &log(std::function<void(int level, std::string_view event, std::string_view fields_json)> hook) {
    if (!hook) throw error(LIBMQ_E_INVALID, "the log hook is none");
    this->hook(std::make_shared<log_fn>(std::move(hook)));
    return *this;
  }

  /** The handle of C, which stays this object's. */
  libmq_options *in_c() const noexcept { return handle_.get(); }

 private:
  friend class broker;
  using log_fn = std::function<void(int, std::string_view, std::string_view)>;

  /** The hook that this thread is in, and what keeps it until it has returned. */
  struct running {
    const void *hook;
    std::shared_ptr<log_fn> kept;
  };
  LIBMQ_HPP_ONE static running *&running_here() noexcept {
    static thread_local running *here = nullptr;
    return here;
  }

  void hook(std::shared_ptr<log_fn> kept) {
    detail::call c;
    c.must(libmq_options_set_log(handle_.get(), tell, kept.get(), c.err()));
    log_ = std::move(kept);
  }

  static void tell(void *ctx, std::int32_t level, const char *event, const char *fields_json) noexcept {
    running here{ctx, nullptr};
    running_here() = &here;
    try {
      (*static_cast<log_fn *>(ctx))(level, event, fields_json);
    } catch (...) {
      // There is nobody to be told.
    }
    running_here() = nullptr;
  }

  std::unique_ptr<libmq_options, void (*)(libmq_options *)> handle_;
  /** What was set, in this order, for copies. */
  std::vector<std::pair<std::string, std::variant<std::int64_t, std::string>>> said_;
  std::shared_ptr<log_fn> log_;
};

/* Dead letters: messages that will not be tried again. ---------------------------------------------------------------- */

/** A dead letter, as it was when it was listed: a copy shares what it shows with those of the same list. */
class dead_letter {
 public:
  /** The message's id. */
  std::uint64_t id() const noexcept { return libmq_dead_letter_id(list_.get(), at_); }
  /** Its queue. */
  std::string_view queue() const noexcept { return text(libmq_dead_letter_queue(list_.get(), at_)); }
  /** The text given to a reject, or "max_retries", "crashed", "expired", "decode" or "corrupt". */
  std::string_view reason() const noexcept { return text(libmq_dead_letter_reason(list_.get(), at_)); }
  /** The last failure's text, which may be empty; of a handler that threw, its `what()`. */
  std::string_view error() const noexcept { return text(libmq_dead_letter_error(list_.get(), at_)); }
  /** How often a handler was entered and did not give it back; crashes count here. */
  std::uint32_t attempts() const noexcept { return libmq_dead_letter_attempts(list_.get(), at_); }
  /** The body. */
  std::string_view body() const noexcept {
    std::size_t size = 0;
    const void *data = libmq_dead_letter_body(list_.get(), at_, &size);
    return detail::call::bytes(data, size);
  }
  /** When it became a dead letter. */
  time_point failed_at() const noexcept {
    return time_point(milliseconds(libmq_dead_letter_failed_at_ms(list_.get(), at_)));
  }
  /** The id that follows the work from message to message, if there is one. */
  std::optional<std::string_view> correlation_id() const noexcept {
    return detail::call::or_none(libmq_dead_letter_correlation_id(list_.get(), at_));
  }
  /** The value of the first header of this name, if there is one. */
  std::optional<std::string_view> header(std::string_view name) const {
    return detail::call::or_none(libmq_dead_letter_header(list_.get(), at_, detail::call::text(name, "name").c_str()));
  }

 private:
  friend class broker;

  dead_letter(std::shared_ptr<libmq_dead_letters> list, std::size_t at) : list_(std::move(list)), at_(at) {}

  static std::string_view text(const char *text) noexcept { return detail::call::or_none(text).value_or(""); }

  std::shared_ptr<libmq_dead_letters> list_;
  std::size_t at_;
};

/* Wakeups: descriptors by which an event loop learns that a queue may have something. --------------------------------- */

/** A descriptor for an event loop, from `broker::wakeup`, which is closed with this. */
class wakeup {
 public:
  /** Takes over what another one has. */
  wakeup(wakeup &&other) noexcept : broker_(other.broker_), fd_(std::exchange(other.fd_, -1)) {}
  /** Lets go of what it has, and takes over what another one has. */
  wakeup &operator=(wakeup &&other) noexcept {
    if (this != &other) {
      close();
      broker_ = other.broker_;
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~wakeup() { close(); }

  /** The descriptor, readable while the queue may have something. -1 if this was moved from. */
  int fd() const noexcept { return fd_; }

 private:
  friend class broker;

  wakeup(libmq_broker *broker, int fd) noexcept : broker_(broker), fd_(fd) {}

  // A broker that is gone has closed it, and is asked in vain: the number may be another's by now.
  void close() noexcept {
    if (fd_ >= 0) libmq_wakeup_close(broker_, std::exchange(fd_, -1), nullptr);
  }

  libmq_broker *broker_;
  int fd_;
};

/* Brokers: an open directory. ----------------------------------------------------------------------------------------- */

/**
 * An open broker. Close it: a broker that is destroyed without a `close` stops its handlers, as `stop` does whose time is
 * over, so that what they refer to may be destroyed after it, unless they run on beyond their `cancel_grace`, which is waited
 * for; beside that it is a crash, on purpose, and what is durable is recovered by the next open. Destroyed in a handler it
 * cannot wait for it, and does not stop.
 */
class broker {
 public:
  /** Opens the broker in a directory, and makes the directory where there is none; ":memory:" is one without files. */
  explicit broker(std::string_view path) { open(path, nullptr); }
  /** Opens it with options, which may be used again, and need not stay. */
  broker(std::string_view path, const options &with) {
    if (with.in_c() == nullptr) throw error(LIBMQ_E_BAD_HANDLE, "the options were moved from");
    open(path, with.in_c());
    log_ = with.log_;
  }
  /** Takes over what another one has. */
  broker(broker &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)), log_(std::move(other.log_)) {}
  /** Lets go of what it has, and takes over what another one has. */
  broker &operator=(broker &&other) noexcept {
    if (this != &other) {
      drop();
      handle_ = std::exchange(other.handle_, nullptr);
      log_ = std::move(other.log_);
    }
    return *this;
  }
  ~broker() { drop(); }

  /** Starts to call handlers. Started already: nothing. */
  void start() {
    detail::call c;
    c.must(libmq_broker_start(handle_, c.err()));
  }
  /** Stops calling handlers, and waits for those that run; `LIBMQ_E_TIMEOUT` if it had to cancel, stopped all the same. */
  void stop(milliseconds timeout) {
    detail::call c;
    c.must(libmq_broker_stop(handle_, detail::call::wait(timeout), c.err()));
  }
  /** Stops, syncs, and gives the directory up; `LIBMQ_E_TIMEOUT` as of `stop`. Closed already: nothing. */
  void close(milliseconds timeout) {
    detail::call c;
    c.must(libmq_broker_close(handle_, detail::call::wait(timeout), c.err()));
  }
  /** Waits until there is nothing to do; false if the time ran out. */
  bool wait_idle(milliseconds timeout) {
    detail::call c;
    return c.unless(LIBMQ_E_TIMEOUT, libmq_broker_wait_idle(handle_, detail::call::wait(timeout), c.err()));
  }

  /** Enqueues a message, and returns when it has reached its durability. */
  receipt enqueue(std::string_view queue, const message &message) {
    detail::call c;
    std::vector<libmq_header> headers;
    headers.reserve(message.headers_.size());
    const libmq_message in_c = message.in_c(headers);
    receipt made{};
    c.must(libmq_enqueue(handle_, detail::call::text(queue, "queue").c_str(), &in_c, &made, c.err()));
    return made;
  }
  /** Enqueues up to 10,000 messages, all or none, with one commit. Receipts come in the order of the messages. */
  std::vector<receipt> enqueue_batch(std::string_view queue, const std::vector<message> &messages) {
    detail::call c;
    std::vector<libmq_header> headers;
    std::size_t headers_len = 0;
    for (const message &message : messages) headers_len += message.headers_.size();
    headers.reserve(headers_len);
    std::vector<libmq_message> in_c;
    in_c.reserve(messages.size());
    for (const message &message : messages) in_c.push_back(message.in_c(headers));
    std::vector<receipt> made(messages.size());
    const std::string name = detail::call::text(queue, "queue");
    c.must(libmq_enqueue_batch(handle_, name.c_str(), in_c.data(), in_c.size(), made.data(), c.err()));
    return made;
  }
  /**
   * Enqueues a message and returns at once. `done` is called once, with a status and a receipt, on a thread of the broker, in
   * the order of the commits; while it runs, the others wait. What is wrong with the call is thrown here, and then it is not.
   */
  void enqueue_async(std::string_view queue, const message &message, std::function<void(libmq_status, receipt)> done) {
    if (!done) throw error(LIBMQ_E_INVALID, "done is none");
    detail::call c;
    std::vector<libmq_header> headers;
    headers.reserve(message.headers_.size());
    const libmq_message in_c = message.in_c(headers);
    const std::string name = detail::call::text(queue, "queue");
    auto told = std::make_unique<done_fn>(std::move(done));
    c.must(libmq_enqueue_async(handle_, name.c_str(), &in_c, tell, told.get(), c.err()));
    static_cast<void>(told.release());  // `tell` frees it.
  }
  /** Enqueues a message and returns at once; the receipt, or an `error` without a text, is in the future when it is there. */
  std::future<receipt> enqueue_async(std::string_view queue, const message &message) {
    auto promise = std::make_shared<std::promise<receipt>>();
    std::future<receipt> future = promise->get_future();
    enqueue_async(queue, message, [promise](libmq_status status, receipt made) {
      if (status == LIBMQ_OK) return promise->set_value(made);
      promise->set_exception(std::make_exception_ptr(error(status, "the enqueue that was not waited for failed")));
    });
    return future;
  }

  /**
   * Registers a queue's handler: a function of a `delivery &`, called on threads of the broker, up to `max_parallelism` at
   * once. When it returns, the message is acked. What it throws is a failed attempt, with the text of `what()`, or what
   * `retry`, `reject` and `release` say. Whatever it settles stays so. Where it moves the delivery elsewhere, the message is
   * held until that is settled, or is released when that is destroyed. It is kept until its last call has ended, which may be
   * after the broker: what it captures by value outlives its calls.
   */
  template <typename Handler>
  void handle(std::string_view queue, Handler &&handler) {
    handle(queue, handler_options(), std::forward<Handler>(handler));
  }
  /** Registers a queue's handler with options. */
  template <typename Handler>
  void handle(std::string_view queue, const handler_options &how, Handler &&handler) {
    using function = std::decay_t<Handler>;
    static_assert(std::is_invocable_v<function &, delivery &>, "a handler is called with a libmq::delivery &");
    if constexpr (std::is_invocable_v<function &, delivery &>) {
      static_assert(std::is_void_v<std::invoke_result_t<function &, delivery &>>,
                    "a handler returns nothing: returning is the ack; throw, or settle the delivery, for anything else");
    }
    if (detail::is_none(handler)) throw error(LIBMQ_E_INVALID, "the handler is none");
    detail::call c;
    const std::string name = detail::call::text(queue, "queue");
    libmq_handler in_c = how.fields_;
    in_c.struct_size = static_cast<std::uint32_t>(sizeof in_c);
    in_c.handle = detail::registered<function>::handle;
    in_c.drop = detail::registered<function>::drop;
    // It is dropped by C, also when that fails.
    in_c.ctx = new detail::registered<function>(std::forward<Handler>(handler));
    c.must(libmq_handle(handle_, name.c_str(), &in_c, c.err()));
  }

  /** Takes the next message of a queue, waiting at most for `timeout`, and holds it for `lease` (0: 30 s). */
  [[nodiscard]] std::optional<delivery> receive(std::string_view queue, milliseconds timeout,
                                                milliseconds lease = milliseconds(0)) {
    detail::call c;
    libmq_delivery *out = nullptr;
    const std::string name = detail::call::text(queue, "queue");
    const auto wait_ms = detail::call::wait(timeout);
    const auto status = libmq_receive(handle_, name.c_str(), wait_ms, lease.count(), &out, c.err());
    if (!c.unless(LIBMQ_E_EMPTY, status)) return std::nullopt;
    return delivery(out);
  }
  /** Takes up to `max` messages (1 to 10,000) that are there, waiting for the first one as `receive` does. */
  [[nodiscard]] std::vector<delivery> receive_batch(std::string_view queue, std::size_t max, milliseconds timeout,
                                                    milliseconds lease = milliseconds(0)) {
    detail::call c;
    const std::string name = detail::call::text(queue, "queue");
    // Other numbers are refused.
    std::vector<libmq_delivery *> out(std::clamp<std::size_t>(max, 1, 10000));
    std::vector<delivery> received;
    received.reserve(out.size());
    std::size_t n = 0;
    const auto wait_ms = detail::call::wait(timeout);
    c.unless(LIBMQ_E_EMPTY,
             libmq_receive_batch(handle_, name.c_str(), max, wait_ms, lease.count(), out.data(), &n, c.err()));
    for (std::size_t i = 0; i < n; i++) received.push_back(delivery(out[i]));
    return received;
  }
  /** Opens a descriptor that is readable while the queue may have something: then receive with 0 until nothing comes. */
  [[nodiscard]] libmq::wakeup wakeup(std::string_view queue) {
    detail::call c;
    int fd = -1;
    c.must(libmq_wakeup_open(handle_, detail::call::text(queue, "queue").c_str(), &fd, c.err()));
    return {handle_, fd};
  }

  /** Sets how many of a queue's handler run at once, 1 to 1024, until its next registration or the close. */
  void scale(std::string_view queue, std::int32_t n) {
    detail::call c;
    c.must(libmq_scale(handle_, detail::call::text(queue, "queue").c_str(), n, c.err()));
  }
  /** Has nothing handed out from a queue, until `resume` or the close. */
  void pause(std::string_view queue) {
    detail::call c;
    c.must(libmq_pause(handle_, detail::call::text(queue, "queue").c_str(), c.err()));
  }
  /** Ends a `pause`, if there is one. */
  void resume(std::string_view queue) {
    detail::call c;
    c.must(libmq_resume(handle_, detail::call::text(queue, "queue").c_str(), c.err()));
  }
  /** Ends a message, waiting or held; false if there is none of this id. */
  bool cancel(std::uint64_t id) {
    detail::call c;
    return c.unless(LIBMQ_E_NOT_FOUND, libmq_cancel(handle_, id, c.err()));
  }
  /** Removes all messages of a queue that nobody holds, and says how many. Dead letters stay. */
  std::uint64_t purge(std::string_view queue) {
    detail::call c;
    std::uint64_t n = 0;
    c.must(libmq_purge(handle_, detail::call::text(queue, "queue").c_str(), &n, c.err()));
    return n;
  }
  /** Takes a snapshot now, so that the next open has less to read. */
  void snapshot() {
    detail::call c;
    c.must(libmq_snapshot(handle_, c.err()));
  }
  /** Writes a copy of the broker to a directory that is not there yet, or is empty, while work goes on. */
  void backup(std::string_view to) {
    detail::call c;
    c.must(libmq_backup(handle_, detail::call::text(to, "to").c_str(), c.err()));
  }
  /** Moves a manual clock, and does what is due then. */
  void advance(milliseconds time) {
    detail::call c;
    c.must(libmq_advance(handle_, time.count(), c.err()));
  }

  /** The figures of a queue, or of the whole broker. */
  libmq::metrics metrics(std::optional<std::string_view> queue = std::nullopt) const {
    detail::call c;
    libmq::metrics out{};
    out.struct_size = static_cast<std::uint32_t>(sizeof out);
    const auto name = detail::call::queue_or_all(queue);
    c.must(libmq_metrics_read(handle_, detail::call::or_null(name), &out, c.err()));
    return out;
  }
  /** The figures as Prometheus reads them. */
  std::string metrics_text() const {
    detail::call c;
    char *out = nullptr;
    c.must(libmq_metrics_text(handle_, &out, c.err()));
    return detail::call::taken(out);
  }
  /** What opening found, as a JSON object. */
  std::string recovery_json() const {
    detail::call c;
    char *out = nullptr;
    c.must(libmq_recovery_json(handle_, &out, c.err()));
    return detail::call::taken(out);
  }

  /** Up to `limit` dead letters of a queue, or of all, with ids above `after_id`, in the order of their ids. */
  std::vector<dead_letter> dead_letters(std::optional<std::string_view> queue = std::nullopt, std::size_t limit = 1000,
                                        std::uint64_t after_id = 0) const {
    detail::call c;
    libmq_dead_letters *out = nullptr;
    const auto name = detail::call::queue_or_all(queue);
    c.must(libmq_dead_letters_list(handle_, detail::call::or_null(name), limit, after_id, &out, c.err()));
    return listed(out);
  }
  /** The dead letter of this id, if there is one. */
  std::optional<dead_letter> find_dead_letter(std::uint64_t id) const {
    detail::call c;
    libmq_dead_letters *out = nullptr;
    if (!c.unless(LIBMQ_E_NOT_FOUND, libmq_dead_letters_get(handle_, id, &out, c.err()))) return std::nullopt;
    return listed(out).front();
  }
  /** Enqueues a dead letter again. Where its key is taken, the receipt says `LIBMQ_DUPLICATE` and it stays. */
  receipt replay(std::uint64_t id) {
    detail::call c;
    receipt made{};
    c.must(libmq_dead_letter_replay(handle_, id, &made, c.err()));
    return made;
  }
  /** Replays the dead letters of a queue, or all, and says how many are dead letters no more. */
  std::uint64_t replay_all(std::optional<std::string_view> queue = std::nullopt) {
    detail::call c;
    std::uint64_t n = 0;
    const auto name = detail::call::queue_or_all(queue);
    c.must(libmq_dead_letters_replay_all(handle_, detail::call::or_null(name), &n, c.err()));
    return n;
  }
  /** Removes the dead letters of a queue, or all, and says how many. */
  std::uint64_t purge_dead_letters(std::optional<std::string_view> queue = std::nullopt) {
    detail::call c;
    std::uint64_t n = 0;
    const auto name = detail::call::queue_or_all(queue);
    c.must(libmq_dead_letters_purge(handle_, detail::call::or_null(name), &n, c.err()));
    return n;
  }

  /** The handle of C, which stays this object's. */
  libmq_broker *in_c() const noexcept { return handle_; }

 private:
  using done_fn = std::function<void(libmq_status, receipt)>;

  static void tell(void *ctx, libmq_status status, libmq_receipt made) noexcept {
    const std::unique_ptr<done_fn> told(static_cast<done_fn *>(ctx));
    try {
      (*told)(status, made);
    } catch (...) {
      // There is nobody to be told.
    }
  }

  static std::vector<dead_letter> listed(libmq_dead_letters *out) {
    const std::shared_ptr<libmq_dead_letters> list(out, libmq_dead_letters_free);
    std::vector<dead_letter> letters;
    for (std::size_t i = 0; i < libmq_dead_letters_len(out); i++) letters.push_back(dead_letter(list, i));
    return letters;
  }

  void open(std::string_view path, const libmq_options *with) {
    detail::call c;
    c.must(libmq_broker_open(detail::call::text(path, "path").c_str(), with, &handle_, c.err()));
  }

  void drop() noexcept {
    if (handle_ == nullptr) return;
    libmq_broker_stop(handle_, 0, nullptr);
    libmq_broker_free(std::exchange(handle_, nullptr));
    // A hook that destroys its own broker is running, and stays until it has returned.
    options::running *here = options::running_here();
    if (here != nullptr && here->hook == log_.get()) here->kept = std::move(log_);
    log_.reset();
  }

  libmq_broker *handle_ = nullptr;
  // Called until the handle is freed.
  std::shared_ptr<options::log_fn> log_;
};

/* What needs no broker. ----------------------------------------------------------------------------------------------- */

/** Reads and checks all of a directory that no broker has open, and changes nothing; the report is a JSON object. */
inline std::string verify(std::string_view path) {
  detail::call c;
  char *out = nullptr;
  c.must(libmq_verify(detail::call::text(path, "path").c_str(), &out, c.err()));
  return detail::call::taken(out);
}

/** The version of the library that is loaded, such as "0.1.0"; `LIBMQ_VERSION` is that of the header. */
inline const char *version() noexcept { return libmq_version(); }

}  // namespace libmq

#undef LIBMQ_HPP_ONE

#endif
