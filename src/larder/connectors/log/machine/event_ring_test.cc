#include "larder/connectors/log/machine/event_ring.h"

#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <string>
#include <thread>

namespace larder::log_store {
namespace {

using Kind = EventPage::Kind;

void note_numbers(EventRing& ring, int from, int to) {
  for (int i = from; i < to; ++i) ring.note(Kind::kStored, std::to_string(i), 1);
}

std::string keys_of(const EventPage& page) {
  std::string keys;
  for (const EventPage::Event& event : page.events) keys += event.key + " ";
  return keys;
}

TEST(EventRingTest, ARingThatIsOffKeepsNothing) {
  EventRing ring{0};
  EXPECT_FALSE(ring.is_on());
  ring.note(Kind::kStored, "key", 1);
  const EventPage page = ring.read({}, 10);
  EXPECT_TRUE(page.events.empty());
  EXPECT_EQ(page.next.position, 0U);
  EXPECT_EQ(page.lost, 0U);
}

TEST(EventRingTest, EventsComeInOrderWithAllThatWasNoted) {
  EventRing ring{4};
  EXPECT_TRUE(ring.is_on());
  ring.note(Kind::kStored, std::string_view{"a\0b", 3}, 70);
  ring.note(Kind::kRemoved, "c", 0);
  const EventPage page = ring.read({}, 10);
  ASSERT_EQ(page.events.size(), 2U);
  EXPECT_EQ(page.events[0].kind, Kind::kStored);
  EXPECT_EQ(page.events[0].key, (std::string{"a\0b", 3}));
  EXPECT_EQ(page.events[0].value_bytes, 70U);
  EXPECT_EQ(page.events[1].kind, Kind::kRemoved);
  EXPECT_EQ(page.events[1].key, "c");
  EXPECT_EQ(page.lost, 0U);
  EXPECT_TRUE(ring.read(page.next, 10).events.empty());
}

TEST(EventRingTest, ReadingGoesOnWhereThePageEnded) {
  EventRing ring{100};
  note_numbers(ring, 0, 5);
  EventPage page = ring.read({}, 2);
  EXPECT_EQ(keys_of(page), "0 1 ");
  page = ring.read(page.next, 2);
  EXPECT_EQ(keys_of(page), "2 3 ");
  note_numbers(ring, 5, 6);
  page = ring.read(page.next, 100);
  EXPECT_EQ(keys_of(page), "4 5 ");
  EXPECT_EQ(ring.read(page.next, 0).next.position, page.next.position);
}

TEST(EventRingTest, ASlowReaderIsToldHowManyItLost) {
  EventRing ring{4};
  note_numbers(ring, 0, 2);
  EventPage page = ring.read({}, 1);
  note_numbers(ring, 2, 11);
  page = ring.read(page.next, 2);
  EXPECT_EQ(page.lost, 6U);  // 1 to 6.
  EXPECT_EQ(keys_of(page), "7 8 ");
  page = ring.read(page.next, 10);
  EXPECT_EQ(page.lost, 0U);
  EXPECT_EQ(keys_of(page), "9 10 ");
}

TEST(EventRingTest, ExactlyAFullRingLosesNothing) {
  EventRing ring{4};
  note_numbers(ring, 0, 4);
  EXPECT_EQ(keys_of(ring.read({}, 10)), "0 1 2 3 ");
  EXPECT_EQ(ring.read({}, 10).lost, 0U);
  note_numbers(ring, 4, 5);
  EXPECT_EQ(keys_of(ring.read({}, 10)), "1 2 3 4 ");
  EXPECT_EQ(ring.read({}, 10).lost, 1U);
}

TEST(EventRingTest, WhatHappenedToAnUnknownKeyCountsAsLost) {
  EventRing ring{8};
  note_numbers(ring, 0, 2);
  ring.note_unknown();
  note_numbers(ring, 2, 3);
  const EventPage page = ring.read({}, 10);
  EXPECT_EQ(keys_of(page), "0 1 2 ");
  EXPECT_EQ(page.lost, 1U);
  EXPECT_EQ(ring.read(page.next, 10).lost, 0U);
}

TEST(EventRingTest, APageLargerThanWhatIsCopiedAtOnceIsWhole) {
  EventRing ring{1000};
  note_numbers(ring, 0, 1000);
  EXPECT_EQ(ring.read({}, 1000).events.size(), 1000U);
  EXPECT_EQ(ring.read({}, 999).events.size(), 999U);
  EXPECT_EQ(ring.read({}, 128).next.position, 128U);
  EXPECT_EQ(ring.read({.position = 936}, 1000).events.size(), 64U);
}

TEST(EventRingTest, ACursorFromTheFutureStartsAtTheEnd) {
  EventRing ring{4};
  note_numbers(ring, 0, 3);
  const EventPage page = ring.read({.position = std::numeric_limits<std::uint64_t>::max()}, 10);
  EXPECT_TRUE(page.events.empty());
  EXPECT_EQ(page.next.position, 3U);
}

TEST(EventRingTest, AReaderBesideAWriterSeesEveryEventOnceOrCountsIt) {
  constexpr std::uint64_t kEvents = 20'000;
  EventRing ring{64};
  std::atomic<bool> is_done = false;
  std::thread writer{[&] {
    for (std::uint64_t i = 0; i < kEvents; ++i) ring.note(Kind::kStored, std::to_string(i), i);
    is_done.store(true);
  }};
  EventCursor cursor;
  std::uint64_t seen = 0;
  std::uint64_t lost = 0;
  for (bool is_last = false; !is_last;) {
    is_last = is_done.load();
    const EventPage page = ring.read(cursor, 1000);
    lost += page.lost;
    for (const EventPage::Event& event : page.events) {
      EXPECT_EQ(event.value_bytes, seen + lost);
      EXPECT_EQ(event.key, std::to_string(event.value_bytes));
      ++seen;
    }
    cursor = page.next;
  }
  writer.join();
  EXPECT_EQ(seen + lost, kEvents);
}

// Under one lock a read returns exactly what the full ring holds. It returns another number only
// where the writer went on between its copies: newer events at the end, or the ring came round.
TEST(EventRingTest, AReadLetsTheWriterGoOnBetweenItsCopies) {
  constexpr std::uint32_t kEvents = 200'000;
  constexpr int kReadsMax = 1'000;
  EventRing ring{kEvents};
  note_numbers(ring, 0, kEvents);
  std::atomic<bool> is_over = false;
  std::thread writer{[&] {
    while (!is_over.load()) ring.note(Kind::kStored, "key", 1);
  }};
  int reads = 0;
  while (reads < kReadsMax && ring.read({}, 2 * kEvents).events.size() == kEvents) ++reads;
  is_over.store(true);
  writer.join();
  EXPECT_LT(reads, kReadsMax);
}

}  // namespace
}  // namespace larder::log_store
