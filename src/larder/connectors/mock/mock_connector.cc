#include "larder/connectors/mock/mock_connector.h"

#include <algorithm>
#include <array>
#include <utility>

#include "larder/base/clock.h"
#include "larder/connector/common_parameters.h"
#include "larder/connector/slices.h"

namespace larder::mock {
namespace {

constexpr double kGib = 1 << 30;
constexpr double kNsPerSecond = 1e9;

std::string text_of(std::span<const std::byte> key) {
  return {reinterpret_cast<const char*>(key.data()), key.size()};
}

}  // namespace

/// Takes as long as the bytes would, and ends early at the deadline or a stop.
Status MockBackend::transfer(std::uint64_t bytes, std::uint64_t deadline_ns) {
  State& state = *state_;
  const std::uint64_t begin_ns = RealClock::instance().now_ns();
  const double needed_ns = static_cast<double>(bytes) * kNsPerSecond /
                           static_cast<double>(state.options.bandwidth_bytes_per_s);
  const std::uint64_t end_ns = begin_ns + static_cast<std::uint64_t>(needed_ns);
  const MutexLock lock{state.mutex};
  for (;;) {
    if (state.is_stopping) {
      return Error{ErrorCode::kCancelled, "mock", "the connector was stopped"};
    }
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= end_ns) return {};
    if (now_ns >= deadline_ns) {
      return Error{ErrorCode::kDeadlineExceeded, "mock", "the simulated transfer takes longer"};
    }
    state.stopped.wait_for(state.mutex, std::min(end_ns, deadline_ns) - now_ns);
  }
}

Status MockBackend::get(Connection& /*connection*/, Item& item, const CallOptions& options) {
  std::shared_ptr<const std::vector<std::byte>> value;
  {
    const MutexLock lock{state_->mutex};
    const auto found = state_->values.find(text_of(item.key));
    if (found == state_->values.end()) {
      item.outcome = Outcome::kMiss;
      return {};
    }
    value = found->second.bytes;
  }
  const std::uint64_t room = bytes_of(item.value);
  item.value_bytes = value->size();
  if (value->size() > room || (value->size() < room && !options.allow_shorter)) {
    return Error{ErrorCode::kSizeMismatch, "mock", "the value and the buffer differ in size"};
  }
  LARDER_TRY(transfer(value->size(), options.deadline_ns));
  copy_to_slices(*value, item.value);
  item.outcome = Outcome::kHit;
  return {};
}

Status MockBackend::set(Connection& /*connection*/, Item& item, const CallOptions& options) {
  State& state = *state_;
  std::string key = text_of(item.key);
  item.outcome = Outcome::kDone;
  const bool replace = options.set_mode == SetMode::kReplace;
  {
    const MutexLock lock{state.mutex};
    item.existed = !replace && state.values.contains(key);
  }
  if (item.existed) return {};
  auto value = std::make_shared<std::vector<std::byte>>(bytes_of(item.value));
  copy_from_slices(*value, item.value);
  const std::uint64_t bytes = value->size();
  LARDER_TRY(transfer(bytes, options.deadline_ns));
  const MutexLock lock{state.mutex};
  const auto [place, is_new] = state.values.try_emplace(std::move(key));
  Value& stored = place->second;
  const std::uint64_t replaced = is_new ? 0 : stored.bytes->size();
  if (state.bytes_used - replaced + bytes > state.options.capacity_bytes) {
    if (is_new) state.values.erase(place);
    ++state.refused_total;
    return Error{ErrorCode::kResourceExhausted, "mock", "it is full, and evicts nothing"};
  }
  state.bytes_used += bytes - replaced;
  stored.bytes = std::move(value);
  if (is_new) {
    stored.age = ++state.last_age;
    state.by_age.emplace(stored.age, &place->first);
  }
  return {};
}

Status MockBackend::exists(Connection& /*connection*/, Item& item, const CallOptions& /*options*/) {
  const MutexLock lock{state_->mutex};
  const auto found = state_->values.find(text_of(item.key));
  item.outcome = found == state_->values.end() ? Outcome::kMiss : Outcome::kHit;
  if (found != state_->values.end()) item.value_bytes = found->second.bytes->size();
  return {};
}

Status MockBackend::remove(Connection& /*connection*/, Item& item, const CallOptions& /*options*/) {
  State& state = *state_;
  const MutexLock lock{state.mutex};
  const auto found = state.values.find(text_of(item.key));
  item.outcome = found == state.values.end() ? Outcome::kMiss : Outcome::kDone;
  if (found == state.values.end()) return {};
  state.bytes_used -= found->second.bytes->size();
  state.by_age.erase(found->second.age);
  state.values.erase(found);
  return {};
}

Status MockBackend::touch(Connection& /*connection*/, Item& item, const CallOptions& /*options*/) {
  const MutexLock lock{state_->mutex};
  item.outcome = state_->values.contains(text_of(item.key)) ? Outcome::kDone : Outcome::kMiss;
  return {};
}

void MockBackend::stop() noexcept {
  const MutexLock lock{state_->mutex};
  state_->is_stopping = true;
  state_->stopped.notify_all();
}

void MockBackend::append_report(Report& report) const {
  const MutexLock lock{state_->mutex};
  report.keys = state_->values.size();
  report.bytes_used = state_->bytes_used;
  report.counters.push_back({"sets_refused_total", state_->refused_total});
}

ScanPage MockBackend::scan(ScanCursor from, std::size_t keys_max) const {
  const State& state = *state_;
  const MutexLock lock{state.mutex};
  // words[0]: the age that was seen last; words[1]: the youngest when the scan began.
  if (from.words[1] == 0) from.words[1] = state.last_age;
  ScanPage page;
  page.next = from;
  auto next = state.by_age.upper_bound(from.words[0]);
  const auto end = state.by_age.upper_bound(from.words[1]);
  for (; next != end && page.entries.size() < keys_max; ++next) {
    page.entries.push_back({*next->second, state.values.at(*next->second).bytes->size()});
    page.next.words[0] = next->first;
  }
  page.done = next == end;
  return page;
}

SetupResult<std::unique_ptr<Connector>> MockConnector::create(const MockOptions& options,
                                                              const BatchLimitOptions& limits) {
  WorkerPoolOptions pool_options;
  pool_options.scheduler.name = "larder-mock";
  // One transfer at a time in each direction: together they have the bandwidth.
  pool_options.scheduler.workers = {1, 1, 1};
  pool_options.scheduler.intake.limits = limits;
  LARDER_ASSIGN(auto pool, WorkerPool<MockBackend>::create(MockBackend{options}, pool_options));
  return std::unique_ptr<Connector>{new MockConnector{std::move(pool), options}};
}

Capabilities MockConnector::capabilities() const noexcept {
  Capabilities capabilities;
  capabilities.value_bytes_max = kValueBytesMax;
  capabilities.locality = Locality::kMemory;
  capabilities.has_scan = true;
  return capabilities;
}

Report MockConnector::report() const {
  Report report;
  report.type = connector_type().name;
  report.capacity_bytes = options_.capacity_bytes;
  report.locality = Locality::kMemory;
  pool().backend().append_report(report);
  pool().append_report(report);
  return report;
}

Result<ScanPage> MockConnector::scan(ScanCursor from, std::size_t keys_max) {
  return pool().backend().scan(from, keys_max);
}

Status MockConnector::stop(std::uint64_t deadline_ns) noexcept {
  pool().backend().stop();
  return pool().stop(deadline_ns);
}

namespace {

constexpr std::array kParameters{
    Parameter{.name = "max_size_gb",
              .help =
                  "GiB of values that fit, as in 0.5 or 4; nothing is evicted, what does not fit "
                  "is refused.",
              .is_required = true,
              .example = "4"},
    Parameter{.name = "mock_bandwidth_gb",
              .help = "Simulated GiB a second of loads together, and of stores together.",
              .is_required = true,
              .example = "10"},
    kBatchesMaxParameter,
    kInFlightParameter,
};

SetupResult<std::uint64_t> parse_gib(const Parameters& parameters, std::string_view name) {
  constexpr double kMost = 1 << 20;
  const std::string& text = parameters.text(name);
  const auto gib = parse_number(text);
  if (gib && *gib > 0 && *gib <= kMost && *gib * kGib >= 1) {
    return static_cast<std::uint64_t>(*gib * kGib);
  }
  return SetupError{ErrorCode::kInvalidArgument,
                    "mock: " + std::string{name} + " is '" + text +
                        "'; it must be a number above 0, as in 0.5 or 4"};
}

SetupResult<std::unique_ptr<Connector>> open(const ConnectorType& /*type*/,
                                             const Parameters& parameters,
                                             const Registry& /*registry*/) {
  MockOptions options;
  LARDER_ASSIGN(options.capacity_bytes, parse_gib(parameters, "max_size_gb"));
  LARDER_ASSIGN(options.bandwidth_bytes_per_s, parse_gib(parameters, "mock_bandwidth_gb"));
  return MockConnector::create(options, batch_limits_of(parameters));
}

constexpr MetricRow kMetrics[] = {
    {"sets_refused_total", MetricKind::kCounter, "Stores that found no room."},
    {"connections", MetricKind::kGauge, "Workers that can work."},
    {"connect_failures_total", MetricKind::kCounter, "Attempts to make one that failed."},
};

}  // namespace

const ConnectorType& connector_type() {
  static constexpr ConnectorType kType{
      .name = "mock",
      .summary = "LMCache's mock: values in memory behind a simulated bandwidth, for tests.",
      .example = "mock:?max_size_gb=4&mock_bandwidth_gb=10",
      .location_parameter = "",
      .parameters = kParameters,
      .metrics = kMetrics,
      .open = open,
  };
  return kType;
}

}  // namespace larder::mock
