#include "larder/connectors/log/offline/record_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "larder/base/key_text.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kWindowBytes = std::uint64_t{8} << 20;

Error corrupt(const char* what) noexcept {
  return {ErrorCode::kCorruption, "log", what};
}

}  // namespace

Result<RecordReader> RecordReader::create(const PathState& state, BlockingIo& io) {
  LARDER_ASSIGN(AlignedBuffer window, AlignedBuffer::create(kWindowBytes, kGrainBytesMax));
  return RecordReader{state, io, std::move(window)};
}

Status RecordReader::read(std::uint32_t segment, std::uint64_t offset, std::uint64_t bytes) {
  window_bytes_ = 0;
  LARDER_TRY(io_.read(state_.segments.at(segment).file, offset, window_.span().first(bytes)));
  segment_ = segment;
  window_at_ = offset;
  window_bytes_ = bytes;
  return {};
}

Result<std::span<const std::byte>> RecordReader::bytes_at(std::uint32_t segment,
                                                          std::uint64_t offset,
                                                          std::uint64_t wanted) {
  const bool is_inside =
      segment == segment_ && offset >= window_at_ && offset < window_at_ + window_bytes_;
  if (!is_inside) {
    const std::uint64_t end = state_.segments.geometry().segment_bytes;
    if (offset >= end) return corrupt("it goes on behind the end of its segment");
    const std::uint64_t most = std::min<std::uint64_t>(window_.size(), end - offset);
    if (!read(segment, offset, most)) {
      // A record that cannot be read may be another one's further on.
      LARDER_TRY(
          read(segment, offset, std::min(most, round_up(wanted, state_.superblock.grain_bytes))));
    }
  }
  return std::span<const std::byte>{window_.span()}.subspan(offset - window_at_,
                                                            window_bytes_ - (offset - window_at_));
}

Status RecordReader::prove(std::string_view key, const Fingerprint& fingerprint,
                           const IndexEntry& entry, std::span<std::byte> value_out) {
  if (entry.is_packed) return prove_packed(key, entry, value_out);
  const std::uint32_t segment = entry.location.segment;
  const std::uint32_t grain = state_.superblock.grain_bytes;
  const std::uint64_t at = std::uint64_t{entry.location.grain} * grain;
  LARDER_ASSIGN(const auto bytes, bytes_at(segment, at, record_bytes(entry.value_bytes, grain)));
  LARDER_ASSIGN(const RecordHeader header,
                decode_record_header(bytes.first(grain), state_.identity(segment), at,
                                     state_.superblock.secret));
  if (header.kind != RecordKind::kValue || header.value_bytes != entry.value_bytes) {
    return corrupt("its header says another kind or length");
  }
  if (state_.fingerprint(header.payload).low != fingerprint.low) {
    return corrupt("its header is another key's");
  }
  const Hash128 checksum = header.checksum;  // The window may move on.
  LARDER_ASSIGN(const Hash128 found, read_value(at + grain, entry, value_out));
  if (found != checksum) return corrupt("its value does not match its checksum");
  return {};
}

Status RecordReader::prove_packed(std::string_view key, const IndexEntry& entry,
                                  std::span<std::byte> value_out) {
  std::string found_key;
  if (key.empty()) {
    LARDER_ASSIGN(found_key, find_key(entry));
    key = found_key;
  }
  const std::uint64_t at = std::uint64_t{entry.location.grain} * state_.superblock.grain_bytes;
  LARDER_ASSIGN(const Hash128 checksum, read_value(at, entry, value_out));
  const PackedValue value{.key = std::as_bytes(std::span{key.data(), key.size()}),
                          .value_bytes = entry.value_bytes,
                          .checksum = checksum};
  const std::uint64_t tag =
      value_tag(value, state_.identity(entry.location.segment), at, state_.superblock.secret);
  if (tag != entry.tag) return corrupt("its value does not match its checksum");
  return {};
}

/// The key of a packed value, from the pack's header somewhere before it.
Result<std::string> RecordReader::find_key(const IndexEntry& entry) {
  const std::uint32_t segment = entry.location.segment;
  const std::uint32_t grain = state_.superblock.grain_bytes;
  const std::uint64_t value_at = std::uint64_t{entry.location.grain} * grain;
  const std::uint64_t from =
      std::max<std::uint64_t>(grain, value_at - std::min<std::uint64_t>(value_at, window_.size()));
  if (from >= value_at) return corrupt("it has no header");
  LARDER_TRY(read(segment, from, value_at - from));
  for (std::uint64_t offset = value_at - grain; offset >= from; offset -= grain) {
    const auto bytes = std::span<const std::byte>{window_.span()}.subspan(offset - from, grain);
    const auto header =
        decode_record_header(bytes, state_.identity(segment), offset, state_.superblock.secret);
    if (!header) continue;
    if (header->kind != RecordKind::kPack) break;
    LARDER_ASSIGN(const auto values, packed_values(header->payload));
    std::uint64_t at = offset + grain;
    for (const PackedValue& value : values) {
      if (at == value_at) return std::string{as_text(value.key)};
      at += round_up(value.value_bytes, grain);
    }
    break;
  }
  return corrupt("the header that tells its key is damaged, and so is the table");
}

/// The checksum of the value whose first byte is at `at`.
Result<Hash128> RecordReader::read_value(std::uint64_t at, const IndexEntry& entry,
                                         std::span<std::byte> value_out) {
  const std::uint32_t segment = entry.location.segment;
  StreamingHash128 hash;
  for (std::uint64_t left = entry.value_bytes; left > 0;) {
    LARDER_ASSIGN(auto bytes, bytes_at(segment, at, left));
    bytes = bytes.first(std::min<std::uint64_t>(bytes.size(), left));
    hash.update(bytes);
    if (!value_out.empty()) {
      std::memcpy(value_out.data() + (entry.value_bytes - left), bytes.data(), bytes.size());
    }
    at += bytes.size();
    left -= bytes.size();
  }
  return hash.digest();
}

}  // namespace larder::log_store
