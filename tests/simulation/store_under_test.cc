#include "tests/simulation/store_under_test.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

namespace larder::simulation {

/// Passes everything on, and kills its owner at a chosen call.
class StoreUnderTest::MortalDevice final : public io::Directory, public io::TransferQueue {
 public:
  MortalDevice(io::SimulatedDisk& disk, io::SimulatedDevice& device, std::uint64_t& calls_left)
      : disk_(disk), device_(device), calls_left_(calls_left) {}

  const io::DirectoryFacts& facts() const noexcept override { return device_.facts(); }
  Result<std::vector<io::FileInfo>> list() override { return device_.list(); }
  Result<io::FileId> open(std::string_view name, io::OpenMode mode) override {
    age();
    return device_.open(name, mode);
  }
  void close(io::FileId file) noexcept override { device_.close(file); }
  Result<io::FileInfo> info(io::FileId file) override { return device_.info(file); }
  Status allocate(io::FileId file, std::uint64_t bytes) override {
    age();
    return device_.allocate(file, bytes);
  }
  Status remove(std::string_view name) override {
    age();
    return device_.remove(name);
  }
  Status sync_directory() override {
    age();
    return device_.sync_directory();
  }
  Result<io::Space> space() override { return device_.space(); }
  Result<bool> shares_blocks(std::string_view name) override { return device_.shares_blocks(name); }
  Status lock(io::FileId file, std::uint64_t deadline_ns) override {
    return device_.lock(file, deadline_ns);
  }
  void submit(io::Request& request) noexcept override {
    age();
    device_.submit(request);
  }
  std::size_t reap(std::span<io::Request*> done) noexcept override { return device_.reap(done); }
  void wait(std::uint64_t until_ns) noexcept override { device_.wait(until_ns); }
  void wake() noexcept override { device_.wake(); }

 private:
  void age() noexcept {
    if (calls_left_ == 0) return;
    --calls_left_;
    if (calls_left_ > 0 || !device_.is_alive()) return;
    disk_.kill_owner(device_);
  }

  io::SimulatedDisk& disk_;
  io::SimulatedDevice& device_;
  std::uint64_t& calls_left_;
};

StoreUnderTest::StoreUnderTest(const log_store::PathOptions& path_options,
                               const io::SimulatedDiskOptions& disk_options, OnBatch on_batch)
    : path_options_(path_options), on_batch_(std::move(on_batch)), disk_(disk_options, clock_) {}

StoreUnderTest::~StoreUnderTest() {
  bury();
}

void StoreUnderTest::bury() noexcept {
  if (path_ != nullptr) path_->intake().abandon_for_test();
  path_.reset();
  mortal_.reset();
  device_.reset();
}

SetupStatus StoreUnderTest::open() {
  io::DeviceOptions device_options;
  device_options.depth = path_options_.depth + 32;
  device_ = disk_.mount(device_options);
  mortal_ = std::make_unique<MortalDevice>(disk_, *device_, calls_until_death_);
  auto path = log_store::LogPath::open(path_options_, *mortal_, *mortal_, clock_, "the disk");
  if (!path || !device_->is_alive()) {
    const bool was_killed = !device_->is_alive();
    if (path) path->reset();
    bury();
    if (was_killed) return SetupError{ErrorCode::kCancelled, "killed while opening"};
    return path.error();
  }
  path_ = std::move(*path);
  path_->intake().set_owner(this);
  return {};
}

void StoreUnderTest::reap() {
  std::array<Batch*, 64> done{};
  while (const std::size_t count = path_->intake().reap(done)) {
    for (Batch* const batch : std::span{done}.first(count)) {
      if (is_alive()) on_batch_(*batch);
    }
  }
}

void StoreUnderTest::turn() {
  has_news_ = false;
  path_->turn();
  reap();
}

void StoreUnderTest::cancel(Batch& batch) {
  path_->intake().cancel(batch);
}

void StoreUnderTest::begin_stop() {
  path_->intake().stop();
  path_->begin_stop();
}

void StoreUnderTest::wait(std::uint64_t until_ns) {
  if (has_news_) return;
  mortal_->wait(std::min(until_ns, path_->next_timer_ns()));
}

Status StoreUnderTest::close() {
  Status closed = path_->close();
  if (!is_alive()) closed = Error{ErrorCode::kCancelled, "close", "killed"};
  bury();
  return closed;
}

void StoreUnderTest::kill() {
  if (is_alive()) disk_.kill_owner(*device_);
  bury();
}

void StoreUnderTest::cut_power() {
  disk_.power_cut();
  bury();
}

std::uint64_t StoreUnderTest::bytes_of_files() const {
  std::uint64_t bytes = 0;
  for (const std::string& name : disk_.names()) {
    if (name != "lost+found") bytes += disk_.file_bytes(name);
  }
  return bytes;
}

}  // namespace larder::simulation
