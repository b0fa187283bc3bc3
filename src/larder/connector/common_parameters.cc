#include "larder/connector/common_parameters.h"

#include <charconv>
#include <system_error>

#include "larder/base/size_text.h"

namespace larder {

BatchLimitOptions batch_limits_of(const Parameters& parameters) {
  return {.batches_max = static_cast<std::uint64_t>(parameters.integer("batches_max")),
          .bytes_max = parameters.bytes("in_flight")};
}

std::string larger_than_file_system(std::uint64_t capacity_bytes, std::uint64_t total_bytes) {
  if (capacity_bytes <= total_bytes) return {};
  return "capacity=" + format_bytes_exact(capacity_bytes) +
         " is more than the whole file system (" + format_bytes(total_bytes) +
         "): it is never reached, and other files have no room";
}

std::optional<double> parse_number(std::string_view text) noexcept {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace larder
