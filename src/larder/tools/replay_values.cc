#include "larder/tools/replay_values.h"

#include <fmt/format.h>

#include <algorithm>

#include "larder/base/hash.h"
#include "larder/base/key_text.h"

namespace larder::tools {
namespace {

std::uint64_t seed_of(std::string_view key) noexcept {
  return hash64(std::as_bytes(std::span{key}));
}

}  // namespace

void ReplayValues::fill(std::string_view key, std::span<std::byte> value) const noexcept {
  pattern_.fill(seed_of(key), value);
}

std::optional<std::string> ReplayValues::mismatch(std::string_view key,
                                                  std::span<const std::byte> value,
                                                  std::uint64_t value_bytes,
                                                  std::uint64_t request) const {
  const auto difference = value_bytes == value.size()
                              ? pattern_.first_difference(seed_of(key), value)
                              : std::optional<std::size_t>{std::min(value_bytes, value.size())};
  if (!difference) return std::nullopt;
  return fmt::format("key \"{}\" (request {}): byte {} of {} is not what was stored",
                     escape_key(key), request, *difference, value_bytes);
}

}  // namespace larder::tools
