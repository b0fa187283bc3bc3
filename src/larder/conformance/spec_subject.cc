#include "larder/conformance/spec_subject.h"

#include <algorithm>
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

SetupError refused(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, "conformance: " + std::move(text)};
}

/// One spec of a subject, and what its opens have in common.
struct Place {
  const Registry& registry;
  std::string spec;
  bool is_limited = false;
  bool is_ours = false;  ///< It was empty once: what is there now, cases have left.
  std::uint64_t opens = 0;

  bool has_number() const { return spec.find(kNumber) != std::string::npos; }
  Opened open() const;
  Opened open_empty();
};

Opened Place::open() const {
  std::string text = spec;
  for (std::size_t at = 0; (at = text.find(kNumber, at)) != std::string::npos;) {
    text.replace(at, kNumber.size(), std::to_string(opens));
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
  ++opens;
  LARDER_ASSIGN(auto connector, open());
  std::vector<std::string> keys;
  if (connector->capabilities().has_scan) {
    LARDER_ASSIGN(keys, keys_of(*connector));
  }
  const std::uint64_t count = std::max<std::uint64_t>(keys.size(), connector->report().keys);
  if (count == 0) {
    is_ours = true;
    return connector;
  }
  if (!is_ours || has_number()) {
    LARDER_TRY(close(std::move(connector)));
    return refused("the store holds " + std::to_string(count) +
                   " keys, and every case deletes what it finds; name one that is empty");
  }
  if (keys.empty()) {
    LARDER_TRY(close(std::move(connector)));
    return refused(
        "the store keeps its keys and does not list them, so they cannot be deleted between two "
        "cases; write {} where each open may have a place of its own, as in shelf:/tmp/c/{}");
  }
  // Opened again, so that its counters begin at zero.
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

/// Whether what it accepts has ended when submit() returns, so that nothing is in flight that could
/// be limited. A thread that has to be woken is not done by then, of many times not every time.
bool ends_in_submit(Connector& connector) {
  constexpr int kTimes = 64;
  const std::byte key{};
  for (int i = 0; i < kTimes; ++i) {
    Item item;
    item.key = {&key, 1};
    Batch batch;
    batch.items = {&item, 1};
    batch.op = Op::kExists;
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
  const bool has_queue = !ends_in_submit(*connector);
  LARDER_TRY(close(std::move(connector)));

  subject.open = opener(place);
  if (survives) {
    subject.reopen = [place] { return place->open(); };
  } else {
    made.untested.emplace_back("reopening: capabilities() says that nothing survives it");
  }
  if (!has_queue) {
    made.untested.emplace_back("limits: a batch has ended when submit() returns");
  } else if (has_limits(registry, spec)) {
    auto limited = std::make_shared<Place>(*place);
    limited->is_limited = true;
    // Numbers of its own, as another place's files stay.
    limited->opens = std::uint64_t{1} << 20;
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
