#include "larder/connectors/log/machine/space_watch.h"

#include "larder/connectors/log/format/file_names.h"

namespace larder::log_store {
namespace {

constexpr std::uint64_t kLookEveryNs = 1'000'000'000;
/// Free segments that are kept when the file system runs low.
constexpr std::uint32_t kFreeKept = 2;

}  // namespace

void SpaceWatch::begin(const Result<io::Space>& space, std::uint64_t superblock_inode) noexcept {
  superblock_inode_ = superblock_inode;
  if (space) apply(*space, true);
}

void SpaceWatch::turn(std::uint64_t now_ns, bool is_stopping) noexcept {
  const bool is_due = now_ns >= next_look_ns_;
  thaw(is_due && !is_stopping);
  if (!is_due) return;
  next_look_ns_ = now_ns + kLookEveryNs;
  if (look_call_.is_busy()) return;
  look_call_.kind = FileCall::Kind::kLook;
  look_call_.name = kSuperblockFileName;
  look_call_.sink = this;
  state_.file_calls->submit(look_call_);
}

void SpaceWatch::thaw(bool may_try) noexcept {
  if (!state_.is_frozen) return;
  if (const auto written = superblock_writer_.take()) {
    if (!*written) return;  // Again later.
    state_.is_frozen = false;
    appender_.begin_generations(state_.superblock.open_count);
    return state_.health.set_condition("superblock", {});
  }
  if (may_try && !superblock_writer_.is_busy()) superblock_writer_.start(superblock_file_);
}

void SpaceWatch::on_file_call(FileCall& call) noexcept {
  const bool is_another = call.inode != 0 && call.inode != superblock_inode_;
  const bool is_lost = call.is_missing || is_another;
  state_.health.set_condition(
      "removed", is_lost ? "the store's files were removed, or others put in their place: what it "
                           "has is served on and lost when it is closed; stop it and open it anew"
                         : "");
  if (call.status) apply(call.space, !is_lost);
}

void SpaceWatch::apply(const io::Space& space, bool may_add_files) noexcept {
  const std::uint64_t segment_bytes = state_.segments.geometry().segment_bytes;
  const std::uint64_t min_free = state_.options.min_free_bytes;
  const bool may_grow = space.free_bytes >= min_free + segment_bytes;
  if (state_.is_frozen) return;
  appender_.set_growth(may_grow && may_add_files);
  if (may_grow || state_.segments.absent_count() == 0) {
    state_.health.set_condition("growth", {});
  } else {
    state_.health.set_condition(
        "growth",
        "the file system is too full to grow the store to its capacity: free "
        "some space, or lower capacity or min_free");
  }
  if (space.free_bytes < min_free && state_.segments.free_count() > kFreeKept) {
    return appender_.give_back();
  }
  if (may_add_files) appender_.retry_files();
}

}  // namespace larder::log_store
