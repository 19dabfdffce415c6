// What a handler lets go of in code of another shared object is released at once. There it was held until its timeout, since each
// of the two had what says which delivery a thread has for itself.

#include "../check.hpp"
#include "library.hpp"

namespace {

void what_is_let_go_of_in_a_shared_library_is_released() {
  libmq::broker broker(":memory:");
  std::atomic<int> calls{0};
  broker.handle("q", libmq::handler_options().timeout(LONG), [&calls](libmq::delivery &delivery) {
    if (calls++ == 0) let_go(delivery);
  });
  broker.start();
  broker.enqueue("q", "x");
  WAIT_FOR(calls == 2);
  broker.close(LONG);
}

}  // namespace

int main() {
  RUN(what_is_let_go_of_in_a_shared_library_is_released);
  return finished();
}
