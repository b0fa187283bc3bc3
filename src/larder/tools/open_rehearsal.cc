#include "larder/tools/open_rehearsal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "larder/base/clock.h"
#include "larder/connectors/fs/fs_connector.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/geometry.h"
#include "larder/connectors/log/log_connector.h"
#include "larder/connectors/log/machine/superblock_file.h"
#include "larder/io/device.h"

namespace larder::tools {
namespace {

using Limits = SetupResult<std::optional<StoreLimits>>;

SetupResult<log_store::Geometry> geometry_of_open(const log_store::LogSettings& settings,
                                                  const io::Device& device,
                                                  const std::string& where, bool has_store) {
  const log_store::GeometryRequest wanted =
      log_store::geometry_request(settings.path, device.directory->facts().alignment.offset);
  if (!has_store) return log_store::make_geometry(wanted, where);
  log_store::SuperblockFile file{*device.directory, *device.queue, RealClock::instance(), where};
  auto superblock = file.open(0);
  // Its maker died before the first write; an open makes it.
  if (!superblock && file.is_blank()) return log_store::make_geometry(wanted, where);
  if (!superblock) return superblock.error();
  return log_store::geometry_of(*superblock, wanted);
}

Limits rehearse_log(const Parameters& parameters) {
  log_store::LogSettings settings = log_store::settings_of(parameters);
  const std::string where = settings.device.directory;
  settings.device.directory = nearest_existing(where);
  struct stat status{};
  const bool is_directory =
      ::stat(settings.device.directory.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
      ::faccessat(AT_FDCWD, settings.device.directory.c_str(), R_OK | W_OK | X_OK, AT_EACCESS) == 0;
  if (!is_directory) return std::optional<StoreLimits>{};
  const std::string superblock = where + "/" + std::string{log_store::kSuperblockFileName};
  const bool has_store = ::lstat(superblock.c_str(), &status) == 0;
  LARDER_ASSIGN(const io::Device device, io::open_device(settings.device));
  LARDER_ASSIGN(const log_store::Geometry geometry,
                geometry_of_open(settings, device, where, has_store));
  return std::optional{StoreLimits{.capacity_bytes = geometry.capacity_bytes,
                                   .value_bytes_max = geometry.value_bytes_limit,
                                   .slices_max = log_store::kSlicesMax,
                                   .segments = geometry.segment_count,
                                   .segment_bytes = geometry.slot_bytes}};
}

}  // namespace

Limits rehearse_open(const ReadSpec& read) {
  if (read.type == &log_store::connector_type()) return rehearse_log(read.parameters);
  if (read.type == &fs::connector_type() || read.type == &fs::native_connector_type()) {
    LARDER_ASSIGN(const fs::FsOptions options, fs::read_options(read.parameters));
    return std::optional{StoreLimits{.capacity_bytes = options.capacity_bytes,
                                     .value_bytes_max = options.value_bytes_max,
                                     .slices_max = io::kBuffersMax}};
  }
  return std::optional<StoreLimits>{};
}

}  // namespace larder::tools
