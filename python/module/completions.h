#pragma once

#include "larder/base/unique_fd.h"
#include "module/client.h"

namespace larder::python {

/// Calls that return at once and are answered through an event fd: LMCache's contract for native
/// connectors. Python sees larder._larder.Completions.
///
/// Threads: any, but drain_completions() by one at a time.
/// Invariant: one future id, one completion; keys and buffers are held until it is drained.
class Completions {
 public:
  /// Time-outs in seconds from submission.
  Completions(const std::string& spec, double load_timeout_s, double store_timeout_s,
              double lookup_timeout_s);
  ~Completions();
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  /// -1 after close(). The descriptor itself stays readable as long as the object, so that its
  /// number cannot become another file's while somebody polls it.
  int event_fd() const;
  std::uint64_t submit_batch_get(nanobind::handle keys, nanobind::handle memoryviews);
  std::uint64_t submit_batch_set(nanobind::handle keys, nanobind::handle memoryviews);
  std::uint64_t submit_batch_exists(nanobind::handle keys);
  std::uint64_t submit_batch_delete(nanobind::handle keys);
  /// [(future id, ok, error, results or None), ...]; [] after close().
  nanobind::object drain_completions();
  void close(double grace_s, double timeout_s);
  nanobind::object report() const { return report_of(*handle_); }
  bool is_closed() const noexcept { return handle_->is_closed(); }

 private:
  std::uint64_t submit(std::unique_ptr<PythonOperation> operation, Op op, double timeout_s);
  std::unique_ptr<PythonOperation> new_operation(nanobind::handle keys) const;

  std::shared_ptr<Handle> handle_;
  UniqueFd event_fd_;  ///< Of the session's eventfd, which it outlives.
  const double load_timeout_s_;
  const double store_timeout_s_;
  const double lookup_timeout_s_;
  std::uint64_t last_future_id_ = 0;  ///< The GIL guards it.
};

}  // namespace larder::python
