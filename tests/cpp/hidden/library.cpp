// A helper in a shared library, built with -fvisibility=hidden as plugins are.

#include "library.hpp"

#include <utility>

void let_go(libmq::delivery &delivery) { const libmq::delivery mine = std::move(delivery); }
