#include "larder/connectors/tiered/pins.h"

#include "larder/base/check.h"

namespace larder::tiered {

cache::Pledge Pins::pin(Key& key, std::uint64_t until_ns) {
  if (until_ns <= key.pinned_until_ns) return cache::Pledge::kGiven;
  const cache::Pledge pledge = engine_.pledge(space_, key.name);
  if (pledge != cache::Pledge::kGiven) return pledge;
  forget(key);
  key.pinned_until_ns = until_ns;
  by_end_.emplace(until_ns, key.name);
  return pledge;
}

bool Pins::release(Key& key) {
  if (key.pinned_until_ns == 0) return false;
  forget(key);
  engine_.unpledge(space_, key.name);
  return true;
}

void Pins::on_left(const cache::ChunkHash& name) {
  Key* const key = keys_.find(name);
  if (key != nullptr) forget(*key);
}

void Pins::expire(std::uint64_t now_ns) {
  while (next_end_ns() <= now_ns) {
    const cache::ChunkHash name = by_end_.begin()->second;
    Key* const key = keys_.find(name);
    LARDER_CHECK(key != nullptr && key->pinned_until_ns == by_end_.begin()->first);
    forget(*key);
    engine_.unpledge(space_, name);
  }
}

void Pins::forget(Key& key) {
  if (key.pinned_until_ns == 0) return;
  const auto [first, last] = by_end_.equal_range(key.pinned_until_ns);
  for (auto at = first; at != last; ++at) {
    if (!(at->second == key.name)) continue;
    by_end_.erase(at);
    break;
  }
  key.pinned_until_ns = 0;
}

}  // namespace larder::tiered
