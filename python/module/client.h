#pragma once

#include "module/results.h"

namespace larder::python {

/// Calls that wait for their answer: what larder.Store is made of. Python sees
/// larder._larder.Client.
///
/// Each returns a new Python object or throws nanobind::python_error. Threads: any.
class Client {
 public:
  /// `spec`: a str.
  explicit Client(nanobind::handle spec);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// (hits, failed, sizes, errors), a list each.
  nanobind::object get_into(nanobind::handle keys, nanobind::handle buffers,
                            nanobind::handle timeout);
  /// bytes or None. A value that was replaced by a larger one since its size was asked is loaded
  /// again, into more memory.
  nanobind::object get(nanobind::handle key, nanobind::handle timeout);
  /// As set_many(), of one key.
  nanobind::object set(nanobind::handle key, nanobind::handle value, bool replaces,
                       nanobind::handle timeout);
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
  nanobind::object scan(nanobind::handle first_word, nanobind::handle second_word,
                        nanobind::handle keys_max);
  nanobind::object report() const;
  /// Half of `timeout` is for running calls to end by themselves.
  void close(nanobind::handle timeout);
  bool is_closed() const noexcept { return handle_->is_closed(); }

 private:
  std::unique_ptr<PythonOperation> run(std::unique_ptr<PythonOperation> operation);
  /// Of the keys that `operation` has.
  std::unique_ptr<PythonOperation> look_up(std::unique_ptr<PythonOperation> operation,
                                           std::uint64_t deadline_ns);
  std::unique_ptr<PythonOperation> look_up(nanobind::handle keys, nanobind::handle timeout);

  std::shared_ptr<Handle> handle_;
};

}  // namespace larder::python
