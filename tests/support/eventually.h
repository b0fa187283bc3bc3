#pragma once

#include <poll.h>

#include "larder/base/clock.h"

namespace larder::testing {

/// Looks again and again whether something that another thread or process does has happened. False
/// when it has not within a minute.
template <class Condition>
bool eventually(Condition&& is_so) {
  constexpr std::uint64_t kPatienceNs = 60'000'000'000;
  const std::uint64_t give_up_ns = RealClock::instance().now_ns() + kPatienceNs;
  while (!is_so()) {
    if (RealClock::instance().now_ns() >= give_up_ns) return false;
    ::poll(nullptr, 0, 1);  // Between two looks.
  }
  return true;
}

}  // namespace larder::testing
