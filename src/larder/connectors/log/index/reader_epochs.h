#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace larder::log_store {

/// Tells one writer when no reader can still use an object that it replaced; neither waits for the
/// other.
///
/// Readers are counted under the parity of the epoch in which they came. Epoch e + 1 begins when no
/// reader of e - 1 is left; so an object replaced in e, which readers of e - 1 and e may have seen,
/// has no reader from e + 2 on. Threads: enter() and leave() any; the rest the writer. Cost: three
/// operations on one shared cache
///   line a visit, so readers make visits of many steps.
class ReaderEpochs {
 public:
  /// Objects that the reader loads from now on stay until it calls leave() with the result.
  std::uint64_t enter() noexcept {
    for (;;) {
      const std::uint64_t epoch = epoch_.load();
      readers_[epoch & 1].fetch_add(1);
      // If the epoch has passed meanwhile, the writer may not have counted this reader: retry.
      if (epoch_.load() == epoch) return epoch;
      readers_[epoch & 1].fetch_sub(1);
    }
  }
  void leave(std::uint64_t epoch) noexcept {
    readers_[epoch & 1].fetch_sub(1, std::memory_order_release);
  }

  /// The epoch of the object that is being replaced: read it after the new one was published.
  std::uint64_t now() const noexcept { return epoch_.load(); }
  bool is_clear(std::uint64_t replaced_in) const noexcept { return replaced_in + 2 <= now(); }
  /// Begins the next epoch; false while a reader of the one before is left.
  bool advance() noexcept {
    const std::uint64_t epoch = epoch_.load();
    if (readers_[(epoch + 1) & 1].load() != 0) return false;
    epoch_.store(epoch + 1);
    return true;
  }

 private:
  alignas(64) std::atomic<std::uint64_t> epoch_ = 0;
  std::array<std::atomic<std::uint64_t>, 2> readers_ = {};
};

}  // namespace larder::log_store
