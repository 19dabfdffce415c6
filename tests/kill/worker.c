/* The worker of the kill rounds in C: `WORKER DIRECTORY SEED [drain]`, see README.md.
 *
 * One write(2) a line, so that a kill cannot tear one. Whatever libmq answers that it should not answer here is an
 * `error` line and the end of the process.
 */
#define _GNU_SOURCE
#include <libmq.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NUMBERS 1000000u
#define PRODUCERS 4
#define BATCH_MAX 6
#define KEYS 12
#define PULLED_MAX 4
#define BODY_MAX 32768
#define DRAIN_MAX_S 300

static libmq_broker *broker;
static uint64_t seed;
/* How many times as long producers pause. */
static uint64_t pace = 1;
static atomic_uint_fast64_t next_number = 1;
static atomic_uint next_lane;
static atomic_bool stop_pulling;
static _Thread_local unsigned lane_of_thread;

/* ---- Lines ---- */

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
	char line[1024];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(line, sizeof line - 1, format, arguments);
	va_end(arguments);
	if (length > (int)sizeof line - 2)
		length = (int)sizeof line - 2;
	line[length++] = '\n';
	/* Whoever reads is gone: nobody is left to say it to. */
	if (write(STDOUT_FILENO, line, (size_t)length) != length)
		_exit(3);
}

/* Ends the process where a call did not answer OK. */
static void must(const char *call, libmq_status status, libmq_error *error)
{
	if (status == LIBMQ_OK)
		return;
	const char *message = error ? libmq_error_message(error) : "no text";
	say("error %s %s: %s", libmq_status_name(status), call, message);
	_exit(1);
}

#define MUST(call, ...) \
	do { \
		libmq_error *error_ = NULL; \
		must(#call, call(__VA_ARGS__, &error_), error_); \
	} while (0)

static unsigned lane(void)
{
	if (!lane_of_thread)
		lane_of_thread = atomic_fetch_add(&next_lane, 1) + 1;
	return lane_of_thread;
}

/* ---- Choices and numbers ---- */

/* splitmix64 */
static uint64_t below(uint64_t *random, uint64_t bound)
{
	uint64_t mixed = *random += UINT64_C(0x9e3779b97f4a7c15);
	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (mixed ^ (mixed >> 31)) % bound;
}

static bool percent(uint64_t *random, uint64_t share)
{
	return below(random, 100) < share;
}

static void pause_us(uint64_t us)
{
	struct timespec time = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };
	nanosleep(&time, NULL);
}

/* `count` numbers in a row; the first of them. */
static uint64_t take_numbers(uint64_t count)
{
	uint64_t first = atomic_fetch_add(&next_number, count);
	if (first + count > NUMBERS) {
		say("error a start has no more numbers to give");
		_exit(1);
	}
	return seed * NUMBERS + first;
}

static size_t make_body(char *body, uint64_t number, uint64_t bytes)
{
	int length = snprintf(body, 32, "%" PRIu64 " ", number);
	memset(body + length, '.', bytes);
	return (size_t)length + bytes;
}

/* Ends the process as a killer says: it aborts, it writes where nothing is, or it exits. */
static _Noreturn void die(const char *body, size_t length)
{
	static int *volatile nothing;
	const char *how = memchr(body, ' ', length);
	if (how && how[1] == 's')
		*nothing = 1;
	if (how && how[1] == 'e')
		exit(9);
	abort();
}

/* The number that a body carries; 0 for the killer. */
static uint64_t number_of(const char *body, size_t length)
{
	uint64_t number = 0;
	for (size_t i = 0; i < length && body[i] >= '0' && body[i] <= '9'; i++)
		number = number * 10 + (uint64_t)(body[i] - '0');
	return number;
}

static bool is_innocent(const char *body, size_t length)
{
	static const char end[] = " innocent";
	size_t bytes = sizeof end - 1;
	return length >= bytes && memcmp(body + length - bytes, end, bytes) == 0;
}

static const char *level_name(int32_t durability)
{
	return durability == LIBMQ_SYNC ? "sync" : "os";
}

/* ---- Producers ---- */

static const char *choose_queue(uint64_t *random)
{
	return percent(random, 25) ? "pulled" : "work";
}

static uint64_t choose_size(uint64_t *random)
{
	/* Now and then one that takes a good part of a segment. */
	return percent(random, 2) ? below(random, 30000) : below(random, 800);
}

static void say_enqueued(uint64_t number, int32_t durability, libmq_receipt receipt)
{
	static const char *const names[] = { "?", "accepted", "replaced", "duplicate" };
	const char *status = receipt.status >= 1 && receipt.status <= 3 ? names[receipt.status] : names[0];
	say("enqueued %" PRIu64 " %" PRIu64 " %s %s", number, receipt.id, level_name(durability), status);
}

static void single(uint64_t *random, char *body, int32_t durability)
{
	libmq_message message = LIBMQ_MESSAGE_INIT;
	libmq_receipt receipt = { 0, 0 };
	uint64_t number = take_numbers(1);
	const char *queue = choose_queue(random);
	message.body = body;
	message.body_len = make_body(body, number, choose_size(random));
	message.durability = durability;
	if (percent(random, 10))
		message.delay_ms = 1 + (int64_t)below(random, 30);
	say("enqueuing %" PRIu64 " %s %s%s", number, queue, level_name(durability), message.delay_ms ? " delayed" : "");
	MUST(libmq_enqueue, broker, queue, &message, &receipt);
	say_enqueued(number, durability, receipt);
}

static void keyed(uint64_t *random, char *body)
{
	libmq_message message = LIBMQ_MESSAGE_INIT;
	libmq_receipt receipt = { 0, 0 };
	uint64_t number = take_numbers(1);
	char key[32];
	snprintf(key, sizeof key, "key-%" PRIu64, below(random, KEYS));
	message.body = body;
	message.body_len = make_body(body, number, choose_size(random));
	message.durability = percent(random, 50) ? LIBMQ_SYNC : LIBMQ_OS;
	message.dedup_key = key;
	if (percent(random, 30))
		message.dedup = LIBMQ_DEDUP_KEEP;
	/* So that it is still waiting when the next one of its key comes. */
	if (percent(random, 30))
		message.delay_ms = 1 + (int64_t)below(random, 20);
	say("enqueuing %" PRIu64 " work %s key=%s%s delayed", number, level_name(message.durability), key,
	    message.dedup == LIBMQ_DEDUP_KEEP ? " keep" : "");
	MUST(libmq_enqueue, broker, "work", &message, &receipt);
	say_enqueued(number, message.durability, receipt);
}

static void batch(uint64_t *random, char *bodies)
{
	libmq_message messages[BATCH_MAX];
	libmq_receipt receipts[BATCH_MAX];
	size_t count = 2 + (size_t)below(random, BATCH_MAX - 1);
	uint64_t first = take_numbers(count);
	const char *queue = choose_queue(random);
	for (size_t i = 0; i < count; i++) {
		libmq_message message = LIBMQ_MESSAGE_INIT;
		char *body = bodies + i * BODY_MAX;
		message.body = body;
		message.body_len = make_body(body, first + i, choose_size(random));
		message.durability = percent(random, 70) ? LIBMQ_SYNC : LIBMQ_OS;
		messages[i] = message;
		say("enqueuing %" PRIu64 " %s %s batch=%" PRIu64, first + i, queue, level_name(message.durability), first);
	}
	MUST(libmq_enqueue_batch, broker, queue, messages, count, receipts);
	for (size_t i = 0; i < count; i++)
		say_enqueued(first + i, messages[i].durability, receipts[i]);
}

/* The first two enqueue singly, one with `sync` and one with `os`; the third uses keys; the fourth makes batches. */
static void *produce(void *argument)
{
	uint64_t producer = (uint64_t)(uintptr_t)argument;
	uint64_t random = seed * UINT64_C(0x010000000001b3) + producer;
	char *bodies = malloc((size_t)BATCH_MAX * BODY_MAX);
	while (bodies) {
		switch (producer) {
		case 0: single(&random, bodies, LIBMQ_SYNC); break;
		case 1: single(&random, bodies, LIBMQ_OS); break;
		case 2: keyed(&random, bodies); break;
		default: batch(&random, bodies); break;
		}
		pause_us(below(&random, producer == 1 ? 1500 : 900) * pace);
	}
	return NULL;
}

/* ---- Handlers ---- */

/* Says that a delivery is in hand; its number. */
static uint64_t enter(const libmq_delivery *delivery)
{
	size_t length = 0;
	const char *body = libmq_delivery_body(delivery, &length);
	uint64_t id = libmq_delivery_id(delivery), number = number_of(body, length);
	if (!number) {
		say("aborting %" PRIu64, id);
		pause_us(3000);
		die(body, length);
	}
	say("entered %" PRIu64 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %s %u", id, libmq_delivery_attempt(delivery),
	    libmq_delivery_token(delivery), number, libmq_delivery_queue(delivery), lane());
	return number;
}

static int32_t settle(const char *what, const libmq_delivery *delivery, int32_t disposition)
{
	say("%s %" PRIu64, what, libmq_delivery_id(delivery));
	return disposition;
}

static void chain(libmq_delivery *delivery, uint64_t *random)
{
	char body[512];
	libmq_message message = LIBMQ_MESSAGE_INIT;
	uint64_t child = take_numbers(1);
	message.body = body;
	message.body_len = make_body(body, child, below(random, 300));
	message.durability = percent(random, 50) ? LIBMQ_SYNC : LIBMQ_OS;
	say("child %" PRIu64 " %" PRIu64 " %s", libmq_delivery_id(delivery), child, level_name(message.durability));
	MUST(libmq_delivery_enqueue, delivery, "children", &message);
}

static int32_t on_work(void *ctx, libmq_delivery *delivery)
{
	(void)ctx;
	uint64_t number = enter(delivery);
	uint64_t random = seed * UINT64_C(0x010000000001b3) + libmq_delivery_token(delivery);
	size_t length = 0;
	const char *body = libmq_delivery_body(delivery, &length);
	pause_us(below(&random, percent(&random, 3) ? 4000 : 500));
	if (is_innocent(body, length))
		return settle("acking", delivery, LIBMQ_ACK);
	bool fails = number % 97 == 0 || percent(&random, 12);
	if (fails && percent(&random, 50))
		return settle("failing", delivery, LIBMQ_RETRY);
	if (number % 89 == 0 && number % 97 != 0) {
		/* The reason goes with a settle of the handler's own. */
		settle("rejecting", delivery, LIBMQ_DEFER);
		MUST(libmq_delivery_reject, delivery, "rejected");
		return LIBMQ_DEFER;
	}
	if (percent(&random, 4))
		return settle("releasing", delivery, LIBMQ_RELEASE);
	if (number % 3 == 0)
		chain(delivery, &random);
	/* No value of the contract is a failed attempt, as a failed retry is. */
	return fails ? settle("failing", delivery, 0) : settle("acking", delivery, LIBMQ_ACK);
}

static int32_t on_child(void *ctx, libmq_delivery *delivery)
{
	(void)ctx;
	uint64_t number = enter(delivery);
	uint64_t random = seed * UINT64_C(0x010000000001b3) + libmq_delivery_token(delivery);
	pause_us(below(&random, 300));
	if (number % 97 == 0 || percent(&random, 8))
		return settle("failing", delivery, LIBMQ_RETRY);
	return settle("acking", delivery, LIBMQ_ACK);
}

static void handle(const char *queue, int32_t max_parallelism, libmq_handle_fn function)
{
	libmq_handler handler = LIBMQ_HANDLER_INIT;
	handler.max_parallelism = max_parallelism;
	handler.handle = function;
	MUST(libmq_handle, broker, queue, &handler);
}

/* Pulls and acks, until told to stop. */
static void *pull(void *argument)
{
	(void)argument;
	while (!atomic_load(&stop_pulling)) {
		libmq_delivery *deliveries[PULLED_MAX];
		uint64_t numbers[PULLED_MAX];
		size_t count = 0;
		libmq_error *error = NULL;
		libmq_status status =
			libmq_receive_batch(broker, "pulled", PULLED_MAX, 20, 0, deliveries, &count, &error);
		if (status == LIBMQ_E_EMPTY) {
			libmq_error_free(error);
			continue;
		}
		must("libmq_receive_batch", status, error);
		for (size_t i = 0; i < count; i++)
			numbers[i] = enter(deliveries[i]);
		for (size_t i = 0; i < count; i++) {
			uint64_t id = libmq_delivery_id(deliveries[i]);
			uint64_t random = seed * UINT64_C(0x010000000001b3) + libmq_delivery_token(deliveries[i]);
			pause_us(below(&random, 300));
			if (numbers[i] % 97 == 0 || percent(&random, 5)) {
				say("failing %" PRIu64, id);
				MUST(libmq_delivery_retry, deliveries[i], LIBMQ_NONE, "meant to fail");
			} else {
				say("acking %" PRIu64, id);
				MUST(libmq_delivery_ack, deliveries[i]);
				say("acked %" PRIu64, id);
			}
		}
	}
	return NULL;
}

/* ---- The whole ---- */

static void list_dead_letters(void)
{
	libmq_dead_letters *letters = NULL;
	MUST(libmq_dead_letters_list, broker, NULL, NUMBERS, 0, &letters);
	for (size_t i = 0; i < libmq_dead_letters_len(letters); i++) {
		size_t length = 0;
		const char *body = libmq_dead_letter_body(letters, i, &length);
		uint64_t number = number_of(body, length);
		char text[32] = "-";
		if (number)
			snprintf(text, sizeof text, "%" PRIu64, number);
		say("dead %" PRIu64 " %s %" PRIu32 " %s", libmq_dead_letter_id(letters, i),
		    libmq_dead_letter_reason(letters, i), libmq_dead_letter_attempts(letters, i), text);
	}
	libmq_dead_letters_free(letters);
}

static void drain(void)
{
	pthread_t puller;
	time_t end = time(NULL) + DRAIN_MAX_S;
	pthread_create(&puller, NULL, pull, NULL);
	for (;;) {
		libmq_metrics metrics = { 0 };
		libmq_error *error = NULL;
		libmq_status idle = libmq_broker_wait_idle(broker, 1000, &error);
		if (idle != LIBMQ_E_TIMEOUT)
			must("libmq_broker_wait_idle", idle, error);
		libmq_error_free(error);
		metrics.struct_size = sizeof metrics;
		MUST(libmq_metrics_read, broker, NULL, &metrics);
		/* A message that is delayed and was never tried keeps nobody from being idle. */
		uint64_t left = metrics.ready + metrics.delayed + metrics.in_flight;
		if (idle == LIBMQ_OK && left == 0)
			break;
		if (time(NULL) > end) {
			say("error %" PRIu64 " messages are left", left);
			_exit(1);
		}
		pause_us(2000);
	}
	atomic_store(&stop_pulling, true);
	pthread_join(puller, NULL);
	list_dead_letters();
	MUST(libmq_broker_close, broker, 10000);
	libmq_broker_free(broker);
	say("drained");
}

/* A number of the recovery report. */
static uint64_t reported(const char *json, const char *name)
{
	char quoted[64];
	snprintf(quoted, sizeof quoted, "\"%s\":", name);
	const char *at = strstr(json, quoted);
	if (!at) {
		say("error the recovery report has no %s: %s", name, json);
		_exit(1);
	}
	return strtoull(at + strlen(quoted), NULL, 10);
}

static void open_broker(const char *directory)
{
	static const struct { const char *name; int64_t value; } numbers[] = {
		{ "segment_bytes", 64 << 10 },      { "snapshot_threshold", 200 },
		{ "snapshot_interval_ms", 50 },     { "default_max_retries", 3 },
		{ "max_crashes", 3 },               { "default_backoff_base_ms", 1 },
		{ "default_backoff_cap_ms", 20 },
	};
	libmq_options *options = libmq_options_new();
	char *report = NULL;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		MUST(libmq_options_set_int, options, numbers[i].name, numbers[i].value);
	MUST(libmq_broker_open, directory, options, &broker);
	libmq_options_free(options);
	MUST(libmq_recovery_json, broker, &report);
	say("recovered %" PRIu64 " %" PRIu64, reported(report, "messages"), reported(report, "dead_letters"));
	say("suspects %" PRIu64, reported(report, "suspects"));
	libmq_string_free(report);
}

int main(int argc, char **argv)
{
	bool drains = argc == 4 && strcmp(argv[3], "drain") == 0;
	if (argc != 3 && !drains) {
		say("error usage: WORKER DIRECTORY SEED [drain]");
		return 2;
	}
	seed = strtoull(argv[2], NULL, 10);
	if (getenv("LIBMQ_KILL_PACE"))
		pace = strtoull(getenv("LIBMQ_KILL_PACE"), NULL, 10);
	open_broker(argv[1]);
	handle("work", 3, on_work);
	handle("children", 2, on_child);
	say("ready");
	MUST(libmq_broker_start, broker);
	if (drains) {
		drain();
		return 0;
	}
	pthread_t threads[PRODUCERS + 1];
	pthread_create(&threads[PRODUCERS], NULL, pull, NULL);
	for (uintptr_t producer = 0; producer < PRODUCERS; producer++)
		pthread_create(&threads[producer], NULL, produce, (void *)producer);
	for (size_t i = 0; i < PRODUCERS + 1; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
