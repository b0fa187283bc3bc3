// larder_shared_writer SPEC WRITER THREADS KEYS SECONDS
// Stores, loads and removes keys of a connector that others use at the same time. Prints what it
// saw and exits 0 when every store succeeded and every load was one writer's whole value.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "larder/base/clock.h"
#include "larder/connectors/builtin.h"
#include "tests/shared_directory/written_value.h"

namespace larder::shared_directory {
namespace {

struct Totals {
  std::atomic<std::uint64_t> stores = 0;
  std::atomic<std::uint64_t> loads = 0;
  std::atomic<std::uint64_t> hits = 0;
  std::atomic<std::uint64_t> hits_of_others = 0;
  std::atomic<std::uint64_t> wrong = 0;
  std::atomic<std::uint64_t> failures = 0;
};

/// A batch of one key; whoever reaps it sets `is_back`.
struct One {
  std::string key;
  Bytes value;
  Slice slice;
  Item item;
  Batch batch;
  std::atomic<bool> is_back = false;

  void prepare(Op op, std::uint64_t number, Bytes content) {
    key = key_of(number);
    value = std::move(content);
    slice = {value.data(), value.size()};
    item = {};
    item.key = std::as_bytes(std::span{key});
    if (op == Op::kSet || op == Op::kGet) item.value = {&slice, 1};
    batch.items = {&item, 1};
    batch.op = op;
    batch.user_data = this;
    is_back = false;
  }
};

class Writer {
 public:
  Writer(Connector& connector, std::uint64_t writer, std::uint64_t keys)
      : connector_(connector), writer_(writer), keys_(keys) {}

  /// In a thread of its own, until `until_ns`.
  void work(std::uint64_t thread, std::uint64_t until_ns) {
    Random random{writer_ * 1000 + thread};
    One one;
    for (std::uint64_t number = 1; RealClock::instance().now_ns() < until_ns; ++number) {
      const std::uint64_t key = random.below(keys_);
      const std::uint64_t choice = random.below(20);
      if (choice == 0) {
        one.prepare(Op::kDelete, key, {});
        run(one);
        if (one.item.outcome == Outcome::kFailed) complain("remove", one);
      } else if (choice <= 10) {
        one.prepare(Op::kSet, key, value_of(key, {writer_, thread * 1'000'000'000 + number}));
        one.batch.set_mode = random.one_in(2) ? SetMode::kReplace : SetMode::kIfAbsent;
        run(one);
        ++totals_.stores;
        if (one.item.outcome != Outcome::kDone) complain("store", one);
      } else {
        one.prepare(Op::kGet, key, Bytes(size_of(key)));
        run(one);
        check_load(key, one);
      }
    }
  }

  void reap(const std::atomic<bool>& is_ending) {
    while (!is_ending) {
      Batch* done = nullptr;
      while (connector_.reap({&done, 1}) == 1) {
        One& one = *static_cast<One*>(done->user_data);
        one.is_back = true;
        one.is_back.notify_one();
      }
      std::this_thread::yield();
    }
  }

  bool is_right() const { return totals_.wrong == 0 && totals_.failures == 0; }
  void print() const {
    std::printf(
        "writer %llu: %llu stores, %llu loads, %llu hits, %llu of others, %llu wrong, "
        "%llu failed\n",
        static_cast<unsigned long long>(writer_),
        static_cast<unsigned long long>(totals_.stores.load()),
        static_cast<unsigned long long>(totals_.loads.load()),
        static_cast<unsigned long long>(totals_.hits.load()),
        static_cast<unsigned long long>(totals_.hits_of_others.load()),
        static_cast<unsigned long long>(totals_.wrong.load()),
        static_cast<unsigned long long>(totals_.failures.load()));
  }

 private:
  void run(One& one) {
    if (!connector_.submit(one.batch)) {
      one.item.outcome = Outcome::kFailed;
      return;
    }
    one.is_back.wait(false);
  }

  void check_load(std::uint64_t key, const One& one) {
    ++totals_.loads;
    if (one.item.outcome == Outcome::kMiss) return;
    if (one.item.outcome != Outcome::kHit) return complain("load", one);
    ++totals_.hits;
    const auto author = author_of(key, one.value);
    if (!author) {
      ++totals_.wrong;
      std::printf("%s is not one writer's value\n", one.key.c_str());
    } else if (author->writer != writer_) {
      ++totals_.hits_of_others;
    }
  }

  void complain(const char* what, const One& one) {
    ++totals_.failures;
    std::printf("%s of %s failed: %s\n", what, one.key.c_str(), one.item.error.to_string().c_str());
  }

  Connector& connector_;
  const std::uint64_t writer_;
  const std::uint64_t keys_;
  Totals totals_;
};

int run(char** arguments) {
  const auto number = [&](int i) { return std::strtoull(arguments[i], nullptr, 10); };
  auto opened = builtin_registry().open(arguments[1]);
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().text.c_str());
    return 2;
  }
  Writer writer{**opened, number(2), number(4)};
  const std::uint64_t until_ns = RealClock::instance().now_ns() + number(5) * 1'000'000'000;
  std::atomic<bool> is_ending = false;
  std::thread reaper{[&] { writer.reap(is_ending); }};
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < number(3); ++i) {
    threads.emplace_back([&, i] { writer.work(i, until_ns); });
  }
  for (std::thread& thread : threads) thread.join();
  is_ending = true;
  reaper.join();
  const bool is_stopped = (*opened)->stop(kNever).has_value();
  writer.print();
  return is_stopped && writer.is_right() ? 0 : 1;
}

}  // namespace
}  // namespace larder::shared_directory

int main(int count, char** arguments) {
  if (count != 6) {
    std::fprintf(stderr, "usage: larder_shared_writer SPEC WRITER THREADS KEYS SECONDS\n");
    return 2;
  }
  return larder::shared_directory::run(arguments);
}
