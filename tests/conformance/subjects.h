#pragma once

#include <vector>

#include "tests/conformance/conformance.h"

namespace larder::conformance {

/// The connectors of this build in the variants that the suite runs on. One function per connector
/// type; all_subjects() joins them.
std::vector<Subject> memory_subjects();
std::vector<Subject> fault_subjects();
/// The log store over io_uring and threads on the directory for temporary files, and over
/// loop-mounted ext4 and xfs with direct I/O and a tmpfs where this user may mount them.
std::vector<Subject> log_subjects();

std::vector<Subject> all_subjects();

}  // namespace larder::conformance
