#include "larder/base/logging.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>

#include "larder/base/key_text.h"

namespace larder {
namespace {

constexpr std::array<std::string_view, 5> kNames{"debug", "info", "warning", "error", "off"};
constexpr LogLevel kDefaultLevel = LogLevel::kWarning;

spdlog::level::level_enum library_level(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

/// A logger of larder's own, outside spdlog's registry: the application may use spdlog as well.
spdlog::logger& logger() {
  // Never destroyed, because threads may log while the process ends.
  static spdlog::logger& instance = *[] {
    auto made = std::make_unique<spdlog::logger>("larder",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%d %H:%M:%S.%e %L %v");
    made->set_level(spdlog::level::trace);  // The level is decided before it comes here.
    return made.release();
  }();
  return instance;
}

void write(LogLevel level, std::string_view module, std::string_view message) noexcept {
  try {
    logger().log(library_level(level), "[{}] {}", printable(module), printable(message));
  } catch (...) {
    // A line that cannot be written, for want of memory, is lost: logging must not fail its caller.
    return;
  }
}

/// Whether the level was chosen, and is not the default.
std::atomic<bool>& is_level_chosen() noexcept {
  static std::atomic<bool> is_chosen = false;
  return is_chosen;
}

LogLevel level_from_environment() noexcept {
  const char* text = std::getenv("LARDER_LOG");
  if (text == nullptr || *text == '\0') return kDefaultLevel;
  if (const auto level = parse_log_level(text)) {
    is_level_chosen().store(true, std::memory_order_relaxed);
    return *level;
  }
  write(LogLevel::kWarning, "log",
        "LARDER_LOG is none of debug, info, warning, error, off; using warning");
  return kDefaultLevel;
}

std::atomic<LogLevel>& current_level() noexcept {
  static std::atomic<LogLevel> level = level_from_environment();
  return level;
}

}  // namespace

void log(LogLevel level, std::string_view module, std::string_view message) noexcept {
  if (is_logged(level)) write(level, module, message);
}

void announce(std::string_view module, std::string_view message) noexcept {
  const bool is_shown =
      is_logged(LogLevel::kInfo) || !is_level_chosen().load(std::memory_order_relaxed);
  if (is_shown) write(LogLevel::kInfo, module, message);
}

bool is_logged(LogLevel level) noexcept {
  return level != LogLevel::kOff && level >= current_level().load(std::memory_order_relaxed);
}

LogLevel log_level_now() noexcept {
  return current_level().load(std::memory_order_relaxed);
}

std::string_view name_of(LogLevel level) noexcept {
  return kNames[static_cast<std::size_t>(level)];
}

void set_log_level(LogLevel level) noexcept {
  is_level_chosen().store(true, std::memory_order_relaxed);
  current_level().store(level, std::memory_order_relaxed);
}

std::optional<LogLevel> parse_log_level(std::string_view text) noexcept {
  const auto lower = [](char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (std::ranges::equal(text, kNames[i], {}, lower)) return static_cast<LogLevel>(i);
  }
  return std::nullopt;
}

std::optional<std::uint64_t> LogLimiter::allow(std::uint64_t now_ns) noexcept {
  std::uint64_t next = next_ns_.load(std::memory_order_relaxed);
  // Only the thread that advances the time may log.
  if (now_ns < next ||
      !next_ns_.compare_exchange_strong(next, now_ns + interval_ns_, std::memory_order_relaxed)) {
    suppressed_.fetch_add(1, std::memory_order_relaxed);
    return std::nullopt;
  }
  return suppressed_.exchange(0, std::memory_order_relaxed);
}

}  // namespace larder
