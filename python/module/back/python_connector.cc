#include "module/back/python_connector.h"

#include <atomic>

#include "larder/connector/keys_in_use.h"
#include "larder/connector/slices.h"
#include "larder/connector/worker_pool.h"
#include "module/back/python_object.h"

namespace larder::python {
namespace {

/// A worker's state: a Python thread, and the memory of its last value.
struct Worker {
  /// Memory for a value of these slices. It may hold another value's bytes.
  Result<ValueMemory> memory_for(std::span<const Slice> slices);
  Result<ValueMemory> gathered(std::span<const Slice> slices);

  PythonThread thread;
  std::shared_ptr<AlignedBuffer> spare;
};

Result<ValueMemory> Worker::memory_for(std::span<const Slice> slices) {
  constexpr std::size_t kAlignment = 64;
  constexpr std::uint64_t kSpareBytesMax = 32U << 20;
  const std::uint64_t bytes = bytes_of(slices);
  // Another owner is a view that the object kept: its memory stays unchanged.
  if (spare != nullptr && spare.use_count() == 1 && spare->size() >= bytes) {
    std::atomic_thread_fence(
        std::memory_order_acquire);  // Pairs with a view's end in another thread.
    return ValueMemory{spare, bytes};
  }
  spare.reset();
  LARDER_ASSIGN(AlignedBuffer buffer, AlignedBuffer::create(bytes, kAlignment));
  auto owner = std::make_shared<AlignedBuffer>(std::move(buffer));
  if (bytes <= kSpareBytesMax) spare = owner;
  return ValueMemory{std::move(owner), bytes};
}

Result<ValueMemory> Worker::gathered(std::span<const Slice> slices) {
  LARDER_ASSIGN(ValueMemory memory, memory_for(slices));
  copy_from_slices({memory.data(), bytes_of(slices)}, slices);
  return memory;
}

/// The object as a WorkerPool's backend. A connection is a worker; the pool drops it after a lost
/// peer or a time-out, and with it the contents of `threading.local`.
class PythonBackend {
 public:
  using Connection = Worker;

  PythonBackend(std::unique_ptr<PythonObject> object) : state_(std::make_unique<State>()) {
    state_->object = std::move(object);
  }

  PythonObject& object() noexcept { return *state_->object; }
  std::uint64_t bytes_staged_total() const noexcept { return state_->bytes_staged_total.load(); }

  Result<Connection> connect() { return Connection{}; }

  Status get(Connection& worker, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, state_->keys.use(item.key, false, options.deadline_ns));
    LARDER_ASSIGN(const ValueMemory value, worker.memory_for(item.value));
    LARDER_ASSIGN(const auto found, object().load(worker.thread, item.key, value));
    item.outcome = found ? Outcome::kHit : Outcome::kMiss;
    if (!found) return {};
    item.value_bytes = *found;
    const std::uint64_t room = value.bytes;
    if (*found > room || (*found < room && !options.allow_shorter)) {
      return Error{ErrorCode::kSizeMismatch, "python", "the value and the buffer differ in size"};
    }
    copy_to_slices({value.data(), *found}, item.value);
    count_staged(*found);
    return {};
  }

  Status set(Connection& worker, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, state_->keys.use(item.key, true, options.deadline_ns));
    item.outcome = Outcome::kDone;
    if (options.set_mode == SetMode::kIfAbsent) {
      LARDER_ASSIGN(const auto found, object().size(worker.thread, item.key));
      item.existed = found.has_value();
      if (item.existed) return {};
    }
    LARDER_ASSIGN(const ValueMemory value, worker.gathered(item.value));
    count_staged(value.bytes);
    return object().store(worker.thread, item.key, value);
  }

  Status exists(Connection& worker, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, state_->keys.use(item.key, false, options.deadline_ns));
    LARDER_ASSIGN(const auto found, object().size(worker.thread, item.key));
    item.outcome = found ? Outcome::kHit : Outcome::kMiss;
    item.value_bytes = found.value_or(0);
    return {};
  }

  Status remove(Connection& worker, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, state_->keys.use(item.key, true, options.deadline_ns));
    LARDER_ASSIGN(const bool was_there, object().remove(worker.thread, item.key));
    item.outcome = was_there ? Outcome::kDone : Outcome::kMiss;
    return {};
  }

  Status touch(Connection& worker, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, state_->keys.use(item.key, false, options.deadline_ns));
    LARDER_ASSIGN(const bool is_there, object().touch(worker.thread, item.key));
    item.outcome = is_there ? Outcome::kDone : Outcome::kMiss;
    return {};
  }

 private:
  struct State {
    std::unique_ptr<PythonObject> object;
    KeysInUse keys{"python"};
    std::atomic<std::uint64_t> bytes_staged_total = 0;
  };

  void count_staged(std::uint64_t bytes) noexcept {
    state_->bytes_staged_total.fetch_add(bytes, std::memory_order_relaxed);
  }

  std::unique_ptr<State> state_;
};

class PythonConnector final : public PooledConnector<PythonBackend> {
 public:
  PythonConnector(std::unique_ptr<WorkerPool<PythonBackend>> pool, const ObjectTraits& traits,
                  std::string type, std::string where)
      : PooledConnector(std::move(pool)),
        traits_(traits),
        type_(std::move(type)),
        where_(std::move(where)),
        has_scan_(object().has_scan()) {}

  Capabilities capabilities() const noexcept override {
    Capabilities capabilities;
    capabilities.value_bytes_max = traits_.value_bytes_max;
    capabilities.locality = traits_.locality;
    capabilities.has_scan = has_scan_;
    capabilities.survives_restart = traits_.survives_restart;
    return capabilities;
  }

  Report report() const override {
    Report report;
    report.type = type_;
    report.where = where_;
    report.locality = traits_.locality;
    report.capacity_bytes = traits_.capacity_bytes;
    object().append_report(report);
    report.counters.push_back({"bytes_staged_total", pool().backend().bytes_staged_total()});
    pool().append_report(report);
    return report;
  }

  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override {
    return object().scan(from, keys_max);
  }

  Status stop(std::uint64_t deadline_ns) noexcept override {
    LARDER_TRY(PooledConnector::stop(deadline_ns));
    if (object().close(deadline_ns)) return {};
    return Error{ErrorCode::kUnavailable, "python", "the object's close() has not returned"};
  }

 private:
  PythonObject& object() const noexcept { return pool().backend().object(); }

  const ObjectTraits traits_;
  const std::string type_;
  const std::string where_;
  const bool has_scan_;
};

}  // namespace

SetupResult<std::unique_ptr<Connector>> make_python_connector(PyObject* object, std::string type,
                                                              std::string where) {
  LARDER_ASSIGN(const ObjectTraits traits, traits_of(object));
  WorkerPoolOptions options;
  options.scheduler.name = "python";
  options.scheduler.workers.fill(traits.num_workers);
  options.scheduler.intake.limits = traits.limits;
  options.scheduler.intake.value_bytes_max = traits.value_bytes_max;
  LARDER_ASSIGN(auto adopted, adopt(object));
  auto pool = WorkerPool<PythonBackend>::create(PythonBackend{std::move(adopted)}, options);
  if (!pool) return pool.error();
  return std::make_unique<PythonConnector>(std::move(*pool), traits, std::move(type),
                                           std::move(where));
}

}  // namespace larder::python
