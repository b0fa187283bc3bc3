/* The plugin interface: a plugin is a shared object that adds a connector type to larder.
 *
 * The interface is C, so that any compiler and many languages can build a plugin and no C++ type of
 * larder crosses the border. A plugin exports one function, larder_plugin(). It returns a
 * description that stays unchanged until the process ends: larder never unloads a plugin.
 *
 * larder implements the connector contract (limits, queues, deadlines, cancellation, urgency, keys
 * whose load failed, reconnecting). A plugin implements blocking calls, each for one key.
 * LARDER_PLUGINS=/path/of/plugin.so tells a process which plugins to load; ':' separates several.
 * `larder conformance SPEC` tests one.
 *
 * Threads: larder calls open() and close() of one store from one thread at a time. It makes all
 * other calls from many threads at once, but never two on one key if one of them changes it. It
 * uses a connection from one thread at a time.
 * Memory: larder owns the arguments of a call, which are valid during the call only. The plugin
 * owns its description and every text in it.
 * Errors: a negative errno. -ECONNREFUSED, -ECONNRESET, -ENOTCONN, -EPIPE, -EHOSTUNREACH and
 * -ENETUNREACH: the peer is lost; -ETIMEDOUT: it is late. After these larder drops the connection
 * and makes a new one. -ENOSPC, -ENOMEM and -EDQUOT: there is no room. -EBADMSG: the stored value
 * is damaged. -ENOTSUP: the plugin cannot do this. No C++ exception may leave a call. */
#ifndef LARDER_PLUGIN_H
#define LARDER_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of everything below; each change raises it. larder refuses a plugin of another
 * version, with an error that names both. */
#define LARDER_PLUGIN_ABI 1u

/* The results of a call that does not fail. */
#define LARDER_HIT 0  /* Found; stored; removed. */
#define LARDER_MISS 1 /* There is no such key. */

/* How a parameter's text is read; larder checks it before open(). */
enum {
  LARDER_TEXT = 1,     /* Any text. */
  LARDER_PATH = 2,     /* A text whose leading ~ is a home directory. */
  LARDER_INTEGER = 3,  /* Decimal. */
  LARDER_BYTES = 4,    /* "64MiB". */
  LARDER_DURATION = 5, /* "250ms"; a number of nanoseconds. */
  LARDER_BOOL = 7      /* yes or no; 1 or 0. */
};

/* Where the values are: for reports, and for the order in which larder asks several stores. */
enum {
  LARDER_IN_MEMORY = 0,
  LARDER_ON_LOCAL_DISK = 1,
  LARDER_ON_SHARED_FILES = 2,
  LARDER_ON_A_SERVER = 3
};

/* One parameter of a spec. Texts are UTF-8; null is an empty text. */
typedef struct larder_parameter {
  const char* name;         /* "path" */
  const char* help;         /* One sentence with its full stop. */
  const char* default_text; /* As a user writes it; empty: none. */
  const char* minimum;      /* As text of the same kind; empty: none. Numbers only. */
  const char* maximum;
  uint32_t kind;        /* LARDER_TEXT, ... */
  uint32_t is_required; /* 1: a spec without it is refused. */
  uint32_t is_secret;   /* 1: never shown. */
  uint32_t reserved;    /* 0 */
} larder_parameter;

/* The value of one parameter in a spec. */
typedef struct larder_value {
  const char* text; /* Of LARDER_TEXT and LARDER_PATH: as written, or the default. Never null. */
  int64_t number;   /* Of LARDER_INTEGER, LARDER_BYTES, LARDER_DURATION, LARDER_BOOL. */
  uint32_t is_set;  /* 0: not in the spec, and it has no default. */
  uint32_t reserved;
} larder_value;

/* One key, and the time until which its caller waits. */
typedef struct larder_key {
  const void* data; /* Any bytes. */
  size_t bytes;     /* 1 to 1024. */
  /* CLOCK_MONOTONIC in nanoseconds; UINT64_MAX: none. A call that can give up at the deadline
   * should, with -ETIMEDOUT. */
  uint64_t deadline_ns;
} larder_key;

/* The contents of a store, for reports. */
typedef struct larder_usage {
  uint64_t keys;
  uint64_t bytes;          /* Of values. */
  uint64_t capacity_bytes; /* 0: the plugin has no bound. */
} larder_usage;

/* The description of a connector type. No member may be null unless its comment says so. */
typedef struct larder_plugin_type {
  uint32_t abi;          /* LARDER_PLUGIN_ABI */
  uint32_t struct_bytes; /* sizeof(larder_plugin_type) */

  const char* name;     /* Before a spec's colon: lower-case letters, digits, '_' and '-'. */
  const char* summary;  /* One sentence with its full stop. */
  const char* example;  /* A spec that the parameters accept. */
  const char* location; /* The parameter whose value follows the colon; null: none. */
  const larder_parameter* parameters;
  uint32_t parameter_count;

  uint32_t locality;         /* LARDER_IN_MEMORY, ... */
  uint32_t survives_restart; /* 1: values are still there after close() and open(). */
  uint32_t reserved;         /* 0 */

  /* Opens a store. `values` has one for each parameter, in the same order. May block. Returns 0 and
   * sets *store, or returns a negative errno and writes a sentence into `error` that names the
   * thing, its value and the remedy. */
  int (*open)(const larder_value* values, void** store, char* error, size_t error_bytes);
  /* Closes the store. No other call is running, and every connection has been closed. */
  void (*close)(void* store);

  /* A connection for one thread, made when a call first needs it and again after it was lost.
   * Both may be null: the calls then get a null connection. */
  int (*connect)(void* store, void** connection);
  void (*disconnect)(void* store, void* connection);

  /* Writes the key's value into the pieces, in order, and its size into *value_bytes. If the value
   * is larger than all pieces together, writes only the size. */
  int (*get)(void* store, void* connection, const larder_key* key, const struct iovec* pieces,
             int piece_count, uint64_t* value_bytes);
  /* Stores the joined pieces as the key's value and replaces an old one. Readers see the whole old
   * value or the whole new one, also after a crash. */
  int (*set)(void* store, void* connection, const larder_key* key, const struct iovec* pieces,
             int piece_count);
  /* LARDER_HIT with the size, or LARDER_MISS. */
  int (*exists)(void* store, void* connection, const larder_key* key, uint64_t* value_bytes);
  /* LARDER_HIT: the key was there and is removed. */
  int (*remove)(void* store, void* connection, const larder_key* key);
  /* Notes a use of the key, for the order of eviction. May be null: larder calls exists(). */
  int (*touch)(void* store, void* connection, const larder_key* key);

  /* Answers from memory, for reports. Returns 0. */
  int (*usage)(void* store, larder_usage* usage);
} larder_plugin_type;

/* The one function that a plugin exports. */
__attribute__((visibility("default"))) const larder_plugin_type* larder_plugin(void);

/* A compiler that lays the structs out differently refuses the plugin. */
#ifdef __cplusplus
#define LARDER_PLUGIN_ASSERT(condition) static_assert(condition, "larder/plugin.h: layout")
#else
#define LARDER_PLUGIN_ASSERT(condition) _Static_assert(condition, "larder/plugin.h: layout")
#endif
LARDER_PLUGIN_ASSERT(sizeof(void*) == 8 && sizeof(size_t) == 8);
LARDER_PLUGIN_ASSERT(sizeof(larder_parameter) == 56);
LARDER_PLUGIN_ASSERT(offsetof(larder_parameter, kind) == 40);
LARDER_PLUGIN_ASSERT(sizeof(larder_value) == 24);
LARDER_PLUGIN_ASSERT(sizeof(larder_key) == 24);
LARDER_PLUGIN_ASSERT(sizeof(larder_usage) == 24);
LARDER_PLUGIN_ASSERT(offsetof(larder_plugin_type, name) == 8);
LARDER_PLUGIN_ASSERT(offsetof(larder_plugin_type, parameter_count) == 48);
LARDER_PLUGIN_ASSERT(offsetof(larder_plugin_type, open) == 64);
LARDER_PLUGIN_ASSERT(offsetof(larder_plugin_type, usage) == 136);
LARDER_PLUGIN_ASSERT(sizeof(larder_plugin_type) == 144);
#undef LARDER_PLUGIN_ASSERT

#ifdef __cplusplus
}
#endif

#endif
