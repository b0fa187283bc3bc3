#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "larder/base/clock.h"
#include "larder/connector/connector.h"
#include "larder/connectors/log/machine/path.h"
#include "tests/support/io/simulated_device.h"
#include "tests/support/io/simulated_disk.h"

namespace larder::simulation {

/// One LogPath with its clock, its disk and its owner's life: opened, driven, closed, killed, cut
/// off from power, opened again. Everything follows from the options and the calls.
///
/// Threads: one. Ownership: batches are the caller's; those that were accepted and did not come
/// back
///   are forgotten when the owner dies.
class StoreUnderTest final : private IntakeOwner {
 public:
  /// Called for each batch that a living owner ends.
  using OnBatch = std::function<void(Batch&)>;

  StoreUnderTest(const log_store::PathOptions& path_options,
                 const io::SimulatedDiskOptions& disk_options, OnBatch on_batch);
  ~StoreUnderTest() override;
  StoreUnderTest(const StoreUnderTest&) = delete;
  StoreUnderTest& operator=(const StoreUnderTest&) = delete;

  /// The next open or run dies at its `calls`-th call to the device. 0: it lives.
  void die_after(std::uint64_t calls) noexcept { calls_until_death_ = calls; }
  /// What the store was opened with; a change holds from the next open on.
  log_store::PathOptions& options() noexcept { return path_options_; }
  const log_store::PathOptions& options() const noexcept { return path_options_; }
  /// Opens or makes the store. An error leaves it closed.
  SetupStatus open();
  bool is_open() const noexcept { return path_ != nullptr; }
  /// False once the owner was killed in the middle of a call; kill() buries it.
  bool is_alive() const noexcept { return device_ != nullptr && device_->is_alive(); }

  Status submit(Batch& batch) { return path_->intake().submit(batch); }
  void cancel(Batch& batch);
  /// A turn of the path, and the way back of what it has ended.
  void turn();
  /// The intake has told its owner of something since the turn began: the next one is due.
  bool has_news() const noexcept { return has_news_; }
  /// Moves the clock to the next event or timer, `until_ns` at most; not while there is news.
  void wait(std::uint64_t until_ns);

  /// Stops the intake; turn() then until path().is_idle().
  void begin_stop();
  /// After that. The owner is gone afterwards in any case.
  Status close();
  void kill();
  void cut_power();

  log_store::LogPath& path() noexcept { return *path_; }
  io::SimulatedDisk& disk() noexcept { return disk_; }
  ManualClock& clock() noexcept { return clock_; }
  /// Bytes of all files of the store.
  std::uint64_t bytes_of_files() const;

 private:
  class MortalDevice;

  void on_submitted(Op /*op*/) noexcept override { has_news_ = true; }
  void on_cancelled() noexcept override { has_news_ = true; }
  void reap();
  void bury() noexcept;

  log_store::PathOptions path_options_;
  const OnBatch on_batch_;
  ManualClock clock_;
  io::SimulatedDisk disk_;
  std::uint64_t calls_until_death_ = 0;
  bool has_news_ = false;
  std::unique_ptr<io::SimulatedDevice> device_;
  std::unique_ptr<MortalDevice> mortal_;
  std::unique_ptr<log_store::LogPath> path_;
};

}  // namespace larder::simulation
