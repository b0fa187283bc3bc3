#include "larder/doors/key_accounts.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/hash.h"
#include "larder/doors/lmcache_name.h"

namespace larder::doors {
namespace {

constexpr std::size_t kTables = 64;
constexpr std::size_t kSplitAtKeys = 4096;

// A key's state: its size in the low bits, and above it the number of the last scan during which it
// was known to exist, which is never 0. A key that is removed during a scan stays until the scan
// ends, with kGone for its size, so that a scan that saw it earlier cannot bring it back.
constexpr unsigned kSizeBits = 40;
constexpr std::uint64_t kGone = (std::uint64_t{1} << kSizeBits) - 1;
constexpr std::uint64_t kScansMax = (std::uint64_t{1} << (64 - kSizeBits)) - 1;
static_assert(KeyAccounts::kBytesMax < kGone);

constexpr std::uint64_t state_of(std::uint64_t bytes, std::uint64_t scan) noexcept {
  return scan << kSizeBits | bytes;
}

constexpr std::uint64_t bytes_of_state(std::uint64_t state) noexcept {
  return state & kGone;
}

constexpr std::uint64_t scan_of(std::uint64_t state) noexcept {
  return state >> kSizeBits;
}

constexpr bool is_there(std::uint64_t state) noexcept {
  return state != 0 && bytes_of_state(state) != kGone;
}

}  // namespace

struct KeyAccounts::Parts {
  bool is_foreign = false;
  std::string_view head;
  std::string_view tail;
  std::string stored;  ///< The chunk's hash, or all of a foreign key.
  std::string group;   ///< The name in `groups_`, different for each length of `stored`.
  std::uint64_t hash = 0;

  std::span<const std::byte> bytes() const noexcept { return std::as_bytes(std::span{stored}); }
};

KeyAccounts::Parts KeyAccounts::parts_of(std::string_view key) const {
  Parts parts;
  if (const auto name = split_lmcache_name(key)) {
    parts.head = name->head;
    parts.tail = name->tail;
    parts.stored.reserve(name->hash.size() / 2);
    for (std::size_t i = 0; i < name->hash.size(); i += 2) {
      parts.stored +=
          static_cast<char>(hex_value(name->hash[i]) << 4U | hex_value(name->hash[i + 1]));
    }
    parts.group = 'L';
  } else {
    parts.is_foreign = true;
    parts.stored = key;
    parts.group = 'F';
  }
  // Head and tail have a fixed number of '@', so joined texts are different for different pairs.
  parts.group += std::to_string(parts.stored.size()) + ' ';
  parts.group.append(parts.head).append(parts.tail);
  parts.hash = hash64(parts.bytes());
  return parts;
}

std::string KeyAccounts::Group::name_of(std::span<const std::byte> stored) const {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string name;
  name.reserve(head.size() + 2 * stored.size() + tail.size());
  name = head;
  for (const std::byte byte : stored) {
    const auto value = std::to_integer<unsigned>(byte);
    name += kDigits[value >> 4U];
    name += kDigits[value & 15U];
  }
  return name.append(tail);
}

// --- Events --------------------------------------------------------------------------------------

void KeyAccounts::stored(std::string_view key, std::uint64_t bytes, Changes& changes) {
  set(parts_of(key), key, bytes, changes);
}

void KeyAccounts::removed(std::string_view key, Changes& changes) {
  const Parts parts = parts_of(key);
  const std::uint64_t state = find(parts);
  if (is_there(state)) {
    Totals& totals = totals_of(parts.is_foreign);
    --totals.keys;
    totals.bytes -= bytes_of_state(state);
    if (!parts.is_foreign) changes.push_back({false, std::string{key}, bytes_of_state(state)});
  }
  if (is_scanning_) {
    gone_ += state != 0 && !is_there(state) ? 0 : 1;
    set_state(parts, state_of(kGone, scan_));
  } else if (state != 0) {
    set_state(parts, 0);
  }
}

void KeyAccounts::set(const Parts& parts, std::string_view key, std::uint64_t bytes,
                      Changes& changes) {
  bytes = std::min(bytes, kBytesMax);
  const std::uint64_t state = find(parts);
  if (state != 0 && !is_there(state)) --gone_;
  set_state(parts, state_of(bytes, scan_));
  if (is_there(state) && bytes_of_state(state) == bytes) return;
  Totals& totals = totals_of(parts.is_foreign);
  if (is_there(state)) {
    // Replaced by a value of another size: one change drops the key and one adds it.
    totals.bytes -= bytes_of_state(state);
    if (!parts.is_foreign) changes.push_back({false, std::string{key}, bytes_of_state(state)});
  } else {
    ++totals.keys;
  }
  totals.bytes += bytes;
  if (!parts.is_foreign) changes.push_back({true, std::string{key}, bytes});
}

std::uint64_t KeyAccounts::find(const Parts& parts) const {
  const auto found = groups_.find(parts.group);
  if (found == groups_.end()) return 0;
  const auto& tables = found->second.tables;
  return tables[parts.hash % tables.size()].find(parts.bytes(), parts.hash);
}

void KeyAccounts::set_state(const Parts& parts, std::uint64_t state) {
  const auto [at, is_new] = groups_.try_emplace(parts.group);
  Group& group = at->second;
  if (is_new) {
    group.is_foreign = parts.is_foreign;
    group.head = parts.head;
    group.tail = parts.tail;
    group.tables.emplace_back(parts.stored.size());
  }
  KeyTable& table = group.table_of(parts.hash);
  const std::size_t before = table.size();
  if (state == 0) {
    table.erase(parts.bytes(), parts.hash);
  } else {
    table.set(parts.bytes(), parts.hash, state);
  }
  group.keys += table.size() - before;  // Wraps correctly when the table has one key less.
  if (group.keys == 0) {
    groups_.erase(at);
  } else {
    split_if_large(group);
  }
}

void KeyAccounts::split_if_large(Group& group) const {
  if (group.tables.size() > 1 || group.keys < kSplitAtKeys) return;
  const KeyTable whole = std::move(group.tables[0]);
  group.tables.clear();
  group.tables.reserve(kTables);
  for (std::size_t i = 0; i < kTables; ++i) group.tables.emplace_back(whole.key_bytes());
  whole.for_each([&](std::span<const std::byte> stored, std::uint64_t state) {
    const std::uint64_t hash = hash64(stored);
    group.table_of(hash).set(stored, hash, state);
  });
}

// --- Scans ---------------------------------------------------------------------------------------

void KeyAccounts::begin_scan() {
  forget_gone();
  if (scan_ == kScansMax) {
    change_all([](const Group&, std::span<const std::byte>, std::uint64_t state) {
      return state_of(bytes_of_state(state), 1);
    });
    scan_ = 1;
  }
  ++scan_;
  is_scanning_ = true;
}

void KeyAccounts::give_up_scan() {
  forget_gone();
  is_scanning_ = false;
}

void KeyAccounts::scanned(std::string_view key, std::uint64_t bytes, Changes& changes) {
  LARDER_CHECK(is_scanning_);
  const Parts parts = parts_of(key);
  // An event during the scan outweighs the scan, which may have looked earlier.
  if (scan_of(find(parts)) != scan_) set(parts, key, bytes, changes);
}

void KeyAccounts::end_scan(Changes& changes) {
  LARDER_CHECK(is_scanning_);
  is_scanning_ = false;
  change_all([&](const Group& group, std::span<const std::byte> stored, std::uint64_t state) {
    if (!is_there(state)) return std::uint64_t{0};
    if (scan_of(state) == scan_) return state;
    Totals& totals = totals_of(group.is_foreign);
    --totals.keys;
    totals.bytes -= bytes_of_state(state);
    if (!group.is_foreign) changes.push_back({false, group.name_of(stored), bytes_of_state(state)});
    return std::uint64_t{0};
  });
  gone_ = 0;
}

void KeyAccounts::forget_gone() {
  if (gone_ == 0) return;
  change_all([](const Group&, std::span<const std::byte>, std::uint64_t state) {
    return is_there(state) ? state : 0;
  });
  gone_ = 0;
}

void KeyAccounts::change_all(
    const std::function<std::uint64_t(const Group& group, std::span<const std::byte> stored,
                                      std::uint64_t state)>& change) {
  for (auto at = groups_.begin(); at != groups_.end();) {
    Group& group = at->second;
    group.keys = 0;
    for (KeyTable& table : group.tables) {
      table.change_all([&](std::span<const std::byte> stored, std::uint64_t state) {
        return change(group, stored, state);
      });
      group.keys += table.size();
    }
    at = group.keys == 0 ? groups_.erase(at) : std::next(at);
  }
}

// --- Content -------------------------------------------------------------------------------------

bool KeyAccounts::contains(std::string_view key) const {
  const Parts parts = parts_of(key);
  return !parts.is_foreign && is_there(find(parts));
}

void KeyAccounts::for_each(
    const std::function<void(std::string key, std::uint64_t bytes)>& visit) const {
  for (const auto& [name, group] : groups_) {
    if (group.is_foreign) continue;
    for (const KeyTable& table : group.tables) {
      table.for_each([&](std::span<const std::byte> stored, std::uint64_t state) {
        if (is_there(state)) visit(group.name_of(stored), bytes_of_state(state));
      });
    }
  }
}

std::size_t KeyAccounts::memory_bytes() const noexcept {
  std::size_t bytes = 0;
  for (const auto& [name, group] : groups_) {
    bytes += name.size() + group.head.size() + group.tail.size() + sizeof group;
    for (const KeyTable& table : group.tables) bytes += sizeof table + table.memory_bytes();
  }
  return bytes;
}

}  // namespace larder::doors
