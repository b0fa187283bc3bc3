#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace larder {

struct MacKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;
};

struct Mac128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  /// Not constant-time: nobody outside the process can submit guesses and time the answers.
  friend bool operator==(const Mac128&, const Mac128&) = default;
};

/// SipHash-2-4 with 128 bits of output: without the key it is infeasible to make data with a given
/// MAC. About 1 to 2 GB/s; meant for headers and keys, not for values. Any thread.
Mac128 mac128(const MacKey& key, std::span<const std::byte> data) noexcept;

}  // namespace larder
