#include "larder/server/l2_connectors.h"

#include <algorithm>
#include <utility>

#include "larder/base/clock.h"
#include "larder/base/logging.h"
#include "larder/connector/report_line.h"

namespace larder::server {
namespace {

/// For connectors that were never used.
constexpr std::uint64_t kStopUnusedNs = 10'000'000'000;

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

}  // namespace

SetupResult<std::unique_ptr<L2Connectors>> L2Connectors::open(const ServerOptions& options,
                                                              const Registry& registry) {
  std::unique_ptr<L2Connectors> connectors{new L2Connectors};
  for (const L2Adapter& adapter : options.l2_adapters) {
    LARDER_TRY(connectors->open_one(adapter, registry));
  }
  return connectors;
}

SetupStatus L2Connectors::open_one(const L2Adapter& adapter, const Registry& registry) {
  const std::uint64_t begin_ns = now_ns();
  auto connector = registry.open(adapter.spec);
  if (!connector) {
    return SetupError{connector.error().code,
                      "--l2-adapter " + adapter.shown + ": " + connector.error().text};
  }
  const Report report = (*connector)->report();
  announce(report.type, opened_line(report, now_ns() - begin_ns));
  const ConnectorType* const type = registry.find(adapter.spec.type());
  all_.push_back({.spec = adapter.shown,
                  .name = name_of(adapter.spec.type()),
                  .metrics = type == nullptr ? std::span<const MetricRow>{} : type->metrics,
                  .connector = connector->get()});
  tiers_.push_back({.connector = *std::move(connector), .options = adapter.options});
  return {};
}

std::string L2Connectors::name_of(const std::string& type) const {
  std::string name = type;
  for (std::size_t number = 2; std::ranges::find(all_, name, &One::name) != all_.end(); ++number) {
    name = type + "#" + std::to_string(number);
  }
  return name;
}

L2Connectors::~L2Connectors() {
  if (tiers_.empty() || stop(now_ns() + kStopUnusedNs)) return;
  for (cache::Tier& tier : tiers_) (void)tier.connector.release();  // NOLINT: see stop().
}

std::vector<Connector*> L2Connectors::all() const {
  std::vector<Connector*> connectors;
  for (const One& one : all_) connectors.push_back(one.connector);
  return connectors;
}

std::vector<TierStatus> L2Connectors::status() const {
  std::vector<TierStatus> tiers;
  for (const One& one : all_) {
    Report report = one.connector->report();
    std::string type = report.type;
    tiers.push_back({.spec = one.spec,
                     .type = std::move(type),
                     .name = one.name,
                     .report = std::move(report),
                     .metrics = one.metrics});
  }
  return tiers;
}

std::vector<cache::Tier> L2Connectors::take_tiers() {
  return std::exchange(tiers_, {});
}

bool L2Connectors::stop(std::uint64_t deadline_ns) {
  bool is_clean = true;
  for (const One& one : all_) {
    const Status status = one.connector->stop(deadline_ns);
    const Report report = one.connector->report();
    announce(report.type, closed_line(report));
    if (status) continue;
    is_clean = false;
    log(LogLevel::kError, "server",
        one.spec + " did not stop (" + status.error().to_string() +
            "): its device or peer still has what was asked of it, and is left to it");
  }
  return is_clean;
}

}  // namespace larder::server
