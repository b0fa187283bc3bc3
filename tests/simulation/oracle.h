#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace larder::simulation {

/// One Set or Delete of one key that the history tried.
struct Write {
  enum class State : std::uint8_t { kInFlight = 0, kAcknowledged, kFailed };

  std::uint64_t version = 0;  ///< Of the key, from 1 on.
  bool is_delete = false;
  std::uint64_t value_bytes = 0;
  std::shared_ptr<const std::vector<std::byte>> forged;  ///< The value, where it is a chosen one.
  State state = State::kInFlight;
  bool removed_nothing = false;  ///< A Delete that answered with a miss.
  std::uint64_t invoked = 0;
  std::uint64_t returned = UINT64_MAX;
  bool is_durable = false;
  /// Durable once every segment up to this generation is sealed.
  std::uint64_t generation = UINT64_MAX;
  /// Of the segment where its record stands; 0: nobody knows.
  std::uint64_t home = 0;
  /// The version that was seen to have taken effect later, for good; 0: none.
  std::uint64_t seen_before = 0;
  /// A Get that was invoked from here on must not see it: one before it saw something later.
  std::uint64_t superseded = UINT64_MAX;
};

/// The value of a version: the same bytes every time, different for every key and version from a
/// handful of bytes on.
void fill_value(std::span<std::byte> out, std::size_t key, std::uint64_t version);

/// Knows, by the rules of the log store, what each key must, may and must not be.
///
/// Every key is a register. Two writes take effect in the order in which they were made when the
/// one ended before the other began, in any order otherwise. A write that failed, or was in flight
/// when its owner died, may have taken effect or not, but never over one that was begun after it
/// ended and was acknowledged. After a power cut the same holds for acknowledged writes that were
/// neither synced nor in a sealed segment. A hit must be the bytes of a write that can be the last
/// one. A miss needs an excuse where a write must be there: an eviction from the oldest segment, a
/// failed Get, a crash that may take it.
///
/// Time is counted in steps; tick() gives the next.
class Oracle {
 public:
  explicit Oracle(std::size_t keys) : keys_(keys) {}

  std::uint64_t tick() noexcept { return ++step_; }
  std::uint64_t now() const noexcept { return step_; }
  std::size_t key_count() const noexcept { return keys_.size(); }

  /// The next version of the key. Valid until the next begin_write() of the same key.
  Write& begin_write(std::size_t key, bool is_delete, std::uint64_t value_bytes);
  void acknowledge(std::size_t key, std::uint64_t version, bool is_durable,
                   std::uint64_t generation);
  void fail(std::size_t key, std::uint64_t version);
  /// It turned out not to be a write (a Set that found the key).
  void drop(std::size_t key, std::uint64_t version);
  const Write* find(std::size_t key, std::uint64_t version) const;

  // What is allowed of an operation that was invoked at step `from` and ends now. Empty: it is.
  std::string check_hit(std::size_t key, std::span<const std::byte> value, std::uint64_t from);
  std::string check_miss(std::size_t key, std::uint64_t from);
  std::string check_presence(std::size_t key, std::optional<std::uint64_t> value_bytes,
                             std::uint64_t from) const;
  /// The answer of a Delete that was invoked at step `from`, before it is acknowledged: it was
  /// there, or not.
  std::string check_delete(std::size_t key, std::uint64_t version, std::uint64_t from,
                           bool was_there);
  /// A Get has failed, and the key is a miss now: it stays one until it is stored again (C6).
  void note_gone(std::size_t key) { keys_[key].gone_since = tick(); }
  bool must_be_there(std::size_t key, std::uint64_t from) const {
    return surely_present(key, from) != nullptr;
  }
  /// A write of the key was in flight at some time since step `from`.
  bool was_written_since(std::size_t key, std::uint64_t from) const;

  /// Another key has its fingerprint: it may lose its record at any time.
  void share(std::size_t key) noexcept { keys_[key].is_shared = true; }
  /// While a Get is out that may fail, and with that make the key a miss (C6), nothing is sure.
  void begin_risk(std::size_t key) noexcept { ++keys_[key].risks; }
  void end_risk(std::size_t key) noexcept { --keys_[key].risks; }

  /// From now on the key may be a miss until it is set again.
  void excuse(std::size_t key) { keys_[key].excused = step_; }

  // Where records are, by generation.

  /// The index says that the key is in this generation.
  void note_home(std::size_t key, std::uint64_t generation);
  std::uint64_t home(std::size_t key) const { return keys_[key].home; }
  /// The record of the key's last write is there now.
  void note_moved(std::size_t key, std::uint64_t generation);
  /// It may have been moved.
  void forget_homes(std::size_t key);
  /// Generations are given out again that were used before: an older superblock came back, and no
  /// segment was left to tell of newer ones.
  void forget_generations();
  /// All generations below `first_unsealed` are sealed, which tells something only of writes since
  /// step `since`; and so are those in `sealed`.
  void note_sealed(std::uint64_t first_unsealed, std::uint64_t since,
                   std::span<const std::uint64_t> sealed);
  /// A sync of this generation failed: nobody knows what of it is durable.
  void note_sync_failed(std::uint64_t generation);
  /// After an open. They are durable when a power cut has left them; they are not for sure when a
  /// sync had failed before, as one that succeeds later proves nothing.
  void judge_recovered_homes(bool are_durable);
  /// No generation but these is on the disk: is what must survive a power cut still there?
  std::string check_durable_homes(std::span<const std::uint64_t> on_disk) const;
  /// Would a power cut now bring back what a durable write had replaced, because that one is no
  /// longer on the disk? `removed`: generations of files that were removed, for how long nobody
  /// knows.
  std::string check_may_come_back(std::span<const std::uint64_t> on_disk,
                                  std::span<const std::uint64_t> removed) const;

  // What happens to all keys.
  void on_kill();
  void on_clean_close();
  void on_power_cut();
  /// Anything that was ever written may be there, or not.
  void on_tampering();
  /// After an open: what stood only in older generations may have been evicted by it.
  void on_open(std::uint64_t oldest_generation);

  std::string describe(std::size_t key) const;

 private:
  struct Key {
    std::vector<Write> writes;
    std::uint64_t next_version = 1;
    std::uint64_t excused = 0;
    std::uint64_t gone_since = UINT64_MAX;
    std::uint64_t risks = 0;
    bool is_shared = false;
    bool was_moved = false;  ///< In this life.
    std::uint64_t home = 0;
    std::uint64_t durable_home = 0;
  };

  Write& at(std::size_t key, std::uint64_t version);
  bool holds(std::size_t key, const Write& write, std::span<const std::byte> value) const;
  static bool comes_after(const Write& later, const Write& write);
  bool is_overwritten(std::size_t key, const Write& write, std::uint64_t from) const;
  const Write* surely_present(std::size_t key, std::uint64_t from,
                              std::uint64_t but_for_version = 0) const;
  std::string check_not_gone(std::size_t key, std::uint64_t from) const;
  void note_deleted(std::size_t key, std::uint64_t from);
  void end_writes_in_flight();

  std::uint64_t step_ = 1;
  bool after_power_cut_ = false;
  std::vector<Key> keys_;
  /// Sealed by their own owner, without a failed sync: no power cut takes them, in no later life.
  std::set<std::uint64_t> sealed_for_good_;
};

}  // namespace larder::simulation
