/* The script: its lines, what stands in them, and which of it was looked at.
 *
 * A fault ends the player, which says where it was: status 1 for what is not as expected, 3 for what it does not know.
 */

#ifndef SCRIPT_H
#define SCRIPT_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct field {
  char *key, *value;
  bool used;
};

/* A line of the script. */
struct fields {
  struct field *list;
  struct field **sorted; /* by key, to be found */
  size_t len;
};

/* Where the player is, for what it says of a fault. */
static char place[64];

__attribute__((format(printf, 2, 3), noreturn)) static void fault(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s: ", place);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(status);
}

#define WRONG(...) fault(1, __VA_ARGS__)
#define UNKNOWN(...) fault(3, __VA_ARGS__)

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count == 0 ? 1 : count, size);
  if (memory == NULL) WRONG("out of memory");
  return memory;
}

static char *copy_of(const char *text) {
  return strcpy(allocate(strlen(text) + 1, 1), text);
}

/* Takes the backslashes out of a value, in its place. */
static void unescape(char *value) {
  char *to = value;
  for (const char *from = value; *from != 0; from++) {
    if (*from == '\\' && from[1] != 0) {
      from++;
      *to++ = *from == 't' ? '\t' : *from == 'n' ? '\n' : *from;
    } else {
      *to++ = *from;
    }
  }
  *to = 0;
}

static int by_key(const void *one, const void *other) {
  return strcmp((*(struct field *const *)one)->key, (*(struct field *const *)other)->key);
}

/* Reads a line, which is changed and kept. */
static struct fields fields_of(char *line) {
  struct fields fields = {NULL, NULL, 0};
  size_t most = 1;
  for (const char *c = line; *c != 0; c++) most += *c == '\t';
  fields.list = allocate(most, sizeof *fields.list);
  for (char *next = line; next != NULL && *next != 0;) {
    char *pair = next, *tab = strchr(pair, '\t');
    next = tab == NULL ? NULL : tab + 1;
    if (tab != NULL) *tab = 0;
    char *equals = strchr(pair, '=');
    if (equals == NULL) WRONG("the script has no value for %s", pair);
    *equals = 0;
    unescape(equals + 1);
    fields.list[fields.len++] = (struct field){pair, equals + 1, false};
  }
  fields.sorted = allocate(fields.len, sizeof *fields.sorted);
  for (size_t i = 0; i < fields.len; i++) fields.sorted[i] = &fields.list[i];
  qsort(fields.sorted, fields.len, sizeof *fields.sorted, by_key);
  return fields;
}

/* The value of a key, a path in parts that are joined; NULL where there is none. */
static const char *get_in(const struct fields *fields, const char *path, const char *name) {
  size_t path_len = strlen(path);
  for (size_t low = 0, high = fields->len; low < high;) {
    size_t middle = low + (high - low) / 2;
    struct field *field = fields->sorted[middle];
    int order = strncmp(field->key, path, path_len);
    if (order == 0) order = strcmp(field->key + path_len, name);
    if (order == 0) {
      field->used = true;
      return field->value;
    }
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return NULL;
}

static const char *get(const struct fields *fields, const char *key) {
  return get_in(fields, "", key);
}

static const char *need(const struct fields *fields, const char *key) {
  const char *value = get(fields, key);
  if (value == NULL) WRONG("the step lacks %s", key);
  return value;
}

/* Reads a number; false where there is none. */
static bool number_in(const struct fields *fields, const char *path, const char *name, int64_t *number) {
  const char *value = get_in(fields, path, name);
  if (value == NULL) return false;
  char *end;
  *number = strtoll(value, &end, 10);
  if (*value == 0 || *end != 0) WRONG("%s%s is %s, which is no number", path, name, value);
  return true;
}

static int64_t number_or(const struct fields *fields, const char *key, int64_t otherwise) {
  int64_t number = otherwise;
  number_in(fields, "", key, &number);
  return number;
}

/* The count of a list; false where there is none. */
static bool count_of(const struct fields *fields, const char *list, size_t *count) {
  int64_t number;
  if (!number_in(fields, list, ".#", &number)) return false;
  *count = (size_t)number;
  return true;
}

/* An item of a list, or NULL. */
static const char *item_of(const struct fields *fields, const char *list, size_t index) {
  char name[32];
  snprintf(name, sizeof name, ".%zu", index);
  return get_in(fields, list, name);
}

static bool has(const struct fields *fields, const char *path) {
  for (size_t i = 0; i < fields->len; i++)
    if (strncmp(fields->list[i].key, path, strlen(path)) == 0) return true;
  return false;
}

static void check_all_used(const struct fields *fields) {
  for (size_t i = 0; i < fields->len; i++)
    if (!fields->list[i].used) UNKNOWN("this player does not know the key %s here", fields->list[i].key);
}

/* Compares what was found with what the step expects, if it does. */
static void expect_text(const struct fields *fields, const char *path, const char *name, const char *found) {
  const char *expected = get_in(fields, path, name);
  if (expected != NULL && (found == NULL || strcmp(found, expected) != 0))
    WRONG("%s%s is %s, but %s was expected", path, name, found == NULL ? "(not there)" : found, expected);
}

static void expect_number(const struct fields *fields, const char *path, const char *name, int64_t found) {
  int64_t expected;
  if (number_in(fields, path, name, &expected) && found != expected)
    WRONG("%s%s is %" PRId64 ", but %" PRId64 " was expected", path, name, found, expected);
}

static void expect_bytes(const struct fields *fields, const char *path, const char *name, const void *found, size_t len) {
  const char *expected = get_in(fields, path, name);
  if (expected != NULL && (len != strlen(expected) || memcmp(found, expected, len) != 0))
    WRONG("%s%s is %.*s, but %s was expected", path, name, (int)len, (const char *)found, expected);
}

#endif
