#include "larder/io/directory.h"

#include <algorithm>
#include <cerrno>

namespace larder::io {

Result<FileInfo> Directory::look_for(std::string_view name) {
  LARDER_ASSIGN(const std::vector<FileInfo> files, list());
  const auto found = std::ranges::find(files, name, &FileInfo::name);
  if (found == files.end()) return Error::from_errno(ENOENT, "io", "looking for a file");
  return *found;
}

Status Directory::make(std::string_view name, std::uint64_t bytes) {
  LARDER_ASSIGN(const FileId file, open(name, OpenMode::kCreate));
  Status made = allocate(file, bytes);
  if (made) made = sync_directory();
  close(file);
  if (!made) remove(name).ignore("the first error counts");
  return made;
}

}  // namespace larder::io
