#pragma once

#include <string>
#include <string_view>

#include "larder/connector/registry.h"

namespace larder {

/// A spec as a person may see it, in a repr, a log or an error: the URL, unescaped, without its
/// secrets. Whatever is not known to be harmless is hidden: values of secret parameters, what
/// stands before the '@' of a secret location, the values of parameters and types that `registry`
/// does not know, and everything of a text that is no spec. Nested specs likewise. Not for
/// parsing.
std::string shown_spec(std::string_view text, const Registry& registry);

}  // namespace larder
