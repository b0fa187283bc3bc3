#include "tests/engine_simulation/world.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "larder/base/check.h"
#include "larder/base/hash.h"

namespace larder::cache::simulation {
namespace {

std::uint64_t mix(const CellId& cell, std::uint64_t version) noexcept {
  return hash64(std::as_bytes(std::span{&cell, 1}), version);
}

}  // namespace

void Oracle::commit(const CellId& cell, std::uint64_t version) {
  committed_.insert(mix(cell, version));
}

bool Oracle::is_committed(const CellId& cell, std::uint64_t version) const {
  return version > forgotten_[cell.space] && committed_.contains(mix(cell, version));
}

World::World(std::uint64_t of_seed, bool with_trace)
    : seed(of_seed), traces(with_trace), plan(make_plan(of_seed)), random(of_seed) {
  layout = plan.layout;
}

void World::fail(std::string what) {
  trace("FAILED: %s", what.c_str());
  if (failure.empty()) failure = std::move(what);
}

void World::trace(const char* format, ...) const {
  if (!traces) return;
  std::printf("%10.3f  ", static_cast<double>(now_ns) / static_cast<double>(kSecond));
  std::va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
}

void World::log(std::initializer_list<std::uint64_t> words) noexcept {
  digest = hash64(std::as_bytes(std::span{words.begin(), words.size()}), digest);
}

std::uint64_t World::bytes_of_value(std::uint32_t prompt, std::uint32_t chunk) const noexcept {
  if (!plan.has_open_sizes) return plan.value_bytes_max;
  // Small ones between which large ones do not fit.
  if (chunk % 4 == 3) return plan.value_bytes_max;
  return 16 + (prompt * 7 + chunk * 13) % 15 * 8;
}

std::uint32_t World::first_needed(std::uint32_t group, std::uint32_t chunks) const noexcept {
  const std::uint32_t window = layout.groups[group].window_chunks;
  return window == 0 || window >= chunks ? 0 : chunks - window;
}

std::uint64_t World::check_bytes(const SlotRef& slot, const CellId& cell, const char* what) {
  const std::uint64_t version = version_in(bytes_of(slot), cell);
  if (version == 0 || !oracle.is_committed(cell, version)) {
    fail(std::string{what} + ": chunk " + std::to_string(cell.chunk) + " of prompt " +
         std::to_string(cell.prompt) + ", space " + std::to_string(cell.space) + ", rank " +
         std::to_string(cell.rank) + ", group " + std::to_string(cell.group) +
         (version == 0 ? " has bytes of another cell" : " has bytes that were never committed"));
  }
  coverage.note(Seen::kBytesChecked);
  return version;
}

void World::see(const CellId& cell, std::uint64_t version, std::uint64_t since, const char* what) {
  std::string failed = purges.see(cell, version, since, what);
  if (!failed.empty()) fail(std::move(failed));
}

void World::use(std::uint64_t owner, const SlotRef& slot, Memory::Use how, const char* what) {
  if (!memory.add(owner, slot, how)) fail(std::string{what} + ": the slot is still in use");
}

}  // namespace larder::cache::simulation
