#include "larder/conformance/spec_subject.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "larder/base/clock.h"
#include "larder/connector/blocking_client.h"

namespace larder::conformance {
namespace {

using Opened = SetupResult<std::unique_ptr<Connector>>;

constexpr std::string_view kNumber = "{}";
constexpr std::uint64_t kPatienceNs = 60'000'000'000;

/// The number for `{}`: the time, so that no other open has it, also in later runs.
std::uint64_t new_number() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::nanoseconds{now}.count());
}

SetupError refused(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, "conformance: " + std::move(text)};
}

/// One spec of a subject, and the state that its opens share.
struct Place {
  const Registry& registry;
  std::string spec;
  bool is_limited = false;
  bool is_ours = false;      ///< It was empty once, so any keys in it are from cases.
  std::uint64_t number = 0;  ///< What stands for `{}` in the last open.

  bool has_number() const { return spec.find(kNumber) != std::string::npos; }
  Opened open() const;
  Opened open_empty();
};

Opened Place::open() const {
  std::string text = spec;
  for (std::size_t at = 0; (at = text.find(kNumber, at)) != std::string::npos;) {
    text.replace(at, kNumber.size(), std::to_string(number));
  }
  LARDER_ASSIGN(Spec parsed, Spec::parse(text));
  if (is_limited) {
    parsed.set("batches_max", std::to_string(kLimitedBatches));
    parsed.set("in_flight", std::to_string(kLimitedBytes));
  }
  LARDER_ASSIGN(auto connector, registry.open(parsed));
  wait_until_counted(*connector);
  return connector;
}

/// Every key, by a scan.
SetupResult<std::vector<std::string>> keys_of(Connector& connector) {
  std::vector<std::string> keys;
  ScanCursor cursor;
  for (bool is_done = false; !is_done;) {
    const auto page = connector.scan(cursor, 1024);
    if (!page) return SetupError{page.error().code(), page.error().to_string()};
    for (const auto& entry : page->entries) keys.push_back(entry.key);
    cursor = page->next;
    is_done = page->done;
  }
  return keys;
}

SetupStatus remove_all(Connector& connector, const std::vector<std::string>& keys) {
  BlockingClient client{connector};
  for (const std::string& key : keys) {
    if (const auto removed = client.remove(key); !removed) {
      return SetupError{removed.error().code(),
                        "conformance: deleting what a case left: " + removed.error().to_string()};
    }
  }
  return {};
}

SetupStatus close(std::unique_ptr<Connector> connector) {
  const Status stopped = connector->stop(RealClock::instance().now_ns() + kPatienceNs);
  if (stopped) return {};
  static_cast<void>(connector.release());  // It may not be destroyed while something is in flight.
  return SetupError{stopped.error().code(),
                    "conformance: the connector does not stop: " + stopped.error().to_string()};
}

/// Opens it without a key.
Opened Place::open_empty() {
  number = new_number();
  LARDER_ASSIGN(auto connector, open());
  const Capabilities can = connector->capabilities();
  if (can.survives_restart && !can.has_scan && !has_number()) {
    LARDER_TRY(close(std::move(connector)));
    return refused(
        "the store keeps its keys and cannot list them, so they cannot be deleted between two "
        "cases; write {} into the spec where each open may put a number, as in shelf:/tmp/c/{}");
  }
  std::vector<std::string> keys;
  if (can.has_scan) {
    LARDER_ASSIGN(keys, keys_of(*connector));
  }
  const std::uint64_t count = std::max<std::uint64_t>(keys.size(), connector->report().keys);
  if (count == 0) {
    is_ours = true;
    return connector;
  }
  if (!is_ours || has_number() || keys.empty()) {
    LARDER_TRY(close(std::move(connector)));
    return refused("the store holds " + std::to_string(count) +
                   " keys, and every case deletes what it finds; name an empty store");
  }
  // Open it again, so that its counters begin at zero.
  LARDER_TRY(remove_all(*connector, keys));
  LARDER_TRY(close(std::move(connector)));
  return open();
}

/// Whether the type has the parameters that limit what is in flight.
bool has_limits(const Registry& registry, const std::string& spec) {
  const auto parsed = Spec::parse(spec);
  const ConnectorType* const type = parsed ? registry.find(parsed->type()) : nullptr;
  return type != nullptr && std::ranges::count_if(type->parameters, [](const Parameter& row) {
                              return row.name == "batches_max" || row.name == "in_flight";
                            }) == 2;
}

/// True if stores end before submit() returns, so that nothing is ever in flight that a limit could
/// refuse. A connector with a thread misses that at least once in many tries. Leaves a key behind.
/// (Lookups prove nothing: many connectors answer them from memory in submit().)
bool ends_in_submit(Connector& connector) {
  constexpr int kTimes = 64;
  std::byte byte{};
  const Slice slice{&byte, 1};
  for (int i = 0; i < kTimes; ++i) {
    Item item;
    item.key = {&byte, 1};
    item.value = {&slice, 1};
    Batch batch;
    batch.items = {&item, 1};
    batch.op = Op::kSet;
    batch.set_mode = SetMode::kReplace;
    Batch* done = nullptr;
    if (!connector.submit(batch)) return false;
    if (connector.reap({&done, 1}) == 1) continue;
    while (connector.reap({&done, 1}) == 0) std::this_thread::yield();
    return false;
  }
  return true;
}

Open opener(std::shared_ptr<Place> place) {
  return [place = std::move(place)] { return place->open_empty(); };
}

}  // namespace

SetupResult<SpecSubject> subject_of_spec(const Registry& registry, const std::string& spec,
                                         const std::string& small_spec) {
  auto place = std::make_shared<Place>(Place{.registry = registry, .spec = spec});
  SpecSubject made;
  Subject& subject = made.subject;
  LARDER_ASSIGN(auto connector, place->open_empty());
  subject.name = connector->report().type;
  const bool survives = connector->capabilities().survives_restart;
  const bool is_remote = connector->capabilities().locality == Locality::kRemote;
  const bool has_queue = !ends_in_submit(*connector);
  LARDER_TRY(remove_all(*connector, {std::string(1, '\0')}));
  LARDER_TRY(close(std::move(connector)));

  subject.open = opener(place);
  if (survives && is_remote) {
    made.untested.emplace_back(
        "reopening: the report of a remote store counts what this process has stored");
  } else if (survives) {
    subject.reopen = [place] { return place->open(); };
  } else {
    made.untested.emplace_back("reopening: capabilities() says that nothing survives it");
  }
  if (!has_queue) {
    made.untested.emplace_back("limits: a batch has ended when submit() returns");
  } else if (has_limits(registry, spec)) {
    auto limited = std::make_shared<Place>(*place);
    limited->is_limited = true;
    subject.open_limited = opener(limited);
  } else {
    made.untested.emplace_back("limits: the type has no parameters batches_max and in_flight");
  }
  if (small_spec.empty()) {
    made.untested.emplace_back(
        "a full connector: --small SPEC names one with as little capacity as it can have");
  } else {
    subject.open_small =
        opener(std::make_shared<Place>(Place{.registry = registry, .spec = small_spec}));
  }
  made.untested.emplace_back(
      "damaged values: only a subject in C++ can change a value behind the connector's back");
  return made;
}

void wait_until_counted(const Connector& connector) {
  const std::uint64_t give_up_ns = RealClock::instance().now_ns() + kPatienceNs;
  const auto is_counting = [&] {
    const Report report = connector.report();
    return std::ranges::any_of(report.properties, [](const auto& property) {
      return property.first.ends_with("counted") && property.second == "no";
    });
  };
  while (is_counting() && RealClock::instance().now_ns() < give_up_ns) std::this_thread::yield();
}

}  // namespace larder::conformance
