#include "larder/tools/stop_connector.h"

#include "larder/base/clock.h"

namespace larder::tools {

SetupStatus stop_connector(Connector& connector) {
  constexpr std::uint64_t kPatienceNs = 30'000'000'000;
  const Status status = connector.stop(RealClock::instance().now_ns() + kPatienceNs);
  if (status) return {};
  return SetupError{status.error().code(),
                    "the connector did not stop cleanly: " + status.error().to_string()};
}

}  // namespace larder::tools
