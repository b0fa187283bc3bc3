#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace larder::wire {

using Bytes = std::vector<std::byte>;

/// Appends MessagePack to a buffer of the caller's, each value in its shortest form: the bytes that
/// LMCache's own encoder writes. The caller keeps to the counts that it gives for arrays and maps.
class MsgpackWriter {
 public:
  explicit MsgpackWriter(Bytes& out) noexcept : out_(out) {}

  void nil() { put(0xC0); }
  void boolean(bool value) { put(value ? 0xC3 : 0xC2); }
  void integer(std::uint64_t value);
  void negative(std::int64_t value);  ///< Below zero.
  void text(std::string_view value);
  void binary(std::span<const std::byte> value);
  void array(std::size_t count);
  void map(std::size_t count);

 private:
  void put(unsigned code) { out_.push_back(static_cast<std::byte>(code)); }
  void big_endian(std::uint64_t value, unsigned bytes);
  void append(std::span<const std::byte> bytes) {
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }

  Bytes& out_;
};

}  // namespace larder::wire
