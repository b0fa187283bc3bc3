#pragma once

#include <string>

namespace larder::log_store {

/// Removes other users' permissions from the store's files: the superblock holds the secret, the
/// segments hold prompts, and a copy made with `cp -r` has the modes that its umask gave. Returns a
/// message if some had to be changed, or could not be; empty if all are right. Blocks. The caller
/// has the store.
std::string make_files_private(const std::string& directory);

}  // namespace larder::log_store
