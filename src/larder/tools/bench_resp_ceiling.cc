#include "larder/tools/bench_resp_ceiling.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>
#include <utility>

#include "larder/base/aligned_buffer.h"
#include "larder/base/clock.h"
#include "larder/base/event_fd.h"
#include "larder/connectors/builtin.h"
#include "larder/connectors/resp/options.h"
#include "larder/tools/value_pattern.h"

namespace larder::tools {
namespace {

constexpr std::uint64_t kMemoryBytesMax = std::uint64_t{256} << 20;
constexpr std::size_t kBlock = 4096;
constexpr int kNamePatienceMs = 30'000;

SetupResult<resp::RespOptions> options_of_spec(const std::string& text) {
  LARDER_ASSIGN(Spec spec, Spec::parse(text));
  const ConnectorType* const type = builtin_registry().find(spec.type());
  if (type == nullptr) return SetupError{ErrorCode::kInvalidArgument, "no such connector type"};
  LARDER_TRY(spec.rename_location(type->location_parameter));
  LARDER_ASSIGN(const Parameters parameters, Parameters::parse(spec, type->parameters));
  return resp::options_of(parameters, spec.type());
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// One blocking connection. False from anything: the server did not do it.
class RawConnection {
 public:
  explicit RawConnection(UniqueFd fd) : fd_(std::move(fd)) {}

  static SetupResult<RawConnection> connect(const resp::RespOptions& options,
                                            const resp::SocketAddress& address) {
    auto begun = resp::begin_connect(address);
    if (!begun) return SetupError{begun.error().code(), begun.error().to_string()};
    UniqueFd fd = std::move(*begun);
    pollfd waited{fd.get(), POLLOUT, 0};
    ::poll(&waited, 1, static_cast<int>(options.connect_timeout_ns / 1'000'000));
    if (const Status ended = resp::end_connect(fd.get()); !ended) {
      return SetupError{ended.error().code(), ended.error().to_string()};
    }
    const int flags = ::fcntl(fd.get(), F_GETFL);
    ::fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK);
    RawConnection connection{std::move(fd)};
    const bool is_greeted =
        (options.password.empty() ||
         connection.command(
             options.username.empty()
                 ? std::vector<std::string>{"AUTH", options.password}
                 : std::vector<std::string>{"AUTH", options.username, options.password})) &&
        (options.database == 0 || connection.command({"SELECT", std::to_string(options.database)}));
    if (!is_greeted)
      return SetupError{ErrorCode::kUnavailable, "the server refuses AUTH or SELECT"};
    return connection;
  }

  /// Whether a command with a one-line answer succeeds.
  bool command(const std::vector<std::string>& words) {
    std::string text = fmt::format("*{}\r\n", words.size());
    for (const std::string& word : words) text += fmt::format("${}\r\n{}\r\n", word.size(), word);
    std::size_t more = 0;
    return send({{text.data(), text.size()}}) && line(more) && more == 0 && line_[0] != '-';
  }

  bool set(const std::string& key, std::span<std::byte> value) {
    const std::string head =
        fmt::format("*3\r\n$3\r\nSET\r\n${}\r\n{}\r\n${}\r\n", key.size(), key, value.size());
    char tail[] = "\r\n";
    std::size_t more = 0;
    return send({{const_cast<char*>(head.data()), head.size()},
                 {value.data(), value.size()},
                 {tail, 2}}) &&
           line(more) && more == 0 && line_[0] == '+';
  }

  bool get(const std::string& key, std::span<std::byte> value) {
    std::string text = fmt::format("*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n", key.size(), key);
    std::size_t more = 0;
    if (!send({{text.data(), text.size()}}) || !line(more)) return false;
    if (std::string_view{line_.data(), line_bytes_} != fmt::format("${}", value.size()))
      return false;
    // Bytes that came with the header are the value's beginning.
    const std::size_t begun = std::min(more, value.size());
    std::memcpy(value.data(), line_.data() + line_bytes_ + 2, begun);
    std::array<char, 2> end{};
    std::size_t left = value.size() + 2 - more;
    std::size_t at = begun;
    while (left > 0) {
      std::array<iovec, 2> pieces{iovec{value.data() + at, value.size() - at},
                                  iovec{end.data(), std::min<std::size_t>(left, 2)}};
      const ssize_t got = ::readv(fd_.get(), pieces.data(), 2);
      if (got <= 0) return false;
      at = std::min(value.size(), at + static_cast<std::size_t>(got));
      left -= static_cast<std::size_t>(got);
    }
    return true;
  }

 private:
  bool send(std::vector<iovec> pieces) {
    for (std::size_t first = 0; first < pieces.size();) {
      ssize_t put =
          ::writev(fd_.get(), pieces.data() + first, static_cast<int>(pieces.size() - first));
      if (put <= 0) return false;
      while (first < pieces.size() && static_cast<std::size_t>(put) >= pieces[first].iov_len) {
        put -= static_cast<ssize_t>(pieces[first++].iov_len);
      }
      if (put > 0) {
        pieces[first].iov_base = static_cast<char*>(pieces[first].iov_base) + put;
        pieces[first].iov_len -= static_cast<std::size_t>(put);
      }
    }
    return true;
  }

  /// Reads the first line of an answer; `more` bytes beyond it were read too.
  bool line(std::size_t& more) {
    std::size_t have = 0;
    for (;;) {
      const ssize_t got = ::recv(fd_.get(), line_.data() + have, line_.size() - have, 0);
      if (got <= 0) return false;
      have += static_cast<std::size_t>(got);
      const std::size_t end = std::string_view{line_.data(), have}.find("\r\n");
      if (end == std::string_view::npos) {
        if (have == line_.size()) return false;
        continue;
      }
      line_bytes_ = end;
      more = have - end - 2;
      return true;
    }
  }

  UniqueFd fd_;
  std::array<char, 64> line_{};
  std::size_t line_bytes_ = 0;
};

class RespCeiling final : public BenchCeiling {
 public:
  RespCeiling(std::vector<RawConnection> connections, AlignedBuffer memory, bool is_store,
              std::uint64_t value_bytes, std::uint64_t keys)
      : connections_(std::move(connections)),
        memory_(std::move(memory)),
        is_store_(is_store),
        value_bytes_(value_bytes),
        keys_(keys),
        run_(fmt::format("larder-raw-{}-{}-", ::getpid(), RealClock::instance().now_ns())) {}
  ~RespCeiling() override {
    for (std::uint64_t key = 0; key < keys_made_; ++key) {
      connections_.front().command({"DEL", key_of(key)});
    }
  }
  RespCeiling(const RespCeiling&) = delete;
  RespCeiling& operator=(const RespCeiling&) = delete;

  std::string label() const override {
    return fmt::format("a raw client, {} connections, a thread and one request each",
                       connections_.size());
  }

  SetupStatus prepare() {
    ValuePattern{}.fill(keys_, memory_.span());
    if (is_store_) return {};
    return run_all(true);
  }

  SetupResult<CeilingPass> measure() override {
    const double cpu_before = cpu_seconds();
    const std::uint64_t begin_ns = RealClock::instance().now_ns();
    LARDER_TRY(run_all(is_store_));
    const std::uint64_t took_ns =
        std::max<std::uint64_t>(1, RealClock::instance().now_ns() - begin_ns);
    const auto bytes = static_cast<double>(keys_ * value_bytes_);
    CeilingPass pass;
    pass.gb_per_second = bytes / static_cast<double>(took_ns);
    pass.cpu_seconds_per_gb = (cpu_seconds() - cpu_before) / (bytes / 1e9);
    pass.latency_p50_ns = took_ns * connections_.size() / keys_;
    return pass;
  }

 private:
  std::string key_of(std::uint64_t key) const { return run_ + std::to_string(key); }

  SetupStatus run_all(bool stores) {
    const std::uint64_t first = stores ? keys_made_ : 0;
    if (stores) keys_made_ += keys_;
    std::vector<char> is_good(connections_.size(), 1);
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 0; i < connections_.size(); ++i) {
        threads.emplace_back(
            [this, i, first, stores, &is_good] { is_good[i] = run_one(i, first, stores) ? 1 : 0; });
      }
    }
    if (std::ranges::count(is_good, 0) == 0) return {};
    return SetupError{ErrorCode::kUnavailable,
                      "the raw client that larder is compared with failed"};
  }

  bool run_one(std::size_t index, std::uint64_t first, bool stores) {
    const std::uint64_t values = memory_.size() / value_bytes_;
    for (std::uint64_t key = index; key < keys_; key += connections_.size()) {
      // A multiple of the connections: no two threads use one place.
      const std::uint64_t place = key % (values / connections_.size() * connections_.size());
      const auto value = memory_.span().subspan(static_cast<std::size_t>(place * value_bytes_),
                                                static_cast<std::size_t>(value_bytes_));
      const std::string name = key_of(first + key);
      if (!(stores ? connections_[index].set(name, value) : connections_[index].get(name, value))) {
        return false;
      }
    }
    return true;
  }

  std::vector<RawConnection> connections_;
  AlignedBuffer memory_;
  const bool is_store_;
  const std::uint64_t value_bytes_;
  const std::uint64_t keys_;
  const std::string run_;
  std::uint64_t keys_made_ = 0;
};

}  // namespace

SetupResult<std::unique_ptr<BenchCeiling>> make_resp_ceiling(const BenchOptions& options,
                                                             std::uint64_t value_bytes,
                                                             std::uint64_t keys) {
  using Made = SetupResult<std::unique_ptr<BenchCeiling>>;
  LARDER_ASSIGN(const resp::RespOptions server, options_of_spec(options.spec));
  const bool is_measured = options.mode == BenchMode::kLoad || options.mode == BenchMode::kStore ||
                           options.mode == BenchMode::kLatency;
  if (server.tls || !is_measured) return Made{nullptr};

  auto answered = EventFd::create();
  if (!answered) return SetupError{answered.error().code(), answered.error().to_string()};
  const auto signal = std::make_shared<EventFd>(std::move(*answered));
  resp::Resolver resolver{server.endpoint, signal};
  auto addresses = resolver.resolve();
  if (addresses && addresses->empty()) {
    pollfd waited{signal->get(), POLLIN, 0};
    ::poll(&waited, 1, kNamePatienceMs);
    addresses = resolver.resolve();
  }
  if (!addresses || addresses->empty()) {
    return SetupError{ErrorCode::kUnavailable, "the server's name cannot be resolved"};
  }
  const std::uint32_t count = options.mode == BenchMode::kLatency ? 1 : server.connections;
  std::vector<RawConnection> connections;
  for (std::uint32_t i = 0; i < count; ++i) {
    auto connection = RawConnection::connect(server, addresses->back());
    for (std::size_t at = 0; !connection && at < addresses->size(); ++at) {
      connection = RawConnection::connect(server, (*addresses)[at]);
    }
    if (!connection) return connection.error();
    connections.push_back(std::move(*connection));
  }
  const std::uint64_t values = std::max<std::uint64_t>(
      count, std::min(keys, kMemoryBytesMax / std::max<std::uint64_t>(1, value_bytes)));
  auto memory = AlignedBuffer::create(static_cast<std::size_t>(values * value_bytes), kBlock);
  if (!memory) return SetupError{ErrorCode::kResourceExhausted, "no memory for the raw client"};
  auto ceiling =
      std::make_unique<RespCeiling>(std::move(connections), std::move(*memory),
                                    options.mode == BenchMode::kStore, value_bytes, keys);
  LARDER_TRY(ceiling->prepare());
  return Made{std::move(ceiling)};
}

}  // namespace larder::tools
