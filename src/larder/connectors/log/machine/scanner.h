#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "larder/connector/report.h"
#include "larder/connectors/log/machine/table_reader.h"

namespace larder::log_store {

/// A requested page of keys.
struct ScanTask {
  ScanCursor from;
  std::size_t keys_max = 0;
  Result<ScanPage> page = Error{ErrorCode::kCancelled, "log", "the store was stopped"};
  void (*on_done)(ScanTask& task) noexcept = nullptr;  ///< Called in the path's thread.
  void* user_data = nullptr;
};

/// Lists keys in order of place: oldest generation first. The cursor is a place, so that a scan
/// continues where it was whatever happened meanwhile; a record that moves, moves ahead of the
/// cursor.
///
/// Threads: the path's one.
class Scanner {
 public:
  explicit Scanner(PathState& state) : state_(state), reader_(state) {}

  void start(ScanTask& task) { tasks_.push_back(&task); }
  void turn() noexcept;
  /// Ends all tasks as cancelled.
  void stop() noexcept;
  bool is_quiet() const noexcept { return !reader_.is_busy(); }

 private:
  bool fetch_table(const ScanTask& task) noexcept;
  bool fill(ScanTask& task);
  void end(ScanTask& task) noexcept;

  PathState& state_;
  TableReader reader_;
  std::deque<ScanTask*> tasks_;
  ScanPage page_;
  Table table_;  ///< Of the segment under the cursor.
  std::optional<std::uint32_t> table_of_;
  std::uint64_t table_generation_ = 0;
  bool is_table_complete_ = false;  ///< table_ is that of a sealed segment.
  bool is_reading_ = false;
};

}  // namespace larder::log_store
