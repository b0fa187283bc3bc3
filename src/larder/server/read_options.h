#pragma once

#include <map>
#include <string>
#include <vector>

#include "larder/base/result.h"
#include "larder/server/l2_adapters.h"
#include "larder/server/option_sources.h"
#include "larder/server/options.h"

namespace larder::server {

/// Everything that a server starts with.
struct ServerSetup {
  ServerOptions options;  ///< Valid.
  std::vector<std::string>
      notices;  ///< For the log: options that were accepted and have no effect.
};

/// Puts the sources together: the command line wins over the environment, that over the file which
/// `--config` or LARDER_CONFIG names, that over the defaults. All values of an option come from the
/// strongest source that has it. Reads the file, and opens nothing else.
///
/// An error names the place of the setting, its value (except for specs, which may have a
/// password), and the remedy. An option that larder cannot honour is an error, unless its value is
/// harmless.
SetupResult<ServerSetup> read_options(std::vector<Setting> command_line,
                                      const std::map<std::string, std::string>& environment,
                                      const ConnectorSource& source);

/// LMCache's `--l1-manager` as the options that it sets.
SetupResult<std::vector<Setting>> expand_l1_manager(const Setting& setting);

}  // namespace larder::server
