#pragma once

#include "module/front/arguments.h"

namespace larder::python {

/// Whether `object` is a torch tensor, by its attributes. torch itself is neither needed nor
/// called.
bool is_tensor(PyObject* object);

/// The memory of a tensor, as it is. False, with a ValueError that says what to do instead, for a
/// tensor without memory that holds its elements in their order: on another device, not contiguous,
/// lazily conjugated or negated, sparse, without data.
///
/// `storage` keeps the memory alive, also if the tensor gets another one meanwhile.
bool memory_of_tensor(PyObject* tensor, const ArgumentName& name, Access access, Slice& memory,
                      Reference& storage);

}  // namespace larder::python
