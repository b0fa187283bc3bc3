#pragma once

#include "module/front/batch_client.h"

namespace larder::python {

/// BatchClient under LMCache's contract for native connectors: its names, its texts, time-outs by
/// operation, and its form of a completion. Python sees larder._larder.Completions.
///
/// Threads: any, but drain_completions() by one at a time, and not beside drain().
/// Invariant: one future id, one completion.
class Completions : public BatchClient {
 public:
  /// `spec`: a str. Time-outs in seconds from submission; None: 30, 60 and 10.
  Completions(nanobind::handle spec, nanobind::handle load_timeout, nanobind::handle store_timeout,
              nanobind::handle lookup_timeout);

  // `id` is the future id, if the caller chooses it, so that it is known before another thread gets
  // the completion. It must not be in flight. None: the next id after the highest so far.

  std::uint64_t submit_batch_get(nanobind::handle keys, nanobind::handle memoryviews,
                                 nanobind::handle id);
  std::uint64_t submit_batch_set(nanobind::handle keys, nanobind::handle memoryviews,
                                 nanobind::handle id);
  std::uint64_t submit_batch_exists(nanobind::handle keys, nanobind::handle id);
  std::uint64_t submit_batch_delete(nanobind::handle keys, nanobind::handle id);
  /// [(future id, ok, error, results or None), ...]; [] after close().
  nanobind::object drain_completions();

  // Calls that LMCache's contract does not have.

  /// Like submit_batch_exists(), with sizes or None in place of bools.
  std::uint64_t submit_batch_sizes(nanobind::handle keys, nanobind::handle id);
  std::uint64_t submit_batch_touch(nanobind::handle keys, nanobind::handle id);

 private:
  struct Timeouts {
    double load_s = 0;
    double store_s = 0;
    double lookup_s = 0;
  };
  Completions(nanobind::handle spec, const Timeouts& timeouts);
  std::shared_ptr<Operation> new_operation(nanobind::handle keys) const;
  std::uint64_t submit(const std::shared_ptr<Operation>& operation, Op op, double timeout_s,
                       nanobind::handle id);

  const Timeouts timeouts_;
};

}  // namespace larder::python
