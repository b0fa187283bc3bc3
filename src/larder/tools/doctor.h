#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/io/direct_io.h"

namespace larder::tools {

/// What was found out about a directory, or about the nearest one above it that exists.
struct DirectoryFacts {
  std::string directory;  ///< As it was named.
  std::string probed;     ///< Where the rest was found out.
  bool exists = false;
  bool is_directory = true;
  bool is_writable = false;
  bool has_store = false;
  std::string foreign_file;  ///< One that is not larder's, in a directory without a store.
  std::string file_system;   ///< As it is mounted: "ext4", "xfs", "overlay", ...
  std::string mount_point;
  bool is_read_only = false;
  std::uint64_t free_bytes = 0;
  io::DirectIoSupport direct;
  std::string allocate_error;  ///< Of fallocate() on a scratch file; empty: it works.
  std::string block_device;    ///< "vda"; empty: none that the kernel counts for.
  bool is_buffered_loop = false;
  bool is_rotational = false;
};

/// What was found out about the machine and this process.
struct MachineFacts {
  std::string kernel;     ///< "6.1.0-18-amd64"
  std::string forced_io;  ///< LARDER_IO
  int uring_errno = 0;    ///< 0: io_uring works.
  std::string uring_error;
  int uring_disabled = 0;  ///< The sysctl kernel.io_uring_disabled; 0 where there is none.
  bool has_system_call_filter = false;    ///< Seccomp, as containers have it.
  std::uint64_t locked_memory_bytes = 0;  ///< RLIMIT_MEMLOCK
  std::uint64_t open_files = 0;           ///< RLIMIT_NOFILE, soft.
  std::uint64_t open_files_hard = 0;
  std::string checksum;    ///< hash_implementation()
  bool has_avx2 = false;   ///< The processor.
  std::string huge_pages;  ///< "always", "madvise", "never"; empty: unknown.
  std::optional<DirectoryFacts> directory;
};

enum class FindingLevel : std::uint8_t { kGood = 0, kWarning, kProblem };
std::string_view name_of(FindingLevel level) noexcept;

struct Finding {
  FindingLevel level = FindingLevel::kGood;
  std::string name;  ///< A word, for scripts.
  std::string what;
  std::string why;   ///< Why it matters.
  std::string mend;  ///< The command; empty where nothing needs mending.
};

/// Looks. In the directory it makes nameless scratch files, and nothing else. `directory` may be
/// empty: then only the machine is looked at.
MachineFacts gather_facts(const std::string& directory);

/// Judges. Pure.
std::vector<Finding> diagnose(const MachineFacts& facts);

/// No finding is a problem.
bool is_healthy(const std::vector<Finding>& findings);

std::string to_text(const std::vector<Finding>& findings);
std::string to_json(const std::vector<Finding>& findings);

}  // namespace larder::tools
