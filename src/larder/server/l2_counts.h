#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/base/thread.h"
#include "larder/server/admin_mailbox.h"
#include "larder/server/quotas.h"
#include "larder/server/tier_scans.h"

namespace larder::server {

/// Counts what each tier holds of the salts with a quota (E34) by scanning its keys, because a tier
/// reports neither its evictions, nor its content from before the server began, nor other users'
/// stores.
///
/// It works while some quota has a limit in the tiers, and never otherwise: at once when such a
///   quota comes, and then again after kPauseNs, or after kPauseTimes as long as it took. For a
///   tier that cannot be scanned the accounts cover the stores of this server only.
/// Ownership: scans, quotas and mailbox are others', and outlive it.
/// Threads: wake() any; the rest one. It has a thread of its own, which waits for the scans.
class L2Counts {
 public:
  static constexpr std::uint64_t kPauseNs = 30'000'000'000;
  static constexpr std::uint64_t kPauseTimes = 20;
  static constexpr std::size_t kKeysAtATime = 1024;

  static SetupResult<std::unique_ptr<L2Counts>> start(TierScans& scans, std::size_t tiers,
                                                      const Quotas& quotas, AdminMailbox& mailbox);
  /// Waits for its thread: stop the scans and close the mailbox before.
  ~L2Counts();
  L2Counts(const L2Counts&) = delete;
  L2Counts& operator=(const L2Counts&) = delete;

  /// Quotas have changed.
  void wake() LARDER_EXCLUDES(mutex_);

 private:
  using BytesBySalt = std::map<std::string, std::uint64_t>;

  L2Counts(TierScans& scans, std::size_t tiers, const Quotas& quotas, AdminMailbox& mailbox)
      : scans_(scans), tiers_(tiers), quotas_(quotas), mailbox_(mailbox) {}

  void run();
  bool is_ending() const LARDER_EXCLUDES(mutex_);
  /// Until then, wake() or the end.
  void wait(std::uint64_t until_ns) LARDER_EXCLUDES(mutex_);
  /// Until another caller has finished with the scans, or the end.
  void wait_briefly() LARDER_EXCLUDES(mutex_);
  /// By salt with a quota: empty until counted. Empty: no quota limits the tiers.
  BytesBySalt salts() const;
  void tell_of_tiers_without_scan() const;
  void count(cache::TierId tier, BytesBySalt bytes);
  Result<TierScans::Page> read_page(cache::TierId tier, ScanCursor from);
  /// False: the loop did not take it.
  bool tell(const AdminCommand& command);

  TierScans& scans_;
  const std::size_t tiers_;
  const Quotas& quotas_;
  AdminMailbox& mailbox_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool is_woken_ LARDER_GUARDED_BY(mutex_) = true;
  bool is_ending_ LARDER_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace larder::server
