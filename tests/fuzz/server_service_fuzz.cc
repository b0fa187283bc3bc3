// Messages of several clients, into a server without sockets: whatever comes, what can be answered
// is answered, and the engine's invariants hold.
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "larder/server/service.h"
#include "larder/wire/limits.h"
#include "larder/wire/msgpack_writer.h"
#include "larder/wire/operation.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

constexpr std::uint64_t kStepNs = 100'000'000;

class OwnedMessage final : public server::Message {
 public:
  explicit OwnedMessage(std::vector<Bytes> frames) : owned_(std::move(frames)) {
    for (const Bytes& frame : owned_) frames_.emplace_back(frame);
  }

 private:
  std::vector<Bytes> owned_;  ///< Each of its exact size, so that ASan sees every byte beyond.
};

class CountingSink final : public server::ReplySink {
 public:
  void expect(server::ConnectionId /*connection*/, std::uint64_t /*bytes*/) noexcept override {}
  void send(server::ConnectionId /*connection*/, wire::Frame uid, wire::Frame operation,
            const wire::Bytes* payload) noexcept override {
    LARDER_CHECK(uid.size() <= wire::limits::kUidBytes && !operation.empty());
    LARDER_CHECK(payload == nullptr || !payload->empty());
    ++replies;
  }

  std::uint64_t replies = 0;
};

std::unique_ptr<cache::Arena> open_pool() {
  cache::ArenaOptions options;
  options.kind = cache::ArenaKind::kShared;
  options.name = "larder_fuzz_" + std::to_string(::getpid());
  options.capacity_bytes = 16 * 4096;
  options.commit_ahead_bytes = 0;
  auto opened = cache::Arena::open(options);
  LARDER_CHECK(opened.has_value());
  return std::move(*opened);
}

/// Behind one byte for the connection and one for the number of frames: each behind its length.
void append_message(Bytes& out, std::uint8_t connection, const std::vector<Bytes>& frames) {
  out.push_back(static_cast<std::byte>(connection));
  out.push_back(static_cast<std::byte>(frames.size()));
  for (const Bytes& frame : frames) {
    out.push_back(static_cast<std::byte>(frame.size()));
    out.push_back(static_cast<std::byte>(frame.size() >> 8U));
    out.insert(out.end(), frame.begin(), frame.end());
  }
}

template <class Write>
Bytes encoded(Write write) {
  Bytes bytes;
  wire::MsgpackWriter writer{bytes};
  write(writer);
  return bytes;
}
Bytes number(std::uint64_t value) {
  return encoded([&](wire::MsgpackWriter& writer) { writer.integer(value); });
}

Bytes registration() {
  return encoded([](wire::MsgpackWriter& writer) {
    writer.map(8);
    writer.text("instance_id"), writer.integer(7);
    writer.text("model_name"), writer.text("m");
    writer.text("world_size"), writer.integer(1);
    writer.text("block_size"), writer.integer(4);
    writer.text("num_layers"), writer.integer(1);
    writer.text("hidden_dim_size"), writer.integer(2);
    writer.text("dtype_str"), writer.text("float16");
    writer.text("use_mla"), writer.boolean(false);
  });
}

Bytes key(bool has_worker) {
  return encoded([&](wire::MsgpackWriter& writer) {
    writer.map(8);
    writer.text("model_name"), writer.text("m");
    writer.text("world_size"), writer.integer(1);
    writer.text("worker_id");
    if (has_worker) {
      writer.integer(0);
    } else {
      writer.nil();
    }
    writer.text("token_ids"), writer.array(8);
    for (std::uint64_t i = 0; i < 8; ++i) writer.integer(i);
    writer.text("start"), writer.integer(0);
    writer.text("end"), writer.integer(8);
    writer.text("request_id"), writer.text("r");
    writer.text("num_kv_readers"), writer.integer(1);
  });
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  Input input{bytes};
  server::ServerOptions options;
  options.chunk_tokens = 4;
  options.hash_memory_bytes = 1 << 20;
  const std::unique_ptr<cache::Arena> pool = open_pool();
  CountingSink sink;
  server::Service service{options, *pool, {}, sink};
  std::uint64_t now_ns = kStepNs;
  while (!input.empty()) {
    service.begin_turn(now_ns += kStepNs);
    const server::ConnectionId connection{input.take<std::uint8_t>() % 4U + 1U};
    const std::size_t count = input.take<std::uint8_t>() % 20U;
    if (count == 0) {
      service.on_closed(connection);
    } else {
      std::vector<Bytes> frames;
      for (std::size_t i = 0; i < count && !input.empty(); ++i) {
        const auto frame = input.take_bytes(input.take<std::uint16_t>());
        frames.emplace_back(frame.begin(), frame.end());
      }
      service.on_message(connection, std::make_unique<OwnedMessage>(std::move(frames)));
    }
    service.on_sockets_empty();
    while (service.end_turn() == 0) {
    }
    service.check_invariants();
  }
  for (int i = 0; i < 40 && !service.drain(now_ns + kStepNs); ++i) {
    service.begin_turn(now_ns += kStepNs);
    service.end_turn();
  }
}

std::vector<Bytes> seeds() {
  Bytes session;
  std::uint64_t uid = 0;
  const auto add = [&](std::uint64_t operation, std::vector<Bytes> arguments) {
    std::vector<Bytes> frames{number(uid++), number(operation)};
    frames.insert(frames.end(), arguments.begin(), arguments.end());
    append_message(session, 1, frames);
  };
  const Bytes request = encoded([](wire::MsgpackWriter& writer) { writer.text("r"); });
  const Bytes nothing = encoded([](wire::MsgpackWriter& writer) { writer.binary({}); });
  add(21, {});
  add(14, {registration()});
  add(22, {number(7)});
  add(16, {key(true), number(7)});
  add(17, {key(true), number(7), nothing});
  add(8, {key(false), number(1)});
  add(9, {request});
  add(10, {request, number(1)});
  add(18, {key(true), number(7)});
  add(12, {key(false), number(1)});
  add(19, {key(true), number(7)});
  add(13, {request});
  add(20, {number(1)});
  add(15, {number(7)});
  return {session};
}

}  // namespace larder::fuzz
