#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace larder::cache {

/// The classes by which ReuseModel is asked: how often a column was used, the shape of the request
/// that used it last, and whether it was that request's last one. PrefixPolicy and the log store's
/// UseLedger have the same.
inline constexpr std::size_t kUseKinds = 8;
inline constexpr std::size_t kRequestShapes = 12;
inline constexpr std::size_t kReuseKinds = kUseKinds * kRequestShapes * 2;

/// 1, 2, 3, 4 to 5, 6 to 8, 9 to 16, 17 to 64, and more.
constexpr std::size_t use_kind(std::uint32_t uses) noexcept {
  constexpr std::array<std::uint32_t, kUseKinds - 1> kMost = {1, 2, 3, 5, 8, 16, 64};
  std::size_t kind = 0;
  while (kind < kMost.size() && uses > kMost[kind]) ++kind;
  return kind;
}

/// Number of new chunks in a request of `chunks`, `known` of which were known: up to 3, 15, 63 or
/// more; and their share: up to a quarter, below three quarters, or more.
constexpr std::uint8_t request_shape(std::uint32_t chunks, std::uint32_t known) noexcept {
  const std::uint32_t fresh = chunks - std::min(known, chunks);
  const int count = fresh <= 3 ? 0 : fresh <= 15 ? 1 : fresh <= 63 ? 2 : 3;
  const std::uint64_t quarters = std::uint64_t{fresh} * 4;
  const int share = quarters <= chunks ? 0 : quarters < std::uint64_t{chunks} * 3 ? 1 : 2;
  return static_cast<std::uint8_t>(count * 3 + share);
}

constexpr std::size_t reuse_kind(std::uint32_t uses, std::uint8_t shape, bool is_last) noexcept {
  return (use_kind(uses) * kRequestShapes + shape) * 2 + (is_last ? 1 : 0);
}

}  // namespace larder::cache
