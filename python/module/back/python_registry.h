#pragma once

#include <memory>
#include <string_view>

#include "larder/connector/registry.h"

namespace larder::python {

/// The connector types of a Python process: those of the build, and `python`.
///
/// A spec that names a connector in Python (`python:package.module:Class?...`, or by the name that
/// a package gave it) carries parameters that only the object knows. resolve() wraps them up,
/// wherever such a spec is nested, so that the registry's tables hold for everything.
const Registry& python_registry();

/// With the GIL held: it may search the installed packages. Never leaves an exception.
SetupResult<Spec> resolve_spec(std::string_view text);

}  // namespace larder::python
