#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "larder/base/check.h"
#include "larder/cache/policies/policy.h"
#include "larder/cache/policies/reuse_model.h"

namespace larder::cache {

/// The policies' data on one resident column. 56 bytes.
struct ColumnRecord {
  std::uint64_t fingerprint = 0;
  std::uint64_t bytes = 0;
  std::uint64_t stamp = 0;        ///< Of its last use.
  const Policy* owner = nullptr;  ///< Null: in no policy.
  std::uint32_t place = 0;        ///< Position in its queue's ColumnOrder.
  std::uint8_t queue = 0;         ///< Of its policy.
  std::uint8_t uses = 0;          ///< The policy's own count.
  bool is_hidden = false;
  // PrefixPolicy's data.
  bool is_last = false;         ///< It was the last one of the request that used it last.
  std::uint32_t used = 0;       ///< When it was used last, in uses of its policy.
  std::uint32_t run = 0;        ///< The columns that one request used last.
  std::uint32_t deeper = 0;     ///< The column behind it in its run.
  std::uint32_t shallower = 0;  ///< The column before it in its run.
};
static_assert(sizeof(ColumnRecord) == 56);

class ColumnRecords {
 public:
  /// The record of any column; makes room for it.
  ColumnRecord& make(ColumnId column) {
    if (column >= records_.size()) records_.resize(std::size_t{column} + 1);
    return records_[column];
  }
  /// The record of a column for which make() was called.
  ColumnRecord& operator[](ColumnId column) noexcept { return records_[column]; }
  const ColumnRecord& operator[](ColumnId column) const noexcept { return records_[column]; }
  std::size_t size() const noexcept { return records_.size(); }

  /// The knowledge shared by the PrefixPolicies with these records; made at first use.
  ReuseModel& reuse_model(std::size_t classes) {
    if (reuse_model_ == nullptr) reuse_model_ = std::make_unique<ReuseModel>(classes);
    return *reuse_model_;
  }

 private:
  std::vector<ColumnRecord> records_;
  std::unique_ptr<ReuseModel> reuse_model_;
};

}  // namespace larder::cache
