/* Does from C what main.rs does from Rust, as often: `instructions WORK COUNT`. What the two cost is compared. */

#define _DEFAULT_SOURCE

#include <libmq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Messages in the air at once. */
#define BATCH 100

static void done(libmq_status status) {
  if (status == LIBMQ_OK) return;
  fprintf(stderr, "it answered %s\n", libmq_status_name(status));
  exit(1);
}

static int32_t read_and_ack(void *ctx, libmq_delivery *delivery) {
  size_t len;
  (void)ctx;
  return libmq_delivery_body(delivery, &len) != NULL && len == 100 ? LIBMQ_ACK : LIBMQ_REJECT;
}

int main(int argc, char **argv) {
  const char *work = argc > 1 ? argv[1] : "";
  int count = argc > 2 ? atoi(argv[2]) : 0;
  char directory[64];
  snprintf(directory, sizeof directory, "/tmp/libmq-instructions-%d", (int)getpid());
  /* No snapshot and no keeper comes into it. */
  libmq_options *options = libmq_options_new();
  done(libmq_options_set_str(options, "durability", "os", NULL));
  done(libmq_options_set_int(options, "snapshot_interval_ms", 3600000, NULL));
  done(libmq_options_set_int(options, "snapshot_threshold", INT64_MAX, NULL));
  done(libmq_options_set_int(options, "sync_interval_ms", 3600000, NULL));
  libmq_broker *broker = NULL;
  libmq_error *error = NULL;
  done(libmq_broker_open(directory, options, &broker, NULL));
  libmq_options_free(options);
  char body[100];
  memset(body, 'x', sizeof body);
  libmq_message message = LIBMQ_MESSAGE_INIT;
  message.body = body;
  message.body_len = sizeof body;
  bool handles = strcmp(work, "handle") == 0;
  if (handles) {
    libmq_handler handler = LIBMQ_HANDLER_INIT;
    handler.handle = read_and_ack;
    done(libmq_handle(broker, "jobs", &handler, NULL));
  }
  for (int start = 0; start < count; start += BATCH) {
    int batch = count - start < BATCH ? count - start : BATCH;
    for (int i = 0; i < batch; i++) {
      libmq_receipt receipt;
      done(libmq_enqueue(broker, "jobs", &message, &receipt, &error));
    }
    if (strcmp(work, "cycle") != 0) continue;
    for (int i = 0; i < batch; i++) {
      libmq_delivery *delivery;
      done(libmq_receive(broker, "jobs", 0, 0, &delivery, &error));
      done(libmq_delivery_ack(delivery, &error));
    }
  }
  if (handles) {
    done(libmq_broker_start(broker, NULL));
    done(libmq_broker_wait_idle(broker, -1, NULL));
  }
  done(libmq_broker_close(broker, 10000, NULL));
  libmq_broker_free(broker);
  char command[96];
  snprintf(command, sizeof command, "rm -rf %s", directory);
  return system(command);
}
