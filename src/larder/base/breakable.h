#pragma once

#include <cstdint>

namespace larder {

#ifdef LARDER_BREAKABLE
/// The rules that a test build (LARDER_BREAKABLE) can break, one at a time, so that the mutation
/// check can show that the tests notice. Each part of larder numbers its rules in a range of its
/// own: connectors/log/format/rule.h, connector/intake_rule.h, cache/cache_rule.h.
///
/// The one that break_rule() or the environment (LARDER_BREAK, its number) has chosen; 0: none.
std::uint32_t broken_rule() noexcept;
/// Applies to the whole process; call it before anything else.
void break_rule(std::uint32_t rule) noexcept;
#endif

}  // namespace larder
