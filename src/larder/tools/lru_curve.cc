#include "larder/tools/lru_curve.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "larder/base/check.h"

namespace larder::tools {
namespace {

/// The recency stack: which block was touched last, which before it, and so on.
///
/// A touched block has a slot; later touches have higher slots. A bit marks each taken slot, and a
/// Fenwick tree over the words of the bitmap counts the marks below any slot. When the slots are
/// used up, the marks move together at the low end; there are twice as many slots as blocks, so
/// that costs O(1) a touch.
class RecencyStack {
 public:
  explicit RecencyStack(std::size_t blocks)
      : slot_of_(blocks, kNone),
        block_at_(std::bit_ceil(std::max(2 * blocks, kBits))),
        marks_(block_at_.size() / kBits),
        sums_(marks_.size() + 1) {}

  /// 1: it was touched last. 0: never.
  std::uint64_t depth(BlockNumber block) const noexcept {
    const std::uint32_t slot = slot_of_[block];
    return slot == kNone ? 0 : touched_ - marks_below(slot);
  }

  void touch(BlockNumber block) noexcept {
    if (next_slot_ == block_at_.size()) move_together();
    if (const std::uint32_t old = slot_of_[block]; old != kNone) {
      marks_[old / kBits] &= ~(std::uint64_t{1} << (old % kBits));
      add(old / kBits, -1);
    } else {
      ++touched_;
    }
    place(block, next_slot_++);
    add(slot_of_[block] / kBits, 1);
  }

 private:
  static constexpr std::uint32_t kNone = 0xFFFF'FFFF;
  static constexpr std::size_t kBits = 64;

  void place(BlockNumber block, std::size_t slot) noexcept {
    slot_of_[block] = static_cast<std::uint32_t>(slot);
    block_at_[slot] = block;
    marks_[slot / kBits] |= std::uint64_t{1} << (slot % kBits);
  }

  void add(std::size_t word, int change) noexcept {
    for (std::size_t i = word + 1; i < sums_.size(); i += i & (~i + 1)) {
      sums_[i] += static_cast<std::uint32_t>(change);
    }
  }

  std::uint64_t marks_below(std::size_t slot) const noexcept {
    const std::uint64_t below = (std::uint64_t{1} << (slot % kBits)) - 1;
    auto marks = static_cast<std::uint64_t>(std::popcount(marks_[slot / kBits] & below));
    for (std::size_t i = slot / kBits; i > 0; i &= i - 1) marks += sums_[i];
    return marks;
  }

  void move_together() noexcept {
    std::size_t to = 0;
    for (std::size_t word = 0; word < marks_.size(); ++word) {
      for (std::uint64_t left = std::exchange(marks_[word], 0); left != 0; left &= left - 1) {
        const auto bit = static_cast<std::size_t>(std::countr_zero(left));
        place(block_at_[word * kBits + bit], to++);  // Never ahead of unread entries.
      }
    }
    LARDER_CHECK(to == touched_);
    next_slot_ = to;
    std::ranges::fill(sums_, 0);
    for (std::size_t word = 0; word < marks_.size(); ++word) add(word, std::popcount(marks_[word]));
  }

  std::vector<std::uint32_t> slot_of_;  ///< By block.
  std::vector<BlockNumber> block_at_;   ///< By slot; counts if the slot is marked.
  std::vector<std::uint64_t> marks_;
  std::vector<std::uint32_t> sums_;  ///< [i]: marks of the i & -i words that end with word i - 1.
  std::size_t next_slot_ = 0;
  std::uint64_t touched_ = 0;
};

}  // namespace

SetupResult<LruCurve> LruCurve::measure(const BlockTrace& trace, const std::atomic<bool>& stop) {
  RecencyStack stack{trace.blocks()};
  std::vector<std::uint64_t> hits(trace.blocks() + 1, 0);  // Of exactly this depth, at first.
  for (std::size_t request = 0; request < trace.requests(); ++request) {
    if (stop.load(std::memory_order_relaxed)) {
      return SetupError{ErrorCode::kCancelled, "interrupted while LRU was simulated"};
    }
    const auto chain = trace.chain(request);
    const bool is_counted = request >= trace.warmup_requests();
    std::uint64_t deepest = 0;
    for (const BlockNumber block : chain) {
      const std::uint64_t depth = stack.depth(block);
      if (depth == 0) break;
      deepest = std::max(deepest, depth);
      if (is_counted) ++hits[deepest];
    }
    for (std::size_t i = chain.size(); i > 0; --i) stack.touch(chain[i - 1]);
  }
  for (std::size_t depth = 1; depth < hits.size(); ++depth) hits[depth] += hits[depth - 1];
  return LruCurve{std::move(hits)};
}

std::uint64_t LruCurve::hits(std::uint64_t capacity_blocks) const noexcept {
  return hits_[std::min<std::uint64_t>(capacity_blocks, hits_.size() - 1)];
}

std::uint64_t LruCurve::capacity_for(std::uint64_t hits) const noexcept {
  const auto found = std::ranges::lower_bound(hits_, hits);
  LARDER_CHECK(found != hits_.end());
  return static_cast<std::uint64_t>(found - hits_.begin());
}

}  // namespace larder::tools
