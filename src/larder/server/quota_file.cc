#include "larder/server/quota_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>

#include "larder/base/key_text.h"
#include "larder/base/logging.h"
#include "larder/base/unique_fd.h"
#include "larder/server/json_watch.h"

namespace larder::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr ::mode_t kMode = 0600;
constexpr const char* kRemedy =
    "; correct it there, or move the file away and set the quotas again over HTTP";

SetupError wrong(const std::string& path, const std::string& trouble) {
  return {ErrorCode::kInvalidArgument, "--quota-file " + printable(path) + ": " + trouble};
}

std::string place_of(std::string_view salt) {
  return "quotas[\"" + printable(salt_name(salt)) + "\"]";
}

/// "line 3, column 7", from the library's message.
std::string place_of(const Json::parse_error& error) {
  const std::string_view said = error.what();
  const std::size_t from = said.find("line ");
  if (from == std::string_view::npos) return "byte " + std::to_string(error.byte);
  return std::string{said.substr(from, said.find(':', from) - from)};
}

/// A salt that is listed twice has two quotas, and it is not clear which one was meant.
SetupResult<Json> parse(const std::string& text, const std::string& path) {
  JsonWatch watch;
  try {
    Json json = Json::parse(text, std::ref(watch));
    if (watch.is_too_deep()) return wrong(path, std::string{"it is nested too deep"} + kRemedy);
    if (watch.twice().empty()) return json;
    return wrong(path, "\"" + printable(watch.twice()) + "\" stands there twice" + kRemedy);
  } catch (const Json::parse_error& error) {
    return wrong(path, "no valid JSON at " + place_of(error) + kRemedy);
  } catch (const Json::exception&) {
    return wrong(path, std::string{"a number is too large"} + kRemedy);
  }
}

SetupResult<QuotaSettings> settings_of(const Json& json, const std::string& path) {
  if (!json.is_object() || !json.contains("version") || !json.contains("quotas") ||
      !json["quotas"].is_object()) {
    return wrong(path, std::string{"it must be an object as in {\"version\": 1, \"quotas\": "
                                   "{\"tenant-a\": {\"limit_gb\": 1.5}}}"} +
                           kRemedy);
  }
  if (json["version"] != kVersion) {
    return wrong(path, "version is " + printable(json["version"].dump().substr(0, 64)) +
                           ", and this larder knows 1; use the larder that wrote the file, or " +
                           "move it away");
  }
  QuotaSettings settings;
  for (const auto& [name, value] : json["quotas"].items()) {
    const std::string salt{salt_of_name(name)};
    auto setting = quota_setting(value);
    if (!setting) return wrong(path, place_of(salt) + ": " + setting.error() + kRemedy);
    if (const auto unknown = unknown_quota_field(value)) {
      return wrong(path, place_of(salt) + ": " + *unknown + kRemedy);
    }
    if (const auto defect = salt_defect(salt)) {
      return wrong(path, place_of(salt) + ": " + *defect + kRemedy);
    }
    if (!settings.emplace(salt, *setting).second) {
      return wrong(path, "requests without a salt stand there as \"\" and as \"_default\"" +
                             std::string{kRemedy});
    }
  }
  return settings;
}

std::string text_of(const QuotaSettings& settings) {
  Json quotas = Json::object();
  for (const auto& [salt, setting] : settings) {
    quotas[std::string{salt_name(salt)}] = setting_json(setting);
  }
  return Json{{"version", kVersion}, {"quotas", std::move(quotas)}}.dump(2) + "\n";
}

/// Mode of the file that is replaced.
::mode_t mode_of(const std::string& path) noexcept {
  struct ::stat found{};
  return ::stat(path.c_str(), &found) == 0 ? found.st_mode & 0777 : kMode;
}

/// Zero, or the errno.
int write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ::ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

int write_synced(const std::string& path, std::string_view text, ::mode_t mode) noexcept {
  // Removes leftovers of a crash, and anything that is not a file.
  ::unlink(path.c_str());
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  const UniqueFd file{::open(path.c_str(), kFlags, mode)};
  if (!file) return errno;
  if (::fchmod(file.get(), mode) != 0) return errno;
  if (const int failed = write_all(file.get(), text); failed != 0) return failed;
  return ::fsync(file.get()) == 0 ? 0 : errno;
}

void sync_directory(const std::string& of_path) {
  std::string directory = std::filesystem::path{of_path}.parent_path().string();
  if (directory.empty()) directory = ".";
  const UniqueFd opened{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (opened && (::fsync(opened.get()) == 0 || errno == EINVAL)) return;
  log(LogLevel::kWarning, "server",
      "--quota-file " + printable(of_path) +
          ": its directory could not be synced, so a crash of the machine may bring back the "
          "quotas of before: " +
          errno_text(errno));
}

}  // namespace

QuotaFile::QuotaFile(const std::string& path) : path_(path) {
  const std::unique_ptr<char, decltype(&::free)> real{::realpath(path.c_str(), nullptr), ::free};
  if (real != nullptr) path_ = real.get();
}

SetupResult<QuotaSettings> QuotaFile::read() const {
  std::error_code error;
  const auto status = std::filesystem::status(path_, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    const auto directory = std::filesystem::path{path_}.parent_path();
    if (directory.empty() || std::filesystem::is_directory(directory, error)) return {};
    return wrong(path_, "there is no directory " + printable(directory.string()) +
                            "; make it, or name another file");
  }
  if (status.type() != std::filesystem::file_type::regular) {
    return wrong(path_, "it cannot be read as a file; name a regular file, or one that is to be");
  }
  errno = 0;
  std::ifstream file{path_, std::ios::binary};
  std::ostringstream text;
  if (file.is_open() && file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  if (!file.is_open() || file.bad() || text.bad()) {
    return wrong(path_, "it cannot be read: " + errno_text(errno == 0 ? EIO : errno) +
                            "; let this user read it");
  }
  LARDER_ASSIGN(const Json json, parse(text.str(), path_));
  return settings_of(json, path_);
}

Result<void, std::string> QuotaFile::write(const QuotaSettings& settings) const {
  const std::string temporary = path_ + ".tmp";
  const auto failed = [&](int why) {
    ::unlink(temporary.c_str());
    return "the quota file " + printable(path_) + " could not be written (" + errno_text(why) +
           "), so nothing was changed; make room or let this user write to its directory";
  };
  if (const int why = write_synced(temporary, text_of(settings), mode_of(path_)); why != 0) {
    return failed(why);
  }
  if (::rename(temporary.c_str(), path_.c_str()) != 0) return failed(errno);
  sync_directory(path_);
  return {};
}

}  // namespace larder::server
