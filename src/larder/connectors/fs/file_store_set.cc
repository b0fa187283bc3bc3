#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/connectors/fs/checksum.h"
#include "larder/connectors/fs/file_store.h"
#include "larder/connectors/fs/padding.h"

// How a value is stored, and how room is made for it.

namespace larder::fs {
namespace {

constexpr const char* kWhere = "fs";
/// Racing with stores and deletes of one key, somebody gets on each time.
constexpr int kPublishTries = 100;

Trailer end_of(std::span<const Slice> value) noexcept {
  Trailer end{};
  std::size_t left = end.size();
  for (std::size_t i = value.size(); i > 0 && left > 0; --i) {
    const Slice& slice = value[i - 1];
    const std::size_t taken = std::min(slice.bytes, left);
    left -= taken;
    if (taken > 0) std::memcpy(end.data() + left, slice.data + slice.bytes - taken, taken);
  }
  return end;
}

/// The folder is not there, nor is anything in it.
bool means_absent(int sys_errno) noexcept {
  return sys_errno == ENOENT || sys_errno == ENOTDIR || sys_errno == ESTALE;
}

bool means_no_space(int sys_errno) noexcept {
  return sys_errno == ENOSPC || sys_errno == EDQUOT;
}

}  // namespace

Status FileStore::set(Item& item, const CallOptions& options, StagingBuffer& staging,
                      ChangeGate& gate) {
  const Status status = set_here(item, options, staging, gate);
  if (!status) {
    if (status.error().sys_errno() != 0) store_trouble_.note(status.error());
  } else if (!item.existed) {
    store_trouble_.clear();
  }
  return status;
}

Status FileStore::set_here(Item& item, const CallOptions& options, StagingBuffer& staging,
                           ChangeGate& gate) {
  const std::string_view key = as_text(item.key);
  const bool replace = options.set_mode == SetMode::kReplace;
  auto directory = base_->get();
  if (!replace) {
    Found found;
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
    return write_value(*directory, item, name, replace, staging, gate);
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

Status FileStore::write_value(const Directory& directory, Item& item, const FileName& name,
                              bool replace, StagingBuffer& staging, ChangeGate& gate) {
  const auto attempt = [&]() -> Status {
    LARDER_ASSIGN(std::uint64_t reserved, reserve(directory, file_bytes_of(item), gate));
    Status written = write_and_publish(directory, item, name, replace, reserved, staging, gate);
    if (reserved != 0) inventory_.cancel(reserved);
    return written;
  };
  Status status = attempt();
  if (status || !means_no_space(status.error().sys_errno()) || !inventory_.is_tracking()) {
    return status;
  }
  // Others fill the file system too: old files make room once.
  std::uint64_t wanted = 2 * file_bytes_of(item);
  while (wanted > 0) {
    const std::uint64_t before = inventory_.totals().bytes;
    if (!evict_one(directory, gate)) break;
    const std::uint64_t after = inventory_.totals().bytes;
    wanted -= std::min(wanted, before > after ? before - after : 0);
  }
  return attempt();
}

/// `reserved` becomes 0 when it went into the inventory.
Status FileStore::write_and_publish(const Directory& directory, Item& item, const FileName& name,
                                    bool replace, std::uint64_t& reserved, StagingBuffer& staging,
                                    ChangeGate& gate) {
  const std::uint64_t value_bytes = bytes_of(item.value);
  bool is_direct = facts_.is_direct && value_bytes >= facts_.alignment.offset;
  LARDER_ASSIGN(Draft draft, create_draft(directory, is_direct));
  LARDER_TRY(fill(draft, item, is_direct, staging));
  const std::uint64_t block = facts_.block_bytes;
  std::uint64_t bytes = padded_to(file_bytes_of(item), block);
  if (inventory_.is_tracking()) {
    struct stat status{};
    if (::fstat(draft.fd(), &status) != 0) {
      return Error::from_errno(errno, kWhere, "looking at a written file");
    }
    bytes = found_of(status).blocks_bytes;
  }
  LARDER_ASSIGN(const Folder folder, Folder::find(directory, name.text, options_, true));
  LARDER_ASSIGN(const Stored stored, publish(directory, folder, draft, name, item, replace, gate));
  item.existed = stored.existed;
  if (stored.existed) return {};
  if (name.kind == NameKind::kHashed) bytes += block;
  inventory_.stored(name.text, reserved, bytes, stored.replaced_bytes);
  reserved = 0;
  // The file is there now: what fails from here on fails the store, and leaves it.
  if (name.kind == NameKind::kHashed) {
    LARDER_TRY(keep_key_beside(directory, folder.fd(), name, item, gate));
  }
  if (options_.fsync == Fsync::kDirectory && ::fsync(folder.fd()) != 0) {
    return Error::from_errno(errno, kWhere, "syncing a directory");
  }
  return {};
}

Result<Draft> FileStore::create_draft(const Directory& directory, bool& is_direct) {
  const auto kind = facts_.has_unnamed_files ? Draft::Kind::kUnnamed : Draft::Kind::kNamed;
  auto draft = Draft::create(directory, options_.file_mode, is_direct, kind);
  if (draft || !is_direct || draft.error().sys_errno() != EINVAL) return draft;
  is_direct = false;
  FsCounters::add(counters_.direct_fallbacks);
  return Draft::create(directory, options_.file_mode, false, kind);
}

/// The value's own length, or that of the file that pads it.
std::uint64_t FileStore::file_bytes_of(const Item& item) const noexcept {
  const std::uint64_t bytes = bytes_of(item.value);
  if (options_.pad_to_bytes != 0 && bytes % options_.pad_to_bytes != 0) {
    return padded_to(bytes,
                     std::max<std::uint64_t>(options_.pad_to_bytes, facts_.alignment.offset)) +
           kTrailerBytes;
  }
  // A value that looks as if it were padded is, so that it is not taken for a shorter one.
  if (may_have_trailer(bytes) && parse_trailer(end_of(item.value), bytes)) {
    return padded_to(bytes, kPaddingGrain) + kTrailerBytes;
  }
  return bytes;
}

Status FileStore::fill(Draft& draft, const Item& item, bool is_direct, StagingBuffer& staging) {
  constexpr mode_t kPrivate = 0600;
  const std::uint64_t value_bytes = bytes_of(item.value);
  const std::uint64_t file_bytes = file_bytes_of(item);
  // Exactly what was asked for, whatever this process's umask is.
  if (options_.file_mode != kPrivate && ::fchmod(draft.fd(), options_.file_mode) != 0) {
    return Error::from_errno(errno, kWhere, "giving a file its mode");
  }
  // A hard bound needs the blocks to be known: file systems take more for files that grow.
  if (options_.is_exclusive && value_bytes > 0 &&
      ::fallocate(draft.fd(), 0, 0, static_cast<off_t>(file_bytes)) != 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS) {
    return Error::from_errno(errno, kWhere, "allocating a file");
  }
  const io::Alignment alignment = is_direct ? facts_.alignment : io::Alignment{};
  ValueTransfer transfer{item.value, value_bytes, alignment};
  Status written = transfer.write(draft.fd(), staging, counters_);
  if (!written && is_direct && written.error().sys_errno() == EINVAL) {
    FsCounters::add(counters_.direct_fallbacks);
    const int flags = ::fcntl(draft.fd(), F_GETFL);
    if (flags < 0 || ::fcntl(draft.fd(), F_SETFL, flags & ~O_DIRECT) != 0) return written;
    ValueTransfer buffered{item.value, value_bytes, io::Alignment{}};
    written = buffered.write(draft.fd(), staging, counters_);
  }
  LARDER_TRY(written);
  if (file_bytes != value_bytes) {
    LARDER_TRY(write_padding(draft.fd(), value_bytes, file_bytes - kTrailerBytes));
  }
  if (options_.checksum == Checksum::kXattr) {
    LARDER_TRY(
        write_checksum(draft.fd(), {value_bytes, checksum_of(item.key, item.value, value_bytes)}));
  }
  if (options_.fsync != Fsync::kNone && ::fsync(draft.fd()) != 0) {
    return Error::from_errno(errno, kWhere, "syncing a file");
  }
  return {};
}

Status FileStore::make_way(int folder_fd, const std::string& name) noexcept {
  FsCounters::add(counters_.files_repaired);
  if (::unlinkat(folder_fd, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOTDIR ||
      errno == ENOENT) {
    return {};
  }
  return Error::from_errno(errno, kWhere, "a directory stands where the file should be");
}

Result<FileStore::Stored> FileStore::publish(const Directory& directory, const Folder& folder,
                                             Draft& draft, const FileName& name, const Item& item,
                                             bool replace, ChangeGate& gate) {
  LARDER_TRY(draft.finish());
  Stored stored;
  for (int tries = 0;; ++tries) {
    // Replacing tells nothing of what it replaced: that is looked at before, for the accounts.
    Found found;
    if (replace || tries > 0) {
      LARDER_ASSIGN(found, look(directory, name.text));
      if (!replace && found.is_value(bytes_of(item.value))) {
        stored.existed = true;
        return stored;
      }
    }
    LARDER_ASSIGN(const ChangeGate::Pass pass, gate.pass(name.text));
    if (found.is_there) {
      if (found.is_directory) {
        LARDER_TRY(make_way(folder.fd(), name.text));
        found = {};
      } else if (!found.is_regular || !replace) {
        FsCounters::add(counters_.files_repaired);
      }
    }
    const Status published = draft.publish(folder.fd(), name.text, replace, found.is_there);
    if (published) {
      if (found.is_regular) stored.replaced_bytes = found.blocks_bytes;
      return stored;
    }
    const int failed = published.error().sys_errno();
    const bool is_race = failed == EEXIST || failed == EISDIR;
    if (!is_race || tries == kPublishTries) return published.error();
  }
}

Status FileStore::keep_key_beside(const Directory& directory, int folder_fd, const FileName& name,
                                  const Item& item, ChangeGate& gate) {
  const std::string key_file = key_file_of(name.text);
  struct stat status{};
  if (::fstatat(folder_fd, key_file.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
      S_ISREG(status.st_mode) && static_cast<std::uint64_t>(status.st_size) == item.key.size()) {
    return {};
  }
  LARDER_ASSIGN(Draft draft,
                Draft::create(directory, options_.file_mode, false, Draft::Kind::kNamed));
  // Only read through, as every Set does.
  const Slice slice{const_cast<std::byte*>(item.key.data()), item.key.size()};
  StagingBuffer unused;
  ValueTransfer transfer{{&slice, 1}, item.key.size(), io::Alignment{}};
  LARDER_TRY(transfer.write(draft.fd(), unused, counters_));
  LARDER_TRY(draft.finish());
  LARDER_ASSIGN(const ChangeGate::Pass pass, gate.pass(name.text));
  return draft.publish(folder_fd, key_file, true, false);
}

// ---- Room
// ----------------------------------------------------------------------------------------

Result<std::uint64_t> FileStore::reserve(const Directory& directory, std::uint64_t file_bytes,
                                         ChangeGate& gate) {
  if (!inventory_.is_tracking()) return 0;
  const std::uint64_t block = facts_.block_bytes;
  // One block more for what the file system keeps of it, and one for a key beside it.
  const std::uint64_t bytes = padded_to(file_bytes, block) + 2 * block;
  for (bool has_room = false; !has_room;) {
    switch (inventory_.reserve(bytes)) {
      case Inventory::Room::kReserved:
        has_room = true;
        break;
      case Inventory::Room::kFull:
        if (!evict_one(directory, gate)) {
          return Error{ErrorCode::kResourceExhausted, kWhere,
                       "the capacity is taken by stores that are under way, or by an old file that "
                       "cannot be removed now"};
        }
        break;
      case Inventory::Room::kNotCounted:
        return Error{ErrorCode::kUnavailable, kWhere,
                     "the files that are there are still being counted"};
      case Inventory::Room::kTooLarge:
        return Error{ErrorCode::kResourceExhausted, kWhere,
                     "the value is larger than the capacity"};
    }
  }
  while (lacks_free_space(directory, bytes)) {
    if (evict_one(directory, gate)) continue;
    inventory_.cancel(bytes);
    return Error{ErrorCode::kResourceExhausted, kWhere,
                 "the file system has less free space than min_free"};
  }
  return bytes;
}

bool FileStore::lacks_free_space(const Directory& directory, std::uint64_t bytes) const {
  if (options_.min_free_bytes == 0) return false;
  struct statvfs status{};
  if (::fstatvfs(directory.base_fd(), &status) != 0) return false;
  const std::uint64_t free_bytes =
      std::uint64_t{status.f_bavail} * (status.f_frsize != 0 ? status.f_frsize : status.f_bsize);
  return free_bytes < options_.min_free_bytes + bytes;
}

bool FileStore::evict_one(const Directory& directory, ChangeGate& gate) {
  if (gate.is_closed()) return false;
  auto victim = inventory_.take_oldest();
  if (!victim) return false;
  const auto folder = Folder::find(directory, victim->name, options_, false);
  // Without its folder the file is gone too. One that could not be opened (for want of descriptors)
  // still has the file, which so still takes its room.
  if (!folder && !means_absent(folder.error().sys_errno())) {
    store_trouble_.note(folder.error());
    inventory_.kept(*victim);
    return false;
  }
  const auto pass = gate.pass(victim->name);
  if (!pass) {
    inventory_.kept(*victim);
    return false;
  }
  if (folder) {
    if (parse_entry_name(victim->name).kind == EntryKind::kHashedValue) {
      ::unlinkat(folder->fd(), key_file_of(victim->name).c_str(), 0);
    }
    if (::unlinkat(folder->fd(), victim->name.c_str(), 0) != 0 && errno != ENOENT) {
      // It is the youngest now, so that one file that stays does not keep the others.
      store_trouble_.note(Error::from_errno(errno, kWhere, "removing an old file"));
      inventory_.kept(*victim);
      return false;
    }
  }
  inventory_.gone(*victim);
  FsCounters::add(counters_.evictions);
  FsCounters::add(counters_.bytes_evicted, victim->bytes);
  return true;
}

void FileStore::evict_to_capacity() {
  const auto directory = base_->get();
  ChangeGate gate;
  while (inventory_.is_over() && evict_one(*directory, gate)) {
  }
}

}  // namespace larder::fs
