#include "larder/server/page/page.h"

#include <openssl/evp.h>
#include <strings.h>

#include <algorithm>
#include <array>

#include "larder/server/page/page_text.h"

namespace larder::server {
namespace {

void replace(std::string& text, std::string_view mark, std::string_view with) {
  text.replace(text.find(mark), mark.size(), with);
}

/// In the form in which a policy names an allowed text.
std::string hash_source(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int bytes = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &bytes, EVP_sha256(), nullptr);
  std::array<unsigned char, 2 * EVP_MAX_MD_SIZE> encoded{};
  const int length = EVP_EncodeBlock(encoded.data(), digest.data(), static_cast<int>(bytes));
  return "'sha256-" +
         std::string{encoded.begin(), encoded.begin() + static_cast<std::ptrdiff_t>(length)} + "'";
}

Page make_page() {
  Page made;
  made.html = kPageHtml;
  replace(made.html, "{{style}}", kPageCss);
  replace(made.html, "{{fields}}", kPageFields);
  replace(made.html, "{{script}}", kPageJs);
  made.headers = {
      {"Content-Security-Policy",
       "default-src 'none'; style-src " + hash_source(kPageCss) + "; script-src " +
           hash_source(kPageJs) +
           "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
           "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"},
      {"X-Content-Type-Options", "nosniff"},
      {"X-Frame-Options", "DENY"},
      {"Referrer-Policy", "no-referrer"},
      {"Cache-Control", "no-store"}};
  return made;
}

std::string_view trimmed(std::string_view text) noexcept {
  constexpr std::string_view kBlank = " \t";
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

/// Takes the text before the next `end`, trimmed.
std::string_view take(std::string_view& text, char end) noexcept {
  const std::size_t at = std::min(text.find(end), text.size());
  const std::string_view part = trimmed(text.substr(0, at));
  text.remove_prefix(std::min(at + 1, text.size()));
  return part;
}

bool is_equal(std::string_view a, std::string_view b) noexcept {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

/// In thousandths: "0.5", "1". A text that cannot be read is 0.
int quality(std::string_view text) noexcept {
  if (text.starts_with('1')) return 1000;
  if (!text.starts_with("0.")) return 0;
  int value = 0;
  int unit = 100;
  for (const char c : text.substr(2, 3)) {
    if (c < '0' || c > '9') break;
    value += unit * (c - '0');
    unit /= 10;
  }
  return value;
}

/// How much this media type is wanted, by its own name; 0 where it is not named.
int wanted(std::string_view accept, std::string_view type) noexcept {
  while (!accept.empty()) {
    std::string_view range = take(accept, ',');
    if (!is_equal(take(range, ';'), type)) continue;
    while (!range.empty()) {
      std::string_view parameter = take(range, ';');
      if (is_equal(take(parameter, '='), "q")) return quality(trimmed(parameter));
    }
    return 1000;
  }
  return 0;
}

}  // namespace

const Page& page() {
  static const Page kPage = make_page();
  return kPage;
}

bool wants_page(std::string_view accept) noexcept {
  const int html = wanted(accept, "text/html");
  return html > 0 && html >= wanted(accept, "application/json");
}

}  // namespace larder::server
