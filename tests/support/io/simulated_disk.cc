#include "tests/support/io/simulated_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "larder/base/check.h"
#include "larder/io/file_name.h"
#include "tests/support/io/simulated_device.h"
#include "tests/support/io/simulated_history.h"

namespace larder::io {

namespace {

constexpr const char* kWhere = "simulated disk";

void forget(std::vector<std::shared_ptr<SimulatedFile>>& files, const SimulatedFile* file) {
  std::erase_if(files, [file](const auto& held) { return held.get() == file; });
}

bool holds(const std::vector<std::shared_ptr<SimulatedFile>>& files, const SimulatedFile* file) {
  return std::any_of(files.begin(), files.end(),
                     [file](const auto& held) { return held.get() == file; });
}

}  // namespace

SimulatedDisk::SimulatedDisk(const SimulatedDiskOptions& options, ManualClock& clock)
    : options_(options), clock_(clock), random_(options.seed), faults_(options.faults) {}

SimulatedDisk::~SimulatedDisk() {
  for (const auto& [number, owner] : owners_) LARDER_CHECK(owner.device == nullptr);
}

std::unique_ptr<SimulatedDevice> SimulatedDisk::mount(const DeviceOptions& options) {
  const std::uint64_t number = next_owner_++;
  // make_unique cannot reach the private constructor.
  std::unique_ptr<SimulatedDevice> device{new SimulatedDevice(*this, number, options)};
  owners_[number].device = device.get();
  return device;
}

void SimulatedDisk::unmount(std::uint64_t owner) {
  // What the disk has, it finishes; the clock stands still, so stalls end here too.
  for (auto flight = flights_.begin(); flight != flights_.end();) {
    if (flight->second.owner != owner) {
      ++flight;
      continue;
    }
    auto node = flights_.extract(flight);
    run(node.key(), std::move(node.mapped()));
    flight = flights_.begin();
  }
  owners_.erase(owner);
}

// --- Names and space ----------------------------------------------------------------------------

Result<SimulatedDisk::FilePtr> SimulatedDisk::open_file(std::string_view name, OpenMode mode) {
  if (!is_plain_file_name(name)) {
    return Error{ErrorCode::kInvalidArgument, kWhere, "opening a file: not a plain name"};
  }
  const auto found = names_.find(name);
  if (mode != OpenMode::kCreate) {
    if (found == names_.end()) return Error::from_errno(ENOENT, kWhere, "opening a file");
    const SimulatedFile& file = *found->second;
    const bool is_permitted =
        file.forbidden_errno() == 0 || (mode == OpenMode::kReadOnly && file.is_immutable());
    const bool is_injected = chance(faults_.open_error);
    if (is_permitted && !is_injected) return found->second;
    ++counts_.refused_opens;
    return Error::from_errno(is_permitted ? EMFILE : file.forbidden_errno(), kWhere,
                             "opening a file");
  }
  if (found != names_.end()) return Error::from_errno(EEXIST, kWhere, "creating a file");
  auto file = std::make_shared<SimulatedFile>(next_file_++);
  names_.emplace(name, file);
  record(kCreated, file->number());
  return file;
}

Status SimulatedDisk::remove_name(std::string_view name) {
  const auto found = names_.find(name);
  if (found == names_.end()) return Error::from_errno(ENOENT, kWhere, "removing a file");
  if (found->second->is_immutable() || chance(faults_.remove_error)) {
    ++counts_.refused_removals;
    return Error::from_errno(found->second->is_immutable() ? EPERM : EIO, kWhere,
                             "removing a file");
  }
  bytes_of_copies_ += found->second->shared_bytes();
  record(kRemoved, found->second->number());
  names_.erase(found);
  return {};
}

Status SimulatedDisk::sync_directory() {
  if (chance(faults_.sync_directory_error)) {
    ++counts_.sync_directory_errors;
    return Error::from_errno(EIO, kWhere, "syncing the directory");
  }
  durable_names_ = names_;
  record(kDirectorySynced, names_.size());
  return {};
}

std::uint64_t SimulatedDisk::used_bytes(bool with_unsynced_removals) const {
  std::set<const SimulatedFile*> files;
  for (const auto& [name, file] : names_) files.insert(file.get());
  if (with_unsynced_removals) {
    for (const auto& [name, file] : durable_names_) files.insert(file.get());
  }
  for (const auto& [number, owner] : owners_) {
    if (owner.device == nullptr) continue;
    for (const auto& open : owner.device->files_) {
      if (open.file != nullptr) files.insert(open.file.get());
    }
  }
  std::uint64_t bytes = bytes_of_copies_;
  for (const SimulatedFile* file : files) bytes += file->allocated_bytes();
  return bytes;
}

Space SimulatedDisk::space() const {
  const std::uint64_t used = used_bytes(false);
  return {options_.capacity_bytes,
          options_.capacity_bytes - std::min(used, options_.capacity_bytes)};
}

bool SimulatedDisk::reserve(SimulatedFile& file, std::uint64_t end) {
  const std::uint64_t wanted = round_up(end, kBlockBytes);
  if (wanted <= file.allocated_bytes()) return true;
  const std::uint64_t more = wanted - file.allocated_bytes();
  if (used_bytes(true) + more > options_.capacity_bytes) {
    if (used_bytes(false) + more > options_.capacity_bytes) {
      ++counts_.out_of_space;
      return false;
    }
    // The blocks of removed files are needed: as a journalling file system does, make the removals
    // durable before their blocks get a new owner.
    durable_names_ = names_;
  }
  file.set_allocated(wanted);
  return true;
}

/// The copy keeps the block, and the file gets a new one; false when there is none.
bool SimulatedDisk::unshare(SimulatedFile& file, std::uint64_t offset, std::uint64_t bytes) {
  const std::uint64_t more = file.shared_bytes_in(offset, bytes);
  if (more == 0) return true;
  if (used_bytes(false) + more > options_.capacity_bytes) {
    ++counts_.out_of_space;
    return false;
  }
  ++counts_.unshared;
  bytes_of_copies_ += more;
  file.unshare(offset, bytes);
  return true;
}

Status SimulatedDisk::allocate(SimulatedFile& file, std::uint64_t bytes) {
  if (chance(faults_.allocate_error)) {
    ++counts_.allocate_errors;
    return Error::from_errno(ENOSPC, kWhere, "allocating a file (injected)");
  }
  if (!reserve(file, bytes)) return Error::from_errno(ENOSPC, kWhere, "allocating a file");
  file.extend(bytes);
  record(kAllocated, file.number(), bytes);
  return {};
}

// --- Locks --------------------------------------------------------------------------------------

bool SimulatedDisk::is_locked_by_other(std::uint64_t owner, const SimulatedFile& file) const {
  return std::any_of(owners_.begin(), owners_.end(), [&](const auto& entry) {
    const auto& [number, other] = entry;
    return number != owner && (holds(other.locks, &file) || holds(other.retired_locks, &file));
  });
}

Status SimulatedDisk::lock(std::uint64_t owner, const FilePtr& file, std::uint64_t deadline_ns) {
  run_due_events();
  if (is_locked_by_other(owner, *file)) ++counts_.lock_conflicts;
  while (is_locked_by_other(owner, *file)) {
    const std::uint64_t next_ns = next_event_ns();
    if (next_ns >= deadline_ns) {
      if (deadline_ns == kNever) {
        ++counts_.waits_for_nothing;
      } else {
        clock_.advance_to_ns(deadline_ns);
      }
      run_due_events();
      if (!is_locked_by_other(owner, *file)) break;
      return Error{ErrorCode::kUnavailable, kWhere, "another owner holds the lock"};
    }
    clock_.advance_to_ns(next_ns);
    run_due_events();
  }
  Owner& self = owners_.at(owner);
  forget(self.retired_locks, file.get());
  if (!holds(self.locks, file.get())) self.locks.push_back(file);
  record(kLocked, file->number(), owner);
  return {};
}

void SimulatedDisk::release_lock(std::uint64_t owner, const FilePtr& file) {
  Owner& self = owners_.at(owner);
  forget(self.locks, file.get());
  if (self.in_flight != 0) self.retired_locks.push_back(file);
}

// --- The test's hand ----------------------------------------------------------------------------

SimulatedFile& SimulatedDisk::file_named(std::string_view name) const {
  const auto found = names_.find(name);
  LARDER_CHECK(found != names_.end());
  return *found->second;
}

std::vector<std::string> SimulatedDisk::names() const {
  std::vector<std::string> names;
  names.reserve(names_.size());
  for (const auto& [name, file] : names_) names.push_back(name);
  return names;
}

std::vector<std::string> SimulatedDisk::removed_names() const {
  std::vector<std::string> removed;
  for (const auto& [name, file] : durable_names_) {
    const auto now = names_.find(name);
    if (now == names_.end() || now->second != file) removed.push_back(name);
  }
  return removed;
}

std::uint64_t SimulatedDisk::file_bytes(std::string_view name) const {
  return file_named(name).bytes();
}

std::vector<std::byte> SimulatedDisk::read_image(std::string_view name, std::uint64_t offset,
                                                 std::size_t bytes) const {
  const SimulatedFile& file = file_named(name);
  LARDER_CHECK(offset + bytes <= file.bytes());
  std::vector<std::byte> image(bytes);
  file.current().read(offset, image);
  return image;
}

std::vector<std::byte> SimulatedDisk::read_durable_image(std::string_view name,
                                                         std::uint64_t offset,
                                                         std::size_t bytes) const {
  std::vector<std::byte> image(bytes);
  file_named(name).durable().read(offset, image);
  return image;
}

void SimulatedDisk::write_image(std::string_view name, std::uint64_t offset,
                                std::span<const std::byte> bytes) {
  SimulatedFile& file = file_named(name);
  LARDER_CHECK(offset + bytes.size() <= file.bytes());
  if (!bytes.empty()) file.patch(offset, bytes);
  record(kPatched, file.number(), offset, bytes.size());
}

void SimulatedDisk::flip_bit(std::string_view name, std::uint64_t offset, unsigned bit) {
  LARDER_CHECK(bit < 8);
  auto byte = read_image(name, offset, 1);
  byte[0] ^= std::byte{1} << bit;
  write_image(name, offset, byte);
}

void SimulatedDisk::copy_file(std::string_view from, std::string_view to) {
  const SimulatedFile& source = file_named(from);
  auto found = names_.find(to);
  if (found == names_.end()) {
    found = names_.emplace(to, std::make_shared<SimulatedFile>(next_file_++)).first;
  }
  if (found->second.get() != &source) found->second->copy_content_of(source);
  durable_names_.insert_or_assign(std::string{to}, found->second);
  record(kPatched, found->second->number());
}

void SimulatedDisk::swap_files(std::string_view one, std::string_view other) {
  SimulatedFile& first = file_named(one);
  SimulatedFile& second = file_named(other);
  if (&first != &second) first.swap_content(second);
  record(kPatched, first.number(), second.number());
}

void SimulatedDisk::truncate(std::string_view name, std::uint64_t bytes) {
  SimulatedFile& file = file_named(name);
  file.truncate(bytes);
  record(kPatched, file.number(), bytes);
}

void SimulatedDisk::remove(std::string_view name) {
  record(kRemoved, file_named(name).number());
  names_.erase(names_.find(name));
  if (const auto found = durable_names_.find(name); found != durable_names_.end()) {
    durable_names_.erase(found);
  }
}

void SimulatedDisk::forbid_open(std::string_view name, int sys_errno, bool is_readable) {
  file_named(name).forbid(sys_errno, is_readable);
}

void SimulatedDisk::permit_open(std::string_view name) {
  file_named(name).forbid(0, true);
}

void SimulatedDisk::copy_by_reference() {
  for (const auto& [name, file] : names_) {
    file->share_blocks(true);
  }
}

void SimulatedDisk::remove_copies() {
  for (const auto& [name, file] : names_) file->share_blocks(false);
  bytes_of_copies_ = 0;
}

void SimulatedDisk::record(std::uint64_t what, std::uint64_t a, std::uint64_t b,
                           std::uint64_t c) noexcept {
  for (const std::uint64_t word : {what, clock_.now_ns(), a, b, c}) {
    history_hash_ = mix_history(history_hash_, word);
  }
}

}  // namespace larder::io
