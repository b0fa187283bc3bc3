#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/wire/chunk_hash.h"
#include "larder/wire/reply.h"

namespace larder::server {

/// The last changes of L1, numbered from 1, for subscribers (S26): a bounded ring that drops the
/// oldest first.
///
/// A follower that has seen every event of its model knows exactly the chunks that L1 has complete,
///   where these are of one space: events do not say which.
/// Bounded: events_max() and kBytesMax, whichever is less.
/// Threads: the service's. Cost: O(1) to add; read() looks at every event behind the cursor until
/// it has enough.
class KvEventLog {
 public:
  /// Largest number of chunks in one removal.
  static constexpr std::size_t kHashesMax = 1024;
  static constexpr std::size_t kBytesMax = std::size_t{256} << 20;
  /// Largest size of one reading, except for one event.
  static constexpr std::size_t kReadingBytesMax = std::size_t{1} << 20;

  /// `events_max` above 0.
  explicit KvEventLog(std::size_t events_max) : events_max_(events_max) {}

  /// `before`: the hash of the chunk before it; null: it is the first of a prompt.
  void add_stored(std::string_view model, const wire::ChunkHash& hash,
                  const wire::ChunkHash* before, std::vector<std::uint32_t> token_ids);
  /// Chunks of one model that go one after another are one event, unless it was read already.
  void add_removed(std::string_view model, const wire::ChunkHash& hash);

  struct Reading {
    std::uint64_t next_cursor = 0;
    bool is_lost = false;                 ///< The ring has not all that came after the cursor.
    std::vector<wire::KvEvent> events{};  ///< Views into the log; valid until the next add.
  };
  /// Events of the model after `cursor`, at most `events_max`.
  Reading read(std::string_view model, std::uint64_t cursor, std::size_t events_max);

  std::uint64_t last() const noexcept { return next_ - 1; }  ///< The newest event's number.
  std::size_t size() const noexcept { return events_.size(); }
  std::size_t events_max() const noexcept { return events_max_; }

 private:
  struct Event {
    std::uint64_t sequence = 0;
    bool is_stored = false;
    std::string model{};
    std::vector<wire::ChunkHash> hashes{};
    std::optional<wire::ChunkHash> before{};
    std::vector<std::uint32_t> token_ids{};

    wire::KvEvent view() const noexcept;
    std::size_t bytes() const noexcept;
  };

  void add(Event event);

  std::size_t events_max_;
  std::deque<Event> events_;
  std::size_t bytes_ = 0;
  std::uint64_t next_ = 1;
  std::uint64_t read_ = 0;  ///< The newest event that some reading had.
};

}  // namespace larder::server
