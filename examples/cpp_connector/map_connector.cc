#include "examples/cpp_connector/map_connector.h"

#include <array>
#include <new>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/connector/common_parameters.h"
#include "larder/connector/slices.h"

namespace larder::example {

SetupResult<std::unique_ptr<Connector>> MapConnector::open(const BatchLimitOptions& limits) {
  auto wake = EventFd::create();
  if (!wake) return SetupError{wake.error().code(), "map: " + wake.error().to_string()};
  IntakeOptions options;
  options.name = "map";
  options.limits = limits;
  std::unique_ptr<MapConnector> made{new MapConnector{options, std::move(*wake)}};
  const Status started = made->reactor_.start();
  if (!started) return SetupError{started.error().code(), started.error().to_string()};
  return made;
}

MapConnector::MapConnector(const IntakeOptions& options, EventFd wake)
    : intake_(options, RealClock::instance()),
      wake_(std::move(wake)),
      reactor_(*this, intake_, {.name = "map"}) {}

void MapConnector::turn() noexcept {
  // What was asked in the last turn has its answers now.
  for (; !asked_.empty(); asked_.pop_front()) {
    const Ticket& ticket = asked_.front();
    Item& item = ticket.items.front();
    Status status;
    try {
      status = run(*ticket.batch, item);
    } catch (const std::bad_alloc&) {
      status = Error{ErrorCode::kResourceExhausted, "map", "the process has no memory left"};
    }
    intake_.end(*ticket.batch, item, status);
    intake_.finish(ticket);
  }
  // Then whatever is late, and last as much new work as there is room for.
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

std::uint64_t MapConnector::next_timer_ns() const noexcept {
  return asked_.empty() ? intake_.next_deadline_ns() : 0;
}

void MapConnector::wait(std::uint64_t until_ns) noexcept {
  wait_readable(wake_.get(), wake_.get(), until_ns);
  wake_.drain();
}

Status MapConnector::run(const Batch& batch, Item& item) {
  const auto found = values_.find(as_text(item.key));
  const bool is_there = found != values_.end();
  switch (batch.op) {
    case Op::kGet: {
      item.outcome = is_there ? Outcome::kHit : Outcome::kMiss;
      if (!is_there) return {};
      const std::uint64_t room = bytes_of(item.value);
      item.value_bytes = found->second.size();
      if (item.value_bytes > room || (item.value_bytes < room && !batch.allow_shorter)) {
        return Error{ErrorCode::kSizeMismatch, "map", "the value has another size"};
      }
      copy_to_slices(found->second, item.value);
      return {};
    }
    case Op::kSet: {
      item.outcome = Outcome::kDone;
      item.existed = is_there && intake_.set_mode_of(batch, item) == SetMode::kIfAbsent;
      if (item.existed) return {};
      std::vector<std::byte> value(bytes_of(item.value));
      copy_from_slices(value, item.value);
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

Capabilities MapConnector::capabilities() const noexcept {
  Capabilities capabilities;
  capabilities.value_bytes_max = kValueBytesMax;
  return capabilities;
}

Report MapConnector::report() const {
  Report report;
  report.type = "map";
  report.keys = keys_;
  report.bytes_used = bytes_;
  intake_.append_report(report);
  return report;
}

namespace {

constexpr std::array kParameters{kBatchesMaxParameter, kInFlightParameter};

SetupResult<std::unique_ptr<Connector>> open_map(const ConnectorType& /*type*/,
                                                 const Parameters& parameters,
                                                 const Registry& /*registry*/) {
  return MapConnector::open(batch_limits_of(parameters));
}

}  // namespace

const ConnectorType& map_connector_type() {
  static constexpr ConnectorType kType{
      .name = "map",
      .summary = "An example: values in a map that answers later, as a device does.",
      .example = "map:?in_flight=64MiB",
      .location_parameter = "",
      .parameters = kParameters,
      .open = open_map,
  };
  return kType;
}

}  // namespace larder::example
