#pragma once

#include <unordered_map>

#include "larder/base/unique_fd.h"
#include "module/front/results.h"

namespace larder::python {

/// The common part of the classes whose calls return at once and are answered through an event fd.
///
/// Threads: any, all calls.
/// Invariant: an accepted operation is held, with its keys and buffers, until it was taken, or
/// until the store is closed.
class EventClient {
 public:
  EventClient(const EventClient&) = delete;
  EventClient& operator=(const EventClient&) = delete;

  /// -1 after close(). The descriptor itself stays readable as long as the object lives, so that
  /// its number cannot become another file's while a thread polls it.
  int event_fd() const;
  /// A hint to end an operation soon; it is drained all the same. Unknown ids are ignored.
  void cancel(nanobind::handle id);
  /// As Client::scan().
  nanobind::object scan(nanobind::handle first_word, nanobind::handle second_word,
                        nanobind::handle keys_max, nanobind::handle prefix) {
    return page_of(*handle_, first_word, second_word, keys_max, prefix);
  }
  /// As Client::delete_page().
  nanobind::object delete_page(nanobind::handle first_word, nanobind::handle second_word,
                               nanobind::handle keys_max, nanobind::handle prefix,
                               nanobind::handle timeout) {
    return deleted_page_of(*handle_, first_word, second_word, keys_max, prefix, timeout);
  }
  /// Seconds or None: `grace` for work to end by itself, `timeout` for everything.
  void close(nanobind::handle grace, nanobind::handle timeout);
  nanobind::object report() const { return report_of(*handle_); }
  bool is_closed() const noexcept { return handle_->is_closed(); }

 protected:
  struct Operation;
  using InFlight = std::unordered_map<std::uint64_t, Operation*>;

  /// Keeps itself alive while the session has it; cancel() keeps it while it is inside the session
  /// without the GIL. In the map from start() to its end.
  struct Operation : PythonOperation {
    ~Operation() override {
      if (in_flight != nullptr) in_flight->erase(future_id);
    }
    void discard() override { const auto last = std::move(self); }

    std::shared_ptr<Operation> self;
    std::shared_ptr<InFlight> in_flight;
  };

  /// Throws nanobind::python_error. `misses_wrong_sizes`: see SessionOptions; `end_grace_ns`: see
  /// Handle::open().
  EventClient(nanobind::handle spec, bool misses_wrong_sizes, std::uint64_t end_grace_ns);
  ~EventClient();

  /// True: the session has the operation, which another thread may have taken by now. False: it is
  /// an Exists that was answered from memory. An error: it was refused; it is still the caller's,
  /// as after false. The GIL is released meanwhile. Throws where its id is in flight.
  Result<bool> start(const std::shared_ptr<Operation>& operation);
  /// For an operation that start() did not give to the session: take() returns it. Does nothing if
  /// another thread has closed the store meanwhile.
  void post(const std::shared_ptr<Operation>& operation);
  /// A finished operation or nullptr. Only while the store is open.
  std::shared_ptr<Operation> take();

  std::shared_ptr<Handle> handle_;

 private:
  UniqueFd event_fd_;  ///< A duplicate of the session's eventfd, which outlives that.
  std::shared_ptr<InFlight> in_flight_;  ///< The GIL guards it. Operations may outlive the client.
};

}  // namespace larder::python
