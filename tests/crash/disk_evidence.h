#pragma once

#include <string>

namespace larder::crash {

/// Whether the owner of the store in `directory` died within a seal: the log goes on in a segment
/// that has a record, and an older one of the same session has no table yet. Told from the files
/// alone, before anybody opens the store again.
bool died_in_a_seal(const std::string& directory);

}  // namespace larder::crash
