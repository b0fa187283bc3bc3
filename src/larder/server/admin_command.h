#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "larder/base/result.h"
#include "larder/cache/engine_stats.h"
#include "larder/cache/ids.h"
#include "larder/server/copy/block_checksums.h"
#include "larder/server/object_key.h"
#include "larder/wire/msgpack_reader.h"

namespace larder::server {

/// One model, world size and salt.
struct SpaceName {
  std::string model;
  std::uint32_t world_size = 0;
  std::string salt{};
};

/// POST /cache/clear.
struct ClearCommand {
  bool force = false;                ///< Locked cells too, like CLEAR on the wire.
  bool has_all_tiers = false;        ///< L2, too.
  std::optional<SpaceName> space{};  ///< Only that.
};

/// DELETE /cache/objects.
struct DeleteCommand {
  std::vector<ObjectKey> keys{};
  bool is_in_l1 = false;
  cache::TierMask tiers = 0;
  bool force = false;  ///< In L1, locked cells too.
};

/// POST /cache/prefetches: the chunks, from the prompt's first on.
struct PrefetchCommand {
  SpaceName space{};
  std::uint32_t chunk_tokens = 0;  ///< The chunk size with which they were hashed.
  std::vector<cache::ChunkHash> chunks{};
};

/// GET /cache/prefetches/ID.
struct PrefetchQuery {
  std::string id;
};

/// POST /cache/checksums: of blocks in the memory of a worker whose blocks the server copies.
struct ChecksumCommand {
  wire::Integer instance{};
  std::vector<std::uint32_t> blocks{};
  std::uint32_t blocks_per_chunk = 0;
  bool is_by_layer = false;
};

/// PUT and DELETE /quota/SALT: the salt's new quota.
struct QuotaCommand {
  std::string salt{};
  cache::Quota quota{};
};

/// GET /quota and /quota/SALT.
struct UsageCommand {
  std::vector<std::string> salts{};
};

/// A count of a tier's keys by salt has begun, or ended: see Engine::begin_count().
struct BeginCountCommand {
  cache::TierId tier = 0;
};
struct EndCountCommand {
  cache::TierId tier = 0;
  std::map<std::string, std::uint64_t> bytes{};  ///< By salt; other salts were not counted.
};

/// Requests of the admin HTTP (S28), and of the thread that counts the tiers, to the service.
using AdminCommand =
    std::variant<ClearCommand, ChecksumCommand, DeleteCommand, PrefetchCommand, PrefetchQuery,
                 QuotaCommand, UsageCommand, BeginCountCommand, EndCountCommand>;

/// The result of a command that was carried out.
struct AdminResult {
  std::vector<Md5> checksums{};  ///< Like ChecksumRequest::checksums; none for a clear.
  std::uint32_t layers = 0;      ///< The worker's.
  std::uint64_t deleted = 0;     ///< Objects, in L1 and in the tiers; of a delete and a clear.
  std::uint64_t skipped = 0;     ///< Objects of L1 that are locked.
  std::string trouble{};         ///< Why a delete was incomplete; empty: it was complete.
  std::string prefetch{};        ///< The new prefetch's id.
  std::optional<std::uint64_t> found{};         ///< Its objects in L1; empty: it is still running.
  std::uint64_t asked = 0;                      ///< Objects that it is about.
  std::vector<cache::SaltStats> salts{};        ///< As UsageCommand::salts.
  std::vector<std::uint64_t> counted_ago_ns{};  ///< By tier, for a usage; kNever: not counted yet.
};

/// Why a command was not carried out.
struct AdminError {
  enum class Kind : std::uint8_t {
    kMalformed,   ///< A field has not the type that it must have, and the text names it.
    kInvalid,     ///< A field is wrong, and the text names it.
    kNotFound,    ///< The named object does not exist.
    kBusy,        ///< Too much at once, the server is ending, or it did not answer in time.
    kUnfinished,  ///< It has been begun, and its end was not waited for.
    kFailed,      ///< It was tried, and failed.
  };
  Kind kind = Kind::kFailed;
  std::string text;  ///< For people: the fault and the remedy.
};

using AdminAnswer = Result<AdminResult, AdminError>;
using AdminDone = std::function<void(AdminAnswer)>;

}  // namespace larder::server
