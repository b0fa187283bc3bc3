#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "larder/tools/screen_text.h"
#include "larder/tools/top_figures.h"

namespace larder::tools {

/// How `larder top` is to look.
struct TopScreen {
  std::size_t rows = 0;  ///< 0: as many as it takes, as in a report.
  std::size_t columns = 80;
  bool is_utf8 = false;
  std::string target;  ///< As the user named it.
  std::string clock = {};
  double interval_s = 2;
  bool is_paused = false;
  bool is_help = false;
  std::optional<double> silent_s = {};  ///< How long the target has not answered,
  std::string error = {};               ///< and the error instead.
};

/// The lines of the screen, exactly `rows` of them if that is not 0, none wider than `columns`.
/// Parts without room are left out, the least important first. Pure.
std::vector<ScreenLine> draw_top(const TopFigures& figures, const TopScreen& screen);

/// The figures as one line of JSON, with its line end. Everything is there, in base units.
std::string top_json(const TopFigures& figures, const std::string& target);
/// The same of a sample that could not be had.
std::string top_error_json(const std::string& target, const std::string& error);

}  // namespace larder::tools
