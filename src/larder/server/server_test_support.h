#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/cache/scripted_tier_test_support.h"
#include "larder/server/service.h"
#include "larder/wire/msgpack_reader.h"
#include "larder/wire/msgpack_writer.h"
#include "larder/wire/operation.h"
#include "larder/wire/wire_test_support.h"

/// The common parts of this folder's tests: clients of a service without sockets.
namespace larder::server {

/// A message that owns its frames.
class OwnedMessage final : public Message {
 public:
  explicit OwnedMessage(std::vector<wire::Bytes> frames) : owned_(std::move(frames)) {
    for (const wire::Bytes& frame : owned_) frames_.emplace_back(frame);
  }

 private:
  std::vector<wire::Bytes> owned_;
};

template <class Write>
wire::Bytes encoded(Write write) {
  wire::Bytes bytes;
  wire::MsgpackWriter writer{bytes};
  write(writer);
  return bytes;
}
inline wire::Bytes number(std::uint64_t value) {
  return encoded([&](wire::MsgpackWriter& writer) { writer.integer(value); });
}
inline wire::Bytes text(std::string_view value) {
  return encoded([&](wire::MsgpackWriter& writer) { writer.text(value); });
}
inline wire::Bytes binary(std::string_view value) {
  return encoded([&](wire::MsgpackWriter& writer) {
    writer.binary(std::as_bytes(std::span{value.data(), value.size()}));
  });
}
inline wire::Bytes nil() {
  return encoded([](wire::MsgpackWriter& writer) { writer.nil(); });
}

/// A reply as a client gets it.
struct Reply {
  std::uint64_t connection = 0;
  wire::Bytes uid;
  wire::Bytes operation;
  std::optional<wire::Bytes> payload;

  std::string hex() const { return payload ? wire::hex(*payload) : "none"; }
  /// A failure's text (ERR), or empty.
  std::string error() const {
    wire::MsgpackReader reader{operation};
    const auto value = reader.next();
    if (!value || value->type != wire::Type::kText) return {};
    const std::string_view name{reinterpret_cast<const char*>(value->bytes.data()),
                                value->bytes.size()};
    return name.starts_with("larder: ") ? std::string{name} : std::string{};
  }
};

/// One element of `group_layouts`: one layer of 8 values for each token.
struct GroupSample {
  std::uint64_t window_chunks = 0;
};

/// The usual registration of LMCache's workers: two layers, keys and values, float16.
struct RegistrationSample {
  std::uint64_t instance = 7;
  std::string model = "golden/model-1";
  std::uint64_t world_size = 1;
  std::uint64_t num_layers = 2;
  std::uint64_t hidden = 8;
  std::string dtype = "float16";
  bool mla = false;
  std::vector<GroupSample> groups = {};
};

inline wire::Bytes make_registration(const RegistrationSample& sample) {
  return encoded([&](wire::MsgpackWriter& writer) {
    writer.map(10);
    writer.text("instance_id"), writer.integer(sample.instance);
    writer.text("model_name"), writer.text(sample.model);
    writer.text("world_size"), writer.integer(sample.world_size);
    writer.text("block_size"), writer.integer(4);
    writer.text("num_layers"), writer.integer(sample.num_layers);
    writer.text("hidden_dim_size"), writer.integer(sample.hidden);
    writer.text("dtype_str"), writer.text(sample.dtype);
    writer.text("use_mla"), writer.boolean(sample.mla);
    writer.text("num_physical_slots"), writer.nil();
    writer.text("group_layouts"), writer.array(sample.groups.size());
    for (const GroupSample& group : sample.groups) {
      writer.map(5);
      writer.text("num_layers"), writer.integer(1);
      writer.text("hidden_dim_size"), writer.integer(8);
      writer.text("dtype_str"), writer.text("float16");
      writer.text("tokens_per_block"), writer.integer(4);
      writer.text("window_chunks"), writer.integer(group.window_chunks);
    }
  });
}

/// The tokens of one prompt; prompts share nothing.
inline std::vector<std::uint32_t> tokens_of(std::uint32_t prompt, std::uint32_t count) {
  std::vector<std::uint32_t> tokens(count);
  for (std::uint32_t i = 0; i < count; ++i) tokens[i] = prompt * 100'000 + i;
  return tokens;
}

/// A service over scripted tiers, at a time that the test sets, with chunks of 16 tokens. A chunk
/// of the usual registration takes 1 KiB.
class ServiceFixture : public ::testing::Test, public ReplySink {
 protected:
  static constexpr std::uint64_t kSecond = 1'000'000'000;
  static constexpr std::uint32_t kChunk = 16;

  // Before the first use of service().
  ServerOptions options;
  std::uint64_t capacity_bytes = 64 * 4096;
  bool has_pool = true;
  CopyBackend* copies = nullptr;
  PageReader* pages = nullptr;

  ServiceFixture() { options.chunk_tokens = kChunk; }

  Service& service() {
    if (service_ == nullptr) {
      cache::ArenaOptions of_arena;
      of_arena.kind = has_pool ? cache::ArenaKind::kShared : cache::ArenaKind::kPrivate;
      of_arena.name = "larder_test_" + std::to_string(::getpid());
      of_arena.capacity_bytes = capacity_bytes;
      of_arena.commit_ahead_bytes = 0;
      auto opened = cache::Arena::open(of_arena);
      if (!opened) ADD_FAILURE() << opened.error().text;
      arena_ = std::move(*opened);
      service_ = std::make_unique<Service>(options, *arena_, std::move(tiers_),
                                           static_cast<ReplySink&>(*this), copies, pages);
      service_->begin_turn(now_ns);
    }
    return *service_;
  }
  cache::ScriptedTier& add_tier(const cache::TierOptions& with = {}) {
    auto made = std::make_unique<cache::ScriptedTier>();
    scripted.push_back(made.get());
    tiers_.push_back({std::move(made), with});
    return *scripted.back();
  }

  cache::Arena& arena() {
    service();
    return *arena_;
  }

  // ---- Time.
  void turn(std::uint64_t by_ns = 1'000'000) {
    now_ns += by_ns;
    service().begin_turn(now_ns);
    for (cache::ScriptedTier* const tier : scripted) tier->expire(now_ns);
    for (int round = 0; round < 8; ++round) {
      for (std::size_t i = 0; i < scripted.size(); ++i) service().on_tier(i);
    }
    service().on_sockets_empty();
    while (service().end_turn() == 0) {
    }
    service().check_invariants();
  }
  /// Advances turn by turn, so that nothing looks like a stall.
  void pass(std::uint64_t by_ns) {
    for (std::uint64_t passed = 0; passed < by_ns; passed += 200'000'000) turn(200'000'000);
  }

  // ---- Requests.
  /// Sends without waiting. Uids count from 0 for each connection.
  void send(wire::Operation operation, std::vector<wire::Bytes> arguments,
            std::uint64_t connection = 1) {
    const bool has_id = operation <= wire::Operation::kCbProtocolHandshake;
    std::vector<wire::Bytes> frames{
        number(uids_[connection]++),
        has_id ? number(static_cast<std::uint64_t>(operation)) : text(wire::info(operation).name)};
    for (wire::Bytes& argument : arguments) frames.push_back(std::move(argument));
    service().on_message(ConnectionId{connection},
                         std::make_unique<OwnedMessage>(std::move(frames)));
  }
  /// Sends, and gives the reply, which has come when a turn has ended.
  Reply ask(wire::Operation operation, std::vector<wire::Bytes> arguments,
            std::uint64_t connection = 1) {
    replies.clear();
    send(operation, std::move(arguments), connection);
    if (replies.empty()) turn();
    if (replies.empty()) {
      ADD_FAILURE() << "no reply to operation " << static_cast<int>(operation);
      return {};
    }
    return replies.back();
  }
  void set_next_uid(std::uint64_t connection, std::uint64_t uid) { uids_[connection] = uid; }

  Reply register_worker(const RegistrationSample& sample = {}, std::uint64_t connection = 2) {
    return ask(wire::Operation::kRegisterEngineDriven, {make_registration(sample)}, connection);
  }
  wire::KeySample key(std::string request, std::uint32_t prompt, std::uint64_t start,
                      std::uint64_t end, std::int64_t worker = 0) {
    wire::KeySample sample;
    sample.request_id = std::move(request);
    sample.tokens = tokens_of(prompt, static_cast<std::uint32_t>(end));
    sample.start = start;
    sample.end = end;
    sample.worker = worker;
    return sample;
  }
  /// LOOKUP and QUERY: the hit in chunks, or empty while it is pending.
  std::optional<std::uint64_t> lookup(wire::KeySample sample, std::uint64_t connection = 1) {
    sample.worker = -1;
    EXPECT_EQ(ask(wire::Operation::kLookup, {make_key(sample), number(1)}, connection).hex(),
              "none");
    return query(sample.request_id, connection);
  }
  std::optional<std::uint64_t> query(std::string_view request, std::uint64_t connection = 1) {
    const Reply reply = ask(wire::Operation::kQueryPrefetchStatus, {text(request)}, connection);
    if (!reply.payload) return std::nullopt;
    wire::MsgpackReader reader{*reply.payload};
    return reader.next()->integer.bits;
  }
  Reply prepare_store(const wire::KeySample& sample, std::uint64_t instance = 7,
                      std::uint64_t connection = 2) {
    return ask(wire::Operation::kPrepareStore, {make_key(sample), number(instance)}, connection);
  }
  Reply commit_store(const wire::KeySample& sample, std::uint64_t instance = 7,
                     std::uint64_t connection = 2, std::string_view data = {}) {
    return ask(wire::Operation::kCommitStore, {make_key(sample), number(instance), binary(data)},
               connection);
  }
  Reply prepare_retrieve(const wire::KeySample& sample, std::uint64_t instance = 7,
                         std::uint64_t connection = 2) {
    return ask(wire::Operation::kPrepareRetrieve, {make_key(sample), number(instance)}, connection);
  }
  Reply commit_retrieve(const wire::KeySample& sample, std::uint64_t instance = 7,
                        std::uint64_t connection = 2) {
    return ask(wire::Operation::kCommitRetrieve, {make_key(sample), number(instance)}, connection);
  }
  void store(const wire::KeySample& sample) {
    prepare_store(sample);
    EXPECT_EQ(commit_store(sample).hex(), kTrue);
  }
  bool ping(std::uint64_t connection, std::optional<std::uint64_t> instance = {}) {
    return ask(wire::Operation::kPing, {instance ? number(*instance) : nil()}, connection).hex() ==
           kTrue;
  }
  ServerStatus status() {
    ServerStatus status;
    service().fill(status);
    return status;
  }

  static constexpr std::string_view kTrue = "c3";
  static constexpr std::string_view kFalse = "c2";
  static constexpr std::string_view kNoContext = "81a7636f6e7465787480";
  static constexpr std::string_view kNoSlots =
      "81a7636f6e7465787482a5736c6f747390ad6368756e6b5f696e646963657390";

  std::uint64_t now_ns = 1000 * kSecond;
  std::vector<Reply> replies;
  std::vector<Reply> stream_replies;  ///< To subscribe_kv_events.
  std::vector<cache::ScriptedTier*> scripted;

  std::map<std::uint64_t, std::uint64_t> expected_bytes;  ///< By connection.

 private:
  void expect(ConnectionId connection, std::uint64_t bytes) noexcept override {
    expected_bytes[static_cast<std::uint64_t>(connection)] = bytes;
  }
  void send(ConnectionId connection, wire::Frame uid, wire::Frame operation,
            const wire::Bytes* payload) noexcept override {
    const auto decoded = wire::decode_operation(operation);
    const bool is_of_stream =
        decoded && *decoded && **decoded == wire::Operation::kSubscribeKvEvents;
    Reply& reply = (is_of_stream ? stream_replies : replies).emplace_back();
    reply.connection = static_cast<std::uint64_t>(connection);
    reply.uid.assign(uid.begin(), uid.end());
    reply.operation.assign(operation.begin(), operation.end());
    if (payload != nullptr) reply.payload = *payload;
  }

  void TearDown() override {
    if (service_ == nullptr) return;
    for (cache::ScriptedTier* const tier : scripted) {
      tier->holds = false;
      tier->finish_all();
    }
    turn();
  }

  std::unique_ptr<cache::Arena> arena_;
  std::vector<cache::Tier> tiers_;
  std::unique_ptr<Service> service_;
  std::map<std::uint64_t, std::uint64_t> uids_;
};

}  // namespace larder::server
