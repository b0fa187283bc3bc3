#include "larder/connector/batch_limits.h"

#include "larder/base/check.h"

namespace larder {

BatchClass class_of(Op op) noexcept {
  switch (op) {
    case Op::kExists:
    case Op::kTouch:
      return BatchClass::kLookup;
    case Op::kGet:
      return BatchClass::kLoad;
    case Op::kSet:
    case Op::kDelete:
      return BatchClass::kStore;
  }
  return BatchClass::kStore;
}

std::uint64_t BatchLimits::bytes_of_batch(const Batch& batch) noexcept {
  std::uint64_t total = 0;
  for (const Item& item : batch.items) total += bytes_of(item.value);
  return total;
}

Status BatchLimits::admit(BatchClass batch_class, std::uint64_t bytes) noexcept {
  Usage& usage = usage_[static_cast<std::size_t>(batch_class)];
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
  Usage& usage = usage_[static_cast<std::size_t>(batch_class)];
  LARDER_CHECK(usage.batches > 0 && usage.bytes >= bytes);
  --usage.batches;
  usage.bytes -= bytes;
}

void BatchLimits::append_counters(std::vector<Counter>& counters) const {
  for (std::size_t i = 0; i < kBatchClassCount; ++i) {
    const std::string name = kBatchClassNames[i];
    counters.push_back({"batches_in_flight_" + name, usage_[i].batches});
    counters.push_back({"bytes_in_flight_" + name, usage_[i].bytes});
    counters.push_back({"batches_refused_" + name + "_total", usage_[i].refused_total});
  }
}

}  // namespace larder
