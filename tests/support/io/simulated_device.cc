#include "tests/support/io/simulated_device.h"

#include <algorithm>
#include <cerrno>

#include "larder/base/check.h"
#include "larder/io/file_name.h"

namespace larder::io {

namespace {

Error dead() noexcept {
  return Error::from_errno(EIO, "simulated device", "its owner was killed or the power was cut");
}

}  // namespace

SimulatedDevice::SimulatedDevice(SimulatedDisk& disk, std::uint64_t owner,
                                 const DeviceOptions& options)
    : disk_(disk),
      owner_(owner),
      depth_(std::max<std::size_t>(options.depth, 1)),
      files_max_(options.files_max) {
  facts_.direct = disk.options_.strict_alignment;
  if (facts_.direct) facts_.alignment = disk.options_.alignment;
  facts_.file_system = "simulated";
  facts_.may_share_blocks = true;
}

SimulatedDevice::~SimulatedDevice() {
  if (is_alive_) disk_.unmount(owner_);
}

void SimulatedDevice::die() noexcept {
  is_alive_ = false;
  submitted_.clear();
  done_.clear();
  files_.clear();
  on_disk_ = 0;
}

SimulatedDevice::OpenFile& SimulatedDevice::file_of(FileId file) noexcept {
  LARDER_CHECK(file < files_.size() && files_[file].file != nullptr);
  return files_[file];
}

// --- Control plane ------------------------------------------------------------------------------

Result<std::vector<FileInfo>> SimulatedDevice::list() {
  if (!is_alive_) return dead();
  std::vector<FileInfo> infos;
  for (const auto& [name, file] : disk_.names_) {
    infos.push_back({name, file->bytes(), file->allocated_bytes(), true});
  }
  return infos;
}

Result<FileId> SimulatedDevice::open(std::string_view name, OpenMode mode) {
  if (!is_alive_) return dead();
  auto slot = std::find_if(files_.begin(), files_.end(),
                           [](const OpenFile& open_file) { return open_file.file == nullptr; });
  if (slot == files_.end() && files_.size() >= files_max_) {
    return Error{ErrorCode::kResourceExhausted, "simulated device", "too many open files"};
  }
  LARDER_ASSIGN(auto file, disk_.open_file(name, mode));
  if (slot == files_.end()) slot = files_.emplace(files_.end());
  slot->name = name;
  slot->file = std::move(file);
  slot->is_read_only = mode == OpenMode::kReadOnly;
  return static_cast<FileId>(slot - files_.begin());
}

void SimulatedDevice::close(FileId file) noexcept {
  if (!is_alive_) return;
  OpenFile& open_file = file_of(file);
  LARDER_CHECK(open_file.in_flight == 0);
  if (open_file.is_locked) disk_.release_lock(owner_, open_file.file);
  open_file = {};
}

Result<FileInfo> SimulatedDevice::info(FileId file) {
  if (!is_alive_) return dead();
  const OpenFile& open_file = file_of(file);
  return FileInfo{open_file.name, open_file.file->bytes(), open_file.file->allocated_bytes(), true};
}

Status SimulatedDevice::allocate(FileId file, std::uint64_t bytes) {
  if (!is_alive_) return dead();
  if (file_of(file).is_read_only) {
    return Error::from_errno(EBADF, "simulated device", "allocating a file");
  }
  return disk_.allocate(*file_of(file).file, bytes);
}

Status SimulatedDevice::remove(std::string_view name) {
  if (!is_alive_) return dead();
  return disk_.remove_name(name);
}

Status SimulatedDevice::sync_directory() {
  if (!is_alive_) return dead();
  return disk_.sync_directory();
}

Result<Space> SimulatedDevice::space() {
  if (!is_alive_) return dead();
  return disk_.space();
}

Result<bool> SimulatedDevice::shares_blocks(std::string_view name) {
  if (!is_alive_) return dead();
  const auto found = disk_.names_.find(name);
  return found != disk_.names_.end() && found->second->shared_bytes() > 0;
}

Status SimulatedDevice::lock(FileId file, std::uint64_t deadline_ns) {
  if (!is_alive_) return dead();
  OpenFile& open_file = file_of(file);
  LARDER_TRY(disk_.lock(owner_, open_file.file, deadline_ns));
  open_file.is_locked = true;
  return {};
}

// --- Data plane ---------------------------------------------------------------------------------

void SimulatedDevice::submit(Request& request) noexcept {
  if (!is_alive_) return;
  LARDER_CHECK(request.operation == Operation::kSync ||
               (!request.buffers.empty() && request.buffers.size() <= kBuffersMax));
  ++file_of(request.file).in_flight;
  request.bytes_done = 0;
  request.sys_errno = 0;
  if (request.operation == Operation::kWrite && file_of(request.file).is_read_only) {
    request.sys_errno = EBADF;
    return done_.push(request);
  }
  submitted_.push(request);
}

void SimulatedDevice::hand_over() noexcept {
  while (on_disk_ < depth_ && !submitted_.empty()) {
    Request& request = *submitted_.pop();
    ++on_disk_;
    disk_.start(owner_, file_of(request.file).file, request);
  }
}

void SimulatedDevice::on_end(Request& request) noexcept {
  --on_disk_;
  done_.push(request);
}

std::size_t SimulatedDevice::reap(std::span<Request*> done) noexcept {
  if (!is_alive_) return 0;
  hand_over();
  disk_.run_due_events();
  hand_over();
  std::size_t count = 0;
  while (count < done.size() && !done_.empty()) {
    done[count] = done_.pop();
    --file_of(done[count]->file).in_flight;
    ++count;
  }
  return count;
}

void SimulatedDevice::wait(std::uint64_t until_ns) noexcept {
  while (is_alive_) {
    hand_over();
    disk_.run_due_events();
    hand_over();
    if (!done_.empty() || woken_.exchange(false, std::memory_order_acquire)) return;
    if (disk_.clock_.now_ns() >= until_ns) return;
    const std::uint64_t next_ns = disk_.next_event_ns();
    if (next_ns == kNever && until_ns == kNever) {
      ++disk_.counts_.waits_for_nothing;
      return;
    }
    disk_.clock_.advance_to_ns(std::min(next_ns, until_ns));
  }
}

}  // namespace larder::io
