// A small shop: orders in, payments out. The same program as orders.c, with C++ around the handles.
//
// After `make build`:
//   c++ -std=c++17 -Iinclude examples/orders/orders.cpp -o target/orders-cpp -Ltarget/release -lmq -Wl,-rpath,target/release
//   target/orders-cpp
// Run it again: the directory stays, and so does what is in it.

#include <libmq.h>

#include <functional>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

// An error of libmq as an exception; its code is what() begins with.
void must(libmq_status status, libmq_error *error) {
  if (status == LIBMQ_OK) return;
  std::unique_ptr<libmq_error, decltype(&libmq_error_free)> owned(error, libmq_error_free);
  throw std::runtime_error(std::string(libmq_status_name(status)) + ": " + libmq_error_message(owned.get()));
}

std::string_view body_of(const libmq_delivery *delivery) {
  size_t length = 0;
  const void *bytes = libmq_delivery_body(delivery, &length);
  return {static_cast<const char *>(bytes), length};
}

// What a handler is in C++: it returns a disposition, and an exception is a failed attempt.
using Handler = std::function<int32_t(libmq_delivery *)>;

int32_t call(void *ctx, libmq_delivery *delivery) noexcept {
  try {
    return (*static_cast<Handler *>(ctx))(delivery);
  } catch (const std::exception &error) {
    libmq_delivery_retry(delivery, LIBMQ_NONE, error.what(), nullptr);
    return LIBMQ_DEFER;  // settled above
  } catch (...) {
    return LIBMQ_RETRY;
  }
}

// libmq calls `drop` once, after the last call has ended; so the handler is never gone while it runs.
void handle(libmq_broker *broker, const char *queue, libmq_handler options, Handler handler) {
  options.ctx = new Handler(std::move(handler));
  options.handle = call;
  options.drop = [](void *ctx) { delete static_cast<Handler *>(ctx); };
  libmq_error *error = nullptr;
  must(libmq_handle(broker, queue, &options, &error), error);
}

// Fails once for one order, to be tried again; passes each order on to `payments`.
int32_t take_order(libmq_delivery *delivery) {
  const std::string_view order = body_of(delivery);
  const uint32_t attempt = libmq_delivery_attempt(delivery);
  if (order.substr(0, 1) == "3" && attempt == 1) throw std::runtime_error("the stock is being counted");

  std::cout << "  took the order of " << order << ", attempt " << attempt << std::endl;
  // The payment exists if and only if this attempt is acked: both are one record in the journal.
  libmq_message payment = LIBMQ_MESSAGE_INIT;
  payment.body = order.data();
  payment.body_len = order.size();
  libmq_error *error = nullptr;
  must(libmq_delivery_enqueue(delivery, "payments", &payment, &error), error);
  return LIBMQ_ACK;
}

// Refuses one payment for good: it becomes a dead letter, to be looked at by somebody.
int32_t pay(libmq_delivery *delivery) {
  const std::string_view order = body_of(delivery);
  if (order.substr(0, 1) == "5") {
    libmq_delivery_reject(delivery, "the card has expired", nullptr);
    return LIBMQ_DEFER;  // settled above
  }
  std::cout << "  paid " << order << std::endl;
  return LIBMQ_ACK;
}

void run() {
  libmq_error *error = nullptr;
  libmq_broker *opened = nullptr;
  must(libmq_broker_open("target/orders-data", nullptr, &opened, &error), error);
  std::unique_ptr<libmq_broker, decltype(&libmq_broker_free)> broker(opened, libmq_broker_free);

  // A handler takes one message at a time, unless told otherwise. Anything but LIBMQ_ACK is no ack.
  libmq_handler orders = LIBMQ_HANDLER_INIT;
  orders.max_parallelism = 4;
  orders.backoff_base_ms = 100;
  handle(broker.get(), "orders", orders, take_order);
  libmq_handler payments = LIBMQ_HANDLER_INIT;
  payments.timeout_ms = 10000;
  handle(broker.get(), "payments", payments, pay);
  must(libmq_broker_start(broker.get(), &error), error);

  // When libmq_enqueue has returned, the order survives a crash and a power loss. Its key makes it one of its kind: an
  // order sent again before it is handled takes the place of the first.
  for (int number = 1; number <= 5; number++) {
    const std::string key = "ORD-00" + std::to_string(number), body = std::to_string(number) + " books";
    libmq_message order = LIBMQ_MESSAGE_INIT;
    order.body = body.data();
    order.body_len = body.size();
    order.dedup_key = key.c_str();
    libmq_receipt receipt;
    must(libmq_enqueue(broker.get(), "orders", &order, &receipt, &error), error);
    const char *status = receipt.status == LIBMQ_ACCEPTED ? "accepted" : "replaced";
    std::cout << "order " << number << ": " << status << " as message " << receipt.id << std::endl;
  }

  must(libmq_broker_wait_idle(broker.get(), 10000, &error), error);
  libmq_dead_letters *listed = nullptr;
  must(libmq_dead_letters_list(broker.get(), nullptr, 10, 0, &listed, &error), error);
  std::unique_ptr<libmq_dead_letters, decltype(&libmq_dead_letters_free)> dead(listed, libmq_dead_letters_free);
  for (size_t i = 0; i < libmq_dead_letters_len(dead.get()); i++)
    std::cout << "dead letter " << libmq_dead_letter_id(dead.get(), i) << " of " << libmq_dead_letter_queue(dead.get(), i)
              << ": " << libmq_dead_letter_reason(dead.get(), i) << std::endl;
  must(libmq_broker_close(broker.get(), 5000, &error), error);
}

}  // namespace

int main() {
  try {
    run();
  } catch (const std::exception &error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
