#pragma once

#include <span>
#include <string>

#include "larder/connector/registry.h"

namespace larder {

/// A type's table as plain text, for `larder connectors TYPE`.
std::string describe(const ConnectorType& type);

/// docs/connectors.md: an introduction and the tables of all types, one section each, in the order
/// given.
std::string describe_markdown(std::span<const ConnectorType* const> types);

}  // namespace larder
