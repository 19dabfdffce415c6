#include <libmq.hpp>

__attribute__((visibility("default"))) void let_go(libmq::delivery &delivery);
