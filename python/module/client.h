#pragma once

#include "module/results.h"

namespace larder::python {

/// Calls that wait for their answer: what larder.Store is made of. Python sees
/// larder._larder.Client.
///
/// Each returns a new Python object or throws nanobind::python_error. Threads: any.
class Client {
 public:
  explicit Client(const std::string& spec);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// (hits, failed, sizes, errors), a list each.
  nanobind::object get_into(nanobind::handle keys, nanobind::handle buffers,
                            nanobind::handle timeout);
  /// bytes or None.
  nanobind::object get(nanobind::handle key, nanobind::handle timeout);
  /// (stored, existed, failed, errors), a list each.
  nanobind::object set_many(nanobind::handle keys, nanobind::handle values, bool replaces,
                            nanobind::handle timeout);
  /// A list of sizes, None for a miss.
  nanobind::object sizes(nanobind::handle keys, nanobind::handle timeout);
  /// A list of bools.
  nanobind::object exists(nanobind::handle keys, nanobind::handle timeout);
  /// (deleted, errors), a list each.
  nanobind::object remove(nanobind::handle keys, nanobind::handle timeout);
  /// ([(key, size), ...], cursor, done).
  nanobind::object scan(std::uint64_t first_word, std::uint64_t second_word, std::size_t keys_max);
  nanobind::object report() const;
  void close(double grace_s, double timeout_s);
  bool is_closed() const noexcept { return handle_->is_closed(); }

 private:
  std::unique_ptr<PythonOperation> look_up(nanobind::handle keys, nanobind::handle timeout);

  std::shared_ptr<Handle> handle_;
};

}  // namespace larder::python
