#include "larder/cache/slot_table.h"

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <optional>
#include <sstream>

namespace larder::cache {
namespace {

class SlotTableTest : public ::testing::Test {
 protected:
  static std::unique_ptr<Arena> open_arena() {
    ArenaOptions options;
    options.kind = ArenaKind::kOffsets;
    options.capacity_bytes = 8 * 4096;
    return std::move(*Arena::open(options));
  }
  SlotId resident() {
    const SlotId slot = *slots_.take(4096, SlotState::kWriting, 7, 3);
    slots_.move(slot, SlotState::kResident);
    return slot;
  }

  std::unique_ptr<Arena> arena_ = open_arena();
  SlotTable slots_{*arena_};
};

TEST_F(SlotTableTest, TheEdgesAreThoseOfTheTable) {
  using S = SlotState;
  const std::pair<S, S> legal[] = {
      {S::kFree, S::kWriting},    {S::kFree, S::kLoading},       {S::kWriting, S::kResident},
      {S::kWriting, S::kFree},    {S::kWriting, S::kQuarantine}, {S::kQuarantine, S::kResident},
      {S::kQuarantine, S::kFree}, {S::kLoading, S::kResident},   {S::kLoading, S::kFree},
      {S::kLoading, S::kOrphan},  {S::kResident, S::kFree},      {S::kResident, S::kOrphan},
      {S::kOrphan, S::kFree},
  };
  std::size_t found = 0;
  for (std::size_t from = 0; from < kSlotStates; ++from) {
    for (std::size_t to = 0; to < kSlotStates; ++to) {
      found += is_legal(S(from), S(to)) ? 1 : 0;
    }
  }
  EXPECT_EQ(found, std::size(legal));
  for (const auto& [from, to] : legal) {
    EXPECT_TRUE(is_legal(from, to)) << name_of(from) << " -> " << name_of(to);
  }
}

TEST_F(SlotTableTest, AnEdgeThatIsNotInTheTableAborts) {
  const SlotId slot = resident();

  EXPECT_DEATH(slots_.move(slot, SlotState::kWriting), "LARDER_CHECK");
  EXPECT_DEATH(slots_.move(slot, SlotState::kQuarantine), "LARDER_CHECK");
}

TEST_F(SlotTableTest, AResidentSlotWithoutPinsGoesBackToTheArena) {
  const SlotId slot = resident();

  slots_.cut_off(slot);

  EXPECT_FALSE(slots_.is_used(slot));
  EXPECT_EQ(arena_->free_bytes(), arena_->capacity_bytes());
  slots_.check_invariants();
}

TEST_F(SlotTableTest, AClaimedSlotStaysAsAnOrphanUntilItsLastPinEnds) {
  const SlotId slot = resident();
  slots_.claim(slot);
  slots_.claim(slot);
  slots_.add_io(slot);

  slots_.cut_off(slot);
  EXPECT_EQ(slots_[slot].state, SlotState::kOrphan);
  slots_.unclaim(slot);
  slots_.drop_io(slot);
  EXPECT_TRUE(slots_.is_used(slot));
  EXPECT_EQ(slots_.bytes_in(SlotState::kOrphan), 4096U);
  slots_.check_invariants();
  slots_.unclaim(slot);

  EXPECT_FALSE(slots_.is_used(slot));
  EXPECT_EQ(arena_->free_bytes(), arena_->capacity_bytes());
}

TEST_F(SlotTableTest, OnlyAResidentSlotIsClaimed) {
  const SlotId slot = *slots_.take(4096, SlotState::kLoading, 7, 3);

  EXPECT_DEATH(slots_.claim(slot), "LARDER_CHECK");
}

TEST_F(SlotTableTest, AFullArenaGivesNothing) {
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(slots_.take(4096, SlotState::kWriting, 0, 0));

  EXPECT_FALSE(slots_.take(4096, SlotState::kWriting, 0, 0));
  EXPECT_EQ(slots_.bytes_in(SlotState::kWriting), arena_->capacity_bytes());
}

TEST_F(SlotTableTest, TheMarkdownHasEachEdgeOnce) {
  const std::string text = slot_table_markdown();

  std::size_t lines = 0;
  for (const char c : text) lines += c == '\n' ? 1 : 0;
  EXPECT_EQ(lines, 2U + 13U);
  EXPECT_NE(text.find("| loading | orphan |"), std::string::npos);
}

TEST_F(SlotTableTest, TheArchitecturePageHasTheTable) {
  std::ifstream file{LARDER_ARCHITECTURE_PAGE};
  std::stringstream page;
  page << file.rdbuf();

  EXPECT_NE(page.str().find(slot_table_markdown()), std::string::npos)
      << "docs/architecture.md should have:\n"
      << slot_table_markdown();
}

}  // namespace
}  // namespace larder::cache
