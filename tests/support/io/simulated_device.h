#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "larder/io/device.h"
#include "larder/io/request_queue.h"
#include "tests/support/io/simulated_disk.h"

namespace larder::io {

/// One owner's view of a SimulatedDisk: a directory and its queue under virtual time. wait() moves
/// the clock to the next event, to its `until_ns` at most, and returns at once where a real device
/// would wait for ever. Submitted requests start only at the next reap() or wait(), `depth` at a
/// time.
///
/// Its owner can die (SimulatedDisk::kill_owner(), power_cut()): then submit() drops, reap() finds
/// nothing, wait() returns at once, the control plane fails with EIO, and the destructor waits for
/// nothing. The destructor of a living one lets the disk finish what it has, without moving the
/// clock. Threads: one at a time for the disk and all its devices; wake() from any. Ownership: the
/// disk outlives it.
class SimulatedDevice final : public Directory, public TransferQueue {
 public:
  ~SimulatedDevice() override;
  SimulatedDevice(const SimulatedDevice&) = delete;
  SimulatedDevice& operator=(const SimulatedDevice&) = delete;

  const DirectoryFacts& facts() const noexcept override { return facts_; }
  Result<std::vector<FileInfo>> list() override;
  Result<FileId> open(std::string_view name, OpenMode mode) override;
  void close(FileId file) noexcept override;
  Result<FileInfo> info(FileId file) override;
  Status allocate(FileId file, std::uint64_t bytes) override;
  Status remove(std::string_view name) override;
  Status sync_directory() override;
  Result<Space> space() override;
  Result<bool> shares_blocks(std::string_view name) override;
  Status lock(FileId file, std::uint64_t deadline_ns) override;

  void submit(Request& request) noexcept override;
  std::size_t reap(std::span<Request*> done) noexcept override;
  void wait(std::uint64_t until_ns) noexcept override;
  void wake() noexcept override { woken_.store(true, std::memory_order_release); }

  /// False after kill_owner() or power_cut().
  bool is_alive() const noexcept { return is_alive_; }

 private:
  friend class SimulatedDisk;

  struct OpenFile {
    std::string name;
    std::shared_ptr<SimulatedFile> file;  // Null: the slot is free. Shared with the disk's names.
    std::uint64_t in_flight = 0;          // From submit() to reap().
    bool is_locked = false;
    bool is_read_only = false;
  };

  SimulatedDevice(SimulatedDisk& disk, std::uint64_t owner, const DeviceOptions& options);

  void die() noexcept;
  void hand_over() noexcept;
  void on_end(Request& request) noexcept;  // By the disk.
  OpenFile& file_of(FileId file) noexcept;

  SimulatedDisk& disk_;
  const std::uint64_t owner_;
  const std::size_t depth_;
  const std::size_t files_max_;
  DirectoryFacts facts_;
  std::vector<OpenFile> files_;
  RequestQueue submitted_;
  RequestQueue done_;
  std::size_t on_disk_ = 0;
  bool is_alive_ = true;
  std::atomic<bool> woken_ = false;
};

}  // namespace larder::io
