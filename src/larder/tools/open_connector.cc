#include "larder/tools/open_connector.h"

#include "larder/base/clock.h"
#include "larder/base/logging.h"
#include "larder/connector/report_line.h"
#include "larder/connectors/builtin.h"

namespace larder::tools {

SetupResult<std::unique_ptr<Connector>> open_connector(const std::string& spec) {
  const Clock& clock = RealClock::instance();
  const std::uint64_t begin_ns = clock.now_ns();
  LARDER_ASSIGN(std::unique_ptr<Connector> connector, builtin_registry().open(spec));
  const Report report = connector->report();
  log(LogLevel::kInfo, report.type, opened_line(report, clock.now_ns() - begin_ns));
  return connector;
}

SetupStatus stop_connector(Connector& connector) {
  constexpr std::uint64_t kPatienceNs = 30'000'000'000;
  const Status status = connector.stop(RealClock::instance().now_ns() + kPatienceNs);
  const Report report = connector.report();
  log(LogLevel::kInfo, report.type, closed_line(report));
  if (status) return {};
  return SetupError{status.error().code(),
                    "the connector did not stop cleanly: " + status.error().to_string()};
}

}  // namespace larder::tools
