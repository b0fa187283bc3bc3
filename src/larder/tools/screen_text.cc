#include "larder/tools/screen_text.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "larder/base/key_text.h"

namespace larder::tools {
namespace {

constexpr std::string_view kEllipsis = "…";

/// The bytes of the character at the start of valid UTF-8.
std::size_t bytes_of(std::string_view text) noexcept {
  const auto lead = static_cast<unsigned char>(text.front());
  const std::size_t bytes = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  return std::min(bytes, text.size());
}

std::uint32_t code_of(std::string_view character) noexcept {
  const auto lead = static_cast<unsigned char>(character.front());
  if (character.size() == 1) return lead;
  std::uint32_t code = lead & (0x7FU >> character.size());
  for (const char c : character.substr(1)) {
    code = (code << 6U) | (static_cast<unsigned char>(c) & 0x3FU);
  }
  return code;
}

struct Range {
  std::uint32_t first;
  std::uint32_t last;
};

/// Letters and signs that take one column everywhere.
constexpr std::array kNarrow{Range{0x20, 0x7E},     Range{0xA1, 0xAC},     Range{0xAE, 0x2FF},
                             Range{0x370, 0x377},   Range{0x37A, 0x482},   Range{0x48A, 0x52F},
                             Range{0x1E00, 0x1FFE}, Range{0x2010, 0x2027}, Range{0x2030, 0x205E},
                             Range{0x20A0, 0x20BF}, Range{0x2190, 0x21FF}, Range{0x2200, 0x22FF},
                             Range{0x2500, 0x25FF}};
/// And characters that take two.
constexpr std::array kWide{Range{0x3041, 0x3096}, Range{0x30A1, 0x30FF}, Range{0x3400, 0x4DBF},
                           Range{0x4E00, 0x9FFF}, Range{0xAC00, 0xD7A3}, Range{0xFF01, 0xFF60}};

bool is_in(std::uint32_t code, std::span<const Range> ranges) noexcept {
  return std::ranges::any_of(
      ranges, [&](const Range& range) { return code >= range.first && code <= range.last; });
}

/// 0: differs between terminals.
std::size_t width_of(std::uint32_t code) noexcept {
  if (is_in(code, kNarrow)) return 1;
  return is_in(code, kWide) ? 2 : 0;
}

const char* style_code(ScreenStyle style) noexcept {
  switch (style) {
    case ScreenStyle::kPlain:
      return "";
    case ScreenStyle::kTitle:
      return "\x1b[1m";
    case ScreenStyle::kDim:
      return "\x1b[2m";
    case ScreenStyle::kGood:
      return "\x1b[32m";
    case ScreenStyle::kWarning:
      return "\x1b[33m";
    case ScreenStyle::kBad:
      return "\x1b[1;31m";
  }
  return "";
}

}  // namespace

std::string fit(std::string_view text, std::size_t columns, bool is_utf8) {
  const std::string shown = printable(text);
  std::string fitting;
  std::size_t taken = 0;
  std::size_t end_bytes = 0;  // Length of `fitting`, with room for an ellipsis.
  for (std::string_view rest = shown; !rest.empty();) {
    std::string_view character = rest.substr(0, bytes_of(rest));
    rest.remove_prefix(character.size());
    std::size_t width = character.size() == 1 || is_utf8 ? width_of(code_of(character)) : 0;
    if (width == 0) {
      character = "?";
      width = 1;
    }
    if (taken + width > columns) {
      fitting.resize(end_bytes);
      if (columns > 0) fitting += is_utf8 ? kEllipsis : "~";
      return fitting;
    }
    fitting += character;
    taken += width;
    if (taken < columns) end_bytes = fitting.size();
  }
  return fitting;
}

std::string fit_middle(std::string_view text, std::size_t columns, bool is_utf8) {
  const std::string shown = fit(text, std::string::npos, is_utf8);
  if (columns_of(shown) <= columns) return shown;
  std::string fitting = fit(shown, columns / 2, is_utf8);
  std::string_view tail = shown;
  while (columns_of(tail) > columns - columns / 2) tail.remove_prefix(bytes_of(tail));
  return fitting.append(tail);
}

std::size_t columns_of(std::string_view text) {
  std::size_t columns = 0;
  while (!text.empty()) {
    const std::string_view character = text.substr(0, bytes_of(text));
    columns += std::max<std::size_t>(1, width_of(code_of(character)));
    text.remove_prefix(character.size());
  }
  return columns;
}

std::string fit_left(std::string_view text, std::size_t columns, bool is_utf8) {
  std::string shown = fit(text, columns, is_utf8);
  shown.append(columns - std::min(columns, columns_of(shown)), ' ');
  return shown;
}

std::string fit_right(std::string_view text, std::size_t columns, bool is_utf8) {
  const std::string shown = fit(text, columns, is_utf8);
  return std::string(columns - std::min(columns, columns_of(shown)), ' ') + shown;
}

std::string plain_line(const ScreenLine& line) {
  std::string text;
  for (const ScreenSpan& span : line) text += span.text;
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::string styled_line(const ScreenLine& line) {
  std::string text;
  for (const ScreenSpan& span : line) {
    const std::string_view code = style_code(span.style);
    text.append(code).append(span.text);
    if (!code.empty()) text += "\x1b[0m";
  }
  return text;
}

ScreenTable::ScreenTable(std::vector<Column> columns, std::size_t name_max,
                         std::size_t screen_columns, bool is_utf8)
    : columns_(std::move(columns)), is_utf8_(is_utf8) {
  for (const Column& column : columns_) widths_.push_back(column.width);
  const bool has_words = columns_.back().is_left && columns_.size() > 1;
  const std::size_t fixed = columns_.size() - (has_words ? 1 : 0);
  const auto taken = [&] {
    std::size_t sum = widths_[0];
    for (std::size_t i = 1; i < fixed; ++i) sum += widths_[i] == 0 ? 0 : widths_[i] + 1;
    return sum;
  };
  while (taken() > screen_columns) {
    std::size_t worst = 0;
    for (std::size_t i = 1; i < fixed; ++i) {
      const bool is_there = widths_[i] > 0 && columns_[i].dropped_at > 0;
      if (is_there && columns_[i].dropped_at >= columns_[worst].dropped_at) worst = i;
    }
    if (worst == 0) break;  // Only columns that are never dropped are left.
    widths_[worst] = 0;
  }
  std::size_t left = screen_columns - std::min(screen_columns, taken());
  const std::size_t words = has_words ? columns_.back().width + 2 : 0;
  if (left > words) {
    const std::size_t more = std::min(left - words, name_max - std::min(name_max, widths_[0]));
    widths_[0] += more;
    left -= more;
  }
  if (has_words) widths_.back() = left >= words ? left - 2 : 0;
}

std::string ScreenTable::cell(std::size_t column, std::string_view text) const {
  const std::size_t width = widths_[column];
  if (width == 0) return "";
  if (column == 0) return fit_left(fit_middle(text, width, is_utf8_), width, is_utf8_);
  if (!columns_[column].is_left) return " " + fit_right(text, width, is_utf8_);
  // The words at the end.
  if (column + 1 == columns_.size()) return "  " + fit(text, width, is_utf8_);
  return " " + fit_left(text, width, is_utf8_);
}

ScreenLine ScreenTable::title() const {
  ScreenLine line;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    line.push_back({cell(i, columns_[i].title), i == 0 ? ScreenStyle::kTitle : ScreenStyle::kDim});
  }
  return line;
}

ScreenLine ScreenTable::row(const std::vector<Cell>& cells) const {
  ScreenLine line;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    line.push_back({cell(i, cells[i].text), cells[i].style});
  }
  return line;
}

}  // namespace larder::tools
