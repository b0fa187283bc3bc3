#pragma once

#include <string>
#include <string_view>

#include "larder/connector/registry.h"

namespace larder {

/// A spec as a person may see it, in a repr, a log or an error: the URL, unescaped, without its
/// secrets. Everything that is not known to be harmless is hidden: values of secret parameters, the
/// part before the '@' of a secret location, the values of parameters and types that `registry`
/// does not know, and any text that is not a spec. Nested specs likewise. Do not parse it.
std::string shown_spec(std::string_view text, const Registry& registry);

}  // namespace larder
