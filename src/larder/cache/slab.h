#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "larder/base/check.h"

namespace larder::cache {

/// Things in blocks that never move, found by a 32-bit number. Released objects are reused, the
/// last one first, with the capacity of their vectors; the user resets them.
///
/// A handle is the number with its generation, and is no longer found once the thing was released.
/// Walks go by number from 0 to end(), so their order depends on the calls alone.
/// Threads: one. Cost: O(1), one allocation for every kBlock things.
template <class T>
class Slab {
 public:
  static constexpr std::uint32_t kBlock = 512;

  std::uint32_t acquire() {
    std::uint32_t id = 0;
    if (free_.empty()) {
      if (end_ == blocks_.size() * kBlock) blocks_.push_back(std::make_unique<Entry[]>(kBlock));
      id = end_++;
      free_.reserve(blocks_.size() * kBlock);  // release() must not allocate.
    } else {
      id = free_.back();
      free_.pop_back();
    }
    ++entry(id).generation;
    ++size_;
    return id;
  }

  void release(std::uint32_t id) noexcept {
    LARDER_CHECK(is_used(id));
    ++entry(id).generation;
    --size_;
    free_.push_back(id);
  }

  T& operator[](std::uint32_t id) noexcept { return entry(id).value; }
  const T& operator[](std::uint32_t id) const noexcept { return entry(id).value; }

  bool is_used(std::uint32_t id) const noexcept {
    return id < end_ && (entry(id).generation & 1U) != 0;
  }
  /// Odd while the thing is there.
  std::uint32_t generation(std::uint32_t id) const noexcept { return entry(id).generation; }
  std::uint64_t handle(std::uint32_t id) const noexcept {
    return std::uint64_t{entry(id).generation} << 32 | id;
  }
  /// Null where the thing that the handle meant has ended, or never was.
  T* find(std::uint64_t handle) noexcept {
    const auto id = static_cast<std::uint32_t>(handle);
    if (!is_used(id) || generation(id) != handle >> 32) return nullptr;
    return &entry(id).value;
  }

  std::uint32_t size() const noexcept { return size_; }
  std::uint32_t end() const noexcept { return end_; }

 private:
  struct Entry {
    T value{};
    std::uint32_t generation = 0;
  };

  Entry& entry(std::uint32_t id) noexcept { return blocks_[id / kBlock][id % kBlock]; }
  const Entry& entry(std::uint32_t id) const noexcept { return blocks_[id / kBlock][id % kBlock]; }

  std::vector<std::unique_ptr<Entry[]>> blocks_;
  std::vector<std::uint32_t> free_;
  std::uint32_t end_ = 0;
  std::uint32_t size_ = 0;
};

}  // namespace larder::cache
