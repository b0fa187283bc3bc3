#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "larder/connectors/log/format/geometry.h"
#include "larder/connectors/log/machine/options.h"
#include "larder/io/device.h"

namespace larder::log_store {

struct MakeOptions {
  PathOptions path;  ///< Capacity, largest value, segment, floor of free space.
  io::DeviceOptions device;
  /// Replaces an existing store by a new one, and leaves foreign files where they are. Without it
  /// both are an error.
  bool is_forced = false;
  /// Every segment is made and written once, so that the first turn of the ring is as fast as later
  /// ones. Without it segments appear as they are needed.
  bool is_prefilled = false;
};

struct MadeStore {
  Geometry geometry;
  bool is_direct = false;
  std::string file_system;
  std::uint64_t free_bytes = 0;        ///< On the file system, without a store that was replaced.
  std::uint64_t written_bytes = 0;     ///< By prefilling.
  std::uint64_t segments_removed = 0;  ///< Of the store that was replaced.
};

/// Makes a new store in a directory, ahead of its first use, and closes it again.
///
/// Nothing is changed before it is certain that the store can be made, and before its lock is held.
/// A death here, or a segment that cannot be removed, leaves the old store whole, a new one that
/// can be used, or one of which nothing can be proven and that may be made again with `is_forced`;
/// never one that serves a part of the replaced store.
/// `on_progress` gets the prefilled bytes, and ends the work by returning false (kCancelled; the
/// store is usable).
SetupResult<MadeStore> make_new_store(
    const MakeOptions& options,
    const std::function<bool(std::uint64_t done, std::uint64_t total)>& on_progress);

}  // namespace larder::log_store
