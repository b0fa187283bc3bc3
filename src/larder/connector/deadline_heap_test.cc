#include "larder/connector/deadline_heap.h"

#include <gtest/gtest.h>

#include <set>

#include "larder/base/random.h"

namespace larder {
namespace {

constexpr std::size_t kBatches = 200;

TEST(DeadlineHeapModelTest, TheFirstIsTheEarliestWhateverIsTakenOut) {
  std::vector<Item> items(kBatches);
  std::vector<Batch> batches(kBatches);
  DeadlineHeap heap{kBatches};
  std::multiset<std::uint64_t> model;
  std::set<std::size_t> outside;
  for (std::size_t i = 0; i < kBatches; ++i) {
    batches[i].items = {&items[i], 1};
    outside.insert(i);
  }
  Random random{11};
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t i = random.below(kBatches);
    if (outside.erase(i) == 1) {
      batches[i].deadline_ns = random.below(50);
      heap.add(batches[i]);
      model.insert(batches[i].deadline_ns);
    } else {
      heap.remove(batches[i]);
      model.erase(model.find(batches[i].deadline_ns));
      outside.insert(i);
    }
    ASSERT_EQ(heap.empty(), model.empty());
    if (model.empty()) continue;
    ASSERT_EQ(heap.first().deadline_ns, *model.begin()) << step;
  }
}

TEST(DeadlineHeapDeathTest, RemovingWhatIsNotInIsABug) {
  Item item;
  Batch batch;
  batch.items = {&item, 1};
  DeadlineHeap heap{1};
  EXPECT_DEATH(heap.remove(batch), "LARDER_CHECK failed");
}

}  // namespace
}  // namespace larder
