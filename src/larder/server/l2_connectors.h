#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "larder/base/result.h"
#include "larder/cache/engine_options.h"
#include "larder/connector/registry.h"
#include "larder/server/options.h"
#include "larder/server/status.h"

namespace larder::server {

/// The connectors behind L1, from their opening to their end.
///
/// Ownership: its own until take_tiers(), then the taker's, which keeps them until stop() was
/// called.
/// Threads: one.
class L2Connectors {
 public:
  /// Opens them in their order, and says so in the log. May block. If one cannot be opened, the
  /// earlier ones are stopped, and the error names it.
  static SetupResult<std::unique_ptr<L2Connectors>> open(const ServerOptions& options,
                                                         const Registry& registry);
  /// Stops those that were not taken.
  ~L2Connectors();
  L2Connectors(const L2Connectors&) = delete;
  L2Connectors& operator=(const L2Connectors&) = delete;

  std::size_t size() const noexcept { return all_.size(); }
  Connector& operator[](std::size_t tier) noexcept { return *all_[tier].connector; }
  std::vector<Connector*> all() const;
  /// Their state.
  std::vector<TierStatus> status() const;

  std::vector<cache::Tier> take_tiers();
  /// Stops all, and says so in the log. False: one of them has something with the kernel or a peer
  /// still, and may not be destroyed.
  bool stop(std::uint64_t deadline_ns);

 private:
  struct One {
    std::string spec;  ///< In a form without secrets.
    std::string name;  ///< TierStatus::name.
    std::span<const MetricRow> metrics;
    Connector* connector = nullptr;
  };

  L2Connectors() = default;
  /// One that no other has.
  std::string name_of(const std::string& type) const;
  SetupStatus open_one(const L2Adapter& adapter, const Registry& registry);

  std::vector<One> all_;
  std::vector<cache::Tier> tiers_;  ///< Until they are taken.
};

}  // namespace larder::server
