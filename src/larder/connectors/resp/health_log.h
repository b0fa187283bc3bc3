#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "larder/base/clock.h"
#include "larder/connector/report.h"

namespace larder::resp {

/// Logs a server's health: a line when it gets worse, with the reasons, and a line when it is
/// healthy again. A server that comes and goes gets each line about once a minute.
///
/// One thread. Costs nothing while the server is healthy and idle.
class HealthLog {
 public:
  /// `where` names the server in each line.
  explicit HealthLog(std::string where) : where_(std::move(where)) {}

  /// Something happened that may have changed the health. A condition that ends within kSettleNs is
  /// not worth a line.
  void note_event(std::uint64_t now_ns) noexcept {
    if (due_ns_ == kNever) due_ns_ = now_ns + kSettleNs;
  }
  /// When look() is worth calling; kNever: after the next event.
  std::uint64_t due_ns() const noexcept { return due_ns_; }
  /// `report` has the health and the reasons of this moment.
  void look(const Report& report, std::uint64_t now_ns);

  static constexpr std::uint64_t kSettleNs = 100'000'000;
  /// Between two checks of a server that is not healthy.
  static constexpr std::uint64_t kLookEveryNs = 1'000'000'000;
  /// Between two lines about the same health.
  static constexpr std::uint64_t kQuietNs = 60'000'000'000;

 private:
  const std::string where_;
  std::uint64_t due_ns_ = kNever;
  Health said_ = Health::kHealthy;                  ///< As of the last line.
  std::array<std::uint64_t, 3> next_line_ns_ = {};  ///< By Health.
};

}  // namespace larder::resp
