#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "larder/connector/connector.h"
#include "larder/connector/intake.h"
#include "larder/connectors/resp/audit.h"
#include "larder/connectors/resp/connection.h"
#include "larder/connectors/resp/health_log.h"
#include "larder/connectors/resp/node_view.h"
#include "larder/connectors/resp/relocation.h"

namespace larder::resp {

/// A batch of which the node has items, from the first that it takes to the end of the last.
struct BatchState {
  Batch* batch = nullptr;
  std::uint32_t in_hand = 0;                   ///< Items that were taken and have no outcome.
  std::uint32_t next_item = 0;                 ///< The first that was not taken.
  std::uint32_t sizes_open = 0;                ///< kSize commands without an answer.
  std::vector<std::uint32_t> absent_or_empty;  ///< Items whose size was 0.
  bool is_given_up = false;                    ///< The rest of it is half sent.
  std::list<BatchState>::iterator self;
};

/// The lane of the node's intake: lookups and equally small operations, or values.
inline constexpr LaneNumber kSmall = 0;
inline constexpr LaneNumber kLarge = 1;
LaneNumber lane_of(Op op) noexcept;

/// One server: the connections to it, and the batches that wait for them.
///
/// One connection is for lookups, deletes and touches, so that these never wait behind values; the
/// others are for values. While there are lookups, the server gets few loads at a time, because it
/// serves clients in turn. Items are taken from the intake one by one as connections have room.
/// Get:
/// GET. Set: SET, with NX for kIfAbsent; if that kept an existing value, STRLEN of it, and SET
/// without NX if no Get can take it. Exists: STRLEN, and for sizes of 0, which absent keys have
/// too, one EXISTS for up to 64 of them, and if that is not 0 a GET of each. Delete: UNLINK.
/// Touch: TOUCH. A lost connection fails its stores and deletes; its other commands are tried once
/// more on another connection. While no connection of a kind is available, its lane is down: the
/// intake answers at once, reads as misses and changes with the reason why there is no connection.
///
/// Threads: the reactor's, except view(). Nothing here waits.
/// Invariant: every item in hand is in exactly one place: in again_, in a connection's commands, or
/// in absent_or_empty. connector_words[0] of a batch's first item is its BatchState, or null.
class Node final : private ConnectionEvents {
 public:
  /// `resolver`, `secrets`, `view` and `intake` outlive it. All times are of the intake's clock.
  Node(const RespOptions& options, Resolver& resolver, SecretFiles& secrets, NodeView& view,
       Intake& intake, int epoll_fd, std::uint64_t now_ns);
  ~Node() override = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// For the connection that on_io() passes this to.
  static bool is_of_lookups(std::uint64_t epoll_data) noexcept { return epoll_data >> 32U == 0; }
  void on_io(std::uint64_t epoll_data, std::uint32_t epoll_events, std::uint64_t now_ns) noexcept;
  void on_resolved(std::uint64_t now_ns) noexcept;
  /// Deadlines and timers that are due, then everything that can be sent.
  void turn(std::uint64_t now_ns) noexcept;
  /// When turn() is worth calling again; 0: at once.
  std::uint64_t next_time_ns() const noexcept;
  /// After the intake was stopped: all items in hand end with kCancelled, and the sockets close for
  /// good.
  void close(std::uint64_t now_ns) noexcept;
  bool is_idle() const noexcept { return states_.empty(); }

 private:
  /// An item that was taken, and its ticket if it came from the intake just now.
  struct Taken {
    Operation operation;
    Ticket ticket;
  };
  /// Limit of all loads with the server: one value, or two values, or as `pipeline` says.
  static constexpr std::uint64_t kLoadBytesBesideLookups = std::uint64_t{1} << 20;
  static constexpr std::uint64_t kLoadBytesAlone = std::uint64_t{8} << 20;
  /// The next lookup is likely to come within it.
  static constexpr std::uint64_t kLookupsLastNs = 50'000'000;
  static constexpr Error kLate{ErrorCode::kDeadlineExceeded, "resp", "the deadline had passed"};
  static constexpr Error kStopped{ErrorCode::kCancelled, "resp", "the connector was stopped"};
  static LaneNumber lane_of(CommandKind kind) noexcept;

  void on_ready(Connection& connection) noexcept override;
  bool on_reply(Connection& connection, Command& command, const Reply& reply) noexcept override;
  void on_lost(Connection& connection, std::deque<Command> commands, const Error& error,
               bool was_ready) noexcept override;

  // Taking items and sending them.
  std::span<const std::unique_ptr<Connection>> connections_of(LaneNumber lane) const noexcept;
  void pump(LaneNumber lane, std::uint64_t now_ns);
  bool take(LaneNumber lane, Taken& taken);
  void put_back(LaneNumber lane, Taken& taken);
  static BatchState* state_of(const Batch& batch) noexcept;
  BatchState& state_for(Batch& batch);
  bool may_load_now(std::uint64_t cost_bytes) const noexcept;
  bool has_lookups() const noexcept;
  Connection* choose(LaneNumber lane, const Operation& operation,
                     std::uint64_t cost_bytes) const noexcept;
  bool avoids_suspects(LaneNumber lane, CommandKind kind) const noexcept;
  std::uint64_t cost_of(const Operation& operation) const noexcept;
  bool build(Command& command);
  void build_set(Command& command);
  void append_key(std::string& head, std::string_view key) const;
  void set_down(LaneNumber lane, const Error& error) noexcept;
  void poll_info(std::uint64_t now_ns);
  void poll_audit(std::uint64_t now_ns);
  void poll_health(std::uint64_t now_ns);

  // Answers.
  bool on_info(const Reply& reply);
  bool on_audited(const Reply& reply) noexcept;
  bool on_value(Operation& operation, const Reply& reply) noexcept;
  bool on_stored(Operation& operation, const Reply& reply) noexcept;
  bool on_size(Operation& operation, const Reply& reply) noexcept;
  bool on_any_exists(const Operation& operation, const Reply& reply) noexcept;
  bool on_size_by_value(const Operation& operation, const Reply& reply) noexcept;
  bool on_size_of_kept(Operation& operation, const Reply& reply) noexcept;
  bool on_count(const Operation& operation, const Reply& reply) noexcept;
  bool on_error_reply(Connection& connection, const Operation& operation,
                      const Reply& reply) noexcept;
  void note_served(const Connection& connection, bool is_write) noexcept;
  void ask_for_absent(BatchState& state) noexcept;
  void end_set(BatchState& state, std::uint32_t item, bool existed) noexcept;

  // Ends.
  void miss(BatchState& state, std::uint32_t item) noexcept;
  void miss_as_too_large(BatchState& state, std::uint32_t item) noexcept;
  void fail_all(const Operation& operation, const Error& error) noexcept;
  void end_while_down(const Operation& operation, const Error& error) noexcept;
  void end(BatchState& state, std::uint32_t index, const Status& status) noexcept;
  void release(BatchState& state) noexcept;
  void give_up_due(std::uint64_t now_ns) noexcept;
  /// Ends the batch's items that the server does not have yet, or whose answer can be dropped.
  void give_up(BatchState& state, const Error& error) noexcept;
  void give_up_commands(Connection& connection, const BatchState& state,
                        const std::function<void(std::uint32_t)>& give_up_item) noexcept;
  std::uint64_t overdue_at_ns(const Connection& connection) const noexcept;

  const RespOptions& options_;
  NodeView& view_;
  Intake& intake_;
  ConnectionContext context_;
  std::array<ConnectionKind, 2> kinds_;                   ///< By lane.
  std::vector<std::unique_ptr<Connection>> connections_;  ///< [0] is the small one.
  Relocation relocation_;
  Audit audit_;
  HealthLog health_log_;
  /// By lane: operations that were taken and must be sent (again), before others are taken.
  std::array<std::deque<Operation>, 2> again_;
  std::list<BatchState> states_;
  std::uint64_t next_deadline_ns_ = kNever;  ///< Earliest deadline of a batch in hand, or earlier.
  std::uint64_t cancels_seen_ = 0;
  std::array<std::string, 2>
      set_tails_;                      ///< Sent after a Set's payload: to replace, and if absent.
  std::uint64_t now_ns_ = 0;           ///< Time of the current call.
  std::uint64_t looked_up_at_ns_ = 0;  ///< Some lookup was waiting then; 0: never.
  std::uint64_t next_info_ns_ = 0;
  bool is_info_asked_ = false;
  std::uint64_t stored_before_info_ = 0;  ///< stored.stored_total() when INFO was asked for.
  bool is_info_fatal_ = false;            ///< The connection was lost with INFO at its head.
  bool needs_turn_ = false;               ///< Something waits that pump() has not seen.
  bool is_closing_ = false;
};

}  // namespace larder::resp
