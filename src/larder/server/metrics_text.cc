#include "larder/server/metrics_text.h"

#include <algorithm>
#include <map>
#include <vector>

#include "larder/base/key_text.h"
#include "larder/server/metrics_table.h"

namespace larder::server {
namespace {

/// Beyond this a label says no more to people, and 100 of the longest would make a page of 1 MiB.
constexpr std::size_t kLabelBytesMax = 128;

void write(std::span<const ServerMetric> metrics, const MetricsView& view, std::string_view labels,
           PrometheusWriter& writer) {
  for (const ServerMetric& metric : metrics) {
    writer.begin(metric.name, metric.kind, metric.help);
    Samples samples{writer, labels};
    metric.write(view, samples);
  }
}

std::string connectors_text(const ServerStatus& status) {
  std::vector<Report> reports;
  std::vector<MetricRow> own;
  for (const TierStatus& tier : status.tiers) {
    reports.push_back(tier.report);
    reports.back().where = printable(tier.report.where);
    own.insert(own.end(), tier.metrics.begin(), tier.metrics.end());
  }
  return prometheus_text(reports, own);
}

}  // namespace

std::string client_label(std::string_view name, std::string_view value) {
  std::string shown = printable(value);
  if (shown.size() > kLabelBytesMax) {
    std::size_t end = kLabelBytesMax;
    while (end > 0 && (static_cast<unsigned char>(shown[end]) & 0xC0U) == 0x80U) --end;
    shown.resize(end);
    shown += "...";
  }
  return prometheus_label(name, shown);
}

std::string tier_label(std::string_view name, const TierStatus& tier) {
  return prometheus_label(name, printable(tier.name));
}

/// Two worlds of one model, and texts that look alike when they are cut, have the same labels.
std::vector<SpaceSample> space_samples(const ServerStatus& status) {
  std::map<std::string, std::size_t> by_labels;
  std::vector<SpaceSample> samples;
  for (const SpaceStatus& space : status.spaces) {
    std::string labels =
        client_label("cache_salt", space.salt) + "," + client_label("model_name", space.model);
    const auto [at, is_new] = by_labels.try_emplace(labels, samples.size());
    if (is_new) samples.emplace_back().labels = std::move(labels);
    SpaceSample& sample = samples[at->second];
    const std::uint64_t tokens = status.chunk_tokens;
    sample.lookups += space.lookups.lookups;
    sample.asked_tokens += space.lookups.asked * tokens;
    sample.l1_tokens += space.lookups.hit_l1 * tokens;
    sample.l2_tokens += space.lookups.hit_l2 * tokens;
  }
  if (samples.empty()) samples.push_back({.labels = R"(cache_salt="",model_name="")"});
  return samples;
}

std::vector<SaltSample> salt_samples(const ServerStatus& status) {
  std::map<std::string, std::size_t> by_label;
  std::vector<SaltSample> samples;
  for (const SaltStatus& salt : status.salts) {
    std::string label = client_label("cache_salt", salt.salt);
    const auto [at, is_new] = by_label.try_emplace(label, samples.size());
    if (is_new) samples.emplace_back().label = std::move(label);
    SaltSample& sample = samples[at->second];
    const cache::SaltStats& stats = salt.stats;
    sample.l1_bytes += stats.l1_bytes;
    sample.chunks += stats.columns;
    sample.limit_bytes += std::min(stats.quota.limit_bytes, status.engine.capacity_bytes);
    sample.guarantee_bytes += stats.quota.guarantee_bytes;
    sample.refused += stats.refused;
    sample.l2_refused += stats.l2_refused;
    for (std::size_t i = 0; i < cache::kTiersMax; ++i)
      sample.l2_bytes.at(i) += stats.l2_bytes.at(i);
  }
  if (samples.empty()) samples.push_back({.label = R"(cache_salt="")"});
  return samples;
}

std::string metrics_text(const MetricsView& view) {
  PrometheusWriter writer;
  write(own_metrics(), view, "", writer);
  if (view.has_lmcache_names) {
    const std::string instance =
        prometheus_label("service_instance_id", printable(view.instance_id));
    write(lmcache_metrics(), view, instance, writer);
  }
  return writer.take() + connectors_text(view.status);
}

}  // namespace larder::server
