#pragma once

#include <optional>
#include <string>

#include "larder/tools/scrape.h"

namespace larder::tools {

// Numbers in the tables of `larder top`: short, and "-" for none. All are pure.

std::string percent_text(std::optional<double> share);
/// "987", "1.23 k", "45.6 M".
std::string count_text(std::optional<double> count);
/// "1.23 GB/s".
std::string byte_rate_text(std::optional<double> bytes_per_s);
/// The same with its sign.
std::string change_text(std::optional<double> bytes_per_s);
/// "1.37 GiB"; anything that a double can be.
std::string bytes_text(double bytes);
/// "1.37 ms", or ">1 min" above the last bound.
std::string latency_text(std::optional<Quantile> seconds);
/// "12 s", "3 min", "3 h 12 min", "2 d 3 h".
std::string while_text(std::optional<double> seconds);

}  // namespace larder::tools
