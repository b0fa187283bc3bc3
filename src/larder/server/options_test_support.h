#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/connectors/builtin.h"
#include "larder/server/read_options.h"

namespace larder::server {

inline constexpr std::uint64_t kGib = std::uint64_t{1} << 30;
inline constexpr std::uint64_t kSecond = 1'000'000'000;

using Environment = std::map<std::string, std::string>;

inline Setting given(std::string_view name, std::vector<std::string> values) {
  const OptionRow* const row = find_option(name);
  EXPECT_NE(row, nullptr) << name;
  return {.row = row,
          .values = std::move(values),
          .source = SettingSource::kCommandLine,
          .where = "--" + std::string{name}};
}

inline SetupResult<ServerSetup> read(std::vector<Setting> settings,
                                     const Environment& environment = {}) {
  return read_options(std::move(settings), environment, {.registry = &builtin_registry()});
}

/// With the required options of a server.
inline SetupResult<ServerSetup> read_with(std::string_view name, std::string value) {
  std::vector<Setting> settings;
  if (name != "l1-size-gb") settings.push_back(given("l1-size-gb", {"1"}));
  settings.push_back(given(name, {std::move(value)}));
  return read(std::move(settings));
}

inline std::string error_of(const SetupResult<ServerSetup>& setup) {
  return setup ? "no error" : setup.error().text;
}

inline bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace larder::server
