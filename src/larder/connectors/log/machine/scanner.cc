#include "larder/connectors/log/machine/scanner.h"

#include <utility>

namespace larder::log_store {

void Scanner::turn() noexcept {
  while (!tasks_.empty()) {
    ScanTask& task = *tasks_.front();
    const auto segment = state_.segments.oldest_from(task.from.words[0]);
    if (!segment) {
      page_.done = true;
      end(task);
      continue;
    }
    const std::uint64_t generation = state_.segments.at(*segment).generation;
    if (generation != task.from.words[0]) task.from = {.words = {generation, 0}};
    if (!fetch_table(task)) return;
    if (fill(task)) end(task);
  }
}

/// True when table_ is the one under the task's cursor.
bool Scanner::fetch_table(const ScanTask& task) noexcept {
  const std::uint64_t generation = task.from.words[0];
  const std::uint32_t segment = *state_.segments.oldest_from(generation);
  if (is_reading_) {
    auto table = reader_.take();
    if (!table) return false;
    is_reading_ = false;
    table_ = *table ? std::move(**table) : Table{};  // What cannot be read cannot be listed.
    return true;
  }
  const bool is_fresh =
      is_table_complete_ && table_of_ == segment && table_generation_ == generation;
  if (is_fresh) return true;
  table_of_ = segment;
  table_generation_ = generation;
  // One in memory grows until the segment is sealed.
  is_table_complete_ = state_.segments.at(segment).table == nullptr;
  is_reading_ = true;
  reader_.start(segment);
  return fetch_table(task);
}

/// Adds keys from table_ to the page; true when the page is full.
bool Scanner::fill(ScanTask& task) {
  std::size_t key_at = 0;
  for (const TableEntry& line : table_.entries) {
    const std::size_t this_key_at = key_at;
    key_at += line.key_bytes;
    if (line.kind == RecordKind::kTombstones || line.grain < task.from.words[1]) continue;
    if (page_.entries.size() == task.keys_max) {
      task.from.words[1] = line.grain;
      return true;
    }
    const auto entry =
        state_.index.find({.low = line.fingerprint_low, .high = line.fingerprint_high});
    const Location location{.segment = *table_of_, .grain = line.grain};
    if (!entry || entry->location != location) continue;
    page_.entries.push_back(
        {.key = table_.keys.substr(this_key_at, line.key_bytes), .value_bytes = line.value_bytes});
  }
  task.from = {.words = {table_generation_ + 1, 0}};
  return false;
}

void Scanner::end(ScanTask& task) noexcept {
  tasks_.pop_front();
  page_.next = task.from;
  if (page_.done) table_ = {}, table_of_.reset();
  task.page = std::exchange(page_, {});
  task.on_done(task);
}

void Scanner::stop() noexcept {
  while (!tasks_.empty()) {
    ScanTask& task = *tasks_.front();
    tasks_.pop_front();
    task.on_done(task);
  }
}

}  // namespace larder::log_store
