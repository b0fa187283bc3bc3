#pragma once

#include <memory>

#include "larder/tools/bench_ceiling.h"

namespace larder::tools {

/// The simplest client that can be written for the server of a `resp` spec: as many connections as
/// the connector has, a thread and one request at a time on each, straight from and to memory, as
/// LMCache's own client does it; its answers are not checked beyond their length. For loads it
/// stores its values first; stores use new keys each time. At the end it removes its keys.
/// Null for modes and transports that it does not speak (mixed, exists, TLS).
SetupResult<std::unique_ptr<BenchCeiling>> make_resp_ceiling(const BenchOptions& options,
                                                             std::uint64_t value_bytes,
                                                             std::uint64_t keys);

}  // namespace larder::tools
