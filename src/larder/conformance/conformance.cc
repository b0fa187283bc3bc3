#include "larder/conformance/conformance.h"

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "larder/conformance/cases.h"

namespace larder::conformance {
namespace {

/// A broken connector fails every check of a loop; more than these tell nothing new.
constexpr std::size_t kFailuresKept = 20;

/// The rules of connector.h, a sentence each.
constexpr std::array<std::pair<std::string_view, std::string_view>, 15> kRules{{
    {"C1", "Every accepted batch comes back once, also after stop(); a refused one is untouched."},
    {"C2", "Each key has an outcome and an error of its own."},
    {"C4", "Operations on one key happen one after the other; readers see only whole values."},
    {"C5", "Lookups, loads and stores each have limits, and no batch is too large for them."},
    {"C6", "A key whose load failed is a miss until it is stored again."},
    {"C7", "The event fd is readable while a batch can be reaped."},
    {"C8", "Deadlines, cancellation and stop() end everything that has not begun, at once."},
    {"Hints", "A hint is carried out or refused, and never dropped silently."},
    {"Loads", "The estimate of a load's time comes only from loads that ended."},
    {"P1", "A hit is exactly the bytes of one store of exactly that key."},
    {"P10", "Any bytes are a valid key, and different keys never collide."},
    {"P11", "A damaged value is never a hit."},
    {"P2", "Every key of every batch has one legal outcome."},
    {"P3", "The report agrees with what callers saw."},
    {"P6", "Stored values are there after the store is opened again."},
}};

std::string_view file_name_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const auto table :
       {outcome_cases(), value_cases(), key_cases(), batch_cases(), ending_cases(), race_cases(),
        model_cases(), view_cases(), hint_cases()}) {
    cases.insert(cases.end(), table.begin(), table.end());
  }
  return cases;
}

}  // namespace

bool Context::expect(bool condition, const std::string& message, std::source_location where) {
  if (condition) return true;
  const MutexLock lock{mutex_};
  if (failures_.size() < kFailuresKept) {
    failures_.push_back(std::string{file_name_of(where.file_name())} + ":" +
                        std::to_string(where.line()) + ": " + message);
  }
  return false;
}

void Context::skip(std::string needs) {
  const MutexLock lock{mutex_};
  skipped_ = std::move(needs);
}

std::string Context::skipped() const {
  const MutexLock lock{mutex_};
  return skipped_;
}

std::vector<std::string> Context::failures() const {
  const MutexLock lock{mutex_};
  return failures_;
}

std::span<const Case> conformance_cases() {
  static const std::vector<Case> cases = all_cases();
  return cases;
}

std::string_view text_of_rule(std::string_view rule) noexcept {
  const auto* const found =
      std::ranges::find(kRules, rule, &std::pair<std::string_view, std::string_view>::first);
  return found == kRules.end() ? std::string_view{} : found->second;
}

bool applies(const Case& test_case, const Subject& subject) {
  return test_case.applies == nullptr || test_case.applies(subject);
}

CaseResult run_case(const Case& test_case, const Subject& subject, std::uint64_t seed) {
  if (!subject.missing.empty()) return {{}, "needs " + subject.missing};
  Context context{subject, seed};
  try {
    test_case.run(context);
  } catch (const std::exception& exception) {
    context.expect(false, std::string{"an exception left the connector (C3): "} + exception.what());
  }
  CaseResult result{context.failures(), context.skipped()};
  if (!result.failures.empty()) {
    result.failures.push_back("rule " + std::string{test_case.rule} + ", seed " +
                              std::to_string(seed));
  }
  return result;
}

}  // namespace larder::conformance
