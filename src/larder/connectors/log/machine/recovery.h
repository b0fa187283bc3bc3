#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/connectors/log/machine/blocking_io.h"
#include "larder/connectors/log/machine/path_state.h"

namespace larder::log_store {

/// Rebuilds index and segments from the disk (L12): from tables of sealed segments; in others it
/// scans every grain outside admitted records, and verifies values.
///
/// Runs once, before anything else uses the path: survey() reads the headers and writes nothing, so
/// that the owner can choose its open count (L2); run() reads much, and writes only missing tables.
class Recovery {
 public:
  /// How to treat an existing segment that cannot be read: no permission, no descriptors. It may
  /// outrank the others, and be outranked by them, so that no answer about either could be trusted.
  enum class Unreadable : std::uint8_t {
    kRefuse = 0,  ///< survey() fails and names the remedy.
    kLeaveOut,    ///< For inspection: it counts as failed.
  };
  explicit Recovery(PathState& state, Unreadable unreadable = Unreadable::kRefuse)
      : state_(state),
        io_(state.queue, state.clock, state.options.opening_steps),
        unreadable_(unreadable) {}

  /// Opens every segment and reads its header and trailer. Returns the greatest open count that was
  /// found: if it is above the superblock's, that is older than the segments.
  SetupResult<std::uint64_t> survey(const std::vector<io::FileInfo>& files);

  struct Outcome {
    std::optional<std::uint32_t> head;  ///< A segment that a clean close left open for more.
  };
  /// `was_clean`, `previous_open_count`: of the superblock as it was found, and true of the
  /// segments.
  SetupResult<Outcome> run(bool was_clean, std::uint64_t previous_open_count);

 private:
  struct Found {
    std::uint32_t segment = 0;
    std::uint64_t generation = 0;
    std::uint64_t readable_bytes = 0;   ///< Of its file, at most a segment.
    std::uint64_t allocated_bytes = 0;  ///< Of its file.
    std::uint64_t table_entries = 0;    ///< From its trailer; 0 without one.
  };

  // Files and headers.
  SetupStatus open_segment(std::uint32_t number, std::uint64_t allocated_bytes);
  SetupStatus on_unreadable(std::uint32_t number, const Error& error);
  void leave_out(std::uint32_t number, const std::string& why);
  void grow_if_short(std::uint32_t number);
  SetupStatus set_aside(std::uint32_t number, const Error& why);
  SetupStatus free_first(std::uint32_t number);

  // Tables.
  SetupStatus recover(const Found& found);
  std::optional<std::uint32_t> choose_head();
  Result<TableTrailer> read_trailer(std::uint32_t number);
  static bool can_hold_entries(const Found& found, std::uint64_t entries);
  Result<Table> read_table(const Found& found, bool with_keys);
  void admit_table(std::uint32_t number, const Table& table);
  void admit(std::uint32_t number, const TableEntry& entry);
  void keep_table(std::uint32_t number, const Table& table);

  // Scanning.
  Status scan_segment(const Found& found);
  std::uint64_t scan_record(std::uint32_t number, std::uint64_t offset,
                            std::span<const std::byte> chunk);
  void admit_scanned(std::uint32_t number, const TableEntry& entry, std::string_view key);
  std::uint64_t scan_pack(std::uint32_t number, std::uint64_t offset, const RecordHeader& header,
                          std::span<const std::byte> chunk);
  bool value_holds(std::uint32_t number, std::uint64_t offset, std::span<const std::byte> chunk,
                   std::uint64_t value_bytes, const Hash128& checksum);
  Result<Hash128> checksum_at(std::uint32_t number, std::uint64_t offset,
                              std::uint64_t value_bytes);
  void make_durable(std::uint32_t number);

  // Room.
  bool evict_oldest_before(std::uint32_t number);
  void evict(const Found& found);
  void make_room();
  void evict_until_two_are_free();

  PathState& state_;
  BlockingIo io_;
  const Unreadable unreadable_;
  bool was_clean_ = false;
  std::uint64_t previous_open_count_ = 0;
  std::vector<Found> found_;
  AlignedBuffer scan_buffer_;
  /// One grain, because a scan that makes room in the index reads tables.
  AlignedBuffer trailer_buffer_;
};

}  // namespace larder::log_store
