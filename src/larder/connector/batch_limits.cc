#include "larder/connector/batch_limits.h"

#include "larder/base/check.h"

namespace larder {

std::uint64_t BatchLimits::bytes_of_batch(const Batch& batch) noexcept {
  std::uint64_t total = 0;
  for (const Item& item : batch.items) total += bytes_of(item.value);
  return total;
}

Status BatchLimits::admit(BatchClass batch_class, std::uint64_t bytes) noexcept {
  Usage& usage = usage_[index_of(batch_class)];
  const bool is_idle = usage.batches == 0;
  const bool fits = usage.batches < options_.batches_max && usage.bytes <= options_.bytes_max &&
                    bytes <= options_.bytes_max - usage.bytes;
  if (!is_idle && !fits) {
    ++usage.refused_total;
    return Error{ErrorCode::kResourceExhausted, "connector", "too much is in flight already"};
  }
  ++usage.batches;
  usage.bytes += bytes;
  return {};
}

void BatchLimits::release(BatchClass batch_class, std::uint64_t bytes) noexcept {
  Usage& usage = usage_[index_of(batch_class)];
  LARDER_CHECK(usage.batches > 0 && usage.bytes >= bytes);
  --usage.batches;
  usage.bytes -= bytes;
}

void BatchLimits::append_report(Report& report) const {
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    report.classes[i].batches_in_flight = usage_[i].batches;
    report.classes[i].bytes_in_flight = usage_[i].bytes;
    report.classes[i].batches_refused = usage_[i].refused_total;
  }
}

}  // namespace larder
