#include "larder/connectors/log/machine/segment_sealer.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {

void SegmentSealer::begin(std::uint32_t segment) noexcept {
  ++sealing_;
  advance(segment);
}

void SegmentSealer::settle_place(std::uint32_t number) noexcept {
  Segment& segment = state_.segments.at(number);
  LARDER_CHECK(segment.writes_in_flight > 0);
  --segment.writes_in_flight;
  if (segment.state() == SegmentState::kSealing) advance(number);
}

void SegmentSealer::advance(std::uint32_t number) noexcept {
  const Segment& segment = state_.segments.at(number);
  if (segment.writes_in_flight > 0 && !is_broken(Rule::kSealWaitsForWrites)) return;
  if (segment.sync_failed) {  // L13: no table; recovery looks at every grain.
    state_.segments.note_sealed(number);
    --sealing_;
    return;
  }
  seals_.push_back(std::make_unique<Seal>(state_, errors_, *this, number));
  Seal& seal = *seals_.back();
  if (is_broken(Rule::kSealSyncsFirst)) return on_segment_io(seal.io);
  seal.io.sync();
}

void SegmentSealer::on_segment_io(SegmentIo& io) noexcept {
  const auto at = std::ranges::find_if(seals_, [&](const auto& seal) { return &seal->io == &io; });
  LARDER_CHECK(at != seals_.end());
  Seal& seal = **at;
  bool has_table = true;
  switch (seal.step) {
    case Step::kSync:
      has_table = write_table(seal);
      if (has_table) return;
      break;
    case Step::kTableWrite:
      if (io.failed() || is_broken(Rule::kSealSyncsTable)) break;
      seal.step = Step::kTableSync;
      return io.sync();
    case Step::kTableSync:
      break;
  }
  end(seal, has_table && !io.failed());
}

/// After the sync. False when the segment gets no table.
bool SegmentSealer::write_table(Seal& seal) noexcept {
  Segment& segment = state_.segments.at(seal.io.segment());
  // L13. Also if a group's sync failed meanwhile: this one proves nothing then.
  if (seal.io.failed()) segment.sync_failed = !is_broken(Rule::kFailedSyncClosesSegment);
  if (segment.sync_failed) return false;
  const Geometry& geometry = state_.segments.geometry();
  auto table = segment.table->encode(TableKind::kSealed, state_.identity(seal.io.segment()),
                                     state_.superblock.open_count, segment.append_offset, geometry,
                                     state_.superblock.secret);
  if (!table) return false;
  seal.io.set_buffer(std::move(*table));
  seal.step = Step::kTableWrite;
  seal.io.write(geometry.segment_bytes - seal.io.buffer().size());
  return true;
}

void SegmentSealer::end(Seal& seal, bool has_table) noexcept {
  const std::uint32_t segment = seal.io.segment();
  state_.segments.note_sealed(segment);
  --sealing_;
  state_.counters.segments_sealed_total.add();
  // A segment whose table is not on disk keeps it in memory, for reclaim and scan.
  if (has_table) state_.segments.at(segment).table.reset();
  std::erase_if(seals_, [&](const auto& owned) { return owned.get() == &seal; });
}

}  // namespace larder::log_store
