#include "tests/support/loop_mount.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/unique_fd.h"

extern char**
    environ;  // NOLINT(readability-redundant-declaration): glibc has it for GNU code only.

namespace larder::testing {

namespace {

constexpr std::uint64_t kBusyForNs = 10'000'000'000;

struct CommandResult {
  int exit_code = -1;  // -1: it could not be run.
  std::string output;  // stdout and stderr.
};

CommandResult run(std::vector<std::string> words) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {};
  const UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDERR_FILENO);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int failed =
      ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return {};
  write_end.reset();
  CommandResult result;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t bytes = ::read(read_end.get(), buffer.data(), buffer.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) break;
    result.output.append(buffer.data(), static_cast<std::size_t>(bytes));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  return result;
}

SetupError failure(const std::string& what, const std::string& why) {
  return {ErrorCode::kIo, what + ": " + why};
}

}  // namespace

SetupResult<std::unique_ptr<LoopMount>> LoopMount::create(const std::string& file_system,
                                                          std::uint64_t bytes,
                                                          std::uint32_t sector_bytes,
                                                          bool direct_io) {
  LoopMountOptions options;
  options.file_system = file_system;
  options.bytes = bytes;
  options.sector_bytes = sector_bytes;
  options.direct_io = direct_io;
  return create(options);
}

SetupResult<std::unique_ptr<LoopMount>> LoopMount::create(const LoopMountOptions& options) {
  if (::geteuid() != 0 || ::access("/dev/loop-control", R_OK | W_OK) != 0) {
    return SetupError{ErrorCode::kUnimplemented, "needs root and loop devices"};
  }
  std::unique_ptr<LoopMount> loop{new LoopMount};  // The constructor is private.
  loop->image_ =
      (options.image_directory.empty() ? loop->directory_.path() : options.image_directory) +
      "/image";
  const std::string mount_point = loop->directory_.path() + "/mount";
  std::error_code error;
  std::ofstream{loop->image_}.close();
  std::filesystem::resize_file(loop->image_, options.bytes, error);
  if (!error) std::filesystem::create_directory(mount_point, error);
  if (error) return failure("making the image", error.message());

  const std::string sector = std::to_string(options.sector_bytes);
  const CommandResult attached =
      run({"losetup", "--find", "--show", "--sector-size", sector,
           options.direct_io ? "--direct-io=on" : "--direct-io=off", loop->image_});
  if (attached.exit_code != 0) return failure("losetup", attached.output);
  loop->device_ = attached.output.substr(0, attached.output.find('\n'));

  const std::string& file_system = options.file_system;
  std::vector<std::string> make{"mkfs." + file_system, "-q"};
  if (file_system == "xfs") {
    make.insert(make.end(), {"-f", "-s", "size=" + sector});
  } else {
    make.emplace_back("-F");
  }
  make.insert(make.end(), options.make_arguments.begin(), options.make_arguments.end());
  make.push_back(loop->device_);
  const CommandResult made = run(std::move(make));
  if (made.exit_code == -1) {
    return SetupError{ErrorCode::kUnimplemented, "needs mkfs." + file_system};
  }
  if (made.exit_code != 0) return failure("mkfs." + file_system, made.output);

  loop->mount_point_ = mount_point;
  loop->options_ = options;
  LARDER_TRY(loop->mount());
  return loop;
}

SetupStatus LoopMount::mount() {
  if (::mount(device_.c_str(), mount_point_.c_str(), options_.file_system.c_str(),
              options_.mount_flags, options_.mount_options.c_str()) == 0) {
    is_mounted_ = true;
    return {};
  }
  const int sys_errno = errno;
  if (sys_errno == EINVAL && !options_.mount_options.empty()) {
    return SetupError{ErrorCode::kUnimplemented, "needs a kernel whose " + options_.file_system +
                                                     " can be mounted with " +
                                                     options_.mount_options};
  }
  return failure("mount", std::generic_category().message(sys_errno));
}

SetupStatus LoopMount::mount_again() {
  const std::uint64_t deadline_ns = RealClock::instance().now_ns() + kBusyForNs;
  // The kernel lets go of the files of a closed ring a little later.
  while (::umount2(mount_point_.c_str(), 0) != 0) {
    if (errno != EBUSY || RealClock::instance().now_ns() > deadline_ns) {
      return failure("umount", std::generic_category().message(errno));
    }
  }
  is_mounted_ = false;
  return mount();
}

LoopMount::~LoopMount() {
  if (is_mounted_) ::umount2(mount_point_.c_str(), MNT_DETACH);
  // While something keeps the file system busy this only marks the device, which then goes last.
  if (!device_.empty()) run({"losetup", "--detach", device_});
}

}  // namespace larder::testing
