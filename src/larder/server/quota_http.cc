#include "larder/server/quota_http.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "larder/base/clock.h"
#include "larder/server/admin_json.h"
#include "larder/server/quota_json.h"

namespace larder::server {
namespace {

using Json = nlohmann::ordered_json;

/// `lmcache quota` waits for ten.
constexpr std::uint64_t kCommandNs = 5'000'000'000;
/// Salts that the loop is asked about at a time: some 0.2 ms of its thread.
constexpr std::size_t kSaltsAtATime = 1000;

HttpReply reply_of(const Json& json, int status = 200) {
  return {.status = status, .body = json.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

/// In LMCache's shape, which its command shows.
HttpReply refused(const std::string& text, int status = 400) {
  return reply_of({{"error", text}}, status);
}

HttpReply refused(const AdminError& error) {
  return refused(error.text, http_code_of(error.kind));
}

Json l2_usage(const cache::SaltStats& stats, std::size_t tiers) {
  Json usage = Json::array();
  for (std::size_t tier = 0; tier < tiers; ++tier) {
    usage.push_back(gb_of_bytes(stats.l2_bytes.at(tier)));
  }
  return usage;
}

/// LMCache's fields of a salt, and larder's own.
void put_stats(Json& json, const cache::SaltStats& stats, std::size_t tiers) {
  json["limit_gb"] = limit_json(stats.quota.limit_bytes);
  json["current_usage_gb"] = gb_of_bytes(stats.l1_bytes);
  json["guarantee_gb"] = gb_of_bytes(stats.quota.guarantee_bytes);
  json["l2_limit_gb"] = limit_json(stats.quota.tier_limit_bytes);
  json["l2_usage_gb"] = l2_usage(stats, tiers);
}

}  // namespace

void QuotaHttp::add_to(HttpRoutes& routes) {
  const auto add = [&](const char* method, const char* path, HttpNeeds needs,
                       HttpReply (QuotaHttp::*answer)(const HttpRequest&)) {
    routes.add({.method = method,
                .path = path,
                .needs = needs,
                .answer = [this, answer](const HttpRequest& request) {
                  return (this->*answer)(request);
                }});
  };
  // A salt may have any character, also '/'.
  constexpr const char* kOfSalt = "/quota/**";
  add("GET", "/quota", HttpNeeds::kNothing, &QuotaHttp::get_all);
  add("GET", "/quota/", HttpNeeds::kNothing, &QuotaHttp::get_all);  // As LMCache.
  add("GET", kOfSalt, HttpNeeds::kNothing, &QuotaHttp::get_one);
  add("PUT", kOfSalt, HttpNeeds::kToken, &QuotaHttp::put);
  add("DELETE", kOfSalt, HttpNeeds::kToken, &QuotaHttp::remove);
}

AdminAnswer QuotaHttp::ask(AdminCommand command) {
  return mailbox_.ask(std::move(command), RealClock::instance().now_ns() + kCommandNs);
}

HttpReply QuotaHttp::get_all(const HttpRequest& /*request*/) {
  const QuotaSettings settings = quotas_.all();
  Json users = Json::object();
  UsageCommand question;
  AdminResult last;
  auto next = settings.begin();
  do {
    question.salts.clear();
    for (; next != settings.end() && question.salts.size() < kSaltsAtATime; ++next) {
      question.salts.push_back(next->first);
    }
    AdminAnswer answered = ask(question);
    if (!answered) return refused(answered.error());
    last = *std::move(answered);
    for (std::size_t i = 0; i < question.salts.size(); ++i) {
      put_stats(users[std::string{salt_name(question.salts[i])}], last.salts.at(i),
                last.counted_ago_ns.size());
    }
  } while (next != settings.end());
  Json counted = Json::array();
  for (const std::uint64_t ago_ns : last.counted_ago_ns) {
    counted.push_back(ago_ns == kNever ? Json(nullptr) : Json(static_cast<double>(ago_ns) / 1e9));
  }
  return reply_of({{"users", std::move(users)},
                   {"larder",
                    {{"is_kept_in_file", quotas_.is_kept()},
                     {"default_limit_gb", limit_json(quotas_.default_quota().limit_bytes)},
                     {"l2_counted_seconds_ago", std::move(counted)}}}});
}

HttpReply QuotaHttp::get_one(const HttpRequest& request) {
  const auto salt = salt_of_target(request.target);
  if (!salt) return refused(salt.error());
  const bool exists = quotas_.find(*salt).has_value();
  const AdminAnswer answered = ask(UsageCommand{.salts = {*salt}});
  if (!answered) return refused(answered.error());
  Json json = {{"cache_salt", salt_name(*salt)}};
  put_stats(json, answered->salts.at(0), answered->counted_ago_ns.size());
  json["exists"] = exists;
  return reply_of(json);
}

HttpReply QuotaHttp::put(const HttpRequest& request) {
  const auto salt = salt_of_target(request.target);
  if (!salt) return refused(salt.error());
  const auto setting = read_quota(request.body);
  if (!setting) return refused(setting.error());
  if (const auto defect = quota_defect(*setting, quotas_.default_quota())) {
    return refused(*defect);
  }
  const auto set = quotas_.set(*salt, *setting,
                               [this](QuotaCommand command) { return ask(std::move(command)); });
  if (set || set.error().kind == AdminError::Kind::kUnfinished) on_change_();
  if (!set) return refused(set.error());
  Json json = {{"cache_salt", salt_name(*salt)},
               {"limit_gb", limit_json(quotas_.quota_of(*setting).limit_bytes)}};
  json.update(setting_json(*setting));
  json["status"] = "ok";
  return reply_of(json);
}

HttpReply QuotaHttp::remove(const HttpRequest& request) {
  const auto salt = salt_of_target(request.target);
  if (!salt) return refused(salt.error());
  const auto removed =
      quotas_.remove(*salt, [this](QuotaCommand command) { return ask(std::move(command)); });
  if (removed ? *removed : removed.error().kind == AdminError::Kind::kUnfinished) on_change_();
  if (!removed) return refused(removed.error());
  return reply_of(
      {{"cache_salt", salt_name(*salt)}, {"status", *removed ? "removed" : "not_found"}});
}

}  // namespace larder::server
