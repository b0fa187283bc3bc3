#include "tests/engine_simulation/purging.h"

#include <algorithm>
#include <utility>

namespace larder::cache::simulation {
namespace {

/// The place of a cell in a scripted tier's scan. Its keys stay in one order, whatever goes.
std::uint64_t place_of(const CellId& cell) noexcept {
  std::uint64_t place = cell.space;
  for (const std::uint32_t part : {cell.prompt, cell.chunk, cell.rank, cell.group}) {
    place = place << 12 | part;
  }
  return place + 1;
}

CellId cell_of_text(const std::string& key) noexcept {
  return cell_of_key(std::as_bytes(std::span{key}));
}

}  // namespace

// ---- Beginning.

Ticket Purging::begin(const PurgeScope& scope, std::uint64_t deadline_ns) {
  const std::uint64_t ticket = ++tickets_;
  world_.last_purge = world_.steps;
  world_.purges.begin({.ticket = ticket,
                       .scope = scope,
                       .bound = world_.oracle.next_version(),
                       .deadline_ns = deadline_ns,
                       .seen = {}});
  return Ticket{ticket};
}

void Purging::keep_locked(const PurgeScope& scope) {
  const std::uint64_t serial = clients_.last_serial();
  for (std::uint32_t space = 0; space < kSalts; ++space) {
    for (std::uint32_t prompt = 0; prompt < world_.plan.prompts; ++prompt) {
      for (std::uint32_t chunk = 0; chunk < kChunksMax; ++chunk) {
        const CellId column{space, prompt, chunk, 0, 0};
        if (!scope.covers(column) || !clients_.may_lock(column, serial)) continue;
        world_.purges.keep(column, serial);
      }
    }
  }
}

// ---- Pages.

void Purging::on_page_wanted(const PageWanted& wanted) {
  const auto& running = world_.purges.running();
  const auto purge = std::ranges::find(running, static_cast<std::uint64_t>(wanted.purge),
                                       &PurgeOracle::Running::ticket);
  if (purge == running.end()) {
    return world_.fail("E36: a page is wanted for a purge that does not run");
  }
  world_.log({50, static_cast<std::uint64_t>(wanted.purge), wanted.tier});
  Question question{.wanted = wanted, .scope = purge->scope, .keys = {}};
  question.due = world_.steps + (world_.one_in(8) ? 150 : world_.below(25));
  questions_.push_back(std::move(question));
}

/// False: the log lists the page still.
bool Purging::scan_log(Question& question, PurgePage& page) {
  LogTier& log = *tiers_[question.wanted.tier].log();
  if (!std::exchange(question.is_scanning, true)) {
    log.start_scan(question.wanted.number, question.wanted.from, 1 + world_.below(40));
  }
  const auto scanned = log.take_scan(question.wanted.number);
  if (!scanned) return false;
  if (!*scanned) {
    page.error = scanned->error();
    return true;
  }
  for (const ScanPage::Entry& entry : (*scanned)->entries) {
    if (question.scope.covers(cell_of_text(entry.key))) question.keys.push_back(entry.key);
  }
  page.next = (*scanned)->next;
  page.is_last = (*scanned)->done;
  return true;
}

void Purging::scan_scripted(Question& question, PurgePage& page) const {
  const std::size_t keys_max = 1 + static_cast<std::size_t>(world_.below(30));
  std::vector<std::pair<std::uint64_t, std::string>> keys;
  for (const std::string& key : tiers_[question.wanted.tier].keys()) {
    const CellId cell = cell_of_text(key);
    const bool is_ahead = place_of(cell) > question.wanted.from.words[0];
    if (is_ahead && question.scope.covers(cell)) keys.emplace_back(place_of(cell), key);
  }
  std::ranges::sort(keys);
  page.is_last = keys.size() <= keys_max;
  if (!page.is_last) {
    keys.resize(keys_max);
    world_.coverage.note(Seen::kPurgeOfPages);
  }
  for (auto& [place, key] : keys) {
    page.next.words[0] = place;
    question.keys.push_back(std::move(key));
  }
}

/// False: not yet.
bool Purging::answer(Question& question) {
  PurgePage page;
  if (world_.one_in(40)) {
    const bool is_down = world_.one_in(2);
    page.error = Error{is_down ? ErrorCode::kUnavailable : ErrorCode::kUnimplemented, "simulation",
                       "the tier cannot be scanned"};
    world_.coverage.note(Seen::kPurgeNotScanned);
  } else if (tiers_[question.wanted.tier].log() != nullptr) {
    if (!scan_log(question, page)) return false;
  } else {
    scan_scripted(question, page);
  }
  page.keys = question.keys;
  const bool is_late = std::ranges::none_of(world_.purges.running(), [&](const auto& purge) {
    return purge.ticket == static_cast<std::uint64_t>(question.wanted.purge);
  });
  if (is_late) world_.coverage.note(Seen::kPageTooLate);
  world_.engine->give_page(question.wanted, page);
  return true;
}

void Purging::go_on() {
  for (std::size_t i = 0; i < questions_.size(); ++i) {
    if (questions_[i].due > world_.steps) continue;
    Question question = std::move(questions_[i]);
    questions_.erase(questions_.begin() + static_cast<std::ptrdiff_t>(i));
    if (!answer(question)) questions_.push_back(std::move(question));
    return;  // The answer may have led to more questions.
  }
}

void Purging::answer_all() {
  for (Question& question : questions_) question.due = 0;
  for (std::size_t left = questions_.size(); left > 0; --left) go_on();
}

// ---- Ending.

void Purging::on_purged(Ticket ticket, const PurgeResult& result) {
  const auto number = static_cast<std::uint64_t>(ticket);
  world_.log({51, number, result.keys_failed, result.tiers_skipped});
  world_.trace("purge %llu ends: %llu failed, skipped %u", static_cast<unsigned long long>(number),
               static_cast<unsigned long long>(result.keys_failed), result.tiers_skipped);
  const bool is_complete = result.keys_failed == 0 && result.tiers_skipped == 0;
  const bool has_error = result.error.code() != ErrorCode::kNone;
  world_.expect(is_complete != has_error, "E36: a purge's error is not what its counts say");
  const auto purge = world_.purges.end(number, is_complete);
  if (!purge) return world_.fail("E36: a purge ends twice");
  world_.last_purge = world_.steps;
  world_.coverage.note(is_complete ? Seen::kPurged : Seen::kPurgeIncomplete);
  if (result.error.code() == ErrorCode::kDeadlineExceeded) {
    world_.coverage.note(Seen::kPurgeLate);
  }
  if (!is_complete) return;
  if (!purge->seen.empty()) world_.fail(purge->seen);
  for (const TierUnderTest& tier : tiers_) {
    for (const std::string& key : tier.keys()) {
      const CellId cell = cell_of_text(key);
      if (!purge->scope.covers(cell)) continue;
      world_.expect(tier.version_of(cell) > purge->bound,
                    "E36: a purge is complete, and a tier has what was to go");
    }
  }
}

void Purging::check(const EngineStats& stats) {
  world_.expect(stats.purges == world_.purges.running().size(),
                "E36: there are more or fewer purges than were begun");
  std::erase_if(world_.purges.kept(),
                [&](const auto& kept) { return !clients_.may_lock(kept.first, kept.second); });
  const bool has_deletes =
      std::ranges::any_of(tiers_, [](const TierUnderTest& tier) { return tier.has_deletes(); });
  for (const PurgeOracle::Running& purge : world_.purges.running()) {
    world_.expect(world_.now_ns < purge.deadline_ns || has_deletes,
                  "E36: a purge goes on after its deadline");
  }
}

}  // namespace larder::cache::simulation
