#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace larder::tools {

// Text for a screen with columns of fixed width. All are pure; any thread.

/// How a piece of a line looks, where colours are allowed.
enum class ScreenStyle : std::uint8_t { kPlain = 0, kTitle, kDim, kGood, kWarning, kBad };

struct ScreenSpan {
  std::string text;
  ScreenStyle style = ScreenStyle::kPlain;
};
using ScreenLine = std::vector<ScreenSpan>;

/// At most so many columns of an untrusted text, safe for a terminal: a longer text ends in an
/// ellipsis, control characters become \xNN, and a character whose width differs between terminals
/// becomes a question mark. Without UTF-8 only ASCII is left.
std::string fit(std::string_view text, std::size_t columns, bool is_utf8);

/// The same, but a longer text keeps its end, too, which distinguishes paths.
std::string fit_middle(std::string_view text, std::size_t columns, bool is_utf8);

/// The number of columns of a text from fit(), or of our own.
std::size_t columns_of(std::string_view text);

/// fit(), and then filled up with spaces, at its right or at its left.
std::string fit_left(std::string_view text, std::size_t columns, bool is_utf8);
std::string fit_right(std::string_view text, std::size_t columns, bool is_utf8);

/// A line without its styles, and without spaces at its end.
std::string plain_line(const ScreenLine& line);
/// With them, as terminals need them.
std::string styled_line(const ScreenLine& line);

/// A table: columns of fixed width, so that nothing moves when a number grows.
class ScreenTable {
 public:
  struct Column {
    std::string title;
    std::size_t width = 0;  ///< Without the space before it. Least width of the first one.
    /// If not all columns fit, those with the highest number are dropped. 0: never.
    int dropped_at = 0;
    bool is_left = false;  ///< For words.
  };
  struct Cell {
    std::string text = {};
    ScreenStyle style = ScreenStyle::kPlain;
  };

  /// The first column is for names and gets wider, up to `name_max`, if there is room; the last one
  /// is for words, takes the rest, and is dropped if that is less than its width.
  ScreenTable(std::vector<Column> columns, std::size_t name_max, std::size_t screen_columns,
              bool is_utf8);

  ScreenLine title() const;
  /// As many cells as columns.
  ScreenLine row(const std::vector<Cell>& cells) const;

 private:
  std::string cell(std::size_t column, std::string_view text) const;

  std::vector<Column> columns_;
  std::vector<std::size_t> widths_;  ///< 0: absent.
  bool is_utf8_;
};

}  // namespace larder::tools
