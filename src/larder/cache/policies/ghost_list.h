#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace larder::cache {

/// Columns that were evicted, by fingerprint, in the order in which they were. Two columns with one
/// fingerprint are one ghost.
///
/// Threads: one. Cost: O(1); 24 bytes a ghost and 8 to 16 for its table, made as they are needed.
///   The table is never walked, so its order decides nothing.
class GhostList {
 public:
  /// Remembers at most so many; a new ghost then replaces the oldest.
  explicit GhostList(std::size_t ghosts_max);

  void push(std::uint64_t fingerprint, std::uint64_t bytes);
  bool contains(std::uint64_t fingerprint) const noexcept;
  /// Forgets it; false: there was none.
  bool erase(std::uint64_t fingerprint) noexcept;
  /// The list must not be empty.
  void drop_oldest() noexcept { remove(oldest_); }

  std::size_t size() const noexcept { return size_; }
  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  using Node = std::uint32_t;
  static constexpr Node kNone = 0xFFFF'FFFF;

  struct Ghost {
    std::uint64_t fingerprint = 0;
    std::uint64_t bytes = 0;
    Node older = kNone;
    Node newer = kNone;  ///< Of a free one: the next that is free.
  };

  std::size_t home_of(std::uint64_t fingerprint) const noexcept;
  /// Where it is in the table, or where it would be.
  std::size_t find(std::uint64_t fingerprint) const noexcept;
  Node take_node();
  void grow_table();
  void remove(Node node) noexcept;
  void close_gap(std::size_t gap) noexcept;

  const std::size_t ghosts_max_;
  std::vector<Ghost> ghosts_;
  std::vector<Node> table_;  ///< Linear probing, at most half full.
  Node oldest_ = kNone;
  Node newest_ = kNone;
  Node free_ = kNone;
  std::size_t size_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace larder::cache
