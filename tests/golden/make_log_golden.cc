// Writes the golden stores of the log format that this build has. Run by hand, once for a major
// version of the format: see log_v2/README.md.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "larder/connector/blocking_client.h"
#include "larder/connectors/builtin.h"
#include "tests/golden/golden_store.h"

namespace larder::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kParameters = "?capacity=32MiB&segment=1MiB&max_value=128KiB&min_free=0";
constexpr std::uint64_t kOwnerNoteOffset = 131'072;
constexpr std::size_t kOwnerNoteBytes = 65'536;

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "make_log_golden: %s\n", why.c_str());
  std::exit(1);
}

/// What a store must hold, and how often each key was stored.
struct Content {
  GoldenManifest manifest;
  std::map<std::string, std::uint32_t> versions;
};

/// Writes to an open store and notes what it then holds; without a store it only notes.
class Writer {
 public:
  Writer(Connector* connector, Content& content) : content_(content) {
    if (connector != nullptr) client_.emplace(*connector);
  }

  void set(const std::string& key, std::uint64_t bytes) {
    const GoldenValue value{.version = ++content_.versions[key], .bytes = bytes};
    content_.manifest[key] = value;
    if (client_ && !client_->set(key, golden_value(key, value))) fail("a set failed");
  }
  /// In one batch, so that they share packs.
  void set_together(const std::vector<std::string>& keys, std::uint64_t bytes) {
    std::vector<std::vector<std::byte>> values;
    for (const std::string& key : keys) {
      const GoldenValue value{.version = ++content_.versions[key], .bytes = bytes};
      content_.manifest[key] = value;
      values.push_back(golden_value(key, value));
    }
    if (!client_) return;
    std::vector<Slice> slices(keys.size());
    std::vector<Item> items(keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) {
      slices[i] = {.data = values[i].data(), .bytes = values[i].size()};
      items[i].key = std::as_bytes(std::span{keys[i]});
      items[i].value = {&slices[i], 1};
    }
    Batch batch;
    batch.op = Op::kSet;
    batch.set_mode = SetMode::kReplace;
    batch.items = items;
    if (!client_->run(batch)) fail("a batch was refused");
    for (const Item& item : items) {
      if (item.outcome != Outcome::kDone) fail("a set failed");
    }
  }
  void remove(const std::string& key) {
    content_.manifest[key].reset();
    if (client_ && !client_->remove(key)) fail("a delete failed");
  }

 private:
  std::optional<BlockingClient> client_;
  Content& content_;
};

std::unique_ptr<Connector> open(const fs::path& store) {
  auto connector = builtin_registry().open("log:" + store.string() + kParameters);
  if (!connector) fail(connector.error().text);
  return std::move(*connector);
}

void run_session(const fs::path& store, Content& content, void (*work)(Writer&)) {
  const auto connector = open(store);
  Writer writer{connector.get(), content};
  work(writer);
  if (!connector->stop(kNever)) fail("the store cannot be stopped");
}

/// As run_session(), in a process of its own that is killed after `work`.
void run_killed_session(const fs::path& store, Content& content, void (*work)(Writer&)) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto connector = open(store);
    Writer writer{connector.get(), content};
    work(writer);
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFSIGNALED(status)) fail("the child lived on");
  Writer writer{nullptr, content};
  work(writer);
}

/// Everything the format has, in a little more than one segment.
void write_first(Writer& writer) {
  writer.set("replaced", 5'000);
  writer.set("deleted", 4'096);
  writer.set("deleted and stored again", 100);
  writer.set("empty", 0);
  writer.set("one byte", 1);
  writer.set("a grain", 4'096);
  writer.set("a grain and a byte", 4'097);
  writer.set("k", 10);
  writer.set(std::string(1024, 'K'), 10);
  std::string all_bytes;
  for (int i = 0; i < 256; ++i) all_bytes += static_cast<char>(i);
  writer.set(all_bytes, 300);
  writer.remove("deleted and stored again");
  for (int i = 0; i < 16; ++i) writer.set("large-" + std::to_string(i), 60'000);
  writer.set_together({"together-0", "together-1", "deleted", "together-2"}, 3'000);
  writer.set("replaced", 6'000);  // In the second segment, as what follows.
  writer.remove("deleted");
  writer.remove("never stored");
  writer.set("deleted and stored again", 200);
}

void write_second(Writer& writer) {
  writer.set("replaced", 7'000);
  writer.set("second session", 1'000);
}

void write_until_killed(Writer& writer) {
  for (int i = 0; i < 20; ++i) writer.set("late-" + std::to_string(i), 50'000);
  writer.set_together({"together-0", "late together-1", "late together-2"}, 9'000);
  writer.set("replaced", 0);  // In a segment without a table, as what follows.
  writer.remove("k");
  writer.set("k", 20);
  writer.remove("one byte");
}

void pack(const fs::path& store, const fs::path& golden, const GoldenManifest& manifest) {
  // The note names the machine it was made on.
  std::fstream superblock{store / "superblock", std::ios::binary | std::ios::in | std::ios::out};
  superblock.seekp(kOwnerNoteOffset);
  const std::string zeros(kOwnerNoteBytes, '\0');
  superblock.write(zeros.data(), static_cast<std::streamsize>(zeros.size()));
  superblock.close();
  if (const auto packed = pack_store(store, golden); !packed) fail(packed.error().text);
  std::ofstream{golden / "manifest.txt"} << to_text(manifest);
}

int run(const fs::path& golden) {
  const fs::path work = fs::temp_directory_path() / ("golden-" + std::to_string(::getpid()));
  fs::create_directories(work);
  for (const std::string name : {"clean", "killed"}) {
    const fs::path store = work / name;
    Content content;
    run_session(store, content, write_first);
    if (name == "clean") run_session(store, content, write_second);
    if (name == "killed") run_killed_session(store, content, write_until_killed);
    pack(store, golden / name, content.manifest);
  }
  fs::remove_all(work);
  return 0;
}

}  // namespace
}  // namespace larder::testing

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: make_log_golden DIRECTORY\n");
    return 2;
  }
  return larder::testing::run(arguments[1]);
}
