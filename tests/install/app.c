/* A program outside the house: a message in and out of a directory. */

#include <libmq.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  libmq_broker *broker = NULL;
  libmq_message order = LIBMQ_MESSAGE_INIT;
  order.body = "3 books";
  order.body_len = 7;
  libmq_delivery *delivery = NULL;
  size_t length = 0;
  if (libmq_broker_open("outside-data", NULL, &broker, NULL) != LIBMQ_OK) return 1;
  if (libmq_enqueue(broker, "orders", &order, NULL, NULL) != LIBMQ_OK) return 2;
  if (libmq_receive(broker, "orders", 0, 0, &delivery, NULL) != LIBMQ_OK) return 3;
  if (memcmp(libmq_delivery_body(delivery, &length), "3 books", 7) != 0 || length != 7) return 4;
  if (libmq_delivery_ack(delivery, NULL) != LIBMQ_OK) return 5;
  if (libmq_broker_close(broker, 0, NULL) != LIBMQ_OK) return 6;
  libmq_broker_free(broker);
  printf("C %s %s\n", LIBMQ_VERSION, libmq_version());
  return 0;
}
