#pragma once
// Their headers raise some of our warnings.
#pragma GCC system_header

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
