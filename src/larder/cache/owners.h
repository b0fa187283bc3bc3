#pragma once

#include <cstdint>
#include <vector>

#include "larder/cache/engine_state.h"
#include "larder/cache/ids.h"
#include "larder/cache/slab.h"
#include "larder/cache/timers.h"

namespace larder::cache {

/// A registered worker instance. It stays, ended, while some memory may still be used by it (E16).
struct Owner {
  LayoutId layout{};
  bool has_ended = false;
  std::uint64_t quarantined_bytes = 0;
  std::vector<std::uint32_t> writes;  ///< Its reservations, in Writes; including expired ones.
  std::vector<std::uint32_t> reads;   ///< Its open reads, in Reads.
  Timer timer;                        ///< Once it has ended: when its memory is free.
};

/// The owners. The holders of its reads and writes decide what happens to them.
/// Threads: the engine's.
class Owners {
 public:
  explicit Owners(EngineState& state) : state_(state) {}

  OwnerId add(LayoutId layout) {
    const std::uint32_t number = owners_.acquire();
    Owner& owner = owners_[number];
    owner.layout = layout;
    owner.has_ended = false;
    owner.quarantined_bytes = 0;
    owner.writes.clear();
    owner.reads.clear();
    owner.timer.kind = TimerKind::kOwner;
    owner.timer.id = number;
    return OwnerId{owners_.handle(number)};
  }
  void release(std::uint32_t number) noexcept {
    state_.timers.disarm(owners_[number].timer);
    owners_.release(number);
  }
  /// Null: it has ended, or never existed.
  Owner* find(OwnerId id) noexcept { return owners_.find(static_cast<std::uint64_t>(id)); }
  /// The same, but also null where it has ended.
  Owner* find_alive(OwnerId id) noexcept {
    Owner* const owner = find(id);
    return owner == nullptr || owner->has_ended ? nullptr : owner;
  }
  static std::uint32_t number_of(OwnerId id) noexcept {
    return static_cast<std::uint32_t>(static_cast<std::uint64_t>(id));
  }
  Owner& operator[](std::uint32_t number) noexcept { return owners_[number]; }
  const Owner& operator[](std::uint32_t number) const noexcept { return owners_[number]; }
  OwnerId id_of(std::uint32_t number) const noexcept { return OwnerId{owners_.handle(number)}; }
  bool is_used(std::uint32_t number) const noexcept { return owners_.is_used(number); }
  std::uint32_t size() const noexcept { return owners_.size(); }
  std::uint32_t end() const noexcept { return owners_.end(); }

 private:
  EngineState& state_;
  Slab<Owner> owners_;
};

}  // namespace larder::cache
