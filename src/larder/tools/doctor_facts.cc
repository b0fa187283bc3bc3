// Collects the facts for the doctor; doctor.cc judges them.
#include <fcntl.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "larder/base/hash.h"
#include "larder/base/result.h"
#include "larder/base/system_files.h"
#include "larder/base/unique_fd.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/io/uring_probe.h"
#include "larder/tools/disk_stats.h"
#include "larder/tools/doctor.h"
#include "larder/tools/target.h"

namespace larder::tools {
namespace {

namespace fs = std::filesystem;

/// The number after "Name:" in a file of such lines, or of a file that is only a number; 0 without.
long number_in(const std::string& text, const std::string& name) {
  const std::size_t at = name.empty() ? 0 : text.find("\n" + name + ":");
  if (at == std::string::npos) return 0;
  return std::strtol(text.c_str() + at + (name.empty() ? 0 : name.size() + 2), nullptr, 10);
}

std::string user_name(uid_t user) {
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(std::size_t{64} << 10);
  const int failed = ::getpwuid_r(user, &entry, buffer.data(), buffer.size(), &found);
  return failed == 0 && found != nullptr ? found->pw_name : std::to_string(user);
}

/// The result of `ls -a` on the directory, as far as this user may see it.
void look_inside(DirectoryFacts& facts) {
  std::error_code error;
  std::string foreign;
  facts.is_empty = true;
  for (auto at = fs::directory_iterator{facts.directory, error};
       !error && at != fs::directory_iterator{}; at.increment(error)) {
    const std::string name = at->path().filename();
    if (!log_store::is_harmless_file_name(name)) foreign = name;
    facts.is_empty = facts.is_empty && log_store::is_harmless_file_name(name);
    struct stat status{};
    if (::lstat(at->path().c_str(), &status) == 0) {
      facts.store_bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
    }
  }
  facts.is_empty = facts.is_empty && !error;
  struct stat status{};
  const std::string superblock =
      facts.directory + "/" + std::string{log_store::kSuperblockFileName};
  facts.has_store = ::lstat(superblock.c_str(), &status) == 0;
  if (!facts.has_store) {
    facts.foreign_file = foreign;
    if (facts.kind == StoreKind::kLog) facts.store_bytes = 0;
  }
}

void look_at_file_system(DirectoryFacts& facts) {
  if (const auto mount = parse_mount_info(read_small_file("/proc/self/mountinfo"), facts.probed)) {
    facts.file_system = mount->file_system;
    facts.mount_point = mount->point;
  }
  struct statfs status{};
  if (facts.file_system.empty() && ::statfs(facts.probed.c_str(), &status) == 0) {
    facts.file_system = io::file_system_name(static_cast<std::uint32_t>(status.f_type));
  }
  // By the path: a user who may not list a directory may still query its space.
  struct statvfs space{};
  if (::statvfs(facts.probed.c_str(), &space) == 0) {
    facts.free_bytes = std::uint64_t{space.f_bavail} * space.f_frsize;
    facts.total_bytes = std::uint64_t{space.f_blocks} * space.f_frsize;
    facts.is_read_only = (space.f_flag & ST_RDONLY) != 0;
  }
}

DirectoryFacts gather_directory(const DirectoryRequest& request) {
  DirectoryFacts facts;
  facts.directory = request.directory;
  facts.kind = request.kind;
  facts.is_made = request.is_made;
  facts.capacity_bytes = request.capacity_bytes;
  facts.min_free_bytes = request.min_free_bytes.value_or(facts.min_free_bytes);
  struct stat status{};
  facts.exists = ::stat(facts.directory.c_str(), &status) == 0;
  if (!facts.exists && errno != ENOENT && errno != ENOTDIR) {
    facts.look_error = errno_text(errno);
    return facts;
  }
  facts.probed = nearest_existing(facts.directory).string();
  std::error_code error;
  facts.is_directory = fs::is_directory(facts.probed, error);
  if (!facts.is_directory) return facts;
  if (::stat(facts.probed.c_str(), &status) == 0) facts.owner = user_name(status.st_uid);
  if (facts.exists) {
    facts.is_closed = ::faccessat(AT_FDCWD, facts.directory.c_str(), X_OK, AT_EACCESS) != 0;
    look_inside(facts);
  }
  facts.is_writable =
      ::faccessat(AT_FDCWD, facts.probed.c_str(), R_OK | W_OK | X_OK, AT_EACCESS) == 0;
  look_at_file_system(facts);
  if (facts.is_writable && !facts.is_read_only) {
    const UniqueFd fd{::open(facts.probed.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    facts.direct = io::probe_direct_io(fd.get());
    const Status allocated = io::probe_allocation(fd.get());
    if (!allocated) facts.allocate_error = allocated.error().to_string();
  }
  if (const auto disk = Disk::behind(facts.probed)) {
    facts.block_device = disk->name();
    facts.is_buffered_loop = disk->is_buffered_loop();
    facts.is_rotational = disk->is_rotational();
  }
  return facts;
}

}  // namespace

MachineFacts gather_facts(const std::optional<DirectoryRequest>& request) {
  MachineFacts facts;
  facts.user = user_name(::geteuid());
  facts.is_root = ::geteuid() == 0;
  utsname names{};
  if (::uname(&names) == 0) facts.kernel = static_cast<const char*>(names.release);
  if (const char* const forced = std::getenv("LARDER_IO")) facts.forced_io = forced;
  if (const Status probed = io::probe_uring(); !probed) {
    facts.uring_errno = probed.error().sys_errno();
    facts.uring_error = probed.error().to_string();
  }
  facts.uring_disabled =
      static_cast<int>(number_in(read_small_file("/proc/sys/kernel/io_uring_disabled"), ""));
  facts.has_system_call_filter = number_in(read_small_file("/proc/self/status"), "Seccomp") > 0;
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0) facts.locked_memory_bytes = limit.rlim_cur;
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    facts.open_files = limit.rlim_cur;
    facts.open_files_hard = limit.rlim_max;
  }
  facts.checksum = hash_implementation();
#if defined(__x86_64__)
  facts.has_avx2 = __builtin_cpu_supports("avx2") != 0;
#endif
  facts.huge_pages = huge_pages_of_memory();
  facts.shared_huge_pages = huge_pages_of_tmpfs("/dev/shm");
  if (request) facts.directory = gather_directory(*request);
  return facts;
}

}  // namespace larder::tools
