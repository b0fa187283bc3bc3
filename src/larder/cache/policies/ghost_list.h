#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace larder::cache {

/// Columns that were evicted, by fingerprint, in the order in which they were. Two columns with one
/// fingerprint are one ghost.
///
/// Threads: one. Cost: O(1); 32 bytes a ghost and 8 to 16 for its table, made as they are needed.
///   The table is never walked, so its order has no effect.
class GhostList {
  using Node = std::uint32_t;
  static constexpr Node kNone = 0xFFFF'FFFF;
  static constexpr Node kFree = 0xFFFF'FFFE;

 public:
  struct Ghost {
    std::uint64_t fingerprint = 0;
    std::uint64_t bytes = 0;
    std::uint64_t note = 0;
    std::uint32_t older = kNone;
    std::uint32_t newer = kNone;  ///< In a free one: the next free one.

    bool is_free() const noexcept { return older == kFree; }
  };

  /// Remembers at most so many; a new ghost then replaces the oldest.
  explicit GhostList(std::size_t ghosts_max);

  /// `note` is the policy's own.
  void push(std::uint64_t fingerprint, std::uint64_t bytes, std::uint64_t note = 0);
  /// Room for so many, so that push() needs none until there are more.
  void reserve(std::size_t ghosts);
  bool contains(std::uint64_t fingerprint) const noexcept;
  /// Null: there is none. Valid until the next call that changes the list.
  const Ghost* find(std::uint64_t fingerprint) const noexcept;
  /// Forgets it; false: there was none.
  bool erase(std::uint64_t fingerprint) noexcept;
  /// The list must not be empty.
  void drop_oldest() noexcept { remove(oldest_); }

  std::size_t size() const noexcept { return size_; }
  std::uint64_t bytes() const noexcept { return bytes_; }

  /// For samples: positions where a ghost may be, and the ghost there; null: none.
  std::size_t places() const noexcept { return ghosts_.size(); }
  const Ghost* at(std::size_t place) const noexcept {
    return ghosts_[place].is_free() ? nullptr : &ghosts_[place];
  }

 private:
  std::size_t home_of(std::uint64_t fingerprint) const noexcept;
  /// Its position in the table, or where it would be.
  std::size_t slot_of(std::uint64_t fingerprint) const noexcept;
  Node take_node();
  void grow_table(std::size_t slots);
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
