#include "larder/connectors/plugin/load_plugins.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "larder/connectors/plugin/plugin_connector.h"
#include "larder/plugin.h"

namespace larder::plugin {
namespace {

constexpr const char* kVariable = "LARDER_PLUGINS";
constexpr const char* kSymbol = "larder_plugin";

SetupError refused(const std::string& path, std::string_view why) {
  return SetupError{ErrorCode::kInvalidArgument,
                    std::string{kVariable} + ": the plugin '" + path + "' " + std::string{why}};
}

std::string text_of_dlerror() {
  const char* const text = ::dlerror();
  return text == nullptr ? "an unknown error" : text;
}

SetupResult<const larder_plugin_type*> description_of(const std::string& path) {
  std::error_code error;
  if (path.find('/') == std::string::npos) {
    return refused(path, "is not a path: write ./" + path + ", or the whole path");
  }
  if (!std::filesystem::exists(path, error)) {
    return refused(path,
                   "does not exist: correct the path, or remove it from " + std::string{kVariable});
  }
  void* const object = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (object == nullptr) {
    return refused(path, "cannot be loaded: " + text_of_dlerror() +
                             "; it must be a shared object for this machine (cc -shared -fPIC) "
                             "whose libraries are installed");
  }
  const auto describe = reinterpret_cast<decltype(&larder_plugin)>(::dlsym(object, kSymbol));
  if (describe == nullptr) {
    return refused(path, std::string{"has no function "} + kSymbol +
                             "(): it is not a plugin of larder, or does not export it; "
                             "larder/plugin.h says what a plugin exports");
  }
  const larder_plugin_type* const type = describe();
  if (type == nullptr)
    return refused(path,
                   "has no description: larder_plugin() returned null; it must return a "
                   "larder_plugin_type");
  return type;
}

}  // namespace

SetupStatus load(const std::string& path, Registry& registry) {
  LARDER_ASSIGN(const larder_plugin_type* const description, description_of(path));
  auto type = make_type(*description);
  if (!type) return refused(path, type.error().text);
  if (registry.find((*type)->name) != nullptr) {
    return refused(path, "has the connector type '" + std::string{(*type)->name} +
                             "', and there is one of this name already: give it another name, or "
                             "name the plugin once");
  }
  // Never freed, like the shared object: open connectors refer to it until the process ends.
  static auto* const kept = new std::vector<std::unique_ptr<PluginType>>;
  registry.add(*kept->emplace_back(std::move(*type)));
  return {};
}

void load_all(std::string_view paths, Registry& registry) {
  while (!paths.empty()) {
    const std::string path{paths.substr(0, paths.find(':'))};
    paths.remove_prefix(std::min(path.size() + 1, paths.size()));
    if (path.empty()) continue;
    if (const SetupStatus loaded = load(path, registry); !loaded) {
      registry.refuse(loaded.error());
    }
  }
}

std::string_view paths_of_environment() noexcept {
  const char* const paths = ::secure_getenv(kVariable);
  return paths == nullptr ? std::string_view{} : paths;
}

}  // namespace larder::plugin
