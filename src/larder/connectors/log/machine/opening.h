#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "larder/connector/connector.h"

namespace larder::log_store {

using OpenConnector = std::function<SetupResult<std::unique_ptr<Connector>>()>;

/// Runs `open` in a thread of its own and waits as long as it makes progress, which `steps` counts.
/// After `patience_ns` without a step the wait is given up with kUnavailable: a dead disk blocks
/// its own calls for ever, but no other thread. The thread is then abandoned with everything it
/// has; if it ends after all, it closes what it opened.
///
/// Cost: a thread. `open` must own everything that it refers to.
SetupResult<std::unique_ptr<Connector>> open_with_patience(
    OpenConnector open, const std::shared_ptr<std::atomic<std::uint64_t>>& steps,
    std::uint64_t patience_ns, const std::string& where);

/// Whether another thread of this process is in an `open` (including an abandoned one, until it has
/// closed what it opened): it may hold a store's lock only for that time.
bool has_other_openings() noexcept;

/// While one lives, the calling thread's own opening is ignored by others: it only waits.
class WaitingOpening {
 public:
  WaitingOpening() noexcept;
  ~WaitingOpening();
  WaitingOpening(const WaitingOpening&) = delete;
  WaitingOpening& operator=(const WaitingOpening&) = delete;

 private:
  const bool was_counted_;
};

}  // namespace larder::log_store
