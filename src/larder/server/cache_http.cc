#include "larder/server/cache_http.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/base/key_text.h"
#include "larder/server/admin_json.h"
#include "larder/server/cache_json.h"
#include "larder/wire/chunk_hash.h"
#include "larder/wire/limits.h"

namespace larder::server {
namespace {

using Json = nlohmann::ordered_json;
using Kind = AdminError::Kind;

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kLoopAnswersNs = kSecondNs;
/// LMCache's bench waits for five seconds, and its `kvcache clear` for ten.
constexpr std::uint64_t kCommandNs = 5 * kSecondNs;
/// Requests that wait for tiers.
constexpr std::uint64_t kTiersNs = 30 * kSecondNs;
/// A listing that has found nothing by then continues in the next request.
constexpr std::uint64_t kListNs = 5 * kSecondNs;
constexpr std::size_t kLongBodyMax = std::size_t{16} << 20;

std::uint64_t now_ns() noexcept {
  return RealClock::instance().now_ns();
}

HttpReply reply_of(const Json& value, int status = 200) {
  return {.status = status, .body = value.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

HttpReply refusal_of(const AdminError& error) {
  return refusal(http_code_of(error.kind), error.text);
}

AdminError error(Kind kind, std::string text) {
  return {.kind = kind, .text = std::move(text)};
}

/// The hashes of the whole chunks of a prompt.
std::vector<cache::ChunkHash> chunks_of(const std::vector<std::uint32_t>& tokens,
                                        std::uint32_t chunk_tokens) {
  wire::ChunkHasher hasher{chunk_tokens};
  std::vector<cache::ChunkHash> chunks;
  wire::ChunkHash before = wire::no_chunk_hash();
  for (std::size_t begin = 0; begin + chunk_tokens <= tokens.size(); begin += chunk_tokens) {
    const std::span<std::byte> packed = hasher.tokens();
    for (std::size_t i = 0; i < chunk_tokens; ++i) {
      for (std::size_t byte = 0; byte < wire::kTokenBytes; ++byte) {
        packed[i * wire::kTokenBytes + byte] =
            static_cast<std::byte>(tokens[begin + i] >> (24 - 8 * byte));
      }
    }
    before = hasher.hash(before, packed);
    chunks.emplace_back().bytes = before;
  }
  return chunks;
}

}  // namespace

void CacheHttp::add_to(HttpRoutes& routes) {
  const auto add = [&](const char* method, const char* path, HttpNeeds needs,
                       HttpReply (CacheHttp::*answer)(const HttpRequest&),
                       std::size_t body_bytes_max = std::size_t{64} << 10) {
    routes.add(
        {.method = method,
         .path = path,
         .needs = needs,
         .answer = [this, answer](const HttpRequest& request) { return (this->*answer)(request); },
         .body_bytes_max = body_bytes_max});
  };
  add("GET", "/cache/objects", HttpNeeds::kNothing, &CacheHttp::list);
  add("DELETE", "/cache/objects", HttpNeeds::kToken, &CacheHttp::remove, kLongBodyMax);
  add("POST", "/cache/prefetches", HttpNeeds::kToken, &CacheHttp::prefetch, kLongBodyMax);
  // Its first answer after the end forgets the prefetch, as in LMCache; nothing else depends on
  // that.
  add("GET", "/cache/prefetches/*", HttpNeeds::kNothing, &CacheHttp::prefetch_status);
  add("POST", "/cache/clear", HttpNeeds::kToken, &CacheHttp::clear);
  // No token, although it is a POST: it only reads, tells no more of a worker's memory than sums of
  // 16 bytes, and the bench of LMCache, which asks for them, sends none. Its cost is bounded: see
  // AdminMailbox::kAskersMax and admin_requests.cc.
  add("POST", "/cache/checksums", HttpNeeds::kNothing, &CacheHttp::checksums);
}

AdminAnswer CacheHttp::carry_out(AdminCommand command, std::uint64_t until_ns) {
  return mailbox_.ask(std::move(command), until_ns);
}

// ---- Tiers.

Result<std::vector<CacheHttp::TierPlace>, AdminError> CacheHttp::tiers() {
  const StatusBoard::Reading reading = board_.ask(now_ns() + kLoopAnswersNs);
  if (reading.status == nullptr) {
    return error(Kind::kBusy, "the server is starting; ask again in a moment");
  }
  std::vector<TierPlace> places;
  for (const TierStatus& tier : reading.status->tiers) {
    const Locality locality = tier.report.locality;
    places.push_back(
        {.index = places.size(),
         .name = tier.name,
         .is_shared = locality == Locality::kSharedFiles || locality == Locality::kRemote,
         .has_scan = scans_.has_scan(places.size())});
  }
  return places;
}

Result<CacheHttp::TierPlace, AdminError> CacheHttp::find_tier(
    const std::optional<std::string>& name) {
  LARDER_ASSIGN(const auto all, tiers());
  if (all.empty()) return error(Kind::kBusy, "no L2 adapters configured");
  if (!name) return all.front();
  const auto found = std::ranges::find(all, *name, &TierPlace::name);
  if (found != all.end()) return *found;
  return error(Kind::kNotFound, "no L2 adapter with type_name='" + printable(*name) +
                                    "'; GET /config/adapters lists those that there are");
}

// ---- Clear and delete.

HttpReply CacheHttp::clear(const HttpRequest& request) {
  auto command = read_clear(request.body);
  if (!command) return refusal_of(command.error());
  if (command->has_all_tiers) {
    const auto all = tiers();
    if (!all) return refusal_of(all.error());
    for (const TierPlace& tier : *all) {
      if (tier.has_scan) continue;
      return refusal(503, "L2 adapter '" + tier.name +
                              "' does not support listing, so what it has is not known; nothing "
                              "was cleared");
    }
  }
  const auto result =
      carry_out(*command, now_ns() + (command->has_all_tiers ? kTiersNs : kCommandNs));
  if (result) return reply_of(clear_json(*command, *result));
  if (command->has_all_tiers && result.error().kind == Kind::kUnfinished) {
    return reply_of({{"status", "running"},
                     {"cleared", {{"tier", "all"}}},
                     {"detail",
                      "L1 is cleared; the deletes in L2 go on, and the log says when "
                      "they have ended"}},
                    202);
  }
  return refusal_of(result.error());
}

HttpReply CacheHttp::remove(const HttpRequest& request) {
  auto read = read_delete(request.body);
  if (!read) return refusal_of(read.error());
  DeleteCommand command{.is_in_l1 = read->is_in_l1, .force = read->force};
  if (read->is_in_l2) {
    const auto all = tiers();
    if (!all) return refusal_of(all.error());
    for (const TierPlace& tier : *all) {
      if (!read->adapter || *read->adapter == tier.name) {
        command.tiers = static_cast<cache::TierMask>(
            command.tiers | cache::bit_of(static_cast<cache::TierId>(tier.index)));
      }
    }
    if (command.tiers == 0) return refusal_of(find_tier(read->adapter).error());
  }
  command.keys = std::move(read->keys);
  const auto result = carry_out(std::move(command), now_ns() + kTiersNs);
  return result ? reply_of(delete_json(*result)) : refusal_of(result.error());
}

// ---- Listing.

Result<TierScans::Page, AdminError> CacheHttp::read_page(const TierPlace& tier,
                                                         const ObjectFilter& filter,
                                                         ScanCursor from, std::size_t page_size) {
  const std::uint64_t until_ns = now_ns() + kListNs;
  TierScans::Page all{.entries = {}, .next = from};
  // A cursor is between two pages of the connector's, so no more is asked for than there is place
  // for.
  while (all.entries.size() < page_size && !all.done && now_ns() < until_ns) {
    auto page = scans_.page(tier.index, all.next, page_size - all.entries.size(), until_ns);
    if (!page) {
      const ErrorCode code = page.error().code();
      const std::string why = "L2 adapter '" + tier.name + "': " + page.error().to_string();
      if (code == ErrorCode::kInvalidArgument) return error(Kind::kInvalid, "page_token: " + why);
      if (code == ErrorCode::kDeadlineExceeded && !all.entries.empty()) break;
      return error(Kind::kBusy, why);
    }
    all.next = page->next;
    all.done = page->done;
    std::ranges::copy_if(page->entries, std::back_inserter(all.entries),
                         [&](const auto& entry) { return filter.takes(entry.key); });
  }
  return all;
}

HttpReply CacheHttp::list(const HttpRequest& request) {
  const auto wanted = read_list(request);
  if (!wanted) return refusal_of(wanted.error());
  const auto tier = find_tier(wanted->adapter);
  if (!tier) return refusal_of(tier.error());
  if (!tier->has_scan) {  // LMCache's sentence.
    return refusal(503, "L2 adapter '" + tier->name +
                            "' does not support listing: its keys cannot be read one after "
                            "another");
  }
  ScanCursor from;
  if (wanted->page_token) {
    const auto cursor = read_page_token(tier->index, *wanted->page_token);
    if (!cursor) {
      return refusal(400, "page_token: '" + printable(wanted->page_token->substr(0, 64)) +
                              "' is not what a listing of '" + tier->name + "' has given");
    }
    from = *cursor;
  }
  const auto page = read_page(*tier, {.model = wanted->model}, from, wanted->page_size);
  if (!page) return refusal_of(page.error());
  return reply_of(list_json(tier->name, tier->is_shared, *page,
                            page->done ? "" : page_token_of(tier->index, page->next)));
}

// ---- Prefetches.

HttpReply CacheHttp::prefetch(const HttpRequest& request) {
  auto wanted = read_prefetch(request.body);
  if (!wanted) return refusal_of(wanted.error());
  const StatusBoard::Reading reading = board_.ask(now_ns() + kLoopAnswersNs);
  if (reading.status == nullptr) {
    return refusal(503, "the server is starting; ask again in a moment");
  }
  const PrefetchCommand command{.space = std::move(wanted->space),
                                .chunk_tokens = reading.status->chunk_tokens,
                                .chunks = chunks_of(wanted->tokens, reading.status->chunk_tokens)};
  const auto result = carry_out(command, now_ns() + kCommandNs);
  return result ? reply_of(prefetch_json(command, *result), 202) : refusal_of(result.error());
}

HttpReply CacheHttp::prefetch_status(const HttpRequest& request) {
  const PrefetchQuery query{.id = HttpRoutes::tail_of(request)};
  const auto result = carry_out(query, now_ns() + kCommandNs);
  return result ? reply_of(prefetch_json(query, *result)) : refusal_of(result.error());
}

// ---- Checksums.

HttpReply CacheHttp::checksums(const HttpRequest& request) {
  const auto command = read_checksums(request.body);
  if (!command) return refusal_of(command.error());
  const auto result = carry_out(*command, now_ns() + kCommandNs);
  return result ? reply_of(checksums_json(*command, *result)) : refusal_of(result.error());
}

}  // namespace larder::server
