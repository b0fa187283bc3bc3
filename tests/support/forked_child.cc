#include "tests/support/forked_child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "larder/base/check.h"

namespace larder::testing {

ForkedChild::ForkedChild(const std::function<std::string(int hold)>& work) {
  std::array<int, 2> words{};
  std::array<int, 2> hold{};
  LARDER_CHECK(::pipe2(words.data(), O_CLOEXEC) == 0 && ::pipe2(hold.data(), O_CLOEXEC) == 0);
  const UniqueFd read_end{words[0]};
  UniqueFd write_end{words[1]};
  const UniqueFd hold_end{hold[0]};
  hold_.reset(hold[1]);
  pid_ = ::fork();
  LARDER_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    hold_.reset();
    // With its end, so that there is a word also for nothing.
    const std::string text = work ? work(hold_end.get()) : "";
    if (::write(write_end.get(), text.c_str(), text.size() + 1) < 0) ::_exit(1);
    write_end.reset();
    stay(hold_end.get());
  }
  write_end.reset();
  for (char c = 0; ::read(read_end.get(), &c, 1) == 1 && c != '\0';) said_ += c;
}

ForkedChild::~ForkedChild() {
  kill();
}

void ForkedChild::kill() noexcept {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void ForkedChild::stay(int hold) noexcept {
  char end = 0;
  while (::read(hold, &end, 1) > 0) {
  }
  ::_exit(0);
}

void ForkedChild::fork_to_stay(int hold) noexcept {
  std::array<int, 2> ready{};
  LARDER_CHECK(::pipe2(ready.data(), O_CLOEXEC) == 0);
  const UniqueFd read_end{ready[0]};
  UniqueFd write_end{ready[1]};
  const ::pid_t pid = ::fork();
  LARDER_CHECK(pid >= 0);
  write_end.reset();  // Its last copy is closed when the child is ready.
  if (pid == 0) stay(hold);
  char end = 0;
  while (::read(read_end.get(), &end, 1) > 0) {
  }
}

}  // namespace larder::testing
