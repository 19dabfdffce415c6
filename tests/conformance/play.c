/* The C player of the conformance scenarios: play SCRIPT DIRECTORY NAMES FROM.
 *
 * What a script is and what a player owes is said in README.md beside this file. A key that a step has and this player
 * did not look at ends it with status 3, so that no expectation is passed over in silence. It is a short-lived program:
 * what its steps were read into is kept until it ends.
 */

#define _DEFAULT_SOURCE

#include "c/handler.h"
#include "c/script.h"

#include <signal.h>
#include <unistd.h>

/* How long a receive waits that is expected to get something, and how long stop and close wait. */
#define TIMEOUT_MS 5000
#define NAMED_MAX 256
#define BATCH_MAX 10001

/* An id, a delivery or a handler, by name. */
struct named {
  const char *name;
  uint64_t id;
  libmq_delivery *delivery;
  struct handler *handler;
};

struct table {
  struct named list[NAMED_MAX];
  size_t len;
};

static struct fields options;
static const char *directory, *names_file;
static struct table ids, held, handlers;
static libmq_broker *broker;

/* ---- names ----------------------------------------------------------------------------------------------------- */

static struct named *find(struct table *table, const char *name) {
  for (size_t i = 0; i < table->len; i++)
    if (strcmp(table->list[i].name, name) == 0) return &table->list[i];
  return NULL;
}

static struct named *find_or_add(struct table *table, const char *name) {
  struct named *found = find(table, name);
  if (found != NULL) return found;
  if (table->len == NAMED_MAX) WRONG("more names than this player has room for");
  found = &table->list[table->len++];
  found->name = copy_of(name);
  return found;
}

static uint64_t id_of(const char *name) {
  const struct named *found = find(&ids, name);
  if (found == NULL) WRONG("nothing was called %s before", name);
  return found->id;
}

static void expect_id(const struct fields *step, const char *path, const char *name, uint64_t found) {
  const char *expected = get_in(step, path, name);
  if (expected != NULL && id_of(expected) != found)
    WRONG("%s%s is %" PRIu64 ", but %" PRIu64 " was expected", path, name, found, id_of(expected));
}

static void save_names(void) {
  FILE *file = fopen(names_file, "w");
  if (file == NULL) WRONG("the names cannot be saved");
  for (size_t i = 0; i < ids.len; i++) fprintf(file, "%s\t%" PRIu64 "\n", ids.list[i].name, ids.list[i].id);
  if (fclose(file) != 0) WRONG("the names cannot be saved");
}

static void load_names(void) {
  FILE *file = fopen(names_file, "r");
  char name[256];
  uint64_t id;
  if (file == NULL) WRONG("the names cannot be read");
  while (fscanf(file, "%255[^\t]\t%" SCNu64 "\n", name, &id) == 2) find_or_add(&ids, name)->id = id;
  fclose(file);
}

/* ---- answers --------------------------------------------------------------------------------------------------- */

/* Whether a call succeeded, as it had to; false if it failed as it was expected to. */
static bool succeeded(const struct fields *step, libmq_status status, libmq_error *error) {
  const char *expected = get(step, "error");
  if (status == LIBMQ_OK && expected == NULL) return true;
  if (status == LIBMQ_OK) WRONG("it succeeded, but %s was expected", expected);
  if (libmq_error_code(error) != status) WRONG("the error is not of the status %s", libmq_status_name(status));
  if (expected == NULL || strcmp(libmq_status_name(status), expected) != 0)
    WRONG("%s: %s", libmq_status_name(status), libmq_error_message(error));
  libmq_error_free(error);
  return false;
}

#define SUCCEEDED(step, call) (error = NULL, status = (call), succeeded((step), status, error))

/* ---- options and messages --------------------------------------------------------------------------------------- */

/* Whether an option was taken; an error that the step expects may come with the open that follows, too. */
static bool taken(const struct fields *step, libmq_status status, libmq_error *error) {
  return status == LIBMQ_OK || succeeded(step, status, error);
}

static void set_int(libmq_options *to, const char *name, int64_t value, const struct fields *step, bool *good) {
  libmq_error *error = NULL;
  if (!*good) return;
  libmq_status status = libmq_options_set_int(to, name, value, &error);
  *good = taken(step, status, error);
}

/* Sets what this line has of options; false if one was refused as it was expected to be. */
static bool set_options(libmq_options *to, const struct fields *from, const struct fields *step) {
  static const char *numbers[] = {"capacity", "max_bytes", "max_message_bytes", "max_batch_bytes", "max_dead_letters",
                                  "block_timeout_ms", "snapshot_interval_ms", "snapshot_threshold", "segment_bytes",
                                  "cache_bytes", "sync_interval_ms", "default_timeout_ms", "default_max_retries",
                                  "max_crashes", "lock_timeout_ms"};
  static const char *words[] = {"durability", "on_full", "on_corruption", "clock"};
  bool good = true;
  int64_t number, base;
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (number_in(from, "", numbers[i], &number)) set_int(to, numbers[i], number, step, &good);
  for (size_t i = 0; good && i < sizeof words / sizeof *words; i++) {
    const char *word = get(from, words[i]);
    if (word == NULL) continue;
    libmq_error *error = NULL;
    libmq_status status = libmq_options_set_str(to, words[i], word, &error);
    good = taken(step, status, error);
  }
  bool fixed = number_in(from, "", "default_backoff_ms", &base);
  bool doubled = number_in(from, "", "default_backoff_base_ms", &base);
  if (fixed || doubled) {
    int64_t cap = doubled ? number_or(from, "default_backoff_cap_ms", 600000) : base;
    set_int(to, "default_backoff_base_ms", base, step, &good);
    set_int(to, "default_backoff_cap_ms", cap, step, &good);
    set_int(to, "default_backoff_jitter_permille", 0, step, &good);
  }
  return good;
}

/* The directory that a name means: beside the broker's, or in it. */
static const char *place_of(const char *name) {
  bool is_inside = strncmp(name, "./", 2) == 0;
  const char *slash = strrchr(directory, '/');
  size_t before = is_inside ? strlen(directory) : slash == NULL ? 0 : (size_t)(slash - directory);
  if (*name == 0) return name;
  char *path = allocate(before + strlen(name) + 2, 1);
  sprintf(path, "%.*s%s%s", (int)before, directory, before == 0 ? "" : "/", is_inside ? name + 2 : name);
  return path;
}

/* The directory that a key of the step names; the broker's where there is none. */
static const char *place_in(const struct fields *step, const char *key) {
  const char *name = get(step, key);
  return name == NULL ? directory : place_of(name);
}

/* Opens the directory with the scenario's options and those of the step; NULL if that failed as it was expected to. */
static libmq_broker *open_with(const struct fields *step) {
  libmq_options *merged = libmq_options_new();
  libmq_broker *opened = NULL;
  libmq_error *error;
  libmq_status status;
  bool good = set_options(merged, &options, step) && (step == &options || set_options(merged, step, step));
  if (good && !SUCCEEDED(step, libmq_broker_open(place_in(step, "path"), merged, &opened, &error))) opened = NULL;
  libmq_options_free(merged);
  return opened;
}

static int64_t now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* A number of C, where the scenario's may be larger than any that is allowed. */
static int32_t narrow(int64_t number) {
  return number > INT32_MAX ? INT32_MAX : number < INT32_MIN ? INT32_MIN : (int32_t)number;
}

/* The message whose keys begin with `path`. */
static libmq_message message_in(const struct fields *step, const char *path) {
  libmq_message message = LIBMQ_MESSAGE_INIT;
  int64_t number;
  const char *text = get_in(step, path, "body");
  if (number_in(step, path, "body_bytes", &number)) {
    message.body_len = (size_t)number;
    message.body = memset(allocate(message.body_len, 1), 'x', message.body_len);
  } else if (text != NULL) {
    message.body = text;
    message.body_len = strlen(text);
  }
  message.dedup_key = get_in(step, path, "dedup_key");
  message.correlation_id = get_in(step, path, "correlation_id");
  message.content_type = get_in(step, path, "content_type");
  message.group = get_in(step, path, "group");
  if ((text = get_in(step, path, "dedup")) != NULL) {
    if (strcmp(text, "replace") == 0) message.dedup = LIBMQ_DEDUP_REPLACE;
    else if (strcmp(text, "keep") == 0) message.dedup = LIBMQ_DEDUP_KEEP;
    else UNKNOWN("this player does not know the dedup %s", text);
  }
  if ((text = get_in(step, path, "durability")) != NULL) {
    if (strcmp(text, "sync") == 0) message.durability = LIBMQ_SYNC;
    else if (strcmp(text, "os") == 0) message.durability = LIBMQ_OS;
    else message.durability = INT32_MAX; /* C has no number for it */
  }
  if (number_in(step, path, "priority", &number)) message.priority = narrow(number);
  if (number_in(step, path, "delay_ms", &number)) message.delay_ms = number;
  if (number_in(step, path, "run_at_ms", &number)) message.run_at_ms = now_ms() + number;
  if (number_in(step, path, "expires_in_ms", &number)) message.expires_in_ms = number;
  if (number_in(step, path, "dedup_window_ms", &number)) message.dedup_window_ms = number;

  char below[128];
  snprintf(below, sizeof below, "%sheaders.", path);
  libmq_header *headers = allocate(step->len, sizeof *headers);
  for (size_t i = 0; i < step->len; i++) {
    struct field *field = &step->list[i];
    if (strncmp(field->key, below, strlen(below)) != 0) continue;
    field->used = true;
    headers[message.headers_len++] = (libmq_header){field->key + strlen(below), field->value};
  }
  message.headers = headers;
  return message;
}

/* ---- messages in ------------------------------------------------------------------------------------------------- */

static void see_receipt(const struct fields *step, libmq_receipt receipt, const char *as, const char *status_key,
                        const char *id_key) {
  static const char *statuses[] = {"?", "accepted", "replaced", "duplicate"};
  const char *status = receipt.status >= 1 && receipt.status <= 3 ? statuses[receipt.status] : "?";
  expect_text(step, "", status_key, status);
  expect_id(step, "", id_key, receipt.id);
  const char *name = get(step, as);
  if (name != NULL) find_or_add(&ids, name)->id = receipt.id;
}

static void enqueue(const struct fields *step) {
  libmq_message message = message_in(step, "");
  libmq_receipt receipt;
  libmq_error *error;
  libmq_status status;
  if (SUCCEEDED(step, libmq_enqueue(broker, need(step, "queue"), &message, &receipt, &error)))
    see_receipt(step, receipt, "as", "expect.status", "expect.id");
}

static void enqueue_many(const struct fields *step) {
  size_t count = 0, listed;
  count_of(step, "messages", &count);
  libmq_message *messages = allocate(count, sizeof *messages);
  libmq_receipt *receipts = allocate(count, sizeof *receipts);
  libmq_error *error;
  libmq_status status;
  char key[3][64];
  for (size_t i = 0; i < count; i++) {
    snprintf(key[0], sizeof key[0], "messages.%zu.", i);
    messages[i] = message_in(step, key[0]);
  }
  if (!SUCCEEDED(step, libmq_enqueue_batch(broker, need(step, "queue"), messages, count, receipts, &error))) return;
  static const char *lists[] = {"as", "expect.statuses", "expect.ids"};
  for (size_t i = 0; i < 3; i++)
    if (count_of(step, lists[i], &listed) && listed != count)
      WRONG("%zu receipts, but %s has %zu", count, lists[i], listed);
  for (size_t i = 0; i < count; i++) {
    for (size_t j = 0; j < 3; j++) snprintf(key[j], sizeof key[j], "%s.%zu", lists[j], i);
    see_receipt(step, receipts[i], key[0], key[1], key[2]);
  }
}

/* ---- messages out ------------------------------------------------------------------------------------------------ */

/* A delivery that is not named is held until the end all the same. */
static void keep(const char *name, libmq_delivery *delivery) {
  if (name == NULL) return;
  struct named *named = find_or_add(&held, name);
  named->delivery = delivery;
  named->id = libmq_delivery_token(delivery);
}

static void expect_delivery(const struct fields *step, const libmq_delivery *delivery) {
  size_t len;
  int64_t count;
  const char *body = libmq_delivery_body(delivery, &len), *correlation_id = libmq_delivery_correlation_id(delivery);
  expect_id(step, "", "expect.id", libmq_delivery_id(delivery));
  expect_bytes(step, "", "expect.body", body, len);
  expect_number(step, "", "expect.attempt", libmq_delivery_attempt(delivery));
  expect_number(step, "", "expect.max_retries", libmq_delivery_max_retries(delivery));
  expect_text(step, "", "expect.content_type", libmq_delivery_content_type(delivery));
  expect_text(step, "", "expect.correlation_id", correlation_id == NULL ? "" : correlation_id);
  if (number_in(step, "", "expect.body_bytes", &count)) {
    expect_number(step, "", "expect.body_bytes", (int64_t)len);
    for (size_t i = 0; i < len; i++)
      if (body[i] != 'x') WRONG("the body is not all x");
  }
  for (size_t i = 0; i < step->len; i++) {
    const char *path = "expect.headers.";
    if (strncmp(step->list[i].key, path, strlen(path)) != 0) continue;
    const char *name = step->list[i].key + strlen(path);
    expect_text(step, path, name, libmq_delivery_header(delivery, name));
  }
  const char *before = get(step, "expect.token_after");
  if (before != NULL) {
    const struct named *named = find(&held, before);
    if (named == NULL || named->id >= libmq_delivery_token(delivery)) WRONG("the token is not above that of %s", before);
  }
}

static void receive(const struct fields *step) {
  const char *none_text = get(step, "expect.none");
  bool none = none_text != NULL && strcmp(none_text, "true") == 0;
  int64_t wait = number_or(step, "timeout_ms", none ? 0 : TIMEOUT_MS);
  libmq_delivery *delivery = NULL;
  libmq_error *error = NULL;
  libmq_status status = libmq_receive(broker, need(step, "queue"), wait, number_or(step, "lease_ms", 0), &delivery, &error);
  if (status == LIBMQ_E_EMPTY && get(step, "error") == NULL) {
    if (!none) WRONG("nothing came");
    libmq_error_free(error);
    return;
  }
  if (!succeeded(step, status, error)) return;
  if (none) WRONG("message %" PRIu64 " came, but none was expected", libmq_delivery_id(delivery));
  expect_delivery(step, delivery);
  keep(get(step, "as"), delivery);
}

static void receive_many(const struct fields *step) {
  static libmq_delivery *deliveries[BATCH_MAX];
  int64_t max = number_or(step, "max", 1);
  size_t count = 0, listed;
  libmq_error *error = NULL;
  if (max > BATCH_MAX) UNKNOWN("this player has no room for so many");
  libmq_status status = libmq_receive_batch(broker, need(step, "queue"), (size_t)max, number_or(step, "timeout_ms", TIMEOUT_MS),
                                            number_or(step, "lease_ms", 0), deliveries, &count, &error);
  /* Nothing is a list without entries, unless the step expects an error. */
  if (status == LIBMQ_E_EMPTY && get(step, "error") == NULL) libmq_error_free(error);
  else if (!succeeded(step, status, error)) return;
  if (count_of(step, "expect.bodies", &listed) && listed != count) WRONG("%zu came, but %zu were expected", count, listed);
  if (count_of(step, "expect.ids", &listed) && listed != count) WRONG("%zu came, but %zu were expected", count, listed);
  count_of(step, "as", &listed);
  for (size_t i = 0; i < count; i++) {
    char name[32];
    size_t len;
    const void *body = libmq_delivery_body(deliveries[i], &len);
    snprintf(name, sizeof name, ".%zu", i);
    expect_bytes(step, "expect.bodies", name, body, len);
    expect_id(step, "expect.ids", name, libmq_delivery_id(deliveries[i]));
    keep(item_of(step, "as", i), deliveries[i]);
  }
}

static void play_delivery(const char *action, const struct fields *step) {
  struct named *named = find(&held, need(step, "delivery"));
  if (named == NULL) WRONG("no delivery was called %s", need(step, "delivery"));
  if (named->delivery == NULL) WRONG("it is settled");
  libmq_delivery *delivery = named->delivery;
  libmq_error *error;
  libmq_status status;
  const char *why = get(step, "why");
  if (strcmp(action, "extend") == 0) {
    SUCCEEDED(step, libmq_delivery_extend(delivery, number_or(step, "ms", 0), &error));
    return;
  }
  if (strcmp(action, "child") == 0) {
    libmq_message child = message_in(step, "");
    SUCCEEDED(step, libmq_delivery_enqueue(delivery, need(step, "queue"), &child, &error));
    return;
  }
  named->delivery = NULL;
  if (strcmp(action, "ack") == 0) SUCCEEDED(step, libmq_delivery_ack(delivery, &error));
  else if (strcmp(action, "reject") == 0) SUCCEEDED(step, libmq_delivery_reject(delivery, why, &error));
  else if (strcmp(action, "retry") == 0)
    SUCCEEDED(step, libmq_delivery_retry(delivery, number_or(step, "delay_ms", LIBMQ_NONE), why, &error));
  else SUCCEEDED(step, libmq_delivery_release(delivery, number_or(step, "delay_ms", 0), &error));
}

/* ---- handlers ---------------------------------------------------------------------------------------------------- */

/* A field of a handler: 0 in a scenario is zero, in C the default. */
static int64_t meant(const struct fields *step, const char *key) {
  int64_t number;
  if (!number_in(step, "", key, &number)) return 0;
  return number == 0 ? LIBMQ_NONE : number;
}

static void handle(const struct fields *step) {
  struct handler *ours = allocate(1, sizeof *ours);
  ours->step = step;
  pthread_mutex_init(&ours->lock, NULL);
  pthread_cond_init(&ours->changed, NULL);
  count_of(step, "outcomes", &ours->outcomes);
  for (size_t i = 0; i < ours->outcomes; i++) item_of(step, "outcomes", i);
  if ((ours->has_child = has(step, "child."))) {
    need(step, "child.queue");
    ours->child = message_in(step, "child.");
  }
  libmq_handler handler = LIBMQ_HANDLER_INIT;
  handler.handle = handle_call;
  handler.ctx = ours;
  handler.max_parallelism = narrow(meant(step, "max_parallelism"));
  handler.min_parallelism = narrow(meant(step, "min_parallelism"));
  handler.max_retries = narrow(meant(step, "max_retries"));
  handler.timeout_ms = meant(step, "timeout_ms");
  handler.cancel_grace_ms = meant(step, "cancel_grace_ms");
  handler.backoff_base_ms = handler.backoff_cap_ms = meant(step, "backoff_ms");
  if (has(step, "backoff_base_ms")) {
    handler.backoff_base_ms = meant(step, "backoff_base_ms");
    handler.backoff_cap_ms = meant(step, "backoff_cap_ms");
  }
  if (has(step, "backoff_")) handler.backoff_jitter_permille = LIBMQ_NONE;
  const char *extension = get(step, "lease_extension_enabled");
  handler.no_lease_extension = extension != NULL && strcmp(extension, "false") == 0;
  const char *queue = need(step, "queue");
  libmq_error *error;
  libmq_status status;
  if (SUCCEEDED(step, libmq_handle(broker, queue, &handler, &error))) find_or_add(&handlers, queue)->handler = ours;
}

/* ---- looking ----------------------------------------------------------------------------------------------------- */

#define FIGURE(name) \
  { #name, offsetof(libmq_metrics, name) }

static const struct {
  const char *name;
  size_t offset;
} figures[] = {
    FIGURE(ready),        FIGURE(in_flight),  FIGURE(delayed),       FIGURE(dead),          FIGURE(parallelism),
    FIGURE(enqueued),     FIGURE(delivered),  FIGURE(acked),         FIGURE(retried),       FIGURE(released),
    FIGURE(rejected),     FIGURE(replaced),   FIGURE(dead_lettered), FIGURE(duplicates),    FIGURE(expired),
    FIGURE(cancelled),    FIGURE(timeouts),   FIGURE(stale_settles), FIGURE(handler_errors), FIGURE(crashes),
    FIGURE(stuck),        FIGURE(segments),   FIGURE(journal_bytes), FIGURE(snapshots),     FIGURE(syncs),
    FIGURE(memory_bytes), FIGURE(oldest_ready_age_ms),
};

/* Answers the first figure that is not as expected, or NULL, and what it is. */
static const char *figure_that_is_off(const struct fields *step, const libmq_metrics *metrics, int64_t *found) {
  for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
    int64_t expected;
    if (!number_in(step, "expect.", figures[i].name, &expected)) continue;
    memcpy(found, (const char *)metrics + figures[i].offset, sizeof *found);
    if (*found != expected) return figures[i].name;
  }
  return NULL;
}

/* Waits until the figures are as expected. A queue that is not there yet has none. */
static void expect_metrics(const struct fields *step) {
  const char *off = "the queue";
  int64_t found = -1;
  for (int64_t end = now_ms() + WAIT_MS; now_ms() < end; sleep_ms(1)) {
    libmq_metrics metrics = {.struct_size = sizeof metrics};
    libmq_error *error = NULL;
    libmq_status status = libmq_metrics_read(broker, get(step, "queue"), &metrics, &error);
    if (status == LIBMQ_E_NOT_FOUND && get(step, "error") == NULL) {
      libmq_error_free(error);
      continue;
    }
    if (!succeeded(step, status, error)) return;
    off = figure_that_is_off(step, &metrics, &found);
    if (off == NULL) return;
  }
  WRONG("%s is %" PRId64 ", which was not expected", off, found);
}

/* Whether a text has this as a line. */
static bool has_line(const char *text, const char *line) {
  size_t len = strlen(line);
  for (const char *at = text; at != NULL; at = strchr(at, '\n')) {
    if (at != text) at++;
    if (strncmp(at, line, len) == 0 && (at[len] == '\n' || at[len] == '\0')) return true;
  }
  return false;
}

static void prometheus(const struct fields *step) {
  char *text = NULL;
  libmq_error *error;
  libmq_status status;
  if (!SUCCEEDED(step, libmq_metrics_text(broker, &text, &error))) return;
  size_t count = 0;
  count_of(step, "expect.lines", &count);
  for (size_t i = 0; i < count; i++) {
    const char *line = item_of(step, "expect.lines", i);
    if (!has_line(text, line)) WRONG("there is no line %s in\n%s", line, text);
  }
  libmq_string_free(text);
}

static void dead_letters(const struct fields *step) {
  const char *after = get(step, "after");
  libmq_dead_letters *letters = NULL;
  libmq_error *error;
  libmq_status status;
  size_t count;
  uint64_t after_id = after == NULL ? 0 : id_of(after);
  size_t limit = (size_t)number_or(step, "limit", 1000);
  if (!SUCCEEDED(step, libmq_dead_letters_list(broker, get(step, "queue"), limit, after_id, &letters, &error))) return;
  size_t len = libmq_dead_letters_len(letters);
  if (count_of(step, "expect.letters", &count) && count != len) WRONG("%zu letters, but %zu were expected", len, count);
  for (size_t i = 0; i < len; i++) {
    char path[48];
    size_t body_len;
    const void *body = libmq_dead_letter_body(letters, i, &body_len);
    snprintf(path, sizeof path, "expect.letters.%zu.", i);
    expect_id(step, path, "id", libmq_dead_letter_id(letters, i));
    expect_text(step, path, "queue", libmq_dead_letter_queue(letters, i));
    expect_text(step, path, "reason", libmq_dead_letter_reason(letters, i));
    expect_text(step, path, "error", libmq_dead_letter_error(letters, i));
    expect_number(step, path, "attempts", libmq_dead_letter_attempts(letters, i));
    expect_bytes(step, path, "body", body, body_len);
  }
  libmq_dead_letters_free(letters);
}

/* Compares the numbers of a report with what is expected of them. */
static void expect_report(const struct fields *step, const char *json, const char *const names[], size_t len) {
  for (size_t i = 0; i < len; i++) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", names[i]);
    const char *found = strstr(json, key);
    if (found == NULL) WRONG("the report has no %s", names[i]);
    expect_number(step, "expect.", names[i], strtoll(found + strlen(key), NULL, 10));
  }
}

static void recovery(const struct fields *step) {
  static const char *const names[] = {"messages", "dead_letters", "suspects"};
  char *json = NULL;
  libmq_error *error;
  libmq_status status;
  if (!SUCCEEDED(step, libmq_recovery_json(broker, &json, &error))) return;
  expect_report(step, json, names, sizeof names / sizeof *names);
  libmq_string_free(json);
}

static void backup(const struct fields *step) {
  libmq_error *error;
  libmq_status status;
  SUCCEEDED(step, libmq_backup(broker, place_of(need(step, "to")), &error));
}

static void verify(const struct fields *step) {
  static const char *const names[] = {"messages", "dead_letters", "suspects", "dropped_bytes"};
  static const char *const truths[] = {"sound", "closed"};
  char *json = NULL;
  libmq_error *error;
  libmq_status status;
  if (!SUCCEEDED(step, libmq_verify(place_in(step, "path"), &json, &error))) return;
  expect_report(step, json, names, sizeof names / sizeof *names);
  for (size_t i = 0; i < sizeof truths / sizeof *truths; i++) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", truths[i]);
    const char *found = strstr(json, key);
    if (found == NULL) WRONG("the report has no %s", truths[i]);
    bool is_so = strncmp(found + strlen(key), "true", 4) == 0;
    expect_text(step, "expect.", truths[i], is_so ? "true" : "false");
  }
  libmq_string_free(json);
}

static void wait_idle(const struct fields *step) {
  libmq_error *error = NULL;
  libmq_status status = libmq_broker_wait_idle(broker, number_or(step, "timeout_ms", WAIT_MS), &error);
  bool ran_out = status == LIBMQ_E_TIMEOUT && get(step, "error") == NULL;
  if (ran_out) libmq_error_free(error);
  else if (!succeeded(step, status, error)) return;
  const char *expected = get(step, "expect.idle");
  bool idle = expected == NULL || strcmp(expected, "true") == 0;
  if (idle == ran_out) WRONG("idle is %s", ran_out ? "false" : "true");
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

static void open_step(const struct fields *step) {
  libmq_broker *opened = open_with(step);
  if (opened == NULL) return;
  libmq_broker_free(broker);
  broker = opened;
  handlers.len = 0;
}

static void open_again_step(const struct fields *step) {
  libmq_broker *again = open_with(step);
  if (again == NULL) return;
  libmq_status status = libmq_broker_close(again, TIMEOUT_MS, NULL);
  if (status != LIBMQ_OK) WRONG("the close answers %s", libmq_status_name(status));
  libmq_broker_free(again);
}

static void kill_step(void) {
  save_names();
  kill(getpid(), SIGKILL);
}

/* The steps that are one call. */
static void call_step(const char *action, const struct fields *step) {
  libmq_error *error;
  libmq_status status;
  libmq_receipt receipt;
  uint64_t count = 0;
#define IS(name) (strcmp(action, name) == 0)
  if (IS("close")) SUCCEEDED(step, libmq_broker_close(broker, number_or(step, "timeout_ms", TIMEOUT_MS), &error));
  else if (IS("stop")) SUCCEEDED(step, libmq_broker_stop(broker, number_or(step, "timeout_ms", TIMEOUT_MS), &error));
  else if (IS("start")) SUCCEEDED(step, libmq_broker_start(broker, &error));
  else if (IS("snapshot")) SUCCEEDED(step, libmq_snapshot(broker, &error));
  else if (IS("advance")) SUCCEEDED(step, libmq_advance(broker, number_or(step, "ms", 0), &error));
  else if (IS("scale")) SUCCEEDED(step, libmq_scale(broker, need(step, "queue"), narrow(number_or(step, "n", 0)), &error));
  else if (IS("pause")) SUCCEEDED(step, libmq_pause(broker, need(step, "queue"), &error));
  else if (IS("resume")) SUCCEEDED(step, libmq_resume(broker, need(step, "queue"), &error));
  else if (IS("backup")) backup(step);
  else if (IS("verify")) verify(step);
  else if (IS("cancel")) {
    const char *existed = get(step, "expect.existed");
    bool gone = existed != NULL && strcmp(existed, "false") == 0;
    error = NULL;
    status = libmq_cancel(broker, id_of(need(step, "id")), &error);
    if (gone != (status == LIBMQ_E_NOT_FOUND)) succeeded(step, status, error), WRONG("existed is not as expected");
    if (!gone) succeeded(step, status, error);
  } else if (IS("purge")) {
    if (SUCCEEDED(step, libmq_purge(broker, need(step, "queue"), &count, &error)))
      expect_number(step, "", "expect.count", (int64_t)count);
  } else if (IS("replay_all")) {
    if (SUCCEEDED(step, libmq_dead_letters_replay_all(broker, get(step, "queue"), &count, &error)))
      expect_number(step, "", "expect.count", (int64_t)count);
  } else if (IS("purge_dead")) {
    if (SUCCEEDED(step, libmq_dead_letters_purge(broker, get(step, "queue"), &count, &error)))
      expect_number(step, "", "expect.count", (int64_t)count);
  } else if (IS("replay")) {
    if (SUCCEEDED(step, libmq_dead_letter_replay(broker, id_of(need(step, "id")), &receipt, &error)))
      see_receipt(step, receipt, "as", "expect.status", "expect.id");
  } else {
    UNKNOWN("this player does not know the step %s", action);
  }
#undef IS
}

static void handler_step(const char *action, const struct fields *step) {
  const struct named *named = find(&handlers, need(step, "queue"));
  if (named == NULL) WRONG("the queue has no handler");
  if (strcmp(action, "calls") == 0) expect_calls(named->handler, step);
  else let_go(named->handler);
}

static void play(const struct fields *step) {
  const char *action = need(step, "do");
#define IS(name) (strcmp(action, name) == 0)
  if (IS("open")) open_step(step);
  else if (IS("open_again")) open_again_step(step);
  else if (IS("kill")) kill_step();
  else if (IS("calls") || IS("let_go")) handler_step(action, step);
  else if (IS("ack") || IS("retry") || IS("reject") || IS("release") || IS("extend") || IS("child"))
    play_delivery(action, step);
  else if (IS("enqueue")) enqueue(step);
  else if (IS("enqueue_many")) enqueue_many(step);
  else if (IS("receive")) receive(step);
  else if (IS("receive_many")) receive_many(step);
  else if (IS("handle")) handle(step);
  else if (IS("metrics")) expect_metrics(step);
  else if (IS("prometheus")) prometheus(step);
  else if (IS("dead_letters")) dead_letters(step);
  else if (IS("recovery")) recovery(step);
  else if (IS("wait_idle")) wait_idle(step);
  else call_step(action, step);
#undef IS
  check_all_used(step);
}

/* Reads the next line of the script; false at its end. */
static bool next_line(FILE *script, struct fields *fields) {
  char *line = NULL;
  size_t room = 0;
  ssize_t len = getline(&line, &room, script);
  if (len < 0) return false;
  if (len > 0 && line[len - 1] == '\n') line[len - 1] = 0;
  *fields = fields_of(line);
  return true;
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: play SCRIPT DIRECTORY NAMES FROM\n");
    return 2;
  }
  directory = argv[2];
  names_file = argv[3];
  long from = atol(argv[4]);
  snprintf(place, sizeof place, "opening");
  FILE *script = fopen(argv[1], "r");
  if (script == NULL || !next_line(script, &options)) WRONG("there is no script");
  if (from > 0) load_names();
  broker = open_with(&options);
  check_all_used(&options);
  /* The steps are kept: handlers look at theirs while later ones are played. */
  for (long number = 0;; number++) {
    struct fields *step = allocate(1, sizeof *step);
    if (!next_line(script, step)) break;
    snprintf(place, sizeof place, "step %ld", number);
    if (number >= from) play(step);
  }
  snprintf(place, sizeof place, "closing");
  for (size_t i = 0; i < handlers.len; i++) let_go(handlers.list[i].handler);
  libmq_error *error = NULL;
  libmq_status status = libmq_broker_close(broker, TIMEOUT_MS, &error);
  if (status != LIBMQ_OK) WRONG("%s: %s", libmq_status_name(status), libmq_error_message(error));
  libmq_broker_free(broker);
  fclose(script);
  return 0;
}
