#include "larder/server/http_routes.h"

#include <algorithm>
#include <utility>

#include "larder/base/key_text.h"

namespace larder::server {
namespace {

bool matches(std::string_view pattern, std::string_view path) noexcept {
  if (!pattern.ends_with('*')) return pattern == path;
  const bool has_more_segments = pattern.ends_with("**");
  pattern.remove_suffix(has_more_segments ? 2 : 1);
  return path.size() > pattern.size() && path.starts_with(pattern) &&
         (has_more_segments || path.find('/', pattern.size()) == std::string_view::npos);
}

}  // namespace

void HttpRoutes::add_fixed(std::string path, std::string body) {
  add({.method = "GET",
       .path = std::move(path),
       .needs = HttpNeeds::kNothing,
       .answer = [body = std::move(body)](const HttpRequest&) { return HttpReply{.body = body}; }});
}

std::string HttpRoutes::tail_of(const HttpRequest& request) {
  return request.path.substr(request.path.rfind('/') + 1);
}

const HttpRoute* HttpRoutes::find(const HttpRequest& request) const {
  const auto found = std::ranges::find_if(routes_, [&](const HttpRoute& route) {
    return route.method == request.method && matches(route.path, request.path);
  });
  return found == routes_.end() ? nullptr : &*found;
}

Result<std::size_t, HttpReply> HttpRoutes::admit(const HttpRequest& head) {
  const HttpRoute* const route = find(head);
  if (route == nullptr) return refuse_path(head);
  const bool is_allowed = route->needs == HttpNeeds::kNothing || head.is_of_same_user ||
                          access_->allows(head.authorization);
  if (is_allowed) return route->body_bytes_max;
  HttpReply refused = refusal(401, access_->refusal(head.authorization));
  refused.headers.emplace_back("WWW-Authenticate", "Bearer");
  return refused;
}

HttpReply HttpRoutes::answer(const HttpRequest& request) {
  const HttpRoute* const route = find(request);
  return route == nullptr ? refuse_path(request) : route->answer(request);
}

HttpReply HttpRoutes::refuse_path(const HttpRequest& request) const {
  std::string methods;
  for (const HttpRoute& route : routes_) {
    if (!matches(route.path, request.path)) continue;
    methods += (methods.empty() ? "" : ", ") + route.method;
  }
  if (!methods.empty()) {
    HttpReply refused = refusal(405, printable(request.path) + " has no " +
                                         printable(request.method) + "; it has " + methods);
    refused.headers.emplace_back("Allow", methods);
    return refused;
  }
  std::string there;
  for (const HttpRoute& route : routes_) {
    there += (there.empty() ? "" : ", ") + route.method + " " + route.path;
  }
  return refusal(404, "larder has no " + printable(request.method) + " " + printable(request.path) +
                          " here; it has " + there);
}

}  // namespace larder::server
