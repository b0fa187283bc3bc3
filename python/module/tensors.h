#pragma once

#include "module/arguments.h"

namespace larder::python {

/// Whether `object` is a torch tensor by what it can do. torch itself is not needed, and not asked.
bool is_tensor(PyObject* object);

/// The memory of a tensor, as it is. False, with a ValueError that says what to do instead, for one
/// that has none which holds its elements in their order: on another device, not contiguous, lazily
/// conjugated or negated, sparse, without data.
///
/// `storage` is what keeps the memory there, also when the tensor is given another one meanwhile.
bool memory_of_tensor(PyObject* tensor, const ArgumentName& name, Access access, Slice& memory,
                      Reference& storage);

}  // namespace larder::python
