#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "larder/connector/intake.h"
#include "larder/connectors/tiered/key_table.h"
#include "larder/connectors/tiered/options.h"
#include "larder/connectors/tiered/tier_port.h"

namespace larder::tiered {

/// Every tier with loads answers lookups from memory.
bool are_all_probed(std::span<const std::unique_ptr<TierPort>> tiers, const TieredOptions& options);

/// Exists in the caller's thread, and probe(): from the tiers' and L1's answers from memory.
///
/// Only if a Set goes through, and if every tier with loads has a probe. With write=back a value
/// that is replaced is nowhere for a moment; only the machine's thread knows.
/// Threads: any. Cost: the tiers' own, and a hash of each key that they do not have.
class Lookups {
 public:
  Lookups(Intake& intake, const KeyTable& keys, std::span<const std::unique_ptr<TierPort>> tiers,
          const TieredOptions& options);

  bool can_answer() const noexcept { return can_answer_; }
  /// In place of Intake::submit(), if can_answer(). The batch has ended when it returns.
  Status look_up(Batch& batch) noexcept;
  bool probe(std::span<Item> items) const noexcept;

 private:
  static constexpr std::size_t kItemsTogether = 64;

  void answer(std::span<Item> items) const noexcept;
  static void miss_all(std::span<Item> items) noexcept;
  static void ask_missing(const Connector& connector, std::size_t tier,
                          std::span<Item> items) noexcept;

  Intake& intake_;
  const KeyTable& keys_;
  const std::span<const std::unique_ptr<TierPort>> tiers_;
  const TieredOptions& options_;
  const bool can_answer_;
};

}  // namespace larder::tiered
