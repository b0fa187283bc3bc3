#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"

namespace larder::tools {

enum class FioDirection : std::uint8_t { kRandomRead = 1, kWrite, kMixed };

/// How fio asks the kernel.
struct FioEngine {
  std::string name;         ///< "psync", "libaio", "io_uring"
  std::uint32_t jobs = 1;   ///< Threads, each on its own part.
  std::uint32_t depth = 1;  ///< Per thread.

  std::string label() const;
};

/// One run of fio over a part of one file.
struct FioJob {
  FioEngine engine;
  FioDirection direction = FioDirection::kRandomRead;
  std::uint32_t read_percent = 70;  ///< kMixed.
  std::uint64_t block_bytes = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  ///< Length of the part; each of its blocks is transferred once.
  bool is_direct = true;
  bool has_huge_pages = false;  ///< Its buffers, see huge_pages_suffice().
};

struct FioResult {
  std::uint64_t bytes = 0;
  double gb_per_second = 0;
  double cpu_seconds = 0;  ///< User and system, of fio's worker threads.
  std::uint64_t latency_p50_ns = 0;
  std::uint64_t latency_p99_ns = 0;
};

/// The engines among which a ceiling is sought: psync with 1, 4 and 16 threads, libaio and io_uring
/// at depth 8, 32 and 128; without those whose requests would not fit into `bytes` at once.
std::vector<FioEngine> fio_candidates(std::uint64_t block_bytes, std::uint64_t bytes);

/// Whether the system has enough huge pages reserved for fio's buffers. On virtual disks and on
/// NVMe without large scatter lists, a buffer of small pages can halve the disk's rate.
bool huge_pages_suffice(const std::vector<FioEngine>& engines, std::uint64_t block_bytes);
/// `sysctl vm.nr_hugepages=` of it would suffice.
std::uint64_t huge_pages_wanted(const std::vector<FioEngine>& engines, std::uint64_t block_bytes);

std::vector<std::string> fio_arguments(const FioJob& job, const std::string& file);

/// Reads the `--output-format=json` output of one group of jobs.
SetupResult<FioResult> parse_fio_json(std::string_view json);

bool is_fio_installed();

/// kUnavailable with fio's own words when it fails, and when it is killed because `stop` was set or
/// it did not end in hours.
SetupResult<FioResult> run_fio(const FioJob& job, const std::string& file,
                               const std::atomic<bool>& stop);

/// The file that fio measures on: on the file system of the store. It has no name there, so that
/// nothing is left however this process ends; fio opens it through /proc.
class FioFile {
 public:
  enum class State : std::uint8_t {
    kWritten = 1,   ///< Every block was written, with random data.
    kNeverWritten,  ///< Blocks reserved (fallocate), never written.
  };

  /// Checks that the file system has the room, and 5 % of it to spare.
  static SetupResult<FioFile> create(const std::string& directory, std::uint64_t bytes,
                                     State state);

  const std::string& path() const noexcept { return path_; }
  /// Whether the file system takes O_DIRECT.
  bool is_direct() const noexcept { return is_direct_; }

 private:
  FioFile(UniqueFd fd, bool is_direct);

  UniqueFd fd_;
  std::string path_;
  bool is_direct_ = true;
};

}  // namespace larder::tools
