#include "larder/cache/policies/chain_cache_test_support.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

namespace larder::cache::testing {
namespace {

using Block = Workload::Block;
using Chain = std::vector<Block>;

constexpr std::size_t kReferences = 150'000;
constexpr Block kLength = 15;

/// The chain of one object that shares nothing with others.
Chain object(Block number, Block length = kLength) {
  Chain chain(length);
  for (Block i = 0; i < length; ++i) chain[i] = number * length + i;
  return chain;
}

/// Ranks from 0 on with probability 1 / (rank + 1)^exponent.
class Zipf {
 public:
  Zipf(std::size_t ranks, double exponent) {
    double sum = 0;
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      sum += std::pow(static_cast<double>(rank + 1), -exponent);
      sums_.push_back(sum);
    }
  }
  Block draw(Random& random) const {
    const auto at = std::ranges::lower_bound(sums_, random.unit() * sums_.back());
    return static_cast<Block>(at - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

constexpr Block kLoopObjects = 20'000 / kLength;

Workload loop() {
  Workload made;
  for (Block i = 0; made.references() < 2 * kReferences; ++i) made.add(object(i % kLoopObjects));
  return made;
}

/// Every other request is of a small hot set, the others are never seen again.
Workload scan_and_hot_set() {
  Workload made;
  Random random{1};
  const Zipf hot{300, 1.0};
  for (Block next = 300; made.references() < kReferences;) {
    made.add(object(hot.draw(random)));
    made.add(object(next++));
  }
  return made;
}

Workload one_time_prompts() {
  Workload made;
  Random random{2};
  const Zipf hot{100, 0.8};
  // Phases of 200 requests of the hot set, and 400 that are never seen again.
  for (Block next = 100; made.references() < kReferences;) {
    for (int i = 0; i < 200; ++i) made.add(object(hot.draw(random)));
    for (int i = 0; i < 400; ++i) made.add(object(next++));
  }
  return made;
}

Workload zipf(double exponent) {
  Workload made;
  Random random{3};
  const Zipf objects{4000, exponent};
  while (made.references() < kReferences) made.add(object(objects.draw(random)));
  return made;
}

/// The popular ones are others after every 500 requests.
Workload shifting_zipf() {
  Workload made;
  Random random{4};
  const Zipf objects{2000, 1.0};
  for (std::size_t i = 0; made.references() < kReferences; ++i) {
    const auto shift = static_cast<Block>(i / 500 * 97);
    made.add(object((objects.draw(random) + shift) % 4000));
  }
  return made;
}

/// The more recently an object was used, the more likely it is used again: LRU is the best there
/// is.
class Recency {
 public:
  explicit Recency(std::uint64_t seed, Block first) : random_(seed), next_(first) {}
  Block draw() {
    Block drawn = 0;
    // Depths in the stack fall off as 1 / depth; one in six is new.
    if (stack_.empty() || random_.one_in(6)) {
      drawn = next_++;
    } else {
      const double most = std::log(static_cast<double>(stack_.size()) + 1);
      const auto depth = static_cast<std::size_t>(std::exp(random_.unit() * most)) - 1;
      const std::size_t at = stack_.size() - 1 - std::min(depth, stack_.size() - 1);
      drawn = stack_[at];
      stack_.erase(stack_.begin() + static_cast<std::ptrdiff_t>(at));
    }
    stack_.push_back(drawn);
    return drawn;
  }

 private:
  Random random_;
  Block next_;
  std::vector<Block> stack_;
};

Workload recency() {
  Workload made;
  Recency objects{5, 0};
  while (made.references() < kReferences) made.add(object(objects.draw()));
  return made;
}

Workload loop_and_recency_phases() {
  Workload made;
  Recency objects{6, kLoopObjects};
  Block at = 0;
  while (made.references() < 2 * kReferences) {
    for (int i = 0; i < 3000; ++i) made.add(object(at++ % kLoopObjects));
    for (int i = 0; i < 3000; ++i) made.add(object(objects.draw()));
  }
  return made;
}

/// One of 60 system prompts, popular by Zipf, and a tail that never returns.
Workload shared_prompts() {
  Workload made;
  Random random{7};
  const Zipf prompts{60, 0.9};
  constexpr Block kPrompt = 40;
  for (Block next = 60 * kPrompt; made.references() < kReferences;) {
    Chain chain = object(prompts.draw(random), kPrompt);
    const auto tail = static_cast<Block>(5 + random.below(40));
    for (Block i = 0; i < tail; ++i) chain.push_back(next++);
    made.add(chain);
  }
  return made;
}

/// Each object is used twice, the second time 150 requests later, and never again; beside it a hot
/// set.
Workload touched_twice() {
  Workload made;
  Random random{8};
  const Zipf hot{200, 0.7};
  for (Block next = 0; made.references() < kReferences; ++next) {
    made.add(object(200 + next));
    if (next >= 150) made.add(object(200 + next - 150));
    made.add(object(hot.draw(random)));
  }
  return made;
}

/// Conversations that grow by a few blocks a turn, think for a while, and end at some turn; with
/// many tenants, each with its own system prompt and its own pace.
Workload conversations(std::uint64_t seed, std::size_t tenants) {
  Workload made;
  Random random{seed};
  struct Open {
    std::size_t due;
    std::size_t tenant;
    Chain chain;
    bool operator>(const Open& other) const { return due > other.due; }
  };
  std::priority_queue<Open, std::vector<Open>, std::greater<>> open;
  Block next = 0;
  std::vector<Chain> prompts(tenants);
  for (Chain& prompt : prompts) {
    for (Block i = 0; i < 4 + random.below(12); ++i) prompt.push_back(next++);
  }
  for (std::size_t now = 0; made.references() < kReferences; ++now) {
    Open turn;
    if (!open.empty() && open.top().due <= now) {
      turn = open.top();
      open.pop();
    } else {
      turn.tenant = std::min(random.below(tenants), random.below(tenants));
      turn.chain = prompts[turn.tenant];
    }
    const std::uint64_t blocks = 1 + random.below(1 + turn.tenant % 4 * 8);
    for (std::uint64_t i = 0; i < blocks; ++i) turn.chain.push_back(next++);
    made.add(turn.chain);
    // Later turns are followed by another one more often.
    if (random.unit() * 100 <
        std::min<double>(90, 40 + 3.0 * static_cast<double>(turn.chain.size() % 20))) {
      turn.due = now + 20 + random.below(40 * (1 + turn.tenant % 5));
      open.push(std::move(turn));
    }
  }
  return made;
}

/// Conversations, every third request of a scan, and every third one of a loop.
Workload mix() {
  Workload made;
  const Workload talk = conversations(9, 5);
  const auto first = static_cast<Block>(talk.blocks() / kLength + 1);
  const Block scan = first + 400;
  for (std::size_t i = 0; i < talk.requests() && made.references() < 2 * kReferences; ++i) {
    const auto chain = talk.chain(i);
    made.add({chain.begin(), chain.end()});
    made.add(object(first + static_cast<Block>(i % 400)));
    made.add(object(scan + static_cast<Block>(i)));
  }
  return made;
}

/// One kind after another, and the first again.
Workload changing_phases() {
  Workload made;
  Block shift = 0;
  for (const Workload& phase : {conversations(10, 3), zipf(0.7), conversations(10, 3), recency()}) {
    for (std::size_t i = 0; i < phase.requests() / 2; ++i) {
      Chain chain{phase.chain(i).begin(), phase.chain(i).end()};
      for (Block& block : chain) block += shift;
      made.add(chain);
    }
    shift = static_cast<Block>(made.blocks());
  }
  return made;
}

}  // namespace

void Workload::add(const std::vector<Block>& chain) {
  blocks_.insert(blocks_.end(), chain.begin(), chain.end());
  begins_.push_back(blocks_.size());
  for (const Block block : chain) blocks_end_ = std::max<std::size_t>(blocks_end_, block + 1);
}

std::size_t ChainCache::request(std::span<const Block> chain) {
  std::size_t hits = 0;
  while (hits < chain.size() && is_resident_[chain[hits]]) ++hits;
  const auto chunks = static_cast<std::uint32_t>(chain.size());
  policy_.begin_chain(
      {.chunks = chunks, .resident = static_cast<std::uint32_t>(hits), .end = chunks});
  for (std::size_t i = chain.size(); i-- > 0;) {
    const Block block = chain[i];
    stamps_[block] = ++stamp_;
    if (is_resident_[block]) {
      if (i > hits) ++behind_holes_;
      policy_.touch(block, stamp_);
      continue;
    }
    ColumnId victim = 0;
    if (policy_.columns() >= capacity_ && policy_.coldest({&victim, 1}) == 1) {
      policy_.erase(victim, Removal::kEvicted);
      is_resident_[victim] = false;
      victims_.push_back(victim);
    }
    policy_.insert(block, block, 1, stamp_);
    is_resident_[block] = true;
  }
  return hits;
}

std::uint64_t hits_of(Policy& policy, const Workload& workload, std::size_t capacity) {
  ChainCache cache{policy, capacity, workload.blocks()};
  std::uint64_t hits = 0;
  for (std::size_t i = 0; i < workload.requests(); ++i) hits += cache.request(workload.chain(i));
  return hits;
}

std::uint64_t lru_hits(const Workload& workload, std::size_t capacity) {
  std::list<Block> order;  // The oldest first.
  std::vector<std::list<Block>::iterator> places(workload.blocks(), order.end());
  std::uint64_t hits = 0;
  for (std::size_t request = 0; request < workload.requests(); ++request) {
    const auto chain = workload.chain(request);
    for (const Block block : chain) {
      if (places[block] == order.end()) break;
      ++hits;
    }
    for (std::size_t i = chain.size(); i-- > 0;) {
      auto& place = places[chain[i]];
      if (place != order.end()) {
        order.erase(place);
      } else if (order.size() == capacity) {
        places[order.front()] = order.end();
        order.pop_front();
      }
      order.push_back(chain[i]);
      place = std::prev(order.end());
    }
  }
  return hits;
}

std::uint64_t optimal_hits(const Workload& workload, std::size_t capacity) {
  constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> next(workload.references(), kNever);
  std::vector<Block> named(workload.references());
  std::vector<std::size_t> later(workload.blocks(), kNever);
  std::size_t at = workload.references();
  for (std::size_t request = workload.requests(); request-- > 0;) {
    const auto chain = workload.chain(request);
    for (std::size_t i = chain.size(); i-- > 0;) {
      --at;
      named[at] = chain[i];
      next[at] = later[chain[i]];
      later[chain[i]] = at;
    }
  }
  std::vector<bool> is_kept(workload.blocks());
  std::priority_queue<std::size_t> next_uses;
  std::size_t kept = 0;
  std::uint64_t hits = 0;
  for (std::size_t request = 0; request < workload.requests(); ++request) {
    for (const Block block : workload.chain(request)) {
      if (is_kept[block]) {
        ++hits;
        --kept;
      }
      is_kept[block] = next[at] != kNever;
      if (is_kept[block]) {
        next_uses.push(next[at]);
        ++kept;
      }
      ++at;
    }
    for (; kept > capacity; --kept) {
      is_kept[named[next_uses.top()]] = false;
      next_uses.pop();
    }
  }
  return hits;
}

std::vector<Adversary> adversaries() {
  return {{"Loop", loop},
          {"ScanAndHotSet", scan_and_hot_set},
          {"OneTimePrompts", one_time_prompts},
          {"ZipfFlat", [] { return zipf(0.7); }},
          {"ZipfSteep", [] { return zipf(1.0); }},
          {"ShiftingZipf", shifting_zipf},
          {"Recency", recency},
          {"LoopAndRecencyPhases", loop_and_recency_phases},
          {"SharedPrompts", shared_prompts},
          {"TouchedTwice", touched_twice},
          {"Conversations", [] { return conversations(11, 1); }},
          {"ManyTenants", [] { return conversations(12, 64); }},
          {"Mix", mix},
          {"ChangingPhases", changing_phases}};
}

}  // namespace larder::cache::testing
