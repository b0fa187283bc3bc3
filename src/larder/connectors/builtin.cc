#include "larder/connectors/builtin.h"

#include "larder/connectors/fault/fault_connector.h"
#include "larder/connectors/fs/fs_connector.h"
#include "larder/connectors/log/log_connector.h"
#include "larder/connectors/memory/memory_connector.h"
#include "larder/connectors/mock/mock_connector.h"
#include "larder/connectors/plugin/load_plugins.h"
#include "larder/connectors/resp/resp_connector.h"
#include "larder/connectors/tiered/tiered_connector.h"

namespace larder {
namespace {

/// One line per type, those that most people want first: lists of them begin so.
Registry make_registry() {
  Registry registry;
  registry.add(log_store::connector_type());
  registry.add(fs::connector_type());
  registry.add(fs::native_connector_type());
  for (const ConnectorType& type : resp::connector_types()) registry.add(type);
  registry.add(tiered::connector_type());
  registry.add(memory::connector_type());
  registry.add(mock::connector_type());
  registry.add(fault::connector_type());
  registry.add(fault::inject_connector_type());
  plugin::load_all(plugin::paths_of_environment(), registry);
  return registry;
}

}  // namespace

const Registry& builtin_registry() {
  static const Registry registry = make_registry();
  return registry;
}

}  // namespace larder
