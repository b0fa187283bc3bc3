#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/check.h"
#include "larder/base/mac.h"

/// What a fuzz target is made of. fuzz_main.cc hands it to libFuzzer.
namespace larder::fuzz {

using Bytes = std::vector<std::byte>;

/// Runs the parser over one input, and aborts (LARDER_CHECK) when what it says of it cannot be.
/// Each target defines these two.
void run(std::span<const std::byte> input);
/// Inputs to begin with: what the format's own writers write.
std::vector<Bytes> seeds();

/// Takes what an input begins with. An input that is used up goes on with zeros.
class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class T>
  T take() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    const std::size_t bytes = std::min(rest_.size(), sizeof(T));
    if (bytes > 0) std::memcpy(&value, rest_.data(), bytes);
    rest_ = rest_.subspan(bytes);
    return value;
  }
  std::span<const std::byte> take_bytes(std::size_t bytes) {
    const auto taken = rest_.first(std::min(bytes, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  bool empty() const { return rest_.empty(); }
  std::span<const std::byte> rest() const { return rest_; }

 private:
  std::span<const std::byte> rest_;
};

template <class T>
void put(std::span<std::byte> out, std::size_t offset, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  LARDER_CHECK(offset + sizeof(T) <= out.size());
  std::memcpy(out.data() + offset, &value, sizeof(T));
}

template <class T>
T get(std::span<const std::byte> in, std::size_t offset) {
  static_assert(std::is_trivially_copyable_v<T>);
  LARDER_CHECK(offset + sizeof(T) <= in.size());
  T value{};
  std::memcpy(&value, in.data() + offset, sizeof(T));
  return value;
}

/// Signs [16, used_bytes), so that a parser looks behind the MAC.
inline void sign(std::span<std::byte> out, std::size_t used_bytes, const MacKey& secret) {
  put(out, 0, mac128(secret, out.subspan(sizeof(Mac128), used_bytes - sizeof(Mac128))));
}

/// One byte that says what to put right, and what it is done to.
inline Bytes seed(unsigned flags, std::span<const std::byte> bytes) {
  Bytes input{static_cast<std::byte>(flags)};
  input.insert(input.end(), bytes.begin(), bytes.end());
  return input;
}

inline Bytes to_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span{text});
  return {bytes.begin(), bytes.end()};
}

}  // namespace larder::fuzz
