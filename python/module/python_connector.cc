#include "module/python_connector.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "larder/connector/worker_pool.h"
#include "module/keys_in_use.h"
#include "module/python_object.h"

namespace larder::python {
namespace {

/// A value's slices as one piece of memory: theirs, or a copy's.
class Contiguous {
 public:
  explicit Contiguous(std::span<const Slice> slices) {
    if (slices.size() == 1) {
      slice_ = slices.front();
      return;
    }
    const std::uint64_t bytes = bytes_of(slices);
    copy_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
    slice_ = {copy_.get(), bytes};
  }

  const Slice& slice() const noexcept { return slice_; }
  std::uint64_t bytes_copied() const noexcept { return copy_ == nullptr ? 0 : slice_.bytes; }

  void gather(std::span<const Slice> slices) noexcept {
    if (copy_ == nullptr) return;
    std::byte* to = copy_.get();
    for (const Slice& slice : slices) {
      if (slice.bytes > 0) std::memcpy(to, slice.data, slice.bytes);
      to += slice.bytes;
    }
  }

  void scatter(std::span<const Slice> slices, std::uint64_t bytes) const noexcept {
    if (copy_ == nullptr) return;
    const std::byte* from = copy_.get();
    for (const Slice& slice : slices) {
      const std::size_t part = std::min<std::uint64_t>(slice.bytes, bytes);
      if (part > 0) std::memcpy(slice.data, from, part);
      from += part;
      bytes -= part;
    }
  }

 private:
  Slice slice_;
  std::unique_ptr<std::byte[]> copy_;
};

/// The object as a WorkerPool's backend. A connection is what makes a worker a Python thread; the
/// pool drops it after a lost peer or a time-out, and with it what is in `threading.local`.
class PythonBackend {
 public:
  using Connection = PythonThread;

  PythonBackend(std::unique_ptr<PythonObject> object) : state_(std::make_unique<State>()) {
    state_->object = std::move(object);
  }

  PythonObject& object() noexcept { return *state_->object; }
  std::uint64_t bytes_staged_total() const noexcept { return state_->bytes_staged_total.load(); }

  Result<Connection> connect() { return Connection{}; }

  Status get(const Connection& thread, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, state_->keys.use(item.key, false, options.deadline_ns));
    const Contiguous value = stage(item);
    LARDER_ASSIGN(const auto found, object().load(thread, item.key, value.slice()));
    item.outcome = found ? Outcome::kHit : Outcome::kMiss;
    if (!found) return {};
    item.value_bytes = *found;
    const std::uint64_t room = value.slice().bytes;
    if (*found > room || (*found < room && !options.allow_shorter)) {
      return Error{ErrorCode::kSizeMismatch, "python", "the value and the buffer differ in size"};
    }
    value.scatter(item.value, *found);
    return {};
  }

  Status set(const Connection& thread, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, state_->keys.use(item.key, true, options.deadline_ns));
    item.outcome = Outcome::kDone;
    if (options.set_mode == SetMode::kIfAbsent) {
      LARDER_ASSIGN(const auto found, object().size(thread, item.key));
      item.existed = found.has_value();
      if (item.existed) return {};
    }
    Contiguous value = stage(item);
    value.gather(item.value);
    return object().store(thread, item.key, value.slice());
  }

  Status exists(const Connection& thread, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, state_->keys.use(item.key, false, options.deadline_ns));
    LARDER_ASSIGN(const auto found, object().size(thread, item.key));
    item.outcome = found ? Outcome::kHit : Outcome::kMiss;
    item.value_bytes = found.value_or(0);
    return {};
  }

  Status remove(const Connection& thread, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, state_->keys.use(item.key, true, options.deadline_ns));
    LARDER_ASSIGN(const bool was_there, object().remove(thread, item.key));
    item.outcome = was_there ? Outcome::kDone : Outcome::kMiss;
    return {};
  }

  Status touch(const Connection& thread, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, state_->keys.use(item.key, false, options.deadline_ns));
    LARDER_ASSIGN(const bool is_there, object().touch(thread, item.key));
    item.outcome = is_there ? Outcome::kDone : Outcome::kMiss;
    return {};
  }

 private:
  struct State {
    std::unique_ptr<PythonObject> object;
    KeysInUse keys;
    std::atomic<std::uint64_t> bytes_staged_total = 0;
  };

  Contiguous stage(const Item& item) {
    Contiguous value{item.value};
    state_->bytes_staged_total.fetch_add(value.bytes_copied(), std::memory_order_relaxed);
    return value;
  }

  std::unique_ptr<State> state_;
};

class PythonConnector final : public Connector {
 public:
  PythonConnector(std::unique_ptr<WorkerPool<PythonBackend>> pool, const ObjectTraits& traits,
                  std::string type, std::string where)
      : traits_(traits),
        type_(std::move(type)),
        where_(std::move(where)),
        has_scan_(pool->backend().object().has_scan()),
        pool_(std::move(pool)) {}

  Status submit(Batch& batch) noexcept override { return pool_->submit(batch); }
  std::size_t reap(std::span<Batch*> done) noexcept override { return pool_->reap(done); }
  int event_fd() const noexcept override { return pool_->event_fd(); }
  void cancel(Batch& batch) noexcept override { pool_->cancel(batch); }
  bool probe(std::span<Item> items) const noexcept override { return pool_->probe(items); }

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
    report.counters.push_back({"bytes_staged_total", pool_->backend().bytes_staged_total()});
    pool_->append_report(report);
    return report;
  }

  Result<ScanPage> scan(ScanCursor from, std::size_t keys_max) override {
    return object().scan(from, keys_max);
  }

  Status stop(std::uint64_t deadline_ns) noexcept override {
    LARDER_TRY(pool_->stop(deadline_ns));
    if (object().close(deadline_ns)) return {};
    return Error{ErrorCode::kUnavailable, "python", "the object's close() has not returned"};
  }

 private:
  PythonObject& object() const noexcept { return pool_->backend().object(); }

  const ObjectTraits traits_;
  const std::string type_;
  const std::string where_;
  const bool has_scan_;
  const std::unique_ptr<WorkerPool<PythonBackend>> pool_;
};

}  // namespace

SetupResult<std::unique_ptr<Connector>> make_python_connector(PyObject* object, std::string type,
                                                              std::string where) {
  LARDER_ASSIGN(const ObjectTraits traits, traits_of(object));
  WorkerPoolOptions options;
  options.scheduler.name = "python";
  options.scheduler.workers.fill(traits.num_workers);
  options.scheduler.limits = traits.limits;
  options.scheduler.value_bytes_max = traits.value_bytes_max;
  LARDER_ASSIGN(auto adopted, adopt(object));
  auto pool = WorkerPool<PythonBackend>::create(PythonBackend{std::move(adopted)}, options);
  if (!pool) return pool.error();
  return std::make_unique<PythonConnector>(std::move(*pool), traits, std::move(type),
                                           std::move(where));
}

}  // namespace larder::python
