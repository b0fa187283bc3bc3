#pragma once

#include <nlohmann/json.hpp>

#include "larder/base/histogram.h"
#include "larder/tools/replay.h"

namespace larder::tools {

/// Objects that the JSON reports of all kinds of replay have in common. For the files that make a
/// report: this includes all of nlohmann/json.

nlohmann::json hit_json(const HitCount& hit, const HitCount& total);
/// In nanoseconds, by request.
nlohmann::json latency_json(const LogLinearHistogram& latency);

}  // namespace larder::tools
