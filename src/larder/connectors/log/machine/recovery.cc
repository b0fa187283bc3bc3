#include "larder/connectors/log/machine/recovery.h"

#include <algorithm>
#include <cerrno>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "larder/base/size_text.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {
namespace {

constexpr std::uint32_t kFreeAfterOpen = 2;
constexpr std::size_t kPrefetchAhead = 24;

bool is_zero(std::span<const std::byte> bytes) noexcept {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

Fingerprint fingerprint_of_entry(const TableEntry& entry) noexcept {
  return {.low = entry.fingerprint_low, .high = entry.fingerprint_high};
}

/// The file exists and is readable apart from permissions or attributes.
bool is_forbidden(const Error& error) noexcept {
  return error.sys_errno() == EACCES || error.sys_errno() == EPERM || error.sys_errno() == EROFS ||
         error.sys_errno() == ETXTBSY;
}

}  // namespace

// --- Files and headers --------------------------------------------------------------------------

SetupResult<std::uint64_t> Recovery::survey(const std::vector<io::FileInfo>& files) {
  auto buffer = AlignedBuffer::create(state_.options.io_bytes, state_.grain_bytes());
  if (!buffer) return SetupError{buffer.error().code(), "no memory to open the store"};
  scan_buffer_ = std::move(*buffer);
  buffer = AlignedBuffer::create(state_.grain_bytes(), state_.grain_bytes());
  if (!buffer) return SetupError{buffer.error().code(), "no memory to open the store"};
  trailer_buffer_ = std::move(*buffer);
  for (const io::FileInfo& file : files) {
    const auto number = segment_of_file_name(file.name);
    if (number && *number < state_.segments.count()) {
      if (file.is_regular) {
        LARDER_TRY(open_segment(*number, file.allocated_bytes));
      } else {
        leave_out(*number, "not a regular file");
      }
    } else if (file.name != kSuperblockFileName && !is_harmless_file_name(file.name)) {
      state_.health.note_flaw("the directory holds '" + printable(file.name) +
                              "', which is not larder's and counts for no limit");
    }
  }
  std::uint64_t newest = 0;
  for (Found& one : found_) {
    newest = std::max(newest, one.generation >> 32);
    const auto trailer = read_trailer(one.segment);
    if (!trailer) continue;
    newest = std::max(newest, trailer->open_count);
    one.table_entries = trailer->entry_count;
  }
  return newest;
}

SetupStatus Recovery::open_segment(std::uint32_t number, std::uint64_t allocated_bytes) {
  Segment& segment = state_.segments.at(number);
  const std::string name = segment_file_name(number);
  auto file = state_.directory.open(name, io::OpenMode::kExisting);
  if (!file && is_forbidden(file.error())) {
    const std::string why = file.error().to_string();
    file = state_.directory.open(name, io::OpenMode::kReadOnly);
    segment.needs_repair = file.has_value();
    if (file) {
      state_.health.set_condition(name, name + " can only be read (" + why +
                                            "): what it holds is served; make it writable for "
                                            "this user before its space is needed again");
    }
  }
  if (!file) return on_unreadable(number, file.error());
  segment.file = *file;
  state_.segments.set_has_file(number, true);
  const auto info = state_.directory.info(*file);
  const std::uint64_t bytes_wanted = state_.segments.geometry().segment_bytes;
  const bool was_short = info && info->bytes < bytes_wanted;
  if (was_short) grow_if_short(number);
  if (info && info->bytes > bytes_wanted) {
    state_.health.note_flaw(name + " is longer than a segment: what stands behind its end is not " +
                            "used, and counts for no limit");
  }
  const auto grain = scan_buffer_.span().first(state_.grain_bytes());
  if (const Status read = io_.read(*file, 0, grain); !read) {
    const ErrorCode code = read.error().code();
    if (code == ErrorCode::kUnavailable) {
      return SetupError{code, name + ": " + read.error().to_string()};
    }
    // A file that ends before its header is empty; another one may hold records.
    if (segment.needs_repair && code != ErrorCode::kCorruption) {
      return on_unreadable(number, read.error());
    }
    return set_aside(number, read.error());
  }
  const auto generation =
      decode_segment_header(grain, state_.superblock.path_id, number, state_.superblock.secret);
  if (!generation) {
    return is_zero(grain) ? free_first(number) : set_aside(number, generation.error());
  }
  if (was_short) {  // It had its whole length when its header was written.
    state_.health.note_flaw(name + " was cut short: what stood behind its end is gone");
  }
  state_.segments.note_found(number, *generation);
  found_.push_back({.segment = number,
                    .generation = *generation,
                    .readable_bytes = segment.needs_repair && info
                                          ? std::min(info->bytes, bytes_wanted)
                                          : bytes_wanted,
                    .allocated_bytes = allocated_bytes,
                    .table_entries = 0});
  return {};
}

/// Its records may be newer than those of the others, which may be the only proof that they are
/// not: no answer could be trusted.
SetupStatus Recovery::on_unreadable(std::uint32_t number, const Error& error) {
  if (error.sys_errno() == ENOENT) return {};  // Removed since the directory was listed.
  if (unreadable_ == Unreadable::kLeaveOut || is_broken(Rule::kRefuseUnread)) {
    leave_out(number, error.to_string());
    return {};
  }
  const bool is_limit = error.code() == ErrorCode::kResourceExhausted;
  return SetupError{
      error.code(),
      segment_file_name(number) + " cannot be opened: " + error.to_string() +
          (is_limit ? ": raise the limit of open files (ulimit -n) or of memory; a store has a "
                      "file open for each of its segments"
                    : ": make it readable for this user (chown, chmod), or remove it where that "
                      "is not possible. Without it older values could come back, so the store is "
                      "not opened")};
}

/// Not used in this run. It takes its share of the capacity all the same.
void Recovery::leave_out(std::uint32_t number, const std::string& why) {
  state_.segments.fail(number);
  state_.segments.set_has_file(number, true);
  state_.counters.segments_failed.add();
  state_.health.note_flaw(segment_file_name(number) + " cannot be opened: " + why);
}

/// Made by an owner that died before it was done, or cut short since.
void Recovery::grow_if_short(std::uint32_t number) {
  Segment& segment = state_.segments.at(number);
  const Status made =
      state_.directory.allocate(segment.file, state_.segments.geometry().segment_bytes);
  if (made || segment.needs_repair) return;
  segment.needs_repair = true;
  const std::string name = segment_file_name(number);
  state_.health.set_condition(
      name, name + " is too short and cannot grow: " + made.error().to_string() +
                ": what it holds is served; free some space before its own is needed again");
}

SetupStatus Recovery::set_aside(std::uint32_t number, const Error& why) {
  state_.segments.at(number).was_set_aside = true;
  state_.counters.segments_set_aside.add();
  state_.health.note_flaw(segment_file_name(number) + " was set aside: " + why.to_string() +
                          "; nothing in it is served, its space is used again");
  return free_first(number);
}

/// Nothing in it can ever be admitted again. A segment that cannot be written stays as it is, and
/// unused in this run; but its content must be durable: a killed owner's header over older records.
SetupStatus Recovery::free_first(std::uint32_t number) {
  Segment& segment = state_.segments.at(number);
  if (!segment.needs_repair) {
    state_.segments.put_back(number);
    return {};
  }
  if (const Status synced = io_.sync(segment.file); !synced) {
    return SetupError{synced.error().code(),
                      segment_file_name(number) +
                          " can only be read, and not be synced: " + synced.error().to_string()};
  }
  state_.segments.fail(number);
  state_.counters.segments_failed.add();
  return {};
}

SetupResult<Recovery::Outcome> Recovery::run(bool was_clean, std::uint64_t previous_open_count) {
  was_clean_ = was_clean;
  previous_open_count_ = previous_open_count;
  std::ranges::sort(found_, {}, &Found::generation);  // L3: later places win by coming later.
  if (is_broken(Rule::kRecoverInOrder)) std::ranges::sort(found_, {}, &Found::segment);
  // Loading the index is several times as fast when it does not grow meanwhile.
  std::uint64_t entries = 0;
  for (const Found& one : found_) {
    if (can_hold_entries(one, one.table_entries)) entries += one.table_entries;
  }
  state_.index.reserve(entries);
  for (const Found& one : found_) LARDER_TRY(recover(one));
  state_.index.reserve(0);
  Outcome outcome;
  outcome.head = choose_head();
  if (!is_broken(Rule::kOpenFreesTwo) && !state_.is_frozen) make_room();
  scan_buffer_ = {};
  return outcome;
}

/// Logs the loss where the capacity is smaller than before.
void Recovery::make_room() {
  const bool is_over = state_.segments.files_count() > state_.segments.files_max();
  const std::uint64_t keys = state_.index.keys();
  const std::uint64_t bytes = state_.segments.live_bytes();
  evict_until_two_are_free();
  if (!is_over || state_.index.keys() == keys) return;
  state_.health.note_remark(
      "capacity=" + format_bytes_exact(state_.options.capacity_bytes) +
      " is less than what the store held: " + format_count(keys - state_.index.keys(), "key") +
      " of " + std::to_string(keys) + " went at open, the oldest, and " +
      format_bytes(bytes - state_.segments.live_bytes()) + " with them");
}

// --- Tables -------------------------------------------------------------------------------------

SetupStatus Recovery::recover(const Found& found) {
  const std::uint32_t number = found.segment;
  Segment& segment = state_.segments.at(number);
  state_.segments.note_newest(segment.generation);
  auto table = read_table(found, false);
  if (table && table->trailer.kind == TableKind::kCheckpoint) {
    const bool counts = (was_clean_ && table->trailer.open_count == previous_open_count_) ||
                        is_broken(Rule::kAppendOnlyAfterCleanEnd);
    if (counts && table->entries.empty()) {  // It was ready, and nothing was appended.
      return free_first(number);
    }
    if (counts) {
      table = read_table(found, true);  // Its table will be written again.
    } else {
      table = Error{ErrorCode::kCorruption, "log", "an old checkpoint"};
    }
  }
  const std::uint64_t owner = segment.generation >> 32;
  segment.is_unproven = !table || table->trailer.open_count != owner;
  if (is_broken(Rule::kRecoveredIsUnproven)) segment.is_unproven = false;
  if (table) {
    segment.append_offset = table->trailer.append_offset;
    admit_table(number, *table);
    if (table->trailer.kind == TableKind::kCheckpoint) {
      keep_table(number, *table);
      state_.segments.reopen(number);
    }
    return {};
  }
  if (is_broken(Rule::kScanWithoutTable)) {
    state_.segments.put_back(number);
    return {};
  }
  segment.table = std::make_unique<TableBuilder>();
  segment.append_offset = state_.grain_bytes();
  const Status scanned = scan_segment(found);
  if (!scanned) {
    // It will not be overwritten first, and the next open may find records that this one did not.
    if (segment.needs_repair) return on_unreadable(number, scanned.error());
    state_.health.note_flaw(segment_file_name(number) +
                            " could not be read to its end: " + scanned.error().to_string());
  }
  if (segment.table->entry_count() == 0) {
    segment.table.reset();
    return free_first(number);
  }
  make_durable(number);
  return {};
}

/// The segment that a clean close left open, so that short sessions share one. It must be where the
/// log ends (L3): only segments without a record, as the one that was ready, may come behind it.
std::optional<std::uint32_t> Recovery::choose_head() {
  std::optional<std::uint32_t> head;
  bool is_end = true;
  for (auto one = found_.rbegin(); one != found_.rend(); ++one) {
    const Segment& segment = state_.segments.at(one->segment);
    if (segment.state() == SegmentState::kFree || segment.state() == SegmentState::kFailed) {
      continue;
    }
    if (segment.state() == SegmentState::kOpen) {
      if (is_end && !segment.needs_repair) {
        head = one->segment;
      } else {
        state_.segments.note_sealed(one->segment);
      }
    }
    is_end = false;
  }
  return head;
}

Result<TableTrailer> Recovery::read_trailer(std::uint32_t number) {
  const Geometry& geometry = state_.segments.geometry();
  const auto grain = trailer_buffer_.span();
  LARDER_TRY(io_.read(state_.segments.at(number).file,
                      geometry.segment_bytes - geometry.grain_bytes, grain));
  return decode_table_trailer(grain, state_.identity(number), geometry.segment_bytes,
                              geometry.grain_bytes, state_.superblock.secret);
}

/// Whether a table with so many entries can be in its file: a hostile one has holes, and a count
/// without data must not reserve memory. The factor is for file systems that compress.
bool Recovery::can_hold_entries(const Found& found, std::uint64_t entries) {
  constexpr std::uint64_t kCompressedAtMost = 16;
  constexpr std::uint64_t kFewEntries = 32'768;  // 1 MiB: whatever the blocks say.
  return entries <= kFewEntries ||
         entries / kCompressedAtMost <= found.allocated_bytes / kTableEntryBytes;
}

Result<Table> Recovery::read_table(const Found& found, bool with_keys) {
  const Geometry& geometry = state_.segments.geometry();
  const Segment& segment = state_.segments.at(found.segment);
  LARDER_ASSIGN(const TableTrailer trailer, read_trailer(found.segment));
  if (!can_hold_entries(found, trailer.entry_count)) {
    return Error{ErrorCode::kCorruption, "log", "the file is too small for its table"};
  }
  const std::uint64_t bytes =
      with_keys ? geometry.segment_bytes - geometry.grain_bytes - trailer.entries_offset
                : round_up(trailer.entry_count * kTableEntryBytes, geometry.grain_bytes);
  LARDER_ASSIGN(AlignedBuffer body, AlignedBuffer::create(bytes, geometry.grain_bytes));
  if (bytes > 0) LARDER_TRY(io_.read(segment.file, trailer.entries_offset, body.span()));
  return decode_table(trailer, body.span(), with_keys, geometry, state_.superblock.secret);
}

void Recovery::admit_table(std::uint32_t number, const Table& table) {
  for (std::size_t i = 0; i < table.entries.size(); ++i) {
    if (i + kPrefetchAhead < table.entries.size()) {
      state_.index.prefetch(fingerprint_of_entry(table.entries[i + kPrefetchAhead]));
    }
    admit(number, table.entries[i]);
  }
}

void Recovery::admit(std::uint32_t number, const TableEntry& entry) {
  const Fingerprint fingerprint = fingerprint_of_entry(entry);
  const auto present = state_.index.find(fingerprint);
  if (entry.kind == RecordKind::kTombstones) {
    ++state_.segments.at(number).tombstones;
    if (present) state_.forget(fingerprint, present->location);
    return;
  }
  const bool is_packed = entry.kind == RecordKind::kPack;
  const IndexEntry admitted{.location = {.segment = number, .grain = entry.grain},
                            .value_bytes = entry.value_bytes,
                            .is_packed = is_packed,
                            .tag = is_packed ? entry.fingerprint_high : 0};
  bool is_assigned = state_.index.assign(fingerprint, admitted);
  if (!is_assigned) {
    state_.health.set_condition("index",
                                "index_bytes is too small for what is stored; some of it "
                                "is not served");
  }
  while (!is_assigned && evict_oldest_before(number)) {
    is_assigned = state_.index.assign(fingerprint, admitted);
  }
  if (!is_assigned) {
    // It outranks older records of its key all the same, so its segment must not go before theirs.
    if (!is_broken(Rule::kUnindexedOutranks)) ++state_.segments.at(number).tombstones;
    ++state_.segments.at(number).strays;
    return;
  }
  if (present) {
    state_.segments.remove_live(*present);
    if (!is_broken(Rule::kReplacerOutranks)) ++state_.segments.at(number).outranks;
  }
  state_.segments.add_live(admitted);
  state_.counters.recovered_records.add();
}

/// Makes room in a full index: newer entries are worth more. False when nothing older is left.
bool Recovery::evict_oldest_before(std::uint32_t number) {
  const std::uint64_t end = state_.segments.at(number).generation;
  for (const Found& one : found_) {  // In order of generation.
    Segment& segment = state_.segments.at(one.segment);
    if (one.generation >= end) return false;
    if (segment.live_records == 0) continue;
    // As in admit(): they still outrank older ones.
    if (!is_broken(Rule::kUnindexedOutranks)) segment.tombstones += segment.live_records;
    segment.strays += segment.live_records;
    evict(one);
    return true;
  }
  return false;
}

/// Takes the segment's records out of the index.
void Recovery::evict(const Found& found) {
  Segment& segment = state_.segments.at(found.segment);
  const auto forget = [&](const TableEntry& entry) {
    if (entry.kind == RecordKind::kTombstones) return;
    state_.forget(fingerprint_of_entry(entry), {.segment = found.segment, .grain = entry.grain});
  };
  if (segment.table != nullptr) {
    segment.table->for_each([&](const TableEntry& entry, std::string_view) { forget(entry); });
  } else if (const auto table = read_table(found, false)) {
    for (const TableEntry& entry : table->entries) forget(entry);
  }
  if (segment.live_records == 0) return;
  // It cannot be read any more. The index can tell, by a walk over all of it.
  state_.counters.index_walks_total.add();
  for (const auto& [fingerprint, entry] : state_.index.entries_in(found.segment)) {
    state_.forget(fingerprint, entry.location);
  }
}

void Recovery::keep_table(std::uint32_t number, const Table& table) {
  auto builder = std::make_unique<TableBuilder>();
  builder->reserve(table.entries.size(), table.trailer.keys_bytes);
  std::size_t key_at = 0;
  for (const TableEntry& entry : table.entries) {
    if (!table.keys.empty()) {
      builder->add(entry, std::string_view{table.keys}.substr(key_at, entry.key_bytes));
    }
    key_at += entry.key_bytes;
  }
  if (!table.keys.empty()) state_.segments.at(number).table = std::move(builder);
}

// --- Scanning -----------------------------------------------------------------------------------

/// Looks at every grain outside admitted records.
Status Recovery::scan_segment(const Found& found) {
  const std::uint32_t number = found.segment;
  const std::uint32_t grain = state_.grain_bytes();
  const std::uint64_t end = found.readable_bytes / grain * grain;
  std::uint64_t offset = grain;
  while (offset < end) {
    const auto chunk =
        scan_buffer_.span().first(std::min<std::uint64_t>(scan_buffer_.size(), end - offset));
    LARDER_TRY(io_.read(state_.segments.at(number).file, offset, chunk));
    std::uint64_t at = 0;
    while (at < chunk.size()) {
      const auto rest = chunk.subspan(at);
      at += looks_like_record_header(rest) ? scan_record(number, offset + at, rest) : grain;
      const bool is_hole = offset + at != state_.segments.at(number).append_offset;
      if (is_broken(Rule::kScanEveryGrain) && is_hole) return {};
    }
    offset += at;
  }
  return {};
}

/// Admits the record at `offset` if it is whole. Returns how many bytes are dealt with.
std::uint64_t Recovery::scan_record(std::uint32_t number, std::uint64_t offset,
                                    std::span<const std::byte> chunk) {
  const std::uint32_t grain = state_.grain_bytes();
  const auto header = decode_record_header(chunk.first(grain), state_.identity(number), offset,
                                           state_.superblock.secret);
  if (!header) return grain;
  Segment& segment = state_.segments.at(number);
  if (header->kind == RecordKind::kPack) return scan_pack(number, offset, *header, chunk);
  TableEntry entry;
  entry.grain = static_cast<std::uint32_t>(offset / grain);
  entry.kind = header->kind;
  entry.wall_seconds = static_cast<std::uint32_t>(header->wall_seconds);
  const auto add = [&](std::span<const std::byte> key) {
    const Fingerprint fingerprint = state_.fingerprint(key);
    entry.fingerprint_low = fingerprint.low;
    entry.fingerprint_high = fingerprint.high;
    entry.key_bytes = static_cast<std::uint16_t>(key.size());
    admit_scanned(number, entry, as_text(key));
  };
  if (header->kind == RecordKind::kTombstones) {
    for_each_tombstone(
        header->payload,
        [](void* context, std::span<const std::byte> key) {
          (*static_cast<decltype(add)*>(context))(key);
        },
        const_cast<void*>(static_cast<const void*>(&add)))
        .ignore("what stands before the flaw was admitted, and the MAC held for all of it");
    segment.append_offset = offset + grain;
    return grain;
  }
  const std::uint64_t bytes = record_bytes(header->value_bytes, grain);
  const std::uint64_t end = state_.segments.geometry().segment_bytes;
  if (header->value_bytes > end || offset + bytes > end || header->payload.empty()) return grain;
  // The header may be on the disk before its value: a torn record does not count.
  if (!value_holds(number, offset + grain, chunk.subspan(grain), header->value_bytes,
                   header->checksum)) {
    return grain;
  }
  entry.value_bytes = static_cast<std::uint32_t>(header->value_bytes);
  add(header->payload);
  segment.append_offset = offset + bytes;
  return bytes;
}

/// An entry that no table told of.
void Recovery::admit_scanned(std::uint32_t number, const TableEntry& entry, std::string_view key) {
  TableBuilder& table = *state_.segments.at(number).table;
  table.reserve(1, key.size());
  table.add(entry, key);
  admit(number, entry);
  state_.counters.recovered_by_scan.add();
}

/// The same for a pack: each of its values counts by itself.
std::uint64_t Recovery::scan_pack(std::uint32_t number, std::uint64_t offset,
                                  const RecordHeader& header, std::span<const std::byte> chunk) {
  const std::uint32_t grain = state_.grain_bytes();
  const std::uint64_t room = state_.segments.geometry().segment_bytes - offset - grain;
  const auto values = packed_values(header.payload);
  if (!values || values->empty()) return grain;
  std::uint64_t bytes = 0;
  for (const PackedValue& value : *values) bytes += round_up(value.value_bytes, grain);
  if (bytes != header.value_bytes || bytes > room) return grain;
  bool are_all_whole = true;
  std::uint64_t at = grain;
  for (const PackedValue& value : *values) {
    const std::uint64_t value_at = offset + at;
    const bool is_whole =
        value_holds(number, value_at, chunk.subspan(std::min<std::uint64_t>(at, chunk.size())),
                    value.value_bytes, value.checksum);
    at += round_up(value.value_bytes, grain);
    are_all_whole = are_all_whole && is_whole;
    if (!is_whole) continue;
    const TableEntry entry{.fingerprint_low = state_.fingerprint(value.key).low,
                           .fingerprint_high = value_tag(value, state_.identity(number), value_at,
                                                         state_.superblock.secret),
                           .grain = static_cast<std::uint32_t>(value_at / grain),
                           .value_bytes = value.value_bytes,
                           .wall_seconds = static_cast<std::uint32_t>(header.wall_seconds),
                           .key_bytes = static_cast<std::uint16_t>(value.key.size()),
                           .kind = RecordKind::kPack};
    admit_scanned(number, entry, as_text(value.key));
    state_.segments.at(number).append_offset = offset + at;
  }
  return are_all_whole ? at : grain;
}

/// Whether the value at `offset` is on the disk as its header says; `chunk`: what is read of it.
bool Recovery::value_holds(std::uint32_t number, std::uint64_t offset,
                           std::span<const std::byte> chunk, std::uint64_t value_bytes,
                           const Hash128& checksum) {
  if (is_broken(Rule::kScanVerifiesValues)) return true;
  if (value_bytes <= chunk.size()) return hash128(chunk.first(value_bytes)) == checksum;
  const auto found = checksum_at(number, offset, value_bytes);
  return found && *found == checksum;
}

/// Of a value that is longer than the rest of the scan buffer, by a buffer of its own.
Result<Hash128> Recovery::checksum_at(std::uint32_t number, std::uint64_t offset,
                                      std::uint64_t value_bytes) {
  const std::uint32_t grain = state_.grain_bytes();
  LARDER_ASSIGN(AlignedBuffer buffer, AlignedBuffer::create(state_.options.io_bytes, grain));
  StreamingHash128 hash;
  for (std::uint64_t at = 0; at < value_bytes;) {
    const std::uint64_t bytes = std::min<std::uint64_t>(buffer.size(), value_bytes - at);
    LARDER_TRY(io_.read(state_.segments.at(number).file, offset + at,
                        buffer.span().first(round_up(bytes, grain))));
    hash.update(buffer.span().first(bytes));
    at += bytes;
  }
  return hash.digest();
}

/// A killed owner's records may not be durable. Once they are, a table makes the next open fast,
/// where the segment can be written.
void Recovery::make_durable(std::uint32_t number) {
  Segment& segment = state_.segments.at(number);
  const Geometry& geometry = state_.segments.geometry();
  if (!io_.sync(segment.file)) {
    segment.sync_failed = !is_broken(Rule::kFailedSyncAtOpen);  // L13.
    return;
  }
  if (segment.needs_repair || state_.is_frozen) return;
  auto bytes = segment.table->encode(TableKind::kSealed, state_.identity(number),
                                     state_.superblock.open_count, segment.append_offset, geometry,
                                     state_.superblock.secret);
  if (!bytes || segment.append_offset + bytes->size() > geometry.segment_bytes) return;
  if (!io_.write(segment.file, geometry.segment_bytes - bytes->size(), bytes->span())) return;
  if (!io_.sync(segment.file)) return;
  segment.table.reset();
}

// --- Room ---------------------------------------------------------------------------------------

void Recovery::evict_until_two_are_free() {
  Segments& segments = state_.segments;
  const auto too_few = [&] {
    return segments.free_count() + segments.absent_count() < kFreeAfterOpen;
  };
  bool may_remove = true;
  const auto has_too_many = [&] {
    return may_remove && segments.files_count() > segments.files_max();
  };
  while (too_few() || has_too_many()) {
    if (has_too_many() && segments.free_count() > 0) {
      const std::uint32_t number = *segments.next_free();
      const std::string name = segment_file_name(number);
      segments.begin_removal(number);
      Status gone = state_.directory.remove(name);
      const bool is_removed = gone.has_value();
      if (is_removed) state_.directory.close(segments.at(number).file);
      segments.end_removal(number, is_removed);
      // Before the next one is removed: a power cut may bring back the earlier of two files and not
      // the later one (L9).
      if (is_removed && !is_broken(Rule::kSyncRemovals)) gone = state_.directory.sync_directory();
      if (gone) continue;
      state_.health.note_flaw("cannot remove " + name + " for good, so the store may take more " +
                              "than its capacity: " + gone.error().to_string());
      may_remove = false;  // Room is made all the same; it is used after a sync of the directory.
      continue;
    }
    const auto oldest = segments.oldest();
    if (!oldest || segments.at(*oldest).state() != SegmentState::kSealed) return;
    if (segments.at(*oldest).needs_repair) return;  // It cannot be overwritten.
    evict(*std::ranges::find(found_, *oldest, &Found::segment));
    segments.push_free(*oldest);
  }
}

}  // namespace larder::log_store
