#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "larder/connectors/log/blocking_io.h"
#include "larder/connectors/log/path_state.h"

namespace larder::log_store {

/// Rebuilds index and segments from what is on the disk (L12): tables where segments were sealed,
/// every grain outside admitted records where they were not, values verified there.
///
/// Runs once, before anything else uses the path. Reads much, writes only tables that are missing.
class Recovery {
 public:
  /// `was_clean`, `previous_open_count`: of the superblock as it was found.
  Recovery(PathState& state, bool was_clean, std::uint64_t previous_open_count)
      : state_(state),
        io_(state.device, state.clock, state.options.opening_steps),
        was_clean_(was_clean),
        previous_open_count_(previous_open_count) {}

  struct Outcome {
    std::optional<std::uint32_t> head;  ///< A segment that a clean close left open for more.
  };
  SetupResult<Outcome> run(const std::vector<io::FileInfo>& files);

 private:
  struct Found {
    std::uint32_t segment = 0;
    std::uint64_t generation = 0;
  };

  SetupStatus open_segments(const std::vector<io::FileInfo>& files, std::vector<Found>& found);
  SetupStatus open_segment(std::uint32_t number, std::vector<Found>& found);
  void recover(std::uint32_t number);
  std::optional<std::uint32_t> choose_head(const std::vector<Found>& found);
  Result<TableTrailer> read_trailer(std::uint32_t number);
  Result<Table> read_table(std::uint32_t number, bool with_keys);
  void admit_table(std::uint32_t number, const Table& table);
  void admit(std::uint32_t number, const TableEntry& entry);
  bool evict_oldest_before(std::uint32_t number);
  void keep_table(std::uint32_t number, const Table& table);
  Status scan_segment(std::uint32_t number);
  std::uint64_t scan_record(std::uint32_t number, std::uint64_t offset,
                            std::span<const std::byte> chunk);
  Result<bool> value_holds(std::uint32_t number, std::uint64_t offset, const RecordHeader& header);
  void write_missing_table(std::uint32_t number);
  void evict_until_two_are_free();

  PathState& state_;
  BlockingIo io_;
  const bool was_clean_;
  const std::uint64_t previous_open_count_;
  AlignedBuffer scan_buffer_;
};

}  // namespace larder::log_store
