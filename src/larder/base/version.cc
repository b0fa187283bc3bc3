#include "larder/base/version.h"

namespace larder {

std::string_view version() noexcept {
  return LARDER_VERSION;
}

}  // namespace larder
