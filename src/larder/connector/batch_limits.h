#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "larder/connector/connector.h"

namespace larder {

/// How much a connector accepts before it refuses, or makes a batch wait.
struct BatchLimitOptions {
  std::uint64_t batches_max = 4096;                  ///< Per class.
  std::uint64_t bytes_max = std::uint64_t{4} << 30;  ///< Per class, of value bytes.
};

/// Bounds the batches that a connector has accepted and not returned yet, per class, in batches and
/// bytes.
///
/// A batch larger than the limit is admitted when its class is idle.
/// The caller synchronises.
class BatchLimits {
 public:
  explicit BatchLimits(const BatchLimitOptions& options) : options_(options) {}

  /// The bytes that a batch counts for: the sum of its items' slices.
  static std::uint64_t bytes_of_batch(const Batch& batch) noexcept;

  /// Takes a place or says kResourceExhausted. Pair every success with one release() of the same
  /// bytes before the batch is handed back.
  Status admit(BatchClass batch_class, std::uint64_t bytes) noexcept;
  void release(BatchClass batch_class, std::uint64_t bytes) noexcept;

  struct Usage {
    std::uint64_t batches = 0;
    std::uint64_t bytes = 0;
    std::uint64_t refused_total = 0;
  };
  const std::array<Usage, kBatchClassCount>& usage() const noexcept { return usage_; }
  /// Writes the batches in flight and the refusals of each class into the report.
  void append_report(Report& report) const;

 private:
  const BatchLimitOptions options_;
  std::array<Usage, kBatchClassCount> usage_{};
};

}  // namespace larder
