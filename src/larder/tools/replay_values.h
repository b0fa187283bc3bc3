#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "larder/tools/value_pattern.h"

namespace larder::tools {

/// The value that every replay stores under a key, so that any replay can verify it: the pattern of
/// the key's hash.
/// Threads: any, once made. Cost: that of ValuePattern.
class ReplayValues {
 public:
  void fill(std::string_view key, std::span<std::byte> value) const noexcept;
  /// For people, how `value` differs from fill()'s, or that the store has `value_bytes` of it;
  /// empty when they are equal. `request` counts from 1.
  std::optional<std::string> mismatch(std::string_view key, std::span<const std::byte> value,
                                      std::uint64_t value_bytes, std::uint64_t request) const;

 private:
  ValuePattern pattern_;
};

}  // namespace larder::tools
