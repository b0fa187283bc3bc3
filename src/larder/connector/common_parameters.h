#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "larder/connector/batch_limits.h"
#include "larder/connector/parameters.h"

namespace larder {

// Rows of an intake's options, the same for every type that has them.
inline constexpr Parameter kBatchesMaxParameter{
    .name = "batches_max",
    .kind = ParameterKind::kInteger,
    .default_text = "4096",
    .minimum = "1",
    .maximum = "1048576",
    .help = "Batches in flight, of lookups, loads and stores each; more wait or are refused."};
inline constexpr Parameter kInFlightParameter{
    .name = "in_flight",
    .kind = ParameterKind::kBytes,
    .default_text = "4GiB",
    .minimum = "1",
    .help = "Value bytes in flight, of loads and stores each; more wait or are refused."};
inline constexpr Parameter kMissAfterFailureParameter{
    .name = "miss_after_failure",
    .kind = ParameterKind::kDuration,
    .default_text = "30s",
    .minimum = "1ms",
    .maximum = "1h",
    .help = "A key whose load was late, or could not be asked for, is a miss for so long."};

/// The values of kBatchesMaxParameter and kInFlightParameter.
BatchLimitOptions batch_limits_of(const Parameters& parameters);

/// The row `create` of types that keep files in a directory; see NewDirectories.
inline constexpr Parameter kCreateParameter{
    .name = "create",
    .kind = ParameterKind::kBool,
    .default_text = "yes",
    .help =
        "Make the directory, and what is missing above it, where it does not exist (0700). no: "
        "refuse, so that a disk that is not mounted is an error and not an empty cache on the "
        "disk below."};

/// A note for a capacity that is larger than the whole file system; else empty. Shown once in the
/// log and by report().
std::string larger_than_file_system(std::uint64_t capacity_bytes, std::uint64_t total_bytes);

/// Parses a whole text as a decimal number, such as 0.5 or 200, for parameters whose unit is
/// LMCache's own; empty when it is not one. The caller bounds it, also against "nan" and "inf".
std::optional<double> parse_number(std::string_view text) noexcept;

}  // namespace larder
