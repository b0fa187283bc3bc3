#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "larder/base/result.h"
#include "larder/server/option_table.h"

namespace larder::server {

/// Where a setting was given. A later one wins over those before it.
enum class SettingSource : std::uint8_t { kFile = 0, kEnvironment, kCommandLine };

/// One option as it was given somewhere. All of an option's values come from one source: the
/// `--l2-adapter`s of a command line replace those of the file.
struct Setting {
  const OptionRow* row = nullptr;
  std::vector<std::string> values;  ///< Of flags "true" or "false".
  SettingSource source = SettingSource::kCommandLine;
  std::string where;  ///< For errors: "--port", "LARDER_PORT", "larder.toml, line 3: port".
};

struct Settings {
  std::vector<Setting> settings;
  std::vector<std::string> notices;  ///< Lines for the log.
};

/// The settings of a TOML file: keys with '_' or '-', numbers or texts, a list where an option may
/// be repeated, tables where it takes JSON. An unknown key is an error with its line and the
/// nearest name.
SetupResult<Settings> read_toml(const std::string& path);
/// The same for a text; `name` stands for the file in errors.
SetupResult<Settings> parse_toml(std::string_view text, const std::string& name);

/// The settings of LARDER_* variables; an empty one is not set. Several l2-adapters: one a line.
/// Unknown ones are no error (Kubernetes makes LARDER_SERVICE_HOST for a service of that name): one
/// that looks like an option is a notice. LMCache's own variables for features that larder lacks
/// (LMCACHE_COORDINATOR_URL, LMCACHE_API_KEY) are errors, like its options.
SetupResult<Settings> read_environment(const std::map<std::string, std::string>& variables);

/// This process's environment.
std::map<std::string, std::string> environment_of_process();

}  // namespace larder::server
