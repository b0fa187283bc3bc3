#include "larder/server/page/page.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "larder/server/page/page_text.h"
#include "larder/server/status_json.h"

namespace larder::server {
namespace {

using nlohmann::json;

std::string header(std::string_view name) {
  for (const auto& [each, value] : page().headers) {
    if (each == name) return value;
  }
  return "";
}

/// The first group of each match.
std::set<std::string> all_of(std::string_view text, const char* pattern) {
  const std::string copy{text};
  const std::regex regex{pattern};
  std::set<std::string> found;
  for (std::sregex_iterator at{copy.begin(), copy.end(), regex}, end; at != end; ++at) {
    found.insert((*at)[1]);
  }
  return found;
}

TEST(PageTest, IsOneDocumentWithoutOutsideReferences) {
  const std::string& html = page().html;
  EXPECT_TRUE(html.starts_with("<!doctype html>"));
  EXPECT_TRUE(html.ends_with("</html>\n"));
  EXPECT_EQ(html.find("{{"), std::string::npos) << "a mark was not replaced";
  for (const char* text : {"http://", "https://", "//", " src=", "@import", "url(", "<iframe",
                           "<img", "<object", "<form"}) {
    EXPECT_EQ(html.find(text), std::string::npos) << text;
  }
  const auto links = all_of(html, R"re(href="([^"]*)")re");
  EXPECT_EQ(links,
            (std::set<std::string>{"#main", "data:,", "status", "degraded", "config", "metrics"}));
}

TEST(PageTest, PutsTextsInAsTextOnly) {
  for (const char* text : {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write",
                           "eval(", "new Function", "DOMParser", "setHTML"}) {
    EXPECT_EQ(kPageJs.find(text), std::string_view::npos) << text;
  }
  // The policy would block these without a word to the reader.
  EXPECT_EQ(all_of(kPageHtml, R"(\s(style|on[a-z]+)=)"), std::set<std::string>{});
}

TEST(PageTest, ItsPolicyAllowsItsOwnTextsAndItsOwnServer) {
  const std::string policy = header("Content-Security-Policy");
  EXPECT_TRUE(policy.starts_with("default-src 'none'; ")) << policy;
  EXPECT_EQ(policy.find("unsafe"), std::string::npos) << policy;
  EXPECT_EQ(policy.find('*'), std::string::npos) << policy;
  for (const char* part :
       {"connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
        "require-trusted-types-for 'script'", "trusted-types 'none'"}) {
    EXPECT_NE(policy.find(part), std::string::npos) << part;
  }
  // 32 bytes in base64 each.
  EXPECT_EQ(all_of(policy, "-src 'sha256-([A-Za-z0-9+/]{43}=)'").size(), 2U) << policy;
  EXPECT_EQ(header("X-Content-Type-Options"), "nosniff");
  EXPECT_EQ(header("Cache-Control"), "no-store");
}

TEST(PageTest, BrowsersAreToldFromOtherClients) {
  for (const char* accept :
       {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "text/html",
        "TEXT/HTML", "application/json;q=0.5, text/html;q=0.9", " text/html ;q=1.000",
        "text/html;level=1", "application/json,text/html", "text/html;q=0.001"}) {
    EXPECT_TRUE(wants_page(accept)) << accept;
  }
  for (const char* accept :
       {"", "*/*", "application/json", "text/*", "application/json, text/html;q=0.9",
        "text/html;q=0", "text/html;q=0.000", "text/htmlx", "x-text/html", ",,;;=,",
        "text/html;q=", "text/html; q=x", "text/plain;q=1;text/html"}) {
    EXPECT_FALSE(wants_page(accept)) << accept;
  }
}

// ---- What it reads of /status.

/// With one of everything that the page shows.
json full_status() {
  ServerStatus status;
  status.chunk_tokens = 16;
  status.instances.emplace_back().id = "1";
  status.tiers.emplace_back().report.health = Health::kDown;
  status.spaces.emplace_back();
  status.salts.emplace_back();
  return status_json(status, {}, true);
}

/// Null: it is absent. (A field may be null, so the pointer says it.)
const json* find(const json& value, const std::string& path) {
  const json* at = &value;
  std::size_t begin = 0;
  while (begin <= path.size()) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    if (!at->is_object() || !at->contains(name)) return nullptr;
    at = &at->at(name);
    begin = end + 1;
  }
  return at;
}

TEST(PageTest, EachFieldThatItReadsIsInStatus) {
  const json fields = json::parse(kPageFields);
  const json status = full_status();
  for (const auto& [name, path] : fields["server"].items()) {
    EXPECT_NE(find(status, path), nullptr) << name << ": " << path;
  }
  for (const auto& [name, list] : fields["lists"].items()) {
    const json* const entries = find(status, list["at"]);
    ASSERT_TRUE(entries != nullptr && entries->is_array() && !entries->empty()) << name;
    for (const auto& [field, path] : list["fields"].items()) {
      EXPECT_NE(find(entries->front(), path), nullptr) << name << "." << field << ": " << path;
    }
  }
}

TEST(PageTest, ItsScriptReadsNothingElse) {
  const json fields = json::parse(kPageFields);
  std::set<std::string> known;
  for (const auto& [name, path] : fields["server"].items()) known.insert(name);
  for (const auto& [name, list] : fields["lists"].items()) known.insert(name);
  for (const std::string& name : all_of(kPageJs, R"(\bnow\.(\w+))")) {
    EXPECT_TRUE(known.contains(name)) << "now." << name;
  }
  const auto check = [&](const json& list, const std::string& one) {
    for (const std::string& name : all_of(kPageJs, ("\\b" + one + "\\.(\\w+)").c_str())) {
      EXPECT_TRUE(list["fields"].contains(name)) << one << "." << name;
    }
  };
  check(fields["lists"]["tiers"], "tier");
  check(fields["lists"]["workers"], "worker");
  check(fields["lists"]["spaces"], "space");
  check(fields["lists"]["reasons"], "reason");
  check(fields["lists"]["salts"], "room");
}

TEST(PageTest, ItExplainsEachReasonOfAMiss) {
  const std::set<std::string> names{cache::kMissNames.begin(), cache::kMissNames.end()};
  EXPECT_EQ(all_of(kPageHtml, R"re(data-reason="([^"]*)")re"), names);
}

}  // namespace
}  // namespace larder::server
