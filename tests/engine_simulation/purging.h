#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "tests/engine_simulation/clients.h"
#include "tests/engine_simulation/tier.h"
#include "tests/engine_simulation/world.h"

namespace larder::cache::simulation {

/// The driver of purges and of clears of all scopes: it answers the questions for pages of a tier's
/// keys, soon, late, or after the purge has ended, in several pages, or with an error; and it looks
/// at how each purge ends (E36).
class Purging {
 public:
  Purging(World& world, const Clients& clients, std::deque<TierUnderTest>& tiers)
      : world_(world), clients_(clients), tiers_(tiers) {}

  /// Call it before the engine hears of the purge. kNever: it has no deadline.
  Ticket begin(const PurgeScope& scope, std::uint64_t deadline_ns);
  /// The columns that a lock may keep during a clear without force stay for a while.
  void keep_locked(const PurgeScope& scope);

  // ---- What the engine says.
  void on_page_wanted(const PageWanted& question);
  void on_purged(Ticket ticket, const PurgeResult& result);

  /// Some questions are answered.
  void go_on();
  /// All of them are.
  void answer_all();
  void check(const EngineStats& stats);

 private:
  struct Question {
    PageWanted wanted;
    PurgeScope scope;
    std::uint64_t due = 0;     ///< World::steps.
    bool is_scanning = false;  ///< The log lists the page.
    std::vector<std::string> keys;
  };

  bool answer(Question& question);
  bool scan_log(Question& question, PurgePage& page);
  void scan_scripted(Question& question, PurgePage& page) const;

  World& world_;
  const Clients& clients_;
  std::deque<TierUnderTest>& tiers_;
  std::vector<Question> questions_;
  std::uint64_t tickets_ = 0;
};

}  // namespace larder::cache::simulation
