#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/base/random.h"

namespace larder::shared_directory {

using Bytes = std::vector<std::byte>;

/// Who wrote a value, and as his which; the rest of it follows from that and the key.
struct Author {
  std::uint64_t writer = 0;
  std::uint64_t number = 0;
};

inline std::string key_of(std::uint64_t number) {
  return "org/model@02010100@0@" + std::to_string(10'000'000 + number);
}

/// Every key has a size of its own, the same for all writers.
inline std::size_t size_of(std::uint64_t key) {
  return 16 + Random{key + 1}.below(200'000);
}

inline Bytes value_of(std::uint64_t key, const Author& author) {
  Bytes value(size_of(key));
  Random random{key * 1'000'003 + author.writer * 7'919 + author.number * 0x9E3779B97F4A7C15U};
  random.fill(value);
  std::memcpy(value.data(), &author, sizeof(author));
  return value;
}

/// Who wrote it; nothing when it is not one writer's whole value of this key.
inline std::optional<Author> author_of(std::uint64_t key, std::span<const std::byte> value) {
  Author author;
  if (value.size() != size_of(key)) return std::nullopt;
  std::memcpy(&author, value.data(), sizeof(author));
  const Bytes expected = value_of(key, author);
  if (std::memcmp(expected.data(), value.data(), value.size()) != 0) return std::nullopt;
  return author;
}

}  // namespace larder::shared_directory
