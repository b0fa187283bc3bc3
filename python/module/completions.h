#pragma once

#include "module/event_client.h"

namespace larder::python {

/// What became of one key, in drain_outcomes(). Python's copy is in larder/lmcache/l2_mirror.py.
enum class KeyOutcome : char { kFailed = 0, kDone = 1, kMiss = 2, kExisted = 3 };

/// Calls that return at once and are answered through an event fd: LMCache's contract for native
/// connectors. Python sees larder._larder.Completions.
///
/// Threads: any, but drain_completions() by one at a time.
/// Invariant: one future id, one completion.
class Completions : public EventClient {
 public:
  /// `spec`: a str. Time-outs in seconds from submission; None: 30, 60 and 10.
  Completions(nanobind::handle spec, nanobind::handle load_timeout, nanobind::handle store_timeout,
              nanobind::handle lookup_timeout);

  std::uint64_t submit_batch_get(nanobind::handle keys, nanobind::handle memoryviews);
  std::uint64_t submit_batch_set(nanobind::handle keys, nanobind::handle memoryviews);
  std::uint64_t submit_batch_exists(nanobind::handle keys);
  std::uint64_t submit_batch_delete(nanobind::handle keys);
  /// [(future id, ok, error, results or None), ...]; [] after close().
  nanobind::object drain_completions();

  // What LMCache's contract has no place for (tracking.cc).

  std::uint64_t submit_batch_touch(nanobind::handle keys);
  /// drain_completions() with what became of each key: [(future id, codes, first failure), ...];
  /// one KeyOutcome a key in the bytes `codes`.
  nanobind::object drain_outcomes();
  /// ([(was stored, key, bytes), ...], next position, lost); None where no events are kept.
  nanobind::object events(nanobind::handle position, nanobind::handle events_max) const;
  /// As Client::scan().
  nanobind::object scan(nanobind::handle first_word, nanobind::handle second_word,
                        nanobind::handle keys_max) {
    return page_of(*handle_, first_word, second_word, keys_max);
  }

 private:
  struct Timeouts {
    double load_s = 0;
    double store_s = 0;
    double lookup_s = 0;
  };
  Completions(nanobind::handle spec, const Timeouts& timeouts);
  std::uint64_t submit(std::unique_ptr<PythonOperation> operation, Op op, double timeout_s);
  std::unique_ptr<PythonOperation> new_operation(nanobind::handle keys) const;

  const Timeouts timeouts_;
  std::uint64_t last_future_id_ = 0;  ///< The GIL guards it.
};

/// The first failure with its remedy in the error's words, and how many there are.
std::string first_failure(const Batch& batch, std::size_t failed);

}  // namespace larder::python
