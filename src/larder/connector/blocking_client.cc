#include "larder/connector/blocking_client.h"

#include <poll.h>

#include "larder/base/check.h"
#include "larder/base/clock.h"

namespace larder {
namespace {

std::span<const std::byte> bytes_of_key(std::string_view key) noexcept {
  return std::as_bytes(std::span{key});
}

std::optional<std::uint64_t> size_if_hit(const Item& item) noexcept {
  if (item.outcome != Outcome::kHit) return std::nullopt;
  return item.value_bytes;
}

}  // namespace

Status BlockingClient::run(Batch& batch) noexcept {
  LARDER_TRY(connector_.submit(batch));
  Batch* done = nullptr;
  while (connector_.reap({&done, 1}) == 0) {
    pollfd waited{connector_.event_fd(), POLLIN, 0};
    ::poll(&waited, 1, -1);
  }
  LARDER_CHECK(done == &batch);
  return {};
}

Status BlockingClient::run_one(Op op, Item& item, SetMode mode) noexcept {
  const std::uint64_t now = RealClock::instance().now_ns();
  Batch batch;
  batch.items = {&item, 1};
  batch.op = op;
  batch.set_mode = mode;
  batch.deadline_ns = timeout_ns_ > kNever - now ? kNever : now + timeout_ns_;
  LARDER_TRY(run(batch));
  if (item.outcome == Outcome::kFailed) return item.error;
  return {};
}

Result<BlockingClient::Stored> BlockingClient::set(std::string_view key,
                                                   std::span<const std::byte> value,
                                                   SetMode mode) noexcept {
  // A Set only reads through `data`.
  const Slice slice{const_cast<std::byte*>(value.data()), value.size()};
  Item item;
  item.key = bytes_of_key(key);
  item.value = {&slice, 1};
  LARDER_TRY(run_one(Op::kSet, item, mode));
  return Stored{item.existed};
}

Result<std::optional<std::uint64_t>> BlockingClient::get_into(
    std::string_view key, std::span<std::byte> buffer) noexcept {
  const Slice slice{buffer.data(), buffer.size()};
  Item item;
  item.key = bytes_of_key(key);
  item.value = {&slice, 1};
  LARDER_TRY(run_one(Op::kGet, item));
  return size_if_hit(item);
}

Result<std::optional<std::vector<std::byte>>> BlockingClient::get(std::string_view key) {
  LARDER_ASSIGN(const auto bytes, exists(key));
  if (!bytes) return std::optional<std::vector<std::byte>>{};
  std::vector<std::byte> value(*bytes);
  LARDER_ASSIGN(const auto found, get_into(key, value));
  if (!found) return std::optional<std::vector<std::byte>>{};
  return std::optional{std::move(value)};
}

Result<std::optional<std::uint64_t>> BlockingClient::exists(std::string_view key) noexcept {
  Item item;
  item.key = bytes_of_key(key);
  LARDER_TRY(run_one(Op::kExists, item));
  return size_if_hit(item);
}

Result<bool> BlockingClient::remove(std::string_view key) noexcept {
  Item item;
  item.key = bytes_of_key(key);
  LARDER_TRY(run_one(Op::kDelete, item));
  return item.outcome == Outcome::kDone;
}

Result<bool> BlockingClient::touch(std::string_view key) noexcept {
  Item item;
  item.key = bytes_of_key(key);
  LARDER_TRY(run_one(Op::kTouch, item));
  return item.outcome == Outcome::kDone;
}

}  // namespace larder
