#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "larder/connector/connector.h"

namespace larder::log_store {

using OpenConnector = std::function<SetupResult<std::unique_ptr<Connector>>()>;

/// Runs `open` in a thread of its own and waits for it while it gets on, which `steps` counts.
/// After `patience_ns` without a step the wait is given up with kUnavailable: a dead disk keeps its
/// calls for ever, but nobody else. The thread is left alone then, with all that it has; should it
/// end after all, what it opened is closed.
///
/// Cost: a thread. What `open` refers to must be its own.
SetupResult<std::unique_ptr<Connector>> open_with_patience(
    OpenConnector open, const std::shared_ptr<std::atomic<std::uint64_t>>& steps,
    std::uint64_t patience_ns, const std::string& where);

/// Whether another thread of this process is in an `open` (one that was given up included, until
/// what it opened is closed): it may hold a store's lock only for as long as that takes.
bool has_other_openings() noexcept;

/// While one lives, the calling thread's own opening does not count for others: it only waits.
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
