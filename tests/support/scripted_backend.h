#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/connector/worker_pool.h"

namespace larder::testing_support {

inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Holds up the threads that wait at it until it is opened, and tells how many wait.
class Gate {
 public:
  void wait() LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    ++arrived_;
    changed_.notify_all();
    while (!is_open_) changed_.wait(mutex_);
  }
  void open() LARDER_EXCLUDES(mutex_) {
    const MutexLock lock{mutex_};
    is_open_ = true;
    changed_.notify_all();
  }
  /// False after 20 s.
  bool wait_for_arrivals(int count) LARDER_EXCLUDES(mutex_) {
    const std::uint64_t deadline_ns = RealClock::instance().now_ns() + 20'000'000'000;
    const MutexLock lock{mutex_};
    while (arrived_ < count) {
      const std::uint64_t now_ns = RealClock::instance().now_ns();
      if (now_ns >= deadline_ns) return false;
      changed_.wait_for(mutex_, deadline_ns - now_ns);
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int arrived_ LARDER_GUARDED_BY(mutex_) = 0;
  bool is_open_ LARDER_GUARDED_BY(mutex_) = false;
};

/// What a ScriptedBackend does; set the hooks before the pool is made. Any thread.
struct Script {
  struct Call {
    int connection = 0;
    Op op = Op::kGet;
    std::string key;
    SetMode set_mode = SetMode::kIfAbsent;
  };
  /// Before each call; may block, throw, or return the call's error.
  std::function<Status(Op, const std::string&)> on_call = [](Op, const std::string&) {
    return Status{};
  };
  /// For the nth connection (from 1); may block, throw, or return an error.
  std::function<Status(int)> on_connect = [](int) { return Status{}; };

  std::vector<Call> calls() const LARDER_EXCLUDES(mutex) {
    const MutexLock lock{mutex};
    return log;
  }

  std::atomic<int> connects = 0;
  std::atomic<int> connections_alive = 0;
  std::atomic<int> foreign_thread_uses = 0;  ///< Of a connection by another than its maker.
  mutable Mutex mutex;
  std::map<std::string, std::string> values LARDER_GUARDED_BY(mutex);
  std::vector<Call> log LARDER_GUARDED_BY(mutex);
};

/// A map of values behind blocking calls that a test scripts.
class ScriptedBackend {
 public:
  class Connection {
   public:
    Connection(Script& script, int number) : script_(&script), number_(number) {
      ++script.connections_alive;
    }
    Connection(Connection&& other) noexcept
        : script_(std::exchange(other.script_, nullptr)),
          number_(other.number_),
          maker_(other.maker_) {}
    Connection& operator=(Connection&&) = default;
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() {
      if (script_ == nullptr) return;
      check_thread();
      --script_->connections_alive;
    }
    void check_thread() const {
      if (std::this_thread::get_id() != maker_) ++script_->foreign_thread_uses;
    }
    int number() const { return number_; }

   private:
    Script* script_;
    int number_;
    std::thread::id maker_ = std::this_thread::get_id();
  };

  explicit ScriptedBackend(std::shared_ptr<Script> script) : script_(std::move(script)) {}

  Result<Connection> connect() {
    const int number = ++script_->connects;
    LARDER_TRY(script_->on_connect(number));
    return Connection{*script_, number};
  }
  Status get(Connection& connection, Item& item, const CallOptions& options) {
    LARDER_TRY(begin(connection, Op::kGet, item, options));
    const MutexLock lock{script_->mutex};
    const auto found = script_->values.find(text_of(item.key));
    item.outcome = found == script_->values.end() ? Outcome::kMiss : Outcome::kHit;
    if (item.outcome == Outcome::kMiss) return {};
    item.value_bytes = found->second.size();
    const std::uint64_t room = bytes_of(item.value);
    if (room < item.value_bytes || (room > item.value_bytes && !options.allow_shorter)) {
      return Error{ErrorCode::kSizeMismatch, "script", "other size"};
    }
    std::size_t from = 0;
    for (const Slice& slice : item.value) {
      from += found->second.copy(reinterpret_cast<char*>(slice.data), slice.bytes, from);
    }
    return {};
  }
  Status set(Connection& connection, Item& item, const CallOptions& options) {
    LARDER_TRY(begin(connection, Op::kSet, item, options));
    const MutexLock lock{script_->mutex};
    item.outcome = Outcome::kDone;
    item.existed =
        options.set_mode == SetMode::kIfAbsent && script_->values.contains(text_of(item.key));
    if (item.existed) return {};
    std::string value;
    for (const Slice& slice : item.value) value += text_of({slice.data, slice.bytes});
    script_->values[text_of(item.key)] = std::move(value);
    return {};
  }
  Status exists(Connection& connection, Item& item, const CallOptions& options) {
    LARDER_TRY(begin(connection, Op::kExists, item, options));
    const MutexLock lock{script_->mutex};
    const auto found = script_->values.find(text_of(item.key));
    item.outcome = found == script_->values.end() ? Outcome::kMiss : Outcome::kHit;
    if (item.outcome == Outcome::kHit) item.value_bytes = found->second.size();
    return {};
  }
  Status remove(Connection& connection, Item& item, const CallOptions& options) {
    LARDER_TRY(begin(connection, Op::kDelete, item, options));
    const MutexLock lock{script_->mutex};
    item.outcome = script_->values.erase(text_of(item.key)) > 0 ? Outcome::kDone : Outcome::kMiss;
    return {};
  }
  Status touch(Connection& connection, Item& item, const CallOptions& options) {
    LARDER_TRY(begin(connection, Op::kTouch, item, options));
    const MutexLock lock{script_->mutex};
    item.outcome = script_->values.contains(text_of(item.key)) ? Outcome::kDone : Outcome::kMiss;
    return {};
  }

 private:
  Status begin(Connection& connection, Op op, const Item& item, const CallOptions& options) {
    connection.check_thread();
    {
      const MutexLock lock{script_->mutex};
      script_->log.push_back({connection.number(), op, text_of(item.key), options.set_mode});
    }
    return script_->on_call(op, text_of(item.key));
  }

  std::shared_ptr<Script> script_;
};

/// A batch with its memory: keys as texts, each value in two slices.
class TestBatch {
 public:
  TestBatch(Op op, std::vector<std::string> keys, std::size_t value_bytes = 4)
      : keys_(std::move(keys)),
        items_(keys_.size()),
        memory_(keys_.size(), std::string(value_bytes, '.')),
        slices_(keys_.size()) {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      items_[i].key = std::as_bytes(std::span{keys_[i]});
      if (op != Op::kGet && op != Op::kSet) continue;
      auto* const data = reinterpret_cast<std::byte*>(memory_[i].data());
      slices_[i] = {Slice{data, value_bytes / 2},
                    Slice{data + value_bytes / 2, value_bytes - value_bytes / 2}};
      items_[i].value = slices_[i];
    }
    batch.items = items_;
    batch.op = op;
  }
  ~TestBatch() = default;
  TestBatch(const TestBatch&) = delete;
  TestBatch& operator=(const TestBatch&) = delete;

  Item& item(std::size_t i) { return items_[i]; }
  Outcome outcome(std::size_t i = 0) const { return items_[i].outcome; }
  ErrorCode code(std::size_t i = 0) const { return items_[i].error.code(); }
  std::string& value(std::size_t i = 0) { return memory_[i]; }

  Batch batch;

 private:
  std::vector<std::string> keys_;
  std::vector<Item> items_;
  std::vector<std::string> memory_;
  std::vector<std::array<Slice, 2>> slices_;
};

}  // namespace larder::testing_support
