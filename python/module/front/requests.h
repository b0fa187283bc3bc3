#pragma once

#include "module/front/handle.h"
#include "module/front/nanobind.h"
#include "module/front/results.h"
#include "module/front/values.h"

namespace larder::python {

// The arguments of a call, made into its operation: the same for every class that takes it. With
// the GIL; each throws the Python error that names the argument, its value and what was expected.

/// When a call with this `timeout` has to end.
std::uint64_t deadline_after(nanobind::handle timeout);
/// The urgency that `value` names, or `none` for None.
Urgency urgency_or(nanobind::handle value, Urgency none);

/// A batch of `op` that needs keys alone: kExists or kDelete.
void request(PythonOperation& operation, Op op, nanobind::handle keys, std::uint64_t deadline_ns);
/// A lookup that also asks in which places the keys are, for an estimate of the load.
void request_places(PythonOperation& operation, nanobind::handle keys, std::uint64_t deadline_ns);
/// The same for one key.
void request_size(PythonOperation& operation, nanobind::handle key, std::uint64_t deadline_ns);
/// A load into the caller's buffers, one for each key.
void request_load(PythonOperation& operation, nanobind::handle keys, nanobind::handle buffers,
                  std::uint64_t deadline_ns);
/// The load of one key into a new bytes object of at most `room` bytes.
void request_load_of_one(PythonOperation& operation, nanobind::handle key, std::uint64_t room,
                         std::uint64_t deadline_ns);
/// A store from the caller's buffers, one for each key.
void request_store(PythonOperation& operation, nanobind::handle keys, nanobind::handle values,
                   bool replaces, std::uint64_t deadline_ns);
void request_store_of_one(PythonOperation& operation, nanobind::handle key, nanobind::handle value,
                          bool replaces, std::uint64_t deadline_ns);
/// A Touch with a hint. `ttl`: seconds, or None where the hint holds nothing.
void request_hint(PythonOperation& operation, nanobind::handle keys, nanobind::handle hint,
                  nanobind::handle ttl, std::uint64_t deadline_ns);

}  // namespace larder::python
