#include "tests/golden/golden_store.h"

#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <sstream>

#include "larder/base/key_text.h"

namespace larder::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPackedSuffix = ".zst";
constexpr int kCompressionLevel = 19;
constexpr std::uint64_t kFileBytesMax = std::uint64_t{64} << 20;

SetupError broken(const std::string& what) {
  return {ErrorCode::kIo, "golden store: " + what};
}

SetupResult<std::string> read_file(const fs::path& file) {
  std::ifstream in{file, std::ios::binary};
  if (!in) return broken("cannot read " + file.string());
  return std::string{std::istreambuf_iterator<char>{in}, {}};
}

SetupStatus write_file(const fs::path& file, const std::string& bytes) {
  std::ofstream out{file, std::ios::binary | std::ios::trunc};
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) return broken("cannot write " + file.string());
  return {};
}

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes += static_cast<char>(std::stoul(text.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

}  // namespace

std::vector<std::byte> golden_value(const std::string& key, const GoldenValue& value) {
  std::vector<std::byte> bytes(value.bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto of_key = static_cast<unsigned char>(key[(i + value.version) % key.size()]);
    bytes[i] = static_cast<std::byte>(of_key ^ (i / 4093 % 256));
  }
  return bytes;
}

std::string to_text(const GoldenManifest& manifest) {
  std::string text;
  for (const auto& [key, value] : manifest) {
    text += value ? "hit " + hex_text(std::as_bytes(std::span{key})) + " " +
                        std::to_string(value->version) + " " + std::to_string(value->bytes) + "\n"
                  : "miss " + hex_text(std::as_bytes(std::span{key})) + "\n";
  }
  return text;
}

SetupResult<GoldenManifest> read_manifest(const std::string& file) {
  LARDER_ASSIGN(const std::string text, read_file(file));
  GoldenManifest manifest;
  std::istringstream lines{text};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words{line};
    std::string kind;
    std::string key;
    GoldenValue value;
    words >> kind >> key;
    if (kind == "hit") words >> value.version >> value.bytes;
    if (!words || (kind != "hit" && kind != "miss"))
      return broken(std::string{file}.append(": ").append(line));
    manifest[from_hex(key)] = kind == "hit" ? std::optional{value} : std::nullopt;
  }
  return manifest;
}

SetupStatus pack_store(const std::string& store, const std::string& golden) {
  fs::create_directories(golden);
  for (const auto& entry : fs::directory_iterator{store}) {
    LARDER_ASSIGN(const std::string bytes, read_file(entry.path()));
    std::string packed(ZSTD_compressBound(bytes.size()), '\0');
    const std::size_t size =
        ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), kCompressionLevel);
    if (ZSTD_isError(size) != 0) return broken(ZSTD_getErrorName(size));
    packed.resize(size);
    const std::string name = entry.path().filename().string() + kPackedSuffix;
    LARDER_TRY(write_file(fs::path{golden} / name, packed));
  }
  return {};
}

SetupStatus unpack_store(const std::string& golden, const std::string& store) {
  fs::create_directories(store);
  for (const auto& entry : fs::directory_iterator{golden}) {
    if (entry.path().extension() != kPackedSuffix) continue;
    LARDER_ASSIGN(const std::string packed, read_file(entry.path()));
    const unsigned long long bytes = ZSTD_getFrameContentSize(packed.data(), packed.size());
    if (bytes > kFileBytesMax) return broken("no length in " + entry.path().string());
    std::string content(bytes, '\0');
    const std::size_t size =
        ZSTD_decompress(content.data(), content.size(), packed.data(), packed.size());
    if (ZSTD_isError(size) != 0) return broken(ZSTD_getErrorName(size));
    LARDER_TRY(write_file(fs::path{store} / entry.path().stem(), content));
  }
  return {};
}

}  // namespace larder::testing
