#pragma once

#include <string_view>

namespace larder::server {

// The page's sources, as embed.cmake compiles them in.
extern const std::string_view kPageHtml;  ///< With {{style}}, {{fields}} and {{script}}.
extern const std::string_view kPageCss;
extern const std::string_view kPageJs;
extern const std::string_view kPageFields;

}  // namespace larder::server
