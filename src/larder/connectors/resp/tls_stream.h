#pragma once

#include <memory>
#include <string>

#include "larder/base/result.h"
#include "larder/base/unique_fd.h"
#include "larder/connectors/resp/stream.h"

struct ssl_ctx_st;

namespace larder::resp {

struct TlsOptions {
  std::string ca_file;           ///< PEM; empty: the system's trust store.
  std::string certificate_file;  ///< PEM chain of the client; empty: none is presented.
  std::string key_file;          ///< PEM; there is one exactly with certificate_file.
  std::string server_name;       ///< Name or address that the server's certificate must be for.
};

/// The content of those files.
struct TlsTexts {
  std::string ca;
  std::string certificate;
  std::string key;

  bool operator==(const TlsTexts&) const = default;
};

/// Everything that TLS connections to one server share. Always verifies; TLS 1.2 at least.
/// One thread at a time.
class TlsContext {
 public:
  /// `texts` are the contents of the files in `options`; an error names the file and the fault.
  static SetupResult<std::unique_ptr<TlsContext>> create(const TlsOptions& options,
                                                         const TlsTexts& texts);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  /// Null when there is no memory left. May outlive the context. Values are copied once each way,
  /// which encryption needs anyway.
  std::unique_ptr<Stream> connect(UniqueFd socket);

 private:
  TlsContext(ssl_ctx_st* context, std::string server_name);

  ssl_ctx_st* const context_;
  const std::string server_name_;
};

}  // namespace larder::resp
