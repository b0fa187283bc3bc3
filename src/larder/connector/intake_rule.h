#pragma once

#include <cstdint>

#include "larder/base/breakable.h"

namespace larder {

/// The rules of the intake that a test build can break: see base/breakable.h. The letters are those
/// of connector.h. tests/mutation/rules.cc says what each broken rule does instead, and which tests
/// must notice.
enum class IntakeRule : std::uint32_t {
  kNone = 1000,
  // C2 Each item has its own outcome.
  kIllegalOutcome,
  // C5 Limits.
  kLimit,
  kReleaseAtEnd,
  kWaitInOrder,
  kLetInWaiting,
  kWeights,
  kLookupsTakeTurns,
  // C6 A failed key is a miss.
  kRememberFailed,
  kForgetWhenStored,
  kReplaceFailed,
  kWrongSizeIsCallers,
  kLateForAWhile,
  // Hints.
  kHintRefused,
  // C8 Deadlines, cancellation, stop, and down.
  kExpireQueued,
  kDeadlineAtBegin,
  kCancelQueued,
  kCancelAtBegin,
  kStopRefuses,
  kStopQueued,
  kDownAnswersQueued,
  kDownRefusesChanges,
  kCount,
};

#ifdef LARDER_BREAKABLE
inline bool is_broken(IntakeRule rule) noexcept {
  return broken_rule() == static_cast<std::uint32_t>(rule);
}
#else
constexpr bool is_broken(IntakeRule /*rule*/) noexcept {
  return false;
}
#endif

}  // namespace larder
