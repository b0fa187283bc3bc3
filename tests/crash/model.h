#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/crash/protocol.h"

namespace larder::crash {

/// How many segments a store has and what one holds at least, from which follows what cannot have
/// been evicted yet.
///
/// The ring drops records in its oldest segment only, and only while fewer than three segments are
/// free (L7, L10, L12). So a record is safe until almost as many segments were begun after it as
/// there are. A segment is left when the next record does not fit, so it holds `filled_bytes_min`
/// of what was asked for, unless its owner was killed; and for every segment that is emptied, up to
/// half a segment of old records is written again.
struct RingBound {
  std::uint32_t segments = 0;
  std::uint64_t segment_bytes = 0;
  std::uint64_t record_bytes_max = 0;  ///< With its share of the table.
  std::uint32_t grain_bytes = 4096;
  /// eviction=worth: once the ring is full, a record may go as soon as its segment is sealed.
  bool leaves_early = false;

  /// How many segments were begun at most while so many bytes were asked for and so many owners
  /// were killed.
  double segments_begun_max(std::uint64_t bytes, std::uint64_t kills) const noexcept;
  bool may_evict(std::uint64_t bytes, std::uint64_t kills) const noexcept;
  /// What a Set or a Delete takes of a segment at most.
  std::uint64_t bytes_of(Op op, std::uint64_t value_bytes, std::uint64_t key_bytes) const noexcept;
};

struct ModelCounts {
  std::uint64_t sets_acknowledged = 0;
  std::uint64_t deletes_acknowledged = 0;
  std::uint64_t refused = 0;
  std::uint64_t gets_checked = 0;  ///< Under load.
  // Of keys that were read after a kill:
  std::uint64_t kept_values = 0;   ///< The acknowledged Set, which had to be there, was.
  std::uint64_t kept_deletes = 0;  ///< The acknowledged Delete held.
  std::uint64_t unsettled = 0;     ///< The last write had not come back: old, new or deleted.
  std::uint64_t evictable = 0;     ///< May have been evicted: its last value or a miss.
  std::uint64_t evicted = 0;       ///< Of those: misses.
};

/// What every key must or may be after a kill -9, by the durability table of docs/format_log.md:
///
///   an acknowledged Set is kept until it is evicted; an acknowledged Delete or replacement is
///   kept, so nothing older comes back, ever; what was not acknowledged happened or did not; what
///   was read after a kill stays so.
///
/// Every key is a register: a write can be the last one unless one that was acknowledged began
/// after it ended. A miss needs a Delete that can be the last write, or a Set that may have been
/// evicted.
class Model {
 public:
  Model(const Content& content, const RingBound& ring);

  void begin_life() noexcept { ++life_; }
  /// A message of a living writer. Empty, or what is wrong.
  std::string take(const Message& message);
  /// It was killed: nothing of what it has not told will still happen.
  void end_life();

  /// Batches with a Set or Delete that were invoked and did not come back.
  std::size_t write_batches_in_flight() const;
  const ModelCounts& counts() const noexcept { return counts_; }

 private:
  /// How far the log had come.
  struct Mark {
    std::uint64_t bytes_settled = 0;
    std::uint64_t life = 0;
  };
  struct Write {
    std::uint64_t version = 0;
    bool is_delete = false;
    bool is_acknowledged = false;
    std::uint64_t invoked = 0;
    std::uint64_t returned = kNever;
    Mark mark = {};
  };
  struct Pending {
    Op op = Op::kGet;
    std::uint32_t key = 0;
    std::uint64_t version = 0;
    std::uint64_t bytes = 0;
    std::vector<Write> readable = {};  ///< Get: what it may find.
  };

  void invoke(const Message& message);
  std::string end(const Message& message);
  std::string end_get(const Message& message, const Pending& get);
  std::string found(const Message& message);
  void acknowledge(std::uint32_t key, Write& write);
  bool may_be_evicted(const Write& write) const noexcept;
  std::string describe(std::uint32_t key) const;

  const Content content_;
  const RingBound ring_;
  std::vector<std::vector<Write>> keys_;                ///< Of each key what can be its last write.
  std::unordered_map<std::uint64_t, Pending> pending_;  ///< By operation.
  std::uint64_t step_ = 0;
  std::uint64_t life_ = 0;
  std::uint64_t bytes_invoked_ = 0;
  std::uint64_t bytes_settled_ = 0;
  ModelCounts counts_;
};

}  // namespace larder::crash
