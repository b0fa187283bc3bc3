#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/base/result.h"

namespace larder::server {

/// A request to the admin HTTP, independent of the library that read it.
struct HttpRequest {
  std::string method;  ///< "GET" for a HEAD, too, whose reply only loses its body.
  std::string path;    ///< Decoded, without the query.
  std::string target;  ///< Path and query as they came.
  std::multimap<std::string, std::string> query;  ///< Decoded.
  std::string authorization;                      ///< The header; empty: there is none.
  std::string accept;                             ///< The header; empty: there is none.
  /// It came over the unix socket, from a process of this server's user.
  bool is_of_same_user = false;
  std::string body;

  /// The first value of that name. Nothing: the query has none.
  std::optional<std::string> parameter(const std::string& name) const {
    const auto found = query.find(name);
    if (found == query.end()) return std::nullopt;
    return found->second;
  }
};

struct HttpReply {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers{};
};

/// The handler of requests. Called by several threads at a time.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  /// Called before the body is read: how many bytes it may have, or why the request is refused.
  virtual Result<std::size_t, HttpReply> admit(const HttpRequest& head) = 0;
  /// Called after admit() has allowed it.
  virtual HttpReply answer(const HttpRequest& request) = 0;
};

/// LMCache's server has "detail"; its commands show "message" if there is one.
HttpReply refusal(int status, std::string_view detail);

}  // namespace larder::server
