#include "larder/connectors/memory/memory_connector.h"

#include <algorithm>
#include <array>
#include <exception>
#include <new>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/connector/common_parameters.h"
#include "larder/connector/slices.h"

namespace larder::memory {
namespace {

constexpr std::uint32_t kSlicesMax = 1024;
constexpr HintMask kHints =
    bit_of(Hint::kPrefetch) | bit_of(Hint::kPin) | bit_of(Hint::kRetain) | bit_of(Hint::kRelease);

IntakeOptions intake_options(const MemoryOptions& options) {
  IntakeOptions made;
  made.name = "memory";
  made.limits = options.limits;
  made.value_bytes_max = options.value_bytes_max;
  made.slices_max = kSlicesMax;
  made.hints = kHints;
  made.miss_after_failure_ns = options.miss_after_failure_ns;
  made.capacity = {.capacity_bytes = options.capacity_bytes};
  return made;
}

}  // namespace

MemoryConnector::MemoryConnector(const MemoryOptions& options)
    : options_(options), intake_(intake_options(options), RealClock::instance()) {}

Status MemoryConnector::submit(Batch& batch) noexcept {
  LARDER_TRY(intake_.admit(batch));
  for (Item& item : batch.items) {
    if (intake_.begin(batch, item)) intake_.end(batch, item, run(batch, item));
  }
  intake_.finish(batch, batch.items.size());
  return {};
}

Status MemoryConnector::run(const Batch& batch, Item& item) noexcept {
  try {
    const MutexLock lock{mutex_};
    return run_locked(batch, item);
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kResourceExhausted, "memory", "the process has no memory left"};
  } catch (...) {
    return Error{ErrorCode::kInternal, "memory", "an unknown exception"};
  }
}

Status MemoryConnector::run_locked(const Batch& batch, Item& item) {
  switch (batch.op) {
    case Op::kGet:
      return get_locked(batch, item);
    case Op::kSet:
      return set_locked(batch, item);
    case Op::kExists:
      exists_locked(item);
      return {};
    case Op::kDelete: {
      const auto found = entries_.find(as_text(item.key));
      item.outcome = found == entries_.end() ? Outcome::kMiss : Outcome::kDone;
      if (found != entries_.end()) remove_locked(found);
      return {};
    }
    case Op::kTouch:
      return touch_locked(batch, item);
  }
  return Error{ErrorCode::kInvalidArgument, "memory", "the operation is unknown"};
}

Status MemoryConnector::get_locked(const Batch& batch, Item& item) {
  const auto found = entries_.find(as_text(item.key));
  if (found == entries_.end()) {
    item.outcome = Outcome::kMiss;
    return {};
  }
  Entry& entry = found->second;
  const std::uint64_t room = bytes_of(item.value);
  item.value_bytes = entry.value_bytes;
  if (entry.value_bytes > room || (entry.value_bytes < room && !batch.allow_shorter)) {
    return Error{ErrorCode::kSizeMismatch, "memory", "the value and the buffer differ in size"};
  }
  const std::span<const std::byte> value{entry.value.get(), entry.value_bytes};
  if (hash128(value) != entry.checksum) {
    ++totals_.corruptions;
    item.value_bytes = 0;
    remove_locked(found);
    return Error{ErrorCode::kCorruption, "memory", "the value does not match its checksum"};
  }
  copy_to_slices(value, item.value);
  mark_used_locked(entry);
  item.outcome = Outcome::kHit;
  return {};
}

Status MemoryConnector::touch_locked(const Batch& batch, Item& item) {
  const auto found = entries_.find(as_text(item.key));
  item.outcome = found == entries_.end() ? Outcome::kMiss : Outcome::kDone;
  if (found == entries_.end()) return {};
  Entry& entry = found->second;
  mark_used_locked(entry);
  if (is_held(batch.hint)) return hold_locked(entry, batch.hold_ns);
  if (batch.hint != Hint::kRelease) return {};
  end_holds_locked();
  if (entry.held_until_ns == 0) item.outcome = Outcome::kMiss;
  let_go_locked(entry);
  return {};
}

Status MemoryConnector::hold_locked(Entry& entry, std::uint64_t hold_ns) {
  end_holds_locked();
  const std::uint64_t until_ns = RealClock::instance().now_ns() + hold_ns;
  if (entry.held_until_ns == 0) {
    const auto budget = static_cast<std::uint64_t>(options_.pins_share *
                                                   static_cast<double>(options_.capacity_bytes));
    if (held_bytes_ > budget || entry.bytes() > budget - held_bytes_) {
      ++totals_.holds_refused;
      return Error{ErrorCode::kResourceExhausted, "memory",
                   "pinned and retained keys have all that they may take (pins=); release some"};
    }
    held_.splice(held_.end(), by_use_, entry.use);
    held_bytes_ += entry.bytes();
  }
  entry.held_until_ns = std::max(entry.held_until_ns, until_ns);
  first_end_ns_ = std::min(first_end_ns_, entry.held_until_ns);
  return {};
}

void MemoryConnector::let_go_locked(Entry& entry) noexcept {
  if (entry.held_until_ns == 0) return;
  entry.held_until_ns = 0;
  held_bytes_ -= entry.bytes();
  by_use_.splice(by_use_.end(), held_, entry.use);
}

/// Releases entries whose hold has expired. O(held) when a hold may have expired, else O(1).
void MemoryConnector::end_holds_locked() {
  if (held_.empty()) return;
  const std::uint64_t now_ns = RealClock::instance().now_ns();
  if (now_ns < first_end_ns_) return;
  first_end_ns_ = kNever;
  for (auto at = held_.begin(); at != held_.end();) {
    Entry& entry = **at++;
    if (entry.held_until_ns <= now_ns) {
      let_go_locked(entry);
    } else {
      first_end_ns_ = std::min(first_end_ns_, entry.held_until_ns);
    }
  }
}

Status MemoryConnector::set_locked(const Batch& batch, Item& item) {
  const std::string_view key = as_text(item.key);
  const std::uint64_t value_bytes = bytes_of(item.value);
  auto found = entries_.find(key);
  if (found != entries_.end() && intake_.set_mode_of(batch, item) == SetMode::kIfAbsent) {
    mark_used_locked(found->second);
    item.existed = true;
    item.outcome = Outcome::kDone;
    return {};
  }
  const std::uint64_t needed = key.size() + value_bytes;
  if (needed > options_.capacity_bytes) {
    return Error{ErrorCode::kResourceExhausted, "memory", "the value is larger than the capacity"};
  }
  end_holds_locked();
  const bool replaces_held = found != entries_.end() && found->second.held_until_ns != 0;
  const std::uint64_t held_by_others = held_bytes_ - (replaces_held ? found->second.bytes() : 0);
  if (needed > options_.capacity_bytes - held_by_others) {
    return Error{ErrorCode::kResourceExhausted, "memory",
                 "pinned and retained keys leave no room for the value; release some"};
  }

  Entry entry;
  entry.value = std::make_unique_for_overwrite<std::byte[]>(value_bytes);
  entry.value_bytes = value_bytes;
  copy_from_slices({entry.value.get(), bytes_of(item.value)}, item.value);
  entry.checksum = hash128({entry.value.get(), value_bytes});
  if (found != entries_.end()) {
    let_go_locked(found->second);
    // Replaced in place, so that a scan in progress still meets the key.
    mark_used_locked(found->second);
    bytes_used_ -= found->second.value_bytes;
    found->second.value = std::move(entry.value);
    found->second.value_bytes = value_bytes;
    found->second.checksum = entry.checksum;
    // May exceed the capacity for a moment under the mutex; the new value itself is used last.
    bytes_used_ += value_bytes;
    evict_until_locked(options_.capacity_bytes);
  } else {
    evict_until_locked(options_.capacity_bytes - needed);
    insert_locked(key, std::move(entry));
  }
  note_event_locked(EventPage::Kind::kStored, key, value_bytes);
  item.outcome = Outcome::kDone;
  return {};
}

void MemoryConnector::insert_locked(std::string_view key, Entry entry) {
  const std::uint64_t age = last_age_ + 1;
  const auto [place, is_new] = entries_.try_emplace(std::string{key}, std::move(entry));
  LARDER_CHECK(is_new);
  Entry& stored = place->second;
  stored.key = place->first;
  stored.age = age;
  try {
    by_age_.emplace(age, &stored);
    stored.use = by_use_.insert(by_use_.end(), &stored);
  } catch (...) {
    by_age_.erase(age);
    entries_.erase(place);
    throw;
  }
  last_age_ = age;
  bytes_used_ += key.size() + stored.value_bytes;
}

void MemoryConnector::evict_until_locked(std::uint64_t bytes_used) {
  while (bytes_used_ > bytes_used) {
    const auto victim = entries_.find(by_use_.front()->key);
    ++totals_.evictions.keys;
    totals_.evictions.bytes += victim->second.value_bytes;
    remove_locked(victim);
  }
}

void MemoryConnector::remove_locked(Entries::iterator found) noexcept {
  Entry& entry = found->second;
  let_go_locked(entry);
  note_event_locked(EventPage::Kind::kRemoved, entry.key, entry.value_bytes);
  bytes_used_ -= entry.key.size() + entry.value_bytes;
  by_age_.erase(entry.age);
  by_use_.erase(entry.use);
  entries_.erase(found);
}

void MemoryConnector::mark_used_locked(Entry& entry) noexcept {
  std::list<Entry*>& list = entry.held_until_ns == 0 ? by_use_ : held_;
  list.splice(list.end(), list, entry.use);
}

void MemoryConnector::note_event_locked(EventPage::Kind kind, std::string_view key,
                                        std::uint64_t value_bytes) noexcept {
  if (options_.events_max == 0) return;
  try {
    events_.push_back({kind, std::string{key}, value_bytes});
  } catch (const std::bad_alloc&) {
    // A key must be removable without memory; listeners see that they lost something.
    events_dropped_ += events_.size() + 1;
    events_.clear();
    return;
  }
  if (events_.size() <= options_.events_max) return;
  events_.pop_front();
  ++events_dropped_;
}

void MemoryConnector::exists_locked(Item& item) const {
  const auto found = entries_.find(as_text(item.key));
  item.outcome = found == entries_.end() ? Outcome::kMiss : Outcome::kHit;
  if (item.outcome == Outcome::kHit) item.value_bytes = found->second.value_bytes;
}

bool MemoryConnector::probe(std::span<Item> items) const noexcept {
  Batch batch;
  batch.op = Op::kExists;
  {
    const MutexLock lock{mutex_};
    for (Item& item : items) {
      item.value_bytes = 0;
      item.existed = false;
      item.miss_reason = MissReason::kAbsent;
      const Status checked = check_item(batch, item, 0, 0);
      item.error = checked ? Error{} : checked.error();
      item.outcome = Outcome::kFailed;
      if (checked) exists_locked(item);
    }
  }
  intake_.end_probe(items);
  return true;
}

Capabilities MemoryConnector::capabilities() const noexcept {
  Capabilities capabilities;
  capabilities.slices_max = kSlicesMax;
  capabilities.value_bytes_max = options_.value_bytes_max;
  capabilities.integrity = Integrity::kChecked;
  capabilities.locality = Locality::kMemory;
  capabilities.has_probe = true;
  capabilities.has_scan = true;
  capabilities.has_events = options_.events_max != 0;
  capabilities.hints = kHints;
  return capabilities;
}

Report MemoryConnector::report() const {
  Report report;
  report.type = connector_type().name;
  report.capacity_bytes = options_.capacity_bytes;
  report.integrity = Integrity::kChecked;
  report.locality = Locality::kMemory;
  {
    const MutexLock lock{mutex_};
    report.bytes_used = bytes_used_;
    report.keys = entries_.size();
    report.evictions = totals_.evictions;
    report.counters = {{"corruptions_total", totals_.corruptions},
                       {"pinned_keys", held_.size()},
                       {"pinned_bytes", held_bytes_},
                       {"pins_refused_total", totals_.holds_refused}};
  }
  intake_.append_report(report);
  return report;
}

Result<ScanPage> MemoryConnector::scan(ScanCursor from, std::size_t keys_max) {
  const MutexLock lock{mutex_};
  // words[0]: the age that was seen last; words[1]: the youngest when the scan began, so that it
  // ends although keys are stored all the time.
  if (from.words[1] == 0) from.words[1] = last_age_;
  ScanPage page;
  page.next = from;
  auto next = by_age_.upper_bound(from.words[0]);
  const auto end = by_age_.upper_bound(from.words[1]);
  for (; next != end && page.entries.size() < keys_max; ++next) {
    page.entries.push_back({std::string{next->second->key}, next->second->value_bytes});
    page.next.words[0] = next->first;
  }
  page.done = next == end;
  return page;
}

Result<EventPage> MemoryConnector::events(EventCursor from, std::size_t events_max) const {
  if (options_.events_max == 0) return Connector::events(from, events_max);
  const MutexLock lock{mutex_};
  EventPage page;
  const std::uint64_t first = std::max(from.position, events_dropped_);
  page.lost = first - from.position;
  page.next.position = first;
  for (std::uint64_t at = first - events_dropped_;
       at < events_.size() && page.events.size() < events_max; ++at) {
    page.events.push_back(events_[at]);
    ++page.next.position;
  }
  return page;
}

Status MemoryConnector::stop(std::uint64_t /*deadline_ns*/) noexcept {
  intake_.stop();
  return {};
}

bool MemoryConnector::damage_for_test(std::string_view key) {
  const MutexLock lock{mutex_};
  const auto found = entries_.find(key);
  if (found == entries_.end() || found->second.value_bytes == 0) return false;
  found->second.value[found->second.value_bytes / 2] ^= std::byte{1};
  return true;
}

namespace {

constexpr std::array kParameters{
    Parameter{.name = "capacity",
              .kind = ParameterKind::kBytes,
              .default_text = "1GiB",
              .minimum = "4KiB",
              .help = "Bytes of keys and values together; when it is full the least recently used "
                      "key goes."},
    Parameter{.name = "max_value",
              .kind = ParameterKind::kBytes,
              .default_text = "1GiB",
              .minimum = "1",
              .maximum = "1GiB",
              .help = "The largest value that is accepted."},
    Parameter{.name = "events",
              .kind = ParameterKind::kInteger,
              .default_text = "4096",
              .minimum = "0",
              .maximum = "16777216",
              .help = "How many stored and removed keys are remembered for listeners; 0 keeps "
                      "none."},
    Parameter{.name = "pins",
              .kind = ParameterKind::kFraction,
              .default_text = "25%",
              .minimum = "1%",
              .maximum = "75%",
              .help = "The share of the capacity that pinned and retained keys may take together; "
                      "what is beyond it is refused."},
    kMissAfterFailureParameter,
    kBatchesMaxParameter,
    kInFlightParameter,
};

SetupResult<std::unique_ptr<Connector>> open(const ConnectorType& /*type*/,
                                             const Parameters& parameters,
                                             const Registry& /*registry*/) {
  MemoryOptions options;
  options.capacity_bytes = parameters.bytes("capacity");
  options.value_bytes_max = parameters.bytes("max_value");
  options.pins_share = parameters.fraction("pins");
  options.events_max = static_cast<std::size_t>(parameters.integer("events"));
  options.limits = batch_limits_of(parameters);
  options.miss_after_failure_ns = parameters.duration_ns("miss_after_failure");
  return std::make_unique<MemoryConnector>(options);
}

constexpr MetricRow kMetrics[] = {
    {"corruptions_total", MetricKind::kCounter, "Values whose checksum did not fit any more."},
    {"pinned_keys", MetricKind::kGauge, "Pinned and retained keys."},
    {"pinned_bytes", MetricKind::kGauge, "Memory that they take."},
    {"pins_refused_total", MetricKind::kCounter,
     "Pins and retentions that were refused, as they have all that they may take (pins=)."},
};

}  // namespace

const ConnectorType& connector_type() {
  static constexpr ConnectorType kType{
      .name = "memory",
      .summary = "A bounded map in this process's memory; nothing survives it.",
      .example = "memory:?capacity=4GiB",
      .location_parameter = "",
      .parameters = kParameters,
      .metrics = kMetrics,
      .open = open,
  };
  return kType;
}

}  // namespace larder::memory
