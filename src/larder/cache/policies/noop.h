#pragma once

#include "larder/cache/policies/queued_policy.h"

namespace larder::cache {

/// Evicts nothing: its only victims are columns that were cooled and not used since. For L1 as a
/// buffer (E34) that stores must not fill up.
/// Cost of coldest(): the columns that it names.
class NoopPolicy final : public QueuedPolicy {
 public:
  explicit NoopPolicy(const PolicyOptions& options) : QueuedPolicy(options, 2) {}

 private:
  static constexpr Queue kKept = 1;

  Queue enter(ColumnId /*column*/, ColumnRecord& /*record*/) override { return kKept; }
  Queue use(ColumnId /*column*/, ColumnRecord& record) override {
    return record.queue == kKept ? kStay : kKept;
  }
  std::size_t choose(std::span<ColumnId> /*out*/) override { return 0; }
};

}  // namespace larder::cache
