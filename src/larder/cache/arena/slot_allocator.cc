#include "larder/cache/arena/slot_allocator.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "larder/base/check.h"

namespace larder::cache {
namespace {

constexpr std::uint64_t kNoSize = std::numeric_limits<std::uint64_t>::max();

/// The bits above `bit`.
template <class Mask>
constexpr Mask above(unsigned bit) noexcept {
  return bit + 1 < std::numeric_limits<Mask>::digits ? ~Mask{0} << (bit + 1) : Mask{0};
}

}  // namespace

Result<SlotAllocator> SlotAllocator::create(std::uint64_t capacity, std::uint64_t grain) {
  if (!std::has_single_bit(grain) || grain < kGrainMin || grain > kGrainMax) {
    return Error{ErrorCode::kInvalidArgument, "arena",
                 "the grain is not a power of two from 64 bytes to 1 GiB"};
  }
  const auto grain_shift = static_cast<unsigned>(std::countr_zero(grain));
  const std::uint64_t grains = capacity >> grain_shift;
  if (grains == 0 || grains > kGrainsMax) {
    return Error{ErrorCode::kInvalidArgument, "arena",
                 "the capacity is below one grain, or above 4,294,967,040"};
  }
  LARDER_ASSIGN(AlignedBuffer tags, AlignedBuffer::create(grains * sizeof(Tag), alignof(Tag)));
  return SlotAllocator{std::move(tags), static_cast<Grain>(grains), grain_shift};
}

SlotAllocator::SlotAllocator(AlignedBuffer tags, Grain capacity, unsigned grain_shift) noexcept
    : tags_(std::move(tags)), grain_shift_(grain_shift), capacity_(capacity) {
  for (auto& level : heads_) level.fill(kEnd);
}

std::optional<std::uint64_t> SlotAllocator::allocate(std::uint64_t bytes) noexcept {
  const std::optional<Grain> size = grains_for(bytes);
  if (!size) return std::nullopt;
  const std::optional<Grain> found = find(*size);
  if (!found) return std::nullopt;
  const Grain run = *found;
  const Grain run_size = tags()[run].size;
  unlink(run);
  set_run(run, *size);
  tags()[run].next = 0;
  tags()[run].previous = kUsed;
  if (run_size > *size) {
    const Grain rest = run + *size;
    set_run(rest, run_size - *size);
    link(rest);
  }
  ++slots_;
  return bytes_of(run);
}

void SlotAllocator::free(std::uint64_t offset) noexcept {
  Grain size = used_tag(offset).size;
  auto run = static_cast<Grain>(offset >> grain_shift_);
  if (const Grain next = run + size; next != extent_ && tags()[next].previous != kUsed) {
    unlink(next);
    size += tags()[next].size;
    tags()[next] = {};
  }
  const Grain size_before = tags()[run].size_before;
  if (size_before != 0 && tags()[run - size_before].previous != kUsed) {
    tags()[run] = {};
    run -= size_before;
    unlink(run);
    size += size_before;
  }
  set_run(run, size);
  link(run);
  --slots_;
}

void SlotAllocator::extend(std::uint64_t bytes) noexcept {
  const std::uint64_t more = bytes >> grain_shift_;
  LARDER_CHECK(more << grain_shift_ == bytes && more <= capacity_ - extent_);
  if (more == 0) return;
  Grain run = extent_;
  auto size = static_cast<Grain>(more);
  if (const auto tail = static_cast<Grain>(free_tail_bytes() >> grain_shift_); tail != 0) {
    run -= tail;
    size += tail;
    unlink(run);
  } else {
    tags()[run].size_before = last_run_size_;
  }
  extent_ += static_cast<Grain>(more);
  set_run(run, size);
  link(run);
}

std::uint64_t SlotAllocator::bytes_at(std::uint64_t offset) const noexcept {
  return bytes_of(used_tag(offset).size);
}

std::uint64_t SlotAllocator::taken_for(std::uint64_t bytes) const noexcept {
  const std::uint64_t grain = grain_bytes();
  if (bytes > kNoSize - grain) return kNoSize;
  return std::max(bytes + grain - 1, grain) & ~(grain - 1);
}

std::uint64_t SlotAllocator::free_tail_bytes() const noexcept {
  if (last_run_size_ == 0 || tags()[extent_ - last_run_size_].previous == kUsed) return 0;
  return bytes_of(last_run_size_);
}

std::uint64_t SlotAllocator::largest_free_bytes() const noexcept {
  if (levels_filled_ == 0) return 0;
  const auto level = static_cast<unsigned>(std::bit_width(levels_filled_)) - 1;
  const auto step = static_cast<unsigned>(std::bit_width(steps_filled_[level])) - 1;
  Grain largest = 0;
  for (Grain run = heads_[level][step]; run != kEnd; run = tags()[run].next) {
    largest = std::max(largest, tags()[run].size);
  }
  return bytes_of(largest);
}

double SlotAllocator::fragmentation() const noexcept {
  if (free_ == 0) return 0;
  return 1 - static_cast<double>(largest_free_bytes()) / static_cast<double>(free_bytes());
}

SlotAllocator::Class SlotAllocator::class_of(Grain size) noexcept {
  if (size < kSteps) return {.level = 0, .step = size};
  const auto power = static_cast<unsigned>(std::bit_width(size)) - 1;
  return {.level = power - kStepsLog2 + 1, .step = (size >> (power - kStepsLog2)) - kSteps};
}

std::optional<SlotAllocator::Grain> SlotAllocator::grains_for(std::uint64_t bytes) const noexcept {
  const std::uint64_t grains = taken_for(bytes) >> grain_shift_;
  if (grains > capacity_) return std::nullopt;
  return static_cast<Grain>(grains);
}

const SlotAllocator::Tag& SlotAllocator::used_tag(std::uint64_t offset) const noexcept {
  LARDER_CHECK(offset < extent_bytes() && (offset & (grain_bytes() - 1)) == 0);
  const Tag& tag = tags()[offset >> grain_shift_];
  LARDER_CHECK(tag.size != 0 && tag.previous == kUsed);
  return tag;
}

std::optional<SlotAllocator::Grain> SlotAllocator::find(Grain size) const noexcept {
  const Class own = class_of(size);
  if (const std::optional<Grain> run = find_in(own, size)) return run;
  const std::optional<Class> larger = next_class(own);
  return larger ? find_in(*larger, size) : std::nullopt;
}

/// The lowest of the first runs of the class that are large enough.
std::optional<SlotAllocator::Grain> SlotAllocator::find_in(Class of, Grain size) const noexcept {
  Grain lowest = kEnd;
  unsigned searched = 0;
  unsigned found = 0;
  for (Grain run = heads_[of.level][of.step];
       run != kEnd && found < kChooseMax && searched < kSearchMax; run = tags()[run].next) {
    ++searched;
    if (tags()[run].size < size) continue;
    ++found;
    lowest = std::min(lowest, run);
  }
  if (lowest == kEnd) return std::nullopt;
  return lowest;
}

std::optional<SlotAllocator::Class> SlotAllocator::next_class(Class after) const noexcept {
  unsigned level = after.level;
  std::uint64_t steps = steps_filled_[level] & above<std::uint64_t>(after.step);
  if (steps == 0) {
    const std::uint32_t levels = levels_filled_ & above<std::uint32_t>(level);
    if (levels == 0) return std::nullopt;
    level = static_cast<unsigned>(std::countr_zero(levels));
    steps = steps_filled_[level];
  }
  return Class{.level = level, .step = static_cast<unsigned>(std::countr_zero(steps))};
}

/// The head of a list is the lowest that came in since the head before it went, so that allocate()
/// mostly meets low runs first without any order to keep.
void SlotAllocator::link(Grain run) noexcept {
  Tag& tag = tags()[run];
  const Class of = class_of(tag.size);
  Grain& head = heads_[of.level][of.step];
  if (head == kEnd || run < head) {
    tag.previous = kEnd;
    tag.next = head;
    head = run;
  } else {
    tag.previous = head;
    tag.next = tags()[head].next;
    tags()[head].next = run;
  }
  if (tag.next != kEnd) tags()[tag.next].previous = run;
  steps_filled_[of.level] |= std::uint64_t{1} << of.step;
  levels_filled_ |= std::uint32_t{1} << of.level;
  free_ += tag.size;
}

void SlotAllocator::unlink(Grain run) noexcept {
  const Tag& tag = tags()[run];
  const Class of = class_of(tag.size);
  free_ -= tag.size;
  if (tag.next != kEnd) tags()[tag.next].previous = tag.previous;
  if (tag.previous != kEnd) {
    tags()[tag.previous].next = tag.next;
    return;
  }
  heads_[of.level][of.step] = tag.next;
  if (tag.next != kEnd) return;
  steps_filled_[of.level] &= ~(std::uint64_t{1} << of.step);
  if (steps_filled_[of.level] == 0) levels_filled_ &= ~(std::uint32_t{1} << of.level);
}

/// The run's size, and the same for the following run.
void SlotAllocator::set_run(Grain run, Grain size) noexcept {
  tags()[run].size = size;
  if (run + size == extent_) {
    last_run_size_ = size;
  } else {
    tags()[run + size].size_before = size;
  }
}

void SlotAllocator::check_invariants() const {
  Grain free = 0;
  Grain size_before = 0;
  std::uint64_t slots = 0;
  std::uint64_t free_runs = 0;
  bool was_free = false;
  for (Grain run = 0; run < extent_; run += size_before) {
    const Tag& tag = tags()[run];
    const bool is_free = tag.previous != kUsed;
    LARDER_CHECK(tag.size != 0 && tag.size <= extent_ - run && tag.size_before == size_before);
    LARDER_CHECK(!(is_free && was_free));
    (is_free ? free_runs : slots) += 1;
    if (is_free) free += tag.size;
    was_free = is_free;
    size_before = tag.size;
  }
  LARDER_CHECK(free == free_ && slots == slots_ && size_before == last_run_size_);
  for (unsigned level = 0; level < kLevels; ++level) {
    LARDER_CHECK((steps_filled_[level] != 0) == ((levels_filled_ >> level & 1U) != 0));
    for (unsigned step = 0; step < kSteps; ++step) {
      const Grain head = heads_[level][step];
      LARDER_CHECK((head != kEnd) == ((steps_filled_[level] >> step & 1U) != 0));
      Grain previous = kEnd;
      for (Grain run = head; run != kEnd; run = tags()[run].next) {
        const Class of = class_of(tags()[run].size);
        LARDER_CHECK(of.level == level && of.step == step && tags()[run].previous == previous);
        previous = run;
        --free_runs;
      }
    }
  }
  LARDER_CHECK(free_runs == 0);
}

}  // namespace larder::cache
