#include "tests/conformance/example_connector.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "larder/base/key_text.h"

namespace larder::conformance {

SetupResult<std::unique_ptr<Connector>> ExampleConnector::open(const BatchLimitOptions& limits) {
  auto wake = EventFd::create();
  if (!wake) return SetupError{wake.error().code(), "example: " + wake.error().to_string()};
  IntakeOptions options;
  options.name = "example";
  options.limits = limits;
  std::unique_ptr<ExampleConnector> made{new ExampleConnector{options, std::move(*wake)}};
  const Status started = made->reactor_.start();
  if (!started) return SetupError{started.error().code(), started.error().to_string()};
  return made;
}

ExampleConnector::ExampleConnector(const IntakeOptions& options, EventFd wake)
    : intake_(options, RealClock::instance()),
      wake_(std::move(wake)),
      reactor_(*this, intake_, {.name = "example"}) {}

void ExampleConnector::turn() noexcept {
  for (; !asked_.empty(); asked_.pop_front()) {
    const Ticket& ticket = asked_.front();
    Item& item = ticket.items.front();
    Status status;
    try {
      status = run(*ticket.batch, item);
    } catch (const std::bad_alloc&) {
      status = Error{ErrorCode::kResourceExhausted, "example", "the process has no memory left"};
    }
    intake_.end(*ticket.batch, item, status);
    intake_.finish(ticket);
  }
  intake_.expire();
  for (LaneNumber lane = 0; lane < kLanesMax; ++lane) {
    while (asked_.size() < kInFlightMax) {
      const Ticket ticket = intake_.take(lane);
      if (!ticket) break;
      if (intake_.begin(*ticket.batch, ticket.items.front())) {
        asked_.push_back(ticket);
      } else {
        intake_.finish(ticket);
      }
    }
  }
}

std::uint64_t ExampleConnector::next_timer_ns() const noexcept {
  return asked_.empty() ? intake_.next_deadline_ns() : 0;
}

void ExampleConnector::wait(std::uint64_t until_ns) noexcept {
  wait_readable(wake_.get(), wake_.get(), until_ns);
  wake_.drain();
}

Status ExampleConnector::run(const Batch& batch, Item& item) {
  const auto found = values_.find(as_text(item.key));
  const bool is_there = found != values_.end();
  switch (batch.op) {
    case Op::kGet: {
      item.outcome = is_there ? Outcome::kHit : Outcome::kMiss;
      if (!is_there) return {};
      const std::uint64_t room = bytes_of(item.value);
      item.value_bytes = found->second.size();
      if (item.value_bytes > room || (item.value_bytes < room && !batch.allow_shorter)) {
        return Error{ErrorCode::kSizeMismatch, "example", "the value has another size"};
      }
      std::size_t at = 0;
      for (const Slice& slice : item.value) {
        const std::size_t bytes = std::min(slice.bytes, found->second.size() - at);
        if (bytes > 0) std::memcpy(slice.data, found->second.data() + at, bytes);
        at += bytes;
      }
      return {};
    }
    case Op::kSet: {
      item.outcome = Outcome::kDone;
      item.existed = is_there && intake_.set_mode_of(batch, item) == SetMode::kIfAbsent;
      if (item.existed) return {};
      std::vector<std::byte> value;
      for (const Slice& slice : item.value) {
        value.insert(value.end(), slice.data, slice.data + slice.bytes);
      }
      bytes_ += value.size();
      if (is_there) {
        bytes_ -= found->second.size();
        found->second = std::move(value);
      } else {
        values_.emplace(as_text(item.key), std::move(value));
      }
      keys_ = values_.size();
      return {};
    }
    case Op::kExists:
      item.outcome = is_there ? Outcome::kHit : Outcome::kMiss;
      item.value_bytes = is_there ? found->second.size() : 0;
      return {};
    case Op::kDelete:
      item.outcome = is_there ? Outcome::kDone : Outcome::kMiss;
      if (!is_there) return {};
      bytes_ -= found->second.size();
      values_.erase(found);
      keys_ = values_.size();
      return {};
    case Op::kTouch:
      item.outcome = is_there ? Outcome::kDone : Outcome::kMiss;
      return {};
  }
  return {};
}

Capabilities ExampleConnector::capabilities() const noexcept {
  Capabilities capabilities;
  capabilities.value_bytes_max = kValueBytesMax;
  return capabilities;
}

Report ExampleConnector::report() const {
  Report report;
  report.type = "example";
  report.keys = keys_;
  report.bytes_used = bytes_;
  intake_.append_report(report);
  return report;
}

}  // namespace larder::conformance
