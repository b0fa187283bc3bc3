#pragma once

#include <string>
#include <string_view>

#include "larder/base/result.h"

namespace larder {

/// Tells the service manager that started this process how it is doing: systemd, for a unit of
/// `Type=notify`. It is the datagram of sd_notify(3), without libsystemd.
///
/// `state` is one or more lines, as in "READY=1\nSTATUS=listening on port 5555". Does nothing when
/// the environment has no NOTIFY_SOCKET: no manager listens then. The error says why the message
/// could not be sent. Blocks for five seconds at most, while the manager's queue is full. Any
/// thread, but not while another one changes the environment.
SetupStatus notify_service_manager(std::string_view state);

}  // namespace larder
