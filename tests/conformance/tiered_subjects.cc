#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "larder/conformance/spec_subject.h"
#include "larder/connectors/builtin.h"
#include "tests/conformance/places.h"
#include "tests/conformance/subjects.h"
#include "tests/support/redis_server.h"
#include "tests/support/temporary_directory.h"

namespace larder::conformance {
namespace {

/// Nested specs stand percent-encoded in a URL.
std::string encoded(const std::string& spec) {
  std::string text;
  for (const char c : spec) {
    const bool must = c == '?' || c == '&' || c == '=' || c == '%';
    constexpr const char* kDigits = "0123456789ABCDEF";
    if (must) {
      text += '%';
      text += kDigits[static_cast<unsigned char>(c) >> 4U];
      text += kDigits[static_cast<unsigned char>(c) & 15U];
    } else {
      text += c;
    }
  }
  return text;
}

std::string limits() {
  return "&batches_max=" + std::to_string(kLimitedBatches) +
         "&in_flight=" + std::to_string(kLimitedBytes);
}

Open opener(std::string spec) {
  return [spec = std::move(spec)] { return builtin_registry().open(spec); };
}

Subject over_memory(std::string name, const std::string& parameters) {
  const std::string roomy = "&l2=" + encoded("memory:?capacity=256MiB");
  Subject subject;
  subject.name = std::move(name);
  subject.open = opener("tiered:?l1=64MiB&" + parameters + roomy);
  subject.open_small =
      opener("tiered:?l1=1MiB&" + parameters + "&l2=" + encoded("memory:?capacity=1MiB"));
  subject.open_limited = opener("tiered:?l1=64MiB&" + parameters + roomy + limits());
  return subject;
}

using SpecOf = std::function<std::string(const std::string& path)>;

/// Over a connector that keeps its values in a directory.
Subject over_directory(std::string name, const PlaceMaker& place, const std::string& parameters,
                       const SpecOf& inner, const SpecOf& inner_small, bool survives) {
  const auto open_with = [place](std::string outer, SpecOf spec_of, bool is_fresh) -> Open {
    return [place, outer = std::move(outer), spec_of = std::move(spec_of),
            is_fresh]() -> SetupResult<std::unique_ptr<Connector>> {
      LARDER_ASSIGN(const std::shared_ptr<Place> at, place());
      const auto path_of = [&](int store) { return at->path + "/tier-" + std::to_string(store); };
      if (is_fresh) {
        std::filesystem::remove_all(path_of(at->stores));
        ++at->stores;
      }
      auto connector = builtin_registry().open("tiered:?" + outer +
                                               "&l2=" + encoded(spec_of(path_of(at->stores))));
      if (connector) wait_until_counted(**connector);
      return connector;
    };
  };
  Subject subject;
  subject.name = std::move(name);
  subject.open = open_with("l1=32MiB&" + parameters, inner, true);
  if (survives) subject.reopen = open_with("l1=32MiB&" + parameters, inner, false);
  subject.open_small = open_with("l1=1MiB&" + parameters, inner_small, true);
  subject.open_limited = open_with("l1=32MiB&" + parameters + limits(), inner, true);
  return subject;
}

std::string log_spec(const std::string& path) {
  return "log:" + path + "?min_free=0&capacity=512MiB&segment=16MiB&max_value=4MiB";
}
std::string small_log_spec(const std::string& path) {
  return "log:" + path + "?min_free=0&capacity=32MiB&max_value=512KiB&segment=1MiB";
}
std::string fs_spec(const std::string& path) {
  return "fs:" + path + "?min_free=0";
}
std::string small_fs_spec(const std::string& path) {
  return "fs:" + path + "?capacity=1MiB&min_free=0&exclusive=yes";
}

SetupResult<std::shared_ptr<testing::RedisServer>> start_redis() {
  LARDER_ASSIGN(std::unique_ptr<testing::RedisServer> server, testing::RedisServer::create({}));
  return std::shared_ptr<testing::RedisServer>{std::move(server)};
}

/// A disk before Redis.
Subject over_redis(const PlaceMaker& place) {
  using Made = std::optional<SetupResult<std::shared_ptr<testing::RedisServer>>>;
  const auto made = std::make_shared<Made>();
  const auto open_with = [place, made](std::string outer) -> Open {
    return [place, made, outer = std::move(outer)]() -> SetupResult<std::unique_ptr<Connector>> {
      LARDER_ASSIGN(const std::shared_ptr<Place> at, place());
      if (!*made) *made = start_redis();
      LARDER_ASSIGN(const std::shared_ptr<testing::RedisServer> server, **made);
      if (server->command({"FLUSHALL"}) != "OK") {
        return SetupError{ErrorCode::kInternal, "the server does not answer FLUSHALL"};
      }
      const std::string path = at->path + "/before-redis";
      std::filesystem::remove_all(path);
      return builtin_registry().open(
          "tiered:?" + outer + "&l2=" + encoded(log_spec(path)) + "&l2=" +
          encoded("redis://127.0.0.1:" + std::to_string(server->port()) + "?connections=2"));
    };
  };
  Subject subject;
  subject.name = "tiered_log_redis";
  subject.open = open_with("l1=16MiB");
  subject.open_limited = open_with("l1=16MiB" + limits());
  return subject;
}

}  // namespace

std::vector<Subject> tiered_subjects() {
  const PlaceMaker temporary = once(temporary_place);
  return {
      over_memory("tiered_memory", "write=through"),
      over_memory("tiered_memory_back", "write=back"),
      over_memory("tiered_memory_buffer", "write=back&skip_l1=yes&policy=noop"),
      over_memory("tiered_two_memories",
                  "promote=second_hit&l2=" + encoded("memory:?capacity=256MiB")),
      over_directory("tiered_log", temporary, "policy=arc", log_spec, small_log_spec, true),
      over_directory("tiered_log_back", temporary, "write=back", log_spec, small_log_spec, false),
      over_directory("tiered_fs", temporary, "policy=s3-fifo", fs_spec, small_fs_spec, true),
      over_redis(temporary)};
}

}  // namespace larder::conformance
