#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/server/admin_command.h"
#include "larder/server/options.h"
#include "larder/server/quota_file.h"
#include "larder/server/quota_json.h"

namespace larder::server {

/// The quotas by salt that were set over HTTP or in the file of --quota-file (E22, E34). The
/// engine's quotas follow from them; a restart begins with them.
///
/// A change goes first to the file, then to the engine, and only then counts here. So a confirmed
///   quota is in the file, and if the file cannot be written nothing changes. If the engine refuses
///   a change, the file gets its old content again.
/// Order: changes are made one after another, file and engine in the same order.
/// Threads: any. Changes block on the disk and on the loop, so make them on an HTTP thread. At most
///   kChangersMax callers at a time make a change or wait to; another one is refused at once.
class Quotas {
 public:
  static constexpr std::size_t kQuotasMax = 10'000;
  static constexpr std::size_t kChangersMax = 4;
  /// Brings a quota into the engine, and waits until it is there.
  using Apply = std::function<AdminAnswer(QuotaCommand)>;

  /// Reads the file, where there is one. The options are copied.
  static SetupResult<std::unique_ptr<Quotas>> open(const ServerOptions& options);

  Result<void, AdminError> set(const std::string& salt, const QuotaSetting& setting,
                               const Apply& apply);
  /// False: it has none.
  Result<bool, AdminError> remove(const std::string& salt, const Apply& apply);

  std::optional<QuotaSetting> find(const std::string& salt) const LARDER_EXCLUDES(mutex_);
  QuotaSettings all() const LARDER_EXCLUDES(mutex_);
  /// The engine's quotas for it.
  cache::Quota quota_of(const QuotaSetting& setting) const noexcept {
    return server::quota_of(setting, default_quota_);
  }
  const cache::Quota& default_quota() const noexcept { return default_quota_; }
  bool is_kept() const noexcept { return file_.has_value(); }

 private:
  Quotas(const ServerOptions& options, std::optional<QuotaFile> file) noexcept;

  /// Its caller is one of the changers.
  class Changer;
  std::optional<AdminError> defect_of(const QuotaSettings& settings) const;
  Result<void, AdminError> change(const QuotaSettings& next, QuotaCommand command,
                                  const Apply& apply) LARDER_REQUIRES(changing_);
  AdminError take_back(const QuotaSettings& before, AdminError why) const;

  const cache::Quota default_quota_;
  const std::uint64_t l1_bytes_;
  const std::optional<QuotaFile> file_;
  Mutex changing_;  ///< Held during a change. Taken before `mutex_`.
  mutable Mutex mutex_;
  QuotaSettings settings_ LARDER_GUARDED_BY(mutex_);
  std::size_t changers_ LARDER_GUARDED_BY(mutex_) = 0;
};

}  // namespace larder::server
