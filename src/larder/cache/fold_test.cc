#include "larder/cache/fold.h"

#include <gtest/gtest.h>

#include <vector>

#include "larder/base/random.h"

namespace larder::cache {
namespace {

Layout layout_of(std::vector<std::uint32_t> windows, std::uint32_t ranks = 1) {
  Layout layout;
  layout.spec.world_size = ranks;
  for (const std::uint32_t window : windows) {
    layout.spec.groups.push_back({.cell_bytes = 4096, .window_chunks = window});
  }
  return layout;
}

using Cells = std::vector<std::vector<bool>>;  ///< By chunk and row.

/// As the rule says: row by row, a run of the last min(w, L) chunks.
bool can_serve(const Layout& layout, const Cells& cells, std::uint32_t length) {
  for (Row row = 0; row < layout.rows(); ++row) {
    for (std::uint32_t chunk = layout.first_needed(row, length); chunk < length; ++chunk) {
      if (!cells[chunk][row]) return false;
    }
  }
  return true;
}

void add_all(Fold& fold, const Layout& layout, const Cells& cells) {
  fold.begin(layout);
  for (const std::vector<bool>& chunk : cells) {
    bool is_complete = true;
    for (const bool has : chunk) is_complete = is_complete && has;
    if (is_complete) {
      fold.add_complete();
    } else if (!fold.add([&](Row row) { return chunk[row]; })) {
      break;
    }
  }
}

TEST(FoldTest, AFullAttentionRowEndsAtItsFirstHole) {
  const Layout layout = layout_of({0});
  Fold fold;
  add_all(fold, layout, {{true}, {true}, {false}, {true}});

  EXPECT_EQ(fold.best(), 2U);
  EXPECT_TRUE(fold.is_over());
}

TEST(FoldTest, AWindowServesAgainAfterAHole) {
  const Layout layout = layout_of({2});
  Fold fold;
  add_all(fold, layout, {{true}, {false}, {true}, {true}, {true}});

  EXPECT_EQ(fold.best(), 5U);
  EXPECT_EQ(fold.best_at_most(3), 1U);
  EXPECT_EQ(fold.best_at_most(4), 4U);
}

TEST(FoldTest, RandomCellsMatchTheRule) {
  Random random{8};
  Fold fold;
  for (int round = 0; round < 3'000; ++round) {
    std::vector<std::uint32_t> windows(1 + random.below(3));
    for (std::uint32_t& window : windows) {
      window = random.one_in(2) ? 0 : static_cast<std::uint32_t>(1 + random.below(5));
    }
    const Layout layout = layout_of(windows, static_cast<std::uint32_t>(1 + random.below(2)));
    Cells cells(random.below(14), std::vector<bool>(layout.rows()));
    for (auto& chunk : cells) {
      for (std::size_t row = 0; row < chunk.size(); ++row) chunk[row] = !random.one_in(9);
    }

    add_all(fold, layout, cells);

    std::vector<std::uint32_t> best(cells.size() + 1);
    for (std::uint32_t length = 1; length <= cells.size(); ++length) {
      best[length] = can_serve(layout, cells, length) ? length : best[length - 1];
    }
    ASSERT_EQ(fold.best(), best.back()) << "round " << round;
    for (std::uint32_t length = 0; length <= cells.size(); ++length) {
      ASSERT_EQ(fold.best_at_most(length), best[length]) << "round " << round;
    }
  }
}

}  // namespace
}  // namespace larder::cache
