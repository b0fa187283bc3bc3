#pragma once

#include <string_view>

namespace larder::corruption {

/// What is being tried now: printed should the process crash, as nobody could tell otherwise which
/// of thousands of damages it was. One thread.
void set_crash_note(std::string_view what);

}  // namespace larder::corruption
