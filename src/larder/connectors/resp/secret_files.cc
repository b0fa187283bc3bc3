#include "larder/connectors/resp/secret_files.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "larder/base/result.h"
#include "larder/connectors/resp/options.h"

namespace larder::resp {
namespace {

constexpr std::size_t kPasswordBytesMax = 64U << 10;
constexpr std::size_t kPemBytesMax = std::size_t{16} << 20;

/// The error of a file that cannot be read; empty: `text` is its content.
std::string read_text(const std::string& path, std::size_t bytes_max, std::string& text) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return "is a directory";
  errno = 0;
  std::ifstream file{path, std::ios::binary};
  if (!file.is_open()) {
    return "cannot be read: " + errno_text(errno == 0 ? EIO : errno);
  }
  text.clear();
  for (std::istreambuf_iterator<char> at{file}, end; at != end; ++at) {
    if (text.size() == bytes_max) return "is larger than " + std::to_string(bytes_max) + " bytes";
    text += *at;
  }
  return text.empty() ? "is empty" : "";
}

SetupStatus read_pem(const char* parameter, const std::string& path, std::string& text) {
  if (path.empty()) return {};
  const std::string trouble = read_text(path, kPemBytesMax, text);
  if (trouble.empty()) return {};
  return SetupError{ErrorCode::kInvalidArgument, std::string{"resp: "} + parameter + "=" + path +
                                                     ' ' + trouble + "; name a readable PEM file"};
}

/// Only files that can be read again.
std::string if_regular(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) ? path : std::string{};
}

}  // namespace

SetupResult<std::string> read_password_file(std::string_view type, std::string_view name,
                                            const std::string& path) {
  std::string password;
  std::string trouble = read_text(path, kPasswordBytesMax, password);
  while (!password.empty() && (password.back() == '\n' || password.back() == '\r')) {
    password.pop_back();
  }
  if (trouble.empty() && password.empty()) trouble = "holds an empty line";
  if (trouble.empty()) return password;
  return SetupError{ErrorCode::kInvalidArgument,
                    std::string{type} + ": " + std::string{name} + "=" + path + ' ' + trouble +
                        "; name a readable file that holds the password"};
}

bool SecretFiles::Paths::empty() const noexcept {
  return password.empty() && tls.ca_file.empty() && tls.certificate_file.empty() &&
         tls.key_file.empty();
}

SetupResult<SecretFiles::Texts> SecretFiles::read(const Paths& paths) {
  Texts texts;
  if (!paths.password.empty()) {
    LARDER_ASSIGN(texts.password, read_password_file("resp", "password_file", paths.password));
  }
  LARDER_TRY(read_pem("tls_ca", paths.tls.ca_file, texts.tls.ca));
  LARDER_TRY(read_pem("tls_certificate", paths.tls.certificate_file, texts.tls.certificate));
  LARDER_TRY(read_pem("tls_key", paths.tls.key_file, texts.tls.key));
  return texts;
}

SetupResult<std::unique_ptr<SecretFiles>> SecretFiles::open(const RespOptions& options,
                                                            std::shared_ptr<EventFd> answered) {
  Paths paths{.password = {}, .tls = options.tls.value_or(TlsOptions{})};
  LARDER_ASSIGN(Texts texts, read(paths));
  texts.password = options.password;
  Secrets secrets{.password = options.password, .tls = nullptr};
  if (options.tls) {
    LARDER_ASSIGN(secrets.tls, TlsContext::create(*options.tls, texts.tls));
  }
  paths.password = if_regular(options.password_file);
  paths.tls.ca_file = if_regular(paths.tls.ca_file);
  paths.tls.certificate_file = if_regular(paths.tls.certificate_file);
  paths.tls.key_file = if_regular(paths.tls.key_file);
  return std::unique_ptr<SecretFiles>{new SecretFiles{options, std::move(paths), std::move(texts),
                                                      std::move(secrets), std::move(answered)}};
}

SecretFiles::SecretFiles(const RespOptions& options, Paths paths, Texts texts, Secrets secrets,
                         std::shared_ptr<EventFd> answered)
    : tls_(options.tls),
      paths_(std::move(paths)),
      texts_(std::move(texts)),
      secrets_(std::make_shared<const Secrets>(std::move(secrets))),
      files_("larder-secrets", [paths = paths_] { return read(paths); }, std::move(answered)) {}

std::shared_ptr<const Secrets> SecretFiles::current() {
  if (paths_.empty()) return secrets_;
  const auto answer = files_.ask();
  if (!answer) {
    set_trouble("no thread could be started to read the password and TLS files again");
  } else if (*answer != nullptr) {
    take(**answer);
  } else if (RealClock::instance().now_ns() < patience_ends_ns()) {
    return nullptr;
  } else {
    set_trouble("reading the password and TLS files again takes long: is their file system well?");
  }
  return secrets_;
}

void SecretFiles::retry() {
  const bool has_trouble = [&] {
    const MutexLock lock{mutex_};
    return !trouble_.empty();
  }();
  if (has_trouble) current();
}

std::uint64_t SecretFiles::patience_ends_ns() const noexcept {
  const std::uint64_t asked_at_ns = files_.asked_at_ns();
  return asked_at_ns == kNever ? kNever : asked_at_ns + kPatienceNs;
}

void SecretFiles::take(const SetupResult<Texts>& answer) {
  if (!answer) return set_trouble(answer.error().text);
  Texts texts = *answer;
  // The content of a file that can be read once only is kept.
  if (paths_.password.empty()) texts.password = texts_.password;
  if (paths_.tls.ca_file.empty()) texts.tls.ca = texts_.tls.ca;
  if (paths_.tls.certificate_file.empty()) texts.tls.certificate = texts_.tls.certificate;
  if (paths_.tls.key_file.empty()) texts.tls.key = texts_.tls.key;
  Secrets secrets{.password = texts.password, .tls = secrets_->tls};
  if (tls_ && texts.tls != texts_.tls) {
    // A certificate without its key yet, for example.
    auto made = TlsContext::create(*tls_, texts.tls);
    if (!made) return set_trouble(made.error().text);
    secrets.tls = std::move(*made);
  }
  texts_ = std::move(texts);
  secrets_ = std::make_shared<const Secrets>(std::move(secrets));
  set_trouble("");
}

void SecretFiles::set_trouble(std::string trouble) {
  const MutexLock lock{mutex_};
  trouble_ = std::move(trouble);
}

void SecretFiles::append_report(Report& report) const {
  const MutexLock lock{mutex_};
  if (trouble_.empty()) return;
  report.health = std::max(report.health, Health::kDegraded);
  report.reasons.push_back(trouble_ + " (what was read before is used for new connections)");
}

}  // namespace larder::resp
