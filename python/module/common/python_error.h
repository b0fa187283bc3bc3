#pragma once

#include <string>
#include <string_view>

#include "larder/base/result.h"
#include "module/common/reference.h"

namespace larder::python {

/// The Python exception that is set, as "ValueError: its text", cut at a few hundred bytes; it is
/// cleared. With the GIL held.
std::string take_exception();
/// Only its text, in full: for exceptions whose text is written for people. With the GIL held.
std::string take_message();

/// The same as an item's error: "get_into() raised ValueError: its text". TimeoutError is
/// kDeadlineExceeded, ConnectionError kUnavailable, MemoryError kResourceExhausted,
/// NotImplementedError kUnimplemented, OSError what its errno says, everything else kIo.
Error take_error(std::string_view method);

/// An error whose text is made at run time. Texts are kept for the process's life, because an Error
/// may outlive everything; beyond a limit new ones are left out. Any thread.
Error error_of_text(ErrorCode code, std::string_view text);

}  // namespace larder::python
