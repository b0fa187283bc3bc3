#include "larder/connectors/log/machine/table_reader.h"

#include <algorithm>

#include "larder/base/check.h"

namespace larder::log_store {

void TableReader::start(std::uint32_t segment_number) noexcept {
  LARDER_CHECK(!is_busy_ && !result_);
  segment_ = segment_number;
  Segment& segment = state_.segments.at(segment_number);
  pin_ = state_.segments.pin(segment_number);
  is_busy_ = true;
  has_trailer_ = false;
  if (segment.table != nullptr) {
    Table table;
    segment.table->for_each([&](const TableEntry& entry, std::string_view key) {
      table.entries.push_back(entry);
      table.keys += key;
    });
    return end(std::move(table));
  }
  read(state_.segments.geometry().segment_bytes - state_.grain_bytes(), state_.grain_bytes());
}

void TableReader::read(std::uint64_t offset, std::uint64_t bytes) noexcept {
  auto buffer = AlignedBuffer::create(bytes, state_.grain_bytes());
  if (!buffer) return end(buffer.error());
  buffer_ = std::move(*buffer);
  failed_ = false;
  std::span<std::byte> rest = buffer_.span();
  in_flight_ =
      static_cast<std::uint32_t>((bytes + state_.options.io_bytes - 1) / state_.options.io_bytes);
  while (!rest.empty()) {
    const std::size_t piece = std::min<std::size_t>(rest.size(), state_.options.io_bytes);
    Transfer* const transfer = state_.transfers.acquire_internal();
    transfer->request.operation = io::Operation::kRead;
    transfer->request.file = state_.segments.at(segment_).file;
    transfer->request.offset = offset;
    transfer->vectors.push_back({.iov_base = rest.data(), .iov_len = piece});
    transfer->sink = this;
    state_.transfers.submit(*transfer);
    rest = rest.subspan(piece);
    offset += piece;
  }
}

void TableReader::on_transfer(Transfer& transfer) noexcept {
  if (!transfer.succeeded()) failed_ = true;
  state_.transfers.release(transfer);
  if (--in_flight_ > 0) return;
  if (failed_) {
    state_.counters.io_errors_total.add();
    return end(Error{ErrorCode::kIo, "log", "reading a segment's table"});
  }
  if (!has_trailer_) return on_trailer();
  end(decode_table(trailer_, buffer_.span(), true, state_.segments.geometry(),
                   state_.superblock.secret));
}

void TableReader::on_trailer() noexcept {
  const Geometry& geometry = state_.segments.geometry();
  const auto trailer =
      decode_table_trailer(buffer_.span(), state_.identity(segment_), geometry.segment_bytes,
                           geometry.grain_bytes, state_.superblock.secret);
  if (!trailer) return end(trailer.error());
  trailer_ = *trailer;
  has_trailer_ = true;
  const std::uint64_t bytes =
      geometry.segment_bytes - geometry.grain_bytes - trailer_.entries_offset;
  if (bytes == 0) {
    return end(decode_table(trailer_, {}, true, geometry, state_.superblock.secret));
  }
  read(trailer_.entries_offset, bytes);
}

void TableReader::end(Result<Table> table) noexcept {
  pin_.reset();
  buffer_ = {};
  is_busy_ = false;
  result_ = std::move(table);
}

std::optional<Result<Table>> TableReader::take() noexcept {
  if (is_busy_) return std::nullopt;
  return std::exchange(result_, std::nullopt);
}

}  // namespace larder::log_store
