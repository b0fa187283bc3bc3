#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "larder/base/event_fd.h"
#include "larder/base/mutex.h"
#include "larder/base/result.h"
#include "larder/connector/report.h"
#include "larder/connectors/resp/asked.h"
#include "larder/connectors/resp/tls_stream.h"

namespace larder::resp {

struct RespOptions;

/// The password in a file, without the newline at the end. `name` is the parameter or variable that
/// names it, `type` the type in the spec.
SetupResult<std::string> read_password_file(std::string_view type, std::string_view name,
                                            const std::string& path);

/// The credentials of a connection, and the certificates that it trusts.
struct Secrets {
  std::string password;             ///< Empty: the server wants none.
  std::shared_ptr<TlsContext> tls;  ///< Null: plain.
};

/// The password and the TLS files, read again for each new connection, because operators replace
/// them while a store runs. A thread reads them, because a file may be on a file system that hangs.
/// A file that cannot be read or used at that moment leaves the earlier content in force, and shows
/// in the report.
///
/// Files that are not regular ones (a pipe of a shell) are read once.
/// Threads: one; append_report() any.
class SecretFiles {
 public:
  /// Reads the TLS files (the password's is in `options` already). `answered` is signalled when
  /// current() has an answer.
  static SetupResult<std::unique_ptr<SecretFiles>> open(const RespOptions& options,
                                                        std::shared_ptr<EventFd> answered);

  /// For the next connection. Null: ask again after the signal, or at patience_ends_ns().
  std::shared_ptr<const Secrets> current();
  /// Retries files that could not be read the last time, so that the condition ends without a new
  /// connection. Costs a short lock otherwise.
  void retry() LARDER_EXCLUDES(mutex_);
  /// From then on current() gives what it has; kNever: it is not reading.
  std::uint64_t patience_ends_ns() const noexcept;

  /// A reason when the files could not be read the last time.
  void append_report(Report& report) const LARDER_EXCLUDES(mutex_);

 private:
  struct Texts {
    std::string password;
    TlsTexts tls;
  };
  /// The files to read again; empty: none.
  struct Paths {
    std::string password;
    TlsOptions tls;

    bool empty() const noexcept;
  };
  static SetupResult<Texts> read(const Paths& paths);

  SecretFiles(const RespOptions& options, Paths paths, Texts texts, Secrets secrets,
              std::shared_ptr<EventFd> answered);
  void take(const SetupResult<Texts>& answer);
  void set_trouble(std::string trouble) LARDER_EXCLUDES(mutex_);

  static constexpr std::uint64_t kPatienceNs = 1'000'000'000;

  const std::optional<TlsOptions> tls_;
  const Paths paths_;
  Texts texts_;
  std::shared_ptr<const Secrets> secrets_;
  Asked<SetupResult<Texts>> files_;
  mutable Mutex mutex_;
  std::string trouble_ LARDER_GUARDED_BY(mutex_);
};

}  // namespace larder::resp
