#include "larder/tools/target.h"

#include <system_error>

#include "larder/connectors/builtin.h"
#include "larder/connectors/log/log_connector.h"

namespace larder::tools {

bool is_spec(std::string_view target) noexcept {
  const std::size_t colon = target.find(':');
  return target.starts_with('{') ||
         (colon != std::string_view::npos && colon < target.find('/') && colon > 0);
}

SetupResult<ReadSpec> read_spec(std::string_view spec) {
  LARDER_ASSIGN(const Spec parsed, Spec::parse(spec));
  return builtin_registry().read(parsed);
}

std::filesystem::path nearest_existing(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path path = fs::absolute(directory, error);
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  return fs::canonical(path, error);
}

SetupResult<std::string> log_directory_of(const std::string& target, std::string_view command) {
  if (!is_spec(target)) return expand_home(target);
  LARDER_ASSIGN(const ReadSpec read, read_spec(target));
  if (read.type == &log_store::connector_type()) return read.parameters.text("path");
  return SetupError{ErrorCode::kInvalidArgument,
                    std::string{command} + ": '" + std::string{read.type->name} +
                        "' is not a log store; name a directory or log:DIRECTORY"};
}

}  // namespace larder::tools
