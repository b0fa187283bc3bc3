#pragma once

#include <cstdint>
#include <limits>
#include <unordered_map>

#include "larder/connectors/log/format/fingerprint.h"

namespace larder::log_store {

/// Keys whose values the reclaimer moves before all others (a Touch with Hint::kRetain).
///
/// In memory only: a reopened store has none.
/// Bounds: a budget of value bytes, of which each key takes kBytesMin at least, so that the
///   keys are bounded, too.
/// It knows in which segments their records are, for the choice of the next one to empty.
/// Threads: the path's. Cost: O(1); drop_expired() visits all of them if one may have expired.
class Retentions {
 public:
  static constexpr std::uint64_t kBytesMin = 4096;

  explicit Retentions(std::uint64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  /// A key that is already retained stays so until the later of the two. False: over the budget.
  bool add(const Fingerprint& key, std::uint32_t segment, std::uint64_t value_bytes,
           std::uint64_t until_ns, std::uint64_t now_ns);
  /// Its record was copied into this segment.
  void note_moved(const Fingerprint& key, std::uint32_t segment);
  bool has(const Fingerprint& key, std::uint64_t now_ns) const noexcept;
  /// Whether it was retained still.
  bool end(const Fingerprint& key, std::uint64_t now_ns) noexcept;
  void drop_expired(std::uint64_t now_ns) noexcept;

  /// Here and below, expired ones that were not dropped yet are included.
  bool has_in(std::uint32_t segment) const noexcept { return by_segment_.contains(segment); }
  std::uint64_t keys() const noexcept { return held_.size(); }
  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  struct Held {
    std::uint64_t until_ns = 0;
    std::uint64_t bytes = 0;
    std::uint32_t segment = 0;
  };
  bool has_room(std::uint64_t bytes) const noexcept {
    return bytes_ <= budget_bytes_ && bytes <= budget_bytes_ - bytes_;
  }
  void let_go(const Held& held) noexcept;
  void leave_segment(std::uint32_t segment) noexcept;

  const std::uint64_t budget_bytes_;
  std::unordered_map<std::uint64_t, Held> held_;  ///< By fingerprint.low, as the index.
  std::unordered_map<std::uint32_t, std::uint64_t> by_segment_;  ///< Keys; none is 0.
  std::uint64_t bytes_ = 0;
  /// None expires before it. May be too early, because some end before their time.
  std::uint64_t first_end_ns_ = std::numeric_limits<std::uint64_t>::max();
};

}  // namespace larder::log_store
