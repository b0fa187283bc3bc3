#include "larder/conformance/session.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <numeric>

#include "larder/base/check.h"
#include "larder/base/clock.h"
#include "larder/base/random.h"

namespace larder::conformance {
namespace {

constexpr std::byte kMark{0xEE};
constexpr std::size_t kPage = 4096;

std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

/// What a stuck connector may still write to stays reachable for ever.
void keep_for_ever(std::unique_ptr<Connector> connector,
                   std::deque<std::unique_ptr<Request>> requests) {
  struct Kept {
    std::unique_ptr<Connector> connector;
    std::deque<std::unique_ptr<Request>> requests;
  };
  static auto& kept = *new std::deque<Kept>;
  kept.push_back({std::move(connector), std::move(requests)});
}

bool is_legal(Op op, Outcome outcome) {
  switch (op) {
    case Op::kGet:
    case Op::kExists:
      return outcome == Outcome::kHit || outcome == Outcome::kMiss || outcome == Outcome::kFailed;
    case Op::kSet:
      return outcome == Outcome::kDone || outcome == Outcome::kFailed;
    case Op::kDelete:
    case Op::kTouch:
      return outcome == Outcome::kDone || outcome == Outcome::kMiss || outcome == Outcome::kFailed;
  }
  return false;
}

bool is_as_new(const Batch& batch) {
  return std::ranges::all_of(batch.items, [](const Item& item) {
    return item.outcome == Outcome::kPending && !item.existed && item.value_bytes == 0 &&
           item.error.code() == ErrorCode::kNone;
  });
}

}  // namespace

Bytes random_bytes(std::uint64_t seed, std::size_t bytes) {
  Bytes value(bytes);
  Random random{seed};
  random.fill(value);
  return value;
}

std::string numbered_key(std::uint64_t number) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "key-%08llu", static_cast<unsigned long long>(number));
  return text.data();
}

std::string printable(std::string_view key) {
  std::string text;
  for (const char c : key.substr(0, 40)) {
    text += std::isprint(static_cast<unsigned char>(c)) != 0 ? c : '?';
  }
  return "'" + text + "' (" + std::to_string(key.size()) + " bytes)";
}

Request::Slot& Request::add_slot(std::string key, std::size_t bytes, const Layout& layout) {
  std::vector<std::size_t> sizes = layout.slice_bytes;
  if (sizes.empty()) sizes.push_back(bytes);
  LARDER_CHECK(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}) == bytes);

  Slot& slot = slots_.emplace_back();
  slot.key = std::move(key);
  const std::size_t room = layout.offset + bytes + layout.gap * sizes.size() + 1;
  slot.memory = AlignedBuffer::create(room, kPage).value();
  std::ranges::fill(slot.memory.span(), kMark);
  std::byte* next = slot.memory.data() + layout.offset;
  for (const std::size_t size : sizes) {
    slot.slices.push_back({next, size});
    next += size + layout.gap;
  }
  return slot;
}

Request& Request::add(std::string key) {
  slots_.emplace_back().key = std::move(key);
  return *this;
}

Request& Request::add_set(std::string key, const Bytes& value, const Layout& layout) {
  const Slot& slot = add_slot(std::move(key), value.size(), layout);
  std::size_t done = 0;
  for (const Slice& slice : slot.slices) {
    std::copy_n(value.begin() + static_cast<std::ptrdiff_t>(done), slice.bytes, slice.data);
    done += slice.bytes;
  }
  return *this;
}

Request& Request::add_get(std::string key, std::size_t bytes, const Layout& layout) {
  add_slot(std::move(key), bytes, layout);
  return *this;
}

Request& Request::add_slices(std::string key, std::vector<Slice> slices) {
  Slot& slot = slots_.emplace_back();
  slot.key = std::move(key);
  slot.slices = std::move(slices);
  return *this;
}

void Request::prepare() {
  items_.assign(slots_.size(), Item{});
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    items_[i].key = std::as_bytes(std::span{slots_[i].key});
    items_[i].value = slots_[i].slices;
  }
  batch_.items = items_;
}

Bytes Request::value(std::size_t index, std::size_t bytes) const {
  Bytes joined;
  for (const Slice& slice : slots_.at(index).slices) {
    joined.insert(joined.end(), slice.data, slice.data + slice.bytes);
  }
  joined.resize(std::min(joined.size(), bytes));
  return joined;
}

bool Request::is_outside_untouched(const Slot& slot) const {
  if (slot.memory.size() == 0) return true;
  const std::byte* from = slot.memory.data();
  for (const Slice& slice : slot.slices) {
    if (!std::all_of(from, static_cast<const std::byte*>(slice.data),
                     [](std::byte b) { return b == kMark; }))
      return false;
    from = slice.data + slice.bytes;
  }
  return std::all_of(from, slot.memory.data() + slot.memory.size(),
                     [](std::byte b) { return b == kMark; });
}

bool Request::is_hit_of(std::size_t index, const Bytes& expected) const {
  const Item& found = item(index);
  return found.outcome == Outcome::kHit && found.value_bytes == expected.size() &&
         value(index, expected.size()) == expected && is_outside_untouched(slots_.at(index));
}

bool Request::is_untouched(std::size_t index) const {
  return std::ranges::all_of(slots_.at(index).memory.span(),
                             [](std::byte b) { return b == kMark; });
}

std::unique_ptr<Session> Session::open(Context& context, const Open& open,
                                       std::source_location where) {
  auto connector = open();
  if (!connector && connector.error().code == ErrorCode::kUnimplemented) {
    context.skip("needs " + connector.error().text);
    return nullptr;
  }
  if (!connector) {
    context.expect(false, "it does not open: " + connector.error().text, where);
    return nullptr;
  }
  return std::make_unique<Session>(context, std::move(connector).value());
}

Session::Session(Context& context, std::unique_ptr<Connector> connector)
    : context_(context), connector_(std::move(connector)) {}

Session::~Session() {
  close();
}

Request& Session::make(Op op) {
  const MutexLock lock{mutex_};
  return *requests_.emplace_back(std::make_unique<Request>(op));
}

void Session::recycle() {
  const MutexLock lock{mutex_};
  if (outstanding_.empty() && !is_stuck_) requests_.clear();
}

Status Session::submit(Request& request) {
  request.prepare();
  Batch& batch = request.batch();
  {
    const MutexLock lock{mutex_};
    outstanding_.insert(&batch);
  }
  Status status = connector_->submit(batch);
  if (status) return status;
  {
    const MutexLock lock{mutex_};
    outstanding_.erase(&batch);
  }
  context_.expect(is_as_new(batch), "a refused batch was changed (C1)");
  return status;
}

bool Session::must_submit(Request& request, std::source_location where) {
  const Status status = submit(request);
  return context_.expect(status.has_value(),
                         status ? "" : "refused without need: " + status.error().to_string(),
                         where);
}

void Session::check_returned(const Batch& batch) {
  for (const Item& item : batch.items) {
    context_.expect(is_legal(batch.op, item.outcome),
                    "operation " + std::to_string(static_cast<int>(batch.op)) +
                        " ended with outcome " + std::to_string(static_cast<int>(item.outcome)) +
                        " (P2)");
    if (item.outcome != Outcome::kFailed) continue;
    context_.expect(item.error.code() != ErrorCode::kNone && !item.error.where().empty() &&
                        !item.error.what().empty(),
                    "an item failed without saying why (C2)");
  }
}

std::size_t Session::reap(std::size_t at_most) {
  std::array<Batch*, 16> done{};
  const std::size_t room = std::min(at_most, done.size());
  const std::size_t count = connector_->reap(std::span{done}.first(room));
  if (!context_.expect(count <= room, "reap() returned more than it was given room for")) {
    return 0;
  }
  for (Batch* batch : std::span{done}.first(count)) {
    bool was_outstanding = false;
    {
      const MutexLock lock{mutex_};
      was_outstanding = outstanding_.contains(batch);
    }
    if (!context_.expect(was_outstanding, "reap() returned a batch that was not in flight (C1)")) {
      continue;
    }
    check_returned(*batch);
    const MutexLock lock{mutex_};
    outstanding_.erase(batch);
  }
  return count;
}

bool Session::is_back(const Request& request) const {
  const MutexLock lock{mutex_};
  return !outstanding_.contains(&const_cast<Request&>(request).batch());
}

std::size_t Session::in_flight() const {
  const MutexLock lock{mutex_};
  return outstanding_.size();
}

template <class Condition>
bool Session::wait_until(const Condition& is_met) {
  const std::uint64_t give_up_ns = now_ns() + context_.subject().patience_ns;
  while (true) {
    while (!is_met() && reap() != 0) {
    }
    if (is_met()) return true;
    // Readable without anything to reap is allowed, for ever is not: hence the clock.
    const std::uint64_t now = now_ns();
    const std::uint64_t left_ms = now < give_up_ns ? (give_up_ns - now) / 1'000'000 + 1 : 0;
    pollfd waited{connector_->event_fd(), POLLIN, 0};
    const bool is_readable = ::poll(&waited, 1, static_cast<int>(left_ms)) != 0;
    if (is_readable && left_ms != 0) continue;
    if (reap() != 0) {
      context_.expect(is_readable, "event_fd() stayed unreadable while reap() had something (C7)");
      continue;
    }
    is_stuck_ = true;
    return context_.expect(false, std::to_string(in_flight()) + " batches never came back (C1)");
  }
}

bool Session::wait(const Request& request) {
  return !is_stuck_ && wait_until([&] { return is_back(request); });
}

bool Session::wait_all() {
  return !is_stuck_ && wait_until([&] { return in_flight() == 0; });
}

bool Session::run(Request& request, std::source_location where) {
  return must_submit(request, where) && wait(request);
}

bool Session::set(const std::string& key, const Bytes& value, SetMode mode,
                  std::source_location where) {
  Request& request = make(Op::kSet).add_set(key, value);
  request.batch().set_mode = mode;
  if (!run(request, where)) return false;
  const Item& item = request.item(0);
  return context_.expect(item.outcome == Outcome::kDone,
                         "Set of " + printable(key) + ": " + item.error.to_string(), where);
}

bool Session::expect_hit(const std::string& key, const Bytes& value, std::source_location where) {
  Request& request = make(Op::kGet).add_get(key, value.size());
  if (!run(request, where)) return false;
  return context_.expect(request.is_hit_of(0, value),
                         "Get of " + printable(key) + " is not a hit of what was stored; outcome " +
                             std::to_string(static_cast<int>(request.item(0).outcome)),
                         where);
}

bool Session::expect_miss(const std::string& key, std::source_location where) {
  Request& exists = make(Op::kExists).add(key);
  Request& get = make(Op::kGet).add_get(key, 64);
  get.batch().allow_shorter = true;
  if (!run(exists, where) || !run(get, where)) return false;
  const bool missed = context_.expect(exists.item(0).outcome == Outcome::kMiss,
                                      "Exists of " + printable(key) + " is not a miss", where);
  return context_.expect(get.item(0).outcome == Outcome::kMiss && get.is_untouched(0),
                         "Get of " + printable(key) + " is not a miss with the buffer untouched",
                         where) &&
         missed;
}

bool Session::remove(const std::string& key, Outcome expected, std::source_location where) {
  Request& request = make(Op::kDelete).add(key);
  if (!run(request, where)) return false;
  return context_.expect(request.item(0).outcome == expected,
                         "Delete of " + printable(key) + " ended with outcome " +
                             std::to_string(static_cast<int>(request.item(0).outcome)),
                         where);
}

bool Session::close() {
  if (connector_ == nullptr) return true;
  const Status stopped = connector_->stop(now_ns() + context_.subject().patience_ns);
  context_.expect(stopped.has_value(), "stop() did not end in time (C8)");
  if (wait_all() && stopped) {
    context_.expect(reap() == 0, "reap() has something after everything came back (C1)");
    connector_.reset();
    return true;
  }
  const MutexLock lock{mutex_};
  keep_for_ever(std::move(connector_), std::move(requests_));
  return false;
}

}  // namespace larder::conformance
