#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "larder/connector/connector.h"
#include "larder/connectors/resp/audit.h"
#include "larder/connectors/resp/connection.h"
#include "larder/connectors/resp/health_log.h"
#include "larder/connectors/resp/lane.h"
#include "larder/connectors/resp/node_view.h"
#include "larder/connectors/resp/relocation.h"

namespace larder::resp {

/// Who gets the batches that a node is done with.
class BatchSink {
 public:
  virtual ~BatchSink() = default;
  virtual void on_batch(Batch& batch) noexcept = 0;
};

/// One server: the connections to it, and the batches that wait for them.
///
/// One connection is for lookups, deletes and touches, so that these never wait behind values; the
/// others are for values. While there are lookups, few loads are with the server, which answers
/// everybody in turn. A batch is worked off item by item as connections have room. Get: GET.
/// Set: SET, with NX for kIfAbsent; where that kept what was there, STRLEN of it, and SET without
/// NX if no Get can take it. Exists: STRLEN, and for sizes of 0, which absent keys have too, one
/// EXISTS for up to 64 of them, and where that is not 0 a GET of each. Delete: UNLINK. Touch:
/// TOUCH. A connection that is lost fails its stores and deletes; the others are tried once more on
/// another one. While no connection of a kind can be had, its operations fail at once.
///
/// Threads: the reactor's, but for view(). Nothing here waits.
/// Invariant: every item of a batch in flight without an outcome is in exactly one place: not taken
/// yet, in a lane's operations, in a connection's commands, or in absent_or_empty.
class Node final : private ConnectionEvents {
 public:
  /// `resolver`, `secrets` and `view` outlive it.
  Node(const RespOptions& options, Resolver& resolver, SecretFiles& secrets, NodeView& view,
       BatchSink& sink, int epoll_fd);
  ~Node() override = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Set in Batch::connector_pending by cancel().
  static constexpr std::uint32_t kCancelBit = std::uint32_t{1} << 31;

  void accept(Batch& batch, std::uint64_t now_ns);
  /// Some batch may have its cancel bit set.
  void on_cancel(std::uint64_t now_ns) noexcept;
  /// Of the connection that on_io() hands this to.
  static bool is_of_lookups(std::uint64_t epoll_data) noexcept { return epoll_data >> 32U == 0; }
  void on_io(std::uint64_t epoll_data, std::uint32_t epoll_events, std::uint64_t now_ns) noexcept;
  void on_resolved(std::uint64_t now_ns) noexcept;
  /// Deadlines and timers that are due, then everything that can be sent.
  void turn(std::uint64_t now_ns) noexcept;
  /// When turn() is worth calling again; 0: at once.
  std::uint64_t next_time_ns() const noexcept;
  /// Everything comes back as kCancelled, and the sockets close for good.
  void close(std::uint64_t now_ns) noexcept;

 private:
  static constexpr std::size_t kSmall = 0;  ///< Lanes.
  static constexpr std::size_t kLarge = 1;
  /// All loads together with the server: or one value; or two values, or what `pipeline` says.
  static constexpr std::uint64_t kLoadBytesBesideLookups = std::uint64_t{1} << 20;
  static constexpr std::uint64_t kLoadBytesAlone = std::uint64_t{8} << 20;
  /// The next lookup is likely to come within it.
  static constexpr std::uint64_t kLookupsLastNs = 50'000'000;
  static constexpr Error kLate{ErrorCode::kDeadlineExceeded, "resp", "the deadline had passed"};
  static constexpr Error kStopped{ErrorCode::kCancelled, "resp", "the connector was stopped"};
  static std::size_t lane_of(CommandKind kind) noexcept;

  void on_ready(Connection& connection) noexcept override;
  bool on_reply(Connection& connection, Command& command, const Reply& reply) noexcept override;
  void on_lost(Connection& connection, std::deque<Command> commands, const Error& error,
               bool was_ready) noexcept override;

  // Taking items and sending them.
  std::span<const std::unique_ptr<Connection>> connections_of(std::size_t lane) const noexcept;
  void pump(std::size_t lane, std::uint64_t now_ns);
  bool take(std::size_t lane, Operation& operation, std::uint64_t now_ns);
  bool take_item(BatchState& state, Operation& operation, std::uint64_t now_ns);
  bool may_load_now(std::uint64_t cost_bytes) const noexcept;
  bool has_lookups() const noexcept;
  Connection* choose(std::size_t lane, const Operation& operation,
                     std::uint64_t cost_bytes) const noexcept;
  bool avoids_suspects(std::size_t lane, CommandKind kind) const noexcept;
  std::uint64_t cost_of(const Operation& operation) const noexcept;
  bool build(Command& command);
  void build_set(Command& command);
  void append_key(std::string& head, std::string_view key) const;
  void fail_lane(std::size_t lane, const Error& error, std::uint64_t now_ns) noexcept;
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
  void fail(BatchState& state, std::uint32_t index, const Error& error) noexcept;
  void refuse(BatchState& state, std::uint32_t index, const Error& error) noexcept;
  void fail_all(const Operation& operation, const Error& error) noexcept;
  void finish(BatchState& state) noexcept;
  /// All of the batch that the server does not have yet, or whose answer can be dropped.
  void give_up(BatchState& state, const Error& error) noexcept;
  void give_up_commands(Connection& connection, BatchState& state, const Error& error) noexcept;
  std::uint64_t overdue_at_ns(const Connection& connection) const noexcept;

  const RespOptions& options_;
  NodeView& view_;
  BatchSink& sink_;
  ConnectionContext context_;
  std::array<ConnectionKind, 2> kinds_;                   ///< By lane.
  std::vector<std::unique_ptr<Connection>> connections_;  ///< [0] is the small one.
  Relocation relocation_;
  Audit audit_;
  HealthLog health_log_;
  std::array<Lane, 2> lanes_;
  std::list<BatchState> states_;
  std::multimap<std::uint64_t, BatchState*> deadlines_;
  std::array<std::string, 2> set_tails_;  ///< After a Set's payload: to replace, and if absent.
  std::uint64_t now_ns_ = 0;              ///< Of the call under way.
  std::uint64_t looked_up_at_ns_ = 0;     ///< Some lookup was waiting then; 0: never.
  std::uint64_t next_info_ns_ = 0;
  bool is_info_asked_ = false;
  std::uint64_t stored_before_info_ = 0;  ///< stored.stored_total() when INFO was asked for.
  bool is_info_fatal_ = false;            ///< The connection was lost with INFO at its head.
  bool needs_turn_ = false;               ///< Something waits that pump() has not seen.
  bool is_closing_ = false;
};

}  // namespace larder::resp
