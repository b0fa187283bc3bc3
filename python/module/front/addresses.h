#pragma once

#include <span>
#include <vector>

#include "larder/connector/connector.h"
#include "module/common/reference.h"
#include "module/front/nanobind.h"

namespace larder::python {

/// Memory that a caller names by address and length instead of by an object: the pages of an
/// engine's pool. Python sees larder.Addresses.
///
/// Nothing can check what is at an address. The caller ensures that the memory exists, and is
/// writable if a load writes to it, until the operation has ended; `owner` is kept alive as long as
/// this object, which an operation keeps alive.
/// Threads: constant once it is made; made and destroyed with the GIL held.
class Addresses {
 public:
  /// `pointers`: a sequence of ints. `sizes`: one of ints, as many, or one int for all. Throws
  /// nanobind::python_error that names the fault.
  Addresses(nanobind::handle pointers, nanobind::handle sizes, nanobind::handle owner);

  std::span<const Slice> slices() const noexcept { return slices_; }
  std::uint64_t bytes() const noexcept { return bytes_of(slices_); }

  // For the garbage collector.
  PyObject* owner() const noexcept { return owner_.get(); }
  void let_go() noexcept { owner_ = Reference{}; }

 private:
  std::vector<Slice> slices_;
  Reference owner_;
};

/// The Addresses in `object`, or nullptr if it is not one.
const Addresses* addresses_in(PyObject* object);

void add_addresses(nanobind::module_& module);

}  // namespace larder::python
