#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>

#include "larder/base/hash.h"
#include "larder/base/mutex.h"

namespace larder::python {

/// The sizes of the values that went through this process, for objects that do not tell them.
///
/// At most kKeysMax keys, 60 bytes each; keys beyond the limit are not tracked. Threads: any.
class SizeTable {
 public:
  static constexpr std::size_t kKeysMax = std::size_t{1} << 20;

  void set(std::span<const std::byte> key, std::uint64_t bytes) LARDER_EXCLUDES(mutex_);
  void erase(std::span<const std::byte> key) noexcept LARDER_EXCLUDES(mutex_);
  std::optional<std::uint64_t> find(std::span<const std::byte> key) const noexcept
      LARDER_EXCLUDES(mutex_);

  struct Totals {
    std::uint64_t keys = 0;
    std::uint64_t bytes = 0;
  };
  Totals totals() const noexcept LARDER_EXCLUDES(mutex_);

 private:
  struct Hash {
    std::size_t operator()(const Hash128& hash) const noexcept { return hash.low; }
  };

  mutable Mutex mutex_;
  std::unordered_map<Hash128, std::uint64_t, Hash> sizes_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t bytes_ LARDER_GUARDED_BY(mutex_) = 0;
};

}  // namespace larder::python
