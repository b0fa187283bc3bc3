#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "larder/cache/engine.h"
#include "larder/server/copy/copy_backend.h"
#include "larder/server/copy/copy_plan.h"
#include "larder/server/message.h"
#include "larder/server/options.h"
#include "larder/server/spaces.h"
#include "larder/server/status.h"
#include "larder/wire/registration.h"
#include "larder/wire/reply.h"

namespace larder::server {

/// A read that a worker has begun and not committed.
struct OpenRead {
  std::uint32_t begin = 0;  ///< Chunks.
  std::uint32_t end = 0;
  cache::ChunkHash last;
  cache::SpaceId space{};
  std::uint32_t rank = 0;
  cache::ReadId read{};
};

/// A registered worker, of either mode.
struct Instance {
  wire::Integer id;
  std::string model;
  std::uint32_t world_size = 0;
  std::uint32_t block_tokens = 0;
  std::uint32_t num_layers = 0;
  std::string dtype;
  bool is_mla = false;
  cache::LayoutSpec layout_spec;
  cache::LayoutId layout{};
  cache::OwnerId owner{};
  bool has_groups = false;  ///< It registered several.
  /// For a worker whose blocks the server copies; null: it copies itself.
  std::shared_ptr<const CopyPlan> plan;
  ViewId view{};  ///< Of its memory, if it has a plan.
  /// The layout of its slots, by group. The shapes and names that these point to are in `texts`.
  std::vector<wire::SlotLayout> slots;
  std::vector<std::vector<std::uint64_t>> shapes;
  std::vector<std::string> dtypes;

  ConnectionId connection{};  ///< The connection that it was last heard from.
  std::uint64_t heard_ns = 0;
  std::uint64_t closed_ns = kNever;  ///< When that connection was seen to close.
  Heartbeat heartbeat;
  std::vector<OpenRead> reads;
  bool has_sent_inline = false;       ///< The log has it.
  std::uint64_t chunks_loaded = 0;    ///< By its reads that have succeeded.
  std::optional<std::uint32_t> rank;  ///< Of its last transfer: a registration has none.

  std::uint64_t chunk_bytes() const noexcept;  ///< Of all groups, on its rank.
};

/// LMCache's server has one register for each mode: LMCache's SDK gives its own worker the id of
/// the engine's, which has the other mode.
struct WorkerId {
  wire::Integer id;
  bool is_driven = false;  ///< The server copies its blocks.

  friend bool operator==(const WorkerId&, const WorkerId&) = default;
};

/// The registered workers (S4, S17, S18): their identity, their owners in the engine, and when they
/// count as gone.
///
/// A registration always starts fresh: everything that the instance had open is ended, because a
///   client registers again only after it has failed its open transfers.
/// Threads: the service's. Cost: O(1) to find; look_after() is O(instances).
class Instances {
 public:
  Instances(const ServerOptions& options, cache::Engine& engine, Spaces& spaces)
      : options_(options), engine_(engine), spaces_(spaces) {}

  /// A worker of the mode in which the server copies.
  struct Driven {
    wire::Integer id;
    std::string model;
    std::uint32_t world_size = 0;
    std::shared_ptr<const CopyPlan> plan;
    ViewId view{};
  };

  /// Registers it, for chunks of so many tokens. An error says what, where and the remedy: another
  /// layout of the model is alive (E4), the id is in use on another live connection (S17), or a
  /// chunk would be too large.
  Result<Instance*, std::string> add(const wire::EngineDrivenRegistration& registration,
                                     std::uint32_t chunk_tokens, ConnectionId connection,
                                     std::uint64_t now_ns);
  /// The same for a worker whose memory is mapped as `view`, with a model and an id that check()
  /// has accepted.
  Result<Instance*, std::string> add(const Driven& worker, ConnectionId connection,
                                     std::uint64_t now_ns);
  /// Whether such a worker may register: an error as from add(), as far as it is known before its
  /// memory is mapped.
  Result<void, std::string> check(const wire::Integer& id, std::string_view model,
                                  std::uint32_t world_size, const CopyPlan& plan,
                                  ConnectionId connection, std::uint64_t now_ns);
  /// An error: the id is in use on another live connection (S17).
  Result<void, std::string> check_free(const WorkerId& id, ConnectionId connection,
                                       std::uint64_t now_ns);
  /// It is registered no more, and still has its owner and layout in the engine, for as long as
  /// copies of it run: then release() it. Null: there is none.
  std::unique_ptr<Instance> take(const WorkerId& id);
  void release(const Instance& instance, cache::OwnerEnd why);

  /// Null: it is not registered.
  Instance* find(const WorkerId& id) noexcept;
  /// A message named it: it lives, on this connection.
  void note_heard(Instance& instance, ConnectionId connection, std::uint64_t now_ns) noexcept;
  void on_closed(ConnectionId connection, std::uint64_t now_ns) noexcept;

  /// The server itself was silent: no worker counts as gone because of that.
  void excuse_silence(std::uint64_t now_ns) noexcept;

  /// The next PING of this id gets the answer false (S4): it asked for a transfer, and is not
  /// registered. At most kOwedMax are remembered; the oldest are forgotten.
  void owe_false(const wire::Integer& id);
  /// Whether that is so; true once.
  bool take_owed(const wire::Integer& id);

  /// Workers to be reaped (S18).
  std::vector<WorkerId> gone(std::uint64_t now_ns) const;
  std::size_t size() const noexcept { return by_id_.size(); }
  /// As Connections::shortest_heartbeat_ns().
  std::uint64_t shortest_heartbeat_ns() const noexcept;
  void fill(std::vector<InstanceStatus>& out, std::uint64_t now_ns) const;

 private:
  static constexpr std::size_t kInstancesMax = 4096;
  static constexpr std::size_t kOwedMax = 4096;
  /// S18: how long an instance outlives its connection.
  static constexpr std::uint64_t kClosedGraceNs = 10'000'000'000;
  /// S17: an instance that was heard from so recently, on an open connection, is in use.
  static constexpr std::uint64_t kActiveNs = 60'000'000'000;

  struct IntegerHash {
    std::size_t operator()(const wire::Integer& value) const noexcept {
      return std::hash<std::uint64_t>{}(value.bits ^ (value.is_negative ? ~std::uint64_t{0} : 0));
    }
  };

  bool is_gone(const Instance& instance, std::uint64_t now_ns) const noexcept;
  Result<std::unique_ptr<Instance>, std::string> describe(
      const wire::EngineDrivenRegistration& registration, std::uint32_t chunk_tokens);
  std::uint32_t dtype_number(std::string_view dtype);
  Result<Instance*, std::string> put(std::unique_ptr<Instance> made, ConnectionId connection,
                                     std::uint64_t now_ns);

  const ServerOptions& options_;
  cache::Engine& engine_;
  Spaces& spaces_;
  struct WorkerIdHash {
    std::size_t operator()(const WorkerId& value) const noexcept {
      return IntegerHash{}(value.id) * 2 + (value.is_driven ? 1 : 0);
    }
  };
  std::unordered_map<WorkerId, std::unique_ptr<Instance>, WorkerIdHash> by_id_;
  std::unordered_set<wire::Integer, IntegerHash> owed_;
  std::deque<wire::Integer> owed_order_;  ///< The same ids, the oldest first.
  std::vector<std::string> dtypes_;
};

}  // namespace larder::server
