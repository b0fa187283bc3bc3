#pragma once

#include <compare>
#include <cstdint>

namespace larder::log_store {

/// A position in the log: its order, and the only version there is (L3). A default one comes before
/// every record, as generations start above 0.
struct Place {
  std::uint64_t generation = 0;
  std::uint64_t offset = 0;  ///< Bytes in the segment.
  friend auto operator<=>(const Place&, const Place&) = default;
};

}  // namespace larder::log_store
