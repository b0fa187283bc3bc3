#include "larder/connectors/fs/room.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>

#include "larder/connectors/fs/file_name.h"
#include "larder/connectors/fs/found_file.h"
#include "larder/connectors/fs/padding.h"

namespace larder::fs {
namespace {

constexpr const char* kWhere = "fs";

}  // namespace

Result<std::uint64_t> Room::reserve(const Directory& directory, std::uint64_t file_bytes,
                                    ChangeGate& gate) {
  if (!inventory_.is_tracking()) return 0;
  const std::uint64_t block = facts_.block_bytes;
  // One more block for the file system's own data, and one for a key file.
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

bool Room::lacks_free_space(const Directory& directory, std::uint64_t bytes) const {
  if (options_.min_free_bytes == 0) return false;
  struct statvfs status{};
  if (::fstatvfs(directory.base_fd(), &status) != 0) return false;
  const std::uint64_t free_bytes =
      std::uint64_t{status.f_bavail} * (status.f_frsize != 0 ? status.f_frsize : status.f_bsize);
  return free_bytes < options_.min_free_bytes + bytes;
}

bool Room::evict_one(const Directory& directory, ChangeGate& gate) {
  if (gate.is_closed()) return false;
  auto victim = inventory_.take_oldest();
  if (!victim) return false;
  const auto folder = Folder::find(directory, victim->name, options_, false);
  // If its folder is missing, the file is gone too. One that could not be opened (for want of
  // descriptors) still has the file, which so still takes its room.
  if (!folder && !means_absent(folder.error().sys_errno())) {
    errors_.note(folder.error());
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
      errors_.note(Error::from_errno(errno, kWhere, "removing an old file"));
      inventory_.kept(*victim);
      return false;
    }
  }
  inventory_.gone(*victim);
  FsCounters::add(counters_.evictions);
  FsCounters::add(counters_.bytes_evicted, victim->bytes);
  return true;
}

void Room::evict_to_capacity(const Directory& directory) {
  ChangeGate gate;
  while (inventory_.is_over() && evict_one(directory, gate)) {
  }
}

}  // namespace larder::fs
