/* The layout of what crosses the boundary: a change here breaks programs that were built before it. */

#include "check.h"

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field " has moved")
#define SIZE(type, size) _Static_assert(sizeof(type) == (size), #type " has another size")

SIZE(libmq_status, 4);
SIZE(libmq_broker *, 8);

SIZE(libmq_header, 16);
AT(libmq_header, name, 0);
AT(libmq_header, value, 8);

SIZE(libmq_message, 112);
AT(libmq_message, struct_size, 0);
AT(libmq_message, dedup, 4);
AT(libmq_message, priority, 8);
AT(libmq_message, durability, 12);
AT(libmq_message, body, 16);
AT(libmq_message, body_len, 24);
AT(libmq_message, content_type, 32);
AT(libmq_message, dedup_key, 40);
AT(libmq_message, correlation_id, 48);
AT(libmq_message, group, 56);
AT(libmq_message, headers, 64);
AT(libmq_message, headers_len, 72);
AT(libmq_message, delay_ms, 80);
AT(libmq_message, run_at_ms, 88);
AT(libmq_message, expires_in_ms, 96);
AT(libmq_message, dedup_window_ms, 104);

SIZE(libmq_receipt, 16);
AT(libmq_receipt, id, 0);
AT(libmq_receipt, status, 8);

SIZE(libmq_handler, 88);
AT(libmq_handler, struct_size, 0);
AT(libmq_handler, max_parallelism, 4);
AT(libmq_handler, min_parallelism, 8);
AT(libmq_handler, max_retries, 12);
AT(libmq_handler, no_lease_extension, 16);
AT(libmq_handler, timeout_ms, 24);
AT(libmq_handler, cancel_grace_ms, 32);
AT(libmq_handler, backoff_base_ms, 40);
AT(libmq_handler, backoff_cap_ms, 48);
AT(libmq_handler, backoff_factor_permille, 56);
AT(libmq_handler, backoff_jitter_permille, 60);
AT(libmq_handler, ctx, 64);
AT(libmq_handler, handle, 72);
AT(libmq_handler, drop, 80);

SIZE(libmq_metrics, 256);
AT(libmq_metrics, struct_size, 0);
AT(libmq_metrics, reserved, 4);
AT(libmq_metrics, ready, 8);
AT(libmq_metrics, in_flight, 16);
AT(libmq_metrics, delayed, 24);
AT(libmq_metrics, dead, 32);
AT(libmq_metrics, parallelism, 40);
AT(libmq_metrics, oldest_ready_age_ms, 48);
AT(libmq_metrics, enqueued, 56);
AT(libmq_metrics, delivered, 64);
AT(libmq_metrics, acked, 72);
AT(libmq_metrics, retried, 80);
AT(libmq_metrics, released, 88);
AT(libmq_metrics, rejected, 96);
AT(libmq_metrics, dead_lettered, 104);
AT(libmq_metrics, replaced, 112);
AT(libmq_metrics, duplicates, 120);
AT(libmq_metrics, expired, 128);
AT(libmq_metrics, cancelled, 136);
AT(libmq_metrics, stale_settles, 144);
AT(libmq_metrics, handler_errors, 152);
AT(libmq_metrics, timeouts, 160);
AT(libmq_metrics, crashes, 168);
AT(libmq_metrics, stuck, 176);
AT(libmq_metrics, journal_bytes, 184);
AT(libmq_metrics, segments, 192);
AT(libmq_metrics, snapshots, 200);
AT(libmq_metrics, syncs, 208);
AT(libmq_metrics, lsn_reserved, 216);
AT(libmq_metrics, lsn_written, 224);
AT(libmq_metrics, lsn_durable, 232);
AT(libmq_metrics, lsn_shown, 240);
AT(libmq_metrics, memory_bytes, 248);

/* Numbers that programs were compiled with. */
_Static_assert(LIBMQ_OK == 0 && LIBMQ_NONE == -1, "");
_Static_assert(LIBMQ_ACK == 1 && LIBMQ_RETRY == 2 && LIBMQ_REJECT == 3 && LIBMQ_RELEASE == 4 && LIBMQ_DEFER == 5, "");
_Static_assert(LIBMQ_DEDUP_REPLACE == 1 && LIBMQ_DEDUP_KEEP == 2 && LIBMQ_SYNC == 1 && LIBMQ_OS == 2, "");
_Static_assert(LIBMQ_ACCEPTED == 1 && LIBMQ_REPLACED == 2 && LIBMQ_DUPLICATE == 3, "");

static void initialisers_set_the_size_and_nothing_else(void) {
  libmq_message message = LIBMQ_MESSAGE_INIT, zero_message;
  memset(&zero_message, 0, sizeof zero_message);
  CHECK_NUMBER(message.struct_size, sizeof message);
  message.struct_size = 0;
  CHECK(memcmp(&message, &zero_message, sizeof message) == 0);
  libmq_handler handler = LIBMQ_HANDLER_INIT;
  CHECK_NUMBER(handler.struct_size, sizeof handler);
  CHECK(handler.max_parallelism == 0 && handler.min_parallelism == 0 && handler.max_retries == 0);
  CHECK(handler.no_lease_extension == 0 && handler.timeout_ms == 0 && handler.cancel_grace_ms == 0);
  CHECK(handler.backoff_base_ms == 0 && handler.backoff_cap_ms == 0 && handler.backoff_factor_permille == 0);
  CHECK(handler.backoff_jitter_permille == 0 && handler.ctx == NULL && handler.handle == NULL && handler.drop == NULL);
}

static void the_library_is_of_the_headers_version(void) {
  CHECK_TEXT(libmq_version(), LIBMQ_VERSION);
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", LIBMQ_VERSION_MAJOR, LIBMQ_VERSION_MINOR, LIBMQ_VERSION_PATCH);
  CHECK_TEXT(libmq_version(), version);
  CHECK_NUMBER(LIBMQ_VERSION_NUMBER, LIBMQ_VERSION_MAJOR * 10000 + LIBMQ_VERSION_MINOR * 100 + LIBMQ_VERSION_PATCH);
}

static void statuses_have_names(void) {
  CHECK_TEXT(libmq_status_name(LIBMQ_OK), "OK");
  CHECK_TEXT(libmq_status_name(LIBMQ_E_FULL), "FULL");
  CHECK_TEXT(libmq_status_name(LIBMQ_E_STALE_LEASE), "STALE_LEASE");
  CHECK_TEXT(libmq_status_name(12345), "UNKNOWN");
}

int main(void) {
  RUN(initialisers_set_the_size_and_nothing_else);
  RUN(the_library_is_of_the_headers_version);
  RUN(statuses_have_names);
  return finished();
}
