#include "larder/connectors/fs/fs_connector.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <utility>

#include "larder/base/logging.h"
#include "larder/connector/common_parameters.h"
#include "larder/io/uring_probe.h"

namespace larder::fs {

SetupResult<std::unique_ptr<Connector>> FsConnector::open(const FsOptions& options) {
  LARDER_ASSIGN(const io::RingChoice choice, io::choose_ring());
  LARDER_ASSIGN(std::shared_ptr<FileStore> store, FileStore::open(options));
  const bool is_staged = options.staged == Staged::kYes ||
                         (options.staged == Staged::kAuto && store->facts().is_network);
  if (!choice.why_not.empty() && !is_staged) {
    log(LogLevel::kWarning, "fs", choice.why_not + "; loads are as deep as there are workers");
  }
  if (options.use_direct && !store->facts().is_direct) {
    log(LogLevel::kWarning, "fs",
        "use_odirect is not possible in '" + options.base_path +
            "': " + store->facts().no_direct_why + "; files are buffered");
  }
  struct statvfs space{};
  if (::statvfs(options.base_path.c_str(), &space) == 0) {
    store->note_remark(larger_than_file_system(options.capacity_bytes,
                                               std::uint64_t{space.f_blocks} * space.f_frsize));
  }
  std::unique_ptr<FsConnector> made{
      new FsConnector{store, choice.why_not, is_staged, choice.has_ring && !is_staged}};
  LARDER_ASSIGN(made->executor_, Executor::create(store, is_staged, made->has_ring_));
  auto sweeper = Sweeper::start(std::move(store));
  if (!sweeper) return SetupError{sweeper.error().code(), "fs: " + sweeper.error().to_string()};
  made->sweeper_ = std::move(*sweeper);
  return std::unique_ptr<Connector>{std::move(made)};
}

FsConnector::FsConnector(std::shared_ptr<FileStore> store, std::string degraded_why, bool is_staged,
                         bool has_ring)
    : store_(std::move(store)),
      degraded_why_(std::move(degraded_why)),
      is_staged_(is_staged),
      has_ring_(has_ring),
      scans_(store_) {}

Capabilities FsConnector::capabilities() const noexcept {
  const FsOptions& options = store_->options();
  const io::Alignment& alignment = store_->facts().alignment;
  Capabilities capabilities;
  capabilities.buffer_alignment = std::max(alignment.memory, alignment.offset);
  capabilities.slices_max = io::kBuffersMax;
  capabilities.value_bytes_max = options.value_bytes_max;
  capabilities.integrity =
      options.checksum == Checksum::kXattr ? Integrity::kChecked : Integrity::kNone;
  capabilities.locality =
      store_->facts().is_network ? Locality::kSharedFiles : Locality::kLocalDisk;
  capabilities.has_scan = true;
  capabilities.survives_restart = true;
  return capabilities;
}

Report FsConnector::report() const {
  const Capabilities can = capabilities();
  Report report;
  report.type = connector_type().name;
  report.where = store_->options().base_path;
  report.integrity = can.integrity;
  report.locality = can.locality;
  report.properties = {{"io", has_ring_ ? "uring" : "threads"},
                       {"staged", is_staged_ ? "yes" : "no"},
                       {"buffer_alignment", std::to_string(can.buffer_alignment)}};
  if (!store_->options().made.empty()) {
    report.properties.emplace_back("made", store_->options().made);
  }
  if (!degraded_why_.empty() && !is_staged_) {
    report.health = Health::kDegraded;
    report.reasons.push_back(degraded_why_);
  }
  store_->append_report(report);
  executor_->append_report(report);
  return report;
}

Result<ScanPage> FsConnector::scan(ScanCursor from, std::size_t keys_max) {
  return scans_.next(from, keys_max);
}

}  // namespace larder::fs
