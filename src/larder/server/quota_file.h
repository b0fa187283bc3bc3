#pragma once

#include <string>
#include <utility>

#include "larder/base/result.h"
#include "larder/server/quota_json.h"

namespace larder::server {

/// The file of --quota-file: quotas as JSON, which a person may write, too:
///   {"version": 1, "quotas": {"tenant-a": {"limit_gb": 1.5}, "_default": {"guarantee_gb": 2}}}
///
/// It is replaced as a whole: a reader, or the next start after a crash at any moment, finds the
/// old
///   content or the new one.
/// Threads: one. Cost: blocks on the disk.
class QuotaFile {
 public:
  /// Follows symbolic links, so that the file they name is replaced and not the link.
  explicit QuotaFile(const std::string& path);

  /// Empty where there is no such file yet. An error names the file, the place in it and the
  /// remedy.
  SetupResult<QuotaSettings> read() const;
  /// The content survives a crash of the machine when it returns. An error leaves the file as it
  /// was, and is a sentence that names it.
  Result<void, std::string> write(const QuotaSettings& settings) const;

  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

}  // namespace larder::server
