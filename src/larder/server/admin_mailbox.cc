#include "larder/server/admin_mailbox.h"

#include <string>

#include "larder/base/clock.h"

namespace larder::server {
namespace {

AdminError busy(std::string text) {
  return {.kind = AdminError::Kind::kBusy, .text = std::move(text)};
}

}  // namespace

Result<std::unique_ptr<AdminMailbox>> AdminMailbox::create() {
  LARDER_ASSIGN(EventFd posted, EventFd::create());
  return std::unique_ptr<AdminMailbox>{new AdminMailbox{std::move(posted)}};
}

AdminAnswer AdminMailbox::ask(AdminCommand command, std::uint64_t until_ns) {
  const MutexLock lock{mutex_};
  if (is_closed_) return busy("the server is ending; ask again when it has been restarted");
  if (answers_.size() == kAskersMax) {
    return busy(std::to_string(kAskersMax) +
                " requests are being carried out already; ask again in a moment");
  }
  const AdminTicket ticket{++tickets_};
  const auto mine = answers_.emplace(ticket, std::nullopt).first;
  mail_.push_back({ticket, std::move(command)});
  posted_.signal();
  while (!mine->second && !is_closed_) {
    const std::uint64_t now_ns = RealClock::instance().now_ns();
    if (now_ns >= until_ns) break;
    answered_.wait_for(mutex_, until_ns - now_ns);
  }
  const std::optional<AdminAnswer> answer = std::move(mine->second);
  answers_.erase(mine);
  if (answer) return *answer;
  const bool is_withdrawn =
      std::erase_if(mail_, [&](const Mail& mail) { return mail.ticket == ticket; }) != 0;
  if (is_withdrawn) {
    return busy(is_closed_ ? "the server is ending; nothing was done"
                           : "the server did not answer in time; nothing was done");
  }
  return AdminError{
      .kind = AdminError::Kind::kUnfinished,
      .text = "the server has begun this and did not finish in time; it may still take effect"};
}

void AdminMailbox::close() {
  const MutexLock lock{mutex_};
  is_closed_ = true;
  answered_.notify_all();
}

std::vector<AdminMailbox::Mail> AdminMailbox::take() {
  posted_.drain();
  const MutexLock lock{mutex_};
  return std::exchange(mail_, {});
}

void AdminMailbox::answer(AdminTicket ticket, AdminAnswer answer) {
  const MutexLock lock{mutex_};
  const auto asker = answers_.find(ticket);
  if (asker == answers_.end()) return;  // It waits no more.
  asker->second = std::move(answer);
  answered_.notify_all();
}

}  // namespace larder::server
