#include "larder/connectors/resp/reply_error.h"

#include <array>

namespace larder::resp {
namespace {

using Scope = ReplyError::Scope;

using Elsewhere = ReplyError::Elsewhere;

constexpr ReplyError row(std::string_view code, ErrorCode error_code, const char* what, Scope scope,
                         Elsewhere elsewhere = Elsewhere::kNo) {
  return {code, Error{error_code, "resp", what}, scope, elsewhere};
}

constexpr std::array kRows{
    row("LOADING", ErrorCode::kUnavailable,
        "LOADING: the server is still reading its data from disk; it will serve by itself",
        Scope::kServer, Elsewhere::kIfItLasts),
    row("BUSY", ErrorCode::kUnavailable,
        "BUSY: a script keeps the server busy; end it with SCRIPT KILL", Scope::kServer),
    row("MASTERDOWN", ErrorCode::kUnavailable,
        "MASTERDOWN: a replica without its primary; use the primary's address", Scope::kServer,
        Elsewhere::kYes),
    row("READONLY", ErrorCode::kUnavailable,
        "READONLY: the server is a replica; new connections look for a primary at its address, or "
        "use the primary's",
        Scope::kWrites, Elsewhere::kYes),
    row("OOM", ErrorCode::kResourceExhausted,
        "OOM: the server has reached maxmemory and evicts nothing; raise maxmemory or set "
        "maxmemory-policy allkeys-lru",
        Scope::kWrites),
    row("MISCONF", ErrorCode::kUnavailable,
        "MISCONF: the server cannot save to disk and refuses writes; see its log", Scope::kWrites),
    row("NOREPLICAS", ErrorCode::kUnavailable,
        "NOREPLICAS: the server has too few replicas and refuses writes", Scope::kWrites),
    row("NOAUTH", ErrorCode::kUnavailable,
        "NOAUTH: the server wants a password; give password_file, or LARDER_RESP_PASSWORD in the "
        "environment",
        Scope::kConnection),
    row("WRONGPASS", ErrorCode::kUnavailable,
        "WRONGPASS: the server refuses the user name or the password; correct them",
        Scope::kConnection),
    row("NOPERM", ErrorCode::kUnavailable,
        "NOPERM: the user may not do this; larder needs GET SET STRLEN EXISTS UNLINK TOUCH on its "
        "keys, and INFO",
        Scope::kSome),
    row("MOVED", ErrorCode::kUnimplemented,
        "MOVED: the server is part of a Redis Cluster, which larder does not follow; use a server "
        "outside of a cluster",
        Scope::kSome),
    row("ASK", ErrorCode::kUnimplemented,
        "ASK: the server is part of a Redis Cluster, which larder does not follow; use a server "
        "outside of a cluster",
        Scope::kSome),
    row("CROSSSLOT", ErrorCode::kUnimplemented,
        "CROSSSLOT: the server is part of a Redis Cluster, which larder does not follow; use a "
        "server outside of a cluster",
        Scope::kSome),
    row("CLUSTERDOWN", ErrorCode::kUnavailable,
        "CLUSTERDOWN: the server is part of a Redis Cluster that is down", Scope::kServer),
    row("WRONGTYPE", ErrorCode::kCorruption,
        "WRONGTYPE: the key holds another type than a string; somebody else writes here",
        Scope::kKey),
    row("", ErrorCode::kIo, "the server answered with an error", Scope::kKey),
};

}  // namespace

const ReplyError& find_reply_error(std::string_view text) noexcept {
  const std::string_view code = text.substr(0, text.find(' '));
  for (const ReplyError& known : kRows) {
    if (known.code == code) return known;
  }
  if (text.starts_with("ERR max number of clients")) {
    static constexpr ReplyError kTooMany =
        row("ERR", ErrorCode::kUnavailable,
            "the server has its maximum of clients; raise maxclients or lower connections",
            Scope::kConnection);
    return kTooMany;
  }
  if (text.starts_with("ERR Protocol error: invalid bulk length")) {
    static constexpr ReplyError kTooLong =
        row("ERR", ErrorCode::kInvalidArgument,
            "the value is longer than the server's proto-max-bulk-len allows; raise it",
            Scope::kConnection);
    return kTooLong;
  }
  return kRows.back();
}

}  // namespace larder::resp
