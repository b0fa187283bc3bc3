/* For test_freed_without_gil.py: holds up the first close() of an eventfd after watch_closes(),
 * which is where a store is being freed, until some Python thread has made a step. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int begun_fd = -1;
static int step_fd = -1;

void watch_closes(int begun, int step) {
  step_fd = step;
  begun_fd = begun;
}

static int is_eventfd(int fd) {
  char path[64], target[64];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(path, target, sizeof(target) - 1);
  if (length < 0) return 0;
  target[length] = '\0';
  return strstr(target, "[eventfd]") != NULL;
}

int close(int fd) {
  if (begun_fd >= 0 && is_eventfd(fd)) {
    const int begun = begun_fd;
    begun_fd = -1;
    struct pollfd step = {step_fd, POLLIN, 0};
    const int is_told = write(begun, "b", 1) == 1;
    const int has_stepped = is_told && poll(&step, 1, 20000) == 1;
    const char* const text = has_stepped ? "a step was made\n" : "nobody could make a step\n";
    (void)!write(STDOUT_FILENO, text, strlen(text));
  }
  return (int)syscall(SYS_close, fd);
}
