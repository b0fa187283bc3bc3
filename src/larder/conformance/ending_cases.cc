#include <array>

#include "larder/base/clock.h"
#include "larder/base/random.h"
#include "larder/conformance/cases.h"
#include "larder/conformance/session.h"

namespace larder::conformance {
namespace {

constexpr std::array kAllOps{Op::kSet, Op::kGet, Op::kExists, Op::kTouch, Op::kDelete};

std::uint64_t now_ns() {
  return RealClock::instance().now_ns();
}

Request& make_request(Session& session, Op op, const std::string& key, const Bytes& value) {
  Request& request = session.make(op);
  if (op == Op::kSet) {
    request.add_set(key, value);
  } else if (op == Op::kGet) {
    request.add_get(key, value.size());
  } else {
    request.add(key);
  }
  return request;
}

void a_deadline_that_is_past_fails_every_item(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes value = random_bytes(context.seed(), 9000);
  for (const Op op : kAllOps) {
    session->set("key", value);
    Request& request = make_request(*session, op, "key", value);
    request.batch().deadline_ns = now_ns() - 1;
    session->run(request);
    const Item& item = request.item(0);
    context.expect(
        item.outcome == Outcome::kFailed && item.error.code() == ErrorCode::kDeadlineExceeded,
        "operation " + std::to_string(static_cast<int>(op)) +
            " past its deadline is not kDeadlineExceeded");
  }
}

void a_get_past_its_deadline_leaves_a_miss(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes value = random_bytes(context.seed(), 9000);
  session->set("key", value);
  Request& request = make_request(*session, Op::kGet, "key", value);
  request.batch().deadline_ns = 1;
  session->run(request);
  context.expect(request.item(0).outcome == Outcome::kFailed, "it did not fail");
  session->expect_miss("key");
  session->set("key", value, SetMode::kIfAbsent);
  session->expect_hit("key", value);
}

void a_set_past_its_deadline_is_there_or_not(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes value = random_bytes(context.seed(), 9000);
  Request& store = make_request(*session, Op::kSet, "key", value);
  store.batch().deadline_ns = 1;
  session->run(store);
  Request& load = make_request(*session, Op::kGet, "key", value);
  session->run(load);
  context.expect(load.is_hit_of(0, value) || load.item(0).outcome == Outcome::kMiss,
                 "a Set that failed left neither the value nor a miss (C4)");
}

void deadlines_in_the_near_future_end_every_batch(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes value = random_bytes(context.seed(), 200'000);
  Random random{context.seed()};
  std::vector<Request*> requests;
  for (std::uint64_t i = 0; i < 150; ++i) {
    const Op op = i % 2 == 0 ? Op::kSet : Op::kGet;
    Request& request = make_request(*session, op, numbered_key(i / 2), value);
    request.batch().deadline_ns = now_ns() + random.below(2'000'000);
    session->must_submit(request);
    requests.push_back(&request);
  }
  session->wait_all();
  for (const Request* request : requests) {
    const Item& item = request->item(0);
    context.expect(
        item.outcome != Outcome::kFailed || item.error.code() == ErrorCode::kDeadlineExceeded,
        "an item failed for another reason than its deadline");
    context.expect(item.outcome != Outcome::kHit || request->is_hit_of(0, value),
                   "a hit has wrong bytes (P1)");
  }
}

/// Every item ended by itself or as kCancelled, and what is stored is whole.
void check_ended(Context& context, const std::vector<Request*>& requests, const Bytes& value) {
  for (const Request* request : requests) {
    const Item& item = request->item(0);
    context.expect(item.outcome != Outcome::kFailed || item.error.code() == ErrorCode::kCancelled,
                   "an item failed with another error than kCancelled: " + item.error.to_string());
    if (item.outcome == Outcome::kHit && item.value_bytes != 0 && !request->value(0, 1).empty()) {
      context.expect(request->is_hit_of(0, value), "a hit has wrong bytes (P1)");
    }
  }
}

void cancelled_batches_come_back_once(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes value = random_bytes(context.seed(), 100'000);
  std::vector<Request*> requests;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const Op op = kAllOps.at(i % kAllOps.size());
    Request& request = make_request(*session, op, numbered_key(i / 10), value);
    session->must_submit(request);
    requests.push_back(&request);
    // Just accepted; every third batch is cancelled twice.
    if (i % 3 == 0) session->connector().cancel(request.batch());
  }
  // Under way, or finished and not reaped.
  for (Request* request : requests) session->connector().cancel(request->batch());
  session->wait_all();
  check_ended(context, requests, value);
  for (std::uint64_t i = 0; i < 20; ++i) {
    session->set(numbered_key(i), value);
    session->expect_hit(numbered_key(i), value);
  }
}

void stop_gives_back_what_is_in_flight(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  const Bytes value = random_bytes(context.seed(), 200'000);
  std::vector<Request*> requests;
  for (std::uint64_t i = 0; i < 200; ++i) {
    Request& request =
        make_request(*session, kAllOps.at(i % kAllOps.size()), numbered_key(i / 10), value);
    session->must_submit(request);
    requests.push_back(&request);
  }
  const Status stopped = session->connector().stop(now_ns() + context.subject().patience_ns);
  context.expect(stopped.has_value(), "stop() did not end in time (C8)");
  session->wait_all();
  check_ended(context, requests, value);
}

void after_stop_everything_is_refused(Context& context) {
  const auto session = Session::open(context, context.subject().open);
  if (!session) return;
  session->set("key", Bytes(100));
  for (int round = 0; round < 2; ++round) {
    const Status stopped = session->connector().stop(now_ns() + context.subject().patience_ns);
    context.expect(stopped.has_value(), "stop() number " + std::to_string(round + 1) + " failed");
    for (const Op op : kAllOps) {
      const Status status = session->submit(make_request(*session, op, "key", Bytes(100)));
      context.expect(!status && (status.error().code() == ErrorCode::kCancelled ||
                                 status.error().code() == ErrorCode::kUnavailable),
                     "after stop() a batch is not refused as kCancelled or kUnavailable");
    }
    context.expect(session->reap() == 0, "a refused batch came back (C1)");
  }
}

constexpr std::array kCases{
    Case{"a_deadline_that_is_past_fails_every_item", "C8",
         a_deadline_that_is_past_fails_every_item},
    Case{"a_get_past_its_deadline_leaves_a_miss", "C6", a_get_past_its_deadline_leaves_a_miss},
    Case{"a_set_past_its_deadline_is_there_or_not", "C4", a_set_past_its_deadline_is_there_or_not},
    Case{"deadlines_in_the_near_future_end_every_batch", "C8",
         deadlines_in_the_near_future_end_every_batch},
    Case{"cancelled_batches_come_back_once", "C8", cancelled_batches_come_back_once},
    Case{"stop_gives_back_what_is_in_flight", "C1", stop_gives_back_what_is_in_flight},
    Case{"after_stop_everything_is_refused", "C8", after_stop_everything_is_refused},
};

}  // namespace

std::span<const Case> ending_cases() {
  return kCases;
}

}  // namespace larder::conformance
