#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "larder/connectors/log/format/geometry.h"
#include "larder/io/directory.h"

namespace larder::log_store {

/// "segment-000042": the name of a segment's file.
std::string segment_file_name(std::uint32_t segment);
/// The number in such a name; nothing for other names.
std::optional<std::uint32_t> segment_of_file_name(std::string_view name);
inline constexpr std::string_view kSuperblockFileName = "superblock";
/// The error when fewer whole segment files are in the directory than the owner that closed it left
/// there (0: it did not say); empty when none is missing.
std::string missing_files_text(std::span<const io::FileInfo> files, std::uint32_t files_at_close,
                               const Geometry& geometry);
/// A name that may exist in a store's directory, or in an empty one, without being data:
/// lost+found, or a file that a probe has left.
bool is_harmless_file_name(std::string_view name) noexcept;

}  // namespace larder::log_store
