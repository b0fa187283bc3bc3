#pragma once

#include <string>

namespace larder::log_store {

/// Takes away what others may do with the store's files: the superblock holds the secret, the
/// segments hold prompts, and a copy made with `cp -r` has the modes that its umask gave. Returns
/// what is worth saying: that some had to be changed, or could not be; empty where all are well.
/// Blocks. The caller has the store.
std::string make_files_private(const std::string& directory);

}  // namespace larder::log_store
