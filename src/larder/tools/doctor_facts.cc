// What the doctor looks at; what it thinks of it is in doctor.cc.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "larder/base/hash.h"
#include "larder/base/unique_fd.h"
#include "larder/connectors/log/segments.h"
#include "larder/io/uring_probe.h"
#include "larder/tools/disk_stats.h"
#include "larder/tools/doctor.h"

namespace larder::tools {
namespace {

namespace fs = std::filesystem;

/// The number behind "Name:" in a file of such lines, or a file that is only a number; 0 without.
long number_in(const std::string& text, const std::string& name) {
  const std::size_t at = name.empty() ? 0 : text.find("\n" + name + ":");
  if (at == std::string::npos) return 0;
  return std::strtol(text.c_str() + at + (name.empty() ? 0 : name.size() + 2), nullptr, 10);
}

/// "madvise" of "always [madvise] never".
std::string choice_in(const std::string& text) {
  const std::size_t open = text.find('[');
  const std::size_t close = text.find(']');
  return open == std::string::npos || close == std::string::npos
             ? ""
             : text.substr(open + 1, close - open - 1);
}

void look_inside(DirectoryFacts& facts) {
  std::error_code error;
  std::string foreign;
  for (auto at = fs::directory_iterator{facts.directory, error};
       !error && at != fs::directory_iterator{}; at.increment(error)) {
    const std::string name = at->path().filename();
    if (name == log_store::kSuperblockFileName) facts.has_store = true;
    if (!log_store::is_harmless_file_name(name)) foreign = name;
  }
  if (!facts.has_store) facts.foreign_file = foreign;
}

/// The directory itself, or the nearest one above it that exists.
fs::path nearest_existing(const std::string& directory) {
  std::error_code error;
  fs::path path = fs::absolute(directory, error);
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  return fs::canonical(path, error);
}

DirectoryFacts gather_directory(const std::string& directory) {
  DirectoryFacts facts;
  facts.directory = directory;
  std::error_code error;
  facts.exists = fs::exists(directory, error);
  facts.probed = nearest_existing(directory).string();
  facts.is_directory = fs::is_directory(facts.probed, error);
  if (!facts.is_directory) return facts;
  if (facts.exists) look_inside(facts);
  facts.is_writable =
      ::faccessat(AT_FDCWD, facts.probed.c_str(), R_OK | W_OK | X_OK, AT_EACCESS) == 0;

  if (const auto mount = parse_mount_info(read_small_file("/proc/self/mountinfo"), facts.probed)) {
    facts.file_system = mount->file_system;
    facts.mount_point = mount->point;
  }
  const UniqueFd fd{::open(facts.probed.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  struct statfs status{};
  if (facts.file_system.empty() && ::fstatfs(fd.get(), &status) == 0) {
    facts.file_system = io::file_system_name(static_cast<std::uint32_t>(status.f_type));
  }
  struct statvfs space{};
  if (::fstatvfs(fd.get(), &space) == 0) {
    facts.free_bytes = std::uint64_t{space.f_bavail} * space.f_frsize;
    facts.is_read_only = (space.f_flag & ST_RDONLY) != 0;
  }
  if (facts.is_writable && !facts.is_read_only) {
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

MachineFacts gather_facts(const std::string& directory) {
  MachineFacts facts;
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
  facts.huge_pages = choice_in(read_small_file("/sys/kernel/mm/transparent_hugepage/enabled"));
  if (!directory.empty()) facts.directory = gather_directory(directory);
  return facts;
}

}  // namespace larder::tools
