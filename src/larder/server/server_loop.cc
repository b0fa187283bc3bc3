#include "larder/server/server_loop.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "larder/base/clock.h"

namespace larder::server {
namespace {

constexpr std::size_t kMessagesMax = 64;
constexpr std::uint64_t kReceiveNs = 500'000;
constexpr std::uint64_t kLookNs = 250'000'000;
/// While the socket does not run dry, connections that deliver nothing are found after this time.
constexpr std::uint64_t kLookAnywayNs = 1'000'000'000;
/// A turn that takes so long was stopped in between.
constexpr std::uint64_t kLateNs = 250'000'000;
constexpr std::uint64_t kStopFlagNs = 250'000'000;
constexpr std::uint64_t kDrainNs = 50'000'000;  ///< Between two checks of work in flight.

// The source of an event of epoll.
constexpr std::uint64_t kSockets = 0;
constexpr std::uint64_t kBoard = 1;
constexpr std::uint64_t kWake = 2;
constexpr std::uint64_t kCopies = 3;
constexpr std::uint64_t kMailbox = 4;
constexpr std::uint64_t kScans = 5;
constexpr std::uint64_t kTiers = 6;  ///< And up.

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

/// In epoll's unit, rounded up: otherwise it would spin for the rest.
int milliseconds_until(std::uint64_t until_ns) noexcept {
  constexpr std::uint64_t kMillisecond = 1'000'000;
  constexpr std::uint64_t kLongest = 3'600'000;
  if (until_ns == kNever) return -1;
  const std::uint64_t now = now_ns();
  if (until_ns <= now) return 0;
  return static_cast<int>(std::min((until_ns - now + kMillisecond - 1) / kMillisecond, kLongest));
}

}  // namespace

SetupResult<std::unique_ptr<ServerLoop>> ServerLoop::create(const Parts& parts, int wake_fd) {
  UniqueFd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  std::unique_ptr<ServerLoop> loop{new ServerLoop{parts, std::move(epoll), wake_fd}};
  LARDER_TRY(loop->watch(parts.router.event_fd(), kSockets));
  LARDER_TRY(loop->watch(parts.router.monitor_fd(), kSockets));
  LARDER_TRY(loop->watch(parts.board.event_fd(), kBoard));
  LARDER_TRY(loop->watch(parts.copies.event_fd(), kCopies));
  LARDER_TRY(loop->watch(parts.mailbox.event_fd(), kMailbox));
  LARDER_TRY(loop->watch(parts.scans.event_fd(), kScans));
  if (wake_fd >= 0) LARDER_TRY(loop->watch(wake_fd, kWake));
  for (std::size_t tier = 0; tier < parts.connectors.size(); ++tier) {
    LARDER_TRY(loop->watch(parts.connectors[tier].event_fd(), kTiers + tier));
  }
  loop->turn(0);
  loop->publish();
  return loop;
}

ServerLoop::ServerLoop(const Parts& parts, UniqueFd epoll, int wake_fd) noexcept
    : parts_(parts),
      epoll_(std::move(epoll)),
      wake_fd_(wake_fd),
      started_ns_(now_ns()),
      turn_end_ns_(started_ns_) {}

SetupStatus ServerLoop::watch(int fd, std::uint64_t what) {
  ::epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = what;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return SetupError{Error::from_errno(errno, "", "").code(),
                    "the server's loop cannot watch a descriptor: " + errno_text(errno)};
}

// --- A turn -------------------------------------------------------------------------------------

void ServerLoop::turn(std::uint64_t until_ns) {
  // A reply that was sent may have taken the edge with it.
  const bool has_input = has_input_ || parts_.router.has_input();
  wait(has_input ? 0 : std::min(until_ns, due_ns_));
  const std::uint64_t now = now_ns();
  if (recent_.is_due(now)) note_totals(now);
  parts_.service.begin_turn(now);
  receive();
  // Copies that ran while this thread did not are looked at when the gap was noticed (S15).
  if (has_copies_ && now_ns() - now < kLateNs) {
    has_copies_ = false;
    parts_.service.on_copies();
  }
  for (const std::size_t tier : ready_tiers_) parts_.service.on_tier(tier);
  if (std::exchange(has_pages_, false)) take_pages();
  if (std::exchange(has_mail_, false)) take_mail();
  due_ns_ = parts_.service.end_turn();
  if (std::exchange(is_status_wanted_, false) && parts_.board.is_asked()) publish();
  look_for_floods(now);
  turn_end_ns_ = now_ns();
  turns_.record(turn_end_ns_ - now);
}

/// Before the turn changes them.
void ServerLoop::note_totals(std::uint64_t now_ns) {
  ServerStatus status;
  parts_.service.fill(status);
  recent_.note(turn_end_ns_, now_ns,
               WatchedTotals::of(status.engine.totals, parts_.router.replies_dropped()));
}

void ServerLoop::look_for_floods(std::uint64_t now_ns) {
  if (next_look_ns_ == kNever && parts_.router.connections() != 0) next_look_ns_ = now_ns + kLookNs;
  if (next_look_ns_ == kNever) return;
  if (now_ns < next_look_ns_ + (has_input_ ? kLookAnywayNs : 0)) return;
  next_look_ns_ = parts_.router.look_for_floods(!has_input_) ? now_ns + kLookNs : kNever;
}

void ServerLoop::wait(std::uint64_t until_ns) {
  until_ns = std::min(until_ns, next_look_ns_);
  ready_tiers_.clear();
  std::array<::epoll_event, 32> events{};
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                 milliseconds_until(until_ns));
  for (int i = 0; i < count; ++i) {
    const std::uint64_t what = events[static_cast<std::size_t>(i)].data.u64;
    if (what >= kTiers) ready_tiers_.push_back(what - kTiers);
    if (what == kCopies) has_copies_ = true;
    if (what == kMailbox) has_mail_ = true;
    if (what == kScans) has_pages_ = true;
    if (what == kBoard) is_status_wanted_ = true;
    if (what == kWake) drain_wake_fd();
  }
}

void ServerLoop::receive() {
  const std::uint64_t until_ns = now_ns() + kReceiveNs;
  std::size_t messages = 0;
  do {
    has_input_ = parts_.router.receive(*this, 1);  // A message may take half a millisecond.
    ++messages;
  } while (has_input_ && messages < kMessagesMax && now_ns() < until_ns);
  if (!has_input_) parts_.service.on_sockets_empty();
}

void ServerLoop::take_mail() {
  for (AdminMailbox::Mail& mail : parts_.mailbox.take()) {
    parts_.service.on_admin(std::move(mail.command),
                            [&mailbox = parts_.mailbox, ticket = mail.ticket](AdminAnswer answer) {
                              mailbox.answer(ticket, std::move(answer));
                            });
  }
}

void ServerLoop::take_pages() {
  for (const TierScans::Answer& answer : parts_.scans.take()) {
    parts_.service.on_page(answer.question, {.keys = answer.keys,
                                             .next = answer.next,
                                             .is_last = answer.is_last,
                                             .error = answer.error});
  }
}

void ServerLoop::on_message(ConnectionId connection, std::unique_ptr<Message> message) {
  parts_.service.on_message(connection, std::move(message));
}

void ServerLoop::on_closed(ConnectionId connection) {
  parts_.service.on_closed(connection);
}

void ServerLoop::drain_wake_fd() {
  std::array<char, 64> bytes{};
  const ::ssize_t got = ::read(wake_fd_, bytes.data(), bytes.size());
  if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, wake_fd_, nullptr);
  wake_fd_ = -1;
}

// --- What others see ----------------------------------------------------------------------------

ServerStatus ServerLoop::status() const {
  ServerStatus status;
  parts_.service.fill(status);
  status.started_ns = started_ns_;
  status.connections = parts_.router.connections();
  status.replies_dropped = parts_.router.replies_dropped();
  status.connections_shut = parts_.router.connections_shut();
  status.tiers = parts_.connectors.status();
  status.turns = turns_;
  constexpr std::uint64_t kMinuteNs = 60'000'000'000;
  const auto totals = WatchedTotals::of(status.engine.totals, status.replies_dropped);
  const auto grown = [&](std::uint64_t minutes) {
    return recent_.growth(totals, status.now_ns, minutes * kMinuteNs);
  };
  status.last_minute = grown(1);
  status.last_5_minutes = grown(5);
  status.last_15_minutes = grown(15);
  return status;
}

void ServerLoop::publish() {
  parts_.board.publish(std::make_shared<const ServerStatus>(status()));
}

// --- Begin and end ------------------------------------------------------------------------------

void ServerLoop::run(const std::atomic<bool>& stop) {
  while (!stop.load()) turn(wake_fd_ >= 0 ? kNever : now_ns() + kStopFlagNs);
}

bool ServerLoop::drain(std::uint64_t deadline_ns, std::uint64_t give_up_ns) {
  turn(0);
  while (!parts_.service.drain(deadline_ns)) {
    const std::uint64_t now = now_ns();
    if (now >= give_up_ns) return false;
    turn(now + kDrainNs);
  }
  return true;
}

}  // namespace larder::server
