#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/server/admin_command.h"

namespace larder::server {

/// A command's number. It is never given twice.
enum class AdminTicket : std::uint64_t {};

/// HTTP threads leave commands for the loop here, and wait for the answers.
///
/// A command is answered at most once. A caller that stops waiting before the loop has taken its
///   command withdraws it: the command is never carried out. One that the loop has taken is carried
///   out, and its answer is dropped.
/// Bounds: kAskersMax callers at a time; a further one is refused at once. There are more HTTP
///   threads than that, so commands never delay /healthcheck.
class AdminMailbox {
 public:
  static constexpr std::size_t kAskersMax = 4;

  static Result<std::unique_ptr<AdminMailbox>> create();

  // ---- Any thread.
  /// Blocks until the answer is there, close(), or `until_ns` (monotonic). Without an answer it
  /// returns AdminError::Kind::kBusy, or kUnfinished if the command may still take effect.
  AdminAnswer ask(AdminCommand command, std::uint64_t until_ns) LARDER_EXCLUDES(mutex_);
  /// The loop ends: callers that wait are refused, and so are later ones. Idempotent.
  void close() LARDER_EXCLUDES(mutex_);

  // ---- The loop's thread.
  struct Mail {
    AdminTicket ticket{};
    AdminCommand command;
  };
  /// Readable when take() would return something.
  int event_fd() const noexcept { return posted_.get(); }
  /// The commands that were not taken yet, in their order.
  std::vector<Mail> take() LARDER_EXCLUDES(mutex_);
  void answer(AdminTicket ticket, AdminAnswer answer) LARDER_EXCLUDES(mutex_);

 private:
  /// By waiting caller; empty until the loop has answered.
  using Answers = std::map<AdminTicket, std::optional<AdminAnswer>>;

  explicit AdminMailbox(EventFd posted) noexcept : posted_(std::move(posted)) {}

  EventFd posted_;
  Mutex mutex_;
  CondVar answered_;
  std::vector<Mail> mail_ LARDER_GUARDED_BY(mutex_);  ///< Not taken.
  Answers answers_ LARDER_GUARDED_BY(mutex_);
  std::uint64_t tickets_ LARDER_GUARDED_BY(mutex_) = 0;
  bool is_closed_ LARDER_GUARDED_BY(mutex_) = false;
};

}  // namespace larder::server
