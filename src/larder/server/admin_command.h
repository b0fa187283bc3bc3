#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "larder/base/result.h"
#include "larder/server/copy/block_checksums.h"
#include "larder/wire/msgpack_reader.h"

namespace larder::server {

/// POST /cache/clear.
struct ClearCommand {
  bool force = false;  ///< Also what is locked, as the wire's CLEAR.
};

/// POST /cache/checksums: of blocks in the memory of a worker whose blocks the server copies.
struct ChecksumCommand {
  wire::Integer instance{};
  std::vector<std::uint32_t> blocks{};
  std::uint32_t blocks_per_chunk = 0;
  bool is_by_layer = false;
};

/// What the admin HTTP can ask of the service (S28).
using AdminCommand = std::variant<ClearCommand, ChecksumCommand>;

/// The result of a command that was carried out.
struct AdminResult {
  std::vector<Md5> checksums{};  ///< As ChecksumRequest::checksums; of a clear: none.
  std::uint32_t layers = 0;      ///< Of the worker.
};

/// Why a command was not carried out.
struct AdminError {
  enum class Kind : std::uint8_t {
    kInvalid,   ///< A field is wrong, and the text names it.
    kNotFound,  ///< The worker is not registered.
    kBusy,      ///< Too much at once, the server is ending, or it did not answer in time.
    kFailed,    ///< It was tried, and failed.
  };
  Kind kind = Kind::kFailed;
  std::string text;  ///< For a person: what is wrong, and the remedy.
};

using AdminAnswer = Result<AdminResult, AdminError>;
using AdminDone = std::function<void(AdminAnswer)>;

}  // namespace larder::server
