#include "larder/connectors/log/offline/inspection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <set>
#include <utility>

#include "larder/base/key_text.h"
#include "larder/connectors/log/format/file_names.h"
#include "larder/connectors/log/machine/recovery.h"
#include "larder/connectors/log/machine/superblock_file.h"
#include "larder/connectors/log/offline/record_reader.h"

namespace larder::log_store {
namespace {

/// A killed owner's lock lasts as long as its I/O (L14).
constexpr std::uint64_t kLockWaitNs = 2'000'000'000;

std::string text_of(const Uuid& id) {
  std::string text;
  for (const std::uint8_t byte : id) {
    std::array<char, 3> hex{};
    std::snprintf(hex.data(), hex.size(), "%02x", byte);
    text += hex.data();
  }
  return text;
}

std::uint32_t count_files(const std::string& directory) {
  std::error_code error;
  std::uint32_t count = 0;
  for (auto at = std::filesystem::directory_iterator{directory, error};
       !error && at != std::filesystem::directory_iterator{} && count < kSegmentCountMax - 1;
       at.increment(error)) {
    ++count;
  }
  return count;
}

SetupResult<std::vector<io::FileInfo>> list(io::Directory& directory, const std::string& where) {
  auto files = directory.list();
  if (files) return std::move(*files);
  return SetupError{ErrorCode::kIo,
                    "log: " + where + ": cannot list the directory: " + files.error().to_string()};
}

/// Why there is no store to look at.
SetupError no_store(const std::string& directory, const std::vector<io::FileInfo>& files) {
  const auto foreign = std::ranges::find_if(
      files, [](const io::FileInfo& file) { return !is_harmless_file_name(file.name); });
  return {ErrorCode::kUnavailable,
          "log: " + directory + " holds no larder store: it " +
              (foreign == files.end()
                   ? std::string{"is empty"}
                   : "has no file 'superblock' (but '" + printable(foreign->name) + "')") +
              "; name the directory that stands in the store's spec, as in log:DIRECTORY?..."};
}

}  // namespace

std::string_view name_of(SegmentFinding finding) noexcept {
  switch (finding) {
    case SegmentFinding::kFree:
      return "free";
    case SegmentFinding::kSealed:
      return "sealed";
    case SegmentFinding::kOpen:
      return "open";
    case SegmentFinding::kScanned:
      return "scanned";
    case SegmentFinding::kSetAside:
      return "set_aside";
    case SegmentFinding::kFailed:
      return "failed";
  }
  return "unknown";
}

// --- Opening ------------------------------------------------------------------------------------

SetupResult<std::unique_ptr<Inspection>> Inspection::open(const std::string& directory) {
  std::unique_ptr<Inspection> inspection{new Inspection};  // The constructor is private.
  LARDER_TRY(inspection->load(directory));
  return inspection;
}

SetupStatus Inspection::load(const std::string& directory) {
  io::DeviceOptions options;
  options.directory = directory;
  options.read_only = true;
  options.files_max = count_files(directory) + 1;
  LARDER_ASSIGN(io::Device below, io::open_device(options));
  device_ = std::make_unique<DryRunDevice>(std::move(below));
  const Clock& clock = RealClock::instance();
  io_ = std::make_unique<BlockingIo>(*device_, clock);

  LARDER_ASSIGN(std::vector<io::FileInfo> files, list(*device_, directory));
  if (std::ranges::find(files, kSuperblockFileName, &io::FileInfo::name) == files.end()) {
    return no_store(directory, files);
  }
  SuperblockFile superblock_file{*device_, *device_, clock, directory};
  LARDER_ASSIGN(const Superblock superblock, superblock_file.open(kLockWaitNs));
  LARDER_ASSIGN(files, list(*device_, directory));  // As the lock's owner left them.
  check_superblock_copies(superblock_file.file());

  std::uint32_t numbers = 0;
  for (const io::FileInfo& file : files) {
    facts_.allocated_bytes += file.allocated_bytes;
    const auto number = segment_of_file_name(file.name);
    if (!number || *number >= kSegmentCountMax) continue;
    numbers = std::max(numbers, *number + 1);
    ++facts_.segment_files;
  }
  const Geometry geometry{.grain_bytes = superblock.grain_bytes,
                          .segment_count = superblock.segment_count,
                          .slot_bytes = superblock.slot_bytes,
                          .segment_bytes = superblock.segment_bytes};
  facts_.store_id = text_of(superblock.store_id);
  facts_.path_id = text_of(superblock.path_id);
  facts_.format_major = superblock.format_major;
  facts_.grain_bytes = superblock.grain_bytes;
  facts_.slot_bytes = superblock.slot_bytes;
  facts_.segment_bytes = superblock.segment_bytes;
  facts_.segment_count = superblock.segment_count;
  facts_.capacity_bytes = superblock.capacity_bytes != 0
                              ? superblock.capacity_bytes
                              : superblock.segment_count * superblock.slot_bytes;
  facts_.value_bytes_max = superblock.value_bytes_max;
  facts_.open_count = superblock.open_count;
  facts_.created_wall_seconds = superblock.created_wall_seconds;
  facts_.is_clean = superblock.is_clean;

  PathOptions path_options;
  path_options.value_bytes_max = kGrainBytesMin;  // No value passes through the path's own memory.
  LARDER_ASSIGN(PathMemory memory, PathMemory::create(path_options, geometry.grain_bytes));
  state_ = std::make_unique<PathState>(path_options, geometry, superblock, numbers,
                                       std::move(memory), *device_, *device_, clock, directory);
  Recovery recovery{*state_, Recovery::Unreadable::kLeaveOut};
  const auto prefixed = [&](const SetupError& error) {
    return SetupError{error.code, "log: " + directory + ": " + error.text};
  };
  LARDER_ASSIGN(const std::uint64_t newest, recovery.survey(files).map_error(prefixed));
  const bool is_clean = superblock.is_clean && newest <= superblock.open_count;
  LARDER_ASSIGN(std::ignore, recovery.run(is_clean, superblock.open_count).map_error(prefixed));
  facts_.knows_files = is_clean && superblock.segment_files > 0;
  std::string missing =
      missing_files_text(files, is_clean ? superblock.segment_files : 0, geometry);
  if (!missing.empty()) {
    damage_.push_back(
        {.segment = std::nullopt, .offset = 0, .key = {}, .what = std::move(missing)});
  }
  collect_damage();
  return {};
}

void Inspection::check_superblock_copies(io::FileId file) {
  auto grain = AlignedBuffer::create(kGrainBytesMin, kGrainBytesMin);
  if (!grain) return;
  for (const std::uint64_t offset : {std::uint64_t{0}, kSuperblockCopyStride}) {
    std::uint32_t major = 0;
    const Status read = io_->read(file, offset, grain->span());
    const auto copy = decode_superblock(grain->span(), major);
    if (read && copy) continue;
    const Error why = read ? copy.error() : read.error();
    damage_.push_back({.segment = std::nullopt,
                       .offset = offset,
                       .key = {},
                       .what = "one copy of the superblock, at " + std::to_string(offset) +
                               ", is damaged (" + why.to_string() +
                               "); the other one is intact, and the next open writes both"});
  }
}

void Inspection::collect_damage() {
  for (std::string& why : state_->health.snapshot().second) {
    damage_.push_back({.segment = std::nullopt, .offset = 0, .key = {}, .what = std::move(why)});
  }
  if (!facts_.is_clean) return;
  for (std::uint32_t i = 0; i < state_->segments.count(); ++i) {
    // Recovery could not write the table that it made from the grains.
    if (!state_->segments.at(i).sync_failed) continue;
    damage_.push_back({.segment = i,
                       .offset = 0,
                       .key = {},
                       .what = "it has no table that counts although the store was closed cleanly; "
                               "what is in it was found by reading all of it"});
  }
}

// --- Walking ------------------------------------------------------------------------------------

std::vector<std::uint32_t> Inspection::in_order() const {
  std::vector<std::uint32_t> order;
  for (auto segment = state_->segments.oldest(); segment;) {
    order.push_back(*segment);
    segment = state_->segments.oldest_from(state_->segments.at(*segment).generation + 1);
  }
  return order;
}

Result<Table> Inspection::table_of(std::uint32_t number, bool with_keys) {
  Segment& segment = state_->segments.at(number);
  if (segment.table != nullptr) {
    Table table;
    segment.table->for_each([&](const TableEntry& entry, std::string_view key) {
      table.entries.push_back(entry);
      table.keys += key;
    });
    return table;
  }
  const Geometry& geometry = state_->segments.geometry();
  const MacKey& secret = state_->superblock.secret;
  LARDER_ASSIGN(AlignedBuffer grain,
                AlignedBuffer::create(geometry.grain_bytes, geometry.grain_bytes));
  LARDER_TRY(io_->read(segment.file, geometry.segment_bytes - geometry.grain_bytes, grain.span()));
  LARDER_ASSIGN(const TableTrailer trailer,
                decode_table_trailer(grain.span(), state_->identity(number), geometry.segment_bytes,
                                     geometry.grain_bytes, secret));
  const std::uint64_t bytes =
      with_keys ? geometry.segment_bytes - geometry.grain_bytes - trailer.entries_offset
                : round_up(trailer.entry_count * kTableEntryBytes, geometry.grain_bytes);
  LARDER_ASSIGN(AlignedBuffer body, AlignedBuffer::create(bytes, geometry.grain_bytes));
  if (bytes > 0) LARDER_TRY(io_->read(segment.file, trailer.entries_offset, body.span()));
  return decode_table(trailer, body.span(), with_keys, geometry, secret);
}

/// Headers of packs of which a value lives.
std::uint64_t Inspection::live_pack_headers(std::uint32_t number, const Table& table) const {
  std::uint64_t headers = 0;
  std::uint64_t end = 0;  // Of the entry before, in grains: a header stands between two packs.
  bool is_counted = false;
  for (const TableEntry& line : table.entries) {
    if (line.grain != end) is_counted = false;
    const bool is_pack = line.kind == RecordKind::kPack;
    const bool is_value = line.kind != RecordKind::kTombstones;
    end =
        line.grain + record_bytes(is_value ? line.value_bytes : 0, facts_.grain_bytes, line.kind) /
                         facts_.grain_bytes;
    if (!is_pack || is_counted) continue;
    const auto entry = state_->index.find({.low = line.fingerprint_low});
    is_counted = entry && entry->location == Location{.segment = number, .grain = line.grain};
    headers += is_counted ? 1 : 0;
  }
  return headers;
}

std::vector<SegmentFacts> Inspection::segments() {
  std::vector<SegmentFacts> all;
  const auto add = [&](std::uint32_t number, SegmentFinding finding) {
    const Segment& segment = state_->segments.at(number);
    all.push_back({.segment = number,
                   .finding = finding,
                   .generation = segment.generation,
                   .records = 0,
                   .tombstones = segment.tombstones,
                   .live_records = segment.live_records,
                   .live_bytes = segment.live_bytes,
                   .appended_bytes = 0});
  };
  for (const std::uint32_t number : in_order()) {
    const Segment& segment = state_->segments.at(number);
    add(number, segment.state() == SegmentState::kOpen ? SegmentFinding::kOpen
                : segment.sync_failed                  ? SegmentFinding::kScanned
                                                       : SegmentFinding::kSealed);
    all.back().appended_bytes = segment.append_offset - facts_.grain_bytes;
    const auto table = table_of(number, false);
    if (!table) continue;
    all.back().records = static_cast<std::uint64_t>(std::ranges::count(
        table->entries, false,
        [](const TableEntry& entry) { return entry.kind == RecordKind::kTombstones; }));
    all.back().live_bytes += live_pack_headers(number, *table) * facts_.grain_bytes;
  }
  for (std::uint32_t i = 0; i < state_->segments.count(); ++i) {
    const Segment& segment = state_->segments.at(i);
    if (segment.state() == SegmentState::kFailed) add(i, SegmentFinding::kFailed);
    if (segment.state() != SegmentState::kFree) continue;
    add(i, segment.was_set_aside ? SegmentFinding::kSetAside : SegmentFinding::kFree);
  }
  return all;
}

void Inspection::for_each_live(const std::function<bool(const LiveRecord&)>& visit) {
  for (const std::uint32_t number : in_order()) {
    if (!visit_segment(number, visit)) return;
  }
}

/// False when visit() wants no more.
bool Inspection::visit_segment(std::uint32_t number,
                               const std::function<bool(const LiveRecord&)>& visit) {
  auto table = table_of(number, true);
  if (!table) {
    const bool is_known = std::ranges::any_of(
        damage_, [&](const Damage& one) { return one.segment == number && one.offset > 0; });
    if (!is_known) {
      damage_.push_back(
          {.segment = number,
           .offset = facts_.segment_bytes - facts_.grain_bytes,
           .key = {},
           .what = "the keys in its table cannot be read: " + table.error().to_string()});
    }
    table = table_of(number, false);
  }
  if (!table) {  // It could be read when the store was opened: then the index knows where to look.
    table = Table{};
    for (const auto& [fingerprint, entry] : state_->index.entries_in(number)) {
      table->entries.push_back({.fingerprint_low = fingerprint.low,
                                .fingerprint_high = fingerprint.high,
                                .grain = entry.location.grain,
                                .value_bytes = entry.value_bytes,
                                .kind = entry.is_packed ? RecordKind::kPack : RecordKind::kValue});
    }
    std::ranges::sort(table->entries, {}, &TableEntry::grain);
  }
  const std::uint64_t generation = state_->segments.at(number).generation;
  std::uint64_t key_at = 0;
  for (const TableEntry& line : table->entries) {
    const std::uint64_t this_key_at = key_at;
    if (!table->keys.empty()) key_at += line.key_bytes;
    if (line.kind == RecordKind::kTombstones) continue;
    const auto entry =
        state_->index.find({.low = line.fingerprint_low, .high = line.fingerprint_high});
    if (!entry || entry->location != Location{.segment = number, .grain = line.grain}) continue;
    const std::string_view keys = table->keys;
    if (!visit({.key = keys.substr(this_key_at, key_at - this_key_at),
                .fingerprint_low = line.fingerprint_low,
                .value_bytes = line.value_bytes,
                .wall_seconds = line.wall_seconds,
                .segment = number,
                .generation = generation,
                .offset = std::uint64_t{line.grain} * facts_.grain_bytes})) {
      return false;
    }
  }
  return true;
}

// --- Proving ------------------------------------------------------------------------------------

Inspection::Verified Inspection::verify(const std::function<void(const Damage&)>& on_damage,
                                        const std::function<bool(const LiveRecord&)>& on_record) {
  Verified verified;
  auto reader = RecordReader::create(*state_, *io_);
  if (!reader) {
    on_damage({.segment = std::nullopt,
               .offset = 0,
               .key = {},
               .what = "nothing was verified: " + reader.error().to_string()});
    ++verified.damaged;
    return verified;
  }
  for_each_live([&](const LiveRecord& record) {
    const auto entry = state_->index.find({.low = record.fingerprint_low});
    const Status proven = reader->prove(record.key, {.low = record.fingerprint_low}, *entry);
    ++verified.records;
    verified.value_bytes += record.value_bytes;
    if (!proven) {
      ++verified.damaged;
      on_damage({.segment = record.segment,
                 .offset = record.offset,
                 .key = std::string{record.key},
                 .what = proven.error().to_string()});
    }
    verified.was_interrupted = !on_record(record);
    return !verified.was_interrupted;
  });
  return verified;
}

SetupResult<std::optional<AlignedBuffer>> Inspection::read_value(std::string_view key) {
  const auto fail = [](const Error& error) {
    return SetupError{error.code(), "log: the value cannot be read: " + error.to_string()};
  };
  const Fingerprint fingerprint =
      state_->fingerprint(std::as_bytes(std::span{key.data(), key.size()}));
  const auto entry = state_->index.find(fingerprint);
  if (!entry) return std::optional<AlignedBuffer>{};
  auto value = AlignedBuffer::create(entry->value_bytes, facts_.grain_bytes);
  if (!value) return fail(value.error());
  auto reader = RecordReader::create(*state_, *io_);
  if (!reader) return fail(reader.error());
  if (const Status proven = reader->prove(key, fingerprint, *entry, value->span()); !proven) {
    return fail(proven.error());
  }
  return std::optional<AlignedBuffer>{std::move(*value)};
}

}  // namespace larder::log_store
