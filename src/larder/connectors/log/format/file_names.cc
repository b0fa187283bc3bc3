#include "larder/connectors/log/format/file_names.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "larder/base/size_text.h"
#include "larder/io/direct_io.h"

namespace larder::log_store {
namespace {

constexpr std::string_view kSegmentPrefix = "segment-";
constexpr std::size_t kSegmentDigits = 7;

}  // namespace

std::string segment_file_name(std::uint32_t segment) {
  char name[32];
  std::snprintf(name, sizeof(name), "segment-%07u", segment);
  return name;
}

std::string missing_files_text(std::span<const io::FileInfo> files, std::uint32_t files_at_close,
                               const Geometry& geometry) {
  const auto is_whole = [&](const io::FileInfo& file) {
    return segment_of_file_name(file.name) && file.bytes >= geometry.segment_bytes;
  };
  const auto whole = static_cast<std::uint64_t>(std::ranges::count_if(files, is_whole));
  if (whole >= files_at_close) return {};
  return format_count(files_at_close - whole, "segment file") + " of " +
         std::to_string(files_at_close) +
         " went since the store was closed (removed, or cut short): what was in there is gone, and "
         "older values of its keys may be served";
}

std::optional<std::uint32_t> segment_of_file_name(std::string_view name) {
  if (!name.starts_with(kSegmentPrefix)) return std::nullopt;
  name.remove_prefix(kSegmentPrefix.size());
  if (name.size() != kSegmentDigits) return std::nullopt;
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
  return number;
}

bool is_harmless_file_name(std::string_view name) noexcept {
  return name == "lost+found" || name.starts_with(io::kScratchFilePrefix);
}

}  // namespace larder::log_store
