#pragma once

#include <cstdint>
#include <string>

#include "larder/connector/report.h"

namespace larder {

// One log line for a connector that was opened or closed, in the same form for every type. It is
// made from the report, which has no secrets.

/// "/data/kv: opened in 420 ms by larder 0.1.0: healthy, 12031 keys, 3.20 GiB of 500 GiB; io uring,
/// direct yes, ...". `took_ns`: of the opening. Reasons follow where there are some.
std::string opened_line(const Report& report, std::uint64_t took_ns);
/// "/data/kv: closed: 12031 keys, 3.20 GiB of 500 GiB".
std::string closed_line(const Report& report);

}  // namespace larder
