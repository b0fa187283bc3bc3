#include "module/back/call_buffer.h"

#include <new>

namespace larder::python {
namespace {

/// The base of a memoryview: it holds the memory, and counts its views, which a memoryview over
/// plain memory does not report.
struct Exporter {
  PyObject_HEAD;
  ValueMemory memory;
  Py_ssize_t views;
  bool is_writable;
};

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  static std::byte empty{};
  auto* const exporter = reinterpret_cast<Exporter*>(self);
  const auto bytes = static_cast<Py_ssize_t>(exporter->memory.bytes);
  void* const data = bytes == 0 ? &empty : exporter->memory.data();
  if (PyBuffer_FillInfo(view, self, data, bytes, exporter->is_writable ? 0 : 1, flags) != 0) {
    return -1;
  }
  ++exporter->views;
  return 0;
}

void release_buffer(PyObject* self, Py_buffer* /*view*/) {
  --reinterpret_cast<Exporter*>(self)->views;
}

void deallocate(PyObject* self) {
  PyTypeObject* const type = Py_TYPE(self);
  reinterpret_cast<Exporter*>(self)->memory.~ValueMemory();
  type->tp_free(self);
  Py_DECREF(type);
}

PyTypeObject* exporter_type() {
  static PyTypeObject* const type = [] {
    static PyType_Slot slots[] = {
        {Py_tp_dealloc, reinterpret_cast<void*>(&deallocate)},
        {Py_bf_getbuffer, reinterpret_cast<void*>(&get_buffer)},
        {Py_bf_releasebuffer, reinterpret_cast<void*>(&release_buffer)},
        {0, nullptr},
    };
    static PyType_Spec spec{"larder._larder.CallBuffer", sizeof(Exporter), 0, Py_TPFLAGS_DEFAULT,
                            slots};
    return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  }();
  return type;
}

}  // namespace

CallBuffer::CallBuffer(const ValueMemory& memory, bool is_writable) {
  PyTypeObject* const type = exporter_type();
  if (type == nullptr) return;
  auto* const exporter = PyObject_New(Exporter, type);
  if (exporter == nullptr) return;
  new (&exporter->memory) ValueMemory{memory};
  exporter->views = 0;
  exporter->is_writable = is_writable;
  exporter_ = Reference::steal(reinterpret_cast<PyObject*>(exporter));
  view_ = Reference::steal(PyMemoryView_FromObject(exporter_.get()));
}

CallBuffer::~CallBuffer() {
  end(false);
}

bool CallBuffer::is_let_go() noexcept {
  // The exporter counts slices and arrays, but only once the memoryview is gone.
  if (view_ && Py_REFCNT(view_.get()) == 1) view_ = Reference{};
  return !view_ && reinterpret_cast<Exporter*>(exporter_.get())->views == 0;
}

bool CallBuffer::end(bool collects) noexcept {
  if (!exporter_) return true;
  bool is_free = is_let_go();
  if (!is_free && collects) {
    // A view may only be waiting for the collector, for example in the frames of an exception.
    PyGC_Collect();
    is_free = is_let_go();
  }
  if (view_) {
    // A holder of it gets an error from now on. An array that was made of it prevents that.
    const Reference released =
        Reference::steal(PyObject_CallMethod(view_.get(), "release", nullptr));
    if (!released) PyErr_Clear();
    view_ = Reference{};
  }
  exporter_ = Reference{};
  return is_free;
}

}  // namespace larder::python
