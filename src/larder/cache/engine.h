#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/base/result.h"
#include "larder/cache/arena/arena.h"
#include "larder/cache/engine_options.h"
#include "larder/cache/engine_stats.h"
#include "larder/cache/ids.h"
#include "larder/cache/layouts.h"
#include "larder/cache/tier_accounts.h"
#include "larder/connector/connector.h"

namespace larder::cache {

/// A slot for one cell of a read or a write.
struct CellSlot {
  std::uint32_t chunk = 0;  ///< From the begin of the range.
  std::uint16_t group = 0;
  SlotRef slot;
};

/// Cells of a write that must not be stored (E17): bit chunk * groups + group, from the range's
/// begin.
struct SkipMask {
  std::span<const std::uint64_t> words;

  bool has(std::size_t bit) const noexcept {
    return bit / 64 < words.size() && (words[bit / 64] >> (bit % 64) & 1U) != 0;
  }
};

struct LookupSpec {
  SpaceId space{};
  /// From the request's first chunk on. Beyond 2^20 cells, counted from `begin`, the tiers are not
  /// asked.
  std::span<const ChunkHash> chunks;
  /// The serving engine has the chunks before this one itself. They are used in L1, as by a hit;
  /// they are not asked of the tiers, loaded, locked or counted. The hit is at least `begin`, or
  /// all chunks where it is above their number.
  std::uint32_t begin = 0;
  std::uint32_t readers = 1;      ///< Shares of each lock (E7); 0 is the world size.
  std::uint64_t deadline_ns = 0;  ///< 0: EngineOptions::load_timeout_ns from now.
  bool lock = true;               ///< No: warm-up.
};

struct ReadSpec {
  OwnerId owner{};
  SessionKey session;
  SpaceId space{};
  std::uint32_t rank = 0;
  ChunkRange range;                   ///< Within the request.
  std::span<const ChunkHash> chunks;  ///< Of the range.
  /// A separate read, even if the owner has the same one open: the copier ends each of them.
  bool is_separate = false;
};

struct WriteSpec {
  OwnerId owner{};
  SpaceId space{};
  std::uint32_t rank = 0;
  ChunkRange range;                        ///< Within the request.
  std::span<const ChunkHash> chunks;       ///< Of the range.
  const SkipMask* skip = nullptr;          ///< Null: store all.
  std::span<const std::uint64_t> bytes{};  ///< By chunk, if the layout leaves sizes open.
};

/// A get of whole values by their keys (E35), in a space of one rank and one group. `chunks` and
/// `items` are the caller's and must stay until on_get(); then the items have a Get's results (see
/// Connector), except that the bytes of a value from L1 are still in its slot.
struct GetSpec {
  SpaceId space{};
  std::span<const ChunkHash> chunks;  ///< The engine's names for the items' keys.
  std::span<Item> items;              ///< As for a Get of Connector: keys, and slices to load into.
  std::uint64_t deadline_ns = kNever;
  Urgency urgency = Urgency::kDemand;
  bool allow_shorter = false;       ///< As in Batch; such values do not go through L1.
  bool misses_wrong_sizes = false;  ///< As in Batch.
  bool is_ordered = true;  ///< The keys are a prefix in their order; no: each is independent.
  /// Without a destination: each value ends in L1, whatever the promotion says, or its item fails
  /// for want of room. Of the items' slices only the size counts, which is the value's.
  bool stays = false;
};

/// Where the value of a get is. `slot.bytes` is 0: in the item's slices, or nowhere.
struct GetOutcome {
  Outcome outcome = Outcome::kPending;
  SlotRef slot;         ///< Claimed until end_get(); the driver copies.
  TierId tier = kNone;  ///< It was loaded from; kNone: it was in L1, or is nowhere.
  /// GetSpec::stays: nothing was begun for it, because another get is loading it into L1.
  bool is_loading = false;
};

/// The result of a pledge (E41).
enum class Pledge : std::uint8_t {
  kGiven = 0,
  kAbsent,  ///< The column is not whole in L1.
  kNoRoom,  ///< The pledges would take more than EngineOptions::pledge_share.
};

enum class OwnerEnd : std::uint8_t {
  kUnregistered = 0,  ///< Memory that it may still write to waits owner_grace_ns.
  kReaped,  ///< It was silent; memory that it may still write to waits one more write_ttl_ns.
  kDead,    ///< Its process is known to have ended: nothing waits.
};
enum class ConnectionEvent : std::uint8_t { kHeard = 0, kClosed };
enum class WriteEnd : std::uint8_t { kPublish = 0, kDiscard };
enum class ColumnEvent : std::uint8_t { kStored = 0, kRemoved };

/// How far a clear goes (E36).
enum class ClearScope : std::uint8_t {
  kL1 = 0,
  kAll,  ///< The tiers, too: on_page_wanted() and on_purged() follow.
};

struct ClearSpec {
  bool force = false;              ///< Drop locked cells, too; later reads of them fail.
  std::optional<SpaceId> space{};  ///< Only this one.
  ClearScope scope = ClearScope::kL1;
  Ticket ticket{};                     ///< kAll: names the purge; unique among running purges.
  std::uint64_t deadline_ns = kNever;  ///< kAll: the purge's.
};

struct ClearResult {
  std::uint64_t cells = 0;  ///< That went.
  std::uint64_t bytes = 0;
  std::uint64_t cells_locked = 0;  ///< That stayed.
};

/// A request for the keys of a tier, from a position of its scan on.
struct PageWanted {
  Ticket purge{};
  TierId tier = 0;
  ScanCursor from;
  std::uint64_t number = 0;  ///< No two questions have the same.
};

/// Keys of one tier to delete: the driver's choice from a page of its scan.
struct PurgePage {
  std::span<const std::string> keys;  ///< Copied.
  ScanCursor next;                    ///< As Connector::scan() returned it.
  bool is_last = true;                ///< Nothing comes after this page.
  Error error{};                      ///< Not kNone: the tier could not be scanned, and is skipped.
};

/// A key to delete from tiers.
struct TierKey {
  std::string name;                ///< Its name in the tiers.
  std::optional<CellName> cell{};  ///< Its name in the engine, if that knows the space.
};

struct PurgeResult {
  std::array<std::uint64_t, kTiersMax> deleted{};  ///< Keys, by tier; absent ones are not counted.
  std::uint64_t keys_failed = 0;                   ///< They may still exist.
  TierMask tiers_skipped = 0;                      ///< Not searched to the end.
  Error error{};  ///< The first of either kind; code kNone: there was none.
};

/// Gets the engine's events. Called on the engine's thread, from inside its calls. Must not call
/// back.
class Listener {
 public:
  virtual ~Listener() = default;
  /// Answers wait_result(): nullopt at its deadline.
  virtual void on_result(Ticket ticket, std::optional<std::uint32_t> hit_chunks) = 0;
  virtual void on_get(Ticket ticket, std::span<const GetOutcome> outcomes) = 0;
  /// A column became complete, or is not complete any more.
  virtual void on_column(ColumnEvent event, SpaceId space, const ChunkHash& chunk) = 0;
  /// Scan the tier from there on, in another thread because a scan may do I/O, choose the keys to
  /// delete, and call Engine::give_page(). For drivers that clear tiers.
  virtual void on_page_wanted(const PageWanted& /*question*/) {}
  /// Once for each purge.
  virtual void on_purged(Ticket /*purge*/, const PurgeResult& /*result*/) {}
};

/// The cache engine (DESIGN 8): L1 in the arena, L2 behind connectors, as one state machine.
///
/// Inputs: calls, finished L2 batches (on_tier) and time (turn). Outputs: return values,
///   submissions, and calls of the listener. The same input gives the same output (E37).
/// Time: calls happen at the time of the last turn(); a driver calls turn() before the messages
///   that it has collected, and when the time comes that turn() returned.
/// Slots: those of a read or a write stay valid until its end call. Copies are the driver's.
/// Ownership: the tiers are the engine's. Arena, names and listener outlive it. Before it is
///   destroyed it must be drained, or its connectors must have returned every batch.
/// Threads: one. No call blocks, reads a clock or throws.
/// Cost: O(cells) of a call's range, without an allocation per cell; clear(), set_quota() and
///   check_invariants() walk all columns.
class Engine {
 public:
  Engine(const EngineOptions& options, Arena& arena, const KeyNames& names, std::vector<Tier> tiers,
         Listener& listener);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // ---- Layouts, spaces, owners.
  /// kInvalidArgument: it is no layout, or another one of the same model lives (E4).
  Result<LayoutId> add_layout(const LayoutSpec& spec);
  void drop_layout(LayoutId layout);
  /// Model and world size of the layout, with a salt. The same answer for the same question.
  SpaceId space(LayoutId layout, SaltId salt);
  /// Bytes of one chunk, on all ranks and in all groups of the model's present layout.
  std::uint32_t cells_of_column(SpaceId space) const;
  OwnerId add_owner(LayoutId layout);
  void drop_owner(OwnerId owner, OwnerEnd why);

  // ---- A request, as its scheduler sees it.
  void lookup(SessionKey key, const LookupSpec& spec);
  /// QUERY (E29): empty while the lookup runs; its hit once; 0 for an unknown session.
  std::optional<std::uint32_t> take_result(SessionKey key);
  /// WAIT: on_result() comes with the hit, from inside this call where it is known.
  void wait_result(Ticket ticket, SessionKey key, std::uint64_t deadline_ns);
  /// FREE: releases the rest of the session's locks in the range of the request (E7).
  void release(SessionKey key, ChunkRange range);
  void end(SessionKey key);
  /// The same for a session of this connection only (E6).
  void end_exactly(SessionKey key);
  void on_connection(std::uint64_t connection, ConnectionEvent event);

  // ---- Workers.
  /// Nothing: some cell of the range is not resident (E8). Otherwise `out` has the slots, claimed.
  std::optional<ReadId> begin_read(const ReadSpec& spec, std::vector<CellSlot>& out);
  void end_read(ReadId read);
  /// Empty: there is nothing to write, no room, or the range is open already (E13).
  std::optional<WriteId> begin_write(const WriteSpec& spec, std::vector<CellSlot>& out);
  /// False: the reservation is not open any more, or its bytes are not available (E14).
  bool end_write(WriteId write, WriteEnd how);
  /// The reservation that a COMMIT of this range means.
  std::optional<WriteId> open_write(const WriteSpec& spec) const;

  // ---- Whole values.
  /// on_get() comes once, from inside this call where L1 decides.
  void get(Ticket ticket, const GetSpec& spec);
  void end_get(Ticket ticket);
  /// A hint: on_get() comes as soon as the connectors have returned their batches for it.
  void cancel_get(Ticket ticket);
  /// A use of the column, if it is in L1: as a hit of a get.
  void touch(SpaceId space, const ChunkHash& chunk);
  /// The column does not leave L1 for others (E41), until unpledge() or until it is removed. One
  /// pledge a column: the second one is given, too, and is the same.
  Pledge pledge(SpaceId space, const ChunkHash& chunk);
  void unpledge(SpaceId space, const ChunkHash& chunk);
  /// The size of the value if it is in L1.
  std::optional<std::uint64_t> find(SpaceId space, const ChunkHash& chunk) const;

  // ---- Operation.
  ClearResult clear(const ClearSpec& spec);
  /// Removes the columns from L1, locked ones, too. Open writes to them are discarded at their
  /// commit.
  ClearResult remove(SpaceId space, std::span<const ChunkHash> chunks);
  /// Removes single cells from L1. Locked ones, and open writes, only with `force`; a locked one
  /// takes its whole column, whose rest no session could use.
  ClearResult remove_cells(std::span<const CellName> cells, bool force);
  /// Deletes these keys in some tiers, which do not get them from L1 any more either; on_purged()
  /// reports the result. L1 is unchanged.
  void purge_keys(Ticket ticket, std::span<const TierKey> keys, TierMask tiers,
                  std::uint64_t deadline_ns);
  /// remove(), and deletes the columns' cells in every tier; on_purged() reports the result. Object
  /// groups that no layout of the model has had since the engine began are unknown to it.
  ClearResult purge(Ticket ticket, SpaceId space, std::span<const ChunkHash> chunks,
                    std::uint64_t deadline_ns);
  /// Answers on_page_wanted(), at any later time. Ignored for a purge that has ended.
  void give_page(const PageWanted& question, const PurgePage& page);
  void set_quota(SaltId salt, const Quota& quota);
  /// The tier's bytes of each salt, for `Quota::tier_limit_bytes`. The engine itself adds the bytes
  /// that it stores and subtracts those that a purge of named columns deletes, if the layout gives
  /// their size; the driver finds other changes by counting the tier's keys. It visits each of them
  /// between these two calls, while stores continue. The accounts of other salts stay.
  void begin_count(TierId tier);
  void end_count(TierId tier, std::span<const SaltBytes> counted);
  std::uint64_t account(TierId tier, SaltId salt) const noexcept;
  /// The tier's event fd is readable.
  void on_tier(std::size_t tier);
  /// Bounded work; returns when to call again, kNever if there is nothing to do.
  std::uint64_t turn(std::uint64_t now_ns);
  void snapshot(EngineStats& stats) const;
  SaltStats salt_stats(SaltId salt) const noexcept;
  /// Refuses the loads of lookups and further stores; true when nothing is in flight any more. Call
  /// again after on_tier() and turn() while it is false.
  bool drain(std::uint64_t deadline_ns);

  /// I1 to I9 as far as they can be seen at one moment; aborts where one does not hold. Walks
  /// everything; for tests and simulations.
  void check_invariants() const;

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace larder::cache
