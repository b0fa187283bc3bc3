#include "tests/crash/writer_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>

namespace larder::crash {
namespace {

SetupError failed(const char* what, int error) {
  return {ErrorCode::kUnavailable, std::string{what} + ": " + std::strerror(error)};
}

/// Above every descriptor that the writer is given, so that no dup2() meets another's source.
constexpr int kFirstOwnFd = 10;

Result<UniqueFd, int> moved_up(int fd) {
  const UniqueFd low{fd};
  UniqueFd high{::fcntl(fd, F_DUPFD_CLOEXEC, kFirstOwnFd)};
  if (!high) return errno;
  return high;
}

}  // namespace

SetupResult<std::unique_ptr<WriterProcess>> WriterProcess::start(
    const std::vector<std::string>& arguments) {
  std::unique_ptr<WriterProcess> process{new WriterProcess};
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return failed("pipe", errno);
  process->report_.reset(ends[0]);
  auto report = moved_up(ends[1]);
  if (!report) return failed("moving a descriptor", report.error());
  const int memory = ::memfd_create("larder-crash-page", MFD_CLOEXEC);
  if (memory < 0) return failed("memfd_create", errno);
  auto page = moved_up(memory);
  if (!page) return failed("moving a descriptor", page.error());
  if (::ftruncate(page->get(), sizeof(SharedPage)) != 0) return failed("ftruncate", errno);
  void* const mapped =
      ::mmap(nullptr, sizeof(SharedPage), PROT_READ | PROT_WRITE, MAP_SHARED, page->get(), 0);
  if (mapped == MAP_FAILED) return failed("mmap", errno);
  process->page_ = new (mapped) SharedPage;

  std::string program = LARDER_CRASH_WRITER;
  std::vector<std::string> texts = arguments;
  std::vector<char*> pointers = {program.data()};
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, report->get(), kReportFd);
  ::posix_spawn_file_actions_adddup2(&actions, page->get(), kPageFd);
  const int error =
      ::posix_spawn(&process->pid_, program.c_str(), &actions, nullptr, pointers.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    process->pid_ = -1;
    return failed(program.c_str(), error);
  }
  return process;
}

WriterProcess::~WriterProcess() {
  kill();
  if (page_ != nullptr) ::munmap(page_, sizeof(SharedPage));
}

bool WriterProcess::pump(Clock::time_point until, const std::function<void(const Message&)>& take) {
  const auto left = std::max(until - Clock::now(), Clock::duration::zero());
  const auto nanoseconds = std::chrono::nanoseconds{left}.count();
  const timespec timeout{.tv_sec = nanoseconds / 1'000'000'000,
                         .tv_nsec = nanoseconds % 1'000'000'000};
  pollfd ready{.fd = report_.get(), .events = POLLIN, .revents = 0};
  if (::ppoll(&ready, 1, &timeout, nullptr) <= 0) return true;
  std::array<std::byte, 65536> buffer;
  const ssize_t bytes = ::read(report_.get(), buffer.data(), buffer.size());
  if (bytes <= 0) return false;
  unread_.insert(unread_.end(), buffer.begin(), buffer.begin() + bytes);
  std::size_t at = 0;
  for (; at + sizeof(Message) <= unread_.size(); at += sizeof(Message)) {
    Message message;
    std::memcpy(&message, unread_.data() + at, sizeof(Message));
    take(message);
  }
  unread_.erase(unread_.begin(), unread_.begin() + static_cast<std::ptrdiff_t>(at));
  return true;
}

void WriterProcess::kill() {
  if (pid_ > 0) ::kill(pid_, SIGKILL);
  wait();
}

int WriterProcess::wait() {
  if (pid_ <= 0) return status_;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return status_;
}

}  // namespace larder::crash
