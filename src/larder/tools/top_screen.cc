#include "larder/tools/top_screen.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "larder/base/size_text.h"
#include "larder/tools/figure_text.h"

namespace larder::tools {
namespace {

using enum ScreenStyle;
using Cells = std::vector<ScreenTable::Cell>;

constexpr std::size_t kReasonNameMax = 16;
constexpr std::size_t kNameMax = 24;
constexpr std::size_t kStoreNameMax = 44;
constexpr std::size_t kUnlimited = 100'000;
constexpr std::size_t kHealthColumns = 10;
constexpr std::size_t kSaltsMax = 20;

/// A table with its title.
struct Section {
  ScreenLine title;
  std::vector<ScreenLine> lines;
  std::size_t least = 0;  ///< So many lines before another section gets more than its own minimum.
  bool needs_rows = false;  ///< The title alone is useless.
};

class TopDrawing {
 public:
  TopDrawing(const TopFigures& figures, const TopScreen& screen)
      : figures_(figures), screen_(screen), is_report_(screen.rows == 0) {}

  std::vector<ScreenLine> draw();

 private:
  std::string fitted(std::string_view text, std::size_t columns) const {
    return fit(text, columns, screen_.is_utf8);
  }
  ScreenTable table(std::size_t name_max, std::vector<ScreenTable::Column> columns) const {
    return {std::move(columns), name_max, screen_.columns, screen_.is_utf8};
  }

  ScreenLine header() const;
  void put_health(std::vector<ScreenLine>& lines) const;
  ScreenLine saved() const;
  ScreenLine footer() const;

  Section shares() const;
  Section rooms() const;
  Section what_if() const;
  Section connectors() const;
  Section work() const;
  Section salts() const;
  std::vector<ScreenLine> body(std::size_t room) const;
  std::vector<ScreenLine> help() const;

  const TopFigures& figures_;
  const TopScreen& screen_;
  const bool is_report_;
};

/// The text in lines of so many columns, broken between words where that can be.
std::vector<std::string> wrapped(std::string text, std::size_t columns) {
  std::vector<std::string> lines;
  while (text.size() > columns && columns > 0) {
    std::size_t end = text.rfind(' ', columns);
    if (end == std::string::npos || end == 0) break;  // One long word: it is cut later.
    lines.push_back(text.substr(0, end));
    text.erase(0, end + 1);
  }
  lines.push_back(std::move(text));
  return lines;
}

ScreenLine TopDrawing::header() const {
  std::string what = "stores of a process";
  if (figures_.is_server) {
    what = "server up " + while_text(figures_.uptime_s) + "  " + figures_.name;
  }
  std::string right = screen_.clock;
  if (screen_.is_paused) right = "PAUSED  " + right;
  const std::size_t room = screen_.columns - std::min(screen_.columns, columns_of(right) + 2);
  const std::string left = fit_left("larder top  " + screen_.target + "  " + what,
                                    is_report_ ? screen_.columns : room, screen_.is_utf8);
  return {{left, kTitle}, {"  ", kPlain}, {right, screen_.is_paused ? kWarning : kDim}};
}

void TopDrawing::put_health(std::vector<ScreenLine>& lines) const {
  struct Shown {
    const char* text;
    ScreenStyle style;
  };
  constexpr std::array kShown{Shown{"HEALTHY", kGood}, Shown{"DEGRADED", kWarning},
                              Shown{"DOWN", kBad}};
  Shown shown = kShown.at(static_cast<std::size_t>(figures_.health));
  std::vector<std::string> reasons = figures_.reasons;
  if (screen_.silent_s) {
    shown = {"SILENT", kBad};
    reasons = {"no answer since " + while_text(screen_.silent_s) + ": " + screen_.error};
  }
  const std::size_t room = screen_.columns - std::min(screen_.columns, kHealthColumns);
  std::vector<std::string> texts;
  for (const std::string& reason : reasons) {
    std::ranges::move(wrapped(fitted(reason, kUnlimited), room), std::back_inserter(texts));
  }
  if (texts.empty()) texts.emplace_back();
  const std::size_t most = is_report_ ? texts.size() : std::max<std::size_t>(1, screen_.rows / 5);
  if (texts.size() > most) {
    texts.resize(most);
    texts.back() =
        fit_left(texts.back(), room - std::min(room, std::size_t{5}), screen_.is_utf8) + " more";
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    lines.push_back({{fit_left(i == 0 ? shown.text : "", kHealthColumns, false), shown.style},
                     {fitted(texts[i], room), kPlain}});
  }
}

ScreenLine TopDrawing::saved() const {
  const SavedFigures& saved = figures_.saved;
  std::string text = fmt::format("{} {} {}", count_text(saved.total), saved.unit,
                                 figures_.is_server ? "found" : "loaded");
  if (saved.per_s) text += fmt::format(" ({}/s now)", count_text(saved.per_s));
  text += ", " + bytes_text(saved.bytes) + (figures_.is_server ? " loaded from L2" : "");
  return {{fit_left("saved", kHealthColumns, false), kDim},
          {fitted(text, screen_.columns - std::min(screen_.columns, kHealthColumns)), kPlain}};
}

Section TopDrawing::shares() const {
  const auto& titles = figures_.windows;
  const ScreenTable shown = table(kReasonNameMax, {{figures_.is_server ? "TOKENS" : "KEYS", 16},
                                                   {titles[0], 8},
                                                   {titles[1], 8},
                                                   {titles[2], 8, 1},
                                                   {titles[3], 8},
                                                   {"", 20, 0, true}});
  Section section{.title = shown.title(), .lines = {}, .least = 4};
  for (const ShareRow& row : figures_.shares) {
    const bool is_reason = !row.note.empty();
    if (is_reason && row.is_zero()) continue;
    const ScreenStyle style = row.title.starts_with(' ') ? kPlain : kTitle;
    Cells cells{{row.title}};
    for (const auto& share : row.shares) cells.push_back({percent_text(share), style});
    cells.push_back({row.note, kDim});
    section.lines.push_back(shown.row(cells));
  }
  return section;
}

Section TopDrawing::rooms() const {
  const ScreenTable shown = table(kStoreNameMax, {{"ROOM", 17},
                                                  {"used", 9},
                                                  {"of", 9},
                                                  {"full", 7},
                                                  {"filling", 11},
                                                  {"evicting", 10, 2},
                                                  {"full in", 10, 3},
                                                  {"", 12, 0, true}});
  Section section{.title = shown.title(), .lines = {}, .least = 2};
  for (const RoomRow& room : figures_.rooms) {
    section.lines.push_back(shown.row({{room.name},
                                       {bytes_text(room.used)},
                                       {room.capacity > 0 ? bytes_text(room.capacity) : "-"},
                                       {percent_text(share_of(room.used, room.capacity))},
                                       {change_text(room.filling_per_s)},
                                       {byte_rate_text(room.evicted_per_s)},
                                       {while_text(room.full_in_s())},
                                       {room.note, kDim}}));
  }
  return section;
}

Section TopDrawing::what_if() const {
  const ScreenTable shown = table(kStoreNameMax, {{"WHAT IF", 16},
                                                  {"half", 8},
                                                  {"same", 8},
                                                  {"measured", 8, 1},
                                                  {"double", 8},
                                                  {"no limit", 9}});
  Section section{.title = shown.title(), .lines = {}, .least = 1, .needs_rows = true};
  for (const WhatIfRow& row : figures_.what_if) {
    section.lines.push_back(shown.row({{row.name},
                                       {percent_text(row.half)},
                                       {percent_text(row.same)},
                                       {percent_text(row.measured)},
                                       {percent_text(row.doubled)},
                                       {percent_text(row.unlimited)}}));
  }
  return section;
}

std::string errors_text(double all, std::optional<double> now) {
  if (now.value_or(0) <= 0) return count_text(all);
  return count_text(all) + " +" + count_text(now);
}

Section TopDrawing::connectors() const {
  const ScreenTable shown = table(kStoreNameMax, {{"STORES", 12},
                                                  {"load", 9},
                                                  {"p50", 7, 2},
                                                  {"p99", 7},
                                                  {"store", 9},
                                                  {"p50", 7, 3},
                                                  {"p99", 7, 1},
                                                  {"errors", 11},
                                                  {"loads/s", 8, 4},
                                                  {"stores/s", 8, 5},
                                                  {"lookups/s", 9, 6},
                                                  {"queued", 7, 7},
                                                  {"oldest", 8, 8}});
  Section section{.title = shown.title(), .lines = {}, .least = 2};
  for (const ConnectorRow& row : figures_.connectors) {
    const bool is_well = row.health == TopHealth::kHealthy;
    const ScreenStyle style = is_well ? kPlain : row.health == TopHealth::kDown ? kBad : kWarning;
    section.lines.push_back(shown.row(
        {{(is_well ? "" : "! ") + row.name, style},
         {byte_rate_text(row.load.bytes_per_s)},
         {latency_text(row.load.p50)},
         {latency_text(row.load.p99)},
         {byte_rate_text(row.store.bytes_per_s)},
         {latency_text(row.store.p50)},
         {latency_text(row.store.p99)},
         {errors_text(row.errors, row.errors_now), row.errors_now.value_or(0) > 0 ? kBad : kPlain},
         {count_text(row.load.keys_per_s)},
         {count_text(row.store.keys_per_s)},
         {count_text(row.lookups_per_s)},
         {count_text(row.queued)},
         {row.oldest_s > 0 ? latency_text(Quantile{.value = row.oldest_s}) : "-"}}));
  }
  return section;
}

Section TopDrawing::work() const {
  const WorkFigures& work = *figures_.work;
  std::string text = fmt::format(
      "{}   lookups {}/s, {} running, {} waiting for room   {}   {} hashing   {} failed",
      count_text(work.workers), count_text(work.lookups_per_s), count_text(work.lookups_running),
      count_text(work.lookups_waiting),
      format_count(static_cast<std::uint64_t>(std::clamp(work.sessions, 0.0, 1e18)), "session"),
      count_text(work.hashing), errors_text(work.failures, work.failures_now));
  constexpr std::size_t kTitleColumns = 8;
  Section section{
      .title = {{"WORKERS ", kTitle},
                {fitted(text, screen_.columns - std::min(screen_.columns, kTitleColumns)), kPlain}},
      .lines = {}};
  const ScreenTable shown = table(
      kNameMax, {{"", 16}, {"copied by", 9, 1}, {"ranks", 6, 2}, {"silent", 8}, {"", 12, 0, true}});
  for (const WorkerRow& row : figures_.workers) {
    section.lines.push_back(shown.row({{"  " + row.id},
                                       {row.copies},
                                       {count_text(row.world_size)},
                                       {while_text(row.silent_s)},
                                       {row.model}}));
  }
  if (!section.lines.empty()) section.lines.insert(section.lines.begin(), shown.title());
  return section;
}

Section TopDrawing::salts() const {
  const ScreenTable shown = table(
      kNameMax, {{"SALTS", 16}, {"tokens", 8}, {"found", 8}, {"now", 9}, {"model", 12, 0, true}});
  Section section{.title = shown.title(), .lines = {}, .needs_rows = true};
  for (const SaltRow& row : figures_.salts) {
    if (section.lines.size() == kSaltsMax) break;
    const bool is_none = row.salt.empty();
    section.lines.push_back(
        shown.row({{is_none ? "(none)" : row.salt, is_none ? kDim : kPlain},
                   {count_text(row.tokens)},
                   {percent_text(row.found)},
                   {row.tokens_per_s ? count_text(row.tokens_per_s) + "/s" : "-"},
                   {row.model, kDim}}));
  }
  return section;
}

/// Gives each section, in the order of importance, its minimum, and then more.
std::vector<ScreenLine> TopDrawing::body(std::size_t room) const {
  std::vector<Section> sections{shares(), rooms(), connectors()};
  if (!figures_.what_if.empty()) sections.push_back(what_if());
  if (figures_.work) sections.push_back(work());
  if (!figures_.salts.empty()) sections.push_back(salts());
  std::vector<std::size_t> given(sections.size(), 0);  // Lines with the title.
  const auto give = [&](std::size_t i, std::size_t wanted) {
    const std::size_t more = std::min(wanted - std::min(wanted, given[i]), room);
    given[i] += more;
    room -= more;
  };
  for (std::size_t i = 0; i < sections.size(); ++i) {
    if (!sections[i].needs_rows) give(i, 1 + std::min(sections[i].least, sections[i].lines.size()));
  }
  for (std::size_t i = 0; i < sections.size(); ++i) {
    // The title of a later section alone is not worth a line.
    const bool has_head = sections[i].least == 0;
    if (!has_head || room > 1) give(i, 1 + sections[i].lines.size());
  }
  std::vector<ScreenLine> lines;
  for (std::size_t i = 0; i < sections.size(); ++i) {
    if (given[i] == 0) continue;
    if (room > 0 && !lines.empty()) {
      lines.emplace_back();
      --room;
    }
    Section& section = sections[i];
    const std::size_t hidden = section.lines.size() - (given[i] - 1);
    if (hidden > 0) {  // In place of the end of the title, which matters least.
      const std::string more = fmt::format(" +{}", hidden);
      const std::size_t columns = screen_.columns - std::min(screen_.columns, more.size());
      std::string title = plain_line(section.title);
      section.title = {{fit_left(title, columns, screen_.is_utf8), kTitle}, {more, kDim}};
    }
    lines.push_back(std::move(section.title));
    std::move(section.lines.begin(),
              section.lines.begin() + static_cast<std::ptrdiff_t>(given[i] - 1),
              std::back_inserter(lines));
  }
  return lines;
}

ScreenLine TopDrawing::footer() const {
  const std::string text =
      fmt::format("q quit   p {}   ? {}   every {:g} s", screen_.is_paused ? "go on" : "pause",
                  screen_.is_help ? "back" : "help", screen_.interval_s);
  return {{fitted(text, screen_.columns), kDim}};
}

std::vector<ScreenLine> TopDrawing::help() const {
  std::vector<std::string> texts{"now: the last interval; p50 and p99 are those of its batches.",
                                 "all: since the server started, or the stores were opened.",
                                 "filling, evicting: within the last minute."};
  texts.push_back(figures_.is_server
                      ? "not found: the first missing chunk gives the reason of all behind it."
                      : "not found: of lookups and loads together.");
  for (const ShareRow& row : figures_.shares) {
    if (!row.note.empty()) texts.push_back(row.title + ": " + row.note);
  }
  if (!figures_.what_if.empty()) {
    texts.emplace_back(
        "WHAT IF: hit rates with half, the same, double or unlimited capacity, estimated of recent "
        "asks if the least recently used go first; measured: what was found; -: not yet known.");
  }
  texts.emplace_back("q, Ctrl-C: quit   p: pause   ?: back   Ctrl-Z: suspend");
  std::vector<ScreenLine> lines;
  for (const std::string& text : texts) {
    for (const std::string& part : wrapped(text, screen_.columns)) {
      lines.push_back({{fitted(part, screen_.columns), kPlain}});
    }
  }
  return lines;
}

std::vector<ScreenLine> TopDrawing::draw() {
  std::vector<ScreenLine> lines{header()};
  put_health(lines);
  if (screen_.is_help) {
    lines.emplace_back();
    std::ranges::move(help(), std::back_inserter(lines));
  } else {
    const bool has_any = figures_.is_server || !figures_.rooms.empty();
    if (has_any) {
      lines.push_back(saved());
    } else {
      lines.push_back({{fitted("no store is open there", screen_.columns), kDim}});
    }
    const std::size_t taken = lines.size() + 2;  // A gap, and the footer.
    std::vector<ScreenLine> rest;
    if (has_any)
      rest = body(is_report_ ? kUnlimited : screen_.rows - std::min(screen_.rows, taken));
    if (is_report_ || rest.size() + taken <= screen_.rows) lines.emplace_back();
    std::ranges::move(rest, std::back_inserter(lines));
  }
  if (is_report_) return lines;
  lines.resize(screen_.rows > 0 ? screen_.rows - 1 : 0);
  lines.push_back(footer());
  return lines;
}

/// A window may be narrower than the parts that are never left out.
void clip(ScreenLine& line, const TopScreen& screen) {
  std::size_t left = screen.columns;
  for (ScreenSpan& span : line) {
    if (columns_of(span.text) > left) span.text = fit(span.text, left, screen.is_utf8);
    left -= columns_of(span.text);
  }
}

}  // namespace

std::vector<ScreenLine> draw_top(const TopFigures& figures, const TopScreen& screen) {
  std::vector<ScreenLine> lines = TopDrawing{figures, screen}.draw();
  for (ScreenLine& line : lines) clip(line, screen);
  return lines;
}

}  // namespace larder::tools
