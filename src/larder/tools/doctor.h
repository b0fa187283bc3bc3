#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/result.h"
#include "larder/io/direct_io.h"

namespace larder::tools {

/// The planned content of a directory.
enum class StoreKind : std::uint8_t {
  kLog = 1,  ///< `log:`
  kFiles,    ///< `fs:`
};

/// Facts about a directory, or about the nearest existing one above it.
struct DirectoryFacts {
  std::string directory;  ///< As it was named.
  std::string probed;     ///< The directory that was examined.
  StoreKind kind = StoreKind::kLog;
  std::string look_error;  ///< Why this user cannot look at it; empty: it can.
  bool exists = false;
  bool is_made = true;  ///< larder makes it where it does not exist.
  bool is_directory = true;
  bool is_writable = false;
  std::string owner;      ///< Result of the probe; empty: not known.
  bool is_empty = false;  ///< It exists, and this user saw that it is empty.
  bool has_store = false;
  bool is_closed = false;    ///< It exists, and this user may not enter it: its content is unknown.
  std::string foreign_file;  ///< A foreign file, in a directory without a store.
  std::string file_system;   ///< As it is mounted: "ext4", "xfs", "overlay", ...
  std::string mount_point;
  bool is_read_only = false;
  std::optional<std::uint64_t> free_bytes;  ///< For this user; empty: cannot be queried.
  std::uint64_t total_bytes = 0;
  std::uint64_t store_bytes = 0;     ///< Blocks of its content.
  std::uint64_t capacity_bytes = 0;  ///< Asked for; 0: none named.
  std::uint64_t min_free_bytes = std::uint64_t{1} << 30;
  io::DirectIoSupport direct;
  std::string allocate_error;  ///< Of fallocate() on a scratch file; empty: it works.
  std::string block_device;    ///< "vda"; empty: none that the kernel counts for.
  bool is_buffered_loop = false;
  bool is_rotational = false;
};

/// Facts about the machine and this process.
struct MachineFacts {
  std::string user;       ///< Whose files larder would make.
  bool is_root = true;    ///< Otherwise commands that need it begin with sudo.
  std::string kernel;     ///< "6.1.0-18-amd64"
  std::string forced_io;  ///< LARDER_IO
  int uring_errno = 0;    ///< 0: io_uring works.
  std::string uring_error;
  int uring_disabled = 0;  ///< The sysctl kernel.io_uring_disabled; 0 where there is none.
  bool has_system_call_filter = false;    ///< Seccomp, as containers have it.
  std::uint64_t locked_memory_bytes = 0;  ///< RLIMIT_MEMLOCK
  std::uint64_t open_files = 0;           ///< RLIMIT_NOFILE, soft.
  std::uint64_t open_files_hard = 0;
  std::string checksum;           ///< hash_implementation()
  bool has_avx2 = false;          ///< The processor.
  std::string huge_pages;         ///< "always", "madvise", "never"; empty: unknown.
  std::string shared_huge_pages;  ///< huge_pages_of_tmpfs() of /dev/shm.
  std::optional<DirectoryFacts> directory;
};

enum class FindingLevel : std::uint8_t { kGood = 0, kWarning, kProblem };
std::string_view name_of(FindingLevel level) noexcept;

struct Finding {
  FindingLevel level = FindingLevel::kGood;
  std::string name = {};  ///< A word, for scripts.
  std::string what = {};
  std::string why = {};  ///< Why it matters.
  /// A command that can be pasted as it is, by this user, here; empty where there is none.
  std::string mend = {};
  std::string note = {};  ///< A note on the remedy, or the remedy itself if no command applies it.
};

/// The request for a directory, from a spec.
struct DirectoryRequest {
  std::string directory;
  StoreKind kind = StoreKind::kLog;
  std::uint64_t capacity_bytes = 0;
  std::optional<std::uint64_t> min_free_bytes = {};  ///< Nothing: as the default.
  bool is_made = true;  ///< larder makes the directory; not with create=no.
};

/// Looks. In the directory it makes nameless scratch files only. Without a request only the machine
/// is examined.
MachineFacts gather_facts(const std::optional<DirectoryRequest>& request);

/// Judges. Pure.
std::vector<Finding> diagnose(const MachineFacts& facts);
/// The directory's part.
std::vector<Finding> diagnose_directory(const MachineFacts& facts, const DirectoryFacts& directory);

/// Looks and judges. `target`: nothing, a directory, or a spec, whose directory or server is
/// examined. An error where it is a spec that cannot be read, or of a type that has neither.
SetupResult<std::vector<Finding>> examine(const std::string& target);

/// No finding is a problem.
bool is_healthy(const std::vector<Finding>& findings);

std::string to_text(const std::vector<Finding>& findings);
std::string to_json(const std::vector<Finding>& findings);

/// A path as one word of a shell's command, whatever it holds.
std::string shell_word(std::string_view path);

}  // namespace larder::tools
