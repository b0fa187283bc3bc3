#include "larder/connectors/tiered/tiered_machine.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <string>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/base/logging.h"

namespace larder::tiered {
namespace {

/// Batches that one turn takes before it looks at the engine's clock again.
constexpr std::size_t kTicketsATurn = 64;
constexpr TicketSize kWholeBatch{.tickets_max = 1};

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

cache::EngineOptions engine_options(const TieredOptions& options) {
  cache::EngineOptions made;
  made.policy = options.policy;
  made.promote = options.promote;
  made.skip_l1 = options.skip_l1;
  made.pledge_share = options.pins_share;
  made.keeps_wanted = true;           // Its caller was told that it is stored.
  made.estimates_capacities = false;  // The intake hears of all keys.
  return made;
}

}  // namespace

TieredMachine::TieredMachine(const TieredOptions& options, Intake& intake,
                             std::unique_ptr<cache::Arena> arena,
                             std::vector<std::unique_ptr<Connector>> tiers, EventFd wake)
    : options_(options),
      intake_(intake),
      wake_(std::move(wake)),
      keys_(options.l1_bytes),
      arena_(std::move(arena)) {
  waits_for_.push_back({wake_.get(), POLLIN, 0});
  for (std::unique_ptr<Connector>& tier : tiers) {
    waits_for_.push_back({tier->event_fd(), POLLIN, 0});
    tiers_.push_back(std::make_unique<TierPort>(std::move(tier), keys_));
  }
  const cache::KeyNames& names = *this;
  cache::Listener& listener = *this;
  engine_ = std::make_unique<cache::Engine>(engine_options(options), *arena_, names, make_faces(),
                                            listener);
  cache::LayoutSpec values;  // One rank, one group, each value with its own size.
  values.model = "tiered";
  values.groups.resize(1);
  const auto layout = engine_->add_layout(values);
  LARDER_CHECK(layout.has_value());
  space_ = engine_->space(*layout, cache::SaltId{0});
  lookups_ = std::make_unique<Lookups>(intake_, keys_, tiers_, options_);
  operations_ =
      std::make_unique<Operations>(Operations::Parts{.intake = intake_,
                                                     .engine = *engine_,
                                                     .arena = *arena_,
                                                     .keys = keys_,
                                                     .tiers = tiers_,
                                                     .options = options_,
                                                     .space = space_,
                                                     .owner = engine_->add_owner(*layout)});
  engine_->snapshot(stats_);
}

std::vector<cache::Tier> TieredMachine::make_faces() {
  std::vector<cache::Tier> faces;
  for (std::size_t tier = 0; tier < tiers_.size(); ++tier) {
    cache::TierOptions with = options_.tiers[tier];
    // Values that go through are not stored by the engine.
    with.store = with.store && options_.write == Write::kBack;
    faces.push_back({tiers_[tier]->make_face(), with});
  }
  return faces;
}

// ---- The engine's questions.

void TieredMachine::on_column(cache::ColumnEvent event, cache::SpaceId /*space*/,
                              const cache::ChunkHash& chunk) {
  if (event == cache::ColumnEvent::kRemoved) operations_->on_left(chunk);
  keys_.set_in_l1(chunk, event == cache::ColumnEvent::kStored);
  if (event == cache::ColumnEvent::kStored && lookups_->can_answer()) arrived_.push_back(chunk);
}

/// Later than the engine tells: its listener must not ask it.
void TieredMachine::show_arrived() {
  for (const cache::ChunkHash& name : arrived_) {
    if (const auto bytes = engine_->find(space_, name)) keys_.show(name, *bytes);
  }
  arrived_.clear();
}

std::size_t TieredMachine::write_key(const cache::CellName& cell,
                                     std::span<std::byte, kKeyBytesMax> out) const noexcept {
  const Key* const key = keys_.find(cell.chunk);
  LARDER_CHECK(key != nullptr);
  std::memcpy(out.data(), key->text.data(), key->text.size());
  return key->text.size();
}

// ---- Turns.

void TieredMachine::turn() noexcept {
  const std::uint64_t now = now_ns();
  engine_->turn(now);
  intake_.expire();
  operations_->look_after(now);
  std::size_t tickets = 0;
  for (bool has_worked = true; has_worked;) {
    has_worked = reap();
    has_worked = operations_->work() || has_worked;
    if (tickets < kTicketsATurn) {
      if (const Ticket ticket = intake_.take(0, 0, kWholeBatch)) {
        ++tickets;
        has_worked = true;
        operations_->start(ticket);
      }
    }
    show_arrived();
    if (operations_->has_ended()) {
      publish();
      operations_->finish_ended();
    }
  }
  if (is_ending_) drain();
  const std::uint64_t engine_timer_ns = engine_->turn(now);
  show_arrived();
  publish();  // The engine's own work.
  next_timer_ns_ =
      std::min({engine_timer_ns, intake_.next_deadline_ns(), operations_->next_deadline_ns()});
  if (tickets == kTicketsATurn || operations_->has_work()) next_timer_ns_ = now;
  // Once it has come, only the tiers can bring anything.
  const std::uint64_t drain_ns = drain_deadline_ns_.load(std::memory_order_relaxed);
  if (is_ending_ && drain_ns > now) next_timer_ns_ = std::min(next_timer_ns_, drain_ns);
}

/// Takes finished operations of the tiers.
bool TieredMachine::reap() {
  bool has_reaped = false;
  for (std::size_t tier = 0; tier < tiers_.size(); ++tier) {
    if (tiers_[tier]->reap(ended_calls_)) {
      has_reaped = true;
      engine_->on_tier(tier);
    }
  }
  has_reaped = has_reaped || !ended_calls_.empty();
  for (Call* const call : ended_calls_) operations_->on_ended(*call);
  ended_calls_.clear();
  return has_reaped;
}

void TieredMachine::wait(std::uint64_t until_ns) noexcept {
  timespec timeout{};
  if (until_ns != kNever) {
    const std::uint64_t now = now_ns();
    const std::uint64_t left_ns = until_ns > now ? until_ns - now : 0;
    timeout.tv_sec = static_cast<time_t>(left_ns / 1'000'000'000);
    timeout.tv_nsec = static_cast<long>(left_ns % 1'000'000'000);
  }
  ::ppoll(waits_for_.data(), waits_for_.size(), until_ns == kNever ? nullptr : &timeout, nullptr);
  wake_.drain();
}

void TieredMachine::publish() noexcept {
  const MutexLock lock{mutex_};
  engine_->snapshot(stats_);
}

cache::EngineStats TieredMachine::stats() const {
  const MutexLock lock{mutex_};
  return stats_;
}

// ---- The end.

void TieredMachine::begin_stop() noexcept {
  is_ending_ = true;
  if (drain_deadline_ns_.load(std::memory_order_acquire) == 0) {
    set_drain_deadline(now_ns() + options_.drain_ns);
  }
  operations_->cancel_all();
  operations_->look_after(now_ns());
}

/// L1's values for the tiers are written while there is time.
void TieredMachine::drain() noexcept {
  if (!operations_->is_empty()) return;
  const std::uint64_t deadline_ns = drain_deadline_ns_.load(std::memory_order_acquire);
  const bool is_quiet = engine_->drain(deadline_ns);
  publish();
  // The engine does not wait for a tier that is down; it may be back before the deadline.
  is_drained_ = is_quiet && (now_ns() >= deadline_ns || stats().cells_wanted == 0);
}

void TieredMachine::close() noexcept {
  publish();
  const std::uint64_t left = stats().cells_wanted;
  if (left == 0) return;
  log(LogLevel::kWarning, "tiered",
      std::to_string(left) +
          " values were in L1 alone when the connector was stopped: no tier took them in time "
          "(drain=), and they are lost");
}

}  // namespace larder::tiered
