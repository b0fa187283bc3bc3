#pragma once

namespace larder::testing {

/// From now on, and for ever, io_uring_setup() fails with `sys_errno` in this process and its
/// children, as in a container that forbids it. False when that cannot be had.
bool forbid_uring(int sys_errno);
/// The same for any system call by its number (SYS_renameat2, ...), on top of what is forbidden.
bool forbid_call(long number, int sys_errno);

}  // namespace larder::testing
