#pragma once

#include <string>
#include <string_view>

namespace larder::log_store {

/// "pid 7 on host a": what an owner leaves beside the superblock, for whoever finds it locked.
std::string note_of_this_process();

/// The whole message for who finds the store in `directory` locked. `may_be_opening`: maybe by an
/// open that was given up and has not ended.
std::string in_use_here(const std::string& directory, bool may_be_opening);
/// `note`: what the last owner left; empty: nothing. A pid is only blamed while it is alive.
std::string in_use_elsewhere(const std::string& directory, std::string_view note);

}  // namespace larder::log_store
