#pragma once

#include <string>
#include <string_view>

namespace larder::log_store {

/// "pid 7 on host a": the note of an owner beside the superblock, for others that find it locked.
std::string note_of_this_process();

/// The whole message for a process that finds the store in `directory` locked. `may_be_opening`:
/// maybe by an open that was given up and has not ended.
std::string in_use_here(const std::string& directory, bool may_be_opening);
/// `note`: the last owner's; empty: none. A pid is only blamed while it is alive.
std::string in_use_elsewhere(const std::string& directory, std::string_view note);

}  // namespace larder::log_store
