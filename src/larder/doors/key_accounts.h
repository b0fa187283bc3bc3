#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "larder/doors/key_table.h"

namespace larder::doors {

/// A mirror of a store's keys and value sizes, for listeners that need every change by name. It is
/// updated by events in their order, and by scans of the whole content while events continue.
///
/// The LMCache names of one model, rank, group and tenant differ in the chunk's hash only. The
/// common parts are stored once, in a group; a key costs the bytes of its hash and 8 more, in a
/// slot of a KeyTable. Keys are stored whole and not as fingerprints, so two keys are never
/// confused. Names that are not LMCache's are foreign: they are counted, and no change names them.
///
/// Threads: the caller's lock guards it. No call blocks.
/// Cost: 50 to 64 bytes for a key with a hash of 32 bytes, and a short probe for each event.
///   begin_scan() is fast unless the last scan was given up; end_scan() visits every key.
/// Invariant: the sizes of all changes add up to the sizes of the keys.
class KeyAccounts {
 public:
  /// Larger values count as this many bytes.
  static constexpr std::uint64_t kBytesMax = (std::uint64_t{1} << 40U) - 2;

  /// A key that was added (`is_stored`) or dropped, with the bytes of its value.
  struct Change {
    bool is_stored = false;
    std::string key;
    std::uint64_t bytes = 0;
  };
  using Changes = std::vector<Change>;

  // Events. They append to `changes`.

  void stored(std::string_view key, std::uint64_t bytes, Changes& changes);
  void removed(std::string_view key, Changes& changes);

  // Scans.

  /// From now on scanned() gets every key that exists all the time until end_scan(), and stored()
  /// and removed() get every event. Forgets an earlier scan that was not ended.
  void begin_scan();
  /// Forgets that a scan was begun.
  void give_up_scan();
  bool is_scanning() const noexcept { return is_scanning_; }
  /// Only while is_scanning(): a key that the scan has seen since begin_scan(). The mirror has
  /// already got every event from before it was seen.
  void scanned(std::string_view key, std::uint64_t bytes, Changes& changes);
  /// Only while is_scanning(): drops the keys that neither the scan nor an event since begin_scan()
  /// has shown.
  void end_scan(Changes& changes);

  // The content.

  struct Totals {
    std::uint64_t keys = 0;
    std::uint64_t bytes = 0;
  };
  /// Of LMCache's keys.
  Totals totals() const noexcept { return totals_; }
  Totals foreign() const noexcept { return foreign_; }
  /// True for an LMCache key that exists.
  bool contains(std::string_view key) const;
  /// LMCache's keys, in no order.
  void for_each(const std::function<void(std::string key, std::uint64_t bytes)>& visit) const;
  /// Of the tables, without the allocator's overhead.
  std::size_t memory_bytes() const noexcept;

 private:
  /// A key split into the identity of its group and the part that the group's tables store.
  struct Parts;
  /// The keys that differ in the chunk's hash only, or the foreign keys of one length.
  struct Group {
    bool is_foreign = false;
    std::string head;
    std::string tail;
    std::size_t keys = 0;          ///< In all tables.
    std::vector<KeyTable> tables;  ///< One, or kTables of them, so that no large table is copied.

    KeyTable& table_of(std::uint64_t hash) noexcept { return tables[hash % tables.size()]; }
    std::string name_of(std::span<const std::byte> stored) const;
  };
  using Groups = std::unordered_map<std::string, Group>;

  Parts parts_of(std::string_view key) const;
  std::uint64_t find(const Parts& parts) const;
  void set(const Parts& parts, std::string_view key, std::uint64_t bytes, Changes& changes);
  /// Writes a state, which may be the first of its key. 0 removes the key.
  void set_state(const Parts& parts, std::uint64_t state);
  void split_if_large(Group& group) const;
  /// Replaces every key's state by that of `change`; 0 drops the key. Drops empty groups.
  void change_all(
      const std::function<std::uint64_t(const Group& group, std::span<const std::byte> stored,
                                        std::uint64_t state)>& change);
  /// Removes the marks of keys that were removed during a scan.
  void forget_gone();
  Totals& totals_of(bool is_foreign) noexcept { return is_foreign ? foreign_ : totals_; }

  Groups groups_;
  Totals totals_;
  Totals foreign_;
  std::uint64_t scan_ = 1;  ///< The number of the last scan, from 1 to kScansMax.
  bool is_scanning_ = false;
  std::size_t gone_ = 0;  ///< Marks of keys that were removed during the scan.
};

}  // namespace larder::doors
