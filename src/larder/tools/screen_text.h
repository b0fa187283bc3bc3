#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace larder::tools {

// Text for a screen whose columns have to fit. All are pure; any thread.

/// How a piece of a line looks, where colours are allowed.
enum class ScreenStyle : std::uint8_t { kPlain = 0, kTitle, kDim, kGood, kWarning, kBad };

struct ScreenSpan {
  std::string text;
  ScreenStyle style = ScreenStyle::kPlain;
};
using ScreenLine = std::vector<ScreenSpan>;

/// At most so many columns of a text from anywhere, fit for a terminal: what does not fit ends in
/// an ellipsis, control characters stand as \xNN, and a character whose width is not the same on
/// all terminals is a question mark. Without UTF-8 only ASCII is left.
std::string fit(std::string_view text, std::size_t columns, bool is_utf8);

/// The same, but of a longer text its end is there, too, which in paths is what tells them apart.
std::string fit_middle(std::string_view text, std::size_t columns, bool is_utf8);

/// How many columns a text takes that fit() has made, or that is ours.
std::size_t columns_of(std::string_view text);

/// fit(), and then filled up with spaces, at its right or at its left.
std::string fit_left(std::string_view text, std::size_t columns, bool is_utf8);
std::string fit_right(std::string_view text, std::size_t columns, bool is_utf8);

/// A line without its styles, and without spaces at its end.
std::string plain_line(const ScreenLine& line);
/// With them, as a terminal wants to have them.
std::string styled_line(const ScreenLine& line);

/// What stands below each other: columns of fixed width, so that nothing moves when a number grows.
class ScreenTable {
 public:
  struct Column {
    std::string title;
    std::size_t width = 0;  ///< Without the space before it. Of the first one: at least.
    /// Where not all columns have room, those with the highest number go. 0: never.
    int dropped_at = 0;
    bool is_left = false;  ///< For words.
  };
  struct Cell {
    std::string text = {};
    ScreenStyle style = ScreenStyle::kPlain;
  };

  /// The first column is for names and gets wider, up to `name_max`, when there is room; the last
  /// one is for words, takes what is left, and is not there where that is less than its width.
  ScreenTable(std::vector<Column> columns, std::size_t name_max, std::size_t screen_columns,
              bool is_utf8);

  ScreenLine title() const;
  /// As many cells as columns.
  ScreenLine row(const std::vector<Cell>& cells) const;

 private:
  std::string cell(std::size_t column, std::string_view text) const;

  std::vector<Column> columns_;
  std::vector<std::size_t> widths_;  ///< 0: not there.
  bool is_utf8_;
};

}  // namespace larder::tools
