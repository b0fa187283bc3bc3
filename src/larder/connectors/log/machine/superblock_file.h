#pragma once

#include <string>
#include <string_view>

#include "larder/connectors/log/format/format.h"
#include "larder/connectors/log/format/geometry.h"
#include "larder/connectors/log/machine/blocking_io.h"
#include "larder/io/directory.h"

namespace larder::log_store {

/// The superblock's file: the owner's lock (L14) and two copies of which one is always whole.
///
/// Threads: one. Ownership: the queue's file; the lock goes with the queue.
class SuperblockFile {
 public:
  SuperblockFile(io::Directory& directory, io::TransferQueue& queue, const Clock& clock,
                 std::string where, std::shared_ptr<std::atomic<std::uint64_t>> steps = nullptr)
      : directory_(directory),
        clock_(clock),
        io_(queue, clock, std::move(steps)),
        where_(std::move(where)) {}

  /// Makes a new store's superblock with fresh ids and secret, and locks it: take_new() and fill().
  SetupResult<Superblock> create(const Geometry& geometry, std::uint64_t id_seed);
  /// Locks the file, waiting up to `lock_wait_ns` for another owner, and reads the newer intact
  /// copy: take() and read(). Touches nothing when the format is of a later major version.
  SetupResult<Superblock> open(std::uint64_t lock_wait_ns);

  /// The existing file, opened and locked, whatever it holds. Refused with the remedy: a link, a
  /// directory or a FIFO in its place, a file that this user may not change, no descriptor left,
  /// another owner.
  SetupStatus take(std::uint64_t lock_wait_ns);
  /// A new, empty file, locked.
  SetupStatus take_new();
  /// The newer intact copy. After take().
  SetupResult<Superblock> read();
  /// After read() failed: nothing was ever written, because its maker died before that.
  bool is_blank() const noexcept { return is_blank_; }
  /// A new store's superblock, with sequences above `sequence`, so that the file's old content no
  /// longer counts from the first copy on. After take() or take_new().
  SetupResult<Superblock> fill(const Geometry& geometry, std::uint64_t id_seed,
                               std::uint64_t sequence = 0);
  /// Writes both copies, one after the other, each synced. `sequence` is raised. Whenever it ends,
  /// and also after a power cut, one copy is whole.
  Status write(Superblock& superblock);
  // For a caller that writes the copies itself, after one attempt of write().
  /// Before both.
  void begin_copies() noexcept;
  /// The position of the next copy: never that of the newest one known to be whole.
  std::uint64_t next_copy() const noexcept { return newest_at_ == 0 ? kSuperblockCopyStride : 0; }
  /// The copy at next_copy() was written and synced.
  void note_durable() noexcept { newest_at_ = next_copy(); }
  /// Writes the owner's name, for the next owner's message. Not synced, and may fail.
  void write_owner_note(std::string_view note);
  io::FileId file() const noexcept { return file_; }

 private:
  SetupStatus lock(std::uint64_t lock_wait_ns);
  std::string read_owner_note();
  SetupError error(const Error& cause, const std::string& what) const;
  SetupError cannot_take(const Error& cause, const std::string& what) const;

  io::Directory& directory_;
  const Clock& clock_;
  BlockingIo io_;
  const std::string where_;
  io::FileId file_ = 0;
  bool is_blank_ = false;
  /// The newest copy that is whole, once it was read or written; at first the second one, so that
  /// the first is written first.
  std::uint64_t newest_at_ = kSuperblockCopyStride;
  bool is_durable_ = true;  ///< False: it was read, and a killed owner may not have synced it.
};

}  // namespace larder::log_store
