#pragma once

#include "module/event_client.h"

namespace larder::python {

/// Calls that return at once and are answered through an event fd: LMCache's contract for native
/// connectors. Python sees larder._larder.Completions.
///
/// Threads: any, but drain_completions() by one at a time.
/// Invariant: one future id, one completion.
class Completions : public EventClient {
 public:
  /// Time-outs in seconds from submission.
  Completions(const std::string& spec, double load_timeout_s, double store_timeout_s,
              double lookup_timeout_s);

  std::uint64_t submit_batch_get(nanobind::handle keys, nanobind::handle memoryviews);
  std::uint64_t submit_batch_set(nanobind::handle keys, nanobind::handle memoryviews);
  std::uint64_t submit_batch_exists(nanobind::handle keys);
  std::uint64_t submit_batch_delete(nanobind::handle keys);
  /// [(future id, ok, error, results or None), ...]; [] after close().
  nanobind::object drain_completions();

 private:
  std::uint64_t submit(std::unique_ptr<PythonOperation> operation, Op op, double timeout_s);
  std::unique_ptr<PythonOperation> new_operation(nanobind::handle keys) const;

  const double load_timeout_s_;
  const double store_timeout_s_;
  const double lookup_timeout_s_;
  std::uint64_t last_future_id_ = 0;  ///< The GIL guards it.
};

}  // namespace larder::python
