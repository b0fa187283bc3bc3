#include "larder/conformance/suite.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace larder::conformance {
namespace {

/// The rules in the order in which they are first seen, each with its cases.
std::vector<std::pair<std::string_view, std::vector<const Case*>>> by_rule() {
  std::vector<std::pair<std::string_view, std::vector<const Case*>>> rules;
  for (const Case& test_case : conformance_cases()) {
    const auto known =
        std::ranges::find(rules, test_case.rule, [](auto& rule) { return rule.first; });
    auto& cases =
        known == rules.end() ? rules.emplace_back(test_case.rule, 0).second : known->second;
    cases.push_back(&test_case);
  }
  std::ranges::stable_sort(rules, {}, [](const auto& rule) { return rule.first; });
  return rules;
}

std::string heading(std::string_view rule) {
  return std::string{rule} + "  " + std::string{text_of_rule(rule)} + "\n";
}

std::string words(std::string_view name) {
  std::string text{name};
  std::ranges::replace(text, '_', ' ');
  return text;
}

bool is_wanted(const Case& test_case, const std::string& filter) {
  return filter.empty() || test_case.rule == filter ||
         test_case.name.find(filter) != std::string_view::npos;
}

}  // namespace

SetupResult<SuiteResult> run_suite(const SpecSubject& tested, const SuiteOptions& options,
                                   const Writer& write, const std::atomic<bool>& stop) {
  SuiteResult result;
  for (const auto& [rule, cases] : by_rule()) {
    bool has_heading = false;
    for (const Case* const test_case : cases) {
      if (!is_wanted(*test_case, options.filter) || stop) continue;
      if (!std::exchange(has_heading, true)) write(heading(rule));
      const std::string line = words(test_case->name) + "\n";
      if (!applies(*test_case, tested.subject)) {
        ++result.skipped;
        write("  skipped  " + line);
        continue;
      }
      const CaseResult ended = run_case(*test_case, tested.subject, options.seed);
      if (!ended.failures.empty()) {
        ++result.failed;
        write("  FAILED   " + line);
        for (const std::string& failure : ended.failures) write("             " + failure + "\n");
      } else if (!ended.skipped.empty()) {
        ++result.skipped;
        write("  skipped  " + words(test_case->name) + " (" + ended.skipped + ")\n");
      } else {
        ++result.good;
        write("  good     " + line);
      }
    }
  }
  if (result.good + result.failed + result.skipped == 0 && !stop) {
    return SetupError{ErrorCode::kInvalidArgument,
                      "conformance: '" + options.filter +
                          "' is neither a rule nor part of a case's name; --list shows them all"};
  }
  return result;
}

std::string list_suite() {
  std::string text;
  for (const auto& [rule, cases] : by_rule()) {
    text += heading(rule);
    for (const Case* const test_case : cases) {
      text += "  " + std::string{test_case->name} + "\n";
    }
  }
  return text;
}

}  // namespace larder::conformance
