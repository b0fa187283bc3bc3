#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/server/admin_access.h"
#include "larder/server/http_message.h"

namespace larder::server {

/// What a request to a path may do, and so who may send it (S29).
enum class HttpNeeds : std::uint8_t {
  kNothing = 0,  ///< It only reads.
  kToken,        ///< It changes the cache's state.
};

/// One path with one method.
struct HttpRoute {
  std::string method;
  /// "/cache/prefetches/*": the star is one more segment, and is what HttpRoutes::tail_of() gives.
  /// "/quota/**": the same of one or more segments.
  std::string path;
  HttpNeeds needs = HttpNeeds::kNothing;
  std::function<HttpReply(const HttpRequest&)> answer;
  std::size_t body_bytes_max = std::size_t{64} << 10;
};

/// The table of what a server's HTTP has. Everything else is 404 with a sentence, and 405 where a
/// path has other methods; a change without a token is 401, before its body is read. Threads: add()
/// before the server starts; the rest any. What the routes do is theirs to guard.
class HttpRoutes final : public HttpHandler {
 public:
  /// `access` outlives it; null: nothing here may need a token.
  explicit HttpRoutes(const AdminAccess* access) : access_(access) {}

  void add(HttpRoute route) { routes_.push_back(std::move(route)); }
  /// A GET whose reply never changes.
  void add_fixed(std::string path, std::string body);

  Result<std::size_t, HttpReply> admit(const HttpRequest& head) override;
  HttpReply answer(const HttpRequest& request) override;

  /// What the star of the route stands for in this request.
  static std::string tail_of(const HttpRequest& request);

 private:
  const HttpRoute* find(const HttpRequest& request) const;
  HttpReply refuse_path(const HttpRequest& request) const;

  const AdminAccess* const access_;
  std::vector<HttpRoute> routes_;
};

}  // namespace larder::server
