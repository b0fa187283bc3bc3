#include "larder/connectors/log/superblock_file.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "larder/base/aligned_buffer.h"
#include "larder/base/random.h"
#include "larder/connectors/log/owner.h"
#include "larder/connectors/log/rule.h"
#include "larder/connectors/log/segments.h"

namespace larder::log_store {
namespace {

template <class T>
bool fill_random(T& out, Random* seeded) {
  const auto bytes = std::as_writable_bytes(std::span{&out, 1});
  if (seeded != nullptr) {
    seeded->fill(bytes);
    return true;
  }
  return ::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
}

}  // namespace

SetupError SuperblockFile::error(const Error& cause, const std::string& what) const {
  const int sys_errno = cause.sys_errno();
  const bool is_forbidden = sys_errno == EACCES || sys_errno == EPERM || sys_errno == EROFS;
  return {cause.code(), "log: " + where_ + ": " + what + ": " + cause.to_string() +
                            (is_forbidden ? ": run as its owner, or name another directory" : "")};
}

SetupStatus SuperblockFile::lock(std::uint64_t lock_wait_ns) {
  if (is_broken(Rule::kLock)) return {};
  const Status locked = device_.lock(file_, clock_.now_ns() + lock_wait_ns);
  if (locked) return {};
  if (locked.error().sys_errno() == EDEADLK) {
    return SetupError{ErrorCode::kUnavailable, in_use_here(where_)};
  }
  if (locked.error().code() != ErrorCode::kUnavailable) {
    return error(locked.error(), "cannot lock the superblock");
  }
  return SetupError{ErrorCode::kUnavailable, in_use_elsewhere(where_, read_owner_note())};
}

SetupResult<Superblock> SuperblockFile::create(const Geometry& geometry, std::uint64_t id_seed) {
  auto file = device_.open(kSuperblockFileName, io::OpenMode::kCreate);
  if (!file) return error(file.error(), "cannot make the superblock file");
  file_ = *file;
  LARDER_TRY(lock(0));
  return fill(geometry, id_seed);
}

SetupResult<Superblock> SuperblockFile::fill(const Geometry& geometry, std::uint64_t id_seed) {
  if (const Status made = device_.allocate(file_, kSuperblockFileBytes); !made) {
    return error(made.error(), "cannot allocate the superblock file");
  }
  Superblock superblock;
  Random seeded{id_seed};
  Random* const source = id_seed == 0 ? nullptr : &seeded;
  if (!fill_random(superblock.store_id, source) || !fill_random(superblock.path_id, source) ||
      !fill_random(superblock.secret, source) ||
      !fill_random(superblock.fingerprint_seed, source)) {
    return SetupError{ErrorCode::kUnavailable,
                      "log: the kernel gives no random numbers (getrandom)"};
  }
  superblock.grain_bytes = geometry.grain_bytes;
  superblock.segment_count = geometry.segment_count;
  superblock.slot_bytes = geometry.slot_bytes;
  superblock.segment_bytes = geometry.segment_bytes;
  superblock.created_wall_seconds = clock_.wall_seconds();
  if (const Status written = write(superblock); !written) {
    return error(written.error(), "cannot write the superblock");
  }
  if (const Status synced = device_.sync_directory(); !synced) {
    return error(synced.error(), "cannot sync the directory");
  }
  return superblock;
}

SetupResult<Superblock> SuperblockFile::open(std::uint64_t lock_wait_ns) {
  auto file = device_.open(kSuperblockFileName, io::OpenMode::kExisting);
  if (!file) return error(file.error(), "cannot open the superblock file");
  file_ = *file;
  LARDER_TRY(lock(lock_wait_ns));
  // As much as the coarsest alignment needs: the store's grain is not known yet.
  auto buffer = AlignedBuffer::create(kSuperblockCopyStride, kGrainBytesMax);
  if (!buffer) return error(buffer.error(), "cannot read the superblock");
  int blank_copies = 0;
  std::uint32_t later_major = 0;
  std::optional<Superblock> newest;
  for (const std::uint64_t offset : {std::uint64_t{0}, kSuperblockCopyStride}) {
    std::ranges::fill(buffer->span(), std::byte{0});
    const Status read = io_.read(file_, offset, buffer->span());
    if (!read && read.error().code() == ErrorCode::kUnavailable) {
      return error(read.error(), "cannot read the superblock");
    }
    // The other copy may be well. A file that ends too early is one that was never allocated whole.
    if (!read && read.error().code() != ErrorCode::kCorruption) continue;
    if (std::ranges::all_of(buffer->span(), [](std::byte byte) { return byte == std::byte{0}; })) {
      ++blank_copies;
    }
    if (!read) continue;
    std::uint32_t major = 0;
    const auto copy = decode_superblock(buffer->span(), major);
    if (!copy && copy.error().code() == ErrorCode::kUnimplemented) later_major = major;
    if (copy && (!newest || copy->sequence > newest->sequence)) newest = *copy;
  }
  is_blank_ = blank_copies == 2;
  // Beside an intact copy it is a flipped bit, or an upgrade that died before it changed anything.
  if (!newest && later_major != 0) {
    return SetupError{ErrorCode::kUnimplemented,
                      "log: " + where_ + " has format version " + std::to_string(later_major) +
                          "; this larder reads up to version " + std::to_string(kFormatMajor) +
                          ": use a newer larder, or another directory (nothing was changed)"};
  }
  if (!newest) {
    return SetupError{ErrorCode::kCorruption,
                      "log: " + where_ +
                          ": neither copy of the superblock is intact. Without it "
                          "nothing in the store can be proven: empty the directory to start anew"};
  }
  return *newest;
}

Status SuperblockFile::write(Superblock& superblock) {
  LARDER_ASSIGN(AlignedBuffer buffer,
                AlignedBuffer::create(superblock.grain_bytes, superblock.grain_bytes));
  for (const std::uint64_t offset : {std::uint64_t{0}, kSuperblockCopyStride}) {
    ++superblock.sequence;
    encode_superblock(superblock, buffer.span());
    LARDER_TRY(io_.write(file_, offset, buffer.span()));
    if (!is_broken(Rule::kSyncOpenCount)) LARDER_TRY(io_.sync(file_));
  }
  return {};
}

void SuperblockFile::write_owner_note(std::string_view note) {
  auto buffer = AlignedBuffer::create(kSuperblockCopyStride, kGrainBytesMax);
  if (!buffer) return;
  std::memcpy(buffer->data(), note.data(), std::min(note.size(), kOwnerNoteBytesMax));
  io_.write(file_, kOwnerNoteOffset, buffer->span()).ignore("only a message will be shorter");
}

std::string SuperblockFile::read_owner_note() {
  auto buffer = AlignedBuffer::create(kSuperblockCopyStride, kGrainBytesMax);
  if (!buffer || !io_.read(file_, kOwnerNoteOffset, buffer->span())) return {};
  std::string note;
  for (const std::byte byte : buffer->span().first(kOwnerNoteBytesMax)) {
    const auto c = static_cast<char>(byte);
    if (c < 0x20 || c > 0x7e) break;  // It is only text, and goes to a terminal.
    note += c;
  }
  return note;
}

}  // namespace larder::log_store
