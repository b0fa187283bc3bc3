#pragma once

#include <memory>
#include <string>

#include "larder/connector/connector.h"
#include "module/common/reference.h"

namespace larder::python {

/// A connector over an object written in Python, of either form (see python_object.h).
///
/// A WorkerPool keeps the contract: its threads call the object, `num_workers` each for lookups,
/// loads and stores. The GIL is taken in those threads, in the one that closes the object, and by
/// scan() and report() in the caller's; never by submit(), reap(), cancel() or probe().
/// An item that the object works on fails late: a call that has begun ends when the method returns.
///
/// `type` and `where` are for the report. With the GIL held.
SetupResult<std::unique_ptr<Connector>> make_python_connector(PyObject* object, std::string type,
                                                              std::string where);

}  // namespace larder::python
