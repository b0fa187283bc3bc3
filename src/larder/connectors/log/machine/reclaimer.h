#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/connectors/log/machine/appender.h"
#include "larder/connectors/log/machine/loads.h"
#include "larder/connectors/log/machine/table_reader.h"

namespace larder::log_store {

/// Makes segments free again (L6 to L10): drops a segment's records, except the worthiest, which
/// move to the head, up to half a segment and only while two segments are free. A segment without
/// live records is freed wherever it is.
///
/// Which: the one whose records are worth least (UseLedger), if L7 lets it go before older ones,
///   else the oldest. Kept records: those above the ledger's threshold, the worthiest first, as far
///   as the budget for writes allows: a fifth of the bytes that callers store, and more if they
///   store existing values. Until the ledger has data it is a clock over segments: the oldest is
///   emptied, and records that were read since they were written are kept.
/// How many segments it keeps free follows the load: more after a shortage, one fewer after a turn
///   of the ring without one.
/// Threads: the path's one.
class Reclaimer final : public LoadSink, public StoreSink {
 public:
  Reclaimer(PathState& state, Loads& loads, Appender& appender);

  /// Begins when free segments run short, and continues the current one.
  void turn() noexcept;
  /// Empties one more segment although enough are free: the index is full.
  void request_early() noexcept { is_requested_ = true; }
  /// Begins and moves nothing more.
  void stop() noexcept { is_stopping_ = true; }
  bool is_reclaiming() const noexcept { return victim_.has_value(); }
  /// A caller stored so many bytes, or (`is_written` false) found them there.
  void note_stored(std::uint64_t bytes, bool is_written) noexcept;
  /// admission=learned, and there is something to go by: the ring is full, and the ledger knows.
  bool admits_by_worth() const noexcept {
    return state_.options.admission == AdmissionMode::kLearned && has_reclaimed_ &&
           state_.ledger.knows();
  }
  bool is_quiet() const noexcept;

  void on_load(LoadTask& task) noexcept override;
  void on_store(StoreTask& task) noexcept override;
  void on_delete(DeleteTask& task) noexcept override;
  bool on_written(StoreTask& task) noexcept override;

 private:
  /// Reclaim begins below this many free segments, or more where that was too late.
  static constexpr std::uint32_t kFreeWantedMin = 3;

  /// One record on its way to the head.
  struct Move {
    LoadTask load;
    StoreTask store;
    Slice slice;
    std::string key;
    std::span<std::byte> memory;
    Location source;
    bool waits_for_head = false;
    bool is_free = true;
  };
  /// The table of a segment that is reclaimed now or soon.
  struct TableRead {
    TableRead(PathState& state, std::uint32_t segment_number);

    std::uint32_t segment;
    std::uint64_t generation;
    TableReader reader;
  };
  struct Candidate {
    Fingerprint fingerprint;
    Location source;
    std::uint32_t value_bytes = 0;
    double worth = 0;
    std::uint64_t key_at = 0;
    std::uint16_t key_bytes = 0;
    bool is_retained = false;
  };

  void begin() noexcept;
  bool knows_worth() const noexcept {
    return state_.options.eviction == EvictionOrder::kWorth && state_.ledger.knows();
  }
  void drop_expired_retentions() noexcept;
  std::vector<std::uint32_t> next_victims() const;
  bool repair(std::uint32_t segment) noexcept;
  void read_ahead(std::span<const std::uint32_t> next) noexcept;
  void on_table() noexcept;
  void choose(const Table& table) noexcept;
  void drop(const Fingerprint& fingerprint, Location location, std::string_view key) noexcept;
  void start_moves() noexcept;
  bool start_move(const Candidate& candidate) noexcept;
  void start_append(Move& move) noexcept;
  void end(Move& move) noexcept;
  bool may_move() const noexcept;
  void finish() noexcept;
  std::uint32_t free_wanted_max() const noexcept;
  void adapt() noexcept;

  PathState& state_;
  Loads& loads_;
  Appender& appender_;
  std::optional<std::uint32_t> victim_;
  std::unique_ptr<TableRead> read_;  ///< Of the victim.
  /// For the segments after it: on a busy disk reading a table takes longer than filling a segment.
  std::vector<std::unique_ptr<TableRead>> reads_ahead_;
  bool has_table_ = false;
  bool is_requested_ = false;
  bool is_stopping_ = false;
  bool has_reclaimed_ = false;
  double moves_allowed_ = 0;  ///< Bytes of records that may still be moved.
  std::uint32_t free_wanted_ = kFreeWantedMin;
  std::uint32_t free_lowest_ = UINT32_MAX;  ///< Seen while this victim was reclaimed.
  std::uint32_t reclaimed_in_plenty_ = 0;   ///< Victims in a row without a shortage.
  std::uint64_t repair_at_ns_ = 0;          ///< Not before.
  Table table_;
  std::vector<Candidate> candidates_;  ///< The worthiest last: taken from the back.
  std::vector<std::unique_ptr<Move>> moves_;
  std::uint32_t moves_in_flight_ = 0;
};

}  // namespace larder::log_store
