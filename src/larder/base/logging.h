#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

namespace larder {

enum class LogLevel : std::uint8_t { kDebug = 0, kInfo, kWarning, kError, kOff };

/// One line on stderr: "2026-01-31 12:00:00.123 W [module] message". The message goes through
/// printable(), so that data can neither forge a line nor drive a terminal. Below the level it
/// costs one relaxed load. The level comes from LARDER_LOG (debug, info, warning, error, off); the
/// default is warning, because larder is a library in another program's process. Any thread.
void log(LogLevel level, std::string_view module, std::string_view message) noexcept;

/// A line at level info that the default level shows too: an event that the operator of a service
/// wants to read once, such as that a store was opened. Silenced by a level above info that
/// LARDER_LOG or set_log_level() asks for. Any thread.
void announce(std::string_view module, std::string_view message) noexcept;

/// Ask before building an expensive message.
bool is_logged(LogLevel level) noexcept;

/// Sets the level and overrides LARDER_LOG.
void set_log_level(LogLevel level) noexcept;

/// The lowest level that is written; kOff when no level is.
LogLevel log_level_now() noexcept;
/// "debug", "info", "warning", "error" or "off".
std::string_view name_of(LogLevel level) noexcept;

/// "debug", "info", "warning", "error", "off", in any case; nothing for other texts.
std::optional<LogLevel> parse_log_level(std::string_view text) noexcept;

/// Lets one message through per interval and counts the others. One per place in the code that
/// could flood the log. Any thread.
class LogLimiter {
 public:
  explicit LogLimiter(std::uint64_t interval_ns) noexcept : interval_ns_(interval_ns) {}

  /// Nothing: do not log. A number: write, and say that this many were left out since the last one.
  std::optional<std::uint64_t> allow(std::uint64_t now_ns) noexcept;

 private:
  const std::uint64_t interval_ns_;
  std::atomic<std::uint64_t> next_ns_ = 0;
  std::atomic<std::uint64_t> suppressed_ = 0;
};

}  // namespace larder
