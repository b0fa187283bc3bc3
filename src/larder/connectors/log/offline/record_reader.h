#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "larder/base/aligned_buffer.h"
#include "larder/connectors/log/machine/blocking_io.h"
#include "larder/connectors/log/machine/path_state.h"

namespace larder::log_store {

/// Proves records one after the other, reading ahead in large pieces: fast when they come in the
/// order of their segment.
///
/// Threads: one. Refers to state and io. Memory: 8 MiB, whatever the values' sizes.
class RecordReader {
 public:
  static Result<RecordReader> create(const PathState& state, BlockingIo& io);

  /// MAC, identity, key, length and checksum of the record that the index has for `fingerprint`; or
  /// of a packed value its tag, for its key. Where `key` is empty it is taken from the header.
  /// `value_out`, where it is not empty, gets the value; it is then as long.
  Status prove(std::string_view key, const Fingerprint& fingerprint, const IndexEntry& entry,
               std::span<std::byte> value_out = {});

 private:
  RecordReader(const PathState& state, BlockingIo& io, AlignedBuffer window)
      : state_(state), io_(io), window_(std::move(window)) {}

  /// Some bytes from `offset` on, at least a grain; up to `wanted` of them are needed now.
  Result<std::span<const std::byte>> bytes_at(std::uint32_t segment, std::uint64_t offset,
                                              std::uint64_t wanted);
  Status prove_packed(std::string_view key, const IndexEntry& entry,
                      std::span<std::byte> value_out);
  Result<std::string> find_key(const IndexEntry& entry);
  Result<Hash128> read_value(std::uint64_t at, const IndexEntry& entry,
                             std::span<std::byte> value_out);
  Status read(std::uint32_t segment, std::uint64_t offset, std::uint64_t bytes);

  const PathState& state_;
  BlockingIo& io_;
  AlignedBuffer window_;
  std::uint32_t segment_ = 0;  // What the window shows.
  std::uint64_t window_at_ = 0;
  std::uint64_t window_bytes_ = 0;
};

}  // namespace larder::log_store
