#include "larder/connectors/log/log_connector.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "larder/base/logging.h"
#include "larder/base/result.h"
#include "larder/base/size_text.h"
#include "larder/connector/batch_limits.h"
#include "larder/connector/common_parameters.h"
#include "larder/connectors/log/machine/machine.h"
#include "larder/connectors/log/machine/opening.h"
#include "larder/connectors/log/machine/owner.h"
#include "larder/connectors/log/machine/setup_error.h"
#include "larder/connectors/log/private_files.h"

namespace larder::log_store {
namespace {

/// An open that gets no further for so many times `stall=` is given up.
constexpr std::uint64_t kStallsUntilGivenUp = 6;

constexpr std::array kParameters = {
    Parameter{.name = "path",
              .kind = ParameterKind::kPath,
              .help =
                  "Directory of the store. It is made when it does not exist; it must be empty or "
                  "hold a store.",
              .is_required = true,
              .example = "/data/kv"},
    kCreateParameter,
    Parameter{
        .name = "capacity",
        .kind = ParameterKind::kBytes,
        .minimum = "1MiB",
        .help =
            "Blocks that all files of the store may take together; never exceeded. When it "
            "is full, what is worth least goes first (see eviction). A new store needs it, from "
            "127MiB on; one that is there remembers the last. A smaller one drops the oldest "
            "keys at open; it must hold 31 of the segments that the store was made with (see "
            "max_value)."},
    Parameter{.name = "max_value",
              .kind = ParameterKind::kBytes,
              .minimum = "4KiB",
              .maximum = "1GiB",
              .help =
                  "The largest value that may be stored; a larger one is refused. A new store has "
                  "128MiB, or what fits into a segment; one that is there remembers the last. "
                  "Segments of a new store are about a 128th of its capacity, from 2MiB to 1GiB, "
                  "and hold at least four values of the size that is given here without a rest, so "
                  "give it where values are larger than a 1024th of the capacity and no power of "
                  "two; 31 segments must fit into the capacity."},
    Parameter{.name = "sync",
              .kind = ParameterKind::kChoice,
              .default_text = "none",
              .choices = "none|batch",
              .help =
                  "When a store is acknowledged: none, when it is written (a power cut may take "
                  "what was stored since the last segment was sealed); batch, when it is synced."},
    Parameter{.name = "delete_sync",
              .kind = ParameterKind::kBool,
              .default_text = "no",
              .help =
                  "Acknowledge deletes after a sync, so that no power cut brings a deleted value "
                  "back."},
    Parameter{.name = "eviction",
              .kind = ParameterKind::kChoice,
              .default_text = "worth",
              .choices = "worth|oldest",
              .help =
                  "What goes when the store is full: worth, what is least likely to be read, by "
                  "what the store has learned; oldest, what was not read since it was written, "
                  "the oldest first."},
    Parameter{.name = "admission",
              .kind = ParameterKind::kChoice,
              .default_text = "all",
              .choices = "all|learned",
              .help =
                  "Which new keys are written: all; or learned, once the store is full, those that "
                  "are likely to be read before they would be evicted. The others are "
                  "acknowledged, and are as if they had been evicted at once "
                  "(bytes_not_written_total counts them): fewer writes to the disk."},
    Parameter{.name = "min_free",
              .kind = ParameterKind::kBytes,
              .default_text = "1GiB",
              .help =
                  "Free space to leave on the file system: below it the store does not grow and "
                  "gives free segments back."},
    Parameter{.name = "direct",
              .kind = ParameterKind::kChoice,
              .default_text = "auto",
              .choices = "auto|yes|no",
              .help =
                  "Direct I/O (O_DIRECT): auto uses it where the file system has it and reports "
                  "when it has not; yes makes a missing one an error."},
    Parameter{.name = "depth",
              .kind = ParameterKind::kInteger,
              .default_text = "128",
              .minimum = "1",
              .maximum = "1024",
              .help = "Transfers that the disk has at once."},
    Parameter{.name = "io_threads",
              .kind = ParameterKind::kInteger,
              .default_text = "16",
              .minimum = "1",
              .maximum = "256",
              .help = "Threads for transfers where io_uring is not to be had."},
    Parameter{.name = "hash_threads",
              .kind = ParameterKind::kInteger,
              .default_text = "1",
              .minimum = "0",
              .maximum = "16",
              .help = "Threads that checksum values of 256 KiB and more; 0 does it in line."},
    Parameter{.name = "io_bytes",
              .kind = ParameterKind::kBytes,
              .default_text = "4MiB",
              .minimum = "256KiB",
              .maximum = "16MiB",
              .help = "Longest single transfer; longer values are several."},
    Parameter{
        .name = "staging",
        .kind = ParameterKind::kBytes,
        .default_text = "64MiB",
        .minimum = "32MiB",
        .maximum = "16GiB",
        .help = "Memory for values whose buffers direct I/O cannot use; they are copied once."},
    Parameter{.name = "index_bytes",
              .kind = ParameterKind::kBytes,
              .default_text = "64GiB",
              .minimum = "1MiB",
              .help = "Bound of the index in memory, about 45 bytes a key; beyond it a segment "
                      "is emptied early."},
    Parameter{.name = "stall",
              .kind = ParameterKind::kDuration,
              .default_text = "5s",
              .minimum = "100ms",
              .maximum = "10m",
              .help =
                  "A transfer without an answer for so long takes the path down until it answers "
                  "again."},
    kMissAfterFailureParameter,
    Parameter{.name = "events",
              .kind = ParameterKind::kInteger,
              .default_text = "0",
              .minimum = "0",
              .maximum = "16777216",
              .help = "How many stored and removed keys to remember for listeners; 0 keeps none."},
    kBatchesMaxParameter,
    kInFlightParameter,
    Parameter{.name = "pins",
              .kind = ParameterKind::kFraction,
              .default_text = "25%",
              .minimum = "1%",
              .maximum = "50%",
              .help =
                  "The share of the capacity that retained values may take together; a retention "
                  "beyond it is refused. What is retained is carried over before what was read."},
    Parameter{
        .name = "segment",
        .kind = ParameterKind::kBytes,
        .default_text = "0",
        .maximum = "16GiB",
        .help = "Size of a segment of a new store; 0 chooses one from capacity and max_value. For "
                "tests."},
};

/// The log store as a Connector: lookups answered from memory in the caller's thread, and
/// everything else by way of the path's intake.
class LogConnector final : public Connector {
 public:
  LogConnector(const PathOptions& options, std::string where)
      : options_(options), where_(std::move(where)) {}
  ~LogConnector() override = default;

  void note_made(std::vector<std::string> made) { made_ = std::move(made); }

  SetupStatus open(const io::DeviceOptions& device_options) {
    LARDER_ASSIGN(io::Device device, io::open_device(device_options));
    degraded_why_ = device.degraded_why;
    LARDER_ASSIGN(auto path, LogPath::open(options_, *device.directory, *device.queue,
                                           RealClock::instance(), where_));
    if (const Status handed = device.queue->release_thread(); !handed) {
      return setup_error(where_, "cannot start its thread", handed.error());
    }
    options_.capacity_bytes = path->superblock().capacity_bytes;
    options_.value_bytes_max = path->superblock().value_bytes_max;
    note_space(*device.directory);
    note(make_files_private(device_options.directory));
    machine_ = std::make_unique<LogMachine>(std::move(device), std::move(path));
    if (const Status started = machine_->start(); !started) {
      return setup_error(where_, "cannot start its thread", started.error());
    }
    return {};
  }

  Status submit(Batch& batch) noexcept override {
    LogPath& path = machine_->path();
    return batch.op == Op::kExists ? path.look_up(batch) : path.intake().submit(batch);
  }
  std::size_t reap(std::span<Batch*> done) noexcept override { return intake().reap(done); }
  int event_fd() const noexcept override { return intake().event_fd(); }
  void cancel(Batch& batch) noexcept override {
    if (batch.op == Op::kExists) return;  // Was answered when it was submitted.
    intake().cancel(batch);
  }
  bool probe(std::span<Item> items) const noexcept override {
    machine_->path().probe(items);
    return true;
  }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override {
    return intake().load_ns(sizes);
  }

  Capabilities capabilities() const noexcept override {
    const io::Alignment alignment = machine_->device().directory->facts().alignment;
    return {.buffer_alignment = std::max(alignment.memory, alignment.offset),
            .slices_max = kSlicesMax,
            .value_bytes_max = options_.value_bytes_max,
            .integrity = Integrity::kChecked,
            .locality = Locality::kLocalDisk,
            .has_probe = true,
            .has_scan = true,
            .has_events = options_.events_max > 0,
            .survives_restart = true,
            .hints = kHints};
  }

  Report report() const override;

  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override {
    if (keys_max == 0) return Error{ErrorCode::kInvalidArgument, "log", "scan: keys_max is 0"};
    return machine_->scan(from, keys_max);
  }

  Result<EventPage> events(EventCursor from, std::size_t events_max) const override {
    if (options_.events_max == 0) return Connector::events(from, events_max);
    return machine_->path().events().read(from, events_max);
  }

  Status stop(std::uint64_t deadline_ns) noexcept override { return machine_->stop(deadline_ns); }

 private:
  /// Before the reactor starts: logged once, and in every report.
  void note(std::string text) {
    if (text.empty()) return;
    log(LogLevel::kWarning, "log", where_ + ": " + text);
    notes_.push_back(std::move(text));
  }

  void note_space(io::Directory& directory) {
    const auto space = directory.space();
    if (space) note(larger_than_file_system(options_.capacity_bytes, space->total_bytes));
  }

  Intake& intake() const noexcept { return machine_->path().intake(); }

  PathOptions options_;
  const std::string where_;
  std::string degraded_why_;
  std::vector<std::string> notes_;  ///< For information, not an error.
  std::vector<std::string> made_;   ///< The directories that this open made.
  std::unique_ptr<LogMachine> machine_;
};

Report LogConnector::report() const {
  const LogPath& path = machine_->path();
  const io::DirectoryFacts& facts = machine_->device().directory->facts();
  const Superblock& superblock = path.superblock();
  Report report;
  report.type = "log";
  report.where = where_;
  std::tie(report.health, report.reasons) = path.health().snapshot();
  if (path.is_down()) report.health = Health::kDown;
  if (!degraded_why_.empty()) {
    report.health = std::max(report.health, Health::kDegraded);
    report.reasons.push_back(degraded_why_);
  }
  report.reasons.insert(report.reasons.end(), notes_.begin(), notes_.end());
  report.bytes_used = path.counters().bytes_on_disk.value();
  report.capacity_bytes = options_.capacity_bytes;
  report.keys = path.keys();
  report.integrity = Integrity::kChecked;
  report.locality = Locality::kLocalDisk;
  report.properties = {
      {"io", machine_->device().backend},
      {"direct", facts.direct ? "yes" : "no"},
      {"file_system", facts.file_system},
      {"buffer_alignment",
       std::to_string(std::max(facts.alignment.memory, facts.alignment.offset))},
      {"sync", options_.sync == SyncMode::kBatch ? "batch" : "none"},
      {"eviction", options_.eviction == EvictionOrder::kOldest ? "oldest" : "worth"},
      {"admission", options_.admission == AdmissionMode::kLearned ? "learned" : "all"},
      {"segment", format_bytes_exact(superblock.slot_bytes)},
      {"segments", std::to_string(superblock.segment_count)},
      {"grain", std::to_string(superblock.grain_bytes)},
      {"max_value", format_bytes_exact(options_.value_bytes_max)},
      {"open_count", std::to_string(superblock.open_count)}};
  if (!made_.empty()) report.properties.emplace_back("made", made_.back());
  report.evictions = {.keys = path.counters().records_evicted_total.value(),
                      .bytes = path.counters().bytes_evicted_total.value()};
  path.counters().for_each([&](std::string_view name, std::uint64_t value) {
    report.counters.push_back({.name = std::string{name}, .value = value});
  });
  report.counters.push_back({.name = "index_bytes", .value = path.index_bytes()});
  path.intake().append_report(report);
  return report;
}

/// Files there already: the capacity may have been larger once.
std::uint64_t files_in(const std::string& path) {
  std::error_code error;
  std::uint64_t count = 0;
  for (auto at = std::filesystem::directory_iterator{path, error};
       !error && at != std::filesystem::directory_iterator{}; at.increment(error)) {
    ++count;
  }
  return count;
}

SetupResult<std::unique_ptr<Connector>> open_now(
    const Parameters& parameters, const std::shared_ptr<std::atomic<std::uint64_t>>& steps) {
  LogSettings settings = settings_of(parameters);
  settings.path.opening_steps = steps;
  LARDER_ASSIGN(NewDirectories directories, make_directory(parameters));
  auto connector = std::make_unique<LogConnector>(settings.path, settings.device.directory);
  connector->note_made(directories.made());
  if (auto opened = connector->open(settings.device); !opened) {
    connector.reset();
    directories.undo();
    return opened.error();
  }
  return std::unique_ptr<Connector>{std::move(connector)};
}

SetupResult<std::unique_ptr<Connector>> open_log(const ConnectorType& /*type*/,
                                                 const Parameters& parameters,
                                                 const Registry& /*registry*/) {
  auto steps = std::make_shared<std::atomic<std::uint64_t>>(0);
  // Longer than a wait for the last owner's lock, which is no step.
  const std::uint64_t patience_ns =
      PathOptions{}.lock_wait_ns + kStallsUntilGivenUp * parameters.duration_ns("stall");
  return open_with_patience([parameters, steps] { return open_now(parameters, steps); }, steps,
                            patience_ns, parameters.text("path"));
}

}  // namespace

LogSettings settings_of(const Parameters& parameters) {
  LogSettings settings;
  PathOptions& options = settings.path;
  if (parameters.has("capacity")) options.capacity_bytes = parameters.bytes("capacity");
  if (parameters.has("max_value")) options.value_bytes_max = parameters.bytes("max_value");
  options.segment_bytes = parameters.bytes("segment");
  options.io_bytes =
      static_cast<std::uint32_t>(parameters.bytes("io_bytes") / kGrainBytesMax * kGrainBytesMax);
  options.staging_bytes = parameters.bytes("staging");
  options.hash_threads = static_cast<std::uint32_t>(parameters.integer("hash_threads"));
  options.has_file_thread = true;
  options.depth = static_cast<std::uint32_t>(parameters.integer("depth"));
  options.min_free_bytes = parameters.bytes("min_free");
  options.index_bytes_max = parameters.bytes("index_bytes");
  options.stall_ns = parameters.duration_ns("stall");
  options.miss_after_failure_ns = parameters.duration_ns("miss_after_failure");
  options.limits = batch_limits_of(parameters);
  options.pins_share = parameters.fraction("pins");
  options.events_max = static_cast<std::uint32_t>(parameters.integer("events"));
  options.sync = parameters.text("sync") == "batch" ? SyncMode::kBatch : SyncMode::kNone;
  options.delete_sync = parameters.flag("delete_sync");
  options.eviction =
      parameters.text("eviction") == "oldest" ? EvictionOrder::kOldest : EvictionOrder::kWorth;
  options.admission =
      parameters.text("admission") == "learned" ? AdmissionMode::kLearned : AdmissionMode::kAll;
  options.owner_note = note_of_this_process();

  io::DeviceOptions& device = settings.device;
  device.directory = parameters.text("path");
  const std::string& direct = parameters.text("direct");
  device.direct = direct == "yes"  ? io::DirectIo::kRequired
                  : direct == "no" ? io::DirectIo::kNever
                                   : io::DirectIo::kIfPossible;
  device.depth = options.depth + 32;
  device.threads = static_cast<std::uint32_t>(parameters.integer("io_threads"));
  const std::uint64_t segment_bytes =
      options.segment_bytes == 0 ? kSegmentDataMin : options.segment_bytes;
  device.files_max = kSegmentCountMax;  // How many the store may have, it remembers itself.
  if (options.capacity_bytes > 0) {
    device.files_max = static_cast<std::uint32_t>(std::min<std::uint64_t>(
        options.capacity_bytes / segment_bytes + files_in(device.directory) + 16,
        kSegmentCountMax));
  }
  return settings;
}

SetupResult<NewDirectories> make_directory(const Parameters& parameters) {
  const std::string& path = parameters.text("path");
  const std::string name = "log: path=" + path;
  LARDER_ASSIGN(NewDirectories directories,
                NewDirectories::make(name, path, 0700, parameters.flag("create")));
  if (::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK | X_OK, AT_EACCESS) == 0) return directories;
  return SetupError{ErrorCode::kUnavailable,
                    name + ": cannot read and write the directory: " + errno_text(errno) +
                        ": run as its owner, or name another directory"};
}

const ConnectorType& connector_type() {
  static const ConnectorType kType{
      .name = "log",
      .summary =
          "A preallocated log of segments on this machine's own disk, with every read proven.",
      .example = "log:/data/kv?capacity=200GiB",
      .location_parameter = "path",
      .parameters = kParameters,
      .metrics = path_metrics(),
      .open = open_log,
  };
  return kType;
}

}  // namespace larder::log_store
