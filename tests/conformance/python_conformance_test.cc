// The suite over connectors written in Python, in an interpreter of its own: both forms that
// larder takes, each a dictionary (python/dictionary_connectors.py).
#include "module/common/python_thread.h"
// Python.h comes first.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "module/back/python_registry.h"
#include "module/common/python_error.h"
#include "tests/conformance/conformance_runs.h"

namespace larder::conformance {
namespace {

// The package's own base class, without the rest of the package, which needs the module.
constexpr const char* kPrepare = R"(
import importlib.util, sys, types
sys.modules["larder"] = types.ModuleType("larder")
spec = importlib.util.spec_from_file_location("larder.connectors", root + "/python/larder/connectors.py")
sys.modules["larder.connectors"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.path.insert(0, root + "/tests/conformance/python")
)";

/// Starts the interpreter, once, and gives the GIL back. What went wrong, or nothing.
const std::string& interpreter_trouble() {
  static const std::string trouble = []() -> std::string {
    Py_InitializeEx(0);
    std::string text;
    {
      using python::Reference;
      const Reference globals = Reference::steal(PyDict_New());
      const Reference root = Reference::steal(PyUnicode_FromString(LARDER_SOURCE_DIR));
      PyDict_SetItemString(globals.get(), "__builtins__", PyEval_GetBuiltins());
      PyDict_SetItemString(globals.get(), "root", root.get());
      const Reference done =
          Reference::steal(PyRun_String(kPrepare, Py_file_input, globals.get(), globals.get()));
      if (!done) text = python::take_exception();
    }
    PyEval_SaveThread();
    return text;
  }();
  return trouble;
}

Open opener(std::string spec) {
  return [spec = std::move(spec)]() -> SetupResult<std::unique_ptr<Connector>> {
    if (!interpreter_trouble().empty()) {
      return SetupError{ErrorCode::kInternal, interpreter_trouble()};
    }
    SetupResult<Spec> resolved = SetupError{};
    {
      const python::WithGil with_gil;
      resolved = python::resolve_spec(spec);
    }
    if (!resolved) return resolved.error();
    return python::python_registry().open(*resolved);
  };
}

std::string limits() {
  return "batches_max=" + std::to_string(kLimitedBatches) +
         "&in_flight_bytes=" + std::to_string(kLimitedBytes);
}

std::vector<Subject> python_subjects() {
  Subject plain;
  plain.name = "python";
  const std::string dictionary = "python:dictionary_connectors:Dictionary?";
  plain.open = opener(dictionary + "capacity_bytes=268435456");
  plain.open_small = opener(dictionary + "capacity_bytes=1048576");
  plain.open_limited = opener(dictionary + limits());

  Subject native;
  native.name = "python_native";
  native.open = opener("python:dictionary_connectors:Native");
  native.open_limited = opener("python:dictionary_connectors:Native?" + limits());

  // Wrapped by another type, and with answers that come late.
  Subject nested;
  nested.name = "python_in_fault";
  nested.open = opener(
      "fault:?inner=python:dictionary_connectors:Dictionary&delay_rate=20%25&delay=1ms&seed=3");
  return {plain, native, nested};
}

class PythonConformance : public testing::TestWithParam<Run> {};

TEST_P(PythonConformance, Keeps) {
  check_run(GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, PythonConformance, testing::ValuesIn(runs_of(python_subjects())),
                         name_of_run);

}  // namespace
}  // namespace larder::conformance
