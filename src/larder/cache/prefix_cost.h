#pragma once

#include <cstdint>
#include <vector>

#include "larder/cache/layouts.h"

namespace larder::cache {

/// The room that a prefix takes in L1.
struct Cost {
  std::uint64_t load_bytes = 0;  ///< Slots to come, for cells to load.
  std::uint64_t lock_bytes = 0;  ///< Cells without a lock so far, including those to load.

  Cost& operator+=(const Cost& other) noexcept {
    load_bytes += other.load_bytes;
    lock_bytes += other.lock_bytes;
    return *this;
  }
};

/// The costs of all prefixes of a request, for choosing the longest that fits (E12, E25).
///
/// Rows of full attention add up over the chunks, so their sums are made once; those with a window
/// are summed over the window. Cost: O(cells) to build; of() is O(sum of the windows).
class PrefixCost {
 public:
  /// cost_of(chunk, row) is asked once for each cell.
  template <class CostOf>
  void build(const Layout& layout, std::uint32_t chunks, CostOf&& cost_of) {
    layout_ = &layout;
    full_.assign(std::size_t{chunks} + 1, {});
    windowed_.clear();
    windows_.clear();
    for (Row row = 0; row < layout.rows(); ++row) {
      if (layout.group(row).window_chunks != 0) windows_.push_back(row);
    }
    windowed_.resize(std::size_t{chunks} * windows_.size());
    for (std::uint32_t chunk = 0; chunk < chunks; ++chunk) {
      full_[chunk + 1] = full_[chunk];
      std::size_t window = 0;
      for (Row row = 0; row < layout.rows(); ++row) {
        const Cost cost = cost_of(chunk, row);
        if (layout.group(row).window_chunks == 0) {
          full_[chunk + 1] += cost;
        } else {
          windowed_[chunk * windows_.size() + window++] = cost;
        }
      }
    }
  }

  Cost of(std::uint32_t chunks) const noexcept {
    Cost cost = full_[chunks];
    for (std::size_t window = 0; window < windows_.size(); ++window) {
      for (std::uint32_t chunk = layout_->first_needed(windows_[window], chunks); chunk < chunks;
           ++chunk) {
        cost += windowed_[chunk * windows_.size() + window];
      }
    }
    return cost;
  }

 private:
  const Layout* layout_ = nullptr;
  std::vector<Cost> full_;      ///< Of the full-attention rows of the first i chunks.
  std::vector<Row> windows_;    ///< The other rows.
  std::vector<Cost> windowed_;  ///< Their cells, by chunk.
};

}  // namespace larder::cache
