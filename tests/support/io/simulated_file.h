#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <vector>

#include "tests/support/io/sparse_image.h"

namespace larder::io {

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

/// A file of a SimulatedDisk: the volatile view that reads see, the durable image below it, and the
/// writes between the two in the order in which they landed. Each write is kept as whole sectors
/// with the content that they had just after it.
///
/// Invariant: `current` is `durable` with all unsynced writes applied in order, of each the sectors
///   that were not superseded. One thread at a time.
class SimulatedFile {
 public:
  static constexpr std::uint64_t kSectorBytes = 512;
  static constexpr std::uint64_t kBlockBytes = 4096;

  struct Write {
    std::uint64_t sequence = 0;
    std::uint64_t first_sector = 0;
    std::vector<std::byte> bytes;  // Whole sectors.
    std::vector<bool> superseded;  // By sector: something later there is durable. Empty: none.
    bool is_abandoned = false;     // A failed sync covered it: no later sync will.

    std::uint64_t sectors() const noexcept { return bytes.size() / kSectorBytes; }
    bool has(std::uint64_t index) const noexcept {
      return superseded.empty() || !superseded[static_cast<std::size_t>(index)];
    }
    std::span<const std::byte> sector(std::uint64_t index) const noexcept {
      return std::span{bytes}.subspan(static_cast<std::size_t>(index * kSectorBytes),
                                      static_cast<std::size_t>(kSectorBytes));
    }
    void supersede(std::uint64_t sector_of_file);
  };

  explicit SimulatedFile(std::uint64_t number) noexcept : number_(number) {}

  std::uint64_t number() const noexcept { return number_; }
  std::uint64_t bytes() const noexcept { return bytes_; }
  std::uint64_t durable_bytes() const noexcept { return durable_bytes_; }
  std::uint64_t allocated_bytes() const noexcept { return allocated_bytes_; }
  std::uint64_t last_write() const noexcept { return last_write_; }
  const SparseImage& current() const noexcept { return current_; }
  const SparseImage& durable() const noexcept { return durable_; }
  std::span<const Write> unsynced() const noexcept { return unsynced_; }

  /// A write lands: visible, not durable. Extends the file where it must.
  void write(std::uint64_t offset, std::span<const std::byte> data);
  void extend(std::uint64_t bytes) noexcept {
    if (bytes > bytes_) bytes_ = bytes;
  }
  void set_allocated(std::uint64_t bytes) noexcept { allocated_bytes_ = bytes; }

  /// Why nobody may open it, 0 where everybody may. With `is_readable` it is only immutable.
  void forbid(int sys_errno, bool is_readable) noexcept {
    forbidden_errno_ = sys_errno;
    is_readable_ = is_readable;
  }
  int forbidden_errno() const noexcept { return forbidden_errno_; }
  bool is_immutable() const noexcept { return forbidden_errno_ != 0 && is_readable_; }
  /// All its blocks belong to a copy too, or none.
  void share_blocks(bool is_shared);
  std::uint64_t shared_bytes() const noexcept { return shared_blocks_.size() * kBlockBytes; }
  /// Of them those that a write of [offset, offset + bytes) touches.
  std::uint64_t shared_bytes_in(std::uint64_t offset, std::uint64_t bytes) const;
  void unshare(std::uint64_t offset, std::uint64_t bytes);

  /// The writes up to `last_write` become durable, abandoned ones excepted, and the length `bytes`.
  void sync(std::uint64_t last_write, std::uint64_t bytes);
  /// A sync that covered the writes up to `last_write` failed: those that are chosen will not
  /// become durable by a later one. Returns how many.
  std::uint64_t abandon(std::uint64_t last_write, const std::function<bool()>& choose);
  /// Of the unsynced writes only the sectors (index within the write) that survive become durable.
  void cut_power(bool length_survives,
                 const std::function<bool(const Write&, std::uint64_t)>& survives);

  // The test's hand: durable at once, and with it the sectors that it touches.
  void patch(std::uint64_t offset, std::span<const std::byte> data);
  void truncate(std::uint64_t bytes);
  void copy_content_of(const SimulatedFile& other);
  void swap_content(SimulatedFile& other);

 private:
  static void supersede(std::vector<Write>& writes, std::uint64_t sector);
  void settle();

  const std::uint64_t number_;
  std::uint64_t bytes_ = 0;
  std::uint64_t durable_bytes_ = 0;
  std::uint64_t allocated_bytes_ = 0;
  std::uint64_t last_write_ = 0;
  int forbidden_errno_ = 0;
  bool is_readable_ = true;
  std::set<std::uint64_t> shared_blocks_;
  SparseImage current_;
  SparseImage durable_;
  std::vector<Write> unsynced_;
};

}  // namespace larder::io
