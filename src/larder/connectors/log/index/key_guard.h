#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "larder/connectors/log/format/fingerprint.h"
#include "larder/connectors/log/format/place.h"

namespace larder::log_store {

/// Remembers for every key with an operation in flight how many there are, and the latest place
/// published for it, including a delete's: the basis of L4 (publish only forward) and L8 (no move
/// while an operation is in flight). It also has the latest places of a store and of a delete of
/// the key, so that a delete knows whether it is the one that removes a value, although that is
/// still in flight or was replaced meanwhile.
///
/// Threads: one. Cost: each call is one short probe of an open-addressing table, 72 bytes a slot,
///   which doubles when it is half full and never shrinks: no allocation in steady state.
/// Invariant: a fingerprint is in the table exactly as long as it was entered more often than left.
class KeyGuard {
 public:
  KeyGuard();

  /// An operation on the key begins. Each enter() needs its leave().
  void enter(const Fingerprint& fingerprint);
  /// An operation has ended. The last one forgets the key's place.
  void leave(const Fingerprint& fingerprint);

  bool busy(const Fingerprint& fingerprint) const noexcept;
  /// {} when nothing was published since the key became busy, or it is not busy.
  Place last_published(const Fingerprint& fingerprint) const noexcept;
  /// Keeps the later of `place` and the known one. The key must be busy.
  void note_published(const Fingerprint& fingerprint, const Place& place);
  /// The latest place passed to note_store() and note_delete() since the key became busy; else {}.
  Place last_store(const Fingerprint& fingerprint) const noexcept;
  Place last_delete(const Fingerprint& fingerprint) const noexcept;
  /// A store of the key was given this place, a delete at this place was written. The key must be
  /// busy.
  void note_store(const Fingerprint& fingerprint, const Place& place);
  void note_delete(const Fingerprint& fingerprint, const Place& place);

  std::size_t busy_keys() const noexcept { return used_; }

 private:
  struct Slot {
    Fingerprint fingerprint;
    Place published;
    Place store;
    Place erased;
    std::uint64_t operations = 0;  ///< 0: the slot is free.
  };

  std::size_t home(const Fingerprint& fingerprint) const noexcept {
    return static_cast<std::size_t>(fingerprint.low) & (slots_.size() - 1);
  }
  /// The key's slot, or the free one where it would go.
  std::size_t locate(const Fingerprint& fingerprint) const noexcept;
  Slot& busy_slot(const Fingerprint& fingerprint);
  void remove(std::size_t slot) noexcept;
  void grow();

  std::vector<Slot> slots_;
  std::size_t used_ = 0;
};

}  // namespace larder::log_store
