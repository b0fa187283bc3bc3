#include "larder/cache/l2_operations.h"

#include <array>

#include "larder/base/check.h"

namespace larder::cache {

void L2Operation::reset(L2Kind kind_of, TierId tier_of) noexcept {
  kind = kind_of;
  tier = tier_of;
  bytes = 0;
  source = 0;
  piece = 0;
  is_submitted = false;
  is_cancelled = false;
  keeps = false;
  items_.clear();
  slices_.clear();
  keys_.clear();
  own_keys_.clear();
  cells_.clear();
}

void L2Operation::add(const KeyNames& names, const CellName& name, Slice memory, L2Cell cell) {
  std::array<std::byte, kKeyBytesMax> key;
  const std::size_t size = names.write_key(name, key);
  LARDER_CHECK(size > 0 && size <= key.size());
  own_keys_.push_back(
      {static_cast<std::uint32_t>(keys_.size()), static_cast<std::uint32_t>(size), true});
  keys_.insert(keys_.end(), key.begin(), key.begin() + static_cast<std::ptrdiff_t>(size));
  slices_.push_back(memory);
  items_.emplace_back();
  cells_.push_back(cell);
  bytes += memory.bytes;
}

void L2Operation::add(std::span<const std::byte> key, Slice memory, L2Cell cell) {
  own_keys_.push_back({});
  slices_.push_back(memory);
  items_.emplace_back().key = key;
  cells_.push_back(cell);
  bytes += memory.bytes;
}

void L2Operation::add(std::span<const std::byte> key, std::span<const Slice> value, L2Cell cell) {
  own_keys_.push_back({.has_own_slice = false});
  slices_.push_back({});
  Item& item = items_.emplace_back();
  item.key = key;
  item.value = value;
  cells_.push_back(cell);
  bytes += bytes_of(value);
}

void L2Operation::seal() noexcept {
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const OwnKey& own = own_keys_[i];
    if (own.size != 0) items_[i].key = std::span{keys_}.subspan(own.begin, own.size);
    const bool has_value = kind != L2Kind::kExists && kind != L2Kind::kDelete;
    if (own.has_own_slice && has_value) {
      items_[i].value = std::span{slices_}.subspan(i, 1);
    }
  }
  batch.items = items_;
  batch.user_data = this;
}

void L2Operation::fail(const Error& error) noexcept {
  for (Item& item : items_) {
    item.outcome = Outcome::kFailed;
    item.error = error;
  }
}

}  // namespace larder::cache
