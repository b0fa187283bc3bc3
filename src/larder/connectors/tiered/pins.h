#pragma once

#include <cstdint>
#include <map>

#include "larder/base/clock.h"
#include "larder/cache/engine.h"
#include "larder/connectors/tiered/key_table.h"

namespace larder::tiered {

/// Which keys of L1 are pinned, and until when: the engine pledges (E41), this one ends it in time.
///
/// Invariant: the columns with a pledge are those of the keys here; `Key::pinned_until_ns` is when
///   it ends.
/// Bounds: the engine's pledge_share, and so at most one entry for each value in it.
/// Threads: the machine's. Cost: O(log pins).
class Pins {
 public:
  Pins(cache::Engine& engine, KeyTable& keys, cache::SpaceId space)
      : engine_(engine), keys_(keys), space_(space) {}

  /// The key's value is in L1. It stays pinned to the later of the two where it is pinned already.
  cache::Pledge pin(Key& key, std::uint64_t until_ns);
  /// False: it was not pinned.
  bool release(Key& key);
  /// Its value has left L1, and with it the pledge. Before the table is updated.
  void on_left(const cache::ChunkHash& name);
  void expire(std::uint64_t now_ns);
  std::uint64_t next_end_ns() const noexcept {
    return by_end_.empty() ? kNever : by_end_.begin()->first;
  }

 private:
  void forget(Key& key);

  cache::Engine& engine_;
  KeyTable& keys_;
  const cache::SpaceId space_;
  std::multimap<std::uint64_t, cache::ChunkHash> by_end_;
};

}  // namespace larder::tiered
