#include "tests/crash/protocol.h"

#include <algorithm>
#include <cstring>

#include "larder/base/random.h"

namespace larder::crash {
namespace {

constexpr std::size_t kNumbersBytes = 16;
constexpr std::uint32_t kLongestKey = 60;

std::uint64_t mixed(std::uint32_t key, std::uint64_t version) noexcept {
  return Random{version * 0x9E3779B97F4A7C15U + key}.next();
}

}  // namespace

std::string Content::key(std::uint32_t number) const {
  std::string key = (number < hot_keys ? "hot-" : "filler-") + std::to_string(number) + "-";
  key.resize(std::max<std::size_t>(key.size(), 12 + number % (kLongestKey - 12)), 'k');
  return key;
}

std::uint64_t Content::value_bytes(std::uint32_t key, std::uint64_t version) const noexcept {
  Random random{mixed(key, version)};
  // Of all lengths, shorter ones more often: a quarter is up to 4 KiB.
  const std::uint64_t range = value_bytes_max - value_bytes_min + 1;
  const std::uint64_t short_range = std::min<std::uint64_t>(range, 4096);
  return value_bytes_min + random.below(random.one_in(4) ? short_range : range);
}

void Content::fill_value(std::uint32_t key, std::uint64_t version, std::span<std::byte> out) {
  Random{mixed(key, version) + 1}.fill(out);
  const std::uint64_t number = key;
  std::memcpy(out.data(), &version, sizeof(version));
  std::memcpy(out.data() + sizeof(version), &number, sizeof(number));
}

std::optional<std::uint64_t> Content::version_of(std::uint32_t key,
                                                 std::span<const std::byte> value) const {
  if (value.size() < kNumbersBytes) return std::nullopt;
  std::uint64_t version = 0;
  std::memcpy(&version, value.data(), sizeof(version));
  if (value.size() != value_bytes(key, version)) return std::nullopt;
  std::vector<std::byte> expected(value.size());
  fill_value(key, version, expected);
  if (!std::ranges::equal(expected, value)) return std::nullopt;
  return version;
}

}  // namespace larder::crash
