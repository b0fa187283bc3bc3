#include "larder/server/l2_adapters.h"

#include <algorithm>
#include <limits>
#include <map>

#include "larder/base/size_text.h"
#include "larder/connector/shown_spec.h"
#include "larder/server/lmcache_adapter.h"

namespace larder::server {
namespace {

constexpr std::string_view kPython = "python";

using TierTexts = std::map<std::string, std::string, std::less<>>;

SetupError wrong(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

SetupStatus read_flag(const TierTexts& texts, std::string_view name, bool& flag) {
  const auto found = texts.find(name);
  if (found == texts.end()) return {};
  const auto value = parse_bool(found->second);
  if (!value) return wrong(std::string{name} + ": " + value.error().text);
  flag = *value;
  return {};
}

SetupResult<cache::TierOptions> read_tier(const TierTexts& texts) {
  cache::TierOptions options;
  LARDER_TRY(read_flag(texts, "load", options.load));
  LARDER_TRY(read_flag(texts, "store", options.store));
  LARDER_TRY(read_flag(texts, "touch", options.touch));
  if (const auto found = texts.find("min_hits"); found != texts.end()) {
    const auto hits = parse_integer(found->second);
    if (!hits || *hits < 0 || *hits > std::numeric_limits<std::uint32_t>::max()) {
      return wrong(
          "min_hits: expected a number from 0 on: how many lookups must hit a chunk in L1 "
          "before it is stored");
    }
    options.min_hits = static_cast<std::uint32_t>(*hits);
  }
  if (const auto found = texts.find("fill"); found != texts.end()) {
    LARDER_ASSIGN(options.fill, cache::find_fill(found->second));
  }
  if (!options.load && !options.store) {
    return wrong("load=no and store=no leave nothing to do; leave the adapter out");
  }
  return options;
}

/// A spec that the registry's tables do not know by themselves is, or has in it, code of others.
bool loads_code(const Spec& spec, const Registry& registry) {
  const ConnectorType* const type = registry.find(spec.type());
  if (type == nullptr || type->name == kPython) return true;
  return std::ranges::any_of(type->parameters, [&](const Parameter& row) {
    const auto given = spec.parameters().find(row.name);
    if (row.kind != ParameterKind::kSpec || given == spec.parameters().end()) return false;
    const auto inner = Spec::parse(given->second);
    return inner && loads_code(*inner, registry);
  });
}

bool is_set(const Spec& spec, std::string_view name) {
  const auto found = spec.parameters().find(name);
  return found != spec.parameters().end() && found->second != "0" && found->second != "0.0";
}

/// An "eviction" block means: bounded, with old values going first. A connector with a capacity
/// does that by itself.
SetupResult<std::string> stand_for_eviction(const Spec& spec, const ConnectorType& type) {
  const auto capacity = std::ranges::find(type.parameters, "capacity", &Parameter::name);
  if (capacity == type.parameters.end()) {
    return wrong("\"eviction\": " + spec.type() +
                 " does not evict for larder; leave the block out, and bound the backend itself "
                 "(Redis: maxmemory, with maxmemory-policy allkeys-lru)");
  }
  const bool is_unbounded = capacity->default_text == "0";
  if (is_unbounded && !is_set(spec, "capacity") && !is_set(spec, "max_capacity_gb")) {
    return wrong("\"eviction\": " + spec.type() +
                 " evicts at its capacity, and has none; add \"max_capacity_gb\": GIB, or "
                 "\"capacity\": \"200GiB\"");
  }
  return "\"eviction\": " + spec.type() +
         " evicts by itself when its capacity is reached, oldest first; trigger_watermark and "
         "eviction_ratio are not needed";
}

SetupError no_interpreter(const Spec& spec) {
  return wrong(spec.type() + ": the command larder has no Python interpreter; " +
               std::string{kStartFromPython});
}

SetupResult<LmcacheAdapter> parse(std::string_view text, const ConnectorSource& source) {
  const Registry& registry = *source.registry;
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && text[first] == '{') {
    return parse_lmcache_adapter(text, registry);
  }
  LmcacheAdapter adapter;
  LARDER_ASSIGN(adapter.spec, Spec::parse(text));
  take_tier_parameters(adapter.spec, registry.find(adapter.spec.type()), adapter.tier);
  return adapter;
}

SetupResult<ReadAdapter> read(std::string_view text, bool may_load_code,
                              const ConnectorSource& source) {
  const Registry& registry = *source.registry;
  LARDER_ASSIGN(LmcacheAdapter parsed, parse(text, source));
  const std::string& type = parsed.spec.type();
  const bool has_python = registry.find(kPython) != nullptr;
  if (!has_python && type == kPython) return no_interpreter(parsed.spec);
  if (const std::string_view instead = instead_of(type);
      !instead.empty() && registry.find(type) == nullptr) {
    return wrong("type \"" + type + "\": " + std::string{instead});
  }
  if (has_python && !may_load_code && loads_code(parsed.spec, registry)) {
    return wrong(type +
                 ": runs code of Python, which is accepted on the command line and in the "
                 "configuration file only; name it there");
  }
  if (source.resolve && !parsed.is_python) {
    LARDER_ASSIGN(parsed.spec, source.resolve(parsed.spec.to_url()));
  }
  LARDER_ASSIGN(const ReadSpec checked, registry.read(parsed.spec));
  if (parsed.has_eviction) {
    LARDER_ASSIGN(std::string notice, stand_for_eviction(parsed.spec, *checked.type));
    parsed.notices.push_back(std::move(notice));
  }
  ReadAdapter made;
  made.notices = std::move(parsed.notices);
  made.adapter.text = std::string{text};
  made.adapter.shown = shown_spec(parsed.spec.to_url(), registry);
  made.adapter.spec = std::move(parsed.spec);
  LARDER_ASSIGN(made.adapter.options, read_tier(parsed.tier));
  return made;
}

}  // namespace

SetupResult<ReadAdapter> read_l2_adapter(std::string_view text, bool may_load_code,
                                         const ConnectorSource& source) {
  return read(text, may_load_code, source);
}

}  // namespace larder::server
