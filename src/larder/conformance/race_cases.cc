#include <algorithm>
#include <array>

#include "larder/conformance/cases.h"
#include "larder/conformance/session.h"

namespace larder::conformance {
namespace {

// All values of a key in a race have one length, so that a Get needs no second size and a mix of
// two would not be seen by its length.
constexpr std::size_t kValueBytes = 20'000;

Bytes version(const Context& context, std::uint64_t number) {
  return random_bytes(context.seed() * 1000 + number, kValueBytes);
}

/// Which of the versions 0..count-1 a hit is; `count` when it is none.
std::size_t version_of(const Context& context, const Bytes& found, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    if (found == version(context, i)) return i;
  }
  return count;
}

/// What is stored under `key`: one of the versions, or `count` with a failure noted.
std::size_t final_version(Context& context, Session& session, const std::string& key,
                          std::size_t count) {
  Request& load = session.make(Op::kGet).add_get(key, kValueBytes);
  session.run(load);
  if (!context.expect(load.item(0).outcome == Outcome::kHit, "after the race there is no hit")) {
    return count;
  }
  const std::size_t found = version_of(context, load.value(0, kValueBytes), count);
  context.expect(found < count, "after the race the value is a mix (C4)");
  return found;
}

void one_batch_may_name_a_key_many_times(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  constexpr std::size_t kVersions = 24;
  Request& store = session->make(Op::kSet);
  store.batch().set_mode = SetMode::kReplace;
  for (std::size_t i = 0; i < kVersions; ++i) store.add_set("key", version(context, i));
  session->run(store);
  for (const Item& item : store.items()) {
    context.expect(item.outcome == Outcome::kDone, "a Set is not done");
  }
  const std::size_t last = final_version(context, *session, "key", kVersions);
  if (last == kVersions) return;

  Request& load = session->make(Op::kGet);
  Request& remove = session->make(Op::kDelete);
  for (int i = 0; i < 5; ++i) {
    load.add_get("key", kValueBytes);
    remove.add("key");
  }
  session->run(load);
  session->run(remove);
  for (std::size_t i = 0; i < load.size(); ++i) {
    context.expect(load.is_hit_of(i, version(context, last)), "one of equal Gets differs");
  }
  const auto done = std::ranges::count(remove.items(), Outcome::kDone, &Item::outcome);
  context.expect(done == 1, "one key was deleted " + std::to_string(done) + " times");
}

void replacing_in_flight_leaves_one_whole_value(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  constexpr std::size_t kVersions = 24;
  for (int round = 0; round < 5; ++round) {
    std::vector<Request*> loads;
    for (std::size_t i = 0; i < kVersions; ++i) {
      Request& store = session->make(Op::kSet).add_set("key", version(context, i));
      store.batch().set_mode = SetMode::kReplace;
      Request& load = session->make(Op::kGet).add_get("key", kValueBytes);
      session->must_submit(store);
      session->must_submit(load);
      loads.push_back(&load);
    }
    session->wait_all();
    for (const Request* load : loads) {
      const Item& item = load->item(0);
      if (item.outcome == Outcome::kMiss) {
        context.expect(round == 0, "a key was missing while it was only replaced");
        continue;
      }
      context.expect(item.outcome == Outcome::kHit &&
                         version_of(context, load->value(0, kValueBytes), kVersions) < kVersions,
                     "a Get during the race is not a hit of one version (C4)");
    }
    final_version(context, *session, "key", kVersions);
  }
}

void of_many_if_absent_one_writes(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  constexpr std::size_t kVersions = 16;
  for (std::uint64_t round = 0; round < 10; ++round) {
    std::vector<Request*> stores;
    for (std::size_t i = 0; i < kVersions; ++i) {
      stores.push_back(&session->make(Op::kSet).add_set(numbered_key(round), version(context, i)));
    }
    for (Request* store : stores) session->must_submit(*store);
    session->wait_all();

    std::size_t writers = 0;
    std::size_t writer = kVersions;
    for (std::size_t i = 0; i < kVersions; ++i) {
      context.expect(stores[i]->item(0).outcome == Outcome::kDone, "a Set is not done");
      if (stores[i]->item(0).existed) continue;
      ++writers;
      writer = i;
    }
    context.expect(writers == 1, std::to_string(writers) + " of the Sets found the key absent");
    context.expect(final_version(context, *session, numbered_key(round), kVersions) == writer,
                   "the value is not that of the Set that found the key absent");
  }
}

void deletes_race_with_sets_and_gets(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  constexpr std::size_t kVersions = 8;
  for (int round = 0; round < 20; ++round) {
    std::vector<Request*> removes;
    std::vector<Request*> loads;
    for (std::size_t i = 0; i < kVersions; ++i) {
      Request& store = session->make(Op::kSet).add_set("key", version(context, i));
      store.batch().set_mode = i % 2 == 0 ? SetMode::kReplace : SetMode::kIfAbsent;
      session->must_submit(store);
      loads.push_back(&session->make(Op::kGet).add_get("key", kValueBytes));
      session->must_submit(*loads.back());
      removes.push_back(&session->make(Op::kDelete).add("key"));
      session->must_submit(*removes.back());
    }
    session->wait_all();
    for (const Request* load : loads) {
      if (load->item(0).outcome == Outcome::kMiss) continue;
      context.expect(version_of(context, load->value(0, kValueBytes), kVersions) < kVersions,
                     "a Get during the race is neither a miss nor a hit of one version (C4)");
    }
    for (const Request* remove : removes) {
      context.expect(remove->item(0).outcome != Outcome::kFailed, "a Delete failed");
    }
    Request& exists = session->make(Op::kExists).add("key");
    session->run(exists);
    if (exists.item(0).outcome == Outcome::kHit) {
      final_version(context, *session, "key", kVersions);
    } else {
      session->expect_miss("key");
    }
    // Whatever the race left, a Delete after it is the last word.
    session->run(session->make(Op::kDelete).add("key"));
    session->expect_miss("key");
  }
}

constexpr std::array kCases{
    Case{"one_batch_may_name_a_key_many_times", "C4", one_batch_may_name_a_key_many_times},
    Case{"replacing_in_flight_leaves_one_whole_value", "C4",
         replacing_in_flight_leaves_one_whole_value},
    Case{"of_many_if_absent_one_writes", "C4", of_many_if_absent_one_writes},
    Case{"deletes_race_with_sets_and_gets", "C4", deletes_race_with_sets_and_gets},
};

}  // namespace

std::span<const Case> race_cases() {
  return kCases;
}

}  // namespace larder::conformance
