#pragma once

#include "module/front/event_client.h"

namespace larder::python {

/// Every operation of a store, submitted under an id and drained with the full result of each key:
/// the base of larder.aio. Python sees larder._larder.AsyncClient.
///
/// The caller chooses the id, and so knows it before the answer reaches another thread. A submit
/// returns the result if it is there at once (nothing to do, or an Exists answered from memory),
/// else None, and drain() returns (id, result) once.
///
/// Threads: any, all calls.
class AsyncClient : public EventClient {
 public:
  explicit AsyncClient(nanobind::handle spec);

  nanobind::object submit_get_into(std::uint64_t id, nanobind::handle keys,
                                   nanobind::handle buffers, nanobind::handle urgency,
                                   nanobind::handle timeout);
  /// Into its own bytes object of at most `room` bytes. Gives (bytes or None, error or None, room
  /// for the next attempt or 0): see room_after().
  nanobind::object submit_get(std::uint64_t id, nanobind::handle key, std::uint64_t room,
                              nanobind::handle timeout);
  nanobind::object submit_set(std::uint64_t id, nanobind::handle key, nanobind::handle value,
                              bool replaces, nanobind::handle timeout);
  nanobind::object submit_set_many(std::uint64_t id, nanobind::handle keys, nanobind::handle values,
                                   bool replaces, nanobind::handle urgency,
                                   nanobind::handle timeout);
  /// (size or None, error or None)
  nanobind::object submit_size(std::uint64_t id, nanobind::handle key, nanobind::handle timeout);
  nanobind::object submit_sizes(std::uint64_t id, nanobind::handle keys, nanobind::handle timeout);
  nanobind::object submit_exists(std::uint64_t id, nanobind::handle keys, nanobind::handle timeout);
  /// Like Client::look_up_all() and Client::hint().
  nanobind::object submit_look_up(std::uint64_t id, nanobind::handle keys,
                                  nanobind::handle timeout);
  nanobind::object submit_hint(std::uint64_t id, nanobind::handle keys, nanobind::handle hint,
                               nanobind::handle ttl, nanobind::handle timeout);
  nanobind::object hints() const { return hints_of(*handle_); }
  nanobind::object submit_delete(std::uint64_t id, nanobind::handle keys, nanobind::handle timeout);
  /// [(id, result), ...]; [] after close().
  nanobind::object drain();

 private:
  struct Operation;
  using ResultOf = nanobind::object (*)(const PythonOperation&);

  std::shared_ptr<Operation> new_operation(std::uint64_t id, ResultOf result_of) const;
  nanobind::object start(std::shared_ptr<Operation> operation);
  nanobind::object look_up(std::uint64_t id, nanobind::handle keys, nanobind::handle timeout,
                           ResultOf result_of);
};

}  // namespace larder::python
