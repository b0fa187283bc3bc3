#include <algorithm>
#include <array>

#include "larder/base/random.h"
#include "larder/conformance/cases.h"
#include "larder/conformance/session.h"

namespace larder::conformance {
namespace {

void values_of_every_size_come_back(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  constexpr std::array<std::size_t, 17> kSizes{0,
                                               1,
                                               2,
                                               3,
                                               511,
                                               512,
                                               513,
                                               4095,
                                               4096,
                                               4097,
                                               65'535,
                                               65'536,
                                               (1U << 20) - 1,
                                               1U << 20,
                                               (1U << 20) + 1,
                                               3'145'733,
                                               7};
  Request& store = session->make(Op::kSet);
  Request& load = session->make(Op::kGet);
  Request& exists = session->make(Op::kExists);
  for (std::size_t i = 0; i < kSizes.size(); ++i) {
    store.add_set(numbered_key(i), random_bytes(context.seed() + i, kSizes[i]));
    load.add_get(numbered_key(i), kSizes[i]);
    exists.add(numbered_key(i));
  }
  store.add_slices("no slices", {});
  load.add_slices("no slices", {});
  exists.add("no slices");

  session->run(store);
  session->run(load);
  session->run(exists);

  for (std::size_t i = 0; i < kSizes.size(); ++i) {
    const std::string what = "a value of " + std::to_string(kSizes[i]) + " bytes";
    context.expect(store.item(i).outcome == Outcome::kDone, what + " is not stored");
    context.expect(load.is_hit_of(i, random_bytes(context.seed() + i, kSizes[i])),
                   what + " does not come back");
    context.expect(exists.item(i).value_bytes == kSizes[i], what + " has another size for Exists");
  }
  context.expect(
      load.items().back().outcome == Outcome::kHit && load.items().back().value_bytes == 0,
      "a value without slices is not one of 0 bytes");
}

/// `bytes` cut at random places into `count` pieces, some of them empty.
std::vector<std::size_t> random_cut(Random& random, std::size_t bytes, std::size_t count) {
  std::vector<std::size_t> cuts{0, bytes};
  while (cuts.size() < count + 1) cuts.push_back(random.below(bytes + 1));
  std::ranges::sort(cuts);
  std::vector<std::size_t> pieces;
  for (std::size_t i = 0; i < count; ++i) pieces.push_back(cuts[i + 1] - cuts[i]);
  return pieces;
}

void values_may_lie_in_many_slices(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  Random random{context.seed()};
  const std::size_t most =
      std::min<std::size_t>(64, session->connector().capabilities().slices_max);
  const auto random_layout = [&](std::size_t bytes) {
    return Layout{random_cut(random, bytes, 1 + random.below(most)), random.below(4096),
                  random.below(70)};
  };
  for (int round = 0; round < 20; ++round) {
    Request& store = session->make(Op::kSet);
    Request& load = session->make(Op::kGet);
    std::vector<Bytes> values;
    for (std::size_t i = 0; i < 8; ++i) {
      values.push_back(random_bytes(random.next(), random.below(100'000)));
      store.add_set(numbered_key(i), values[i], random_layout(values[i].size()));
      load.add_get(numbered_key(i), values[i].size(), random_layout(values[i].size()));
    }
    store.batch().set_mode = SetMode::kReplace;
    session->run(store);
    session->run(load);
    for (std::size_t i = 0; i < values.size(); ++i) {
      context.expect(load.is_hit_of(i, values[i]), "a value in slices is not what was stored");
    }
  }
}

void aligned_slices_come_back(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  for (const std::size_t count : {1U, 2U, 32U, 64U}) {
    const std::vector<std::size_t> pages(count, 8192);
    const Bytes value = random_bytes(context.seed() + count, count * 8192);
    Request& store = session->make(Op::kSet).add_set(numbered_key(count), value, {pages, 0, 4096});
    Request& load =
        session->make(Op::kGet).add_get(numbered_key(count), value.size(), {pages, 0, 4096});
    session->run(store);
    session->run(load);
    context.expect(load.is_hit_of(0, value), "a value in aligned slices is not what was stored");
  }
}

void a_get_of_another_size_fails_and_the_value_stays(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes value = random_bytes(context.seed(), 10'000);
  session->set("key", value);
  session->set("other", value);
  for (const std::size_t wrong :
       {std::size_t{0}, std::size_t{1}, value.size() - 1, value.size() + 1, 2 * value.size()}) {
    Request& load = session->make(Op::kGet).add_get("key", wrong).add_get("other", value.size());
    session->run(load);
    const Item& item = load.item(0);
    context.expect(
        item.outcome == Outcome::kFailed && item.error.code() == ErrorCode::kSizeMismatch,
        "a Get into " + std::to_string(wrong) + " bytes is not kSizeMismatch");
    context.expect(item.value_bytes == value.size(), "kSizeMismatch without the stored size");
    context.expect(load.is_hit_of(1, value), "the key beside it is not a hit (C2)");
    Request& exists = session->make(Op::kExists).add("key");
    session->run(exists);
    context.expect(
        exists.item(0).outcome == Outcome::kHit && exists.item(0).value_bytes == value.size(),
        "a Get into " + std::to_string(wrong) + " bytes took the value out (C6)");
    session->expect_hit("key", value);
  }
  const Bytes another = random_bytes(context.seed() + 1, 300);
  Request& store = session->make(Op::kSet).add_set("key", another);
  store.batch().set_mode = SetMode::kIfAbsent;
  session->run(store);
  context.expect(store.item(0).existed, "a wrong size made room for another value (C6)");
  session->expect_hit("key", value);
}

void a_shorter_value_is_a_hit_where_allowed(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes value = random_bytes(context.seed(), 5001);
  for (const std::size_t room : {value.size(), value.size() + 1, 3 * value.size()}) {
    session->set("key", value);
    Request& load = session->make(Op::kGet).add_get("key", room);
    load.batch().allow_shorter = true;
    session->run(load);
    context.expect(load.is_hit_of(0, value),
                   "a Get into " + std::to_string(room) + " bytes is not a hit of the value");
  }
  Request& load = session->make(Op::kGet).add_get("key", value.size() - 1);
  load.batch().allow_shorter = true;
  session->run(load);
  context.expect(load.item(0).outcome == Outcome::kFailed &&
                     load.item(0).error.code() == ErrorCode::kSizeMismatch &&
                     load.item(0).value_bytes == value.size(),
                 "a longer value than the buffer is not kSizeMismatch");
  session->expect_hit("key", value);
}

void damaged_values_are_never_hits(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  for (const std::size_t size : {1U, 100U, 5000U, 300'000U}) {
    const Bytes value = random_bytes(context.seed() + size, size);
    session->set("damaged", value);
    session->set("whole", value);
    if (!context.expect(context.subject().damage(session->connector(), "damaged"),
                        "the subject's hook damaged nothing")) {
      return;
    }
    Request& load = session->make(Op::kGet).add_get("damaged", size).add_get("whole", size);
    session->run(load);
    const Item& item = load.item(0);
    context.expect(item.outcome == Outcome::kFailed && item.error.code() == ErrorCode::kCorruption,
                   "a Get of a damaged value is not kCorruption");
    context.expect(load.is_hit_of(1, value), "the key beside it is not a hit (C2)");
    session->expect_miss("damaged");
    session->set("damaged", value, SetMode::kIfAbsent);
    session->expect_hit("damaged", value);
  }
}

constexpr std::array kCases{
    Case{"values_of_every_size_come_back", "P1", values_of_every_size_come_back},
    Case{"values_may_lie_in_many_slices", "P1", values_may_lie_in_many_slices},
    Case{"aligned_slices_come_back", "P1", aligned_slices_come_back},
    Case{"a_get_of_another_size_fails_and_the_value_stays", "C6",
         a_get_of_another_size_fails_and_the_value_stays},
    Case{"a_shorter_value_is_a_hit_where_allowed", "P1", a_shorter_value_is_a_hit_where_allowed},
    Case{"damaged_values_are_never_hits", "P11", damaged_values_are_never_hits,
         [](const Subject& subject) { return subject.damage != nullptr; }},
};

}  // namespace

std::span<const Case> value_cases() {
  return kCases;
}

}  // namespace larder::conformance
