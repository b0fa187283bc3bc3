#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <limits>
#include <string>

#include "larder/connector/connector.h"

namespace larder::python {

// Plain arguments, read by one function each for every door. With the GIL held; false with a
// TypeError or ValueError set that names the argument, its value and the expected one.

/// The longest time-out in seconds, some 31 years.
inline constexpr double kSecondsMax = 1e9;
inline constexpr double kForEver = std::numeric_limits<double>::infinity();

struct SecondsRule {
  const char* name = "timeout";  ///< The argument's.
  double none = kForEver;        ///< The meaning of None.
  bool allows_zero = false;
  double most = kSecondsMax;
  bool allows_none = true;
};
/// A time-out: a number above 0 and at most `most`, its text (as JSON may have it), or None.
bool seconds_of(PyObject* value, const SecondsRule& rule, double& seconds);
/// The same in nanoseconds; kNever for kForEver.
std::uint64_t ns_of(double seconds) noexcept;

/// A str, as UTF-8.
bool text_of(PyObject* value, const char* name, std::string& text);
/// An int from 0 on.
bool unsigned_of(PyObject* value, const char* name, std::uint64_t& number);
/// True or False, and not another type that counts as one of them.
bool flag_of(PyObject* value, const char* name, bool& flag);
/// "demand", "prefetch", "store" or "background"; None leaves `urgency` as it is.
bool urgency_of(PyObject* value, Urgency& urgency);

}  // namespace larder::python
