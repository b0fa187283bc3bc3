// Touches that carry a hint, and how long a load would take.
#include <algorithm>
#include <array>
#include <string>

#include "larder/conformance/cases.h"
#include "larder/conformance/session.h"

namespace larder::conformance {
namespace {

constexpr std::array kHints{Hint::kPrefetch, Hint::kPin, Hint::kRetain, Hint::kRelease};
constexpr std::uint64_t kHour = 3'600'000'000'000;

std::string name_of(Hint hint) {
  return kHintNames.at(static_cast<std::size_t>(hint));
}

bool has(Session& session, Hint hint) {
  return (session.connector().capabilities().hints & bit_of(hint)) != 0;
}

/// Its item, when it is back.
Item run_hint(Session& session, Hint hint, const std::string& key, std::uint64_t hold_ns = kHour) {
  Request& request = session.make(Op::kTouch).add(key);
  request.batch().hint = hint;
  request.batch().hold_ns = is_held(hint) ? hold_ns : 0;
  return session.run(request) ? request.item(0) : Item{};
}

void a_hint_is_carried_out_or_refused(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes value = random_bytes(context.seed(), 5000);
  const Health health_at_first = session->connector().report().health;
  for (const Hint hint : kHints) {
    const std::string key = "the key of " + name_of(hint);
    session->set(key, value);
    const Item there = run_hint(*session, hint, key);
    const Item absent = run_hint(*session, hint, "absent");
    if (has(*session, hint)) {
      // Nothing was pinned or retained: there is nothing to release.
      const Outcome expected = hint == Hint::kRelease ? Outcome::kMiss : Outcome::kDone;
      context.expect(there.outcome == expected,
                     name_of(hint) + " of a stored key went wrong: " + there.error.to_string());
      context.expect(absent.outcome == Outcome::kMiss,
                     name_of(hint) + " of an absent key is not a miss");
    } else {
      for (const Item& item : {there, absent}) {
        context.expect(
            item.outcome == Outcome::kFailed && item.error.code() == ErrorCode::kUnimplemented,
            name_of(hint) + " is not told in capabilities() and was not refused");
      }
    }
    session->expect_hit(key, value);
  }
  context.expect(session->connector().report().health <= health_at_first,
                 "a hint that was refused made the health worse");
}

void what_is_held_is_replaced_and_deleted_as_anything_else(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes first = random_bytes(context.seed(), 3000);
  const Bytes second = random_bytes(context.seed() + 1, 9000);
  for (const Hint hint : {Hint::kPin, Hint::kRetain}) {
    if (!has(*session, hint)) continue;
    const std::string key = "the key of " + name_of(hint);
    session->set(key, first);
    run_hint(*session, hint, key);
    context.expect(run_hint(*session, Hint::kRelease, key).outcome == Outcome::kDone,
                   "the release of a " + name_of(hint) + " is not done");
    context.expect(run_hint(*session, Hint::kRelease, key).outcome == Outcome::kMiss,
                   "the second release of a " + name_of(hint) + " is not a miss");
    run_hint(*session, hint, key);
    session->set(key, second);
    session->expect_hit(key, second);
    context.expect(run_hint(*session, Hint::kRelease, key).outcome == Outcome::kMiss,
                   "a Set that replaced has not ended the " + name_of(hint));
    run_hint(*session, hint, key);
    session->remove(key);
    session->expect_miss(key);
    session->set(key, first);
    session->expect_hit(key, first);
    context.expect(run_hint(*session, Hint::kRelease, key).outcome == Outcome::kMiss,
                   "a Delete has not ended the " + name_of(hint));
  }
}

/// A hint's batch comes back as any other.
void a_hint_keeps_its_deadline(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  session->set("key", random_bytes(context.seed(), 1000));
  for (const Hint hint : kHints) {
    if (!has(*session, hint)) continue;
    Request& request = session->make(Op::kTouch).add("key");
    request.batch().hint = hint;
    request.batch().hold_ns = is_held(hint) ? kHour : 0;
    request.batch().deadline_ns = 1;
    session->run(request);
    context.expect(request.item(0).outcome == Outcome::kFailed &&
                       request.item(0).error.code() == ErrorCode::kDeadlineExceeded,
                   name_of(hint) + " past its deadline did not fail so");
  }
}

void a_pinned_value_stays_while_others_make_room(Context& context) {
  const auto session = Session::open(context, context.subject().open_small);
  if (!session) return;
  if (!has(*session, Hint::kPin)) return;
  const std::uint64_t capacity = session->connector().report().capacity_bytes;
  const std::size_t bytes = std::clamp<std::size_t>(capacity / 16, 64, 8192);
  const Bytes value = random_bytes(context.seed(), bytes);
  session->set("pinned", value);
  const Item item = run_hint(*session, Hint::kPin, "pinned");
  if (!context.expect(item.outcome == Outcome::kDone, "it was not pinned")) return;
  const std::uint64_t others = 3 * capacity / bytes;
  for (std::uint64_t i = 0; i < others; ++i) {
    session->set(numbered_key(i), random_bytes(context.seed() + i, bytes));
    session->recycle();
  }
  session->expect_hit("pinned", value);
}

void after_loads_a_load_is_estimated(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  Request& exists = session->make(Op::kExists);
  Request& load = session->make(Op::kGet);
  for (std::uint64_t i = 0; i < 10; ++i) {
    session->set(numbered_key(i), random_bytes(context.seed() + i, 20'000));
    exists.add(numbered_key(i));
    load.add_get(numbered_key(i), 20'000);
  }
  exists.batch().wants_places = true;
  session->run(exists);
  context.expect(load_ns_of(session->connector(), exists.items()) == kNever,
                 "how long loads take was known before the first one");
  std::uint64_t ns = kNever;
  // What was in memory at one moment may be behind it at the next.
  for (int i = 0; i < 5 && ns == kNever; ++i) {
    session->run(load);
    session->run(exists);
    ns = load_ns_of(session->connector(), exists.items());
  }
  context.expect(ns != kNever, "how long loads take is not known after ten of them");
  context.expect(ns < 60'000'000'000, "a load of 200 KB is said to take a minute");
  Request& absent = session->make(Op::kExists).add("absent");
  session->run(absent);
  context.expect(load_ns_of(session->connector(), absent.items()) == 0,
                 "where nothing is a hit there is nothing to load");
}

bool has_small(const Subject& subject) {
  return subject.open_small != nullptr;
}

constexpr Case kCases[] = {
    {"a_hint_is_carried_out_or_refused", "Hints", a_hint_is_carried_out_or_refused},
    {"what_is_held_is_replaced_and_deleted_as_anything_else", "Hints",
     what_is_held_is_replaced_and_deleted_as_anything_else},
    {"a_hint_keeps_its_deadline", "C8", a_hint_keeps_its_deadline},
    {"a_pinned_value_stays_while_others_make_room", "Hints",
     a_pinned_value_stays_while_others_make_room, has_small},
    {"after_loads_a_load_is_estimated", "Loads", after_loads_a_load_is_estimated},
};

}  // namespace

std::span<const Case> hint_cases() {
  return kCases;
}

}  // namespace larder::conformance
