#include "larder/connector/common_parameters.h"

#include <charconv>
#include <system_error>

namespace larder {

BatchLimitOptions batch_limits_of(const Parameters& parameters) {
  return {.batches_max = static_cast<std::uint64_t>(parameters.integer("batches_max")),
          .bytes_max = parameters.bytes("in_flight")};
}

std::optional<double> parse_number(std::string_view text) noexcept {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace larder
