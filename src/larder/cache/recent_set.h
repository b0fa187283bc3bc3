#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace larder::cache {

/// The last `size_max` different fingerprints, first in, first out: evicted or loaded ones. Two
/// things with one fingerprint are one here; it only decides reasons and promotion.
///
/// Threads: one. Cost: O(1), no allocation after construction; 32 bytes each.
class RecentSet {
 public:
  explicit RecentSet(std::size_t size_max);

  /// False: it was there already, and keeps its age and its note. `note`: the caller's own.
  bool insert(std::uint64_t fingerprint, std::uint32_t note = 0) noexcept;
  void erase(std::uint64_t fingerprint) noexcept;
  bool contains(std::uint64_t fingerprint) const noexcept;
  /// Nothing: it is not there.
  std::optional<std::uint32_t> note_of(std::uint64_t fingerprint) const noexcept;
  std::size_t size() const noexcept { return size_; }

 private:
  static constexpr std::uint64_t kEmpty = 0;
  /// 0 means an empty place.
  static std::uint64_t stored(std::uint64_t fingerprint) noexcept {
    return fingerprint == kEmpty ? 1 : fingerprint;
  }
  std::size_t place_of(std::uint64_t stored) const noexcept;
  void remove(std::uint64_t stored) noexcept;

  std::vector<std::uint64_t> table_;  ///< Probed linearly, at most half full.
  std::vector<std::uint32_t> notes_;  ///< By place in the table.
  std::size_t mask_ = 0;
  std::vector<std::uint64_t>
      ring_;  ///< In order of age; erased ones stay until they are the oldest.
  std::size_t next_ = 0;
  std::size_t size_ = 0;
};

}  // namespace larder::cache
