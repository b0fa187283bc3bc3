#include "tests/simulation/oracle.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/random.h"

namespace larder::simulation {
namespace {

constexpr std::size_t kPoolBytes = std::size_t{1} << 20;

std::span<const std::byte> random_pool() {
  static const std::vector<std::byte> pool = [] {
    std::vector<std::byte> bytes(kPoolBytes);
    Random{20260101}.fill(bytes);
    return bytes;
  }();
  return pool;
}

/// Calls visit(offset, bytes) for the two or three parts of a version's value.
template <class Visitor>
void for_each_part(std::size_t value_bytes, std::size_t key, std::uint64_t version,
                   Visitor&& visit) {
  std::uint64_t words[2] = {key * 0x9E3779B97F4A7C15U + version, version ^ (key << 32)};
  const auto head = std::as_bytes(std::span{words});
  const std::size_t head_bytes = std::min(value_bytes, head.size());
  visit(std::size_t{0}, head.first(head_bytes));
  Random random{words[0]};
  for (std::size_t at = head_bytes; at < value_bytes;) {
    const auto pool = random_pool();
    const std::size_t from = random.below(pool.size() / 2);
    const std::size_t bytes = std::min(value_bytes - at, pool.size() - from);
    visit(at, pool.subspan(from, bytes));
    at += bytes;
  }
}

}  // namespace

void fill_value(std::span<std::byte> out, std::size_t key, std::uint64_t version) {
  for_each_part(out.size(), key, version, [&](std::size_t at, std::span<const std::byte> part) {
    if (!part.empty()) std::memcpy(out.data() + at, part.data(), part.size());
  });
}

bool Oracle::holds(std::size_t key, const Write& write, std::span<const std::byte> value) const {
  if (write.is_delete || write.value_bytes != value.size()) return false;
  if (write.forged != nullptr) return std::ranges::equal(*write.forged, value);
  bool equal = true;
  for_each_part(
      value.size(), key, write.version, [&](std::size_t at, std::span<const std::byte> part) {
        equal = equal &&
                (part.empty() || std::memcmp(value.data() + at, part.data(), part.size()) == 0);
      });
  return equal;
}

// --- Writes -------------------------------------------------------------------------------------

Write& Oracle::begin_write(std::size_t key, bool is_delete, std::uint64_t value_bytes) {
  Key& state = keys_[key];
  Write write;
  write.version = state.next_version++;
  write.is_delete = is_delete;
  write.value_bytes = value_bytes;
  write.invoked = tick();
  state.writes.push_back(std::move(write));
  return state.writes.back();
}

Write& Oracle::at(std::size_t key, std::uint64_t version) {
  auto& writes = keys_[key].writes;
  const auto found = std::ranges::find(writes, version, &Write::version);
  LARDER_CHECK(found != writes.end());
  return *found;
}

const Write* Oracle::find(std::size_t key, std::uint64_t version) const {
  const auto& writes = keys_[key].writes;
  const auto found = std::ranges::find(writes, version, &Write::version);
  return found == writes.end() ? nullptr : &*found;
}

void Oracle::acknowledge(std::size_t key, std::uint64_t version, bool is_durable,
                         std::uint64_t generation) {
  Write& write = at(key, version);
  write.state = Write::State::kAcknowledged;
  write.returned = tick();
  write.is_durable = is_durable;
  write.generation = generation;
  if (write.is_delete) return;
  keys_[key].durable_home = is_durable ? keys_[key].home : 0;
  const bool is_alone = std::ranges::none_of(keys_[key].writes, [&write](const Write& other) {
    return &other != &write && other.returned >= write.invoked;
  });
  if (is_alone) write.home = keys_[key].home;
}

void Oracle::fail(std::size_t key, std::uint64_t version) {
  Write& write = at(key, version);
  write.state = Write::State::kFailed;
  write.returned = tick();
}

void Oracle::drop(std::size_t key, std::uint64_t version) {
  std::erase_if(keys_[key].writes,
                [version](const Write& write) { return write.version == version; });
}

// --- Rules --------------------------------------------------------------------------------------

/// By the times of the two, or because it was seen.
bool Oracle::comes_after(const Write& later, const Write& write) {
  return later.invoked > write.returned || write.seen_before == later.version;
}

/// Something that was begun after it ended had ended well before `from`.
bool Oracle::is_overwritten(std::size_t key, const Write& write, std::uint64_t from) const {
  if (write.superseded <= from) return true;
  return std::ranges::any_of(keys_[key].writes, [&](const Write& other) {
    return other.state == Write::State::kAcknowledged && comes_after(other, write) &&
           other.returned < from;
  });
}

/// A Set that ended before `from` and that no delete may have undone; null where there is none.
const Write* Oracle::surely_present(std::size_t key, std::uint64_t from,
                                    std::uint64_t but_for_version) const {
  const Key& state = keys_[key];
  if (state.risks > 0 || state.is_shared) return nullptr;
  for (auto write = state.writes.rbegin(); write != state.writes.rend(); ++write) {
    if (write->is_delete || write->state != Write::State::kAcknowledged) continue;
    if (write->returned >= from || write->invoked <= state.excused) continue;
    const bool may_be_deleted = std::ranges::any_of(state.writes, [&](const Write& other) {
      return other.is_delete && !other.removed_nothing && other.version != but_for_version &&
             !comes_after(*write, other);
    });
    if (!may_be_deleted) return &*write;
  }
  return nullptr;
}

std::string Oracle::check_hit(std::size_t key, std::span<const std::byte> value,
                              std::uint64_t from) {
  const std::uint64_t to = tick();
  Key& state = keys_[key];
  Write* legal = nullptr;
  std::size_t legal_count = 0;
  std::uint64_t matched = 0;
  for (Write& write : state.writes) {
    if (!holds(key, write, value)) continue;
    matched = write.version;
    if (is_overwritten(key, write, from)) continue;
    legal = &write;
    ++legal_count;
  }
  if (matched == 0) {
    return "a hit of " + std::to_string(value.size()) +
           " bytes that no Set of the key has written; " + describe(key);
  }
  if (legal == nullptr) {
    return "version " + std::to_string(matched) + " came back after something later; " +
           describe(key);
  }
  if (auto wrong = check_not_gone(key, from); !wrong.empty()) return wrong;
  if (legal_count == 1) {
    for (Write& write : state.writes) {
      if (&write == legal || write.returned >= from) continue;
      write.superseded = std::min(write.superseded, to);
      // Their places are fixed now, and the order of places is the order for good.
      if (write.state == Write::State::kAcknowledged &&
          legal->state == Write::State::kAcknowledged && legal->returned < from) {
        write.seen_before = legal->version;
      }
    }
  }
  return {};
}

std::string Oracle::check_delete(std::size_t key, std::uint64_t version, std::uint64_t from,
                                 bool was_there) {
  if (was_there) {
    const bool may_be = std::ranges::any_of(keys_[key].writes, [&](const Write& write) {
      return !write.is_delete && !is_overwritten(key, write, from);
    });
    return may_be ? std::string{}
                  : "a delete found the key although no Set can have left it; " + describe(key);
  }
  if (const Write* const write = surely_present(key, from, version)) {
    return "a delete did not find version " + std::to_string(write->version) +
           ", which must be there; " + describe(key);
  }
  at(key, version).removed_nothing = true;
  return {};
}

std::string Oracle::check_miss(std::size_t key, std::uint64_t from) {
  const Write* const write = surely_present(key, from);
  if (write == nullptr) {
    note_deleted(key, from);
    return {};
  }
  return "a miss although version " + std::to_string(write->version) + " must be there; " +
         describe(key);
}

/// A miss that only one delete can explain shows what this one came after.
void Oracle::note_deleted(std::size_t key, std::uint64_t from) {
  Key& state = keys_[key];
  if (state.risks > 0 || state.is_shared) return;
  for (Write& write : state.writes) {
    if (write.is_delete || write.state != Write::State::kAcknowledged || write.returned >= from ||
        write.invoked <= state.excused) {
      continue;
    }
    const Write* only = nullptr;
    std::size_t count = 0;
    for (const Write& other : state.writes) {
      if (!other.is_delete || other.removed_nothing || comes_after(write, other)) continue;
      only = &other;
      ++count;
    }
    const bool is_sure = count == 1 && only->state == Write::State::kAcknowledged;
    if (is_sure && only->returned < from && write.seen_before == 0) {
      write.seen_before = only->version;
    }
  }
}

std::string Oracle::check_presence(std::size_t key, std::optional<std::uint64_t> value_bytes,
                                   std::uint64_t from) const {
  const bool may_be = std::ranges::any_of(keys_[key].writes, [&](const Write& write) {
    return !write.is_delete && (!value_bytes || write.value_bytes == *value_bytes) &&
           !is_overwritten(key, write, from);
  });
  if (may_be) return check_not_gone(key, from);
  return "present" + (value_bytes ? " with " + std::to_string(*value_bytes) + " bytes" : "") +
         " although no Set can have left that; " + describe(key);
}

std::string Oracle::check_not_gone(std::size_t key, std::uint64_t from) const {
  const std::uint64_t gone_since = keys_[key].gone_since;
  if (from <= gone_since || was_written_since(key, gone_since)) return {};
  return "C6: present again although a Get has failed and nothing was stored since; " +
         describe(key);
}

bool Oracle::was_written_since(std::size_t key, std::uint64_t from) const {
  return std::ranges::any_of(keys_[key].writes, [&](const Write& write) {
    return !write.is_delete && write.returned >= from;
  });
}

// --- What happens to all keys -------------------------------------------------------------------

void Oracle::end_writes_in_flight() {
  const std::uint64_t now_step = tick();
  for (Key& key : keys_) {
    key.gone_since = UINT64_MAX;
    for (Write& write : key.writes) {
      write.superseded = UINT64_MAX;
      if (write.state != Write::State::kInFlight) continue;
      write.state = Write::State::kFailed;
      write.returned = now_step;
    }
  }
}

void Oracle::on_kill() {
  after_power_cut_ = false;
  end_writes_in_flight();
}

void Oracle::on_clean_close() {
  on_kill();
  for (Key& key : keys_) {
    for (Write& write : key.writes) {
      if (write.state == Write::State::kAcknowledged) write.is_durable = true;
    }
    key.durable_home = key.home;
  }
}

void Oracle::on_power_cut() {
  after_power_cut_ = true;
  end_writes_in_flight();
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    Key& key = keys_[i];
    for (Write& write : key.writes) {
      if (write.state == Write::State::kAcknowledged && !write.is_durable) {
        write.state = Write::State::kFailed;
      }
    }
    const Write* const write = surely_present(i, step_ + 1);
    if (write == nullptr) continue;
    const bool is_last = std::ranges::none_of(key.writes, [&](const Write& other) {
      return &other != write && other.returned > write->invoked;
    });
    // What was not durable may have taken the older state with it.
    if (!is_last || key.durable_home == 0) excuse(i);
  }
}

void Oracle::on_tampering() {
  const std::uint64_t now_step = tick();
  for (Key& key : keys_) {
    for (Write& write : key.writes) {
      write.state = Write::State::kFailed;
      write.returned = now_step;
      write.superseded = UINT64_MAX;
    }
    key.excused = now_step;
  }
}

void Oracle::on_open(std::uint64_t oldest_generation) {
  tick();
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    Key& key = keys_[i];
    const std::uint64_t place = after_power_cut_ ? key.durable_home : key.home;
    if (place < oldest_generation) excuse(i);
    key.home = 0;
    // A power cut may have taken the copy and left the source.
    if (std::exchange(key.was_moved, false)) forget_homes(i);
  }
}

std::string Oracle::describe(std::size_t key) const {
  const Key& state = keys_[key];
  std::string text = "key " + std::to_string(key) + ", home " + std::to_string(state.home >> 32) +
                     "." + std::to_string(state.home & 0xffffffff) + ", excused at " +
                     std::to_string(state.excused) + ", now " + std::to_string(step_) + ":";
  const std::size_t shown = std::min<std::size_t>(state.writes.size(), 12);
  for (const Write& write : std::span{state.writes}.last(shown)) {
    text +=
        "\n    version " + std::to_string(write.version) +
        (write.is_delete ? " delete" : " set of " + std::to_string(write.value_bytes) + " bytes") +
        ", steps " + std::to_string(write.invoked) + " to " +
        (write.returned == UINT64_MAX ? "?" : std::to_string(write.returned)) +
        (write.state == Write::State::kInFlight       ? ", in flight"
         : write.state == Write::State::kAcknowledged ? ", acknowledged"
                                                      : ", failed or unsure") +
        (write.is_durable ? ", durable" : "") +
        (write.superseded != UINT64_MAX ? ", superseded at " + std::to_string(write.superseded)
                                        : "");
  }
  return text;
}

}  // namespace larder::simulation
