#include "larder/tools/fio_runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "larder/base/aligned_buffer.h"
#include "larder/base/clock.h"
#include "larder/base/result.h"
#include "larder/base/size_text.h"
#include "larder/base/unique_fd.h"
#include "larder/tools/value_pattern.h"

namespace larder::tools {
namespace {

constexpr int kStopLookMs = 100;
/// No disk is as slow as this: fio hangs, for example because its threads could not start.
constexpr std::uint64_t kSlowestBytesPerSecond = 100'000;
constexpr std::uint64_t kStartPatienceNs = 60'000'000'000;

constexpr std::uint64_t kHugePageBytes = std::uint64_t{2} << 20;

SetupError unavailable(std::string text) {
  return SetupError{ErrorCode::kUnavailable, std::move(text)};
}
SetupError failed_call(const std::string& what) {
  const Error error = Error::from_errno(errno, "", "");
  return SetupError{error.code(), what + ": " + errno_text(error.sys_errno())};
}

/// fio reads a colon in a file name as the border between two names.
std::string escaped(const std::string& path) {
  std::string text;
  for (const char c : path) {
    if (c == ':' || c == '\\') text += '\\';
    text += c;
  }
  return text;
}

struct Output {
  std::string text;
  int exit_status = 0;  ///< 127: could not be started.
};

/// Runs a program and collects its standard output and standard error. It is killed, with an error,
/// once `stop` is set or `patience_ns` has passed: it leaves nothing behind.
SetupResult<Output> run_program(const std::vector<std::string>& arguments,
                                const std::atomic<bool>& stop, std::uint64_t patience_ns) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return failed_call("pipe");
  const UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  posix_spawn_file_actions_t actions;
  if (::posix_spawn_file_actions_init(&actions) != 0) return failed_call("posix_spawn");
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDERR_FILENO);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t child = 0;
  const int spawned = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  write_end.reset();
  if (spawned != 0) return Output{errno_text(spawned), 127};
  Output output;
  std::array<char, 65536> buffer;
  const Clock& clock = RealClock::instance();
  const std::uint64_t end_ns = clock.now_ns() + patience_ns;
  bool is_killed = false;
  for (;;) {
    if (!is_killed && (stop || clock.now_ns() >= end_ns)) {
      ::kill(child, SIGKILL);
      is_killed = true;
    }
    pollfd readable{read_end.get(), POLLIN, 0};
    if (::poll(&readable, 1, kStopLookMs) == 0) continue;
    const ssize_t count = ::read(read_end.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    output.text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (is_killed) {
    return unavailable(arguments.front() + (stop ? " was interrupted" : " did not end: killed"));
  }
  output.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return output;
}

/// Writes `bytes` of random data without leaving them in the page cache.
SetupStatus write_all(int fd, std::uint64_t bytes) {
  constexpr std::size_t kPieceBytes = std::size_t{4} << 20;
  auto buffer = AlignedBuffer::create(kPieceBytes, 4096);
  if (!buffer) return SetupError{buffer.error().code(), "no memory for fio's file"};
  const ValuePattern pattern;
  for (std::uint64_t offset = 0; offset < bytes;) {
    const std::size_t count = std::min<std::uint64_t>(kPieceBytes, bytes - offset);
    pattern.fill(offset, buffer->span());
    const ssize_t written = ::pwrite(fd, buffer->data(), count, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return failed_call("writing fio's file");
    offset += static_cast<std::uint64_t>(written);
  }
  if (::fsync(fd) != 0) return failed_call("syncing fio's file");
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  return {};
}

double percentile_ns(const nlohmann::json& direction, const char* name) {
  const auto latency = direction.find("clat_ns");
  if (latency == direction.end()) return 0;
  const auto percentiles = latency->find("percentile");
  if (percentiles == latency->end()) return 0;
  return percentiles->value(name, 0.0);
}

}  // namespace

std::string FioEngine::label() const {
  return name == "psync" ? fmt::format("psync, {} thread{}", jobs, jobs == 1 ? "" : "s")
                         : fmt::format("{}, depth {}", name, depth);
}

std::vector<FioEngine> fio_candidates(std::uint64_t block_bytes, std::uint64_t bytes) {
  constexpr std::uint64_t kInFlightBytesMax = std::uint64_t{1} << 30;
  std::vector<FioEngine> engines;
  const auto add = [&](const char* name, std::uint32_t jobs, std::uint32_t depth) {
    const std::uint64_t in_flight = block_bytes * jobs * depth;
    const bool is_smallest = jobs * depth == 1 || (jobs == 1 && depth == 8);
    if (is_smallest || in_flight <= std::min(bytes, kInFlightBytesMax)) {
      engines.push_back({name, jobs, depth});
    }
  };
  for (const std::uint32_t jobs : {1U, 4U, 16U}) add("psync", jobs, 1);
  for (const char* const name : {"libaio", "io_uring"}) {
    for (const std::uint32_t depth : {8U, 32U, 128U}) add(name, 1, depth);
  }
  return engines;
}

std::uint64_t huge_pages_wanted(const std::vector<FioEngine>& engines, std::uint64_t block_bytes) {
  std::uint64_t most = 0;
  for (const FioEngine& engine : engines) {
    // One more for the alignment of each thread's buffers.
    const std::uint64_t pages = engine.depth * block_bytes / kHugePageBytes + 2;
    most = std::max(most, engine.jobs * pages);
  }
  return most;
}

bool huge_pages_suffice(const std::vector<FioEngine>& engines, std::uint64_t block_bytes) {
  std::ifstream meminfo{"/proc/meminfo"};
  std::uint64_t free_pages = 0;
  std::uint64_t page_kib = 0;
  for (std::string name; meminfo >> name;) {
    if (name == "HugePages_Free:") meminfo >> free_pages;
    if (name == "Hugepagesize:") meminfo >> page_kib;
  }
  return page_kib * 1024 == kHugePageBytes && free_pages >= huge_pages_wanted(engines, block_bytes);
}

std::vector<std::string> fio_arguments(const FioJob& job, const std::string& file) {
  const std::uint64_t jobs = job.engine.jobs;
  const std::uint64_t part = job.bytes / jobs / job.block_bytes * job.block_bytes;
  std::vector<std::string> arguments = {
      "fio",
      "--name=ceiling",
      "--filename=" + escaped(file),
      fmt::format("--bs={}", job.block_bytes),
      fmt::format("--offset={}", job.offset),
      fmt::format("--offset_increment={}", part),
      fmt::format("--size={}", part),
      fmt::format("--direct={}", job.is_direct ? 1 : 0),
      "--ioengine=" + job.engine.name,
      fmt::format("--iodepth={}", job.engine.depth),
      fmt::format("--numjobs={}", jobs),
      "--thread",
      "--group_reporting",
      "--fallocate=none",
      "--allow_file_create=0",
      "--output-format=json",
  };
  if (job.has_huge_pages) {
    arguments.emplace_back("--iomem=mmaphuge");
    arguments.push_back(fmt::format("--hugepage-size={}", kHugePageBytes));
  }
  switch (job.direction) {
    case FioDirection::kRandomRead:
      arguments.emplace_back("--rw=randread");
      break;
    case FioDirection::kWrite:
      arguments.emplace_back("--rw=write");
      break;
    case FioDirection::kMixed:
      arguments.emplace_back("--rw=randrw");
      arguments.push_back(fmt::format("--rwmixread={}", job.read_percent));
      break;
  }
  return arguments;
}

SetupResult<FioResult> parse_fio_json(std::string_view json) {
  // Notes of fio may come before the object.
  const std::size_t begin = json.find('{');
  const auto root = begin == std::string_view::npos
                        ? nlohmann::json(nlohmann::json::value_t::discarded)
                        : nlohmann::json::parse(json.substr(begin), nullptr, false);
  if (root.is_discarded() || !root.is_object()) return unavailable("fio's output is not JSON");
  const auto jobs = root.find("jobs");
  if (jobs == root.end() || !jobs->is_array() || jobs->size() != 1 || !(*jobs)[0].is_object()) {
    return unavailable("fio's output has not exactly one group of jobs");
  }
  const nlohmann::json& job = (*jobs)[0];
  try {
    if (job.value("error", 0) != 0) {
      return unavailable(fmt::format("fio failed: {}", errno_text(job.value("error", 0))));
    }
    FioResult result;
    double seconds = 0;
    for (const char* const name : {"read", "write"}) {
      const nlohmann::json& direction = job.at(name);
      const auto bytes = direction.at("io_bytes").get<std::uint64_t>();
      if (bytes == 0) continue;
      result.bytes += bytes;
      seconds = std::max(seconds, direction.at("runtime").get<double>() / 1e3);
      if (result.latency_p50_ns == 0) {
        result.latency_p50_ns = static_cast<std::uint64_t>(percentile_ns(direction, "50.000000"));
        result.latency_p99_ns = static_cast<std::uint64_t>(percentile_ns(direction, "99.000000"));
      }
    }
    if (result.bytes == 0 || seconds <= 0) return unavailable("fio transferred nothing");
    result.gb_per_second = static_cast<double>(result.bytes) / 1e9 / seconds;
    const double share = (job.at("usr_cpu").get<double>() + job.at("sys_cpu").get<double>()) / 100;
    result.cpu_seconds = share * job.at("job_runtime").get<double>() / 1e3;
    return result;
  } catch (const nlohmann::json::exception& error) {
    return unavailable(std::string{"fio's output lacks a field: "} + error.what());
  }
}

bool is_fio_installed() {
  const std::atomic<bool> no_stop = false;
  const auto output = run_program({"fio", "--version"}, no_stop, kStartPatienceNs);
  return output && output->exit_status == 0;
}

SetupResult<FioResult> run_fio(const FioJob& job, const std::string& file,
                               const std::atomic<bool>& stop) {
  const std::uint64_t patience_ns =
      kStartPatienceNs + job.bytes / kSlowestBytesPerSecond * 1'000'000'000;
  LARDER_ASSIGN(const Output output, run_program(fio_arguments(job, file), stop, patience_ns));
  if (output.exit_status != 0) {
    return unavailable(fmt::format("fio ({}) ended with {}: {}", job.engine.label(),
                                   output.exit_status, output.text.substr(0, 300)));
  }
  return parse_fio_json(output.text);
}

SetupResult<FioFile> FioFile::create(const std::string& directory, std::uint64_t bytes,
                                     State state) {
  struct statvfs space{};
  if (::statvfs(directory.c_str(), &space) != 0) return failed_call(directory);
  const std::uint64_t free_bytes = std::uint64_t{space.f_bavail} * space.f_frsize;
  if (free_bytes / 20 * 19 < bytes) {
    return SetupError{
        ErrorCode::kResourceExhausted,
        fmt::format("{}: fio's file of {} does not fit into the {} that are free; use "
                    "a smaller --bytes or --no-fio",
                    directory, format_bytes(bytes), format_bytes(free_bytes))};
  }
  const std::string path = fmt::format("{}/.larder-bench-{}.tmp", directory, ::getpid());
  constexpr int kFlags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
  UniqueFd fd{::open(path.c_str(), kFlags | O_DIRECT, 0600)};
  bool is_direct = true;
  if (!fd && errno == EINVAL) {
    is_direct = false;
    ::unlink(path.c_str());  // Some file systems make the file before they refuse O_DIRECT.
    fd.reset(::open(path.c_str(), kFlags, 0600));
  }
  if (!fd) return failed_call(path);
  if (::unlink(path.c_str()) != 0) return failed_call(path);
  const int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes));
  if (error != 0) {
    errno = error;
    return failed_call(path + ": reserving " + format_bytes(bytes));
  }
  if (state == State::kWritten) LARDER_TRY(write_all(fd.get(), bytes));
  return SetupResult<FioFile>{FioFile{std::move(fd), is_direct}};
}

FioFile::FioFile(UniqueFd fd, bool is_direct)
    : fd_(std::move(fd)),
      path_(fmt::format("/proc/{}/fd/{}", ::getpid(), fd_.get())),
      is_direct_(is_direct) {}

}  // namespace larder::tools
