#include "larder/server/quotas.h"

#include <utility>

#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "larder/base/size_text.h"

namespace larder::server {
namespace {

using Kind = AdminError::Kind;

AdminError error(Kind kind, std::string text) {
  return {.kind = kind, .text = std::move(text)};
}

}  // namespace

/// Counts its caller among the changers, while there is room.
class Quotas::Changer {
 public:
  explicit Changer(Quotas& quotas) : quotas_(quotas) {
    const MutexLock lock{quotas_.mutex_};
    is_admitted_ = quotas_.changers_ < kChangersMax;
    if (is_admitted_) ++quotas_.changers_;
  }
  ~Changer() {
    if (!is_admitted_) return;
    const MutexLock lock{quotas_.mutex_};
    --quotas_.changers_;
  }
  Changer(const Changer&) = delete;
  Changer& operator=(const Changer&) = delete;

  explicit operator bool() const noexcept { return is_admitted_; }
  static AdminError refusal() {
    return error(Kind::kBusy, std::to_string(kChangersMax) +
                                  " changes of quotas are being made already; ask again in a "
                                  "moment");
  }

 private:
  Quotas& quotas_;
  bool is_admitted_ = false;
};

Quotas::Quotas(const ServerOptions& options, std::optional<QuotaFile> file) noexcept
    : default_quota_(options.engine.default_quota),
      l1_bytes_(options.l1_bytes),
      file_(std::move(file)) {}

SetupResult<std::unique_ptr<Quotas>> Quotas::open(const ServerOptions& options) {
  std::optional<QuotaFile> file;
  QuotaSettings settings;
  if (!options.quota_file.empty()) {
    file.emplace(options.quota_file);
    LARDER_ASSIGN(settings, file->read());
  }
  std::unique_ptr<Quotas> quotas{new Quotas{options, std::move(file)}};
  if (const auto defect = quotas->defect_of(settings)) {
    return SetupError{ErrorCode::kInvalidArgument,
                      "--quota-file " + printable(options.quota_file) + ": " + defect->text};
  }
  if (!settings.empty()) {
    log(LogLevel::kInfo, "server",
        format_count(settings.size(), "quota") + " read from " + printable(options.quota_file));
  }
  const MutexLock lock{quotas->mutex_};
  quotas->settings_ = std::move(settings);
  return quotas;
}

std::optional<QuotaSetting> Quotas::find(const std::string& salt) const {
  const MutexLock lock{mutex_};
  const auto found = settings_.find(salt);
  if (found == settings_.end()) return std::nullopt;
  return found->second;
}

QuotaSettings Quotas::all() const {
  const MutexLock lock{mutex_};
  return settings_;
}

/// Why these quotas cannot be had together.
std::optional<AdminError> Quotas::defect_of(const QuotaSettings& settings) const {
  if (settings.size() > kQuotasMax) {
    return error(Kind::kInvalid, std::to_string(kQuotasMax) +
                                     " salts have a quota, which is the most; delete one that is "
                                     "not needed any more");
  }
  std::uint64_t guaranteed = 0;
  for (const auto& [salt, setting] : settings) {
    if (auto defect = quota_defect(setting, default_quota_)) {
      return error(Kind::kInvalid, std::string{salt_name(salt)} + ": " + *defect);
    }
    const std::uint64_t more = quota_of(setting).guarantee_bytes;
    guaranteed = more > kNever - guaranteed ? kNever : guaranteed + more;
  }
  if (guaranteed <= l1_bytes_) return std::nullopt;
  return error(Kind::kInvalid, "the guarantees of all salts together would be " +
                                   format_bytes(guaranteed) + ", and L1 has " +
                                   format_bytes(l1_bytes_) +
                                   "; lower a guarantee_gb, or start the server with a larger "
                                   "--l1-size-gb");
}

Result<void, AdminError> Quotas::set(const std::string& salt, const QuotaSetting& setting,
                                     const Apply& apply) {
  const Changer changer{*this};
  if (!changer) return Changer::refusal();
  const MutexLock lock{changing_};
  QuotaSettings next = all();
  next[salt] = setting;
  if (auto defect = defect_of(next)) return *std::move(defect);
  return change(next, {.salt = salt, .quota = quota_of(setting)}, apply);
}

Result<bool, AdminError> Quotas::remove(const std::string& salt, const Apply& apply) {
  const Changer changer{*this};
  if (!changer) return Changer::refusal();
  const MutexLock lock{changing_};
  QuotaSettings next = all();
  if (next.erase(salt) == 0) return false;
  LARDER_TRY(change(next, {.salt = salt, .quota = default_quota_}, apply));
  return true;
}

Result<void, AdminError> Quotas::change(const QuotaSettings& next, QuotaCommand command,
                                        const Apply& apply) {
  const QuotaSettings before = all();
  if (file_) {
    if (const auto written = file_->write(next); !written) {
      log(LogLevel::kError, "server", written.error());
      return error(Kind::kFailed, written.error());
    }
  }
  const AdminAnswer answer = apply(std::move(command));
  if (!answer && answer.error().kind != Kind::kUnfinished) return take_back(before, answer.error());
  {
    const MutexLock lock{mutex_};
    settings_ = next;
  }
  if (!answer) return answer.error();
  return {};
}

/// The engine has not taken the change: the file must not have it either.
AdminError Quotas::take_back(const QuotaSettings& before, AdminError why) const {
  if (!file_) return why;
  const auto written = file_->write(before);
  if (written) return why;
  log(LogLevel::kError, "server",
      written.error() + "; it has a quota now that this server has not, until the next change");
  why.text += "; the quota file " + printable(file_->path()) +
              " has the change nevertheless, as it could not be written again";
  return why;
}

}  // namespace larder::server
