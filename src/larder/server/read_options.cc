#include "larder/server/read_options.h"

#include <algorithm>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/base/size_text.h"

namespace larder::server {
namespace {

constexpr double kStockTrigger = 0.8;
constexpr double kStockRatio = 0.2;

SetupError wrong(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

/// The strongest setting of each option.
class Chosen {
 public:
  SetupStatus add(Setting setting) {
    const auto [at, is_new] = settings_.try_emplace(setting.row, setting);
    Setting& known = at->second;
    if (is_new || setting.source < known.source) return {};
    if (setting.source == known.source) {
      return wrong(setting.where + ": " + known.where + " sets the same; leave one out");
    }
    known = std::move(setting);
    return {};
  }
  const Setting* find(std::string_view name) const {
    const auto found = settings_.find(find_option(name));
    return found == settings_.end() ? nullptr : &found->second;
  }
  const Setting* find(const OptionRow& row) const { return find(row.name); }

 private:
  std::map<const OptionRow*, Setting> settings_;
};

bool is_switch(const OptionRow& row) {
  return row.shape == OptionShape::kFlag || row.shape == OptionShape::kSwitch;
}

/// Whether a feature that larder lacks is asked for.
SetupResult<bool> asks_for_something(const OptionRow& row, const std::string& value) {
  if (is_switch(row)) return parse_bool(value);
  return !value.empty() && value != row.harmless;
}

std::string shown(const OptionRow& row, const std::string& value) {
  constexpr std::size_t kShownBytes = 64;
  return is_switch(row) ? std::string{} : " " + printable(value.substr(0, kShownBytes));
}

class Reader {
 public:
  Reader(const Chosen& chosen, const ConnectorSource& source) : chosen_(chosen), source_(source) {}

  SetupResult<ServerSetup> read() {
    for (const OptionRow& row : option_rows()) {
      const Setting* const setting = chosen_.find(row);
      if (setting == nullptr) continue;
      switch (row.use) {
        case OptionUse::kHonoured:
          LARDER_TRY(honour(*setting));
          break;
        case OptionUse::kNotNeeded:
          note(setting->where + ": accepted, sets nothing. " + std::string{row.help});
          break;
        case OptionUse::kRefused:
          LARDER_TRY(refuse(*setting));
          break;
      }
    }
    set_watermarks();
    LARDER_TRY(validate(draft_.options));
    return ServerSetup{.options = std::move(draft_.options), .notices = std::move(notices_)};
  }

 private:
  void note(std::string line) { notices_.push_back(std::move(line)); }

  SetupStatus honour(const Setting& setting) {
    if (setting.row->name == "l2-adapter") return read_adapters(setting);
    if (setting.row->set == nullptr || setting.values.empty()) return {};
    const SetupStatus set = setting.row->set(draft_, setting.values.back());
    if (!set) return SetupError{set.error().code, setting.where + ": " + set.error().text};
    return {};
  }

  static SetupStatus refuse(const Setting& setting) {
    for (const std::string& value : setting.values) {
      const auto asks = asks_for_something(*setting.row, value);
      if (!asks) return SetupError{asks.error().code, setting.where + ": " + asks.error().text};
      if (!*asks) continue;
      return wrong(setting.where + shown(*setting.row, value) + ": " +
                   std::string{setting.row->help});
    }
    return {};
  }

  SetupStatus read_adapters(const Setting& setting) {
    for (std::size_t i = 0; i < setting.values.size(); ++i) {
      std::string where = setting.where;
      if (setting.values.size() > 1) where.append(" (number ").append(std::to_string(i + 1) + ")");
      LARDER_TRY(read_adapter(setting, where, setting.values[i]));
    }
    return {};
  }

  SetupStatus read_adapter(const Setting& setting, const std::string& where,
                           const std::string& text) {
    const bool may_load_code = setting.source != SettingSource::kEnvironment;
    auto read = read_l2_adapter(text, may_load_code, source_);
    if (!read) return SetupError{read.error().code, where + ": " + read.error().text};
    draft_.options.l2_adapters.push_back(std::move(read->adapter));
    for (std::string& notice : read->notices) note(notice.insert(0, where + ": "));
    return {};
  }

  /// LMCache: above the trigger, the ratio of the memory in use is evicted. Either one brings the
  /// other's default with it; without both, eviction makes just the room that is needed.
  void set_watermarks() {
    if (!draft_.eviction_trigger && !draft_.eviction_ratio) return;
    constexpr double kLeast = 1e-6;  // A share is above 0.
    cache::EngineOptions& engine = draft_.options.engine;
    engine.high_watermark = std::max(draft_.eviction_trigger.value_or(kStockTrigger), kLeast);
    engine.low_watermark =
        std::max(engine.high_watermark * (1 - draft_.eviction_ratio.value_or(kStockRatio)), kLeast);
    engine.low_watermark = std::min(engine.low_watermark, engine.high_watermark);
  }

  const Chosen& chosen_;
  const ConnectorSource& source_;
  OptionDraft draft_;
  std::vector<std::string> notices_;
};

/// The options of an `--l1-manager`.
SetupStatus add_l1_manager(Chosen& chosen) {
  const Setting* const manager = chosen.find("l1-manager");
  if (manager == nullptr) return {};
  LARDER_ASSIGN(std::vector<Setting> expanded, expand_l1_manager(*manager));
  for (Setting& setting : expanded) LARDER_TRY(chosen.add(std::move(setting)));
  return {};
}

}  // namespace

SetupResult<ServerSetup> read_options(std::vector<Setting> command_line,
                                      const std::map<std::string, std::string>& environment,
                                      const ConnectorSource& source) {
  Chosen chosen;
  for (Setting& setting : command_line) LARDER_TRY(chosen.add(std::move(setting)));
  LARDER_ASSIGN(Settings variables, read_environment(environment));
  for (Setting& setting : variables.settings) LARDER_TRY(chosen.add(std::move(setting)));
  if (const Setting* const config = chosen.find("config")) {
    LARDER_ASSIGN(Settings file, read_toml(config->values.back()));
    for (Setting& setting : file.settings) LARDER_TRY(chosen.add(std::move(setting)));
  }
  LARDER_TRY(add_l1_manager(chosen));
  LARDER_ASSIGN(ServerSetup setup, Reader(chosen, source).read());
  setup.notices.insert(setup.notices.begin(), variables.notices.begin(), variables.notices.end());
  return setup;
}

}  // namespace larder::server
