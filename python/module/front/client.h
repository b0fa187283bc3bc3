#pragma once

#include "module/front/results.h"

namespace larder::python {

/// Calls that wait for their answer: the base of larder.Store. Python sees larder._larder.Client.
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
                            nanobind::handle urgency, nanobind::handle timeout);
  /// bytes or None. A value that was replaced by a larger one since its size was asked is loaded
  /// again, into more memory.
  nanobind::object get(nanobind::handle key, nanobind::handle timeout);
  /// Like set_many(), for one key.
  nanobind::object set(nanobind::handle key, nanobind::handle value, bool replaces,
                       nanobind::handle timeout);
  /// (stored, existed, failed, errors), a list each.
  nanobind::object set_many(nanobind::handle keys, nanobind::handle values, bool replaces,
                            nanobind::handle urgency, nanobind::handle timeout);
  /// A list of sizes, None for a miss.
  nanobind::object sizes(nanobind::handle keys, nanobind::handle timeout);
  /// (hits, failed, sizes, errors, seconds to load or None).
  nanobind::object look_up_all(nanobind::handle keys, nanobind::handle timeout);
  /// As touches_of(). `ttl` is None where the hint does not last.
  nanobind::object hint(nanobind::handle keys, nanobind::handle hint, nanobind::handle ttl,
                        nanobind::handle timeout);
  nanobind::object hints() const { return hints_of(*handle_); }
  /// A list of bools.
  nanobind::object exists(nanobind::handle keys, nanobind::handle timeout);
  /// (deleted, errors), a list each.
  nanobind::object remove(nanobind::handle keys, nanobind::handle timeout);
  /// ([(key, size), ...], cursor, done): of the next `keys_max` keys, those that begin with
  /// `prefix`.
  nanobind::object scan(nanobind::handle first_word, nanobind::handle second_word,
                        nanobind::handle keys_max, nanobind::handle prefix) {
    return page_of(*handle_, first_word, second_word, keys_max, prefix);
  }
  /// Removes those keys: (how many there were, how many failed, first failure or None, cursor,
  /// done).
  nanobind::object delete_page(nanobind::handle first_word, nanobind::handle second_word,
                               nanobind::handle keys_max, nanobind::handle prefix,
                               nanobind::handle timeout) {
    return deleted_page_of(*handle_, first_word, second_word, keys_max, prefix, timeout);
  }
  nanobind::object report() const;
  /// Half of `timeout` is for running calls to end by themselves.
  void close(nanobind::handle timeout);
  bool is_closed() const noexcept { return handle_->is_closed(); }

 private:
  std::unique_ptr<PythonOperation> run(std::unique_ptr<PythonOperation> operation);
  /// For the keys of `operation`.
  std::unique_ptr<PythonOperation> look_up(std::unique_ptr<PythonOperation> operation);
  std::unique_ptr<PythonOperation> look_up(nanobind::handle keys, nanobind::handle timeout);

  std::shared_ptr<Handle> handle_;
};

}  // namespace larder::python
