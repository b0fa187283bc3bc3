#include "tests/conformance/broken_connector.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/connector/batch_limits.h"
#include "larder/connectors/memory/memory_connector.h"

namespace larder::conformance {
namespace {

/// Wraps the memory connector, which has done everything when submit() returns. What a defect needs
/// changed before (keys, modes, deadlines) is changed in the batch for the time of the inner call.
class BrokenConnector final : public Connector {
 public:
  BrokenConnector(Defect defect, const memory::MemoryOptions& options)
      : defect_(defect),
        limits_(options.limits),
        inner_(options),
        silent_(EventFd::create().value()) {}

  Status submit(Batch& batch) noexcept override {
    const MutexLock lock{mutex_};
    if (has(Defect::kSharedLimits) && is_full_ && batch.op == Op::kGet) {
      return Error{ErrorCode::kResourceExhausted, "broken", "stores use up the share of loads"};
    }
    const std::vector<Item> before(batch.items.begin(), batch.items.size() > 100'001
                                                            ? batch.items.begin()
                                                            : batch.items.end());
    const std::uint64_t deadline_ns = batch.deadline_ns;
    const SetMode set_mode = batch.set_mode;
    const bool allow_shorter = batch.allow_shorter;
    const Hint hint = batch.hint;
    const std::uint64_t hold_ns = batch.hold_ns;
    // Memory has nothing in flight: here a batch counts until it is reaped.
    const std::uint64_t bytes = BatchLimits::bytes_of_batch(batch);
    Status status = limits_.admit(class_of(batch.op), bytes);
    if (status) {
      break_input(batch);
      status = inner_.submit(batch);
      if (!status) limits_.release(class_of(batch.op), bytes);
    }
    batch.deadline_ns = deadline_ns;
    batch.set_mode = set_mode;
    batch.allow_shorter = allow_shorter;
    batch.hint = hint;
    batch.hold_ns = hold_ns;
    for (std::size_t i = 0; i < before.size(); ++i) {
      batch.items[i].key = before[i].key;
      batch.items[i].value = before[i].value;
    }
    short_slices_.clear();
    if (status) {
      is_full_ = false;
      break_output(batch);
      return status;
    }
    is_full_ = is_full_ || status.error().code() == ErrorCode::kResourceExhausted;
    if (has(Defect::kChangesRefused) && !batch.items.empty()) {
      batch.items[0].outcome = Outcome::kFailed;
    }
    if (has(Defect::kAcceptsAfterStop) && status.error().code() == ErrorCode::kCancelled) {
      for (Item& item : batch.items) item.outcome = Outcome::kDone;
      extra_.push_back(&batch);
      return {};
    }
    return status;
  }

  std::size_t reap(std::span<Batch*> done) noexcept override {
    const MutexLock lock{mutex_};
    if (!extra_.empty() && !done.empty()) {
      done[0] = extra_.back();
      extra_.pop_back();
      return 1;
    }
    if (has(Defect::kLosesAtStop) && is_stopped_) return 0;
    std::size_t count = inner_.reap(done);
    for (const Batch* batch : done.first(count)) {
      limits_.release(class_of(batch->op), BatchLimits::bytes_of_batch(*batch));
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (++reaped_ != 5) continue;
      if (has(Defect::kReturnsTwice)) extra_.push_back(done[i]);
      if (has(Defect::kLosesBatch)) done[i] = done[--count];
    }
    return count;
  }

  int event_fd() const noexcept override {
    return has(Defect::kSilentEventFd) ? silent_.get() : inner_.event_fd();
  }
  void cancel(Batch& batch) noexcept override { inner_.cancel(batch); }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override {
    return has(Defect::kEstimatesBlindly) ? 1 : inner_.load_ns(sizes);
  }
  bool probe(std::span<Item> items) const noexcept override {
    inner_.probe(items);
    if (has(Defect::kProbeLies)) {
      for (Item& item : items) item.outcome = Outcome::kHit;
    }
    return true;
  }
  Capabilities capabilities() const noexcept override { return inner_.capabilities(); }
  Report report() const override {
    if (has(Defect::kThrows)) throw std::runtime_error("broken");
    Report report = inner_.report();
    if (has(Defect::kExceedsCapacity)) report.bytes_used = report.capacity_bytes + 1;
    if (has(Defect::kHidesFailures)) {
      report.health = Health::kHealthy;
      report.reasons.clear();
    }
    return report;
  }
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override {
    auto page = inner_.scan(from, keys_max);
    if (page && has(Defect::kScanSkips)) {
      std::erase_if(page->entries, [this](const auto&) { return ++scanned_ % 10 == 0; });
    }
    return page;
  }
  Result<EventPage> events(EventCursor from, std::size_t events_max) const override {
    auto page = inner_.events(from, events_max);
    if (page && has(Defect::kHidesRemovals)) {
      std::erase_if(page->events,
                    [](const auto& event) { return event.kind == EventPage::Kind::kRemoved; });
    }
    return page;
  }
  Status stop(std::uint64_t deadline_ns) noexcept override {
    const MutexLock lock{mutex_};
    is_stopped_ = true;
    return inner_.stop(deadline_ns);
  }

 private:
  bool has(Defect defect) const noexcept { return defect_ == defect; }

  static std::string text_of(const Item& item) {
    return {reinterpret_cast<const char*>(item.key.data()), item.key.size()};
  }

  void break_input(Batch& batch) LARDER_REQUIRES(mutex_) {
    if (has(Defect::kIgnoresSize)) batch.allow_shorter = true;
    if (has(Defect::kIgnoresHints)) {
      batch.hint = Hint::kNone;
      batch.hold_ns = 0;
    }
    if (has(Defect::kIgnoresDeadline)) batch.deadline_ns = kNever;
    if (has(Defect::kWritesThoughPresent)) batch.set_mode = SetMode::kReplace;
    if (has(Defect::kKeepsDeleted) && batch.op == Op::kDelete) rename(batch);
    if (has(Defect::kForgets) && batch.op == Op::kSet && ++stores_ % 20 == 0) rename(batch);
    for (Item& item : batch.items) {
      if (has(Defect::kForgetsLastByte) && item.key.size() > 1) {
        item.key = item.key.first(item.key.size() - 1);
      }
      if (has(Defect::kFoldsCase) && item.key.size() <= 4) {
        std::string& folded = names_[text_of(item)] = text_of(item);
        std::ranges::transform(folded, folded.begin(),
                               [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        item.key = std::as_bytes(std::span{folded});
      }
      if (has(Defect::kMixesValues) && batch.op == Op::kSet) mix(item);
    }
  }

  /// Sends the batch to keys that nobody asks for.
  void rename(Batch& batch) LARDER_REQUIRES(mutex_) {
    for (Item& item : batch.items) {
      std::string& name = names_[text_of(item)];
      name = "elsewhere";
      item.key = std::as_bytes(std::span{name});
    }
  }

  /// Puts the second half of the last value of this size into the second half of the next one.
  void mix(Item& item) LARDER_REQUIRES(mutex_) {
    if (item.value.size() != 1 || item.value[0].data == nullptr || item.value[0].bytes < 2) return;
    const std::span<const std::byte> given{item.value[0].data, item.value[0].bytes};
    std::vector<std::byte>& last = last_values_[given.size()];
    mixed_.assign(given.begin(), given.end());
    if (!last.empty()) {
      const std::size_t half = given.size() / 2;
      std::copy(last.begin() + static_cast<std::ptrdiff_t>(half), last.end(),
                mixed_.begin() + static_cast<std::ptrdiff_t>(half));
    }
    last.assign(given.begin(), given.end());
    short_slices_.push_back(std::make_unique<Kept>(mixed_));
    item.value = {&short_slices_.back()->slice, 1};
  }

  void break_output(Batch& batch) LARDER_REQUIRES(mutex_) {
    const bool has_illegal =
        std::ranges::any_of(batch.items, [](const Item& item) { return item.key.empty(); });
    if (has(Defect::kFailsNeighbours) && has_illegal) {
      for (Item& item : batch.items) {
        item.outcome = Outcome::kFailed;
        item.error = Error{ErrorCode::kInvalidArgument, "broken", "a key beside is illegal"};
      }
    }
    if (has(Defect::kLeavesPending) && batch.items.size() > 1) {
      batch.items[1].outcome = Outcome::kPending;
    }
    for (Item& item : batch.items) break_item(batch.op, item);
  }

  void break_item(Op op, Item& item) LARDER_REQUIRES(mutex_) {
    if (has(Defect::kFailsWithoutError) && item.outcome == Outcome::kFailed) item.error = {};
    if (has(Defect::kWrongSize) && op == Op::kExists && item.outcome == Outcome::kHit) {
      ++item.value_bytes;
    }
    if (has(Defect::kFindsFailedKey)) find_failed(op, item);
    if (has(Defect::kDropsOnWrongSize)) drop_on_wrong_size(op, item);
    if (op != Op::kGet || item.value.empty()) return;
    const Slice& first = item.value.front();
    const Slice& last = item.value.back();
    if (item.outcome == Outcome::kMiss) {
      if (has(Defect::kTouchesMissed) && first.bytes > 0) first.data[0] = std::byte{0};
      return;
    }
    if (item.outcome != Outcome::kHit) return;
    if (has(Defect::kFlipsBit) && first.bytes > 0 && ++hits_ % 20 == 0) {
      first.data[0] ^= std::byte{1};
    }
    if (has(Defect::kWritesBesideSlices)) last.data[last.bytes] = std::byte{0};
  }

  void find_failed(Op op, Item& item) LARDER_REQUIRES(mutex_) {
    const bool is_legal = item.error.code() != ErrorCode::kInvalidArgument;
    if (op == Op::kGet && item.outcome == Outcome::kFailed && is_legal) {
      failed_.insert(text_of(item));
    }
    if (op == Op::kExists && failed_.contains(text_of(item))) item.outcome = Outcome::kHit;
  }

  void drop_on_wrong_size(Op op, Item& item) LARDER_REQUIRES(mutex_) {
    if (item.error.code() == ErrorCode::kSizeMismatch) failed_.insert(text_of(item));
    if (op == Op::kSet) failed_.erase(text_of(item));
    if (op == Op::kExists && failed_.contains(text_of(item))) item.outcome = Outcome::kMiss;
  }

  struct Kept {
    explicit Kept(std::vector<std::byte> given)
        : bytes(std::move(given)), slice{bytes.data(), bytes.size()} {}
    std::vector<std::byte> bytes;
    Slice slice;
  };

  const Defect defect_;
  BatchLimits limits_;
  memory::MemoryConnector inner_;
  EventFd silent_;
  Mutex mutex_;
  bool is_stopped_ LARDER_GUARDED_BY(mutex_) = false;
  bool is_full_ LARDER_GUARDED_BY(mutex_) = false;
  std::uint64_t reaped_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint64_t hits_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint64_t stores_ LARDER_GUARDED_BY(mutex_) = 0;
  std::uint64_t scanned_ = 0;
  std::vector<Batch*> extra_ LARDER_GUARDED_BY(mutex_);
  std::map<std::string, std::string> names_ LARDER_GUARDED_BY(mutex_);
  std::map<std::size_t, std::vector<std::byte>> last_values_ LARDER_GUARDED_BY(mutex_);
  std::vector<std::byte> mixed_ LARDER_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Kept>> short_slices_ LARDER_GUARDED_BY(mutex_);
  std::unordered_set<std::string> failed_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<Connector> make_broken_connector(Defect defect, std::uint64_t capacity_bytes,
                                                 std::uint64_t batches_max,
                                                 std::uint64_t bytes_max) {
  memory::MemoryOptions options;
  options.capacity_bytes = capacity_bytes;
  const bool is_limited = defect != Defect::kNoLimits;
  options.limits.batches_max = is_limited ? batches_max : UINT64_MAX;
  options.limits.bytes_max = is_limited ? bytes_max : UINT64_MAX;
  return std::make_unique<BrokenConnector>(defect, options);
}

Subject broken_subject(Defect defect) {
  const auto opener = [defect](std::uint64_t capacity_bytes, std::uint64_t batches_max,
                               std::uint64_t bytes_max) -> Open {
    return [=]() -> SetupResult<std::unique_ptr<Connector>> {
      return make_broken_connector(defect, capacity_bytes, batches_max, bytes_max);
    };
  };
  Subject subject;
  subject.name = name_of(defect);
  subject.open = opener(256U << 20, 4096, std::uint64_t{4} << 30);
  subject.open_small = opener(1U << 20, 4096, std::uint64_t{4} << 30);
  subject.open_limited = opener(256U << 20, kLimitedBatches, kLimitedBytes);
  // A lost batch is waited for in many cases; memory answers at once.
  subject.patience_ns = 50'000'000;
  return subject;
}

std::string first_failure(const Subject& subject) {
  for (const Case& test_case : conformance_cases()) {
    if (!applies(test_case, subject)) continue;
    const CaseResult result = run_case(test_case, subject);
    if (!result.failures.empty()) {
      return std::string{test_case.name} + ": " + result.failures.front();
    }
  }
  return {};
}

std::string_view name_of(Defect defect) {
  constexpr std::array<std::string_view, static_cast<std::size_t>(Defect::kCount)> kNames{
      "None",
      "LosesBatch",
      "ReturnsTwice",
      "ChangesRefused",
      "LeavesPending",
      "FailsNeighbours",
      "FailsWithoutError",
      "Throws",
      "MixesValues",
      "WritesThoughPresent",
      "KeepsDeleted",
      "NoLimits",
      "SharedLimits",
      "FindsFailedKey",
      "SilentEventFd",
      "IgnoresDeadline",
      "AcceptsAfterStop",
      "FlipsBit",
      "WritesBesideSlices",
      "TouchesMissed",
      "ForgetsLastByte",
      "FoldsCase",
      "ExceedsCapacity",
      "Forgets",
      "ProbeLies",
      "ScanSkips",
      "LosesAtStop",
      "IgnoresSize",
      "HidesRemovals",
      "WrongSize",
      "HidesFailures",
      "DropsOnWrongSize",
      "IgnoresHints",
      "EstimatesBlindly"};
  return kNames.at(static_cast<std::size_t>(defect));
}

}  // namespace larder::conformance
