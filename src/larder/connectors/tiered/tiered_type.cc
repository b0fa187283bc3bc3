#include <array>
#include <string>

#include "larder/cache/policies/policy.h"
#include "larder/connector/common_parameters.h"
#include "larder/connectors/tiered/tiered_connector.h"

namespace larder::tiered {
namespace {

constexpr std::array<std::string_view, kTiersMax> kTierNames{"l2", "l2.2", "l2.3", "l2.4"};

constexpr std::array kParameters{
    Parameter{
        .name = "l1",
        .kind = ParameterKind::kBytes,
        .default_text = "1GiB",
        .minimum = "1MiB",
        .help = "Memory for values, in this process. It is taken from the system as it fills."},
    Parameter{.name = kTierNames[0],
              .kind = ParameterKind::kSpec,
              .help = "The connector below L1. Give l2 again for the tiers below that, up to four: "
                      "values are looked for in their order.",
              .is_required = true,
              .example = "log:/data/kv%3Fcapacity%3D200GiB"},
    Parameter{.name = kTierNames[1],
              .kind = ParameterKind::kSpec,
              .help = "The second tier: what a second l2 is."},
    Parameter{.name = kTierNames[2], .kind = ParameterKind::kSpec, .help = "The third tier."},
    Parameter{.name = kTierNames[3], .kind = ParameterKind::kSpec, .help = "The fourth tier."},
    Parameter{.name = "write",
              .kind = ParameterKind::kChoice,
              .default_text = "through",
              .choices = "through|back",
              .help = "When a store is done: through, when a tier has it; back, when L1 has it: "
                      "faster, and the tiers get it behind, so that a process that is killed loses "
                      "what they have not got yet."},
    Parameter{.name = "promote",
              .kind = ParameterKind::kChoice,
              .default_text = "retain",
              .choices = "retain|second_hit|none",
              .help =
                  "What of the values that were loaded from a tier stays in L1: all, those that "
                  "were loaded before not long ago, or none. Those of a tier in memory never "
                  "do."},
    Parameter{.name = "ordered",
              .kind = ParameterKind::kBool,
              .default_text = "yes",
              .help = "The keys of one load are a prefix in their order, so that what lies behind "
                      "a hole does not stay in L1. no: each key for itself."},
    Parameter{
        .name = "policy",
        .kind = ParameterKind::kChoice,
        .default_text = "lru",
        .choices = "lru|arc|s3-fifo|prefix|noop",
        .help = "What leaves L1 when it is full: lru, what was not used for longest; arc and "
                "s3-fifo, less harmed by values that are used once; prefix, what it learned to be "
                "used again least, and lru where that does no better; noop, nothing."},
    Parameter{.name = "pins",
              .kind = ParameterKind::kFraction,
              .default_text = "25%",
              .minimum = "1%",
              .maximum = "75%",
              .help = "The share of L1 that pinned values may take together; a pin beyond it is "
                      "refused."},
    Parameter{.name = "skip_l1",
              .kind = ParameterKind::kBool,
              .default_text = "no",
              .help = "L1 is a buffer only: with write=back a value leaves it when the tiers have "
                      "it, with write=through none gets in by a store."},
    Parameter{.name = "load",
              .default_text = "yes",
              .help = "Whether the tiers are loaded from: one value for all, or one for each, as "
                      "in yes,no.",
              .example = "yes,no"},
    Parameter{.name = "store",
              .default_text = "yes",
              .help = "Whether the tiers are stored to, likewise. no: only deletes reach it, and "
                      "stores that replace a value.",
              .example = "yes,no"},
    Parameter{.name = "min_hits",
              .default_text = "0",
              .help =
                  "With write=back, how often a value must be read in L1 before a tier gets it; "
                  "likewise. A value that is used once is then never written.",
              .example = "0,2"},
    Parameter{.name = "fill",
              .default_text = "never",
              .help = "Whether a tier gets a copy of what was found behind it and stays in L1: "
                      "never, second_hit or always; likewise.",
              .example = "second_hit,never"},
    Parameter{.name = "drain",
              .kind = ParameterKind::kDuration,
              .default_text = "10s",
              .maximum = "1h",
              .help = "With write=back, how long closing may wait for the tiers to take what they "
                      "have not got yet."},
    kMissAfterFailureParameter,
    kBatchesMaxParameter,
    kInFlightParameter,
};

SetupResult<TieredOptions> options_of(const Parameters& parameters, std::size_t tiers) {
  TieredOptions options;
  options.l1_bytes = parameters.bytes("l1");
  options.write = parameters.text("write") == "back" ? Write::kBack : Write::kThrough;
  LARDER_ASSIGN(options.promote, cache::find_promote(parameters.text("promote")));
  options.is_ordered = parameters.flag("ordered");
  options.policy = parameters.text("policy");
  options.skip_l1 = parameters.flag("skip_l1");
  options.pins_share = parameters.fraction("pins");
  options.drain_ns = parameters.duration_ns("drain");
  options.limits = batch_limits_of(parameters);
  options.miss_after_failure_ns = parameters.duration_ns("miss_after_failure");
  LARDER_ASSIGN(const auto loads, read_flags("load", parameters.text("load"), tiers));
  LARDER_ASSIGN(const auto stores, read_flags("store", parameters.text("store"), tiers));
  LARDER_ASSIGN(const auto hits, read_counts("min_hits", parameters.text("min_hits"), tiers));
  LARDER_ASSIGN(const auto fills, read_fills("fill", parameters.text("fill"), tiers));
  for (std::size_t i = 0; i < tiers; ++i) {
    options.tiers.push_back(
        {.load = loads[i], .store = stores[i], .min_hits = hits[i], .fill = fills[i]});
  }
  return options;
}

SetupResult<std::unique_ptr<Connector>> open(const ConnectorType& /*type*/,
                                             const Parameters& parameters,
                                             const Registry& registry) {
  std::vector<std::string> names;
  for (const std::string_view name : kTierNames) {
    if (!parameters.has(name)) continue;
    names.emplace_back(name);
  }
  LARDER_ASSIGN(const TieredOptions options, options_of(parameters, names.size()));
  LARDER_TRY(options.validate());
  std::vector<std::unique_ptr<Connector>> tiers;
  for (const std::string& name : names) {
    auto tier = registry.open(parameters.spec(name));
    if (!tier) return SetupError{tier.error().code, "tiered: " + name + ": " + tier.error().text};
    tiers.push_back(std::move(*tier));
  }
  return TieredConnector::create(options, std::move(tiers));
}

constexpr MetricRow kMetrics[] = {
    {"l1_hits_total", MetricKind::kCounter, "Values that were loaded from L1."},
    {"l1_bytes_loaded_total", MetricKind::kCounter, "Their bytes."},
    {"l1_stores_total", MetricKind::kCounter, "Values that were stored into L1."},
    {"l1_stores_bypassed_total", MetricKind::kCounter,
     "Values that L1 had no room for: they went to the tiers alone."},
    {"l1_evictions_total", MetricKind::kCounter, "Values that left L1 for others."},
    {"l1_promoted_total", MetricKind::kCounter, "Values of a tier that stayed in L1."},
    {"l1_prefetched_total", MetricKind::kCounter,
     "Values that a prefetch or a pin brought from a tier into L1."},
    {"l1_pins_refused_total", MetricKind::kCounter,
     "Pins that were refused, as pins have all that they may take (pins=)."},
    {"l1_pinned_keys", MetricKind::kGauge, "Pinned values."},
    {"l1_pinned_bytes", MetricKind::kGauge, "Memory that they take."},
    {"l1_keys", MetricKind::kGauge, "Values in L1."},
    {"l1_bytes_used", MetricKind::kGauge, "Memory that they take."},
    {"l1_capacity_bytes", MetricKind::kGauge, "Memory that they may take."},
    {"values_unwritten", MetricKind::kGauge, "Values in L1 that some tier is still to get."},
    {"values_given_up_total", MetricKind::kCounter,
     "Values that a tier failed to take three times, and does not get."},
    {"tier1_hits_total", MetricKind::kCounter,
     "Values that were loaded from the first tier. The other tiers have the same metrics with "
     "their own numbers."},
    {"tier1_misses_total", MetricKind::kCounter,
     "Loads that reached the tier and found no value there."},
    {"tier1_load_failures_total", MetricKind::kCounter, "Loads that failed there."},
    {"tier1_bytes_loaded_total", MetricKind::kCounter, "Bytes that were loaded from it."},
    {"tier1_stores_total", MetricKind::kCounter, "Values that were written to it."},
    {"tier1_store_failures_total", MetricKind::kCounter,
     "Values that it did not take, at each try."},
    {"tier1_bytes_stored_total", MetricKind::kCounter, "Bytes that were written to it."},
};

}  // namespace

const ConnectorType& connector_type() {
  static constexpr ConnectorType kType{
      .name = "tiered",
      .summary = "Memory before other connectors: what is used often is loaded from RAM.",
      .example = "tiered:?l1=4GiB&l2=log:/data/kv%3Fcapacity%3D200GiB",
      .location_parameter = "",
      .parameters = kParameters,
      .metrics = kMetrics,
      .open = open,
  };
  return kType;
}

}  // namespace larder::tiered
