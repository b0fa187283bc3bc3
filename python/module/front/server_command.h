#pragma once

#include "module/front/nanobind.h"

namespace larder::python {

/// `python -m larder`: the command line's `server`, with connectors in Python. `argv`: the words
/// behind the program's name. Returns the exit code, with which the process is to end
/// (apps/larder/command_line.h); signals do not reach Python's own handlers from now on.
/// Call it in the main thread, before there are others.
int run_server(nanobind::handle argv);

}  // namespace larder::python
