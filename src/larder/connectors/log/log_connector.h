#pragma once

#include <string>

#include "larder/connector/new_directory.h"
#include "larder/connector/registry.h"
#include "larder/connectors/log/machine/options.h"
#include "larder/io/device.h"

namespace larder::log_store {

/// `log:` - larder's default on a machine's own disk: a preallocated log of segments with an index
/// in memory. Rules and formats: docs/format_log.md.
const ConnectorType& connector_type();

/// The settings of a `log:` spec for the store and the device below it.
struct LogSettings {
  PathOptions path;
  io::DeviceOptions device;
};
LogSettings settings_of(const Parameters& parameters);

/// Makes the directory of a store where there is none; an error when it cannot hold one.
SetupResult<NewDirectories> make_directory(const Parameters& parameters);

}  // namespace larder::log_store
