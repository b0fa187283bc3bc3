#pragma once

#include <cstdint>
#include <string_view>

#include "larder/base/result.h"

namespace larder::resp {

/// The peer is gone, is slow or violates the protocol; the same call may work later. `what` is a
/// literal.
constexpr Error unavailable(const char* what) noexcept {
  return {ErrorCode::kUnavailable, "resp", what};
}

/// The meaning of an error reply for larder.
struct ReplyError {
  /// How far it reaches.
  enum class Scope : std::uint8_t {
    kKey = 0,     ///< This key only.
    kWrites,      ///< The server takes no writes now.
    kSome,        ///< This key, and others for the same reason.
    kServer,      ///< The server serves no client now.
    kConnection,  ///< Only a new connection can cure it.
  };
  std::string_view code;  ///< "OOM"; empty for what is not known.
  Error error;            ///< Literals, with the remedy.
  Scope scope = Scope::kKey;
  /// Whether a new connection may reach a server that does not refuse.
  enum class Elsewhere : std::uint8_t { kNo = 0, kYes, kIfItLasts };
  Elsewhere elsewhere = Elsewhere::kNo;
};

/// By the first word of an error reply (without '-'). Never null; the last row is for unknown
/// errors.
const ReplyError& find_reply_error(std::string_view text) noexcept;

}  // namespace larder::resp
