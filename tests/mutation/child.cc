#include "tests/mutation/child.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "larder/base/check.h"

namespace larder::mutation {
namespace {

constexpr int kLookForMs = 50;

/// Forks with stdout and stderr on a pipe. Returns the child's id and the pipe's end; 0 in the
/// child.
std::pair<pid_t, UniqueFd> fork_with_pipe() {
  std::array<int, 2> ends{};
  LARDER_CHECK(::pipe(ends.data()) == 0);
  std::fflush(stdout);
  const pid_t pid = ::fork();
  LARDER_CHECK(pid >= 0);
  if (pid == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    return {0, UniqueFd{}};
  }
  ::close(ends[1]);
  return {pid, UniqueFd{ends[0]}};
}

}  // namespace

Child::Child(pid_t pid, UniqueFd output, int patience_ms)
    : pid_(pid), output_(std::move(output)), patience_ms_(patience_ms) {}

Child Child::run(const std::function<int()>& body, int patience_ms) {
  auto [pid, output] = fork_with_pipe();
  if (pid == 0) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const int exit_code = body();
    std::fflush(stdout);
    std::_Exit(exit_code);  // Nothing of the parent's is torn down here.
  }
  return {pid, std::move(output), patience_ms};
}

Child Child::exec(const std::vector<std::string>& command, const std::string& variable,
                  int patience_ms) {
  std::string assignment = variable;
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  auto [pid, output] = fork_with_pipe();
  if (pid == 0) {
    if (!assignment.empty()) ::putenv(assignment.data());
    ::execv(arguments[0], arguments.data());
    std::fprintf(stderr, "cannot run %s\n", arguments[0]);
    std::_Exit(127);
  }
  return {pid, std::move(output), patience_ms};
}

void Child::take_line(const std::string& line) {
  if (line.starts_with("seed ")) {
    end_.seed = std::strtoull(line.c_str() + 5, nullptr, 10);
    quiet_ms_ = 0;
  } else if (line.starts_with("failed: ")) {
    end_.last_words = line.substr(8);
  } else if (line.find("LARDER_CHECK failed") != std::string::npos) {
    end_.last_words = line.substr(line.find("LARDER_CHECK"));
  } else if (line.starts_with("[  FAILED  ] ") && end_.last_words.empty()) {
    end_.last_words = line.substr(13, line.find(" (") - 13);
  }
}

/// False at the end of the pipe.
bool Child::read_some() {
  std::array<char, 4096> buffer;
  const ssize_t count = ::read(output_.get(), buffer.data(), buffer.size());
  if (count <= 0) return false;
  text_.append(buffer.data(), static_cast<std::size_t>(count));
  for (auto end = text_.find('\n'); end != std::string::npos; end = text_.find('\n')) {
    take_line(text_.substr(0, end));
    text_.erase(0, end + 1);
  }
  return true;
}

void Child::bury() {
  int status = 0;
  ::waitpid(pid_, &status, 0);
  is_over_ = true;
  if (WIFEXITED(status)) end_.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) end_.signal = WTERMSIG(status);
}

bool Child::look() {
  if (is_over_) return true;
  pollfd ready{.fd = output_.get(), .events = POLLIN, .revents = 0};
  const bool has_output = ::poll(&ready, 1, kLookForMs) > 0;
  if (!has_output) quiet_ms_ += kLookForMs;
  if (has_output) {
    if (!read_some()) bury();
  } else if (quiet_ms_ >= patience_ms_ && !end_.was_killed) {
    end_.was_killed = true;
    ::kill(pid_, SIGKILL);
  }
  return is_over_;
}

}  // namespace larder::mutation
