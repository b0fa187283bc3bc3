#include "module/front/tensors.h"

#include <string>
#include <string_view>

#include "module/common/python_error.h"

namespace larder::python {
namespace {

/// A tensor's properties.
struct Tensor {
  std::string device;
  std::string layout;
  bool is_contiguous = false;
  bool is_conjugated = false;
  bool is_negated = false;
};

Reference ask(PyObject* object, const char* method) {
  return Reference::steal(PyObject_CallMethod(object, method, nullptr));
}

bool text_at(PyObject* object, const char* attribute, std::string& text) {
  const Reference value = Reference::steal(PyObject_GetAttrString(object, attribute));
  const Reference shown = Reference::steal(value ? PyObject_Str(value.get()) : nullptr);
  const char* const utf8 = shown ? PyUnicode_AsUTF8(shown.get()) : nullptr;
  if (utf8 == nullptr) return false;
  text = utf8;
  return true;
}

bool flag_at(PyObject* object, const char* method, bool& flag) {
  const Reference value = ask(object, method);
  const int truth = value ? PyObject_IsTrue(value.get()) : -1;
  flag = truth == 1;
  return truth >= 0;
}

bool size_at(PyObject* object, const char* method, std::size_t& size) {
  const Reference value = ask(object, method);
  size = value ? PyLong_AsSize_t(value.get()) : 0;
  return PyErr_Occurred() == nullptr;
}

/// Whether some elements share their memory, as of expand(): a dimension of several has a stride
/// of 0.
bool find_repeats(PyObject* tensor, bool& repeats) {
  const Reference strides = ask(tensor, "stride");
  const Reference shape = Reference::steal(PyObject_GetAttrString(tensor, "shape"));
  if (!strides || !shape) return false;
  const Py_ssize_t count = PyObject_Length(shape.get());
  for (Py_ssize_t i = 0; i < count; ++i) {
    const Reference stride = Reference::steal(PySequence_GetItem(strides.get(), i));
    const Reference size = Reference::steal(PySequence_GetItem(shape.get(), i));
    if (!stride || !size) return false;
    repeats |= PyLong_AsSsize_t(stride.get()) == 0 && PyLong_AsSsize_t(size.get()) > 1;
  }
  return PyErr_Occurred() == nullptr;
}

bool describe(PyObject* object, Tensor& tensor) {
  const Reference device = Reference::steal(PyObject_GetAttrString(object, "device"));
  if (!device || !text_at(device.get(), "type", tensor.device) ||
      !text_at(object, "layout", tensor.layout)) {
    return false;
  }
  if (tensor.layout != "torch.strided") return true;  // It cannot tell the others.
  return flag_at(object, "is_contiguous", tensor.is_contiguous) &&
         flag_at(object, "is_conj", tensor.is_conjugated) &&
         flag_at(object, "is_neg", tensor.is_negated);
}

std::string why_not(const Tensor& tensor) {
  if (tensor.device == "meta") return "on the device 'meta', which holds no data";
  if (tensor.device != "cpu") return "on the device '" + tensor.device + "'";
  if (tensor.layout != "torch.strided") return "of layout " + tensor.layout;
  if (tensor.is_conjugated) return "lazily conjugated";
  if (tensor.is_negated) return "lazily negated";
  return "not contiguous";
}

/// An expression whose memory has the elements of `x` in their order.
std::string remedy_to_store(const Tensor& tensor) {
  if (tensor.device == "meta") return "it has no elements that could be stored";
  std::string expression = "x";
  const bool is_strided = tensor.layout == "torch.strided";
  if (!is_strided) expression += ".to_dense()";
  if (tensor.is_conjugated) expression += ".resolve_conj()";
  if (tensor.is_negated) expression += ".resolve_neg()";
  if (tensor.device != "cpu") expression += ".cpu()";
  if (!is_strided || !tensor.is_contiguous) expression += ".contiguous()";
  return "pass " + expression;
}

std::string remedy_to_load(const Tensor& tensor, bool repeats) {
  const std::string load =
      "load into c = torch.empty(x.shape, dtype=x.dtype, device='cpu'), and then ";
  if (tensor.device == "meta" || tensor.layout != "torch.strided" || repeats) {
    return load + "use c in its place";
  }
  return load + "x.detach().copy_(c)";
}

/// The tensor's own exception, as an error of ours.
bool refuse_with_reason(PyObject* object, const ArgumentName& name) {
  const std::string reason = take_message();
  PyErr_Format(PyExc_ValueError, "%s: a %s whose memory cannot be had: %s", name.text().c_str(),
               Py_TYPE(object)->tp_name, reason.c_str());
  return false;
}

bool refuse(PyObject* object, const Tensor& tensor, const ArgumentName& name, Access access) {
  bool repeats = false;
  const bool asks_repeats = access == Access::kWrite && tensor.layout == "torch.strided";
  if (asks_repeats && !find_repeats(object, repeats)) return refuse_with_reason(object, name);
  const std::string remedy =
      access == Access::kRead ? remedy_to_store(tensor) : remedy_to_load(tensor, repeats);
  PyErr_Format(
      PyExc_ValueError, "%s: a %s that is %s; wanted one that is contiguous, on the CPU: %s",
      name.text().c_str(), Py_TYPE(object)->tp_name, why_not(tensor).c_str(), remedy.c_str());
  return false;
}

}  // namespace

bool is_tensor(PyObject* object) {
  for (const char* const name : {"data_ptr", "element_size", "untyped_storage", "is_contiguous"}) {
    if (PyObject_HasAttrString(object, name) == 0) return false;
  }
  return true;
}

bool memory_of_tensor(PyObject* tensor, const ArgumentName& name, Access access, Slice& memory,
                      Reference& storage) {
  Tensor told;
  std::size_t elements = 0;
  std::size_t element_bytes = 0;
  if (!describe(tensor, told)) return refuse_with_reason(tensor, name);
  if (told.device != "cpu" || told.layout != "torch.strided" || !told.is_contiguous ||
      told.is_conjugated || told.is_negated) {
    return refuse(tensor, told, name, access);
  }
  storage = ask(tensor, "untyped_storage");
  const Reference pointer = ask(tensor, "data_ptr");
  void* const data = storage && pointer ? PyLong_AsVoidPtr(pointer.get()) : nullptr;
  if (PyErr_Occurred() != nullptr || !size_at(tensor, "numel", elements) ||
      !size_at(tensor, "element_size", element_bytes)) {
    return refuse_with_reason(tensor, name);
  }
  memory = {static_cast<std::byte*>(data), elements * element_bytes};
  if (data != nullptr || memory.bytes == 0) return true;
  PyErr_Format(PyExc_ValueError, "%s: a %s of %zu bytes that has no memory", name.text().c_str(),
               Py_TYPE(tensor)->tp_name, memory.bytes);
  return false;
}

}  // namespace larder::python
