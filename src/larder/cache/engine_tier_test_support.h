#pragma once

#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "larder/cache/engine_test_support.h"
#include "larder/cache/scripted_tier_test_support.h"

namespace larder::cache {

/// An engine over scripted tiers.
class EngineTierFixture : public EngineFixture {
 protected:
  /// Before the first use of engine().
  ScriptedTier& add_tier(const TierOptions& with = {}) {
    auto made = std::make_unique<ScriptedTier>();
    scripted.push_back(made.get());
    tiers.push_back({std::move(made), with});
    return *scripted.back();
  }
  /// A model, and a tier below it that has these chunks and holds its answers until it is told to
  /// finish.
  ScriptedTier& add_model_over_holding_tier(std::span<const ChunkHash> chunks) {
    ScriptedTier& tier = add_tier();
    tier.holds = true;
    add_model();
    put(tier, chunks);
    return tier;
  }
  void TearDown() override {
    if (engine_ == nullptr) return;
    // All held batches come back; no slot may be left behind.
    for (ScriptedTier* const tier : scripted) {
      tier->holds = false;
      tier->finish_all();
    }
    reap();
    engine_->check_invariants();
  }

  /// Tells the engine of everything that the tiers have finished.
  void reap() {
    for (int round = 0; round < 8; ++round) {
      for (std::size_t i = 0; i < scripted.size(); ++i) engine().on_tier(i);
    }
    engine().check_invariants();
  }
  std::string key_of(const ChunkHash& chunk, std::uint32_t rank = 0, std::uint32_t group = 0) {
    std::array<std::byte, kKeyBytesMax> key;
    const std::size_t size = names.write_key({space_, chunk, rank, group}, key);
    return {reinterpret_cast<const char*>(key.data()), size};
  }
  /// The tier has these chunks, of all ranks.
  void put(ScriptedTier& tier, std::span<const ChunkHash> chunks) {
    for (const ChunkHash& chunk : chunks) {
      for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
        tier.sizes[key_of(chunk, rank)] = kGrain;
      }
    }
  }
  std::optional<std::uint32_t> result(std::string_view request, std::uint64_t connection = 1) {
    return engine().take_result({connection, request});
  }
  void advance_all(std::uint64_t by_ns) {
    now_ns += by_ns;
    for (ScriptedTier* const tier : scripted) tier->expire(now_ns);
    engine().turn(now_ns);
    reap();
  }

  std::vector<ScriptedTier*> scripted;
};

}  // namespace larder::cache
