#include <fmt/format.h>

#include "larder/server/metrics_table.h"
#include "larder/server/metrics_text.h"

namespace larder::server {
namespace {

constexpr std::string_view kIntroduction =
    R"(# Metrics of `larder server`

`larder server` answers `GET /metrics` with Prometheus text at `--http-host` and `--http-port`. With `--metrics-port` it serves the same page, and
nothing else, at `--metrics-host` and that port, so that Prometheus need not reach the rest. `larder server --metrics-markdown` writes this page.

The page has, in this order:

- **larder's own** metrics, listed first below;
- **those of LMCache's server** that [LMCache's Grafana dashboard](https://github.com/LMCache/LMCache/tree/dev/examples/observability) reads, under their
  names and with the label `service_instance_id` (`--instance-id`), so that such a dashboard works. `--no-lmcache-metrics` leaves them out;
- for each store behind L1 **the metrics of its connector**, which [metrics.md](metrics.md) lists. Their labels are `type` and `where`;
  `larder_server_tier_info` says which `tier` that is.

All of them are there from the start, at zero; where a label's values are not known yet (a model, a salt, a worker), there is one sample with empty ones.
A scrape asks the thread that answers clients for its numbers. If that does not answer within a second, the last numbers are shown, and
`larder_engine_stall_seconds` says for how long it has not answered. A scrape costs that thread no more than the numbers themselves: it walks no chunks.

Tokens are counted in whole chunks. An object is one chunk on one rank, and of one group of layers where a model has several. `cache_salt` and
`model_name` are what clients send: at most 100 pairs of them (and of salts alone) are counted on their own, in the order in which they came, and
all further ones as `other`; a text is cut at 128 bytes, and what is not printable stands as `\xNN`.

[examples/observability](../examples/observability/README.md) has a dashboard for Grafana and rules for alerts.

## A token that missed
`larder_engine_missed_tokens_total` has one of these reasons:

| reason | meaning |
|---|---|
| `never_stored` | it was not stored, or so long ago that larder does not remember it |
| `evicted` | it was in L1 lately, and no store has it: L1 is too small for what comes back, or there is no L2 |
| `failed` | its load failed on every store that has it |
| `late` | its load did not end within `--l2-load-timeout-seconds` |
| `down` | a store that may have it did not answer |
| `trimmed` | it is there, but L1 had no room to lock or load it |
| `other_layout` | it is there, but in another size: the model was registered with other layers or types |

## larder's own

| metric | kind | meaning |
|---|---|---|
)";

constexpr std::string_view kOfLmcache =
    R"(
## LMCache's names

| metric | kind | meaning |
|---|---|---|
)";

constexpr std::string_view kLeftOut =
    R"(
These metrics of LMCache's server are left out:

| metric | why |
|---|---|
| `lmcache_mp_event_bus_*` | there is no event bus |
| `lmcache_mp_l0_block_*` | larder does not follow the engine's own blocks |
| `lmcache_mp_real_reuse_gap_objects` | uses are not counted by salt |
| `lmcache_mp_l1_staging_bytes`, `lmcache_mp_l2_store_adapters`, `lmcache_mp_l2_prefetch_adapters` | L1 has no staging objects, and stores do not come and go |
| `lmcache_mp_lookup_hit_l1_keys_total`, `lmcache_mp_lookup_hit_l2_keys_total` | hits are counted in tokens |
| `lmcache_mp_active_p2p_lookup_jobs` | larder has no peers |
| `lmcache_mp_cb_*`, `python_*`, `process_*` | no CacheBlend, no Python; the process's own numbers come from the system |
)";

std::string table(std::span<const ServerMetric> metrics) {
  std::string text;
  for (const ServerMetric& metric : metrics) {
    const std::string labels = metric.labels.empty() ? "" : fmt::format("{{{}}}", metric.labels);
    text += fmt::format("| `{}{}` | {} | {} |\n", metric.name, labels,
                        metric_kind_name(metric.kind), metric.help);
  }
  return text;
}

}  // namespace

std::string metrics_markdown() {
  return std::string{kIntroduction} + table(own_metrics()) + std::string{kOfLmcache} +
         table(lmcache_metrics()) + std::string{kLeftOut};
}

}  // namespace larder::server
