#include <array>

#include "larder/conformance/cases.h"
#include "larder/conformance/session.h"

namespace larder::conformance {
namespace {

void every_operation_has_every_outcome(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const std::string key = "the key";
  const Bytes value = random_bytes(context.seed(), 1000);
  const auto outcome_of = [&](Op op) {
    Request& request = session->make(op).add(key);
    return session->run(request) ? request.item(0).outcome : Outcome::kPending;
  };

  session->expect_miss(key);
  context.expect(outcome_of(Op::kTouch) == Outcome::kMiss, "Touch of an absent key is not a miss");
  session->remove(key, Outcome::kMiss);
  session->set(key, value);
  session->expect_hit(key, value);
  Request& exists = session->make(Op::kExists).add(key);
  session->run(exists);
  context.expect(exists.item(0).outcome == Outcome::kHit, "Exists of a stored key is not a hit");
  context.expect(exists.item(0).value_bytes == value.size(), "Exists tells a wrong size");
  context.expect(outcome_of(Op::kTouch) == Outcome::kDone, "Touch of a stored key is not done");
  session->remove(key, Outcome::kDone);
  session->remove(key, Outcome::kMiss);
  session->expect_miss(key);
}

void hits_and_misses_mix_in_one_batch(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  constexpr std::size_t kKeys = 200;
  const auto value_of = [&](std::size_t i) {
    return random_bytes(context.seed() + i, 100 + 37 * i);
  };
  Request& store = session->make(Op::kSet);
  for (std::size_t i = 0; i < kKeys; i += 2) store.add_set(numbered_key(i), value_of(i));
  Request& load = session->make(Op::kGet);
  Request& exists = session->make(Op::kExists);
  for (std::size_t i = 0; i < kKeys; ++i) {
    load.add_get(numbered_key(i), value_of(i).size(), {.offset = i % 7});
    exists.add(numbered_key(i));
  }

  session->run(store);
  session->run(load);
  session->run(exists);

  for (std::size_t i = 0; i < kKeys; ++i) {
    const bool is_there = i % 2 == 0;
    context.expect(exists.item(i).outcome == (is_there ? Outcome::kHit : Outcome::kMiss),
                   "Exists of key " + std::to_string(i) + " is wrong");
    if (is_there) {
      context.expect(load.is_hit_of(i, value_of(i)), "key " + std::to_string(i) + " is not a hit");
    } else {
      context.expect(load.item(i).outcome == Outcome::kMiss && load.is_untouched(i),
                     "key " + std::to_string(i) + " is not a miss with its buffer untouched");
    }
  }
}

void if_absent_keeps_the_first_value(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes first = random_bytes(context.seed(), 5000);
  const Bytes second = random_bytes(context.seed() + 1, 5000);
  const auto set_if_absent = [&](const Bytes& value) {
    Request& request = session->make(Op::kSet).add_set("key", value);
    request.batch().set_mode = SetMode::kIfAbsent;
    session->run(request);
    context.expect(request.item(0).outcome == Outcome::kDone, "a Set is not done");
    return request.item(0).existed;
  };

  context.expect(!set_if_absent(first), "the first Set says that the key existed");
  context.expect(set_if_absent(second), "the second Set does not say that the key existed");
  session->expect_hit("key", first);
  session->set("key", second, SetMode::kReplace);
  session->expect_hit("key", second);
  session->remove("key");
  context.expect(!set_if_absent(first), "a Set after a Delete says that the key existed");
  session->expect_hit("key", first);
}

void replacing_with_other_sizes_leaves_the_last_value(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  std::uint64_t version = context.seed();
  for (const std::size_t size : {10U, 100'000U, 0U, 1U, 4096U, 4095U, 70'000U, 1U << 20, 3U}) {
    const Bytes value = random_bytes(++version, size);
    session->set("key", value);
    session->expect_hit("key", value);
  }
  context.expect(session->connector().report().keys == 1, "one key counts as several");
}

void a_batch_that_is_used_again_has_fresh_outputs(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  session->set("there", random_bytes(context.seed(), 100));
  Request& set = session->make(Op::kSet).add_set("there", Bytes(10)).add_set("new", Bytes(10));
  session->run(set);
  context.expect(set.item(0).existed && !set.item(1).existed, "existed is wrong");

  // Not through prepare(): the items keep what the first run left in them.
  for (Item& item : set.items()) {
    item.outcome = Outcome::kFailed;
    item.existed = true;
    item.value_bytes = 77;
  }
  session->remove("there");
  session->remove("new");
  const Status status = session->connector().submit(set.batch());
  if (!context.expect(status.has_value(), "refused without need")) return;
  Batch* back = nullptr;
  const std::uint64_t give_up_ns = RealClock::instance().now_ns() + context.subject().patience_ns;
  while (session->connector().reap({&back, 1}) == 0) {
    if (!context.expect(RealClock::instance().now_ns() < give_up_ns, "never came back")) return;
  }
  for (const Item& item : set.items()) {
    context.expect(item.outcome == Outcome::kDone && !item.existed,
                   "an item kept what an earlier use of the batch had left in it");
  }
}

void every_urgency_is_served(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  for (std::size_t urgency = 0; urgency < kUrgencyCount; ++urgency) {
    for (const Op op : {Op::kSet, Op::kGet, Op::kExists, Op::kTouch, Op::kDelete}) {
      Request& request = session->make(op);
      const std::string key = numbered_key(urgency);
      if (op == Op::kSet) {
        request.add_set(key, Bytes(100));
      } else if (op == Op::kGet) {
        request.add_get(key, 100);
      } else {
        request.add(key);
      }
      request.batch().urgency = static_cast<Urgency>(urgency);
      session->run(request);
      context.expect(
          request.item(0).outcome == Outcome::kHit || request.item(0).outcome == Outcome::kDone,
          "an operation of urgency " + std::to_string(urgency) + " did not succeed");
    }
  }
}

void add_for(Request& request, Op op, std::string key, std::size_t bytes) {
  if (op == Op::kSet) {
    request.add_set(std::move(key), Bytes(bytes, std::byte{5}));
  } else if (op == Op::kGet) {
    request.add_get(std::move(key), bytes);
  } else {
    request.add(std::move(key));
  }
}

void an_illegal_key_fails_alone(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  for (const Op op : {Op::kSet, Op::kGet, Op::kExists, Op::kTouch, Op::kDelete}) {
    Request& request = session->make(op);
    add_for(request, op, "first", 50);
    add_for(request, op, "", 50);
    add_for(request, op, std::string(kKeyBytesMax + 1, 'x'), 50);
    add_for(request, op, std::string(kKeyBytesMax, 'x'), 50);
    session->run(request);
    for (const std::size_t good : {0U, 3U}) {
      context.expect(request.item(good).outcome == Outcome::kHit ||
                         request.item(good).outcome == Outcome::kDone,
                     "a legal key beside an illegal one did not succeed (C2)");
    }
    for (const std::size_t bad : {1U, 2U}) {
      context.expect(request.item(bad).outcome == Outcome::kFailed &&
                         request.item(bad).error.code() == ErrorCode::kInvalidArgument,
                     "an illegal key is not kInvalidArgument");
    }
  }
}

void an_illegal_value_fails_alone(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Capabilities capabilities = session->connector().capabilities();
  Bytes memory(1U << 20);
  // The same memory many times over: what is too large is refused before it is touched.
  const auto larger_than = [&memory](std::uint64_t bytes) {
    return std::vector<Slice>(static_cast<std::size_t>(bytes / memory.size()) + 1,
                              Slice{memory.data(), memory.size()});
  };
  const std::vector<Slice> too_many(std::size_t{capabilities.slices_max} + 1,
                                    Slice{memory.data(), 1});
  for (const Op op : {Op::kSet, Op::kGet}) {
    Request& request = session->make(op);
    // What is there may have been stored under a larger bound than today's.
    const std::uint64_t bound = op == Op::kSet ? capabilities.value_bytes_max : kValueBytesMax;
    request.add_slices("too large", larger_than(bound)).add_slices("too many", too_many);
    request.add_slices("nowhere", {Slice{nullptr, 10}});
    add_for(request, op, "good", 10);
    session->run(request);
    for (const std::size_t bad : {0U, 1U, 2U}) {
      context.expect(request.item(bad).outcome == Outcome::kFailed &&
                         request.item(bad).error.code() == ErrorCode::kInvalidArgument,
                     "a value that is " + request.key(bad) + " is not kInvalidArgument");
    }
    context.expect(request.item(3).outcome == (op == Op::kSet ? Outcome::kDone : Outcome::kHit),
                   "a good item beside illegal ones did not succeed (C2)");
  }
  session->expect_miss("too large");
}

constexpr std::array kCases{
    Case{"every_operation_has_every_outcome", "P2", every_operation_has_every_outcome},
    Case{"hits_and_misses_mix_in_one_batch", "C2", hits_and_misses_mix_in_one_batch},
    Case{"if_absent_keeps_the_first_value", "C4", if_absent_keeps_the_first_value},
    Case{"replacing_with_other_sizes_leaves_the_last_value", "P1",
         replacing_with_other_sizes_leaves_the_last_value},
    Case{"a_batch_that_is_used_again_has_fresh_outputs", "P2",
         a_batch_that_is_used_again_has_fresh_outputs},
    Case{"every_urgency_is_served", "P2", every_urgency_is_served},
    Case{"an_illegal_key_fails_alone", "C2", an_illegal_key_fails_alone},
    Case{"an_illegal_value_fails_alone", "C2", an_illegal_value_fails_alone},
};

}  // namespace

std::span<const Case> outcome_cases() {
  return kCases;
}

}  // namespace larder::conformance
