#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace larder::doors {

/// The parts of the name under which LMCache's adapters store an object:
///
///     <model>@<kv_rank>@<object group>@<chunk hash in hex>[@<cache salt>]
///
/// The views point into the name that was split.
struct LmcacheName {
  std::string_view head;  ///< Model, rank and group, each with the '@' behind it.
  std::string_view hash;  ///< Lower-case hex, two digits a byte.
  std::string_view tail;  ///< '@' and the salt, or nothing.
};

/// Nothing if LMCache makes no such name. Accepts the same names as
/// `larder.lmcache.l2_keys.parse_key`.
std::optional<LmcacheName> split_lmcache_name(std::string_view name) noexcept;

/// The value of a lower-case hexadecimal digit.
constexpr std::uint8_t hex_value(char digit) noexcept {
  return static_cast<std::uint8_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

}  // namespace larder::doors
