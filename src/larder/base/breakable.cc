#include "larder/base/breakable.h"

#ifdef LARDER_BREAKABLE

#include <cstdlib>

namespace larder {
namespace {

std::uint32_t rule_from_environment() noexcept {
  const char* const text = std::getenv("LARDER_BREAK");
  return text == nullptr ? 0 : static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10));
}

std::uint32_t broken = rule_from_environment();

}  // namespace

std::uint32_t broken_rule() noexcept {
  return broken;
}

void break_rule(std::uint32_t rule) noexcept {
  broken = rule;
}

}  // namespace larder

#endif
