#include "larder/connectors/log/machine/superblock_file.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "larder/base/aligned_buffer.h"
#include "larder/base/random.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/rule.h"
#include "larder/connectors/log/machine/opening.h"
#include "larder/connectors/log/machine/owner.h"
#include "larder/connectors/log/machine/setup_error.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kOwnLockPatienceNs = 200'000'000;
constexpr std::chrono::milliseconds kOwnLockPause{5};

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
  return setup_error(where_, what, cause);
}

SetupStatus SuperblockFile::lock(std::uint64_t lock_wait_ns) {
  if (is_broken(Rule::kLock)) return {};
  const std::uint64_t until_ns = clock_.now_ns() + lock_wait_ns;
  // A file that this process has open is not released by waiting, unless another thread is opening
  // it in vain, or about to close it.
  const std::uint64_t patience_ends_ns = std::min(until_ns, clock_.now_ns() + kOwnLockPatienceNs);
  const WaitingOpening waits;
  Status locked = directory_.lock(file_, until_ns);
  const auto is_ours = [&] { return !locked && locked.error().sys_errno() == EDEADLK; };
  while (is_ours() && clock_.now_ns() < (has_other_openings() ? until_ns : patience_ends_ns)) {
    std::this_thread::sleep_for(kOwnLockPause);
    locked = directory_.lock(file_, until_ns);
  }
  if (locked) return {};
  if (is_ours()) {
    return SetupError{ErrorCode::kUnavailable, in_use_here(where_, has_other_openings())};
  }
  if (locked.error().code() != ErrorCode::kUnavailable) {
    return error(locked.error(), "cannot lock the superblock");
  }
  return SetupError{ErrorCode::kUnavailable, in_use_elsewhere(where_, read_owner_note())};
}

SetupResult<Superblock> SuperblockFile::create(const Geometry& geometry, std::uint64_t id_seed) {
  LARDER_TRY(take_new());
  return fill(geometry, id_seed);
}

SetupStatus SuperblockFile::take_new() {
  auto file = directory_.open(kSuperblockFileName, io::OpenMode::kCreate);
  if (!file) return cannot_take(file.error(), "cannot make the superblock file");
  file_ = *file;
  return lock(0);
}

SetupStatus SuperblockFile::take(std::uint64_t lock_wait_ns) {
  auto file = directory_.open(kSuperblockFileName, io::OpenMode::kExisting);
  if (!file) return cannot_take(file.error(), "cannot open the superblock file");
  file_ = *file;
  return lock(lock_wait_ns);
}

SetupError SuperblockFile::cannot_take(const Error& cause, const std::string& what) const {
  SetupError refused = error(cause, what);
  switch (cause.sys_errno()) {
    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENXIO:
      // Never kInvalidArgument: the request is valid, the existing file is not.
      return {ErrorCode::kIo, refused.text +
                                  ": 'superblock' must be a regular file, and something else has "
                                  "its name; move that away, or name another directory"};
    case EACCES:
    case EPERM:
      refused.text += " (ls -l, lsattr and namei -l show what forbids it)";
      return refused;
    default:
      return refused;
  }
}

SetupResult<Superblock> SuperblockFile::fill(const Geometry& geometry, std::uint64_t id_seed,
                                             std::uint64_t sequence) {
  if (const Status made = directory_.allocate(file_, kSuperblockFileBytes); !made) {
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
  superblock.capacity_bytes = geometry.capacity_bytes;
  superblock.value_bytes_max = static_cast<std::uint32_t>(geometry.value_bytes_limit);
  superblock.created_wall_seconds = clock_.wall_seconds();
  superblock.sequence = sequence;
  if (const Status written = write(superblock); !written) {
    return error(written.error(), "cannot write the superblock");
  }
  if (const Status synced = directory_.sync_directory(); !synced) {
    return error(synced.error(), "cannot sync the directory");
  }
  return superblock;
}

SetupResult<Superblock> SuperblockFile::open(std::uint64_t lock_wait_ns) {
  LARDER_TRY(take(lock_wait_ns));
  return read();
}

SetupResult<Superblock> SuperblockFile::read() {
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
    // The other copy may be intact. A file that ends too early is one that was never allocated
    // whole.
    if (!read && read.error().code() != ErrorCode::kCorruption) continue;
    if (std::ranges::all_of(buffer->span(), [](std::byte byte) { return byte == std::byte{0}; })) {
      ++blank_copies;
    }
    if (!read) continue;
    std::uint32_t major = 0;
    const auto copy = decode_superblock(buffer->span(), major);
    if (!copy && copy.error().code() == ErrorCode::kUnimplemented) later_major = major;
    if (copy && (!newest || copy->sequence > newest->sequence)) {
      newest = *copy;
      newest_at_ = offset;
      is_durable_ = false;
    }
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
  begin_copies();
  if (!is_durable_ && !is_broken(Rule::kKeepNewestCopy)) LARDER_TRY(io_.sync(file_));
  is_durable_ = true;
  for (int copies = 0; copies < 2; ++copies) {
    ++superblock.sequence;
    encode_superblock(superblock, buffer.span());
    LARDER_TRY(io_.write(file_, next_copy(), buffer.span()));
    if (!is_broken(Rule::kSyncOpenCount)) LARDER_TRY(io_.sync(file_));
    note_durable();
  }
  return {};
}

void SuperblockFile::begin_copies() noexcept {
  if (is_broken(Rule::kKeepNewestCopy)) newest_at_ = kSuperblockCopyStride;
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
