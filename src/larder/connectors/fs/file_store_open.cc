#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "larder/base/logging.h"
#include "larder/base/result.h"
#include "larder/connectors/fs/checksum.h"
#include "larder/connectors/fs/file_store.h"
#include "larder/io/direct_io.h"

// Opening a store, and its report.

namespace larder::fs {
namespace {

constexpr const char* kLockName = ".larder-lock";

constexpr std::array<std::string_view, 6> kNetworkFileSystems{"nfs",  "lustre", "ceph",
                                                              "fuse", "smb2",   "gpfs"};

FileSystemFacts facts_of(const Directory& directory, const FsOptions& options) {
  FileSystemFacts facts;
  struct statfs status{};
  if (::fstatfs(directory.base_fd(), &status) == 0) {
    facts.name = io::file_system_name(static_cast<std::uint64_t>(status.f_type));
    if (status.f_bsize > 0) facts.block_bytes = static_cast<std::uint64_t>(status.f_bsize);
  }
  facts.is_network =
      std::ranges::find(kNetworkFileSystems, facts.name) != kNetworkFileSystems.end();
  facts.has_unnamed_files = !facts.is_network && Draft::can_be_unnamed(directory);
  if (options.use_direct) {
    const io::DirectIoSupport support = io::probe_direct_io(directory.temporary_fd());
    facts.is_direct = support.is_supported;
    facts.no_direct_why = support.why_not;
    if (support.is_supported) facts.alignment = support.alignment;
  }
  return facts;
}

SetupStatus check_attributes(const Directory& directory, const std::string& path) {
  const auto draft = Draft::create(directory, 0600, false, Draft::Kind::kNamed);
  const Status written = draft ? write_checksum(draft->fd(), {}) : Status{draft.error()};
  if (written) return {};
  return SetupError{written.error().code(),
                    "fs: checksum=xattr is not possible in '" + path +
                        "': " + written.error().to_string() +
                        "; mount the file system with extended attributes, or leave checksum out"};
}

SetupResult<io::LockedFile> lock_directory(const Directory& directory, const std::string& path) {
  io::LockedFile file;
  {
    const NoFork no_fork;
    file.fd.reset(
        ::openat(directory.base_fd(), kLockName, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file.fd) file.guard = ForkGuard{file.fd.get()};
  }
  if (!file.fd) {
    const int sys_errno = errno;
    return SetupError{Error::from_errno(sys_errno, "fs", "").code(),
                      "fs: making '" + path + "/" + kLockName + "': " + errno_text(sys_errno)};
  }
  auto lock = io::FileLock::try_take(file.fd.get());
  if (lock) {
    file.lock = std::move(*lock);
    return file;
  }
  if (lock.error().sys_errno() == EDEADLK) {
    return SetupError{ErrorCode::kUnavailable,
                      "fs: '" + path + "' is in use by this process itself (pid " +
                          std::to_string(::getpid()) +
                          "), which opened it with exclusive=yes before: use that store, or close "
                          "it first and wait for the close to end"};
  }
  if (lock.error().code() != ErrorCode::kUnavailable) {
    return SetupError{lock.error().code(),
                      "fs: locking '" + path + "/" + kLockName + "': " + lock.error().to_string()};
  }
  return SetupError{ErrorCode::kUnavailable,
                    "fs: '" + path +
                        "' is in use by another process, which opened it with exclusive=yes; "
                        "give each process a directory, or open it without exclusive"};
}

/// Empty where every key has the name that LMCache gives it.
std::string foreign_names(const NameRules& names) {
  const std::string untried =
      names.is_proved ? ""
                      : "no file can be made in the directory to find out which names are one, so "
                        "the strictest rules are assumed: ";
  switch (names.kind) {
    case NameRules::Kind::kNoCase:
      return untried +
             "the file system does not tell capital from small letters in names, so a file of "
             "LMCache's could be another key's: values have larder's own names (i-...), LMCache "
             "does not see them, and its files here are not read";
    case NameRules::Kind::kPortable:
      return untried +
             "the file system changes or refuses some characters in names: keys with other "
             "characters than letters, digits and @._-/ have larder's own names (k-...), which "
             "LMCache does not see";
    case NameRules::Kind::kBytes:
      break;
  }
  if (names.bytes_max == kNameBytesMax) return {};
  return "the file system takes names of at most " + std::to_string(names.bytes_max) +
         " bytes: keys with longer names have hashed ones (h-...), which LMCache does not see";
}

}  // namespace

SetupResult<std::unique_ptr<FileStore>> FileStore::open(const FsOptions& options) {
  LARDER_ASSIGN(auto base, BasePath::open(options));
  const auto directory = base->get();
  if (options.checksum == Checksum::kXattr) {
    LARDER_TRY(check_attributes(*directory, options.base_path));
  }
  if (const std::string reason = foreign_names(directory->names()); !reason.empty()) {
    log(LogLevel::kWarning, "fs", "'" + options.base_path + "': " + reason);
  }
  io::LockedFile lock;
  if (options.is_exclusive) {
    LARDER_ASSIGN(lock, lock_directory(*directory, options.base_path));
  }
  return std::unique_ptr<FileStore>{
      new FileStore{options, std::move(base), facts_of(*directory, options), std::move(lock)}};
}

FileStore::FileStore(const FsOptions& options, std::unique_ptr<BasePath> base,
                     FileSystemFacts facts, io::LockedFile lock)
    : options_(options),
      base_(std::move(base)),
      facts_(std::move(facts)),
      lock_(std::move(lock)),
      inventory_(options.capacity_bytes, options.is_exclusive) {}

FileStore::~FileStore() = default;

void FileStore::note_remark(std::string remark) {
  if (remark.empty()) return;
  log(LogLevel::kWarning, "fs", options_.base_path + ": " + remark);
  const MutexLock lock{remarks_mutex_};
  remarks_.push_back(std::move(remark));
}

void FileStore::append_report(Report& report) const {
  const auto degrade = [&](Health health, std::string reason) {
    report.health = std::max(report.health, health);
    report.reasons.push_back(std::move(reason));
  };
  const Inventory::Totals totals = inventory_.totals();
  report.keys = totals.keys;
  report.bytes_used = totals.bytes;
  report.capacity_bytes = options_.capacity_bytes;
  if (base_->is_missing()) {
    degrade(Health::kDown, "the directory '" + options_.base_path +
                               "' is not there; it is used again as soon as it is");
  }
  if (options_.use_direct && !facts_.is_direct) {
    degrade(Health::kDegraded, "use_odirect is asked for and not possible: " +
                                   facts_.no_direct_why + "; files are buffered");
  }
  const NameRules names = base_->get()->names();
  if (std::string reason = foreign_names(names); !reason.empty()) {
    report.reasons.push_back(std::move(reason));
  }
  if (!totals.is_counted) {
    report.reasons.emplace_back("the files that were there are still being counted");
  }
  if (inventory_.is_tracking() && !options_.is_exclusive) {
    report.reasons.emplace_back(
        "the capacity bounds what this process found and wrote; what others write beside it comes "
        "on top");
  }
  {
    const MutexLock lock{remarks_mutex_};
    report.reasons.insert(report.reasons.end(), remarks_.begin(), remarks_.end());
  }
  report.properties.emplace_back("file_system", facts_.name);
  report.properties.emplace_back("direct", facts_.is_direct ? "yes" : "no");
  report.properties.emplace_back("names", name_of(names.kind));
  report.properties.emplace_back("name_bytes_max", std::to_string(names.bytes_max));
  report.properties.emplace_back("counted", totals.is_counted ? "yes" : "no");
  report.properties.emplace_back("checksum",
                                 options_.checksum == Checksum::kXattr ? "xattr" : "none");
  counters_.append_report(report);
}

}  // namespace larder::fs
