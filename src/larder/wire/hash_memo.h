#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "larder/base/indexed_heap.h"
#include "larder/wire/chunk_hash.h"
#include "larder/wire/tokens.h"

namespace larder::wire {

/// Remembers chunks of tokens in the form in which clients send them, with their hashes.
///
/// The same prefix comes again and again: in every operation of a request, and in every request
/// that begins alike. Hashing costs 1.5 us a chunk, comparing its bytes 50 ns. So a tree holds for
/// each chunk, below the chunk before it, the encoded bytes of its tokens and its hash. A step down
/// the tree compares all bytes, so an answer is never wrong; the same tokens in another encoding
/// are merely not found. Each of the two token forms has a tree of its own.
///
/// Bounded by bytes. The least recently used leaf is evicted first, so a chunk is never kept
/// without those before it.
///
/// One thread at a time. A step costs one comparison of a chunk when the prefix continues as it did
/// last time, and at most kProbesMax comparisons otherwise; a full memo is no slower.
class HashMemo {
  struct Node;

 public:
  struct Options {
    std::size_t bytes_max = std::size_t{256} << 20;  ///< Index and nodes included; 0 turns it off.
    std::uint32_t chunk_tokens = 256;
    /// Random, so that no client can choose tokens that meet in one bucket.
    std::uint64_t seed = 0;
    bool finds_by_hash = false;  ///< Whether find_chunk() is used.
  };

  /// The end of a prefix: a position in the tree. May be kept while other prefixes come and go; a
  /// position whose chunk was evicted finds and remembers nothing.
  class Position {
   public:
    Position() = default;  ///< Finds and remembers nothing.

   private:
    friend class HashMemo;
    Position(Node* node, std::uint32_t generation) : node_(node), generation_(generation) {}
    Node* node_ = nullptr;
    std::uint32_t generation_ = 0;
  };

  struct Step {
    Position position;      ///< Behind the chunk.
    ChunkHash hash;         ///< Of the chunk.
    std::size_t bytes = 0;  ///< Of its encoded tokens.
  };

  /// A chunk that is remembered. Its views end with the next call that is not const.
  struct Chunk {
    TokenForm form = TokenForm::kIds;
    std::span<const std::byte> encoded;
    const ChunkHash* before = nullptr;  ///< The hash of the chunk before; null: it is the first.
  };

  struct Statistics {
    std::uint64_t bytes = 0;  ///< Never above bytes_max.
    std::uint64_t chunks = 0;
    std::uint64_t found_total = 0;
    std::uint64_t absent_total = 0;  ///< Steps that found no chunk.
    std::uint64_t evicted_total = 0;
    std::uint64_t refused_total = 0;  ///< Chunks for which there was no room.
  };

  explicit HashMemo(const Options& options);
  ~HashMemo();
  HashMemo(const HashMemo&) = delete;
  HashMemo& operator=(const HashMemo&) = delete;

  std::uint32_t chunk_tokens() const noexcept { return chunk_tokens_; }

  /// Before the first chunk.
  Position root(TokenForm form) noexcept;

  /// The chunk after `at` whose bytes are at the start of `encoded`, if it is known. The caller
  /// makes sure that a whole chunk of elements follows; the bytes behind them do not matter.
  std::optional<Step> find(Position at, std::span<const std::byte> encoded) noexcept;

  /// Remembers the chunk after `before`, whose elements are all of `encoded`. Returns the position
  /// behind it: an existing one, or one that remembers nothing if there is no room. Allocates.
  Position remember(Position before, std::span<const std::byte> encoded, const ChunkHash& hash);

  /// The chunk with this hash, if it is remembered.
  std::optional<Chunk> find_chunk(const ChunkHash& hash) const noexcept;

  /// The prefix up to `at` was used now. Call it once for a prefix, at its end.
  void touch(Position at) noexcept;

  Statistics statistics() const noexcept;

  /// For tests: checks every invariant of the structure, in O(chunks).
  void check_invariants() const;

  static constexpr int kProbesMax = 32;

 private:
  static constexpr std::uint32_t kNoSlot = 0xFFFF'FFFF;
  static constexpr std::size_t kRoots = 2;  ///< The first slots of nodes_: one a token form.
  /// Memory of the allocator and the tables beside a node and its bytes.
  static constexpr std::size_t kOverheadBytes = 48;
  /// The same of a chunk in by_hash_, beside its bucket.
  static constexpr std::size_t kByHashBytes = 64;

  struct Node {
    std::unique_ptr<std::byte[]> encoded;
    std::uint32_t encoded_bytes = 0;
    std::uint32_t generation = 0;  ///< Counts the chunks that this slot had.
    Node* parent = nullptr;        ///< Null for roots and free slots.
    Node* last_child = nullptr;    ///< The one that was stepped to last: a guess for the next time.
    std::uint32_t children = 0;
    std::uint32_t slot = 0;
    std::uint32_t next_in_bucket = kNoSlot;
    std::uint64_t key = 0;  ///< bucket_key() of the chunk.
    /// When the prefix that ends here was used last. Uses of longer ones do not count: as long as
    /// they are here this is no leaf, and when the last of them goes, being the oldest leaf, this
    /// one is as old.
    std::uint64_t used = 0;
    std::size_t place = 0;  ///< In leaves_.
    ChunkHash hash{};

    TokenForm form = TokenForm::kIds;

    bool is_root() const noexcept { return slot < kRoots; }
  };
  struct ByHash {
    std::uint64_t seed = 0;
    std::size_t operator()(const ChunkHash& hash) const noexcept;
  };

  struct LeafOrder {
    static bool is_before(const Node& a, const Node& b);
    static std::size_t place(const Node& node);
    static void set_place(Node& node, std::size_t place);
  };

  Node* resolve(Position at) const noexcept;
  std::uint64_t bucket_key(const Node& parent, std::span<const std::byte> encoded) const noexcept;
  std::uint32_t& bucket(std::uint64_t key) noexcept;
  Node* find_child(Node& parent, std::span<const std::byte> encoded, std::uint64_t key) noexcept;
  static bool begins_with(std::span<const std::byte> encoded, const Node& node) noexcept;
  bool make_room(std::size_t bytes) noexcept;
  void evict(Node& node) noexcept;
  Node& take_slot();
  std::size_t accounted_bytes(std::size_t encoded_bytes) const noexcept;
  std::size_t table_bytes() const noexcept;

  std::uint32_t chunk_tokens_;
  std::uint64_t seed_;
  std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::uint64_t clock_ = 0;
  std::deque<Node> nodes_;              ///< Never shrinks, so that a Position can be checked.
  std::vector<std::uint32_t> free_;     ///< Slots of nodes_.
  std::vector<std::uint32_t> buckets_;  ///< The first node's slot; kNoSlot. Fixed at construction.
  IndexedHeap<Node, LeafOrder> leaves_;
  /// Slots, where chunks are found by their hash. Of two forms of one chunk, the later one's.
  std::optional<std::unordered_map<ChunkHash, std::uint32_t, ByHash>> by_hash_;
  Statistics statistics_;
};

}  // namespace larder::wire
