// Quotas and the use of salts (E22, E34), as HTTP and the thread that counts the tiers ask for
// them.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "larder/server/service_core.h"

namespace larder::server {

bool Service::Core::set_quota(std::string_view salt, const cache::Quota& quota) {
  const auto id = spaces_.add_salt(salt);
  if (!id) return false;
  engine_.set_quota(*id, quota);
  return true;
}

void Service::Core::carry_out(const QuotaCommand& command, const AdminDone& done) {
  if (set_quota(command.salt, command.quota)) return done(AdminResult{});
  done(AdminError{.kind = AdminError::Kind::kFailed,
                  .text = "clients have used " + std::to_string(Spaces::kSpacesMax) +
                          " salts since the server's start, which is the most; restart it"});
}

void Service::Core::carry_out(const UsageCommand& command, const AdminDone& done) {
  AdminResult result;
  for (const std::string& salt : command.salts) {
    const auto id = spaces_.find_salt(salt);
    result.salts.push_back(id ? engine_.salt_stats(*id)
                              : cache::SaltStats{.quota = options_.engine.default_quota});
  }
  for (const std::uint64_t counted_ns : counted_ns_) {
    result.counted_ago_ns.push_back(counted_ns == kNever ? kNever : now_ns_ - counted_ns);
  }
  done(std::move(result));
}

void Service::Core::carry_out(const BeginCountCommand& command, const AdminDone& done) {
  engine_.begin_count(command.tier);
  done(AdminResult{});
}

void Service::Core::carry_out(const EndCountCommand& command, const AdminDone& done) {
  std::vector<cache::SaltBytes> counted;
  for (const auto& [salt, bytes] : command.bytes) {
    if (const auto id = spaces_.find_salt(salt)) counted.push_back({*id, bytes});
  }
  engine_.end_count(command.tier, counted);
  counted_ns_.at(command.tier) = now_ns_;
  done(AdminResult{});
}

void Service::Core::fill_salts(ServerStatus& status) const {
  status.salts.clear();
  for (std::size_t i = 0; i < status.engine.salts.size(); ++i) {
    SaltStatus& salt = status.salts.emplace_back();
    salt.stats = status.engine.salts[i];
    salt.salt = i < cache::kSaltsCounted ? spaces_.text_of(salt.stats.salt) : kOtherSpaces;
  }
}

}  // namespace larder::server
