#include "larder/connectors/resp/health_log.h"

#include <algorithm>

#include "larder/base/logging.h"

namespace larder::resp {

void HealthLog::look(const Report& report, std::uint64_t now_ns) {
  const Health health = report.health;
  due_ns_ = health == Health::kHealthy ? kNever : now_ns + kLookEveryNs;
  if (health == said_) return;
  if (health == Health::kHealthy) {
    said_ = health;
    return announce("resp", where_ + ": is healthy again");
  }
  std::uint64_t& next_ns = next_line_ns_.at(static_cast<std::size_t>(std::max(health, said_)));
  if (now_ns < next_ns) return;
  next_ns = now_ns + kQuietNs;
  said_ = health;
  std::string line = where_ + ": " + name_of(health);
  const char* separator = ": ";
  for (const std::string& reason : report.reasons) {
    line += separator + reason;
    separator = "; ";
  }
  log(LogLevel::kWarning, "resp", line);
}

}  // namespace larder::resp
