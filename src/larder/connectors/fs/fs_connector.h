#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "larder/connector/connector.h"
#include "larder/connector/registry.h"
#include "larder/connectors/fs/executor.h"
#include "larder/connectors/fs/file_store.h"
#include "larder/connectors/fs/scans.h"
#include "larder/connectors/fs/sweeper.h"

namespace larder::fs {

/// One file for each value, in LMCache's names and format: for file systems that several processes
/// and machines share, and for directories that LMCache's `fs` and `fs_native` wrote or will read.
///
/// The file system alone says what exists, at every call: other processes, larder or LMCache, may
/// store, read and remove in the same directory at any time. A hit is a whole file of the right
/// name and length; only `checksum=xattr` proves, for every hit, that its bytes are those that were
/// stored.
/// Ownership: the store, shared with its threads. Threads: as the contract says; see Executor and
/// Sweeper. Cost: a few system calls and a name of about 100 bytes for each key; no copy of values,
/// but where direct I/O or staging needs one (bytes_staged_total).
class FsConnector final : public Connector {
 public:
  static SetupResult<std::unique_ptr<Connector>> open(const FsOptions& options);
  ~FsConnector() override = default;
  FsConnector(const FsConnector&) = delete;
  FsConnector& operator=(const FsConnector&) = delete;

  Status submit(Batch& batch) noexcept override { return executor_->submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept override { return executor_->reap(done); }
  int event_fd() const noexcept override { return executor_->event_fd(); }
  void cancel(Batch& batch) noexcept override { executor_->cancel(batch); }
  bool probe(std::span<Item> items) const noexcept override { return executor_->probe(items); }
  std::uint64_t load_ns(std::span<const LoadSize> sizes) const noexcept override {
    return executor_->load_ns(sizes);
  }
  Capabilities capabilities() const noexcept override;
  Report report() const override;
  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override;
  Status stop(std::uint64_t deadline_ns) noexcept override { return executor_->stop(deadline_ns); }

 private:
  FsConnector(std::shared_ptr<FileStore> store, std::string degraded_why, bool is_staged,
              bool has_ring);

  const std::shared_ptr<FileStore> store_;
  const std::string degraded_why_;
  const bool is_staged_;
  const bool has_ring_;
  Scans scans_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Sweeper> sweeper_;
};

/// Reads and checks the parameters of an `fs:` spec as an open does; looks at no disk.
SetupResult<FsOptions> read_options(const Parameters& parameters);

const ConnectorType& connector_type();
/// The same type under LMCache's other name.
const ConnectorType& native_connector_type();

}  // namespace larder::fs
