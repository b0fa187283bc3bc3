#include "tests/support/odd_names.h"

#include <algorithm>
#include <cerrno>
#include <string_view>

namespace larder::testing {
namespace {

constexpr std::string_view kDecomposed = "e\xCC\x81";
constexpr std::string_view kComposed = "\xC3\xA9";

bool is_portable(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view{"._-@%"}.find(c) != std::string_view::npos;
}

}  // namespace

int OddNames::check(const std::string& name) const noexcept {
  if (name.size() > bytes_max) return ENAMETOOLONG;
  return refuses_unportable && !std::ranges::all_of(name, is_portable) ? EINVAL : 0;
}

std::string OddNames::same_as(const std::string& name, std::span<const std::string> there) const {
  const std::string fold = folded(name);
  const auto same =
      std::ranges::find_if(there, [&](const std::string& other) { return folded(other) == fold; });
  return same == there.end() ? name : *same;
}

std::string OddNames::folded(std::string name) const {
  if (ignores_case) {
    std::ranges::transform(name, name.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    });
  }
  for (std::size_t at = 0; composes && (at = name.find(kDecomposed)) != std::string::npos;) {
    name.replace(at, kDecomposed.size(), kComposed);
  }
  return name;
}

}  // namespace larder::testing
