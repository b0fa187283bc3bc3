#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "larder/cache/ids.h"

namespace larder::cache {

/// The result of counting a tier's keys for one salt.
struct SaltBytes {
  SaltId salt{};
  std::uint64_t bytes = 0;
};

/// How much of each salt is in each tier, as far as the engine knows (E34): the driver's count,
/// plus what the engine has stored and deleted by name since. A connector does not report its
/// evictions by salt; the driver, which can read the keys of its scans, counts again.
///
/// A count takes time, and stores continue meanwhile. So an account is the count, plus everything
///   in flight when the count began, plus all later stores: never less than what the tier holds of
///   the counted keys and of this engine's stores.
/// Threads: the engine's. Cost: O(1); begin_count() and end_count() O(salts).
class TierAccounts {
 public:
  explicit TierAccounts(std::size_t tiers) : tiers_(tiers) {}

  std::uint64_t bytes(TierId tier, SaltId salt) const noexcept { return find(tier, salt).bytes; }
  /// Cells that were not stored for the salt's limit, in all tiers.
  std::uint64_t refused(SaltId salt) const noexcept {
    std::uint64_t sum = 0;
    for (TierId tier = 0; tier < tiers_.size(); ++tier) sum += find(tier, salt).refused;
    return sum;
  }
  /// Of all salts.
  std::uint64_t total(TierId tier) const noexcept { return tiers_[tier].bytes; }

  void note_refused(TierId tier, SaltId salt) { ++entry(tier, salt).refused; }

  /// A store of the cell is in flight until end_store().
  void begin_store(TierId tier, SaltId salt, std::uint64_t bytes) {
    Account& account = entry(tier, salt);
    account.bytes += bytes;
    account.since_count += bytes;
    account.in_flight += bytes;
    tiers_[tier].bytes += bytes;
  }
  /// `is_new`: the tier has it now, and did not before.
  void end_store(TierId tier, SaltId salt, std::uint64_t bytes, bool is_new) {
    Account& account = entry(tier, salt);
    account.in_flight -= std::min(account.in_flight, bytes);
    if (is_new) return;
    account.since_count -= std::min(account.since_count, bytes);
    subtract(tier, salt, bytes);
  }
  /// Bytes added before the driver counted may be subtracted from the account already.
  void subtract(TierId tier, SaltId salt, std::uint64_t bytes) {
    Account& account = entry(tier, salt);
    const std::uint64_t gone = std::min(account.bytes, bytes);
    account.bytes -= gone;
    tiers_[tier].bytes -= gone;
  }

  /// The driver begins to count the tier's content.
  void begin_count(TierId tier) noexcept {
    for (Account& account : tiers_[tier].salts) account.since_count = account.in_flight;
  }
  /// It has, of these salts.
  void end_count(TierId tier, std::span<const SaltBytes> counted) {
    for (const SaltBytes& one : counted) {
      set(tier, one.salt, entry(tier, one.salt).since_count + one.bytes);
    }
  }

 private:
  struct Account {
    std::uint64_t bytes = 0;
    std::uint64_t in_flight = 0;    ///< Of these, in batches that have not come back.
    std::uint64_t since_count = 0;  ///< In flight when the last count began, or stored since.
    std::uint64_t refused = 0;
  };
  struct OfTier {
    std::vector<Account> salts;  ///< By SaltId.
    std::uint64_t bytes = 0;
  };

  void set(TierId tier, SaltId salt, std::uint64_t bytes) {
    Account& account = entry(tier, salt);
    tiers_[tier].bytes += bytes - account.bytes;
    account.bytes = bytes;
  }
  Account find(TierId tier, SaltId salt) const noexcept {
    const std::vector<Account>& salts = tiers_[tier].salts;
    return index_of(salt) < salts.size() ? salts[index_of(salt)] : Account{};
  }
  Account& entry(TierId tier, SaltId salt) {
    std::vector<Account>& salts = tiers_[tier].salts;
    if (salts.size() <= index_of(salt)) salts.resize(index_of(salt) + 1);
    return salts[index_of(salt)];
  }

  std::vector<OfTier> tiers_;
};

}  // namespace larder::cache
