#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "larder/server/admin_mailbox.h"
#include "larder/server/copy/copy_backend.h"
#include "larder/server/l2_connectors.h"
#include "larder/server/recent_totals.h"
#include "larder/server/router.h"
#include "larder/server/service.h"
#include "larder/server/status_board.h"
#include "larder/server/tier_scans.h"

namespace larder::server {

/// The engine thread (S12): sockets, service and connectors in one epoll. It sleeps until there is
/// work.
///
/// One turn: wait, note the time, take up to 64 messages or 0.5 ms of them, then finished L2
///   batches, then the service's own work.
/// Ownership: everything that it is given outlives it. Threads: one.
class ServerLoop final : private Router::Handler {
 public:
  struct Parts {
    Router& router;
    Service& service;
    StatusBoard& board;
    AdminMailbox& mailbox;
    L2Connectors& connectors;
    CopyBackend& copies;
    TierScans& scans;
  };

  /// `wake_fd` -1: none.
  static SetupResult<std::unique_ptr<ServerLoop>> create(const Parts& parts, int wake_fd);
  ~ServerLoop() override = default;
  ServerLoop(const ServerLoop&) = delete;
  ServerLoop& operator=(const ServerLoop&) = delete;

  /// Until `stop` is true: checked when `wake_fd` is readable, and without it four times a second.
  void run(const std::atomic<bool>& stop);
  /// Runs on until nothing is in flight (S32); new work is refused from here on. Work that is left
  /// at `deadline_ns` is cancelled. False: at `give_up_ns` something had not come back.
  bool drain(std::uint64_t deadline_ns, std::uint64_t give_up_ns);

  ServerStatus status() const;

 private:
  ServerLoop(const Parts& parts, UniqueFd epoll, int wake_fd) noexcept;

  SetupStatus watch(int fd, std::uint64_t what);
  /// Waits no longer than until `until_ns`.
  void turn(std::uint64_t until_ns);
  void wait(std::uint64_t until_ns);
  void receive();
  void take_mail();
  void take_pages();
  void look_for_floods(std::uint64_t now_ns);
  void drain_wake_fd();
  void publish();
  void note_totals(std::uint64_t now_ns);

  void on_message(ConnectionId connection, std::unique_ptr<Message> message) override;
  void on_closed(ConnectionId connection) override;

  Parts parts_;
  const UniqueFd epoll_;
  int wake_fd_;  ///< -1: none, or its other end is closed.
  std::uint64_t started_ns_ = 0;
  std::uint64_t due_ns_ = 0;        ///< The service is to run again.
  std::uint64_t next_look_ns_ = 0;  ///< For floods (S13).
  std::uint64_t turn_end_ns_ = 0;
  BucketCounts<kTurnBoundsNs> turns_;
  RecentTotals recent_;
  bool has_input_ = false;  ///< Messages were left.

  // Results of the last wait().
  std::vector<std::size_t> ready_tiers_;
  bool is_status_wanted_ = false;
  bool has_copies_ = false;
  bool has_mail_ = false;
  bool has_pages_ = false;
};

}  // namespace larder::server
