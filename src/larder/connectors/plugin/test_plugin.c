/* A plugin for tests: a table in memory. DEFECT_... breaks its description, and the parameter
 * `defect` what it does. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "larder/plugin.h"

enum { kBuckets = 1 << 14 };

struct entry {
  struct entry* next;
  size_t key_bytes, value_bytes;
  char* value;
  char key[];
};

struct table {
  pthread_mutex_t mutex;
  struct entry* buckets[kBuckets];
  uint64_t keys, bytes, capacity;
  char defect[32];
};

static int is(const struct table* table, const char* defect) {
  return strcmp(table->defect, defect) == 0;
}

static struct entry** find(struct table* table, const larder_key* key) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < key->bytes; ++i) {
    hash = (hash ^ ((const unsigned char*)key->data)[i]) * 1099511628211u;
  }
  struct entry** at = &table->buckets[(hash >> 20) % kBuckets];
  while (*at && ((*at)->key_bytes != key->bytes || memcmp((*at)->key, key->data, key->bytes))) {
    at = &(*at)->next;
  }
  return at;
}

static int open_table(const larder_value* values, void** store, char* error, size_t error_bytes) {
  if (strcmp(values[0].text, "unopenable") == 0) {
    snprintf(error, error_bytes, "'%s' cannot be opened; name another table", values[0].text);
    return -EACCES;
  }
  struct table* table = calloc(1, sizeof *table);
  if (!table) return -ENOMEM;
  pthread_mutex_init(&table->mutex, NULL);
  table->capacity = (uint64_t)values[1].number;
  snprintf(table->defect, sizeof table->defect, "%s", values[2].text);
  *store = table;
  return 0;
}

static void close_table(void* store) {
  struct table* table = store;
  for (int i = 0; i < kBuckets; ++i) {
    while (table->buckets[i]) {
      struct entry* entry = table->buckets[i];
      table->buckets[i] = entry->next;
      free(entry->value);
      free(entry);
    }
  }
  free(table);
}

static int connect_table(void* store, void** connection) {
  if (is(store, "unreachable")) return -ECONNREFUSED;
  *connection = store;
  return 0;
}

static void disconnect_table(void* store, void* connection) {
  (void)store;
  (void)connection;
}

static int get(void* store, void* connection, const larder_key* key, const struct iovec* pieces,
               int piece_count, uint64_t* value_bytes) {
  struct table* table = store;
  if (connection != store) return -ENOTCONN;
  /* "errno 5" fails with 5, and "returns 7" is a plugin that forgets the sign. */
  if (key->bytes == 7 && memcmp(key->data, "errno ", 6) == 0) {
    return -(((const char*)key->data)[6] - '0');
  }
  if (key->bytes == 9 && memcmp(key->data, "returns 7", 9) == 0) return 7;
  if (key->bytes == 4 && memcmp(key->data, "gone", 4) == 0) return -ECONNRESET;
  if (key->bytes == 7 && memcmp(key->data, "damaged", 7) == 0) return -EBADMSG;
  pthread_mutex_lock(&table->mutex);
  struct entry* entry = *find(table, key);
  if (entry) {
    size_t room = 0, at = 0;
    for (int i = 0; i < piece_count; ++i) room += pieces[i].iov_len;
    if (entry->value_bytes <= room) {
      for (int i = 0; i < piece_count && at < entry->value_bytes; ++i) {
        size_t bytes = entry->value_bytes - at;
        if (bytes > pieces[i].iov_len) bytes = pieces[i].iov_len;
        memcpy(pieces[i].iov_base, entry->value + at, bytes);
        at += bytes;
      }
      if (is(table, "turns_bits") && at > 0 && piece_count > 0 && pieces[0].iov_len > 0) {
        *(char*)pieces[0].iov_base ^= 1;
      }
    }
    *value_bytes = entry->value_bytes;
  }
  pthread_mutex_unlock(&table->mutex);
  return entry ? LARDER_HIT : LARDER_MISS;
}

static int exists(void* store, void* connection, const larder_key* key, uint64_t* value_bytes) {
  struct table* table = store;
  (void)connection;
  pthread_mutex_lock(&table->mutex);
  struct entry* entry = *find(table, key);
  if (entry) *value_bytes = entry->value_bytes;
  pthread_mutex_unlock(&table->mutex);
  return entry ? LARDER_HIT : LARDER_MISS;
}

static int take_out(struct table* table, const larder_key* key) {
  struct entry** at = find(table, key);
  struct entry* entry = *at;
  if (!entry) return LARDER_MISS;
  if (is(table, "keeps_deleted")) return LARDER_HIT;
  *at = entry->next;
  --table->keys;
  table->bytes -= entry->value_bytes;
  free(entry->value);
  free(entry);
  return LARDER_HIT;
}

static int set(void* store, void* connection, const larder_key* key, const struct iovec* pieces,
               int piece_count) {
  struct table* table = store;
  (void)connection;
  size_t bytes = 0, at = 0;
  for (int i = 0; i < piece_count; ++i) bytes += pieces[i].iov_len;
  struct entry* entry = malloc(sizeof *entry + key->bytes);
  char* value = malloc(bytes + 1);
  if (!entry || !value) return free(entry), free(value), -ENOMEM;
  for (int i = 0; i < piece_count; ++i) {
    memcpy(value + at, pieces[i].iov_base, pieces[i].iov_len);
    at += pieces[i].iov_len;
  }
  memcpy(entry->key, key->data, key->bytes);
  entry->key_bytes = key->bytes;
  entry->value_bytes = bytes;
  entry->value = value;
  pthread_mutex_lock(&table->mutex);
  int result = LARDER_HIT;
  if (table->capacity && table->bytes + bytes > table->capacity) {
    result = -ENOSPC;
    free(value);
    free(entry);
  } else {
    take_out(table, key);
    struct entry** bucket = find(table, key);
    entry->next = *bucket;
    *bucket = entry;
    ++table->keys;
    table->bytes += bytes;
  }
  pthread_mutex_unlock(&table->mutex);
  return result;
}

static int remove_key(void* store, void* connection, const larder_key* key) {
  struct table* table = store;
  (void)connection;
  pthread_mutex_lock(&table->mutex);
  int result = take_out(table, key);
  pthread_mutex_unlock(&table->mutex);
  return result;
}

static int usage(void* store, larder_usage* usage) {
  struct table* table = store;
  pthread_mutex_lock(&table->mutex);
  usage->keys = table->keys;
  usage->bytes = table->bytes;
  usage->capacity_bytes = table->capacity;
  pthread_mutex_unlock(&table->mutex);
  return 0;
}

static const larder_parameter kParameters[] = {
    {.name = "table", .kind = LARDER_TEXT, .help = "Its name.", .default_text = "t"},
    {.name = "capacity",
     .kind = LARDER_BYTES,
#ifdef DEFECT_BAD_TABLE
     .help = "no sentence",
#else
     .help = "Of values; 0: without a bound.",
#endif
     .default_text = "0"},
    {.name = "defect", .kind = LARDER_TEXT, .help = "What goes wrong."},
};

static const larder_plugin_type kType = {
#ifdef DEFECT_ABI
    .abi = LARDER_PLUGIN_ABI + 1,
#else
    .abi = LARDER_PLUGIN_ABI,
#endif
#ifdef DEFECT_SIZE
    .struct_bytes = sizeof(larder_plugin_type) - 8,
#else
    .struct_bytes = sizeof(larder_plugin_type),
#endif
#ifdef DEFECT_TAKEN_NAME
    .name = "memory",
    .example = "memory:t",
#else
    .name = "test",
    .example = "test:t?capacity=1GiB",
#endif
    .summary = "A table in memory, for tests.",
    .location = "table",
    .parameters = kParameters,
    .parameter_count = sizeof kParameters / sizeof *kParameters,
    .locality = LARDER_IN_MEMORY,
    .open = open_table,
    .close = close_table,
    .connect = connect_table,
#ifndef DEFECT_HALF_CONNECTION
    .disconnect = disconnect_table,
#endif
#ifndef DEFECT_NO_GET
    .get = get,
#endif
    .set = set,
    .exists = exists,
    .remove = remove_key,
    .usage = usage,
};

#ifdef DEFECT_NO_SYMBOL
const larder_plugin_type* not_larder_plugin(void);
const larder_plugin_type* not_larder_plugin(void) {
  return &kType;
}
#elif defined DEFECT_NULL_TYPE
const larder_plugin_type* larder_plugin(void) {
  return (void)&kType, NULL;
}
#else
const larder_plugin_type* larder_plugin(void) {
  return &kType;
}
#endif
