#pragma once

#include <cstdint>

#include "larder/connectors/log/machine/append_tasks.h"
#include "larder/connectors/log/machine/path_state.h"

namespace larder::log_store {

// The common part of the writers of records. The path's thread.

/// What the header and the tag of a packed value are made of. Its checksum is known.
PackedValue packed_value_of(const StoreTask& task) noexcept;
/// Makes the header grain of a record whose checksum is known.
void fill_record_header(const PathState& state, StoreTask& task) noexcept;
/// A write at `offset` of the segment; null when none is free.
Transfer* acquire_record_write(PathState& state, std::uint32_t segment, std::uint64_t offset,
                               TransferSink& sink, StoreTask& task) noexcept;
/// Adds the zeros that make a whole number of grains of the `value_bytes` before them.
void append_padding(PathState& state, Transfer& transfer, std::uint64_t value_bytes);
/// Gives back the transfer and its staging memory.
void release_record_write(PathState& state, Transfer& transfer) noexcept;

}  // namespace larder::log_store
