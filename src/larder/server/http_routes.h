#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/server/admin_access.h"
#include "larder/server/http_message.h"

namespace larder::server {

/// The effect of a request to a path, and so which clients may send it (S29).
enum class HttpNeeds : std::uint8_t {
  kNothing = 0,  ///< It only reads.
  kToken,        ///< It changes the cache's state.
};

/// One path with one method.
struct HttpRoute {
  std::string method;
  /// "/cache/prefetches/*": the star matches one segment, which HttpRoutes::tail_of() returns.
  /// "/quota/**": one or more segments.
  std::string path;
  HttpNeeds needs = HttpNeeds::kNothing;
  std::function<HttpReply(const HttpRequest&)> answer;
  std::size_t body_bytes_max = std::size_t{64} << 10;
};

/// The table of a server's HTTP paths. Everything else is 404 with a sentence, and 405 where a path
/// has other methods; a change without a token is 401, before its body is read. Threads: add()
/// before the server starts; the rest any. Each route guards its own state.
class HttpRoutes final : public HttpHandler {
 public:
  /// `access` outlives it; null: no route needs a token.
  explicit HttpRoutes(const AdminAccess* access) : access_(access) {}

  void add(HttpRoute route) { routes_.push_back(std::move(route)); }
  /// A GET whose reply never changes.
  void add_fixed(std::string path, std::string body);

  Result<std::size_t, HttpReply> admit(const HttpRequest& head) override;
  HttpReply answer(const HttpRequest& request) override;

  /// The part of this request's path that the route's star matches.
  static std::string tail_of(const HttpRequest& request);

 private:
  const HttpRoute* find(const HttpRequest& request) const;
  HttpReply refuse_path(const HttpRequest& request) const;

  const AdminAccess* const access_;
  std::vector<HttpRoute> routes_;
};

}  // namespace larder::server
