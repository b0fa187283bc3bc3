#pragma once

#include <string>

#include "larder/base/result.h"

namespace larder::log_store {

/// "log: DIRECTORY: WHAT: why (errno)" for a person, with the remedy where one is known: rights,
/// the limit of open files.
SetupError setup_error(const std::string& where, const std::string& what, const Error& cause);

}  // namespace larder::log_store
