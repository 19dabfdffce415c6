// A small shop: orders in, payments out. The same program as orders.c, with the header for C++.
//
// After `make build`:
//   c++ -std=c++17 -Iinclude examples/orders/orders.cpp -o target/orders-cpp -Ltarget/release -lmq -Wl,-rpath,target/release
//   target/orders-cpp
// Run it again: the directory stays, and so does what is in it.

#include <libmq.hpp>

#include <iostream>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;

namespace {

// Fails once for one order, to be tried again; passes each order on to `payments`.
void take_order(libmq::delivery &delivery) {
  const auto order = delivery.body();
  if (order.substr(0, 1) == "3" && delivery.attempt() == 1) throw std::runtime_error("the stock is being counted");
  std::cout << "  took the order of " << order << ", attempt " << delivery.attempt() << std::endl;
  // The payment exists if and only if this attempt is acked: both are one record in the journal.
  delivery.enqueue("payments", order);
}

// Refuses one payment for good: it becomes a dead letter, to be looked at by somebody.
void pay(libmq::delivery &delivery) {
  if (delivery.body().substr(0, 1) == "5") throw libmq::reject("the card has expired");
  std::cout << "  paid " << delivery.body() << std::endl;
}

void run() {
  libmq::broker broker("target/orders-data");

  // A handler takes one message at a time, unless told otherwise. What it throws is a failed attempt, tried again later.
  broker.handle("orders", libmq::handler_options().max_parallelism(4).backoff(100ms), take_order);
  broker.handle("payments", libmq::handler_options().timeout(10s), pay);
  broker.start();

  // When enqueue has returned, the order survives a crash and a power loss. Its key makes it one of its kind: an order sent
  // again before it is handled takes the place of the first.
  for (int number = 1; number <= 5; number++) {
    const auto order = libmq::message(std::to_string(number) + " books").key("ORD-00" + std::to_string(number));
    const auto receipt = broker.enqueue("orders", order);
    const char *status = receipt.status == LIBMQ_ACCEPTED ? "accepted" : "replaced";
    std::cout << "order " << number << ": " << status << " as message " << receipt.id << std::endl;
  }

  broker.wait_idle(10s);
  for (const auto &letter : broker.dead_letters())
    std::cout << "dead letter " << letter.id() << " of " << letter.queue() << ": " << letter.reason() << std::endl;
  const auto total = broker.metrics();
  std::cout << total.acked << " acked, " << total.retried << " retried, " << total.dead << " dead" << std::endl;
  broker.close(5s);
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
