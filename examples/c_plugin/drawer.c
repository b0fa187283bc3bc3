/* `drawer:DIRECTORY`, a connector type in C: one file for each value. It is a complete plugin of
 * larder, small enough to copy as the start of your own. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "larder/plugin.h"

/* The directory and the amount of data in it. Only one process may use it at a time. */
struct drawer {
  int directory;
  pthread_mutex_t mutex; /* Guards the members below. */
  uint64_t drafts, keys, bytes;
};

enum { kDigits = 200 }; /* Per component of a path, whose limit is 255. */

/* The path of a key: its bytes in hexadecimal, split into folders if there are many. `make` creates
 * the folders. Files end in ".value" and folders do not, so their names never collide. */
static void name_of(const struct drawer* drawer, const larder_key* key, int make,
                    char name[PATH_MAX]) {
  static const char kHex[] = "0123456789abcdef";
  size_t at = 0;
  for (size_t i = 0; i < key->bytes; ++i) {
    unsigned char byte = ((const unsigned char*)key->data)[i];
    name[at++] = kHex[byte >> 4];
    name[at++] = kHex[byte & 15];
    if ((i + 1) % (kDigits / 2) == 0 && i + 1 < key->bytes) {
      name[at] = '\0';
      if (make) mkdirat(drawer->directory, name, 0700);
      name[at++] = '/';
    }
  }
  strcpy(name + at, ".value");
}

/* LARDER_HIT with the size, LARDER_MISS, or a negative errno. */
static int look_at(const struct drawer* drawer, const char* name, uint64_t* bytes) {
  struct stat status;
  if (fstatat(drawer->directory, name, &status, 0) == 0) {
    *bytes = (uint64_t)status.st_size;
    return LARDER_HIT;
  }
  return errno == ENOENT || errno == ENOTDIR ? LARDER_MISS : -errno;
}

/* Counts the values of an earlier process, and deletes its unfinished drafts. */
static int count(struct drawer* drawer, int directory) {
  DIR* all = fdopendir(directory);
  if (!all) return close(directory), -errno;
  int result = 0;
  for (struct dirent* next; result == 0 && (next = readdir(all));) {
    struct stat status;
    if (next->d_name[0] == '.' || fstatat(directory, next->d_name, &status, 0) != 0) continue;
    if (S_ISDIR(status.st_mode)) {
      int below = openat(directory, next->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      result = below < 0 ? -errno : count(drawer, below);
    } else if (strstr(next->d_name, ".draft")) {
      unlinkat(directory, next->d_name, 0);
    } else {
      ++drawer->keys;
      drawer->bytes += (uint64_t)status.st_size;
    }
  }
  closedir(all);
  return result;
}

static void drawer_close(void* store) {
  struct drawer* drawer = store;
  close(drawer->directory);
  pthread_mutex_destroy(&drawer->mutex);
  free(drawer);
}

static int drawer_open(const larder_value* values, void** store, char* error, size_t error_bytes) {
  const char* path = values[0].text;
  struct drawer* drawer = calloc(1, sizeof *drawer);
  if (!drawer) return -ENOMEM;
  pthread_mutex_init(&drawer->mutex, NULL);
  int result = mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
  if (result == 0) {
    drawer->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (drawer->directory < 0) result = -errno;
  }
  if (result < 0) {
    snprintf(error, error_bytes,
             "cannot use the directory '%s': %s; name one below an existing one", path,
             strerror(-result));
    free(drawer);
    return result;
  }
  result = count(drawer, openat(drawer->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (result < 0) return drawer_close(drawer), result;
  *store = drawer;
  return 0;
}

static int drawer_get(void* store, void* connection, const larder_key* key,
                      const struct iovec* pieces, int piece_count, uint64_t* value_bytes) {
  struct drawer* drawer = store;
  (void)connection;
  char name[PATH_MAX];
  name_of(drawer, key, 0, name);
  int result = look_at(drawer, name, value_bytes);
  if (result != LARDER_HIT) return result;
  uint64_t room = 0;
  for (int i = 0; i < piece_count; ++i) room += pieces[i].iov_len;
  if (*value_bytes > room)
    return LARDER_HIT; /* Only the size: the caller's memory is too small. */
  int file = openat(drawer->directory, name, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -errno;
  uint64_t at = 0;
  for (int i = 0; i < piece_count && result == LARDER_HIT; ++i) {
    for (size_t done = 0; done < pieces[i].iov_len && at < *value_bytes;) {
      ssize_t read_now = read(file, (char*)pieces[i].iov_base + done, pieces[i].iov_len - done);
      if (read_now < 0 && errno == EINTR) continue;
      if (read_now <= 0) {
        result = read_now < 0 ? -errno : -EBADMSG; /* The file has become shorter. */
        break;
      }
      done += (size_t)read_now;
      at += (uint64_t)read_now;
    }
  }
  close(file);
  return result;
}

/* Writes the value to a file that no reader knows yet. */
static int write_draft(int file, const struct iovec* pieces, int piece_count, uint64_t* bytes) {
  for (int i = 0; i < piece_count; ++i) {
    for (size_t done = 0; done < pieces[i].iov_len;) {
      ssize_t written = write(file, (char*)pieces[i].iov_base + done, pieces[i].iov_len - done);
      if (written < 0 && errno != EINTR) return -errno;
      if (written > 0) done += (size_t)written;
    }
    *bytes += pieces[i].iov_len;
  }
  /* A power cut must not leave the name without the bytes. */
  return fdatasync(file) == 0 ? 0 : -errno;
}

static int drawer_set(void* store, void* connection, const larder_key* key,
                      const struct iovec* pieces, int piece_count) {
  struct drawer* drawer = store;
  (void)connection;
  char name[PATH_MAX], draft[64];
  name_of(drawer, key, 1, name);
  pthread_mutex_lock(&drawer->mutex);
  snprintf(draft, sizeof draft, "%llu.draft", (unsigned long long)drawer->drafts++);
  pthread_mutex_unlock(&drawer->mutex);

  int file = openat(drawer->directory, draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) return -errno;
  uint64_t bytes = 0, bytes_before = 0;
  int result = write_draft(file, pieces, piece_count, &bytes);
  close(file);
  /* larder makes no other call on this key meanwhile, so the size cannot change. */
  int before = look_at(drawer, name, &bytes_before);
  if (result == 0 && before < 0) result = before;
  if (result == 0 && renameat(drawer->directory, draft, drawer->directory, name) != 0)
    result = -errno;
  if (result < 0) return unlinkat(drawer->directory, draft, 0), result;
  pthread_mutex_lock(&drawer->mutex);
  drawer->keys += before == LARDER_MISS;
  drawer->bytes += bytes - bytes_before;
  pthread_mutex_unlock(&drawer->mutex);
  return LARDER_HIT;
}

static int drawer_exists(void* store, void* connection, const larder_key* key,
                         uint64_t* value_bytes) {
  (void)connection;
  char name[PATH_MAX];
  name_of(store, key, 0, name);
  return look_at(store, name, value_bytes);
}

static int drawer_remove(void* store, void* connection, const larder_key* key) {
  struct drawer* drawer = store;
  (void)connection;
  char name[PATH_MAX];
  uint64_t bytes = 0;
  name_of(drawer, key, 0, name);
  int result = look_at(drawer, name, &bytes);
  if (result != LARDER_HIT) return result;
  if (unlinkat(drawer->directory, name, 0) != 0) return -errno;
  pthread_mutex_lock(&drawer->mutex);
  --drawer->keys;
  drawer->bytes -= bytes;
  pthread_mutex_unlock(&drawer->mutex);
  return LARDER_HIT;
}

static int drawer_usage(void* store, larder_usage* usage) {
  struct drawer* drawer = store;
  pthread_mutex_lock(&drawer->mutex);
  usage->keys = drawer->keys;
  usage->bytes = drawer->bytes;
  pthread_mutex_unlock(&drawer->mutex);
  return 0;
}

static const larder_parameter kParameters[] = {
    {.name = "path", .kind = LARDER_PATH, .is_required = 1, .help = "Directory of the files."},
};

static const larder_plugin_type kDrawer = {
    .abi = LARDER_PLUGIN_ABI,
    .struct_bytes = sizeof(larder_plugin_type),
    .name = "drawer",
    .summary = "An example: one file for each value.",
    .example = "drawer:/data/drawer",
    .location = "path",
    .parameters = kParameters,
    .parameter_count = sizeof kParameters / sizeof *kParameters,
    .locality = LARDER_ON_LOCAL_DISK,
    .survives_restart = 1,
    .open = drawer_open,
    .close = drawer_close,
    .get = drawer_get,
    .set = drawer_set,
    .exists = drawer_exists,
    .remove = drawer_remove,
    .usage = drawer_usage,
};

const larder_plugin_type* larder_plugin(void) {
  return &kDrawer;
}
