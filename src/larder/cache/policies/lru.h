#pragma once

#include "larder/cache/policies/queued_policy.h"

namespace larder::cache {

/// The column with the oldest last use goes first. Exact: hiding and showing a column does not
/// change its place. Bytes play no part.
/// Cost of coldest(): the columns that it names.
class LruPolicy final : public QueuedPolicy {
 public:
  explicit LruPolicy(const PolicyOptions& options) : QueuedPolicy(options, 2) {}

 private:
  static constexpr Queue kRecent = 1;

  Queue enter(ColumnId /*column*/, ColumnRecord& /*record*/) override { return kRecent; }
  Queue use(ColumnId /*column*/, ColumnRecord& /*record*/) override { return kRecent; }
  std::size_t choose(std::span<ColumnId> out) override { return list(kRecent, out); }
};

}  // namespace larder::cache
