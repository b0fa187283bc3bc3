#include "larder/connector/key_counters.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace larder {
namespace {

using Numbers = std::map<std::string, std::uint64_t>;

Numbers numbers_of(const KeyCounters& counters) {
  std::vector<Counter> list;
  counters.append(list);
  Numbers numbers;
  for (const Counter& counter : list) numbers[counter.name] = counter.value;
  return numbers;
}

TEST(KeyCountersTest, EveryOutcomeOfLoadsAndStoresIsCountedOnce) {
  std::array<std::byte, 7> value{};
  const Slice slice{value.data(), value.size()};
  std::array<Item, 6> items;
  const std::array outcomes{Outcome::kHit,  Outcome::kHit,    Outcome::kMiss,
                            Outcome::kDone, Outcome::kFailed, Outcome::kDone};
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].outcome = outcomes[i];
    items[i].value = {&slice, 1};
    items[i].value_bytes = 5;
  }
  items[5].existed = true;
  Batch load;
  load.op = Op::kGet;
  load.items = std::span{items}.first(3);
  Batch store;
  store.op = Op::kSet;
  store.items = std::span{items}.subspan(3);
  Batch lookup;
  lookup.op = Op::kExists;
  lookup.items = items;

  KeyCounters counters;
  EXPECT_EQ(numbers_of(counters)["hits_total"], 0U);
  for (const Batch* batch : {&load, &store, &lookup}) counters.note(*batch);
  EXPECT_EQ(numbers_of(counters), (Numbers{{"hits_total", 2},
                                           {"misses_total", 1},
                                           {"get_failures_total", 0},
                                           {"sets_total", 1},
                                           {"sets_existed_total", 1},
                                           {"set_failures_total", 1},
                                           {"bytes_loaded_total", 10},
                                           {"bytes_stored_total", 7}}));
  load.items[0].outcome = Outcome::kFailed;
  counters.note(load);
  EXPECT_EQ(numbers_of(counters)["get_failures_total"], 1U);
}

}  // namespace
}  // namespace larder
