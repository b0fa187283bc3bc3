#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "larder/base/histogram.h"
#include "larder/tools/replay.h"

namespace larder::tools {

/// Lines that the reports of all kinds of replay have in common. Each ends with a line feed.

inline double ratio(std::uint64_t part, std::uint64_t whole) noexcept {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}
inline double seconds(std::uint64_t ns) noexcept {
  return static_cast<double>(ns) / 1e9;
}

std::string hit_line(const std::string& name, const HitCount& hit, const HitCount& total);
/// Empty: nothing was recorded.
std::string latency_line(const char* name, const LogLinearHistogram& latency);
/// One line for each code. `name` is the operation's.
std::string failures_text(const std::string& name, const Failures& failures,
                          const std::string& where = {});
double seconds_saved(const ReplayInput& options, const HitCount& hit) noexcept;
/// `busy_ns`: the time of the loads.
std::string saved_text(const ReplayInput& options, const HitCount& hit, std::uint64_t busy_ns);
std::string wrong_bytes_text(std::uint64_t mismatches, const std::string& first);
/// Empty: the whole trace was replayed.
std::string interrupted_text(const std::string& interrupted_by);
/// A line for each.
std::string notes_text(const std::vector<std::string>& notes);

}  // namespace larder::tools
