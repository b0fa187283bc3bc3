#include "larder/connectors/fs/value_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "larder/connectors/fs/checksum.h"
#include "larder/connectors/fs/found_file.h"
#include "larder/connectors/fs/padding.h"

namespace larder::fs {
namespace {

constexpr const char* kWhere = "fs";
/// Of several stores and deletes that race for one key, one makes progress each time.
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

bool means_no_space(int sys_errno) noexcept {
  return sys_errno == ENOSPC || sys_errno == EDQUOT;
}

}  // namespace

Status ValueWriter::write(const Directory& directory, Item& item, const FileName& name,
                          bool replace, StagingBuffer& staging, ChangeGate& gate) {
  const auto attempt = [&]() -> Status {
    // First, so that nothing is evicted for a file that cannot be made for want of descriptors.
    LARDER_ASSIGN(Draft draft, create_draft(directory, bytes_of(item.value)));
    LARDER_ASSIGN(std::uint64_t reserved, room_.reserve(directory, file_bytes_of(item), gate));
    Status written =
        write_and_publish(directory, draft, item, name, replace, reserved, staging, gate);
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
    if (!room_.evict_one(directory, gate)) break;
    const std::uint64_t after = inventory_.totals().bytes;
    wanted -= std::min(wanted, before > after ? before - after : 0);
  }
  return attempt();
}

/// `reserved` becomes 0 when it went into the inventory.
Status ValueWriter::write_and_publish(const Directory& directory, Draft& draft, Item& item,
                                      const FileName& name, bool replace, std::uint64_t& reserved,
                                      StagingBuffer& staging, ChangeGate& gate) {
  LARDER_TRY(fill(draft, item, staging));
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
  // The file is published now: an error from here on fails the store, and leaves the file.
  if (name.kind == NameKind::kHashed) {
    LARDER_TRY(keep_key_beside(directory, folder.fd(), name, item, gate));
  }
  if (options_.fsync == Fsync::kDirectory && ::fsync(folder.fd()) != 0) {
    return Error::from_errno(errno, kWhere, "syncing a directory");
  }
  return {};
}

Result<Draft> ValueWriter::create_draft(const Directory& directory, std::uint64_t value_bytes) {
  const auto kind = facts_.has_unnamed_files ? Draft::Kind::kUnnamed : Draft::Kind::kNamed;
  if (facts_.is_direct && value_bytes >= facts_.alignment.offset) {
    auto draft = Draft::create(directory, options_.file_mode, true, kind);
    if (draft || draft.error().sys_errno() != EINVAL) return draft;
    FsCounters::add(counters_.direct_fallbacks);
  }
  return Draft::create(directory, options_.file_mode, false, kind);
}

/// The value's own length, or that of the file that pads it.
std::uint64_t ValueWriter::file_bytes_of(const Item& item) const noexcept {
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

Status ValueWriter::fill(Draft& draft, const Item& item, StagingBuffer& staging) {
  constexpr mode_t kPrivate = 0600;
  const std::uint64_t value_bytes = bytes_of(item.value);
  const std::uint64_t file_bytes = file_bytes_of(item);
  // Exactly the permissions that were asked for, whatever this process's umask is.
  if (options_.file_mode != kPrivate && ::fchmod(draft.fd(), options_.file_mode) != 0) {
    return Error::from_errno(errno, kWhere, "giving a file its mode");
  }
  // A hard bound needs the number of blocks: file systems take more for growing files.
  if (options_.is_exclusive && value_bytes > 0 &&
      ::fallocate(draft.fd(), 0, 0, static_cast<off_t>(file_bytes)) != 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS) {
    return Error::from_errno(errno, kWhere, "allocating a file");
  }
  const io::Alignment alignment = draft.is_direct() ? facts_.alignment : io::Alignment{};
  ValueTransfer transfer{item.value, value_bytes, alignment};
  Status written = transfer.write(draft.fd(), staging, counters_);
  if (!written && draft.is_direct() && written.error().sys_errno() == EINVAL) {
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

Status ValueWriter::make_way(int folder_fd, const std::string& name) noexcept {
  FsCounters::add(counters_.files_repaired);
  if (::unlinkat(folder_fd, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOTDIR ||
      errno == ENOENT) {
    return {};
  }
  return Error::from_errno(errno, kWhere, "a directory stands where the file should be");
}

Result<ValueWriter::Stored> ValueWriter::publish(const Directory& directory, const Folder& folder,
                                                 Draft& draft, const FileName& name,
                                                 const Item& item, bool replace, ChangeGate& gate) {
  LARDER_TRY(draft.finish());
  Stored stored;
  for (int tries = 0;; ++tries) {
    // A replacing rename does not report what it replaced: that is looked up before, for the
    // accounts.
    FoundFile found;
    if (replace || tries > 0) {
      LARDER_ASSIGN(found, look(directory, name.text, options_));
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

Status ValueWriter::keep_key_beside(const Directory& directory, int folder_fd, const FileName& name,
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

}  // namespace larder::fs
