#include "larder/tools/replay_json.h"

#include "larder/tools/replay_text.h"

namespace larder::tools {

nlohmann::json hit_json(const HitCount& hit, const HitCount& total) {
  return {{"blocks", hit.blocks},
          {"tokens", hit.tokens},
          {"rate_of_blocks", ratio(hit.blocks, total.blocks)},
          {"rate_of_tokens", ratio(hit.tokens, total.tokens)}};
}

nlohmann::json latency_json(const LogLinearHistogram& latency) {
  return {{"requests", latency.count()},
          {"p50", latency.quantile(0.5)},
          {"p90", latency.quantile(0.9)},
          {"p99", latency.quantile(0.99)},
          {"max", latency.max()}};
}

}  // namespace larder::tools
