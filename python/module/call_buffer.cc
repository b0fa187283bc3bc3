#include "module/call_buffer.h"

namespace larder::python {
namespace {

/// What a memoryview is made of: it counts its views, which a memoryview over plain memory does
/// not tell.
struct Exporter {
  PyObject_HEAD;
  std::byte* data;
  Py_ssize_t bytes;
  Py_ssize_t views;
  bool is_writable;
  bool has_ended;
};

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  auto* const exporter = reinterpret_cast<Exporter*>(self);
  if (exporter->has_ended) {
    PyErr_SetString(PyExc_BufferError, "the call that lent this memory has ended");
    view->obj = nullptr;
    return -1;
  }
  if (PyBuffer_FillInfo(view, self, exporter->data, exporter->bytes, exporter->is_writable ? 0 : 1,
                        flags) != 0) {
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

CallBuffer::CallBuffer(const Slice& memory, bool is_writable) {
  static std::byte empty{};
  PyTypeObject* const type = exporter_type();
  if (type == nullptr) return;
  auto* const exporter = PyObject_New(Exporter, type);
  if (exporter == nullptr) return;
  exporter->data = memory.bytes == 0 ? &empty : memory.data;
  exporter->bytes = static_cast<Py_ssize_t>(memory.bytes);
  exporter->views = 0;
  exporter->is_writable = is_writable;
  exporter->has_ended = false;
  exporter_ = Reference::steal(reinterpret_cast<PyObject*>(exporter));
  view_ = Reference::steal(PyMemoryView_FromObject(exporter_.get()));
}

CallBuffer::~CallBuffer() {
  end(false);
}

bool CallBuffer::end(bool collects) noexcept {
  if (!exporter_) return true;
  view_ = Reference{};
  auto* const exporter = reinterpret_cast<Exporter*>(exporter_.get());
  // A view may only be waiting for the collector, for example in the frames of an exception.
  if (exporter->views > 0 && collects) PyGC_Collect();
  exporter->has_ended = true;
  const bool is_free = exporter->views == 0;
  exporter_ = Reference{};
  return is_free;
}

}  // namespace larder::python
