#pragma once

#include "larder/connector/registry.h"

namespace larder {

/// The connector types of this build. Any thread.
const Registry& builtin_registry();

}  // namespace larder
