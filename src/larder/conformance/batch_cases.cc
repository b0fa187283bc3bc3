#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "larder/base/clock.h"
#include "larder/conformance/cases.h"
#include "larder/conformance/session.h"

namespace larder::conformance {
namespace {

void a_batch_without_items_or_with_too_many_is_refused(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  for (const Op op : {Op::kSet, Op::kGet, Op::kExists, Op::kTouch, Op::kDelete}) {
    const Status status = session->submit(session->make(op));
    context.expect(!status && status.error().code() == ErrorCode::kInvalidArgument,
                   "a batch without items is not kInvalidArgument");
  }
  const std::string key = "key";
  std::vector<Item> items(kItemsMax + 1);
  for (Item& item : items) item.key = std::as_bytes(std::span{key});
  Batch batch;
  batch.items = items;
  batch.op = Op::kExists;
  const Status status = session->connector().submit(batch);
  context.expect(!status && status.error().code() == ErrorCode::kInvalidArgument,
                 "a batch of more than 2^20 items is not kInvalidArgument");
  context.expect(items.front().outcome == Outcome::kPending, "a refused batch was changed (C1)");
  context.expect(session->reap() == 0, "a refused batch came back (C1)");
}

void a_lookup_of_100000_keys_is_served(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  Request& store = session->make(Op::kSet);
  for (std::size_t i = 0; i < 100'000; i += 1000) store.add_set(numbered_key(i), Bytes(i / 1000));
  Request& lookup = session->make(Op::kExists);
  for (std::size_t i = 0; i < 100'000; ++i) lookup.add(numbered_key(i));
  session->run(store);
  session->run(lookup);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < lookup.size(); ++i) {
    const Item& item = lookup.item(i);
    const bool is_right = i % 1000 == 0
                              ? item.outcome == Outcome::kHit && item.value_bytes == i / 1000
                              : item.outcome == Outcome::kMiss;
    if (!is_right) ++wrong;
  }
  context.expect(wrong == 0, std::to_string(wrong) + " of 100,000 answers are wrong");
}

void a_batch_larger_than_the_limit_is_worked_off(Context& context) {
  const auto session = Session::open(context, context.subject().open_limited);
  if (!session) return;
  const std::size_t count = 3 * kLimitedBytes / 100'000;
  Request& store = session->make(Op::kSet);
  Request& load = session->make(Op::kGet);
  for (std::size_t i = 0; i < count; ++i) {
    store.add_set(numbered_key(i), random_bytes(i, 100'000));
    load.add_get(numbered_key(i), 100'000);
  }
  session->run(store);
  session->run(load);
  for (std::size_t i = 0; i < count; ++i) {
    context.expect(load.is_hit_of(i, random_bytes(i, 100'000)), "a value is not a hit");
  }
}

bool has_limits(const Subject& subject) {
  return subject.open_limited != nullptr;
}

/// Submits stores of `value`, without reaping, until one is refused.
bool fill_with_stores(Context& context, Session& session, Bytes& value) {
  // Far beyond the limit: a fast connector may finish some of them meanwhile.
  constexpr std::uint64_t kTries = 5000;
  for (std::uint64_t i = 0; i < kTries; ++i) {
    Request& store = session.make(Op::kSet);
    store.add_slices(numbered_key(i % 16), {Slice{value.data(), value.size()}});
    store.batch().set_mode = SetMode::kReplace;
    const Status status = session.submit(store);
    if (status) continue;
    return context.expect(status.error().code() == ErrorCode::kResourceExhausted,
                          "beyond the limit it is not kResourceExhausted");
  }
  return context.expect(false, "5000 stores that nobody reaped were all accepted (C5)");
}

void beyond_the_limit_stores_are_refused_and_loads_are_not(Context& context) {
  // Small values meet the limit of batches, large ones the limit of bytes.
  for (const std::size_t value_bytes : {std::size_t{10}, std::size_t{kLimitedBytes / 3 * 2}}) {
    Bytes value = random_bytes(context.seed(), value_bytes);
    const auto session = Session::open(context, context.subject().open_limited);
    if (!session || !fill_with_stores(context, *session, value)) return;
    Request& load = session->make(Op::kGet).add_get(numbered_key(0), value_bytes);
    Request& lookup = session->make(Op::kExists).add(numbered_key(0));
    session->must_submit(load);
    session->must_submit(lookup);
    session->wait_all();
    session->set("after", Bytes(10));
    session->expect_hit("after", Bytes(10));
  }
}

void eight_threads_submit_while_another_reaps(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  constexpr std::size_t kThreads = 8;
  constexpr std::size_t kRounds = 50;
  const auto value_of = [](std::size_t n) { return random_bytes(n, 100 + n % 3000); };
  const auto run_all = [&](Op op) {
    std::vector<Request*> requests;
    for (std::size_t n = 0; n < kThreads * kRounds; ++n) {
      Request& request = session->make(op);
      if (op == Op::kSet) {
        request.add_set(numbered_key(n), value_of(n));
      } else {
        request.add_get(numbered_key(n), value_of(n).size());
      }
      requests.push_back(&request);
    }
    std::atomic<std::size_t> running = kThreads;
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = 0; i < kRounds; ++i) session->must_submit(*requests[t * kRounds + i]);
        running.fetch_sub(1);
      });
    }
    while (running.load() != 0) session->reap();
    session->wait_all();
    return requests;
  };

  for (const Request* store : run_all(Op::kSet)) {
    context.expect(store->item(0).outcome == Outcome::kDone, "a Set is not done");
  }
  const std::vector<Request*> loads = run_all(Op::kGet);
  for (std::size_t n = 0; n < loads.size(); ++n) {
    context.expect(loads[n]->is_hit_of(0, value_of(n)), "a value is not a hit");
  }
}

bool is_readable(int fd, int timeout_ms) {
  pollfd waited{fd, POLLIN, 0};
  return ::poll(&waited, 1, timeout_ms) == 1 && (waited.revents & POLLIN) != 0;
}

void the_event_fd_is_readable_while_something_is_there(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const int fd = session->connector().event_fd();
  const int patience_ms = static_cast<int>(context.subject().patience_ns / 1'000'000);
  for (std::size_t round = 0; round < 20; ++round) {
    constexpr std::size_t kBatches = 5;
    for (std::size_t i = 0; i < kBatches; ++i) {
      session->must_submit(session->make(Op::kExists).add(numbered_key(i)));
    }
    // One at a time, so that the rest must keep it readable.
    for (std::size_t back = 0; back < kBatches;) {
      if (!context.expect(is_readable(fd, patience_ms),
                          "it is unreadable with batches on the way")) {
        return;
      }
      back += session->reap(1);
    }
  }
  while (session->reap() != 0) {
  }
  context.expect(!is_readable(fd, 0) || session->reap() == 0,
                 "it is readable, reap() had nothing, and then had something");
}

constexpr std::array kCases{
    Case{"a_batch_without_items_or_with_too_many_is_refused", "C1",
         a_batch_without_items_or_with_too_many_is_refused},
    Case{"a_lookup_of_100000_keys_is_served", "P2", a_lookup_of_100000_keys_is_served},
    Case{"a_batch_larger_than_the_limit_is_worked_off", "C5",
         a_batch_larger_than_the_limit_is_worked_off, has_limits},
    Case{"beyond_the_limit_stores_are_refused_and_loads_are_not", "C5",
         beyond_the_limit_stores_are_refused_and_loads_are_not, has_limits},
    Case{"eight_threads_submit_while_another_reaps", "C5",
         eight_threads_submit_while_another_reaps},
    Case{"the_event_fd_is_readable_while_something_is_there", "C7",
         the_event_fd_is_readable_while_something_is_there},
};

}  // namespace

std::span<const Case> batch_cases() {
  return kCases;
}

}  // namespace larder::conformance
