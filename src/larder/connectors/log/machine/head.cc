#include "larder/connectors/log/machine/head.h"

#include "larder/base/check.h"

namespace larder::log_store {

void Head::begin(std::uint32_t segment) {
  LARDER_CHECK(!segment_);
  segments_.begin_appending(segment);
  segment_ = segment;
}

std::uint32_t Head::leave() noexcept {
  LARDER_CHECK(segment_.has_value());
  const std::uint32_t segment = *segment_;
  segments_.begin_sealing(segment);
  segment_.reset();
  return segment;
}

}  // namespace larder::log_store
