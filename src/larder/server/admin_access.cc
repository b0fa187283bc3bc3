#include "larder/server/admin_access.h"

#include <strings.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "larder/base/key_text.h"
#include "larder/base/logging.h"

namespace larder::server {
namespace {

constexpr std::size_t kTokenBytesMin = 16;
constexpr std::size_t kTokenBytesMax = 4096;
constexpr const char* kRemedy =
    "; write one line with a random token into it, as in `openssl rand -hex 32 > FILE`";
constexpr const char* kRightsRemedy = "; make it readable for the server's user (chown, chmod)";

SetupError wrong(const std::string& path, const std::string& trouble,
                 const char* remedy = kRemedy) {
  return {ErrorCode::kInvalidArgument,
          "--admin-token-file " + printable(path) + " " + trouble + remedy};
}

bool is_loopback(const TcpEndpoint& endpoint) noexcept {
  return endpoint.is_ipv6() ? endpoint.address == "::1" : endpoint.address.starts_with("127.");
}

/// A header can carry it, without quotes.
bool is_of_token(char c) noexcept {
  return c > ' ' && c < '\x7F';
}

SetupResult<std::string> read_token(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return wrong(path, "is a directory");
  errno = 0;
  std::ifstream file{path, std::ios::binary};
  if (!file.is_open()) {
    const int code = errno == 0 ? EIO : errno;
    return wrong(path, "cannot be read: " + errno_text(code),
                 code == EACCES ? kRightsRemedy : kRemedy);
  }
  std::string token;
  for (std::istreambuf_iterator<char> at{file}, end; at != end; ++at) {
    if (token.size() > kTokenBytesMax) break;
    token += *at;
  }
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
  if (token.size() < kTokenBytesMin || token.size() > kTokenBytesMax) {
    return wrong(path, "must hold a token of " + std::to_string(kTokenBytesMin) + " to " +
                           std::to_string(kTokenBytesMax) + " characters");
  }
  if (!std::ranges::all_of(token, is_of_token)) {
    return wrong(path, "holds a space, a second line, or what is not ASCII");
  }
  return token;
}

void warn_if_others_read(const std::string& path) {
  std::error_code error;
  const auto mode = std::filesystem::status(path, error).permissions();
  if (error || (mode & std::filesystem::perms::others_read) == std::filesystem::perms::none) return;
  log(LogLevel::kWarning, "server",
      "--admin-token-file " + printable(path) +
          ": every user of this machine can read it; `chmod o-r` it");
}

}  // namespace

SetupResult<AdminAccess> AdminAccess::open(const ServerOptions& options, const TcpEndpoint& bound) {
  if (options.is_admin_open) {
    if (!is_loopback(bound)) {
      return SetupError{ErrorCode::kInvalidArgument,
                        "--admin-open is for loopback alone, and --http-host is " + bound.address +
                            ": other machines could clear the cache; give --admin-token-file FILE "
                            "instead, or --http-host 127.0.0.1"};
    }
    log(LogLevel::kWarning, "server",
        "--admin-open: every process of this machine may change the cache's state over HTTP "
        "without a token");
    return AdminAccess{true, {}};
  }
  if (options.admin_token_file.empty()) return AdminAccess{false, {}};
  LARDER_ASSIGN(std::string token, read_token(options.admin_token_file));
  warn_if_others_read(options.admin_token_file);
  return AdminAccess{false, std::move(token)};
}

bool AdminAccess::allows(std::string_view authorization) const noexcept {
  if (is_open_) return true;
  constexpr std::string_view kScheme = "Bearer ";
  if (token_.empty() || authorization.size() != kScheme.size() + token_.size() ||
      ::strncasecmp(authorization.data(), kScheme.data(), kScheme.size()) != 0) {
    return false;
  }
  const std::string_view given = authorization.substr(kScheme.size());
  unsigned difference = 0;
  for (std::size_t i = 0; i < token_.size(); ++i) {
    difference |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(token_[i]);
  }
  return difference == 0;
}

const char* AdminAccess::refusal(std::string_view authorization) const noexcept {
  if (token_.empty()) {
    return "this changes the cache's state and needs a token: start the server with "
           "--admin-token-file FILE and send the header 'Authorization: Bearer TOKEN', or start it "
           "with --admin-socket PATH and use `curl --unix-socket PATH`, or start it with "
           "--admin-open to allow every client of this machine";
  }
  if (authorization.empty()) {
    return "this changes the cache's state: send the header 'Authorization: Bearer TOKEN' with the "
           "token of --admin-token-file";
  }
  return "the token is not the one of --admin-token-file, which the server has read at its start; "
         "after a change of the file restart the server";
}

std::string_view admin_access_name(const ServerOptions& options) noexcept {
  if (options.is_admin_open) return "open";
  return options.admin_token_file.empty() ? "read_only" : "token";
}

}  // namespace larder::server
