#pragma once

#include <span>
#include <string>

#include "larder/connector/registry.h"

namespace larder {

/// A type's table as plain text, for `larder connectors TYPE`.
std::string describe(const ConnectorType& type);

/// The tables of all types as Markdown, for docs/connectors.md: one section each, in order of name.
std::string describe_markdown(std::span<const ConnectorType* const> types);

}  // namespace larder
