#include "module/front/values.h"

#include <array>
#include <cmath>
#include <optional>
#include <string_view>

#include "larder/base/clock.h"

namespace larder::python {
namespace {

std::string whole(double seconds) {
  const std::string number = std::to_string(seconds);
  return number.substr(0, number.find('.'));
}

std::string wanted_of(const SecondsRule& rule) {
  std::string text = rule.allows_zero ? "0 or more" : "above 0";
  text += " and at most ";
  text += rule.most == kSecondsMax ? "1e9" : whole(rule.most);
  if (!rule.allows_none) return text;
  text += ", or None ";
  if (std::isinf(rule.none)) return text + "to wait for ever";
  return text + "for " + whole(rule.none);
}

/// Nothing, without an exception, where `value` is no number and no text of one.
std::optional<double> number_of(PyObject* value) {
  if (PyBool_Check(value)) return std::nullopt;
  double number = 0;
  if (PyUnicode_Check(value)) {
    PyObject* const parsed = PyFloat_FromString(value);
    if (parsed != nullptr) number = PyFloat_AS_DOUBLE(parsed);
    Py_XDECREF(parsed);
  } else {
    number = PyFloat_AsDouble(value);
  }
  if (PyErr_Occurred() == nullptr) return number;
  // An int that is too large for a float is a number all the same.
  const bool is_large = PyErr_ExceptionMatches(PyExc_OverflowError) != 0;
  PyErr_Clear();
  return is_large ? std::optional{kForEver} : std::nullopt;
}

}  // namespace

bool seconds_of(PyObject* value, const SecondsRule& rule, double& seconds) {
  if (value == Py_None && rule.allows_none) {
    seconds = rule.none;
    return true;
  }
  const auto number = number_of(value);
  if (!number) {
    const std::string wanted = "wanted seconds: a number " + wanted_of(rule);
    const char* const type = Py_TYPE(value)->tp_name;
    if (PyUnicode_Check(value)) {
      PyErr_Format(PyExc_TypeError, "%s: %s %.80R, %s", rule.name, type, value, wanted.c_str());
    } else {
      PyErr_Format(PyExc_TypeError, "%s: %s, %s", rule.name, type, wanted.c_str());
    }
    return false;
  }
  seconds = *number;
  const bool is_enough = rule.allows_zero ? seconds >= 0 : seconds > 0;
  if (is_enough && seconds <= rule.most) return true;
  PyErr_Format(PyExc_ValueError, "%s: %.80R, wanted seconds: a number %s", rule.name, value,
               wanted_of(rule).c_str());
  return false;
}

std::uint64_t ns_of(double seconds) noexcept {
  return seconds > kSecondsMax ? kNever : static_cast<std::uint64_t>(seconds * 1e9);
}

bool text_of(PyObject* value, const char* name, std::string& text) {
  if (!PyUnicode_Check(value)) {
    PyErr_Format(PyExc_TypeError, "%s: %s, wanted a str", name, Py_TYPE(value)->tp_name);
    return false;
  }
  Py_ssize_t bytes = 0;
  const char* const data = PyUnicode_AsUTF8AndSize(value, &bytes);
  if (data == nullptr) {
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "%s: the str has no UTF-8 form (a lone surrogate)", name);
    return false;
  }
  text.assign(data, static_cast<std::size_t>(bytes));
  return true;
}

bool unsigned_of(PyObject* value, const char* name, std::uint64_t& number) {
  if (PyIndex_Check(value) == 0 || PyBool_Check(value)) {
    PyErr_Format(PyExc_TypeError, "%s: %s, wanted an int, 0 or more", name,
                 Py_TYPE(value)->tp_name);
    return false;
  }
  PyObject* const index = PyNumber_Index(value);
  number = index == nullptr ? 0 : PyLong_AsUnsignedLongLong(index);
  Py_XDECREF(index);
  if (PyErr_Occurred() == nullptr) return true;
  PyErr_Clear();
  PyErr_Format(PyExc_ValueError, "%s: %R, wanted an int, 0 or more and below 2**64", name, value);
  return false;
}

bool flag_of(PyObject* value, const char* name, bool& flag) {
  if (!PyBool_Check(value)) {
    PyErr_Format(PyExc_TypeError, "%s: %s, wanted True or False", name, Py_TYPE(value)->tp_name);
    return false;
  }
  flag = value == Py_True;
  return true;
}

bool urgency_of(PyObject* value, Urgency& urgency) {
  constexpr std::array<std::string_view, kUrgencyCount> kNames{"demand", "prefetch", "store",
                                                               "background"};
  constexpr const char* kWanted =
      "wanted 'demand', 'prefetch', 'store', 'background', or None for the operation's own";
  if (value == Py_None) return true;
  if (!PyUnicode_Check(value)) {
    PyErr_Format(PyExc_TypeError, "urgency: %s, %s", Py_TYPE(value)->tp_name, kWanted);
    return false;
  }
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (PyUnicode_CompareWithASCIIString(value, kNames[i].data()) != 0) continue;
    urgency = static_cast<Urgency>(i);
    return true;
  }
  PyErr_Format(PyExc_ValueError, "urgency: %.80R, %s", value, kWanted);
  return false;
}

}  // namespace larder::python
