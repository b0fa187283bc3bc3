#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/base/check.h"
#include "larder/cache/policies/policy.h"

namespace larder::cache {

/// What the policies know of one resident column. 48 bytes.
struct ColumnRecord {
  std::uint64_t fingerprint = 0;
  std::uint64_t bytes = 0;
  std::uint64_t stamp = 0;        ///< Of its last use.
  const Policy* owner = nullptr;  ///< Null: in no policy.
  std::uint32_t place = 0;        ///< In its queue's ColumnOrder.
  std::uint8_t queue = 0;         ///< Of its policy.
  std::uint8_t uses = 0;          ///< The policy's own count.
  bool is_hidden = false;
};

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

 private:
  std::vector<ColumnRecord> records_;
};

}  // namespace larder::cache
