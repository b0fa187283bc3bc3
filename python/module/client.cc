#include "module/client.h"

namespace larder::python {
namespace nb = nanobind;

Client::Client(const std::string& spec) : handle_(Handle::open(spec)) {
  throw_unless(handle_ != nullptr);
}

Client::~Client() {
  if (handle_ != nullptr) Handle::let_go(std::move(handle_));
}

nb::object Client::get_into(nb::handle keys, nb::handle buffers, nb::handle timeout) {
  throw_unless(handle_->check_usable());
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  auto operation = std::make_unique<PythonOperation>();
  throw_unless(operation->arguments.take_keys(keys.ptr(), "keys") &&
               operation->arguments.take_buffers(buffers.ptr(), "buffers", Access::kWrite));
  check_counts(operation->arguments, "buffers");
  operation->prepare(Op::kGet, deadline_ns);
  if (!operation->items.empty()) operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  return loads_of(*operation);
}

nb::object Client::get(nb::handle key, nb::handle timeout) {
  const nb::object keys = nb::steal(PyTuple_Pack(1, key.ptr()));
  throw_unless(keys.is_valid());
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  const auto found = look_up(keys, timeout);
  if (found->items[0].outcome != Outcome::kHit) return nb::none();
  const auto bytes = static_cast<Py_ssize_t>(found->items[0].value_bytes);
  PyObject* value = PyBytes_FromStringAndSize(nullptr, bytes);
  throw_unless(value != nullptr);

  auto operation = std::make_unique<PythonOperation>();
  operation->arguments.add_owned(value, reinterpret_cast<std::byte*>(PyBytes_AS_STRING(value)),
                                 static_cast<std::size_t>(bytes));
  throw_unless(operation->arguments.take_keys(keys.ptr(), "key"));
  operation->prepare(Op::kGet, deadline_ns);
  operation->batch.allow_shorter = true;  // It may have been replaced since.
  operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  if (operation->items[0].outcome == Outcome::kFailed) {
    PyErr_SetString(exceptions.error, describe_failure(operation->batch, 0).c_str());
    throw nb::python_error();
  }
  return value_of(*operation)[0];
}

nb::object Client::set_many(nb::handle keys, nb::handle values, bool replaces, nb::handle timeout) {
  throw_unless(handle_->check_usable());
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  auto operation = std::make_unique<PythonOperation>();
  throw_unless(operation->arguments.take_keys(keys.ptr(), "keys") &&
               operation->arguments.take_buffers(values.ptr(), "values", Access::kRead));
  check_counts(operation->arguments, "values");
  operation->prepare(Op::kSet, deadline_ns);
  operation->batch.set_mode = replaces ? SetMode::kReplace : SetMode::kIfAbsent;
  operation->batch.urgency = Urgency::kStore;
  if (!operation->items.empty()) operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  return stores_of(*operation);
}

std::unique_ptr<PythonOperation> Client::look_up(nb::handle keys, nb::handle timeout) {
  throw_unless(handle_->check_usable());
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  auto operation = std::make_unique<PythonOperation>();
  throw_unless(operation->arguments.take_keys(keys.ptr(), "keys"));
  operation->prepare(Op::kExists, deadline_ns);
  if (operation->items.empty()) return operation;
  bool is_answered = false;
  if (const auto session = handle_->session()) {
    const WithoutGil without_gil;
    is_answered = session->probe(operation->items);
  }
  if (!is_answered) operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  return operation;
}

nb::object Client::sizes(nb::handle keys, nb::handle timeout) {
  return sizes_of(*look_up(keys, timeout));
}

nb::object Client::exists(nb::handle keys, nb::handle timeout) {
  return existence_of(*look_up(keys, timeout));
}

nb::object Client::remove(nb::handle keys, nb::handle timeout) {
  throw_unless(handle_->check_usable());
  std::uint64_t deadline_ns = 0;
  throw_unless(deadline_of(timeout.ptr(), deadline_ns));
  auto operation = std::make_unique<PythonOperation>();
  throw_unless(operation->arguments.take_keys(keys.ptr(), "keys"));
  operation->prepare(Op::kDelete, deadline_ns);
  if (!operation->items.empty()) operation = handle_->run(std::move(operation));
  throw_unless(operation != nullptr);
  return deletions_of(*operation);
}

nb::object Client::scan(std::uint64_t first_word, std::uint64_t second_word, std::size_t keys_max) {
  return page_of(*handle_, first_word, second_word, keys_max);
}

nb::object Client::report() const {
  return report_of(*handle_);
}

void Client::close(double grace_s, double timeout_s) {
  throw_unless(handle_->close(ns_of(grace_s), ns_of(timeout_s)));
}

}  // namespace larder::python
