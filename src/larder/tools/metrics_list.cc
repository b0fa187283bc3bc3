#include "larder/tools/metrics_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "larder/connector/metrics.h"

namespace larder::tools {
namespace {

std::string sample_of(const MetricRow& row) {
  const std::string label = row.label.empty() ? "" : fmt::format("{{{}}}", row.label);
  return fmt::format("larder_{}{}", row.name, label);
}

std::string rows_text(std::span<const MetricRow> rows, bool is_markdown) {
  std::string text = is_markdown ? "| metric | kind | meaning |\n|---|---|---|\n" : "";
  for (const MetricRow& row : rows) {
    const char* const kind = metric_kind_name(row.kind);
    text += is_markdown ? fmt::format("| `{}` | {} | {} |\n", sample_of(row), kind, row.help)
                        : fmt::format("  {:<44} {:<9} {}\n", sample_of(row), kind, row.help);
  }
  return text;
}

/// The types that share their metrics, as one connector with several names does.
std::vector<std::vector<const ConnectorType*>> families(const Registry& registry) {
  std::vector<std::vector<const ConnectorType*>> families;
  for (const ConnectorType* const type : registry.types()) {
    if (type->metrics.empty()) continue;
    const auto family = std::ranges::find_if(families, [&](const auto& known) {
      return known.front()->metrics.data() == type->metrics.data();
    });
    if (family == families.end()) {
      families.push_back({type});
    } else {
      family->push_back(type);
    }
  }
  return families;
}

std::string names_of(const std::vector<const ConnectorType*>& family) {
  std::string text;
  for (const ConnectorType* const type : family) {
    text += (text.empty() ? "" : ", ") + std::string{type->name};
  }
  return text;
}

constexpr std::string_view kIntroduction =
    "# Metrics\n\n"
    "A store tells the same numbers in three ways:\n\n"
    "- as **Prometheus text**, under the names of this page and labelled with the store's `type` "
    "and `where`: `larder.metrics_text()`, `larder.serve_metrics(ADDRESS)`, the environment "
    "variable `LARDER_METRICS=ADDRESS` for a program that knows nothing of it, and LMCache's own "
    "`/metrics`. `larder server` has them for each store behind it, beside [those of the "
    "server](server_metrics.md);\n"
    "- as a **dictionary** in Python: `store.metrics()` has those that are whole numbers, "
    "`store.report().times` the others. A label's value stands in the name there: "
    "`larder_lookup_misses_absent_total`;\n"
    "- as **a page for people**: `larder stats ADDRESS` shows hit rates, why keys were not found, "
    "and how long things took, since each store was opened and within the last minute. `larder top "
    "ADDRESS` shows them live.\n\n"
    "`larder stats --list` shows this page in a terminal, and `larder stats --list --markdown` "
    "writes it.\n\n"
    "Operations are `lookup` (does it exist?), `load`, `store`, `delete` and `touch`. Where shares "
    "are kept apart, touches count as lookups and deletes as stores: the label `class`. A key that "
    "was not found has one of these reasons:\n\n"
    "| reason | meaning |\n|---|---|\n"
    "| `absent` | it is not there |\n"
    "| `failed_before` | a load of it failed, and it was not stored since |\n"
    "| `down` | nothing was asked, as the storage does not answer |\n"
    "| `late` | a load of it missed its deadline lately (`miss_after_failure`) |\n"
    "| `other` | something is there that is no value for this caller, such as one above 1 GiB |\n\n"
    "A counter begins at 0 when its store is opened. Gauges named `recent_` tell of the last "
    "minute, for whoever has no Prometheus. A lookup that larder answers from memory counts, and "
    "has no time.\n\n"
    "## Every connector\n\n";

}  // namespace

std::string list_metrics(const Registry& registry, bool is_markdown) {
  std::string text{is_markdown ? kIntroduction : "every connector\n"};
  text += rows_text(common_metrics(), is_markdown);
  for (const auto& family : families(registry)) {
    text += is_markdown ? fmt::format("\n## {}\n\n", names_of(family))
                        : fmt::format("\n{}\n", names_of(family));
    text += rows_text(family.front()->metrics, is_markdown);
    if (family.front()->name == "fault") {
      text += is_markdown ? "\n" : "  ";
      text +=
          "The inner connector's totals and own numbers are there too, with `inner_` before "
          "their names.\n";
    }
  }
  return text;
}

}  // namespace larder::tools
