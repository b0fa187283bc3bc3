// Random clients against an oracle: every byte that is read was committed for that cell, every
// answered hit can be read, every lookup is answered, and the same seed gives the same answers.
#include <array>
#include <map>
#include <set>

#include "larder/base/hash.h"
#include "larder/base/random.h"
#include "larder/cache/engine_tier_test_support.h"

namespace larder::cache {
namespace {

constexpr std::uint64_t kCellBytes = 64;
constexpr std::size_t kWords = kCellBytes / 8;
constexpr std::uint32_t kRanks = 2;
constexpr std::uint32_t kPrompts = 6;
constexpr std::uint32_t kChunksMax = 10;

/// What tells one cell from every other.
std::uint64_t identity(SpaceId space, std::uint64_t prompt, std::uint32_t chunk, std::uint32_t rank,
                       std::uint32_t group) {
  const std::uint64_t words[] = {index_of(space), prompt, chunk, rank, group};
  return hash64(std::as_bytes(std::span{words}));
}

/// Bytes of one version of a cell: they say whose they are, and a mix of two versions is none.
struct Pattern {
  static void write(std::byte* to, std::uint64_t cell, std::uint64_t version) {
    std::uint64_t words[kWords];
    for (std::size_t i = 0; i < kWords; ++i) words[i] = i % 2 == 0 ? cell ^ i : version;
    std::memcpy(to, words, sizeof words);
  }
  /// 0: no version of the cell.
  static std::uint64_t version(const std::byte* from, std::uint64_t cell) {
    std::uint64_t words[kWords];
    std::memcpy(words, from, sizeof words);
    for (std::size_t i = 0; i < kWords; ++i) {
      if (words[i] != (i % 2 == 0 ? cell ^ i : words[1])) return 0;
    }
    return words[1];
  }
};

class Log final : public Listener {
 public:
  void on_result(Ticket ticket, std::optional<std::uint32_t> hit) override {
    add({1, static_cast<std::uint64_t>(ticket), hit.value_or(kNone)});
    answered.insert(static_cast<std::uint64_t>(ticket));
  }
  void on_get(Ticket ticket, std::span<const GetOutcome> outcomes) override {
    add({2, static_cast<std::uint64_t>(ticket), outcomes.size()});
    for (const GetOutcome& outcome : outcomes) {
      add({static_cast<std::uint64_t>(outcome.outcome), outcome.slot.offset, outcome.tier});
    }
    got[static_cast<std::uint64_t>(ticket)] = {outcomes.begin(), outcomes.end()};
  }
  void on_column(ColumnEvent event, SpaceId space, const ChunkHash& chunk) override {
    add({3, static_cast<std::uint64_t>(event), index_of(space), chunk.fingerprint()});
  }
  void add(std::initializer_list<std::uint64_t> words) {
    for (const std::uint64_t word : words)
      digest_ = hash64(std::as_bytes(std::span{&word, 1}), digest_);
  }
  std::uint64_t digest() const { return digest_; }

  std::set<std::uint64_t> answered;
  std::map<std::uint64_t, std::vector<GetOutcome>> got;  ///< By ticket.

 private:
  std::uint64_t digest_ = 0;
};

struct Coverage {
  EngineTotals totals;
  std::uint64_t reads_checked = 0;
  std::uint64_t hits_kept = 0;
  std::uint64_t values_checked = 0;
};

/// One history.
class History {
 public:
  explicit History(std::uint64_t seed) : random_(seed) {
    ArenaOptions of_arena;
    of_arena.kind = ArenaKind::kPrivate;
    of_arena.grain_bytes = kCellBytes;
    of_arena.capacity_bytes = kCellBytes * (40 + random_.below(80));
    of_arena.commit_ahead_bytes = 0;
    arena_ = std::move(*Arena::open(of_arena));
    EngineOptions options;
    const char* const policies[] = {"lru", "arc", "s3-fifo", "noop"};
    options.policy = policies[random_.below(4)];
    options.read_ttl_ns = 40 * kSecond;
    options.session_ttl_ns = 90 * kSecond;
    options.write_ttl_ns = 30 * kSecond;
    options.load_timeout_ns = 5 * kSecond;
    options.evict_cells_max = static_cast<std::uint32_t>(4 + random_.below(60));
    options.batch_bytes_max = kCellBytes * (1 + random_.below(8));
    options.exists_keys_max = static_cast<std::uint32_t>(3 + random_.below(20));
    options.ghosts_max = 64;
    options.promote = static_cast<Promote>(random_.below(3));
    options.skip_l1 = options.policy == "noop" && random_.one_in(2);
    options.keeps_wanted = random_.one_in(4);
    engine_ = std::make_unique<Engine>(options, *arena_, names_, make_tiers(), log);
    engine_->turn(now_ns_);
    LayoutSpec layout{.model = "m", .world_size = kRanks, .groups = {}};
    layout.groups.push_back({.cell_bytes = kCellBytes, .window_chunks = 0});
    if (random_.one_in(2)) layout.groups.push_back({.cell_bytes = kCellBytes, .window_chunks = 3});
    groups_ = static_cast<std::uint32_t>(layout.groups.size());
    layout_ = *engine_->add_layout(layout);
    for (std::uint32_t salt = 0; salt < 2; ++salt) {
      spaces_.push_back(engine_->space(layout_, SaltId{salt}));
    }
    for (int i = 0; i < 3; ++i) add_worker();
    LayoutSpec values{.model = "values", .world_size = 1, .groups = {{.cell_bytes = kCellBytes}}};
    const LayoutId of_values = *engine_->add_layout(values);
    value_space_ = engine_->space(of_values, SaltId{0});
    value_owner_ = engine_->add_owner(of_values);
    for (ScriptedTier* const tier : scripted_) fill(*tier);
  }

  void run(int steps) {
    for (int step = 0; step < steps && !::testing::Test::HasFatalFailure(); ++step) {
      this->step();
      check_gets();
      engine_->check_invariants();
    }
    finish();
  }

  Log log;
  Coverage coverage;

 private:
  struct Writing {
    WriteId id{};
    SpaceId space{};
    std::uint64_t prompt = 0;
    std::uint32_t rank = 0;
    std::uint32_t begin = 0;
    std::uint64_t version = 0;
    std::vector<CellSlot> slots;
    bool is_void = false;  ///< Cleared since.
  };
  struct Worker {
    OwnerId owner{};
    std::vector<Writing> writes;
    std::vector<ReadId> reads;
    std::uint64_t scribbles_until_ns = kNever;  ///< Gone; and what it may still write to.
  };
  struct Request {
    std::uint64_t connection = 0;
    std::string id;
    SpaceId space{};
    std::uint64_t prompt = 0;
    std::uint32_t chunks = 0;
    std::uint32_t hit = 0;
    bool has_result = false;
    bool has_locks = true;  ///< Nothing has ended its locks since it was asked.
    std::uint64_t asked_ns = 0;
  };

  /// A get, with its memory, until its claims have ended.
  struct Getting {
    std::uint64_t prompt = 0;
    std::vector<ChunkHash> chain;
    std::vector<std::string> keys;
    std::vector<std::array<std::byte, kCellBytes>> memory;
    std::vector<Slice> slices;
    std::vector<Item> items;
    std::vector<GetOutcome> outcomes;  ///< Empty: not answered.
  };

  std::vector<Tier> make_tiers() {
    std::vector<Tier> tiers;
    const std::size_t count = random_.one_in(5) ? 0 : 1 + random_.below(2);
    for (std::size_t i = 0; i < count; ++i) {
      auto tier = std::make_unique<ScriptedTier>();
      tier->copies = true;
      tier->holds = true;
      tier->ignores_cancel = random_.one_in(2);
      tier->has_probe = random_.one_in(2);
      tier->locality = random_.one_in(3) ? Locality::kMemory : Locality::kLocalDisk;
      scripted_.push_back(tier.get());
      TierOptions options;
      options.load_bytes_max = kCellBytes * 16;
      options.store_bytes_max = kCellBytes * 8;
      options.min_hits = random_.one_in(4) ? 1 : 0;
      options.fill = static_cast<Fill>(random_.below(3));
      tiers.push_back({std::move(tier), options});
    }
    return tiers;
  }

  /// What an earlier run has left in the tier.
  void fill(ScriptedTier& tier) {
    for (std::uint64_t prompt = 0; prompt < kPrompts; ++prompt) {
      if (random_.one_in(2)) continue;
      const auto chain =
          chain_of(prompt, static_cast<std::uint32_t>(1 + random_.below(kChunksMax)));
      const std::uint64_t version = ++versions_;
      for (std::uint32_t i = 0; i < chain.size() * kRanks * groups_; ++i) {
        const std::uint32_t chunk = i / (kRanks * groups_);
        const std::uint32_t rank = i / groups_ % kRanks;
        const std::uint32_t group = i % groups_;
        const std::uint64_t cell = identity(spaces_[0], prompt, chunk, rank, group);
        std::array<std::byte, kKeyBytesMax> key;
        const std::size_t size = names_.write_key({spaces_[0], chain[chunk], rank, group}, key);
        const std::string name{reinterpret_cast<const char*>(key.data()), size};
        tier.values[name].resize(kCellBytes);
        Pattern::write(reinterpret_cast<std::byte*>(tier.values[name].data()), cell, version);
        tier.sizes[name] = kCellBytes;
        committed_.insert({cell, version});
      }
    }
  }

  void add_worker() {
    workers_.emplace_back();
    workers_.back().owner = engine_->add_owner(layout_);
  }
  Worker& any_worker() { return workers_[random_.below(workers_.size())]; }

  void step() {
    switch (random_.below(27)) {
      case 0:
      case 1:
      case 2:
        return look_up();
      case 3:
      case 4:
        return poll();
      case 5:
        return free_or_end();
      case 6:
      case 7:
        return read();
      case 8:
        return end_read();
      case 9:
      case 10:
      case 11:
        return begin_write();
      case 12:
      case 13:
      case 14:
        return end_write();
      case 15:
      case 16:
        return tier_event();
      case 17:
        return pass_time();
      case 18:
        return rare();
      case 19:
        return scribble();
      case 20:
      case 21:
        return value_event();
      default:
        return tier_event();
    }
  }

  // ---- The scheduler.

  void look_up() {
    Request request;
    request.connection = 1 + random_.below(2);
    request.id = "r" + std::to_string(random_.below(5));
    request.space = spaces_[random_.below(spaces_.size())];
    request.prompt = random_.below(kPrompts);
    request.chunks = static_cast<std::uint32_t>(1 + random_.below(kChunksMax));
    request.asked_ns = now_ns_;
    std::erase_if(requests_, [&](const Request& old) {
      return old.id == request.id && old.connection == request.connection;
    });
    const auto chain = chain_of(request.prompt, request.chunks);
    LookupSpec spec;
    spec.space = request.space;
    spec.chunks = chain;
    spec.readers = kRanks;
    engine_->lookup({request.connection, request.id}, spec);
    if (random_.one_in(4)) {
      const std::uint64_t ticket = ++tickets_;
      engine_->wait_result(Ticket{ticket}, {request.connection, request.id}, now_ns_ + kSecond);
      // The number is given once: to this waiter.
    } else {
      requests_.push_back(request);
    }
  }

  void poll() {
    if (requests_.empty()) return;
    Request& request = requests_[random_.below(requests_.size())];
    if (request.has_result) return;
    const auto hit = engine_->take_result({request.connection, request.id});
    log.add({4, hit.value_or(kNone)});
    if (!hit) {
      ASSERT_LE(now_ns_, request.asked_ns + 6 * kSecond) << "a lookup is not answered";
      return;
    }
    ASSERT_LE(*hit, request.chunks);
    request.has_result = true;
    request.hit = *hit;
    request.asked_ns = now_ns_;
  }

  void free_or_end() {
    if (requests_.empty()) return;
    const std::size_t i = random_.below(requests_.size());
    Request& request = requests_[i];
    const SessionKey key{request.connection, request.id};
    if (random_.one_in(2)) {
      engine_->release(key, {0, static_cast<std::uint32_t>(random_.below(kChunksMax + 1))});
      request.has_locks = false;
      return;
    }
    engine_->end(key);
    requests_.erase(requests_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  // ---- The workers.

  void read() {
    if (requests_.empty()) return;
    Request& request = requests_[random_.below(requests_.size())];
    if (!request.has_result || request.hit == 0) return;
    Worker& worker = any_worker();
    if (worker.scribbles_until_ns != kNever) return;
    const auto rank = static_cast<std::uint32_t>(random_.below(kRanks));
    const auto chain = chain_of(request.prompt, request.hit);
    ReadSpec spec;
    spec.owner = worker.owner;
    spec.session = {request.connection, request.id};
    spec.space = request.space;
    spec.rank = rank;
    spec.range = {0, request.hit};
    spec.chunks = chain;
    std::vector<CellSlot> slots;
    const auto read = engine_->begin_read(spec, slots);
    log.add({5, read.has_value(), slots.size()});
    const bool is_locked = std::exchange(request.has_locks, false);
    ASSERT_TRUE(read || !is_locked) << "an answered hit cannot be read";
    coverage.hits_kept += is_locked ? 1 : 0;
    if (!read) return;
    check_cells(request, rank, slots);
    if (std::ranges::find(worker.reads, *read) == worker.reads.end()) worker.reads.push_back(*read);
  }

  void check_cells(const Request& request, std::uint32_t rank, const std::vector<CellSlot>& slots) {
    std::size_t expected = 0;
    for (std::uint32_t group = 0; group < groups_; ++group) {
      expected += group == 0 ? request.hit : std::min(request.hit, 3U);
    }
    ASSERT_EQ(slots.size(), expected);
    for (const CellSlot& slot : slots) {
      const std::uint64_t cell =
          identity(request.space, request.prompt, slot.chunk, rank, slot.group);
      const std::uint64_t version = Pattern::version(arena_->base() + slot.slot.offset, cell);
      ASSERT_TRUE(version != 0 && committed_.contains({cell, version}))
          << "chunk " << slot.chunk << " of prompt " << request.prompt << " has other bytes";
      log.add({6, version});
      ++coverage.reads_checked;
    }
  }

  void end_read() {
    Worker& worker = any_worker();
    if (worker.reads.empty()) return;
    engine_->end_read(worker.reads.back());
    worker.reads.pop_back();
  }

  void begin_write() {
    Worker& worker = any_worker();
    if (worker.scribbles_until_ns != kNever) return;
    Writing writing;
    writing.space = spaces_[random_.below(spaces_.size())];
    writing.prompt = random_.below(kPrompts);
    writing.rank = static_cast<std::uint32_t>(random_.below(kRanks));
    writing.begin = random_.one_in(3) ? static_cast<std::uint32_t>(random_.below(3)) : 0;
    const auto end = static_cast<std::uint32_t>(writing.begin + 1 + random_.below(kChunksMax));
    const auto chain = chain_of(writing.prompt, end);
    WriteSpec spec;
    spec.owner = worker.owner;
    spec.space = writing.space;
    spec.rank = writing.rank;
    spec.range = {writing.begin, end};
    spec.chunks = std::span{chain}.subspan(writing.begin);
    const auto write = engine_->begin_write(spec, writing.slots);
    log.add({7, write.has_value(), writing.slots.size()});
    if (!write) return;
    for (const CellSlot& slot : writing.slots) log.add({slot.slot.offset});
    writing.id = *write;
    writing.version = ++versions_;
    fill(writing);
    worker.writes.push_back(std::move(writing));
  }

  void fill(const Writing& writing) {
    for (const CellSlot& slot : writing.slots) {
      Pattern::write(arena_->base() + slot.slot.offset, cell_of(writing, slot), writing.version);
    }
  }
  static std::uint64_t cell_of(const Writing& writing, const CellSlot& slot) {
    return identity(writing.space, writing.prompt, writing.begin + slot.chunk, writing.rank,
                    slot.group);
  }

  void end_write() {
    Worker& worker = any_worker();
    if (worker.writes.empty()) return;
    const std::size_t i = random_.below(worker.writes.size());
    Writing writing = std::move(worker.writes[i]);
    worker.writes.erase(worker.writes.begin() + static_cast<std::ptrdiff_t>(i));
    const bool is_gone = worker.scribbles_until_ns != kNever;
    if (is_gone && now_ns_ >= worker.scribbles_until_ns) return;
    if (!is_gone) fill(writing);  // A late writer writes its own slots once more.
    const bool publishes = !random_.one_in(8);
    if (publishes && !is_gone && !writing.is_void) {
      for (const CellSlot& slot : writing.slots) {
        committed_.insert({cell_of(writing, slot), writing.version});
      }
    }
    const bool is_done =
        engine_->end_write(writing.id, publishes ? WriteEnd::kPublish : WriteEnd::kDiscard);
    log.add({8, is_done});
    ASSERT_FALSE(is_gone && is_done) << "a reservation of an ended owner was published";
    ASSERT_TRUE(is_done || !publishes || is_gone) << "a commit was refused";
  }

  /// A worker writes into the slots that it has been given, whatever the engine thinks of them.
  void scribble() {
    Worker& worker = any_worker();
    if (worker.writes.empty() || now_ns_ >= worker.scribbles_until_ns) return;
    const Writing& writing = worker.writes[random_.below(worker.writes.size())];
    for (const CellSlot& slot : writing.slots) {
      std::memset(arena_->base() + slot.slot.offset, 0xEE, kCellBytes);
    }
  }

  // ---- Whole values.

  void value_event() {
    const std::uint64_t prompt = random_.below(3);
    const auto chain = chain_of(prompt, static_cast<std::uint32_t>(1 + random_.below(5)));
    switch (random_.below(5)) {
      case 0:
        return store_values(prompt, chain);
      case 1:
        return engine_->touch(value_space_, chain.back());
      case 2:
        if (gets_.empty()) return;
        return engine_->cancel_get(Ticket{gets_.begin()->first});
      default:
        return get_values(prompt, chain);
    }
  }

  void store_values(std::uint64_t prompt, const std::vector<ChunkHash>& chain) {
    Writing writing{
        .id = {}, .space = value_space_, .prompt = prompt, .version = ++versions_, .slots = {}};
    WriteSpec spec;
    spec.owner = value_owner_;
    spec.space = value_space_;
    spec.range = {0, static_cast<std::uint32_t>(chain.size())};
    spec.chunks = chain;
    const auto write = engine_->begin_write(spec, writing.slots);
    if (!write) return;
    fill(writing);
    for (const CellSlot& slot : writing.slots) {
      committed_.insert({cell_of(writing, slot), writing.version});
    }
    ASSERT_TRUE(engine_->end_write(*write, WriteEnd::kPublish));
  }

  void get_values(std::uint64_t prompt, const std::vector<ChunkHash>& chain) {
    const std::uint64_t ticket = ++get_tickets_;
    Getting& get = gets_[ticket];
    get.prompt = prompt;
    get.chain = chain;
    get.keys.resize(chain.size());
    get.memory.resize(chain.size());
    get.slices.resize(chain.size());
    get.items.resize(chain.size());
    for (std::size_t i = 0; i < chain.size(); ++i) {
      std::array<std::byte, kKeyBytesMax> key;
      const std::size_t size = names_.write_key({value_space_, chain[i], 0, 0}, key);
      get.keys[i] = {reinterpret_cast<const char*>(key.data()), size};
      get.slices[i] = {get.memory[i].data(), kCellBytes};
      get.items[i].key = std::as_bytes(std::span{get.keys[i]});
      get.items[i].value = std::span{&get.slices[i], 1};
    }
    GetSpec spec;
    spec.space = value_space_;
    spec.chunks = get.chain;
    spec.items = get.items;
    spec.deadline_ns = now_ns_ + 5 * kSecond;
    spec.is_ordered = random_.one_in(2);
    engine_->get(Ticket{ticket}, spec);
  }

  /// Takes the answers; claims stay a while, and their bytes with them.
  void check_gets() {
    for (auto& [ticket, outcomes] : log.got) {
      const auto get = gets_.find(ticket);
      ASSERT_TRUE(get != gets_.end() && get->second.outcomes.empty()) << "a get is answered twice";
      get->second.outcomes = outcomes;
    }
    log.got.clear();
    for (auto get = gets_.begin(); get != gets_.end();) {
      if (get->second.outcomes.empty()) {
        ++get;
        continue;
      }
      check_get(get->second);
      if (!random_.one_in(3)) {
        ++get;
        continue;
      }
      engine_->end_get(Ticket{get->first});
      get = gets_.erase(get);
    }
  }

  void check_get(const Getting& get) {
    for (std::uint32_t i = 0; i < get.outcomes.size(); ++i) {
      if (get.outcomes[i].outcome != Outcome::kHit) continue;
      const SlotRef& slot = get.outcomes[i].slot;
      const std::byte* const bytes =
          slot.bytes == 0 ? get.memory[i].data() : arena_->base() + slot.offset;
      const std::uint64_t cell = identity(value_space_, get.prompt, i, 0, 0);
      const std::uint64_t version = Pattern::version(bytes, cell);
      ASSERT_TRUE(version != 0 && committed_.contains({cell, version})) << "a value is wrong";
      ++coverage.values_checked;
    }
  }

  // ---- The world.

  void tier_event() {
    if (scripted_.empty()) return;
    const std::size_t i = random_.below(scripted_.size());
    ScriptedTier& tier = *scripted_[i];
    switch (random_.below(8)) {
      case 0:
        tier.is_down = !tier.is_down;
        break;
      case 1:
        tier.fail_all(ErrorCode::kIo);
        break;
      case 2:
        tier.refuses = tier.refuses == ErrorCode::kNone && random_.one_in(2)
                           ? ErrorCode::kResourceExhausted
                           : ErrorCode::kNone;
        break;
      case 3:
        if (!tier.sizes.empty()) {
          auto at = tier.sizes.begin();
          std::advance(at, random_.below(tier.sizes.size()));
          tier.failing.insert(at->first);
        }
        break;
      default:
        for (std::size_t left = 1 + random_.below(4); left > 0 && !tier.held.empty(); --left) {
          tier.finish(*tier.held[random_.below(tier.held.size())]);
        }
    }
    if (random_.one_in(6)) tier.failing.clear();
    engine_->on_tier(i);
  }

  void pass_time() {
    now_ns_ += random_.one_in(4) ? 1 + random_.below(20 * kSecond) : random_.below(kSecond);
    for (ScriptedTier* const tier : scripted_) tier->expire(now_ns_);
    log.add({9, engine_->turn(now_ns_)});
    for (std::size_t i = 0; i < scripted_.size(); ++i) engine_->on_tier(i);
    // Silence ends locks, and then sessions: the oracle forgets them early.
    std::erase_if(requests_, [&](const Request& request) {
      return now_ns_ >= request.asked_ns + 35 * kSecond;
    });
  }

  void rare() {
    switch (random_.below(6)) {
      case 0:
        return end_worker();
      case 1:
        clear(random_.one_in(2));
        return;
      case 2:
        engine_->set_quota(SaltId{static_cast<std::uint32_t>(random_.below(2))},
                           {.limit_bytes = kCellBytes * (10 + random_.below(100)),
                            .guarantee_bytes = kCellBytes * random_.below(10)});
        return;
      case 3: {
        const std::uint64_t connection = 1 + random_.below(2);
        const auto event = random_.one_in(3) ? ConnectionEvent::kClosed : ConnectionEvent::kHeard;
        engine_->on_connection(connection, event);
        if (event == ConnectionEvent::kClosed) {
          // Its sessions end soon, and another's of the same id may be found instead (E6).
          std::erase_if(requests_,
                        [&](const Request& request) { return request.connection == connection; });
        }
        return;
      }
      case 4: {
        const auto chain = chain_of(random_.below(kPrompts), kChunksMax);
        const std::size_t at = random_.below(chain.size());
        engine_->remove(spaces_[0], std::span{chain}.subspan(at, 1));
        for (Request& request : requests_) request.has_locks = false;
        return;
      }
      default:
        return warm_up();
    }
  }

  void warm_up() {
    const auto chain = chain_of(random_.below(kPrompts), kChunksMax);
    LookupSpec spec;
    spec.space = spaces_[random_.below(spaces_.size())];
    spec.chunks = chain;
    spec.lock = false;
    engine_->lookup({9, "warm"}, spec);
  }

  void clear(bool force) {
    engine_->clear({.force = force});
    for (Worker& worker : workers_) {
      for (Writing& writing : worker.writes) writing.is_void = true;
    }
    // Loads that run are dropped by a forced one; hits that are not known yet may be shorter.
    if (force) {
      for (Request& request : requests_) request.has_locks = false;
    }
  }

  void end_worker() {
    const std::size_t i = random_.below(workers_.size());
    Worker& worker = workers_[i];
    if (worker.scribbles_until_ns != kNever) {
      // Its time is over, or its process is found dead.
      engine_->drop_owner(worker.owner, OwnerEnd::kDead);
      workers_.erase(workers_.begin() + static_cast<std::ptrdiff_t>(i));
      add_worker();
      return;
    }
    const auto why = static_cast<OwnerEnd>(random_.below(3));
    engine_->drop_owner(worker.owner, why);
    const std::uint64_t waits_ns = why == OwnerEnd::kDead           ? 0
                                   : why == OwnerEnd::kUnregistered ? 10 * kSecond
                                                                    : 30 * kSecond;
    worker.scribbles_until_ns = now_ns_ + waits_ns;
    worker.reads.clear();
    if (workers_.size() < 5) add_worker();
  }

  /// Everything comes to an end, and nothing is left.
  void finish() {
    for (ScriptedTier* const tier : scripted_) {
      tier->refuses = ErrorCode::kNone;
      tier->holds = false;
    }
    for (int round = 0; round < 40; ++round) {
      now_ns_ += 10 * kSecond;
      for (ScriptedTier* const tier : scripted_) tier->finish_all();
      engine_->turn(now_ns_);
      for (std::size_t i = 0; i < scripted_.size(); ++i) engine_->on_tier(i);
    }
    for (int round = 0; round < 100 && !gets_.empty(); ++round) check_gets();
    EXPECT_TRUE(gets_.empty()) << "a get is not answered";
    for (Worker& worker : workers_) engine_->drop_owner(worker.owner, OwnerEnd::kDead);
    engine_->drop_owner(value_owner_, OwnerEnd::kDead);
    engine_->clear({.force = true});
    for (ScriptedTier* const tier : scripted_) tier->finish_all();
    for (std::size_t i = 0; i < scripted_.size(); ++i) engine_->on_tier(i);
    engine_->check_invariants();
    EngineStats stats;
    engine_->snapshot(stats);
    EXPECT_EQ(stats.free_bytes, stats.capacity_bytes);
    EXPECT_EQ(stats.sessions, 0U);
    EXPECT_EQ(stats.lookups_running, 0U);
    EXPECT_EQ(stats.l2_batches, 0U);
    EXPECT_EQ(stats.columns, 0U);
    EXPECT_EQ(log.answered.size(), tickets_) << "someone waits for ever";
    std::uint64_t missed = 0;
    for (const std::uint64_t chunks : stats.totals.missed) missed += chunks;
    EXPECT_EQ(stats.totals.asked, stats.totals.hit_l1 + stats.totals.hit_l2 + missed);  // I10
    coverage.totals = stats.totals;
  }

  Random random_;
  std::unique_ptr<Arena> arena_;
  TestNames names_;
  std::vector<ScriptedTier*> scripted_;
  std::unique_ptr<Engine> engine_;
  std::uint64_t now_ns_ = 1'000 * kSecond;
  LayoutId layout_{};
  std::uint32_t groups_ = 1;
  std::vector<SpaceId> spaces_;
  std::vector<Worker> workers_;
  std::vector<Request> requests_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> committed_;
  std::uint64_t versions_ = 0;
  std::uint64_t tickets_ = 0;
  SpaceId value_space_{};
  OwnerId value_owner_{};
  std::map<std::uint64_t, Getting> gets_;  ///< By ticket.
  std::uint64_t get_tickets_ = 0;
};

std::uint64_t seeds() {
  const char* const text = std::getenv("LARDER_CACHE_SEEDS");
  return text == nullptr ? 200 : std::strtoull(text, nullptr, 10);
}

TEST(EngineRandomTest, HistoriesKeepEveryPromise) {
  Coverage sum;
  for (std::uint64_t seed = 1; seed <= seeds(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    History history{seed};
    history.run(400);
    if (HasFailure()) FAIL() << "seed " << seed;
    sum.reads_checked += history.coverage.reads_checked;
    sum.hits_kept += history.coverage.hits_kept;
    sum.values_checked += history.coverage.values_checked;
    const EngineTotals& totals = history.coverage.totals;
    sum.totals.hit_l2 += totals.hit_l2;
    sum.totals.lookups_queued += totals.lookups_queued;
    sum.totals.lookups_late += totals.lookups_late;
    sum.totals.commits_late += totals.commits_late;
    sum.totals.cells_load_joined += totals.cells_load_joined;
    sum.totals.cells_load_failed += totals.cells_load_failed;
    sum.totals.cells_promoted += totals.cells_promoted;
    sum.totals.columns_evicted += totals.columns_evicted;
    sum.totals.l2_store_done += totals.l2_store_done;
    sum.totals.l2_store_lost += totals.l2_store_lost;
    sum.totals.locks_expired += totals.locks_expired;
    sum.totals.writes_expired += totals.writes_expired;
  }
  // What no history came to would not be tested.
  EXPECT_GT(sum.reads_checked, 0U);
  EXPECT_GT(sum.hits_kept, 0U);
  EXPECT_GT(sum.values_checked, 0U);
  EXPECT_GT(sum.totals.hit_l2, 0U);
  EXPECT_GT(sum.totals.lookups_queued, 0U);
  EXPECT_GT(sum.totals.lookups_late, 0U);
  EXPECT_GT(sum.totals.commits_late, 0U);
  EXPECT_GT(sum.totals.cells_load_joined, 0U);
  EXPECT_GT(sum.totals.cells_load_failed, 0U);
  EXPECT_GT(sum.totals.cells_promoted, 0U);
  EXPECT_GT(sum.totals.columns_evicted, 0U);
  EXPECT_GT(sum.totals.l2_store_done, 0U);
  EXPECT_GT(sum.totals.l2_store_lost, 0U);
  EXPECT_GT(sum.totals.locks_expired, 0U);
  EXPECT_GT(sum.totals.writes_expired, 0U);
}

TEST(EngineRandomTest, TheSameSeedGivesTheSameAnswers) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    History first{seed};
    first.run(400);
    History second{seed};
    second.run(400);
    ASSERT_EQ(first.log.digest(), second.log.digest()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace larder::cache
