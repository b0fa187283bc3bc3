#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>

namespace larder::python {

/// Releases the GIL for a call that may wait or copy.
///
/// A thread that comes back while the interpreter ends must not ask for the GIL: CPython before
/// 3.14 ends such a thread by unwinding it, which no noexcept frame survives. Hence: once the
/// interpreter's end has begun (leave_interpreter()) only the ending thread releases the GIL, and
/// the threads that released it before are waited for.
class WithoutGil {
 public:
  WithoutGil() noexcept;
  ~WithoutGil();
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_ = nullptr;
};

/// Counts the forks between this process and the one that loaded the module. A handle that was
/// opened under another count belongs to the parent: its threads do not exist here.
std::uint64_t fork_generation() noexcept;

/// Once, when the module is loaded, with the GIL.
void enter_interpreter() noexcept;

/// At exit, with the GIL, after every client was closed: waits for the threads that released it to
/// come back, for at most `patience_ns`.
void leave_interpreter(std::uint64_t patience_ns) noexcept;
/// From now on other threads' calls keep the GIL, and those that would wait are refused.
void begin_exit() noexcept;
bool is_exiting() noexcept;
/// The interpreter has ended for every thread but one: a thread that asks for the GIL is lost.
bool is_finalizing() noexcept;
/// With the GIL: never returns in a thread other than the one that ends the interpreter; such a
/// thread can only be a daemon. CPython from 3.14 on does the same; an exception would be printed
/// by it.
void park_at_exit() noexcept;

}  // namespace larder::python
