#include "larder/connectors/fs/file_store.h"

#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>
#include <span>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/connectors/fs/checksum.h"
#include "larder/connectors/fs/file_time.h"
#include "larder/connectors/fs/padding.h"

namespace larder::fs {
namespace {

constexpr const char* kWhere = "fs";
constexpr int kOpensAgainMax = 16;  ///< Facts about a file that a lookup finds.

/// The name belongs to something that is not a regular file, and that was not opened.
bool means_not_regular(int sys_errno) noexcept {
  return sys_errno == ELOOP || sys_errno == ENXIO || sys_errno == EMLINK;
}

}  // namespace

Status FileStore::run(Op op, Item& item, const CallOptions& options, StagingBuffer& staging,
                      ChangeGate& gate) noexcept {
  try {
    switch (op) {
      case Op::kGet:
        return get(item, options, staging);
      case Op::kSet:
        return set(item, options, staging, gate);
      case Op::kExists:
        return exists(item);
      case Op::kDelete:
        return remove(item, gate);
      case Op::kTouch:
        return touch(item);
    }
    return Error{ErrorCode::kInvalidArgument, kWhere, "the operation is unknown"};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kResourceExhausted, kWhere, "the process has no memory left"};
  } catch (...) {
    return Error{ErrorCode::kInternal, kWhere, "an unknown exception"};
  }
}

// --- Finding
// --------------------------------------------------------------------------------------

Result<std::optional<std::uint64_t>> FileStore::size_of(int folder_fd, const char* name) {
  const auto found = look_in(folder_fd, name);
  Status status = found ? Status{} : Status{found.error()};
  if (found && found->size_errno != 0) status = unknown_size(*found);
  if (!status && status.error().is_retryable()) return status.error();
  if (!status || !found->is_regular || found->is_too_large()) {
    return std::optional<std::uint64_t>{};
  }
  return std::optional{found->bytes};
}

std::optional<std::string> FileStore::legacy_name(const Directory& directory,
                                                  const Item& item) const {
  if (options_.has_shards || !has_legacy_.load(std::memory_order_relaxed)) return std::nullopt;
  return legacy_file_name_of(as_text(item.key), directory.names());
}

Result<std::optional<std::string>> FileStore::present_name(const Directory& directory,
                                                           const Item& item, FoundFile& found) {
  FileName name = file_name_of(as_text(item.key), directory.names());
  LARDER_ASSIGN(found, look(directory, name.text, options_));
  if (found.is_regular) return std::optional{std::move(name.text)};
  if (found.is_there) FsCounters::add(counters_.files_not_regular);
  if (auto legacy = legacy_name(directory, item)) {
    LARDER_ASSIGN(found, look(directory, *legacy, options_));
    if (found.is_regular) {
      FsCounters::add(counters_.legacy_hits);
      return legacy;
    }
  }
  return std::optional<std::string>{};
}

Result<UniqueFd> FileStore::open_name(const Directory& directory, const std::string& name,
                                      bool& is_direct, FoundFile& found) {
  // A lookup must not find what a load does not: engines would ask for it without end. It may also
  // have been deleted and stored again in between, but not every time.
  for (int tries = 0;; ++tries) {
    int failed = 0;
    LARDER_ASSIGN(UniqueFd fd, try_open(directory, name, is_direct, found, failed));
    if (fd || failed == 0) return fd;
    if (tries == kOpensAgainMax) {
      return Error::from_errno(failed, kWhere, "opening a file that a lookup finds");
    }
    LARDER_ASSIGN(found, look(directory, name, options_));
    if (found.is_there && !found.is_regular) FsCounters::add(counters_.files_not_regular);
    if (!found.is_regular) return UniqueFd{};
  }
}

/// No descriptor: it exists and is not a regular file, or `failed` says why it seems to be missing.
Result<UniqueFd> FileStore::try_open(const Directory& directory, const std::string& name,
                                     bool& is_direct, FoundFile& found, int& failed) {
  found = {};
  failed = 0;
  const auto folder = Folder::find(directory, name, options_, false);
  if (!folder) {
    failed = folder.error().sys_errno();
    if (means_absent(failed)) return UniqueFd{};
    return folder.error();
  }
  UniqueFd fd{::openat(folder->fd(), name.c_str(), kOpenValue | (is_direct ? O_DIRECT : 0))};
  if (!fd && errno == EINVAL && is_direct) {
    is_direct = false;
    FsCounters::add(counters_.direct_fallbacks);
    fd.reset(::openat(folder->fd(), name.c_str(), kOpenValue));
  }
  if (!fd) {
    failed = errno;
    if (means_absent(failed) || means_not_regular(failed)) return UniqueFd{};
    return Error::from_errno(failed, kWhere, "opening a file");
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    return Error::from_errno(errno, kWhere, "looking at an open file");
  }
  found = found_of(status);
  if (!found.is_regular) {
    FsCounters::add(counters_.files_not_regular);
    return UniqueFd{};
  }
  // On some file systems it would turn reads of distant files into EAGAIN.
  if (const int flags = ::fcntl(fd.get(), F_GETFL); flags >= 0) {
    ::fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK);
  }
  LARDER_ASSIGN(found.bytes, value_bytes_in(fd.get(), found.file_bytes));
  return fd;
}

// --- Get
// ------------------------------------------------------------------------------------------

std::optional<std::uint64_t> FileStore::bytes_to_load(const FoundFile& found, std::uint64_t room,
                                                      bool allow_shorter) const noexcept {
  if (found.bytes == room || (found.bytes < room && allow_shorter)) return found.bytes;
  const bool has_trailer = found.bytes != found.file_bytes;
  const std::uint64_t multiple = options_.pad_to_bytes;
  if (multiple != 0 && !has_trailer && found.bytes > room &&
      found.bytes == padded_to(room, multiple)) {
    return room;
  }
  return std::nullopt;
}

Result<std::optional<FileStore::OpenValue>> FileStore::open_value(Item& item,
                                                                  const CallOptions& options) {
  const std::uint64_t room = bytes_of(item.value);
  const bool wants_direct = facts_.is_direct && room >= facts_.alignment.offset;
  OpenValue value;
  FoundFile found;
  bool is_direct = wants_direct;
  // Twice when the base directory turns out to be another one now.
  do {
    const auto directory = base_->get();
    const std::uint64_t since = inventory_.clock();
    value.name = file_name_of(as_text(item.key), directory->names());
    is_direct = wants_direct;
    LARDER_ASSIGN(value.fd, open_name(*directory, value.name.text, is_direct, found));
    if (value.fd) break;
    if (!found.is_there) inventory_.missing(value.name.text, since);
    if (const auto legacy = legacy_name(*directory, item)) {
      LARDER_ASSIGN(value.fd, open_name(*directory, *legacy, is_direct, found));
      if (value.fd) {
        FsCounters::add(counters_.legacy_hits);
        value.name.text = *legacy;
        break;
      }
    }
  } while (base_->look_again(false));
  if (value.fd && found.is_too_large()) FsCounters::add(counters_.files_wrong_size);
  if (!value.fd || found.is_too_large()) {
    item.outcome = Outcome::kMiss;
    if (found.is_there) item.miss_reason = MissReason::kOther;
    return std::optional<OpenValue>{};
  }
  item.value_bytes = found.bytes;
  const auto bytes = bytes_to_load(found, room, options.allow_shorter);
  if (!bytes) {
    FsCounters::add(counters_.files_wrong_size);
    return Error{ErrorCode::kSizeMismatch, kWhere, "the file and the buffer differ in size"};
  }
  item.value_bytes = *bytes;
  value.modified_seconds = found.modified_seconds;
  if (is_direct) value.alignment = facts_.alignment;
  if (!is_direct && options_.read_ahead_bytes != 0 && *bytes > options_.read_ahead_bytes) {
    ::posix_fadvise(value.fd.get(), 0, static_cast<off_t>(options_.read_ahead_bytes),
                    POSIX_FADV_WILLNEED);
  }
  return std::optional{std::move(value)};
}

bool FileStore::falls_back(OpenValue& value, const Error& error) noexcept {
  if (error.sys_errno() != EINVAL || value.alignment.offset == 1) return false;
  const int flags = ::fcntl(value.fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(value.fd.get(), F_SETFL, flags & ~O_DIRECT) != 0) return false;
  value.alignment = {};
  FsCounters::add(counters_.direct_fallbacks);
  return true;
}

Status FileStore::get_here(Item& item, const CallOptions& options, StagingBuffer& staging) {
  LARDER_ASSIGN(std::optional<OpenValue> value, open_value(item, options));
  if (!value) return {};
  for (;;) {
    ValueTransfer transfer{item.value, item.value_bytes, value->alignment};
    Status read = transfer.read_straight(value->fd.get());
    if (read) read = transfer.read_rest(value->fd.get(), staging, counters_);
    if (read) return finish_get(item, *value);
    if (!falls_back(*value, read.error())) return read;
  }
}

Status FileStore::get(Item& item, const CallOptions& options, StagingBuffer& staging) {
  const Status status = get_here(item, options, staging);
  note_get(item, status);
  return status;
}

Status FileStore::check_checksum(const Item& item, int fd) {
  const auto expected = read_checksum(fd);
  if (!expected) return expected.error();
  const bool is_right = *expected && (*expected)->value_bytes == item.value_bytes &&
                        (*expected)->hash == checksum_of(item.key, item.value, item.value_bytes);
  if (is_right) return {};
  FsCounters::add(counters_.corruptions);
  if (!*expected) return Error{ErrorCode::kCorruption, kWhere, "the file has no checksum"};
  return Error{ErrorCode::kCorruption, kWhere, "the file does not match its checksum"};
}

Status FileStore::finish_get(Item& item, const OpenValue& value) {
  if (options_.checksum == Checksum::kXattr) LARDER_TRY(check_checksum(item, value.fd.get()));
  mark_used(value.name.text, -1, value.fd.get(), value.modified_seconds);
  item.outcome = Outcome::kHit;
  return {};
}

void FileStore::note_get(const Item& item, const Status& status) noexcept {
  if (!status) {
    // Not a wrong size, nor a cancellation: those are the caller's.
    if (status.error().sys_errno() != 0) load_errors_.note(status.error());
  } else if (item.outcome == Outcome::kHit) {
    load_errors_.clear();
  }
}

void FileStore::mark_used(const std::string& name, int folder_fd, int fd,
                          std::int64_t modified_seconds) {
  if (!inventory_.is_tracking()) return;
  inventory_.used(name);
  const std::int64_t now = std::time(nullptr);
  const bool is_recent = now - modified_seconds < kFileTimeGrainSeconds;
  if (is_recent && !is_in_future(modified_seconds, now)) return;
  // Keeps the order across restarts. Without permission it stays as it is.
  const std::array<timespec, 2> times{timespec{0, UTIME_OMIT}, timespec{0, UTIME_NOW}};
  if (fd >= 0) {
    ::futimens(fd, times.data());
  } else {
    ::utimensat(folder_fd, name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
  }
}

// --- Set ----------------------------------------------------------------------------------------

Status FileStore::set(Item& item, const CallOptions& options, StagingBuffer& staging,
                      ChangeGate& gate) {
  const Status status = set_here(item, options, staging, gate);
  if (!status) {
    if (status.error().sys_errno() != 0) store_errors_.note(status.error());
  } else if (!item.existed) {
    store_errors_.clear();
  }
  return status;
}

Status FileStore::set_here(Item& item, const CallOptions& options, StagingBuffer& staging,
                           ChangeGate& gate) {
  const std::string_view key = as_text(item.key);
  const bool replace = options.set_mode == SetMode::kReplace;
  auto directory = base_->get();
  if (!replace) {
    FoundFile found;
    LARDER_ASSIGN(const auto present, present_name(*directory, item, found));
    if (present && found.is_value(bytes_of(item.value))) {
      item.existed = true;
      item.outcome = Outcome::kDone;
      if (!inventory_.is_tracking()) return {};
      const auto folder = Folder::find(*directory, *present, options_, false);
      if (folder) mark_used(*present, folder->fd(), -1, found.modified_seconds);
      return {};
    }
  }
  const auto write = [&] {
    const FileName name = file_name_of(key, directory->names());
    return writer_.write(*directory, item, name, replace, staging, gate);
  };
  Status status = write();
  const int failed = status ? 0 : status.error().sys_errno();
  if ((failed == ENOENT || failed == ENOTDIR || failed == ESTALE) && base_->restore()) {
    FsCounters::add(counters_.directory_returns);
    directory = base_->get();
    status = write();
  }
  if (status) item.outcome = Outcome::kDone;
  return status;
}

// --- Exists, Touch, Delete
// ------------------------------------------------------------------------

Status FileStore::exists(Item& item) {
  const Status status = exists_here(item);
  status ? lookup_errors_.clear() : lookup_errors_.note(status.error());
  return status;
}

Status FileStore::exists_here(Item& item) {
  FoundFile found;
  do {
    LARDER_ASSIGN(const auto name, present_name(*base_->get(), item, found));
    if (!name) continue;
    if (found.size_errno != 0) {
      return unknown_size(found);
    }
    if (found.is_too_large()) {
      FsCounters::add(counters_.files_wrong_size);
      item.miss_reason = MissReason::kOther;
      break;
    }
    item.outcome = Outcome::kHit;
    item.value_bytes = found.bytes;
    return {};
  } while (base_->look_again(false));
  item.outcome = Outcome::kMiss;
  return {};
}

Status FileStore::touch(Item& item) {
  FoundFile found;
  const auto directory = base_->get();
  LARDER_ASSIGN(const auto name, present_name(*directory, item, found));
  item.outcome = name ? Outcome::kDone : Outcome::kMiss;
  if (!name || !inventory_.is_tracking()) return {};
  LARDER_ASSIGN(const Folder folder, Folder::find(*directory, *name, options_, false));
  mark_used(*name, folder.fd(), -1, found.modified_seconds);
  return {};
}

Status FileStore::remove(Item& item, ChangeGate& gate) {
  const auto directory = base_->get();
  const FileName name = file_name_of(as_text(item.key), directory->names());
  LARDER_ASSIGN(bool is_removed, unlink_value(*directory, name.text, gate));
  if (const auto legacy = legacy_name(*directory, item)) {
    LARDER_ASSIGN(const bool is_legacy_removed, unlink_value(*directory, *legacy, gate));
    is_removed = is_removed || is_legacy_removed;
  }
  item.outcome = is_removed ? Outcome::kDone : Outcome::kMiss;
  if (!is_removed) base_->look_again(false);
  return {};
}

Result<bool> FileStore::unlink_value(const Directory& directory, const std::string& name,
                                     ChangeGate& gate) {
  LARDER_ASSIGN(const FoundFile found, look(directory, name, options_));
  if (!found.is_regular) return false;
  LARDER_ASSIGN(const Folder folder, Folder::find(directory, name, options_, false));
  int failed = 0;
  {
    LARDER_ASSIGN(const ChangeGate::Pass pass, gate.pass(name));
    // Leaves the inventory first: a store under this name from now on is counted on its own.
    auto known = inventory_.take(name);
    if (parse_entry_name(name).kind == EntryKind::kHashedValue) {
      // The key before the value, and a store does it the other way round: while there is a value,
      // its key is beside it or will be.
      ::unlinkat(folder.fd(), key_file_of(name).c_str(), 0);
    }
    failed = ::unlinkat(folder.fd(), name.c_str(), 0) == 0 ? 0 : errno;
    const bool is_gone = failed == 0 || means_absent(failed);
    if (known) is_gone ? inventory_.gone(*known) : inventory_.kept(*known);
  }
  if (failed != 0) {
    if (means_absent(failed)) return false;
    return Error::from_errno(failed, kWhere, "removing a file");
  }
  inventory_.removed(name, found.blocks_bytes);
  if (options_.fsync == Fsync::kDirectory) ::fsync(folder.fd());
  return true;
}

}  // namespace larder::fs
