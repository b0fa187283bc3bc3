#include "larder/connectors/log/rule.h"

#include <cstdlib>

namespace larder::log_store {
namespace {

Rule rule_from_environment() noexcept {
  const char* const text = std::getenv("LARDER_BREAK");
  return text == nullptr ? Rule::kNone : static_cast<Rule>(std::strtoul(text, nullptr, 10));
}

Rule broken = rule_from_environment();

}  // namespace

bool is_broken(Rule rule) noexcept {
  return rule == broken;
}

void break_rule(Rule rule) noexcept {
  broken = rule;
}

}  // namespace larder::log_store
