// A program outside the house: a message in and out of a directory.

#include <libmq.hpp>

#include <iostream>

int main() {
  libmq::broker broker("outside-data");
  broker.enqueue("orders", "3 books");
  auto delivery = broker.receive("orders", std::chrono::seconds(0));
  if (!delivery || delivery->body() != "3 books") return 1;
  delivery->ack();
  broker.close(std::chrono::seconds(0));
  std::cout << "C++ " << LIBMQ_VERSION << " " << libmq::version() << std::endl;
}
