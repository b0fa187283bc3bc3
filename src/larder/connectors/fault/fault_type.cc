#include <array>

#include "larder/connector/common_parameters.h"
#include "larder/connectors/fault/fault_connector.h"

namespace larder::fault {
namespace {

constexpr Parameter rate(std::string_view name, std::string_view help) {
  return {.name = name, .kind = ParameterKind::kFraction, .default_text = "0", .help = help};
}

constexpr Parameter kInner{.name = "inner",
                           .kind = ParameterKind::kSpec,
                           .help = "The connector that really keeps the values.",
                           .is_required = true,
                           .example = "memory:?capacity=1GiB"};
constexpr Parameter kGapTailRatios{
    .name = "gap_tail_ratios",
    .default_text = "",
    .help =
        "Loads fail at these places of every batch of n keys: round((1 - ratio) x (n - 1)), so "
        "that 0 is the last key, 0.5 the middle one and 1 the first. A list, as in 0.5,0.25.",
    .example = "0.5,0.25"};
constexpr Parameter kGapIndices{
    .name = "gap_indices",
    .default_text = "",
    .help = "Loads fail at these places of every batch, counted from 0. A list, as in 3,7.",
    .example = "3,7"};
constexpr Parameter kKeyRate =
    rate("rate",
         "Share of keys whose loads fail; the key and the seed decide, so the same key "
         "always fails.");

constexpr std::array kParameters{
    kInner,
    rate("error_rate", "Share of keys that fail with an I/O error."),
    rate("delay_rate", "Share of batches that come back `delay` late."),
    rate("stall_rate",
         "Share of batches that are not carried out and fail at their deadline, when cancelled, at "
         "stop, or after `stall`."),
    rate("drop_rate",
         "Share of stores that are acknowledged and not stored, and of loads that are answered as "
         "a miss. Breaks the contract on purpose."),
    rate("corrupt_rate",
         "Share of loads that are hits with one bit flipped. Breaks the contract on purpose: the "
         "reader gets wrong bytes."),
    Parameter{.name = "delay",
              .kind = ParameterKind::kDuration,
              .default_text = "5ms",
              .help = "How late a delayed batch comes back."},
    Parameter{.name = "stall",
              .kind = ParameterKind::kDuration,
              .default_text = "1s",
              .help = "After which time a stalled batch fails if nothing else ends it."},
    Parameter{.name = "seed",
              .kind = ParameterKind::kInteger,
              .default_text = "1",
              .minimum = "0",
              .help = "The same seed gives the same faults to the same operation numbers."},
    Parameter{.name = "pattern",
              .default_text = "*",
              .help = "Which operations the rates apply to, as in get:3,7;set:*;exists:10-20. They "
                      "are counted from 1 for each of get, set, exists, delete and touch: keys for "
                      "error, drop and corrupt, batches for delay and stall."},
    kGapTailRatios,
    kGapIndices,
    kKeyRate,
    kBatchesMaxParameter,
    kInFlightParameter,
};

constexpr std::array kInjectParameters{
    kInner,
    kGapTailRatios,
    kGapIndices,
    kKeyRate,
    Parameter{.name = "seed",
              .kind = ParameterKind::kInteger,
              .default_text = "0",
              .minimum = "0",
              .help = "Chooses other keys for `rate`; not those that LMCache would choose."},
};

SetupResult<LoadGaps> gaps_of(const Parameters& parameters) {
  LARDER_ASSIGN(LoadGaps gaps, LoadGaps::parse(parameters.text("gap_tail_ratios"),
                                               parameters.text("gap_indices")));
  gaps.key_rate = parameters.fraction("rate");
  return gaps;
}

SetupResult<std::unique_ptr<Connector>> open_inject(const ConnectorType& /*type*/,
                                                    const Parameters& parameters,
                                                    const Registry& registry) {
  FaultOptions options;
  options.seed = static_cast<std::uint64_t>(parameters.integer("seed"));
  LARDER_ASSIGN(options.gaps, gaps_of(parameters));
  LARDER_ASSIGN(auto inner, registry.open(parameters.spec("inner")));
  return FaultConnector::create(std::move(inner), options, BatchLimitOptions{});
}

SetupResult<std::unique_ptr<Connector>> open(const ConnectorType& /*type*/,
                                             const Parameters& parameters,
                                             const Registry& registry) {
  FaultOptions options;
  for (std::size_t i = 0; i < kFaultKindCount; ++i) {
    const std::string name{name_of(static_cast<FaultKind>(i))};
    options.rates.at(i) = parameters.fraction(name + "_rate");
  }
  options.delay_ns = parameters.duration_ns("delay");
  options.stall_ns = parameters.duration_ns("stall");
  options.seed = static_cast<std::uint64_t>(parameters.integer("seed"));
  LARDER_ASSIGN(options.pattern, OperationPattern::parse(parameters.text("pattern")));
  LARDER_ASSIGN(options.gaps, gaps_of(parameters));
  LARDER_ASSIGN(auto inner, registry.open(parameters.spec("inner")));
  return FaultConnector::create(std::move(inner), options, batch_limits_of(parameters));
}

/// Further fields are the inner connector's totals and its own numbers, with the prefix `inner_`.
constexpr MetricRow kMetrics[] = {
    {"faults_error_total", MetricKind::kCounter, "Keys that failed on purpose."},
    {"faults_drop_total", MetricKind::kCounter, "Loads and stores that were lost on purpose."},
    {"faults_corrupt_total", MetricKind::kCounter, "Values that were changed on purpose."},
    {"faults_delay_total", MetricKind::kCounter, "Batches that were delayed on purpose."},
    {"faults_stall_total", MetricKind::kCounter, "Batches that were held up on purpose."},
};

}  // namespace

const ConnectorType& connector_type() {
  static constexpr ConnectorType kType{
      .name = "fault",
      .summary = "Another connector with errors, delays, stalls, losses and corruption on purpose.",
      .example = "fault:?inner=memory:&error_rate=10%25&seed=7",
      .location_parameter = "",
      .parameters = kParameters,
      .metrics = kMetrics,
      .open = open,
  };
  return kType;
}

const ConnectorType& inject_connector_type() {
  static constexpr ConnectorType kType{
      .name = "fault_inject",
      .summary = "LMCache's name for fault with failing loads: holes in what was found.",
      .example = "fault_inject:?inner=memory:&gap_tail_ratios=0.5",
      .location_parameter = "",
      .parameters = kInjectParameters,
      .metrics = kMetrics,
      .open = open_inject,
  };
  return kType;
}

}  // namespace larder::fault
