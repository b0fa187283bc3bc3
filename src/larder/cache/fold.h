#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "larder/cache/layouts.h"

namespace larder::cache {

/// The largest prefix that every row can serve (E23): a full-attention row needs all its chunks, a
/// row with a window of w chunks the last min(w, L) of a prefix of L.
///
/// Chunks are added in order. A row with a hole at chunk j serves no length from j + 1 to j + w; so
/// one number, the length from which on all rows serve again, replaces a run length for each row.
/// Threads: one. Cost: O(1) for a chunk with all its cells, else O(rows).
class Fold {
 public:
  void begin(const Layout& layout) {
    layout_ = &layout;
    length_ = 0;
    served_from_ = 0;
    served_.clear();
    is_over_ = false;
  }

  /// The next chunk has all its cells.
  void add_complete() {
    ++length_;
    note_served();
  }

  /// The next chunk has the cells for which has(row) is true. False: no longer prefix can be
  /// served, because a full-attention row has a hole. No more chunks may be added then.
  template <class Has>
  bool add(Has&& has) {
    ++length_;
    for (Row row = 0; row < layout_->rows(); ++row) {
      if (has(row)) continue;
      const std::uint32_t window = layout_->group(row).window_chunks;
      if (window == 0) {
        is_over_ = true;
        return false;
      }
      served_from_ = std::max(served_from_, length_ + window);
    }
    note_served();
    return true;
  }

  bool is_over() const noexcept { return is_over_; }
  std::uint32_t best() const noexcept { return served_.empty() ? 0 : served_.back().second; }
  /// The largest one that is not above `chunks`.
  std::uint32_t best_at_most(std::uint32_t chunks) const noexcept {
    for (auto run = served_.rbegin(); run != served_.rend(); ++run) {
      if (run->first <= chunks) return std::min(run->second, chunks);
    }
    return 0;
  }

 private:
  void note_served() {
    if (length_ < served_from_) return;
    if (!served_.empty() && served_.back().second + 1 == length_) {
      ++served_.back().second;
    } else {
      served_.emplace_back(length_, length_);
    }
  }

  const Layout* layout_ = nullptr;
  std::uint32_t length_ = 0;
  std::uint32_t served_from_ = 0;  ///< No length below it is served, of those to come.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> served_;  ///< Lengths, in runs.
  bool is_over_ = false;
};

}  // namespace larder::cache
