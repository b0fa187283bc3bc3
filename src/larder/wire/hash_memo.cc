#include "larder/wire/hash_memo.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "larder/base/check.h"
#include "larder/base/hash.h"

namespace larder::wire {
bool HashMemo::LeafOrder::is_before(const Node& a, const Node& b) {
  return a.used < b.used;
}
std::size_t HashMemo::LeafOrder::place(const Node& node) {
  return node.place;
}
void HashMemo::LeafOrder::set_place(Node& node, std::size_t place) {
  node.place = place;
}

HashMemo::HashMemo(const Options& options)
    : chunk_tokens_(options.chunk_tokens), seed_(options.seed), bytes_max_(options.bytes_max) {
  LARDER_CHECK(chunk_tokens_ >= 1);
  // A token takes 3 bytes on average (5 for large vocabularies): about one chunk a bucket. The
  // number is fixed, because rehashing a full memo would stop the caller for milliseconds.
  if (options.finds_by_hash) by_hash_.emplace(0, ByHash{seed_});
  const std::size_t chunks = bytes_max_ / accounted_bytes(std::size_t{3} * chunk_tokens_);
  buckets_.assign(std::bit_ceil(std::max<std::size_t>(chunks, 1)), kNoSlot);
  if (by_hash_) {
    by_hash_->reserve(chunks);
    by_hash_->max_load_factor(1e6F);  // Rehashing would stop the caller here, too.
  }
  bytes_ = std::min(bytes_max_, table_bytes());
  for (const TokenForm form : {TokenForm::kIds, TokenForm::kBytes}) {
    Node& root = nodes_.emplace_back();
    root.slot = static_cast<std::uint32_t>(nodes_.size() - 1);
    root.form = form;
  }
}

HashMemo::~HashMemo() = default;

HashMemo::Position HashMemo::root(TokenForm form) noexcept {
  Node& node = nodes_[form == TokenForm::kIds ? 0 : 1];
  return {&node, node.generation};
}

HashMemo::Node* HashMemo::resolve(Position at) const noexcept {
  return at.node_ && at.node_->generation == at.generation_ ? at.node_ : nullptr;
}

/// The least size of an encoded chunk: one byte a token.
std::uint64_t HashMemo::bucket_key(const Node& parent,
                                   std::span<const std::byte> encoded) const noexcept {
  const std::uint64_t family = (std::uint64_t{parent.slot} + 1) * 0x9E3779B97F4A7C15U;
  return hash64(encoded.first(chunk_tokens_), seed_ ^ family);
}

std::uint32_t& HashMemo::bucket(std::uint64_t key) noexcept {
  return buckets_[key & (buckets_.size() - 1)];
}

bool HashMemo::begins_with(std::span<const std::byte> encoded, const Node& node) noexcept {
  return node.encoded_bytes <= encoded.size() &&
         std::memcmp(node.encoded.get(), encoded.data(), node.encoded_bytes) == 0;
}

HashMemo::Node* HashMemo::find_child(Node& parent, std::span<const std::byte> encoded,
                                     std::uint64_t key) noexcept {
  int probes = 0;
  for (std::uint32_t slot = bucket(key); slot != kNoSlot && probes < kProbesMax; ++probes) {
    Node& node = nodes_[slot];
    if (node.key == key && node.parent == &parent && begins_with(encoded, node)) return &node;
    slot = node.next_in_bucket;
  }
  return nullptr;
}

std::optional<HashMemo::Step> HashMemo::find(Position at,
                                             std::span<const std::byte> encoded) noexcept {
  Node* const parent = resolve(at);
  Node* child = nullptr;
  if (parent && encoded.size() >= chunk_tokens_) {
    child = parent->last_child;
    if (child) __builtin_prefetch(child->last_child);
    if (!child || !begins_with(encoded, *child)) {
      child = find_child(*parent, encoded, bucket_key(*parent, encoded));
    }
  }
  if (!child) {
    ++statistics_.absent_total;
    return std::nullopt;
  }
  ++statistics_.found_total;
  parent->last_child = child;
  if (child->last_child) __builtin_prefetch(child->last_child->encoded.get());
  return Step{
      .position = {child, child->generation}, .hash = child->hash, .bytes = child->encoded_bytes};
}

HashMemo::Position HashMemo::remember(Position before, std::span<const std::byte> encoded,
                                      const ChunkHash& hash) {
  LARDER_CHECK(encoded.size() >= chunk_tokens_);
  Node* const parent = resolve(before);
  if (!parent) return {};
  const std::uint64_t key = bucket_key(*parent, encoded);
  // A new chain is a row of nodes without children: the bucket, which no cache has, need not be
  // read.
  Node* const known = parent->children == 0 ? nullptr : find_child(*parent, encoded, key);
  // A chunk cannot be a mere prefix of `encoded`: both are whole chunks.
  if (known) return {known, known->generation};

  // Counted as a child already, so that neither the parent nor, when that loses its other children,
  // the chain above it makes room for its own continuation.
  if (parent->children++ == 0 && !parent->is_root()) leaves_.remove(*parent);
  const std::size_t bytes = accounted_bytes(encoded.size());
  if (!make_room(bytes)) {
    if (--parent->children == 0 && !parent->is_root()) leaves_.add(*parent);
    ++statistics_.refused_total;
    return {};
  }
  Node& node = take_slot();
  node.encoded = std::make_unique_for_overwrite<std::byte[]>(encoded.size());
  std::memcpy(node.encoded.get(), encoded.data(), encoded.size());
  node.encoded_bytes = static_cast<std::uint32_t>(encoded.size());
  node.parent = parent;
  node.form = parent->form;
  if (by_hash_) by_hash_->insert_or_assign(hash, node.slot);
  node.key = key;
  node.hash = hash;
  node.used = ++clock_;
  node.next_in_bucket = bucket(key);
  bucket(key) = node.slot;
  parent->last_child = &node;
  leaves_.add(node);
  bytes_ += bytes;
  return {&node, node.generation};
}

std::optional<HashMemo::Chunk> HashMemo::find_chunk(const ChunkHash& hash) const noexcept {
  if (!by_hash_) return std::nullopt;
  const auto known = by_hash_->find(hash);
  if (known == by_hash_->end()) return std::nullopt;
  const Node& node = nodes_[known->second];
  return Chunk{.form = node.form,
               .encoded = {node.encoded.get(), node.encoded_bytes},
               .before = node.parent->is_root() ? nullptr : &node.parent->hash};
}

std::size_t HashMemo::ByHash::operator()(const ChunkHash& hash) const noexcept {
  return hash64(hash, seed);
}

std::size_t HashMemo::accounted_bytes(std::size_t encoded_bytes) const noexcept {
  return sizeof(Node) + encoded_bytes + kOverheadBytes + (by_hash_ ? kByHashBytes : 0);
}

std::size_t HashMemo::table_bytes() const noexcept {
  const std::size_t by_hash = by_hash_ ? by_hash_->bucket_count() * sizeof(void*) : 0;
  return buckets_.size() * sizeof(buckets_[0]) + by_hash;
}

void HashMemo::touch(Position at) noexcept {
  Node* const node = resolve(at);
  if (!node || node->is_root()) return;
  const bool is_leaf = node->children == 0;
  if (is_leaf) leaves_.remove(*node);
  node->used = ++clock_;
  if (is_leaf) leaves_.add(*node);  // Never allocates: its slot has just become free.
}

bool HashMemo::make_room(std::size_t bytes) noexcept {
  if (bytes > bytes_max_) return false;
  while (bytes_ > bytes_max_ - bytes) {
    if (leaves_.empty()) return false;
    evict(leaves_.first());
  }
  return true;
}

void HashMemo::evict(Node& node) noexcept {
  leaves_.remove(node);
  std::uint32_t* link = &bucket(node.key);
  while (*link != node.slot) link = &nodes_[*link].next_in_bucket;
  *link = node.next_in_bucket;
  Node& parent = *node.parent;
  if (parent.last_child == &node) parent.last_child = nullptr;
  if (--parent.children == 0 && !parent.is_root()) leaves_.add(parent);
  bytes_ -= accounted_bytes(node.encoded_bytes);
  if (by_hash_) {
    const auto known = by_hash_->find(node.hash);
    if (known != by_hash_->end() && known->second == node.slot) by_hash_->erase(known);
  }
  node.encoded.reset();
  node.encoded_bytes = 0;
  node.parent = nullptr;
  node.last_child = nullptr;
  ++node.generation;
  free_.push_back(node.slot);
  ++statistics_.evicted_total;
}

HashMemo::Node& HashMemo::take_slot() {
  if (!free_.empty()) {
    Node& node = nodes_[free_.back()];
    free_.pop_back();
    return node;
  }
  const auto slot = static_cast<std::uint32_t>(nodes_.size());
  LARDER_CHECK(slot < kNoSlot);
  // evict() must not allocate.
  if (free_.capacity() <= slot) free_.reserve(2 * std::size_t{slot} + 64);
  Node& node = nodes_.emplace_back();
  node.slot = slot;
  return node;
}

HashMemo::Statistics HashMemo::statistics() const noexcept {
  Statistics now = statistics_;
  now.bytes = bytes_;
  now.chunks = nodes_.size() - kRoots - free_.size();
  return now;
}

void HashMemo::check_invariants() const {
  std::size_t bytes = std::min(bytes_max_, table_bytes());
  std::size_t leaves = 0;
  std::size_t chunks = 0;
  std::vector<std::uint32_t> children(nodes_.size());
  for (const Node& node : nodes_) {
    if (node.is_root() || !node.parent) continue;
    ++chunks;
    bytes += accounted_bytes(node.encoded_bytes);
    ++children[node.parent->slot];
    LARDER_CHECK(node.parent->is_root() || node.parent->parent);
    if (node.children == 0) {
      ++leaves;
      LARDER_CHECK(node.place < leaves_.size());
    }
    LARDER_CHECK(!node.last_child || node.last_child->parent == &node);
  }
  for (const Node& node : nodes_) LARDER_CHECK(node.children == children[node.slot]);
  LARDER_CHECK(bytes == bytes_ && bytes_ <= bytes_max_);
  LARDER_CHECK(leaves == leaves_.size());
  LARDER_CHECK(chunks + free_.size() + kRoots == nodes_.size());
  std::size_t linked = 0;
  for (std::uint32_t slot : buckets_) {
    for (; slot != kNoSlot; slot = nodes_[slot].next_in_bucket, ++linked) {
      LARDER_CHECK(nodes_[slot].parent != nullptr);
    }
  }
  LARDER_CHECK(linked == chunks);
  if (!by_hash_) return;
  LARDER_CHECK(by_hash_->size() <= chunks);
  for (const auto& [hash, slot] : *by_hash_) {
    LARDER_CHECK(nodes_[slot].parent != nullptr && nodes_[slot].hash == hash);
  }
}

}  // namespace larder::wire
