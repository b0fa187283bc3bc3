#include "larder/tools/top_pages.h"

#include <cstddef>
#include <nlohmann/json.hpp>

namespace larder::tools {
namespace {

using nlohmann::json;

constexpr std::size_t kReasonsMax = 100;
constexpr std::size_t kReasonBytesMax = 1000;
constexpr std::size_t kWorkersMax = 10'000;

/// The member of an object; null for every other value.
const json& at(const json& object, const char* name) {
  static const json kNone;
  if (!object.is_object()) return kNone;
  const auto found = object.find(name);
  return found == object.end() ? kNone : *found;
}

std::optional<double> number_at(const json& object, const char* name) {
  const json& value = at(object, name);
  return value.is_number() ? std::optional{value.get<double>()} : std::nullopt;
}

std::string text_at(const json& object, const char* name) {
  const json& value = at(object, name);
  return value.is_string() ? value.get<std::string>() : std::string{};
}

std::optional<LookupWindow> window_of(const json& rates) {
  const auto asked = number_at(rates, "asked");
  if (!asked) return std::nullopt;
  LookupWindow window{.asked = *asked,
                      .l1_share = number_at(rates, "l1").value_or(0),
                      .l2_share = number_at(rates, "l2").value_or(0)};
  const json& missed = at(rates, "missed");
  if (!missed.is_object()) return window;
  for (const auto& [reason, count] : missed.items()) {
    if (count.is_number()) window.missed[reason] = count.get<double>();
  }
  return window;
}

std::vector<WorkerRow> workers_of(const json& page) {
  std::vector<WorkerRow> workers;
  const json& all = at(page, "cache_context_meta");
  if (!all.is_object()) return workers;
  const json& engine_driven = at(page, "non_cuda_context_meta");
  for (const auto& [id, facts] : all.items()) {
    if (workers.size() == kWorkersMax) break;
    const json& own = at(engine_driven, id.c_str());
    workers.push_back({.id = id,
                       .model = text_at(facts, "model_name"),
                       .world_size = number_at(facts, "world_size").value_or(0),
                       .copies = own.is_object() ? "worker" : "server",
                       .silent_s = number_at(own, "silent_seconds")});
  }
  return workers;
}

}  // namespace

std::optional<std::vector<std::string>> parse_degraded(std::string_view text) {
  const json page = json::parse(text, nullptr, false);
  const json& listed = at(page, "reasons");
  if (!listed.is_array()) return std::nullopt;
  std::vector<std::string> reasons;
  for (const json& reason : listed) {
    if (!reason.is_string() || reasons.size() == kReasonsMax) continue;
    reasons.push_back(reason.get_ref<const std::string&>().substr(0, kReasonBytesMax));
  }
  return reasons;
}

std::optional<StatusPage> parse_status(std::string_view text) {
  const json page = json::parse(text, nullptr, false);
  if (!page.is_object()) return std::nullopt;
  const json& rates = at(at(page, "larder"), "hit_rate");
  return StatusPage{.minute = window_of(at(rates, "1m")),
                    .quarter = window_of(at(rates, "15m")),
                    .workers = workers_of(page)};
}

}  // namespace larder::tools
