#include "larder/connectors/log/offline/record_reader.h"

#include <algorithm>
#include <cstring>

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

Status RecordReader::prove(const Fingerprint& fingerprint, const IndexEntry& entry,
                           std::span<std::byte> value_out) {
  const std::uint32_t segment = entry.location.segment;
  const std::uint32_t grain = state_.superblock.grain_bytes;
  std::uint64_t at = std::uint64_t{entry.location.grain} * grain;
  LARDER_ASSIGN(auto bytes, bytes_at(segment, at, record_bytes(entry.value_bytes, grain)));
  LARDER_ASSIGN(const RecordHeader header,
                decode_record_header(bytes.first(grain), state_.identity(segment), at,
                                     state_.superblock.secret));
  if (header.kind != RecordKind::kValue || header.value_bytes != entry.value_bytes) {
    return corrupt("its header says another kind or length");
  }
  if (state_.fingerprint(header.payload) != fingerprint) {
    return corrupt("its header is another key's");
  }
  at += grain;
  const Hash128 checksum = header.checksum;  // The window may move on.
  StreamingHash128 hash;
  for (std::uint64_t left = entry.value_bytes; left > 0;) {
    LARDER_ASSIGN(bytes, bytes_at(segment, at, left));
    bytes = bytes.first(std::min<std::uint64_t>(bytes.size(), left));
    hash.update(bytes);
    if (!value_out.empty()) {
      std::memcpy(value_out.data() + (entry.value_bytes - left), bytes.data(), bytes.size());
    }
    at += bytes.size();
    left -= bytes.size();
  }
  if (hash.digest() != checksum) return corrupt("its value does not match its checksum");
  return {};
}

}  // namespace larder::log_store
