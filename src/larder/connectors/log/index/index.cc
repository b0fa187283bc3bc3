#include "larder/connectors/log/index/index.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "larder/base/check.h"

namespace larder::log_store {
namespace {

// A slot is four words: the fingerprint's low half; its high half, or the tag of a packed value;
// where (0 when the slot is free); and the value's size with the note above it.
constexpr std::size_t kWords = 4;
constexpr std::size_t kTag = 1;
constexpr std::size_t kWhere = 2;
constexpr std::size_t kSize = 3;
constexpr std::uint64_t kSlotBytes = kWords * sizeof(std::uint64_t);
constexpr std::uint64_t kPageSlots = 4096 / kSlotBytes;

constexpr std::uint64_t kPresent = 1ULL << 63;
constexpr std::uint64_t kWasRead = 1ULL << 62;
constexpr std::uint64_t kPacked = 1ULL << 61;

// Load of a shard in percent. A rebuild leaves it at kLoadMade; an entry takes 32 bytes / kLoadMin
// at most, and the cost of rebuilding is spread over the distances from kLoadMade.
constexpr std::uint64_t kLoadMin = 70;
constexpr std::uint64_t kLoadMade = 77;
constexpr std::uint64_t kLoadMax = 85;

// Slots behind the last entry when an array is made. At kLoadMax, entries overflow the homes by
// more than this once in some ten thousand arrays; then the shard is rebuilt.
constexpr std::uint64_t kTailSlots = 32;

constexpr std::size_t kPrefetchDistance = 24;
constexpr std::size_t kFindsPerScope = 512;
constexpr std::size_t kSlotsPerEntryWalked = 4;

// Loads acquire and stores release, so that a reader which saw any word of a change also sees that
// the sequence has moved. Plain moves on x86.
std::uint64_t load_word(std::uint64_t* word) noexcept {
  return std::atomic_ref<std::uint64_t>{*word}.load(std::memory_order_acquire);
}
void store_word(std::uint64_t* word, std::uint64_t value) noexcept {
  std::atomic_ref<std::uint64_t>{*word}.store(value, std::memory_order_release);
}
void copy_slot(std::uint64_t* to, std::uint64_t* from) noexcept {
  for (std::size_t i = 0; i < kWords; ++i) store_word(to + i, load_word(from + i));
}

std::uint64_t home_of(std::uint64_t low, std::uint64_t homes) noexcept {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((Wide{low} * homes) >> 64);
}

std::uint64_t encode_where(const IndexEntry& entry) noexcept {
  return kPresent | (entry.was_read ? kWasRead : 0) | (entry.is_packed ? kPacked : 0) |
         (std::uint64_t{entry.location.segment} << 32) | entry.location.grain;
}

std::uint64_t encode_size(const IndexEntry& entry) noexcept {
  return std::uint64_t{entry.note} << 32 | entry.value_bytes;
}

std::uint64_t tag_word(const Fingerprint& fingerprint, const IndexEntry& entry) noexcept {
  return entry.is_packed ? entry.tag : fingerprint.high;
}

Location location_of(std::uint64_t where) noexcept {
  return {.segment = static_cast<std::uint32_t>(where >> 32) & (Index::kSegmentsMax - 1),
          .grain = static_cast<std::uint32_t>(where)};
}

IndexEntry decode_entry(std::uint64_t tag, std::uint64_t where, std::uint64_t size) noexcept {
  const bool is_packed = (where & kPacked) != 0;
  return {.location = location_of(where),
          .value_bytes = static_cast<std::uint32_t>(size),
          .was_read = (where & kWasRead) != 0,
          .note = static_cast<std::uint32_t>(size >> 32),
          .is_packed = is_packed,
          .tag = is_packed ? tag : 0};
}

void pause_briefly(unsigned round) noexcept {
  // The writer may have lost its core in the middle of a change: let it have ours.
  if (round >= 64) {
    std::this_thread::yield();
    return;
  }
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// The slot of a fingerprint, or the slot where it belongs. For the writer.
struct Position {
  std::uint64_t slot = 0;
  bool is_there = false;
};

Position locate(std::uint64_t* words, std::uint64_t homes,
                const Fingerprint& fingerprint) noexcept {
  if (words == nullptr) return {};
  std::uint64_t slot = home_of(fingerprint.low, homes);
  for (;; ++slot) {
    std::uint64_t* const at = words + slot * kWords;
    const std::uint64_t low = load_word(at);
    if (load_word(at + kWhere) == 0 || low > fingerprint.low) return {slot, false};
    if (low == fingerprint.low) return {slot, true};
  }
}

/// Copies all entries, in order, to their places in an empty array. False when they leave less than
/// kTailSlots free at its end.
bool copy_entries(const std::uint64_t* from, std::uint64_t from_slots, std::uint64_t* to,
                  std::uint64_t to_homes, std::uint64_t to_slots) noexcept {
  std::uint64_t next = 0;
  for (std::uint64_t slot = 0; slot < from_slots; ++slot) {
    const std::uint64_t* const entry = from + slot * kWords;
    if (entry[kWhere] == 0) continue;
    next = std::max(next, home_of(entry[0], to_homes));
    if (next + kTailSlots >= to_slots) return false;
    // Plain copies: `from` is not written meanwhile, and no reader sees `to` yet.
    std::memcpy(to + next * kWords, entry, kSlotBytes);
    ++next;
  }
  return true;
}

}  // namespace

/// While it lives, no array that the reader may hold is unmapped.
class Index::ReaderScope {
 public:
  explicit ReaderScope(const Index& index) noexcept
      : epochs_(index.epochs_), epoch_(epochs_.enter()) {}
  ~ReaderScope() { epochs_.leave(epoch_); }
  ReaderScope(const ReaderScope&) = delete;
  ReaderScope& operator=(const ReaderScope&) = delete;

 private:
  ReaderEpochs& epochs_;
  const std::uint64_t epoch_;
};

/// The writer changes a shard: readers that meet this look again.
class Index::ChangeScope {
 public:
  explicit ChangeScope(Shard& shard) noexcept
      : shard_(shard), sequence_(shard.sequence.load(std::memory_order_relaxed)) {
    // Relaxed: the change's own stores release this one too.
    shard_.sequence.store(sequence_ + 1, std::memory_order_relaxed);
  }
  ~ChangeScope() { shard_.sequence.store(sequence_ + 2, std::memory_order_release); }
  ChangeScope(const ChangeScope&) = delete;
  ChangeScope& operator=(const ChangeScope&) = delete;

 private:
  Shard& shard_;
  const std::uint64_t sequence_;
};

Index::Index(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}

Index::~Index() {
  for (const Shard& shard : shards_)
    unmap(shard.words.load(std::memory_order_relaxed), shard.slots);
  for (const Retired& retired : retired_) unmap(retired.words, retired.slots);
}

bool Index::find_in(const Shard& shard, const Fingerprint& fingerprint,
                    IndexEntry& entry) noexcept {
  for (unsigned round = 0;; ++round) {
    const std::uint64_t sequence = shard.sequence.load(std::memory_order_acquire);
    std::uint64_t* const words = shard.words.load(std::memory_order_acquire);
    const std::uint64_t homes = shard.homes.load(std::memory_order_acquire);
    // Array and number of homes must be of one state before the array is touched.
    if ((sequence & 1) != 0 || shard.sequence.load(std::memory_order_relaxed) != sequence) {
      pause_briefly(round);
      continue;
    }
    if (words == nullptr) return false;

    std::uint64_t tag = 0;
    std::uint64_t where = 0;
    std::uint64_t size = 0;
    for (std::uint64_t* at = words + home_of(fingerprint.low, homes) * kWords;; at += kWords) {
      const std::uint64_t low = load_word(at);
      const std::uint64_t at_where = load_word(at + kWhere);
      if (at_where == 0 || low > fingerprint.low) break;
      if (low == fingerprint.low) {
        tag = load_word(at + kTag);
        where = at_where;
        size = load_word(at + kSize);
        break;
      }
    }
    if (shard.sequence.load(std::memory_order_relaxed) != sequence) {
      pause_briefly(round);
      continue;
    }
    if (where == 0) return false;
    entry = decode_entry(tag, where, size);
    return true;
  }
}

std::optional<IndexEntry> Index::find(const Fingerprint& fingerprint) const noexcept {
  const ReaderScope scope{*this};
  IndexEntry entry;
  if (!find_in(shard_of(fingerprint), fingerprint, entry)) return std::nullopt;
  return entry;
}

void Index::find_many(std::span<const Fingerprint> fingerprints, std::span<IndexEntry> entries,
                      std::span<std::uint8_t> found) const noexcept {
  LARDER_CHECK(entries.size() == fingerprints.size() && found.size() == fingerprints.size());
  const std::size_t count = fingerprints.size();
  for (std::size_t i = 0; i < std::min(count, kPrefetchDistance); ++i) prefetch(fingerprints[i]);
  for (std::size_t i = 0; i < count;) {
    const ReaderScope scope{*this};
    const std::size_t end = std::min(count, i + kFindsPerScope);
    for (; i < end; ++i) {
      if (i + kPrefetchDistance < count) prefetch(fingerprints[i + kPrefetchDistance]);
      found[i] = find_in(shard_of(fingerprints[i]), fingerprints[i], entries[i]) ? 1 : 0;
    }
  }
}

void Index::prefetch(const Fingerprint& fingerprint) const noexcept {
  const Shard& shard = shard_of(fingerprint);
  // An array that is being replaced gives a useless address, which does no harm: it is computed as
  // a number and never read from.
  const auto words = reinterpret_cast<std::uintptr_t>(shard.words.load(std::memory_order_relaxed));
  const std::uint64_t homes = shard.homes.load(std::memory_order_relaxed);
  const std::uintptr_t address = words + home_of(fingerprint.low, homes) * kSlotBytes;
  // NOLINTBEGIN(performance-no-int-to-ptr)
  __builtin_prefetch(reinterpret_cast<const void*>(address));
  __builtin_prefetch(reinterpret_cast<const void*>(address + 64));
  // NOLINTEND(performance-no-int-to-ptr)
}

bool Index::assign(const Fingerprint& fingerprint, const IndexEntry& entry) {
  LARDER_CHECK(entry.location.segment < kSegmentsMax);
  if (!retired_.empty()) free_retired();
  Shard& shard = shard_of(fingerprint);
  std::uint64_t* words = shard.words.load(std::memory_order_relaxed);
  std::uint64_t homes = shard.homes.load(std::memory_order_relaxed);
  Position position = locate(words, homes, fingerprint);
  if (position.is_there) {
    const ChangeScope change{shard};
    std::uint64_t* const at = words + position.slot * kWords;
    store_word(at + kTag, tag_word(fingerprint, entry));
    store_word(at + kWhere, encode_where(entry));
    store_word(at + kSize, encode_size(entry));
    return true;
  }

  const auto first_free = [&](std::uint64_t slot) {
    while (load_word(words + slot * kWords + kWhere) != 0) ++slot;
    return slot;
  };
  const bool is_full = (shard.used + 1) * 100 > homes * kLoadMax;
  std::uint64_t free_slot = is_full ? 0 : first_free(position.slot);
  if (is_full || free_slot + 1 == shard.slots) {
    if (!rebuild(shard, shard.used + 1, UINT64_MAX)) return false;
    words = shard.words.load(std::memory_order_relaxed);
    homes = shard.homes.load(std::memory_order_relaxed);
    position = locate(words, homes, fingerprint);
    free_slot = first_free(position.slot);
  }

  const ChangeScope change{shard};
  for (std::uint64_t slot = free_slot; slot > position.slot; --slot) {
    copy_slot(words + slot * kWords, words + (slot - 1) * kWords);
  }
  std::uint64_t* const at = words + position.slot * kWords;
  store_word(at, fingerprint.low);
  store_word(at + kTag, tag_word(fingerprint, entry));
  store_word(at + kWhere, encode_where(entry));
  store_word(at + kSize, encode_size(entry));
  ++shard.used;
  keys_.store(keys() + 1, std::memory_order_relaxed);
  return true;
}

std::uint64_t* Index::find_slot(const Fingerprint& fingerprint) noexcept {
  const Shard& shard = shard_of(fingerprint);
  std::uint64_t* const words = shard.words.load(std::memory_order_relaxed);
  const Position position = locate(words, shard.homes.load(std::memory_order_relaxed), fingerprint);
  return position.is_there ? words + position.slot * kWords : nullptr;
}

bool Index::erase(const Fingerprint& fingerprint) {
  std::uint64_t* const slot = find_slot(fingerprint);
  if (slot == nullptr) return false;
  erase_slot(shard_of(fingerprint), slot);
  return true;
}

bool Index::erase_if_at(const Fingerprint& fingerprint, Location location) {
  std::uint64_t* const slot = find_slot(fingerprint);
  if (slot == nullptr || location_of(load_word(slot + kWhere)) != location) return false;
  erase_slot(shard_of(fingerprint), slot);
  return true;
}

bool Index::set_was_read(const Fingerprint& fingerprint) {
  std::uint64_t* const slot = find_slot(fingerprint);
  if (slot == nullptr) return false;
  // One word of an entry that stays where it is: readers see it before or after, and need not
  // retry.
  store_word(slot + kWhere, load_word(slot + kWhere) | kWasRead);
  return true;
}

bool Index::set_note(const Fingerprint& fingerprint, std::uint32_t note) {
  std::uint64_t* const slot = find_slot(fingerprint);
  if (slot == nullptr) return false;
  // As set_was_read(): one word.
  store_word(slot + kSize, std::uint64_t{note} << 32 | (load_word(slot + kSize) & 0xFFFF'FFFFU));
  return true;
}

std::size_t Index::next_entries(Walk& walk, std::span<IndexEntry> out) const noexcept {
  std::size_t count = 0;
  std::size_t slots_left = kSlotsPerEntryWalked * out.size();
  std::size_t shards_left = out.size();
  while (count < out.size() && slots_left > 0 && shards_left > 0) {
    const Shard& shard = shards_[walk.shard];
    std::uint64_t* const words = shard.words.load(std::memory_order_relaxed);
    const std::uint64_t slots = words == nullptr ? 0 : shard.slots;
    for (; walk.slot < slots && count < out.size() && slots_left > 0; ++walk.slot, --slots_left) {
      std::uint64_t* const at = words + walk.slot * kWords;
      const std::uint64_t where = load_word(at + kWhere);
      if (where == 0) continue;
      out[count++] = decode_entry(load_word(at + kTag), where, load_word(at + kSize));
    }
    if (walk.slot < slots) break;
    walk.slot = 0;
    --shards_left;
    if (++walk.shard < kShards) continue;
    walk.shard = 0;
    ++walk.rounds;
    break;
  }
  return count;
}

void Index::erase_slot(Shard& shard, std::uint64_t* slot) {
  if (!retired_.empty()) free_retired();
  std::uint64_t* const words = shard.words.load(std::memory_order_relaxed);
  const std::uint64_t homes = shard.homes.load(std::memory_order_relaxed);
  {
    const ChangeScope change{shard};
    // Entries behind it move up until one is at home already: no gaps, no tombstones.
    for (;; slot += kWords) {
      std::uint64_t* const next = slot + kWords;
      if (load_word(next + kWhere) == 0 ||
          words + home_of(load_word(next), homes) * kWords == next) {
        break;
      }
      copy_slot(slot, next);
    }
    store_word(slot + kWhere, 0);
    --shard.used;
    keys_.store(keys() - 1, std::memory_order_relaxed);
  }
  shrink_if_sparse(shard);
}

void Index::shrink_if_sparse(Shard& shard) {
  const std::uint64_t homes = shard.homes.load(std::memory_order_relaxed);
  const std::uint64_t keys = std::max(shard.used, reserved_keys_per_shard_);
  // When there is no room for the smaller array, the larger one stays: it is within its bound.
  if (keys * 100 < homes * kLoadMin && shard.slots > kPageSlots) {
    rebuild(shard, keys, shard.slots - 1);
  }
}

void Index::reserve(std::uint64_t keys) {
  if (!retired_.empty()) free_retired();
  reserved_keys_per_shard_ = keys / kShards;
  for (Shard& shard : shards_) {
    const std::uint64_t homes = shard.homes.load(std::memory_order_relaxed);
    if (reserved_keys_per_shard_ * 100 > homes * kLoadMade) {
      rebuild(shard, std::max(shard.used, reserved_keys_per_shard_), UINT64_MAX);
    } else {
      shrink_if_sparse(shard);
    }
  }
}

/// Gives the shard a new array sized for `keys` keys, at least those it has. False, and nothing
/// changed, if that would take more than `slots_max` slots or more memory than the system has.
bool Index::rebuild(Shard& shard, std::uint64_t keys, std::uint64_t slots_max) {
  std::uint64_t* const old_words = shard.words.load(std::memory_order_relaxed);
  const std::uint64_t old_slots = shard.slots;
  const std::uint64_t homes_wanted = keys * 100 / kLoadMade + 1;
  for (std::uint64_t tail = 2 * kTailSlots;; tail *= 2) {
    const std::uint64_t slots = (homes_wanted + tail + kPageSlots - 1) / kPageSlots * kPageSlots;
    if (slots > slots_max) return false;
    if (bytes() + slots * kSlotBytes > bytes_max_) return false;
    std::uint64_t* const words = map(slots);
    if (words == nullptr) return false;
    // The rest of the last page serves as homes.
    const std::uint64_t homes = slots - tail;
    if (!copy_entries(old_words, old_slots, words, homes, slots)) {
      unmap(words, slots);
      continue;
    }
    {
      const ChangeScope change{shard};
      shard.words.store(words, std::memory_order_release);
      shard.homes.store(homes, std::memory_order_release);
    }
    shard.slots = slots;
    if (old_words != nullptr) retire(old_words, old_slots);
    return true;
  }
}

void Index::retire(std::uint64_t* words, std::uint64_t slots) {
  retired_.push_back({.words = words, .slots = slots, .replaced_in = epochs_.now()});
  free_retired();
}

void Index::free_retired() noexcept {
  do {
    std::erase_if(retired_, [this](const Retired& retired) {
      if (!epochs_.is_clear(retired.replaced_in)) return false;
      unmap(retired.words, retired.slots);
      return true;
    });
  } while (!retired_.empty() && epochs_.advance());
}

std::uint64_t* Index::map(std::uint64_t slots) noexcept {
  // Filled at once by the caller: to have all pages in one call costs a third of their faults.
  void* const memory = ::mmap(nullptr, slots * kSlotBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  bytes_.store(bytes() + slots * kSlotBytes, std::memory_order_relaxed);
  return static_cast<std::uint64_t*>(memory);
}

void Index::unmap(std::uint64_t* words, std::uint64_t slots) noexcept {
  if (words == nullptr) return;
  ::munmap(words, slots * kSlotBytes);
  bytes_.store(bytes() - slots * kSlotBytes, std::memory_order_relaxed);
}

std::vector<std::pair<Fingerprint, IndexEntry>> Index::entries_in(std::uint32_t segment) const {
  std::vector<std::pair<Fingerprint, IndexEntry>> found;
  for (const Shard& shard : shards_) {
    const std::uint64_t* const words = shard.words.load(std::memory_order_relaxed);
    for (std::uint64_t slot = 0; words != nullptr && slot < shard.slots; ++slot) {
      const std::uint64_t* const entry = words + slot * kWords;
      if (entry[kWhere] == 0 || location_of(entry[kWhere]).segment != segment) continue;
      const IndexEntry decoded = decode_entry(entry[kTag], entry[kWhere], entry[kSize]);
      found.push_back({{.low = entry[0], .high = decoded.is_packed ? 0 : entry[kTag]}, decoded});
    }
  }
  return found;
}

}  // namespace larder::log_store
