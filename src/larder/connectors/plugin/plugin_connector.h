#pragma once

#include <memory>
#include <vector>

#include "larder/connector/registry.h"
#include "larder/plugin.h"

namespace larder::plugin {

/// A plugin's description as a connector type. It opens a WorkerPool whose threads call the plugin.
/// Its parameters are the plugin's and then the pool's own (`workers`, `batches_max`, ...).
struct PluginType : ConnectorType {
  const larder_plugin_type* plugin = nullptr;  ///< Never freed.
  std::vector<Parameter> rows;                 ///< The storage behind `parameters`.
};

/// Checks a description. An error is the end of a sentence whose subject is the plugin. The
/// description and everything it points to must live until the process ends.
SetupResult<std::unique_ptr<PluginType>> make_type(const larder_plugin_type& plugin);

}  // namespace larder::plugin
