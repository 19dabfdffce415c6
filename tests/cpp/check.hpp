// What the C++ tests share: checks that say what they found, and brokers to try things on.
//
// A test is a function whose name is a claim. main() runs them with RUN and ends with `return finished()`; the last line
// that is printed says how many checks held. The first check that does not ends the program with status 1.

#ifndef CHECK_HPP
#define CHECK_HPP

#include <libmq.hpp>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <thread>

using namespace std::chrono_literals;
using libmq::broker;
using libmq::delivery;
using libmq::message;

// Long enough for anything that comes at all, on any machine.
inline constexpr auto LONG = 30s;

inline std::atomic<int> checks_done{0};
inline int tests_run = 0;

#define CHECK(...) check((__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__)
#define CHECK_SAME(value, expected) check_same((value), (expected), __FILE__, __LINE__, #value)

// Checks that an expression throws an error of this status, whose text contains a text.
#define CHECK_ERROR(expression, status, text)                                                                  \
  check_error([&] { static_cast<void>(expression); }, (status), (text), __FILE__, __LINE__, #expression)

#define RUN(test)                   \
  do {                              \
    std::printf("%s\n", #test);     \
    std::fflush(stdout);            \
    test();                         \
    tests_run++;                    \
  } while (false)

inline int finished() {
  std::printf("%d claims, %d checks held\n", tests_run, checks_done.load());
  return 0;
}

[[noreturn]] inline void not_so(const char *file, int line, const std::string &what) {
  std::fprintf(stderr, "%s:%d: not so: %s\n", file, line, what.c_str());
  std::_Exit(1);
}

inline void check(bool holds, const char *file, int line, const char *what) {
  checks_done++;
  if (!holds) not_so(file, line, what);
}

template <typename Value, typename Expected>
void check_same(const Value &value, const Expected &expected, const char *file, int line, const char *what) {
  checks_done++;
  if (value == expected) return;
  std::ostringstream text;
  text << what << " is " << value << ", not " << expected;
  not_so(file, line, text.str());
}

template <typename Expression>
void check_error(Expression expression, libmq_status status, const char *text, const char *file, int line,
                 const char *what) {
  checks_done++;
  try {
    expression();
  } catch (const libmq::error &error) {
    const bool begins = std::string(error.what()).rfind(libmq_status_name(status), 0) == 0;
    if (error.code() == status && begins && std::strstr(error.what(), text) != nullptr) return;
    not_so(file, line, std::string(what) + " said \"" + error.what() + "\"");
  }
  not_so(file, line, std::string(what) + " threw nothing");
}

// Waits until a condition holds; fails when it does not in time.
#define WAIT_FOR(condition) wait_for([&] { return (condition); }, __FILE__, __LINE__, #condition)

template <typename Condition>
void wait_for(Condition condition, const char *file, int line, const char *what) {
  for (int i = 0; i < 30000 && !condition(); i++) std::this_thread::sleep_for(1ms);
  check(condition(), file, line, what);
}

inline broker open_manual() { return broker(":memory:", libmq::options().manual_clock()); }

// Starts, enqueues one message to "q", and waits until there is nothing to do.
inline void run_one(broker &broker, const message &message = "x") {
  broker.start();
  broker.enqueue("q", message);
  CHECK(broker.wait_idle(LONG));
}

#endif
