#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace larder::server {

/// The page (S31): one document that requests this server's /status, and nothing else.
struct Page {
  std::string html;
  /// Beside Content-Type. The policy allows the document's own style and script by their hashes and
  /// requests to this server; nothing else, and no text that becomes markup.
  std::vector<std::pair<std::string, std::string>> headers;
};

/// Made at the first call. Any thread.
const Page& page();

/// Whether a client with this Accept header is a browser that shows a document: it names text/html,
/// and likes JSON no better. The clients of LMCache, curl and monitors do not.
bool wants_page(std::string_view accept) noexcept;

}  // namespace larder::server
