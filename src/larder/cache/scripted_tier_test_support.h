#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "larder/connector/connector.h"
#include "larder/connector/slices.h"

namespace larder::cache {

/// A connector that does as a test says. It has sizes; it has bytes only where `copies` is set, as
/// most tests have an arena without memory.
///
/// Batches end inside submit(), or, while `holds` is set, when finish(), expire() or cancel() says
/// so. One thread.
class ScriptedTier final : public Connector {
 public:
  struct Call {
    Op op = Op::kGet;
    Urgency urgency = Urgency::kDemand;
    std::vector<std::string> keys;
    std::uint64_t bytes = 0;
  };

  std::map<std::string, std::string> values;   ///< With `copies`.
  std::map<std::string, std::uint64_t> sizes;  ///< Share of present keys.
  std::set<std::string> failing;               ///< Keys whose loads fail.
  std::set<std::string> failing_stores;
  std::set<std::string> failing_deletes;
  std::vector<Call> calls;
  bool copies = false;
  bool holds = false;
  bool holds_loads_only = false;
  bool has_probe = true;
  bool tells_sizes = true;               ///< Of present keys, without a load.
  bool is_down = false;                  ///< Misses and kUnavailable.
  bool is_full = false;                  ///< It stores only values that it has.
  std::uint64_t capacity_bytes = 0;      ///< The result of report().
  ErrorCode refuses = ErrorCode::kNone;  ///< The result of submit().
  Locality locality = Locality::kLocalDisk;

  Status submit(Batch& batch) noexcept override {
    if (refuses != ErrorCode::kNone) return Error{refuses, "scripted", "refused"};
    Call call{.op = batch.op, .urgency = batch.urgency, .keys = {}, .bytes = 0};
    for (const Item& item : batch.items) {
      call.keys.push_back(text_of(item));
      call.bytes += bytes_of(item.value);
    }
    calls.push_back(std::move(call));
    held.push_back(&batch);
    if (!holds || (holds_loads_only && batch.op != Op::kGet)) finish(batch);
    return {};
  }
  std::size_t reap(std::span<Batch*> done) noexcept override {
    const std::size_t count = std::min(done.size(), done_.size());
    std::copy_n(done_.begin(), count, done.begin());
    done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
  int event_fd() const noexcept override { return -1; }
  void cancel(Batch& batch) noexcept override {
    ++cancels;
    if (ignores_cancel) return;
    end(batch, Error{ErrorCode::kCancelled, "scripted", "cancelled"});
  }
  bool probe(std::span<Item> items) const noexcept override {
    if (!has_probe) return false;
    ++probes;
    for (Item& item : items) exists(item);
    return true;
  }
  Capabilities capabilities() const noexcept override {
    Capabilities capabilities;
    capabilities.value_bytes_max = kValueBytesMax;
    capabilities.locality = locality;
    capabilities.has_probe = has_probe;
    return capabilities;
  }
  Report report() const override {
    Report told;
    told.capacity_bytes = capacity_bytes;
    return told;
  }
  Result<ScanPage> scan(ScanCursor, std::size_t) override {
    return Error{ErrorCode::kUnimplemented, "scripted", "no scan"};
  }
  Status stop(std::uint64_t) noexcept override { return {}; }

  /// Ends one held batch, or all.
  void finish(Batch& batch) {
    for (Item& item : batch.items) run(batch.op, item);
    leave(batch);
  }
  void finish_all() {
    while (!held.empty()) finish(*held.front());
  }
  void fail_all(ErrorCode code) {
    while (!held.empty()) end(*held.front(), Error{code, "scripted", "failed"});
  }
  /// As a connector does at the deadlines of queued batches.
  void expire(std::uint64_t now_ns) {
    const std::vector<Batch*> all = held;
    for (Batch* const batch : all) {
      if (batch->deadline_ns > now_ns) continue;
      end(*batch, Error{ErrorCode::kDeadlineExceeded, "scripted", "late"});
    }
  }
  std::vector<std::string> keys_of(Op op) const {
    std::vector<std::string> keys;
    for (const Call& call : calls) {
      if (call.op == op) keys.insert(keys.end(), call.keys.begin(), call.keys.end());
    }
    return keys;
  }
  std::size_t calls_of(Op op) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(calls, [&](const Call& call) { return call.op == op; }));
  }

  std::vector<Batch*> held;
  bool ignores_cancel = false;
  int cancels = 0;
  mutable int probes = 0;

 private:
  static std::string text_of(const Item& item) {
    return {reinterpret_cast<const char*>(item.key.data()), item.key.size()};
  }
  void exists(Item& item) const {
    const auto found = sizes.find(text_of(item));
    item.outcome = found == sizes.end() || is_down ? Outcome::kMiss : Outcome::kHit;
    item.miss_reason = is_down ? MissReason::kDown : MissReason::kAbsent;
    if (item.outcome == Outcome::kHit) item.value_bytes = tells_sizes ? found->second : 0;
  }
  void fail(Item& item, ErrorCode code) const {
    item.outcome = Outcome::kFailed;
    item.error = Error{code, "scripted", "failed"};
  }
  void run(Op op, Item& item) {
    const std::string key = text_of(item);
    switch (op) {
      case Op::kExists:
        return exists(item);
      case Op::kGet:
        return get(key, item);
      case Op::kSet:
        return set(key, item);
      case Op::kDelete:
        return remove(key, item);
      case Op::kTouch:
        return touch(key, item);
    }
  }
  void get(const std::string& key, Item& item) {
    exists(item);
    if (item.outcome != Outcome::kHit) return;
    if (failing.contains(key)) {
      sizes.erase(key);  // C6.
      return fail(item, ErrorCode::kIo);
    }
    item.value_bytes = sizes.at(key);
    if (bytes_of(item.value) != item.value_bytes) return fail(item, ErrorCode::kSizeMismatch);
    if (copies) copy_to_slices(std::as_bytes(std::span{values.at(key)}), item.value);
  }
  void set(const std::string& key, Item& item) {
    if (is_down) return fail(item, ErrorCode::kUnavailable);
    if (failing_stores.contains(key)) return fail(item, ErrorCode::kIo);
    item.outcome = Outcome::kDone;
    item.existed = sizes.contains(key);
    if (item.existed) return;
    if (is_full) return fail(item, ErrorCode::kResourceExhausted);
    sizes[key] = bytes_of(item.value);
    if (!copies) return;
    std::string& value = values[key];
    value.resize(bytes_of(item.value));
    copy_from_slices(std::as_writable_bytes(std::span{value}), item.value);
  }
  void remove(const std::string& key, Item& item) {
    if (is_down) return fail(item, ErrorCode::kUnavailable);
    if (failing_deletes.contains(key)) return fail(item, ErrorCode::kIo);
    values.erase(key);
    item.outcome = sizes.erase(key) > 0 ? Outcome::kDone : Outcome::kMiss;
  }
  void touch(const std::string& key, Item& item) const {
    if (is_down) return fail(item, ErrorCode::kUnavailable);
    item.outcome = sizes.contains(key) ? Outcome::kDone : Outcome::kMiss;
  }
  void end(Batch& batch, const Error& error) {
    if (std::ranges::find(held, &batch) == held.end()) return;
    for (Item& item : batch.items) {
      item.outcome = Outcome::kFailed;
      item.error = error;
    }
    leave(batch);
  }
  void leave(Batch& batch) {
    std::erase(held, &batch);
    done_.push_back(&batch);
  }

  std::vector<Batch*> done_;
};

}  // namespace larder::cache
