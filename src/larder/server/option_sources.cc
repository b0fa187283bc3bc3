#include "larder/server/option_sources.h"

#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/base/nearest_name.h"
#include "larder/connector/parameters.h"

namespace larder::server {
namespace {

SetupError wrong(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

bool takes_several(const OptionRow& row) {
  return row.shape == OptionShape::kRepeated || row.shape == OptionShape::kList;
}

// ---- The file -----------------------------------------------------------------------------------

/// A number as JSON and the command line have it; TOML's own texts may have '_' in them.
std::string text_of(double number) {
  std::array<char, 32> buffer;
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number);
  return {buffer.data(), error == std::errc{} ? end : buffer.data()};
}

SetupResult<std::string> text_of(const toml::node& node, const std::string& where) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return text_of(number->get());
  if (const auto* flag = node.as_boolean()) return std::string{flag->get() ? "true" : "false"};
  if (const auto* table = node.as_table()) {
    std::ostringstream json;
    json << toml::json_formatter{*table};
    return json.str();
  }
  return wrong(where + ": expected a text, a number, true or false, or a table");
}

SetupResult<std::vector<std::string>> values_of(const OptionRow& row, const toml::node& node,
                                                const std::string& where) {
  std::vector<std::string> values;
  const auto* const list = node.as_array();
  if (list == nullptr) {
    LARDER_ASSIGN(std::string value, text_of(node, where));
    values.push_back(std::move(value));
    return values;
  }
  if (!takes_several(row)) return wrong(where + ": is a list; expected one value");
  for (const toml::node& item : *list) {
    LARDER_ASSIGN(std::string value, text_of(item, where));
    values.push_back(std::move(value));
  }
  return values;
}

SetupError unknown_key(const std::string& where, const std::string& key) {
  std::vector<std::string> keys;
  for (const OptionRow& row : option_rows()) keys.push_back(key_of(row));
  const std::vector<std::string_view> candidates{keys.begin(), keys.end()};
  const std::string_view nearest = nearest_name(key, candidates);
  return wrong(where + ": there is no such setting" +
               (nearest.empty() ? "; `larder server --help` lists them, here with '_' for '-'"
                                : ", did you mean " + std::string{nearest} + "?"));
}

SetupResult<Settings> settings_of(const toml::table& table, const std::string& name) {
  Settings read;
  for (const auto& [key_node, node] : table) {
    const std::string given{key_node.str()};
    const std::string where =
        name + ", line " + std::to_string(node.source().begin.line) + ": " + printable(given);
    std::string key = given;
    std::ranges::replace(key, '_', '-');
    const OptionRow* const row = find_option(key);
    if (row == nullptr) {
      std::ranges::replace(key, '-', '_');
      return unknown_key(where, key);
    }
    if (row->name == "config") return wrong(where + ": a file cannot name another one");
    LARDER_ASSIGN(auto values, values_of(*row, node, where));
    read.settings.push_back(
        {.row = row, .values = std::move(values), .source = SettingSource::kFile, .where = where});
  }
  return read;
}

SetupError not_toml(const toml::parse_error& error, const std::string& name) {
  return wrong(name + ", line " + std::to_string(error.source().begin.line) +
               ": no valid TOML: " + std::string{error.description()});
}

// ---- The environment ----------------------------------------------------------------------------

constexpr std::string_view kPrefix = "LARDER_";

/// Read elsewhere, or set by Kubernetes for a service called larder.
bool is_others(std::string_view name) {
  constexpr std::array<std::string_view, 7> kNames{
      "LARDER_LOG",    "LARDER_IO",      "LARDER_SERVICE_HOST", "LARDER_SERVICE_PORT",
      "LARDER_PYTHON", "LARDER_METRICS", "LARDER_PLUGINS"};
  constexpr std::array<std::string_view, 3> kPrefixes{"LARDER_RESP_", "LARDER_PORT_",
                                                      "LARDER_SERVICE_PORT_"};
  return std::ranges::find(kNames, name) != kNames.end() ||
         std::ranges::any_of(kPrefixes, [&](auto prefix) { return name.starts_with(prefix); });
}

/// Variables of LMCache's server for features that larder lacks, by the option they correspond to.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kStockVariables{{
    {"LMCACHE_COORDINATOR_URL", "coordinator-url"},
    {"LMCACHE_API_KEY", "api-key-file"},
    {"LMCACHE_API_KEY_FILE", "api-key-file"},
    {"LMCACHE_HTTP_API_KEY", "api-key-file"},
    {"LMCACHE_HTTP_API_KEY_FILE", "api-key-file"},
}};

SetupStatus check_stock_variables(const std::map<std::string, std::string>& variables) {
  for (const auto& [name, option] : kStockVariables) {
    const auto found = variables.find(std::string{name});
    if (found == variables.end() || found->second.empty()) continue;
    return wrong(std::string{name} + " is set: " + std::string{find_option(option)->help} +
                 " Unset the variable for this process");
  }
  return {};
}

std::vector<std::string> pieces_of(std::string_view text, std::string_view separators) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(separators), text.size());
    if (end > 0) pieces.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return pieces;
}

std::vector<std::string> values_of(const OptionRow& row, const std::string& text) {
  if (row.shape == OptionShape::kRepeated) return pieces_of(text, "\r\n");
  if (row.shape == OptionShape::kList) return pieces_of(text, " \t\r\n");
  return {text};
}

/// Kubernetes sets LARDER_PORT=tcp://10.0.0.1:5555 in every pod beside a service `larder`, and
/// LARDER_METRICS_PORT beside one called `larder-metrics`.
bool is_service_link(std::string_view name, std::string_view value) {
  return name.ends_with("_PORT") && (value.starts_with("tcp://") || value.starts_with("udp://"));
}

void note_unknown(const std::string& name, std::vector<std::string>& notices) {
  std::vector<std::string> names;
  for (const OptionRow& row : option_rows()) names.push_back(variable_of(row));
  const std::vector<std::string_view> candidates{names.begin(), names.end()};
  const std::string_view nearest = nearest_name(name, candidates);
  if (nearest.empty()) return;
  notices.push_back(printable(name) + " is not read: there is no such option; did you mean " +
                    std::string{nearest} + "?");
}

}  // namespace

SetupResult<Settings> parse_toml(std::string_view text, const std::string& name) {
  try {
    return settings_of(toml::parse(text, name), name);
  } catch (const toml::parse_error& error) {
    return not_toml(error, name);
  }
}

SetupResult<Settings> read_toml(const std::string& path) {
  const auto whole = expand_home(path);
  if (!whole) return wrong("--config " + printable(path) + ": " + whole.error().text);
  errno = 0;
  const std::ifstream file{*whole};
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || !text) {
    return wrong("--config " + printable(path) + ": " + errno_text(errno != 0 ? errno : EIO));
  }
  return parse_toml(text.str(), printable(path));
}

SetupResult<Settings> read_environment(const std::map<std::string, std::string>& variables) {
  LARDER_TRY(check_stock_variables(variables));
  Settings read;
  for (auto at = variables.lower_bound(std::string{kPrefix});
       at != variables.end() && at->first.starts_with(kPrefix); ++at) {
    const auto& [name, value] = *at;
    if (value.empty() || is_others(name)) continue;
    if (is_service_link(name, value)) {
      read.notices.push_back(name + "=" + printable(value) +
                             " is not read: it is what Kubernetes says of a service of that name");
      continue;
    }
    const auto rows = option_rows();
    const auto row = std::ranges::find(rows, name, variable_of);
    if (row == rows.end()) {
      note_unknown(name, read.notices);
      continue;
    }
    read.settings.push_back({.row = &*row,
                             .values = values_of(*row, value),
                             .source = SettingSource::kEnvironment,
                             .where = name});
  }
  return read;
}

std::map<std::string, std::string> environment_of_process() {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text{*entry};
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return variables;
}

}  // namespace larder::server
