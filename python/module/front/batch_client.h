#pragma once

#include "module/front/event_client.h"

namespace larder::python {

/// The result of one key. Python's copy is larder.Code.
enum class KeyOutcome : char { kFailed = 0, kDone = 1, kMiss = 2, kExisted = 3 };

/// Batches with every option of the connector contract, drained with the full result of each key:
/// the base of larder.Client. Python sees larder._larder.BatchClient.
///
/// A submission returns the batch's id and never fails because of the store: a refused batch comes
/// from drain() as failed. It throws for wrong arguments, and after close().
/// Threads: any, all calls.
class BatchClient : public EventClient {
 public:
  explicit BatchClient(nanobind::handle spec);

  /// Every submission's arguments, unread.
  struct Terms {
    nanobind::handle timeout;   ///< Seconds from now, or None.
    nanobind::handle deadline;  ///< Seconds on CLOCK_MONOTONIC, or None. The earlier one holds.
    nanobind::handle urgency;   ///< Its name, or None for the operation's own.
    nanobind::handle waits_for_room;
    nanobind::handle tag;  ///< Anything; comes back with the outcome.
  };
  std::uint64_t submit_get(nanobind::handle keys, nanobind::handle buffers,
                           nanobind::handle allow_shorter, const Terms& terms);
  std::uint64_t submit_set(nanobind::handle keys, nanobind::handle values, bool replaces,
                           const Terms& terms);
  /// Delete, Touch.
  std::uint64_t submit_keys(Op op, nanobind::handle keys, const Terms& terms);
  /// `estimates`: drain() tells how long loading the hits would take.
  std::uint64_t submit_exists(nanobind::handle keys, nanobind::handle estimates,
                              const Terms& terms);
  /// By the hint's name. `ttl`: seconds where it lasts, else None.
  std::uint64_t submit_hint(nanobind::handle keys, nanobind::handle hint, nanobind::handle ttl,
                            const Terms& terms);
  nanobind::object hints() const { return hints_of(*handle_); }

  /// Sizes where the connector knows its keys in memory, None for a key without a value; None for
  /// all of it where only submit_exists() can tell.
  nanobind::object probe(nanobind::handle keys) const;
  /// [(id, tag, operation, codes, sizes, failures, seconds to load or None), ...]; [] after
  /// close(). One KeyOutcome a key in the bytes `codes`; `sizes` of a Get or Exists, else [];
  /// `failures` is {index: (code, text)}.
  nanobind::object drain();
  /// ([(was stored, key, bytes), ...], next position, lost); None where no events are kept.
  nanobind::object events(nanobind::handle position, nanobind::handle events_max) const;

 protected:
  /// `end_grace_ns`: see Handle::open().
  BatchClient(nanobind::handle spec, std::uint64_t end_grace_ns);

  struct Operation : EventClient::Operation {
    nanobind::object tag = nanobind::none();
    bool wants_sizes = false;  ///< Completions' own, for a lookup.
  };

  /// With the keys taken.
  std::shared_ptr<Operation> new_operation() const;
  std::shared_ptr<Operation> new_operation(nanobind::handle keys) const;
  /// Submits a prepared operation under the id that its caller has chosen, or under the next one if
  /// `id` is None. Returns the id. Throws if the caller's id is in flight.
  std::uint64_t submit(const std::shared_ptr<Operation>& operation, nanobind::handle id);
  /// The batches that drain() returns, for callers that report them in another form. Only while the
  /// store is open.
  std::shared_ptr<Operation> take_batch() { return std::static_pointer_cast<Operation>(take()); }

 private:
  std::uint64_t submit(const std::shared_ptr<Operation>& operation, const Terms& terms);

  std::uint64_t last_id_ = 0;  ///< The highest so far. The GIL guards it.
};

}  // namespace larder::python
