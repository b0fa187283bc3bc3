#include <array>
#include <bit>
#include <filesystem>
#include <optional>
#include <string>

#include "larder/base/size_text.h"
#include "larder/connector/common_parameters.h"
#include "larder/connector/new_directory.h"
#include "larder/connectors/fs/fs_connector.h"

namespace larder::fs {
namespace {

constexpr std::array kParameters{
    Parameter{.name = "base_path",
              .kind = ParameterKind::kPath,
              .help = "The directory of the files, flat or in shards. It is made when it is not "
                      "there, and several processes and machines may share it.",
              .is_required = true,
              .example = "/mnt/shared/kv"},
    kCreateParameter,
    Parameter{.name = "num_workers",
              .kind = ParameterKind::kInteger,
              .default_text = "4",
              .minimum = "1",
              .maximum = "1024",
              .help = "Threads for opens, creates, renames and removals, for lookups, loads and "
                      "stores each. Reads are the kernel's and go deeper; raise it where the file "
                      "system is far away."},
    Parameter{.name = "lanes",
              .default_text = "",
              .help = "Other numbers of threads for single lanes, as in lookup:2,load:8,store:16.",
              .example = "lookup:2,load:8,store:16"},
    Parameter{.name = "relative_tmp_dir",
              .default_text = "",
              .help =
                  "A folder below base_path, on the same file system, in which files are written "
                  "before they get their names; without it they stand beside the others."},
    Parameter{.name = "use_odirect",
              .kind = ParameterKind::kBool,
              .default_text = "no",
              .help = "Go past the page cache. Any buffer and length works; what the file system "
                      "cannot take as it is is copied once and counted."},
    Parameter{.name = "l1_align_bytes",
              .kind = ParameterKind::kBytes,
              .default_text = "4KiB",
              .minimum = "4KiB",
              .maximum = "64MiB",
              .help = "With use_odirect: LMCache's --l1-align-bytes, to a multiple of which its "
                      "fs_native pads what it stores. Files that LMCache padded are read, and "
                      "values of other lengths are padded for LMCache."},
    Parameter{.name = "read_ahead_size",
              .kind = ParameterKind::kBytes,
              .default_text = "0",
              .help = "How much of a longer file the kernel is asked to fetch at once when it is "
                      "opened; 0 leaves it to the kernel. Not with use_odirect."},
    Parameter{.name = "read_max_bytes_in_flight",
              .kind = ParameterKind::kBytes,
              .default_text = "1536MiB",
              .minimum = "1",
              .help = "Bytes of loads that the kernel has at once; a larger value goes alone."},
    Parameter{.name = "max_capacity_gb",
              .default_text = "0",
              .help = "GiB of blocks that the files may have, as in 0.5 or 200; what was not used "
                      "for longest goes first. 0: nothing is bounded and no file is looked at when "
                      "it is opened.",
              .example = "200"},
    Parameter{.name = "capacity",
              .kind = ParameterKind::kBytes,
              .default_text = "0",
              .help = "The same in larder's spelling, as in 200GiB."},
    Parameter{.name = "min_free",
              .kind = ParameterKind::kBytes,
              .default_text = "1GiB",
              .help =
                  "With a capacity: free space to leave on the file system. Old files make room "
                  "for it; when there are none a store is refused."},
    Parameter{.name = "exclusive",
              .kind = ParameterKind::kBool,
              .default_text = "no",
              .help = "No other larder uses the directory; the capacity is then never exceeded."},
    Parameter{.name = "fsync",
              .kind = ParameterKind::kChoice,
              .default_text = "none",
              .choices = "none|file|dir",
              .help = "What is made durable before a store is done: nothing, the file, or the file "
                      "and its name."},
    Parameter{.name = "checksum",
              .kind = ParameterKind::kChoice,
              .default_text = "none",
              .choices = "none|xattr",
              .help =
                  "xattr: every file carries a checksum as an extended attribute, and a load "
                  "proves it. Files without one (LMCache's) fail to load, and are stored again."},
    Parameter{.name = "sharded_dirs",
              .kind = ParameterKind::kBool,
              .default_text = "no",
              .help = "LMCache's layout of two levels of folders, by the first four digits of the "
                      "chunk hash."},
    Parameter{
        .name = "staged",
        .kind = ParameterKind::kChoice,
        .default_text = "auto",
        .choices = "auto|yes|no",
        .help = "Read and write through larder's own memory, so that a file system that hangs "
                "delays no call beyond its deadline; costs a copy. auto: on network file systems."},
    Parameter{.name = "mode",
              .default_text = "0600",
              .help = "Of the files, in octal; who may read or write them may list the folders.",
              .example = "0640"},
    Parameter{.name = "max_value",
              .kind = ParameterKind::kBytes,
              .default_text = "1GiB",
              .minimum = "1",
              .maximum = "1GiB",
              .help = "The largest value that is accepted."},
    Parameter{.name = "stall",
              .kind = ParameterKind::kDuration,
              .default_text = "5s",
              .minimum = "10ms",
              .help =
                  "After which time a call into the file system counts as hung; when all "
                  "threads of a kind hang, that kind is down: its lookups and loads are misses, "
                  "its stores and deletes fail, at once."},
    kMissAfterFailureParameter,
    kBatchesMaxParameter,
    kInFlightParameter,
};

SetupError invalid(const std::string& text) {
  return SetupError{ErrorCode::kInvalidArgument, "fs: " + text};
}

SetupResult<std::uint64_t> parse_capacity(const Parameters& parameters) {
  const std::uint64_t bytes = parameters.bytes("capacity");
  const std::string& text = parameters.text("max_capacity_gb");
  constexpr double kGib = 1 << 30;
  constexpr double kMost = 1 << 30;  // An EiB.
  const auto gib = parse_number(text);
  if (!gib || !(*gib >= 0 && *gib <= kMost)) {
    return invalid("max_capacity_gb is '" + text +
                   "'; it must be a number of GiB, as in 0.5 or 200");
  }
  if (bytes != 0 && *gib > 0) {
    return invalid("both capacity and max_capacity_gb are given; leave one out");
  }
  return bytes + static_cast<std::uint64_t>(*gib * kGib);
}

SetupResult<std::string> parse_temporary_folder(const std::string& text) {
  const std::filesystem::path path{text};
  bool leads_out = path.is_absolute();
  bool is_value = false;
  for (const auto& part : path) {
    leads_out = leads_out || part == "..";
    is_value = is_value || part.extension() == ".data";
  }
  if (is_value) {
    return invalid("relative_tmp_dir is '" + text +
                   "'; a name that ends with .data is a value's: choose another one, as in tmp");
  }
  if (!leads_out) return text;
  return invalid("relative_tmp_dir is '" + text +
                 "'; it must be a folder below base_path, without '..', as in tmp");
}

SetupResult<mode_t> parse_mode(const std::string& text) {
  constexpr mode_t kOwner = 0600;
  mode_t mode = 0;
  bool is_octal = !text.empty() && text.size() <= 4;
  for (const char c : text) {
    is_octal = is_octal && c >= '0' && c <= '7';
    mode = mode * 8 + static_cast<mode_t>(c - '0');
  }
  if (is_octal && (mode & kOwner) == kOwner && (mode & ~mode_t{0666}) == 0) return mode;
  return invalid("mode is '" + text +
                 "'; it must be octal, give the owner 6 and nobody the right to execute, as in "
                 "0600, 0640 or 0660");
}

SetupResult<std::array<std::uint32_t, kBatchClassCount>> parse_lanes(std::int64_t workers,
                                                                     const std::string& text) {
  std::array<std::uint32_t, kBatchClassCount> lanes{};
  lanes.fill(static_cast<std::uint32_t>(workers));
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t end = rest.find(',');
    const std::string_view part = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    const std::size_t colon = part.find(':');
    const auto count = parse_integer(colon == std::string_view::npos ? "" : part.substr(colon + 1));
    std::size_t lane = 0;
    while (lane < kBatchClassCount && kBatchClassNames.at(lane) != part.substr(0, colon)) ++lane;
    if (lane == kBatchClassCount || !count || *count < 1 || *count > 1024) {
      return invalid(
          "lanes has '" + std::string{part} +
          "'; write lookup, load or store, a colon, and 1 to 1024, as in load:8,store:16");
    }
    lanes.at(lane) = static_cast<std::uint32_t>(*count);
  }
  return lanes;
}

/// 0 without use_odirect: then LMCache does not pad either.
SetupResult<std::uint64_t> parse_padding(const Parameters& parameters) {
  const std::uint64_t bytes = parameters.bytes("l1_align_bytes");
  if (!std::has_single_bit(bytes)) {
    return invalid("l1_align_bytes is " + format_bytes_exact(bytes) +
                   "; it must be a power of two, as LMCache's --l1-align-bytes is");
  }
  return parameters.flag("use_odirect") ? bytes : 0;
}

SetupResult<FsOptions> options_of(const Parameters& parameters) {
  FsOptions options;
  options.base_path = parameters.text("base_path");
  if (options.base_path.empty()) return invalid("base_path is empty; name a directory");
  LARDER_ASSIGN(options.workers,
                parse_lanes(parameters.integer("num_workers"), parameters.text("lanes")));
  LARDER_ASSIGN(options.temporary_folder,
                parse_temporary_folder(parameters.text("relative_tmp_dir")));
  options.use_direct = parameters.flag("use_odirect");
  LARDER_ASSIGN(options.pad_to_bytes, parse_padding(parameters));
  options.read_ahead_bytes = parameters.bytes("read_ahead_size");
  options.load_bytes_max = parameters.bytes("read_max_bytes_in_flight");
  LARDER_ASSIGN(options.capacity_bytes, parse_capacity(parameters));
  if (options.capacity_bytes != 0) options.min_free_bytes = parameters.bytes("min_free");
  options.is_exclusive = parameters.flag("exclusive");
  const std::string& fsync = parameters.text("fsync");
  options.fsync = fsync == "dir"    ? Fsync::kDirectory
                  : fsync == "file" ? Fsync::kFile
                                    : Fsync::kNone;
  options.checksum = parameters.text("checksum") == "xattr" ? Checksum::kXattr : Checksum::kNone;
  options.has_shards = parameters.flag("sharded_dirs");
  const std::string& staged = parameters.text("staged");
  options.staged = staged == "yes" ? Staged::kYes : staged == "no" ? Staged::kNo : Staged::kAuto;
  LARDER_ASSIGN(options.file_mode, parse_mode(parameters.text("mode")));
  options.value_bytes_max = parameters.bytes("max_value");
  options.stall_ns = parameters.duration_ns("stall");
  options.miss_after_failure_ns = parameters.duration_ns("miss_after_failure");
  options.limits = batch_limits_of(parameters);
  return options;
}

SetupResult<std::unique_ptr<Connector>> open(const ConnectorType& /*type*/,
                                             const Parameters& parameters,
                                             const Registry& /*registry*/) {
  LARDER_ASSIGN(FsOptions options, options_of(parameters));
  LARDER_ASSIGN(NewDirectories directories,
                NewDirectories::make("fs: base_path=" + options.base_path, options.base_path,
                                     options.directory_mode(), parameters.flag("create")));
  if (!directories.made().empty()) options.made = directories.made().back();
  auto opened = FsConnector::open(options);
  if (!opened) directories.undo();
  return opened;
}

const ConnectorType kType{
    .name = "fs",
    .summary =
        "One file for each value in LMCache's names and format, on any file system, shared "
        "or not.",
    .example = "fs:/mnt/shared/kv?use_odirect=yes",
    .location_parameter = "base_path",
    .parameters = kParameters,
    .metrics = fs_metrics(),
    .open = open,
};

const ConnectorType kNativeType{
    .name = "fs_native",
    .summary = "LMCache's name for the same as fs: its configuration works as it is.",
    .example = "fs_native:/mnt/shared/kv?num_workers=8",
    .location_parameter = "base_path",
    .parameters = kParameters,
    .metrics = fs_metrics(),
    .open = open,
};

}  // namespace

SetupResult<FsOptions> read_options(const Parameters& parameters) {
  return options_of(parameters);
}

const ConnectorType& connector_type() {
  return kType;
}

const ConnectorType& native_connector_type() {
  return kNativeType;
}

}  // namespace larder::fs
