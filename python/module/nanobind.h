#pragma once
// Their headers are not written for our warnings.
#pragma GCC system_header

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
