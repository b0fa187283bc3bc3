#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "larder/base/random.h"
#include "larder/conformance/cases.h"
#include "larder/conformance/session.h"

namespace larder::conformance {
namespace {

struct WorkloadOptions {
  std::uint64_t keys = 0;
  std::size_t value_bytes_max = 0;
  std::size_t rounds = 0;
  std::size_t batches = 6;  ///< In flight together.
  std::size_t items = 8;    ///< Per batch.
  bool must_hit = false;    ///< There is room for everything: a miss of a stored key is wrong.
};

/// A random workload beside a map that knows which versions of each key could be there. Each round
/// has several batches in flight; what the map knows is brought up to date between rounds.
class Workload {
 public:
  Workload(Context& context, Session& session, const WorkloadOptions& options)
      : context_(context), session_(session), options_(options), random_(context.seed()) {}

  bool run() {
    for (std::size_t round = 0; round < options_.rounds; ++round) {
      if (!run_round() || !context_.failures().empty()) return false;
      const Report report = session_.connector().report();
      context_.expect(report.capacity_bytes == 0 || report.bytes_used <= report.capacity_bytes,
                      "bytes_used exceeds capacity (P5)");
    }
    return true;
  }

  std::uint64_t hits() const noexcept { return hits_; }
  std::uint64_t misses() const noexcept { return misses_; }
  std::uint64_t bytes_stored() const noexcept { return bytes_stored_; }

 private:
  /// What could be there; nothing being there is always allowed unless `must_hit` and `is_certain`.
  struct State {
    std::set<std::uint64_t> versions;
    bool is_certain = false;
  };
  struct Flight {
    Request* request = nullptr;
    std::vector<std::uint64_t> versions;  ///< Of a Set's items.
  };

  Bytes value_of(const std::string& key, std::uint64_t version) const {
    const std::uint64_t seed = std::hash<std::string>{}(key) ^ (version * 0x9E3779B97F4A7C15U);
    return random_bytes(seed, Random{seed}.below(options_.value_bytes_max + 1));
  }

  Flight make_flight() {
    constexpr std::array kOps{Op::kSet, Op::kSet, Op::kSet,    Op::kGet,   Op::kGet,
                              Op::kGet, Op::kGet, Op::kExists, Op::kTouch, Op::kDelete};
    const Op op = kOps.at(random_.below(kOps.size()));
    Flight flight{&session_.make(op), {}};
    Batch& batch = flight.request->batch();
    batch.set_mode = random_.one_in(2) ? SetMode::kReplace : SetMode::kIfAbsent;
    batch.urgency = static_cast<Urgency>(random_.below(kUrgencyCount));
    batch.allow_shorter = true;
    const std::size_t count = op == Op::kDelete ? 2 : 1 + random_.below(options_.items);
    for (std::size_t i = 0; i < count; ++i) {
      const std::string key = numbered_key(random_.below(options_.keys));
      if (op == Op::kSet) {
        flight.versions.push_back(++last_version_);
        flight.request->add_set(key, value_of(key, last_version_));
      } else if (op == Op::kGet) {
        flight.request->add_get(key, options_.value_bytes_max);
      } else {
        flight.request->add(key);
      }
    }
    return flight;
  }

  bool run_round() {
    session_.recycle();
    std::vector<Flight> flights;
    for (std::size_t i = 0; i < options_.batches; ++i) flights.push_back(make_flight());
    std::map<std::string, State> after = states_;
    std::set<std::string> changing;
    for (const Flight& flight : flights) {
      const Op op = flight.request->batch().op;
      for (std::size_t i = 0; i < flight.request->size(); ++i) {
        const std::string& key = flight.request->key(i);
        if (op == Op::kSet) after[key].versions.insert(flight.versions[i]);
        if (op == Op::kSet || op == Op::kDelete) changing.insert(key);
      }
      if (!session_.must_submit(*flight.request)) return false;
    }
    if (!session_.wait_all()) return false;
    for (const Flight& flight : flights) check(flight, after, changing);
    settle(flights, changing);
    return true;
  }

  void check(const Flight& flight, const std::map<std::string, State>& possible,
             const std::set<std::string>& changing) {
    const Op op = flight.request->batch().op;
    if (op == Op::kSet || op == Op::kDelete) return;
    for (std::size_t i = 0; i < flight.request->size(); ++i) {
      const Item& item = flight.request->item(i);
      const std::string& key = flight.request->key(i);
      const auto found = possible.find(key);
      const State state = found == possible.end() ? State{} : found->second;
      if (item.outcome == Outcome::kMiss) {
        ++misses_;
        context_.expect(!options_.must_hit || !state.is_certain || changing.contains(key),
                        key + " was stored, there is room, and it is gone");
        continue;
      }
      if (!context_.expect(item.outcome != Outcome::kFailed,
                           key + " failed: " + item.error.to_string())) {
        continue;
      }
      ++hits_;
      context_.expect(!state.versions.empty(), key + " is there though it was deleted");
      if (op == Op::kTouch) continue;
      const bool is_known = std::ranges::any_of(state.versions, [&](std::uint64_t version) {
        const Bytes value = value_of(key, version);
        return op == Op::kGet ? flight.request->is_hit_of(i, value)
                              : item.value_bytes == value.size();
      });
      context_.expect(is_known, key + " is none of the versions that could be there (P1)");
    }
  }

  /// What could be there after a round whose operations took effect in any order.
  void settle(const std::vector<Flight>& flights, const std::set<std::string>& changing) {
    struct Changes {
      std::set<std::uint64_t> written;
      std::set<std::uint64_t> failed;
      bool is_deleted = false;
    };
    std::map<std::string, Changes> changes;
    for (const Flight& flight : flights) {
      const Op op = flight.request->batch().op;
      for (std::size_t i = 0; i < flight.request->size(); ++i) {
        const Item& item = flight.request->item(i);
        Changes& change = changes[flight.request->key(i)];
        if (op == Op::kDelete && item.outcome != Outcome::kFailed) change.is_deleted = true;
        if (op != Op::kSet || item.existed) continue;
        (item.outcome == Outcome::kDone ? change.written : change.failed)
            .insert(flight.versions[i]);
        if (item.outcome == Outcome::kDone) bytes_stored_ += bytes_of(item.value);
      }
    }
    for (const std::string& key : changing) {
      const Changes& change = changes[key];
      State& state = states_[key];
      if (change.is_deleted || !change.written.empty()) state = State{};
      state.versions.insert(change.written.begin(), change.written.end());
      state.versions.insert(change.failed.begin(), change.failed.end());
      if (change.is_deleted) {
        state.is_certain = false;
      } else if (!change.written.empty()) {
        state.is_certain = true;
      }
    }
  }

  Context& context_;
  Session& session_;
  const WorkloadOptions options_;
  Random random_;
  std::map<std::string, State> states_;
  std::uint64_t last_version_ = 0;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
  std::uint64_t bytes_stored_ = 0;
};

void random_operations_match_a_map(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  Workload workload{context,
                    *session,
                    {.keys = 60,
                     .value_bytes_max = 20'000,
                     .rounds = 400,
                     .must_hit = context.subject().keeps_while_room}};
  if (!workload.run()) return;
  context.expect(workload.hits() > 1000 && workload.misses() > 50,
                 "the workload had too few hits or misses to tell anything");
}

void a_full_connector_never_returns_wrong_bytes(Context& context) {
  const auto session = Session::open(context, context.subject().open_small);
  if (!session) return;
  const std::uint64_t capacity = session->connector().report().capacity_bytes;
  if (!context.expect(capacity != 0, "a subject that can be full tells no capacity")) return;
  // Two times what fits, so that about half of the keys are gone at any time.
  constexpr std::uint64_t kKeys = 400;
  Workload workload{context,
                    *session,
                    {.keys = kKeys,
                     .value_bytes_max = static_cast<std::size_t>(capacity * 4 / kKeys),
                     .rounds = 250}};
  if (!workload.run()) return;
  context.expect(workload.hits() > 300 && workload.misses() > 100,
                 "the workload had too few hits or misses to tell anything");
  context.expect(workload.bytes_stored() > capacity, "it never was full");
}

constexpr std::array kCases{
    Case{"random_operations_match_a_map", "P1", random_operations_match_a_map},
    Case{"a_full_connector_never_returns_wrong_bytes", "P1",
         a_full_connector_never_returns_wrong_bytes,
         [](const Subject& subject) { return subject.open_small != nullptr; }},
};

}  // namespace

std::span<const Case> model_cases() {
  return kCases;
}

}  // namespace larder::conformance
