#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "larder/base/logging.h"
#include "larder/io/device.h"
#include "larder/io/posix_directory.h"
#include "larder/io/thread_queue.h"
#include "larder/io/uring_probe.h"
#include "larder/io/uring_queue.h"

namespace larder::io {

namespace {

constexpr std::uint32_t kDepthMax = 4096;
constexpr std::uint32_t kThreadsMax = 256;
constexpr std::uint32_t kFilesMax = 1U << 20;

SetupStatus check_range(std::string_view name, std::uint32_t value, std::uint32_t largest) {
  if (value >= 1 && value <= largest) return {};
  return SetupError{ErrorCode::kInvalidArgument, std::string{name} + " is " +
                                                     std::to_string(value) + "; it must be 1 to " +
                                                     std::to_string(largest)};
}

std::string_view remedy_of(int sys_errno) {
  switch (sys_errno) {
    case EPERM:
    case EACCES:
      return "set the sysctl kernel.io_uring_disabled to 0, and let the container's seccomp "
             "profile "
             "permit io_uring_setup, io_uring_enter and io_uring_register";
    case ENOSYS:
      return "use a kernel of version 5.19 or later with CONFIG_IO_URING, and a container's "
             "seccomp "
             "profile that permits io_uring_setup, io_uring_enter and io_uring_register";
    case EINVAL:
      return "use a kernel of version 5.19 or later";
    case ENOMEM:
      return "raise the limit of locked memory (ulimit -l)";
    case EMFILE:
    case ENFILE:
      return "raise the limit of open files (ulimit -n)";
    default:
      return "see what `larder doctor` says";
  }
}

std::string refusal_text(const Error& error) {
  return "io_uring cannot be used (" + error.to_string() + "); to mend it, " +
         std::string{remedy_of(error.sys_errno())};
}

void report_fallback(const std::string& why) {
  static std::atomic_flag is_logged = ATOMIC_FLAG_INIT;  // Once for the process.
  if (!is_logged.test_and_set()) log(LogLevel::kWarning, "io", why + "; using threads instead");
}

SetupResult<std::unique_ptr<PosixQueue>> make_thread_queue(const DeviceOptions& options,
                                                           const Alignment& alignment) {
  auto queue = ThreadQueue::create(options, alignment);
  if (queue) return std::unique_ptr<PosixQueue>{std::move(*queue)};
  return SetupError{queue.error().code(),
                    "cannot start the I/O threads: " + queue.error().to_string() +
                        "; lower `threads` or raise the limit of threads (ulimit -u)"};
}

/// Fills in the facts about the queue in `device`.
SetupResult<std::unique_ptr<PosixQueue>> make_queue(const DeviceOptions& options,
                                                    const Alignment& alignment, UringWish wish,
                                                    Device& device) {
  device.backend = "threads";
  if (wish == UringWish::kNever) return make_thread_queue(options, alignment);
  auto uring = UringQueue::create(options, alignment);
  if (uring) {
    device.backend = "uring";
    return std::unique_ptr<PosixQueue>{std::move(*uring)};
  }
  const std::string why = refusal_text(uring.error());
  // A lack of the moment, which the threads would meet too, must not cost speed for good.
  if (lacks_descriptors(uring.error().sys_errno())) return SetupError{uring.error().code(), why};
  if (wish == UringWish::kRequired) {
    return SetupError{uring.error().code(), "LARDER_IO=uring: " + why};
  }
  report_fallback(why);
  if (!device.degraded_why.empty()) device.degraded_why += "; ";
  device.degraded_why += why;
  return make_thread_queue(options, alignment);
}

}  // namespace

SetupResult<Device> open_device(const DeviceOptions& options) {
  LARDER_TRY(check_range("depth", options.depth, kDepthMax));
  LARDER_TRY(check_range("threads", options.threads, kThreadsMax));
  LARDER_TRY(check_range("files_max", options.files_max, kFilesMax));
  LARDER_ASSIGN(const UringWish wish, uring_wish());
  LARDER_ASSIGN(OpenedDirectory opened, open_directory(options));
  Device device;
  device.degraded_why = opened.why_not_direct;
  LARDER_ASSIGN(auto queue, make_queue(options, opened.facts.alignment, wish, device));
  device.directory = std::make_unique<PosixDirectory>(std::move(opened), options.read_only, *queue);
  device.queue = std::move(queue);
  return device;
}

}  // namespace larder::io
