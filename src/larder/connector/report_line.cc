#include "larder/connector/report_line.h"

#include "larder/base/size_text.h"
#include "larder/base/version.h"

namespace larder {
namespace {

/// A store in memory is in no place.
std::string subject_of(const Report& report) {
  return (report.where.empty() ? report.type : report.where) + ": ";
}

std::string content_of(const Report& report) {
  std::string text = format_count(report.keys, "key") + ", " + format_bytes(report.bytes_used);
  if (report.capacity_bytes > 0) text += " of " + format_bytes(report.capacity_bytes);
  return text;
}

}  // namespace

std::string opened_line(const Report& report, std::uint64_t took_ns) {
  std::string text = subject_of(report) + "opened in " + format_duration_ns(took_ns) +
                     " by larder " + std::string{version()} + ": " + name_of(report.health) + ", " +
                     content_of(report);
  std::string separator = "; ";
  for (const auto& [name, value] : report.properties) {
    text += separator + name + " " + value;
    separator = ", ";
  }
  for (const std::string& reason : report.reasons) text += "; " + reason;
  return text;
}

std::string closed_line(const Report& report) {
  return subject_of(report) + "closed: " + content_of(report);
}

}  // namespace larder
