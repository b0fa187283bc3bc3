#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "larder/cache/engine.h"
#include "larder/server/connections.h"
#include "larder/server/copies.h"
#include "larder/server/instances.h"
#include "larder/server/kv_event_log.h"
#include "larder/server/kv_event_streams.h"
#include "larder/server/service.h"
#include "larder/server/spaces.h"
#include "larder/wire/chunk_hash.h"
#include "larder/wire/hash_memo.h"
#include "larder/wire/key.h"
#include "larder/wire/reply.h"

namespace larder::server {

/// The service's parts. service.cc has the requests that are answered at once, and time;
/// key_requests.cc those that need a key.
class Service::Core final : private cache::Listener {
 public:
  Core(const ServerOptions& options, cache::Arena& arena, std::vector<cache::Tier> tiers,
       ReplySink& sink, CopyBackend* copies, PageReader* pages);
  ~Core() override = default;

  void begin_turn(std::uint64_t now_ns);
  void on_message(ConnectionId connection, std::unique_ptr<Message> message);
  void on_sockets_empty();
  void on_closed(ConnectionId connection);
  void on_tier(std::size_t tier) { engine_.on_tier(tier); }
  void on_copies();
  void on_page(const cache::PageWanted& question, const cache::PurgePage& page) {
    engine_.give_page(question, page);
  }
  void on_admin(AdminCommand command, AdminDone done);
  bool set_quota(std::string_view salt, const cache::Quota& quota);
  std::uint64_t end_turn();
  bool drain(std::uint64_t deadline_ns);
  void fill(ServerStatus& status) const;
  void fill_spaces(ServerStatus& status) const;
  void fill_salts(ServerStatus& status) const;
  void check_invariants() const { engine_.check_invariants(); }

 private:
  /// How tokens become chunks; made when the size of a chunk is settled.
  struct Hashing {
    explicit Hashing(const wire::HashMemo::Options& options)
        : memo(options), hasher(options.chunk_tokens) {}

    wire::HashMemo memo;
    wire::ChunkHasher hasher;
  };

  // ---- Listener.
  void on_result(cache::Ticket ticket, std::optional<std::uint32_t> hit_chunks) override;
  void on_get(cache::Ticket /*ticket*/, std::span<const cache::GetOutcome> /*found*/) override {}
  void on_column(cache::ColumnEvent event, cache::SpaceId space,
                 const cache::ChunkHash& chunk) override;
  void on_page_wanted(const cache::PageWanted& question) override;
  void on_purged(cache::Ticket ticket, const cache::PurgeResult& result) override;

  // ---- Replies.
  void reply(const Request& request);  ///< "None".
  void reply(const Request& request, const wire::Bytes& payload);
  /// S2. `is_registered` as for wire::encode_failure().
  void fail(const Request& request, std::string_view text, bool is_registered = true);
  // The same later.
  static Asker asker_of(const Request& request);
  void reply(const Asker& asker, const wire::Bytes* payload);
  void fail(const Asker& asker, std::string_view text);
  void send_failure(ConnectionId connection, wire::Frame uid, wire::Frame operation_frame,
                    wire::Operation operation, std::string_view text, bool is_registered);

  // ---- KV events (S26): in kv_event_requests.cc.
  /// The log of events, and its subscribers.
  struct Events {
    Events(const ServerOptions& options, ReplySink& sink)
        : log(options.kv_event_log_size), streams(log, options.incarnation, sink) {}

    KvEventLog log;
    KvEventStreams streams;
    /// Chunks that became complete and are not in the log yet.
    std::vector<std::pair<cache::SpaceId, wire::ChunkHash>> stored;
    std::uint64_t stored_unknown = 0;  ///< Chunks whose tokens the hash memory has forgotten.
  };
  /// Puts Events::stored into the log, each chunk behind the one before it: the engine publishes
  /// the tail of a prompt first.
  void log_stored();
  void log_stored(cache::SpaceId space, const wire::ChunkHash& hash);
  void tell_events();
  void get_experimental(const Request& request);
  void fill_events(KvEventStatus& status) const;
  void subscribe(const Request& request, const wire::SubscribeKvEvents& arguments);
  void control_stream(ConnectionId connection, const wire::Envelope& envelope);
  std::vector<std::uint32_t> token_ids_of(const wire::HashMemo::Chunk& chunk) const;

  // ---- Requests: in service.cc.
  void note_closed(ConnectionId id);
  void start(Connection& connection, Request& request);
  void answer(Connection& connection, Request& request);
  bool is_refused_at_end(wire::Operation operation) const noexcept;
  void ping(Connection& connection, const Request& request, const wire::Ping& arguments);
  void note_ping(Heartbeat& heartbeat) noexcept;
  void reap();
  void register_worker(const Request& request, const wire::EngineDrivenRegistration& arguments);
  void query(Connection& connection, const Request& request,
             const wire::QueryPrefetchStatus& arguments);
  void wait(Connection& connection, const Request& request,
            const wire::WaitPrefetchStatus& arguments);
  void negotiate(const Request& request, std::uint32_t alignment);
  /// Settles the size of a chunk, where it is not.
  Hashing& hashing() { return settle_chunk(options_.chunk_tokens); }
  /// The same with another size.
  Hashing& settle_chunk(std::uint32_t chunk_tokens);
  std::uint32_t chunk_tokens() { return hashing().hasher.chunk_tokens(); }
  cache::SessionKey session_key(const Request& request, std::string_view id) const noexcept {
    return {.connection = static_cast<std::uint64_t>(request.connection), .request = id};
  }

  // ---- Requests with a key: in key_requests.cc.
  static bool has_key(wire::Operation operation) noexcept;
  /// Works on the first request of the connection for a piece of time. True: it is answered.
  bool work_on(Connection& connection);
  std::unique_ptr<wire::KeyReader> take_reader();
  void answer_with_key(Request& request, const wire::KeyReader& reader);
  void lookup(const Request& request, const wire::KeyReader& reader);
  void free_locks(const Request& request, const wire::KeyReader& reader);
  void prepare_store(const Request& request, const wire::KeyReader& reader,
                     const wire::PrepareStore& arguments);
  void commit_store(const Request& request, const wire::KeyReader& reader,
                    const wire::CommitStore& arguments);
  void prepare_retrieve(const Request& request, const wire::KeyReader& reader,
                        const wire::PrepareRetrieve& arguments);
  void commit_retrieve(const Request& request, const wire::KeyReader& reader,
                       const wire::CommitRetrieve& arguments);
  /// The subject of a worker's request. Nothing: it was answered, as failed.
  struct WorkerRange {
    Instance* instance = nullptr;
    cache::SpaceId space{};
    std::uint32_t rank = 0;
    cache::ChunkRange range;
  };
  std::optional<WorkerRange> read_transfer(const Request& request, const wire::KeyReader& reader,
                                           const WorkerId& worker);
  bool is_refused_as_stale(const Request& request);
  std::span<const cache::ChunkHash> chunks_of(const wire::KeyReader& reader,
                                              cache::ChunkRange range);
  void describe_slots(const Instance& instance);
  void expect_inline_data(const Request& request, const WorkerRange& transfer);
  void clear_skipped(const WorkerRange& range);
  void skip_cell(const WorkerRange& range, std::uint32_t chunk, std::size_t group);
  bool mark_skipped(const WorkerRange& transfer, const wire::PrepareStore& arguments);

  // ---- Workers whose blocks the server copies: in copy_requests.cc.
  enum class EndOfInstance : std::uint8_t { kUnregistered, kReaped, kReplaced };
  void register_driven(const Request& request, const wire::KvCacheRegistration& arguments);
  void fail_registration(const Asker& asker, std::string_view why);
  void warn_of_large_chunks(const Instance& instance) const;
  void end_instance(const WorkerId& id, EndOfInstance why);
  bool is_ending(const wire::Integer& id) const noexcept;
  void unregister_driven(const Request& request, const wire::Integer& id);
  void end_view(std::unique_ptr<Ending> ending, ViewId view);
  std::unique_ptr<Transfer> begin_transfer(Request& request, const WorkerRange& range,
                                           wire::BlockIds& blocks, wire::Frame event);
  bool submit(std::unique_ptr<Transfer>& transfer);
  void store(Request& request, const wire::KeyReader& reader);
  void retrieve(Request& request, const wire::KeyReader& reader);
  void mark_null_chunks(const WorkerRange& range, const wire::BlockIds& blocks);
  void finish_mappings();
  void finish(Mapping& mapping);
  void finish(Ending& ending);
  void finish(Transfer& transfer);
  void void_transfers();

  // ---- Commands of the admin HTTP (S28): in admin_requests.cc, and cache_requests.cc.
  /// Deletes in the tiers that the engine is at.
  struct Purge {
    AdminDone done;
    ObjectFilter filter;
    std::uint64_t deleted_in_l1 = 0;
    std::uint64_t skipped = 0;
    /// For a delete of these keys; empty: a clear.
    std::optional<std::uint64_t> keys;
  };
  struct Prefetch {
    std::uint64_t began_ns = 0;
    std::uint64_t objects_of_chunk = 0;
    std::uint64_t chunks = 0;
    std::optional<std::uint32_t> hit;  ///< Chunks; empty: it is running.
  };
  void carry_out(const ClearCommand& command, AdminDone& done);
  void carry_out(DeleteCommand& command, AdminDone& done);
  void carry_out(const PrefetchCommand& command, const AdminDone& done);
  void carry_out(const PrefetchQuery& command, const AdminDone& done);
  /// True: the ticket was of a prefetch.
  void drop_one_prefetch();
  bool note_prefetched(cache::Ticket ticket, std::uint32_t hit_chunks);
  /// Ends the sessions of finished prefetches, and forgets those whose results are not fetched.
  void end_prefetches();
  /// Why no further one can be begun.
  std::optional<AdminError> why_not(std::size_t running, std::size_t running_max) const;
  void carry_out(ChecksumCommand& command, AdminDone& done);
  void finish(Checksums& checksums);
  // Of quotas: in quota_requests.cc.
  void carry_out(const QuotaCommand& command, const AdminDone& done);
  void carry_out(const UsageCommand& command, const AdminDone& done);
  void carry_out(const BeginCountCommand& command, const AdminDone& done);
  void carry_out(const EndCountCommand& command, const AdminDone& done);

  const ServerOptions& options_;
  cache::Arena& arena_;
  ReplySink& sink_;
  CopyBackend* const copies_backend_;  ///< Null: the server copies for no worker.
  PageReader* const page_reader_;      ///< Null: no tier can be cleared.
  const std::size_t tiers_;
  Copies copies_;
  Spaces spaces_;
  std::vector<std::uint64_t> counted_ns_;  ///< By tier: when its keys were counted; kNever.
  cache::Engine engine_;
  Instances instances_;
  Connections connections_;
  std::unique_ptr<Hashing> hashing_;
  std::optional<Events> events_;                           ///< Null: the server sends no events.
  std::vector<std::unique_ptr<wire::KeyReader>> readers_;  ///< Not in use.
  /// Of the connections whose first request has begun.
  std::unordered_map<std::uint64_t, std::unique_ptr<wire::KeyReader>> in_work_;
  std::unordered_map<std::uint64_t, Asker> waiters_;  ///< WAITs, by ticket.
  std::unordered_map<std::uint64_t, Purge> purges_;   ///< By ticket.
  std::map<std::uint64_t, Prefetch> prefetches_;      ///< By ticket, and so by age.
  std::vector<std::uint64_t> prefetched_;             ///< Sessions to end.
  std::uint64_t tickets_ = 0;
  ServiceTotals totals_;

  std::uint64_t now_ns_ = 0;
  std::uint64_t due_ns_ = kNever;   ///< When the loop should have been back.
  std::uint64_t next_look_ns_ = 0;  ///< For instances.
  std::uint64_t heartbeat_ns_;      ///< The shortest of the clients there are.
  std::uint64_t stalled_ns_ = 0;    ///< When the last stall was noticed; 0: never.
  bool is_after_stall_ = false;     ///< Messages that arrive now were waiting then.
  bool is_draining_ = false;
  std::uint64_t drain_began_ns_ = 0;

  // Scratch.
  std::vector<cache::ChunkHash> chunks_;
  std::vector<cache::CellSlot> cells_;
  std::vector<wire::Slot> slots_;
  std::vector<std::uint64_t> skipped_;
};

}  // namespace larder::server
