#pragma once

#include <vector>

#include "larder/conformance/conformance.h"

namespace larder::conformance {

/// The connectors of this build in the variants that the suite runs on. One function per connector
/// type; all_subjects() joins them.
std::vector<Subject> memory_subjects();
std::vector<Subject> fault_subjects();
std::vector<Subject> mock_subjects();
/// The log store over io_uring and threads on the directory for temporary files, and over
/// loop-mounted ext4 and xfs with direct I/O and a tmpfs where this user may mount them.
std::vector<Subject> log_subjects();
/// One file a value, in flat directories and in shards: buffered and with O_DIRECT, over io_uring
/// and threads, staged, with checksums; on ext4, xfs, and a tmpfs.
std::vector<Subject> fs_subjects();
/// A Redis server that the test starts: over TCP, a unix socket and TLS, with a password; Valkey
/// likewise where it is installed.
std::vector<Subject> resp_subjects();

/// L1 before memory, the log store, files, and a log store before Redis.
std::vector<Subject> tiered_subjects();

std::vector<Subject> all_subjects();

}  // namespace larder::conformance
