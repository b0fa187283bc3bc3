#include "larder/cache/arena/arena.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/cache/arena/arena_memory.h"
#include "larder/cache/arena/commit_ahead.h"
#include "larder/cache/arena/segment_file.h"

namespace larder::cache {
namespace {

SetupError invalid(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

}  // namespace

SetupStatus ArenaOptions::validate() const {
  if (grain_bytes < SlotAllocator::kGrainMin || grain_bytes > SlotAllocator::kGrainMax ||
      (grain_bytes & (grain_bytes - 1)) != 0) {
    return invalid("L1's alignment of " + format_bytes_exact(grain_bytes) +
                   " is not a power of two from 64 bytes to 1GiB; 4096 suits every device");
  }
  if (capacity_bytes < grain_bytes) {
    return invalid("an L1 of " + format_bytes_exact(capacity_bytes) +
                   " does not hold one slot of its alignment, " + format_bytes_exact(grain_bytes) +
                   "; make it larger");
  }
  if (capacity_bytes / grain_bytes > SlotAllocator::kGrainsMax) {
    return invalid("an L1 of " + format_bytes_exact(capacity_bytes) +
                   " has more than 2^32 slots of " + format_bytes_exact(grain_bytes) +
                   "; raise its alignment");
  }
  if (kind != ArenaKind::kShared) return {};
  if (!directory.starts_with('/') || directory.find('\0') != std::string::npos) {
    return invalid("'" + printable(directory) +
                   "' is no directory for shared memory; give an absolute path, such as /dev/shm");
  }
  return SegmentFile::check_name(name);
}

SetupResult<std::unique_ptr<Arena>> Arena::open(const ArenaOptions& options) {
  LARDER_TRY(options.validate());
  Result<SlotAllocator> slots = SlotAllocator::create(options.capacity_bytes, options.grain_bytes);
  if (!slots) return SetupError{slots.error().code(), slots.error().to_string()};
  if (options.kind == ArenaKind::kOffsets) {
    return std::unique_ptr<Arena>{new Arena{*std::move(slots), nullptr, nullptr}};
  }
  LARDER_ASSIGN(std::unique_ptr<ArenaMemory> memory,
                ArenaMemory::open(options, slots->capacity_bytes()));
  std::unique_ptr<CommitAhead> helper;
  if (options.commit_ahead_bytes != 0) {
    auto started = CommitAhead::start(*memory, slots->capacity_bytes(), options.commit_ahead_bytes);
    if (!started) return SetupError{started.error().code(), started.error().to_string()};
    helper = *std::move(started);
  }
  return std::unique_ptr<Arena>{new Arena{*std::move(slots), std::move(memory), std::move(helper)}};
}

Arena::Arena(SlotAllocator slots, std::unique_ptr<ArenaMemory> memory,
             std::unique_ptr<CommitAhead> helper) noexcept
    : slots_(std::move(slots)),
      memory_(std::move(memory)),
      helper_(std::move(helper)),
      opened_by_(::getpid()) {
  if (memory_ != nullptr && memory_->file() != nullptr) name_ = memory_->file()->name();
}

Arena::~Arena() {
  if (::getpid() == opened_by_) return;
  // In a child that fork() made, thread and mapping do not exist, the name is the parent's, and the
  // helper's lock may be held for ever.
  (void)helper_.release();  // NOLINT(bugprone-unused-return-value)
  (void)memory_.release();  // NOLINT(bugprone-unused-return-value)
}

Result<SlotRef, NoRoom> Arena::take(std::uint64_t bytes) noexcept {
  if (const auto offset = slots_.allocate(bytes)) return SlotRef{*offset, bytes};
  const std::uint64_t taken = slots_.taken_for(bytes);
  const std::uint64_t tail = slots_.free_tail_bytes();
  if (taken <= tail || taken - tail > not_offered_bytes()) return NoRoom::kNoRun;
  const std::uint64_t more = taken - tail;
  if (!commit(slots_.extent_bytes() + more)) return NoRoom::kNoMemory;
  slots_.extend(more);
  const auto offset = slots_.allocate(bytes);
  LARDER_CHECK(offset.has_value());
  return SlotRef{*offset, bytes};
}

/// Makes the bytes below `end` safe to access.
bool Arena::commit(std::uint64_t end) noexcept {
  if (memory_ == nullptr) return true;
  if (memory_->committed_bytes() < end) {
    ++inline_commits_;
    if (!memory_->commit_to(end)) return false;
  }
  if (helper_ != nullptr) helper_->on_used(end);
  return true;
}

void Arena::give_back(SlotRef slot) noexcept {
  LARDER_CHECK(slots_.bytes_at(slot.offset) == taken_for(slot.bytes));
  slots_.free(slot.offset);
}

std::uint64_t Arena::taken_for(std::uint64_t bytes) const noexcept {
  return slots_.taken_for(bytes);
}

std::byte* Arena::base() const noexcept {
  return memory_ == nullptr ? nullptr : memory_->base();
}

std::uint64_t Arena::capacity_bytes() const noexcept {
  return slots_.capacity_bytes();
}

std::uint64_t Arena::grain_bytes() const noexcept {
  return slots_.grain_bytes();
}

std::uint64_t Arena::not_offered_bytes() const noexcept {
  return slots_.capacity_bytes() - slots_.extent_bytes();
}

std::uint64_t Arena::free_bytes() const noexcept {
  return slots_.free_bytes() + not_offered_bytes();
}

std::uint64_t Arena::used_bytes() const noexcept {
  return capacity_bytes() - free_bytes();
}

const std::string& Arena::name() const noexcept {
  return name_;
}

ArenaUsage Arena::usage() const noexcept {
  ArenaUsage usage{.capacity_bytes = capacity_bytes(),
                   .used_bytes = used_bytes(),
                   .free_bytes = free_bytes(),
                   .slots = slots_.slots()};
  usage.largest_free_bytes =
      std::max(slots_.largest_free_bytes(), slots_.free_tail_bytes() + not_offered_bytes());
  if (usage.free_bytes != 0) {
    usage.fragmentation =
        1 - static_cast<double>(usage.largest_free_bytes) / static_cast<double>(usage.free_bytes);
  }
  return usage;
}

ArenaReport Arena::report() const noexcept {
  ArenaReport report;
  report.usage = usage();
  report.inline_commits = inline_commits_;
  if (memory_ == nullptr) return report;
  report.committed_bytes = std::min(memory_->committed_bytes(), capacity_bytes());
  report.commit_failures = memory_->commit_failures();
  report.commit_errno = memory_->commit_errno();
  report.huge_pages = memory_->huge_pages();
  if (const SegmentFile* file = memory_->file()) {
    report.has_replaced_stale = file->has_replaced_stale();
    report.file_system_bytes = file->file_system_bytes();
  }
  return report;
}

std::uint64_t Arena::huge_page_bytes() const {
  return memory_ == nullptr ? 0 : memory_->huge_page_bytes();
}

void Arena::check_invariants() const {
  slots_.check_invariants();
  LARDER_CHECK(memory_ == nullptr || memory_->committed_bytes() >= slots_.extent_bytes());
}

}  // namespace larder::cache
