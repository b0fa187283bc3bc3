#include "tests/conformance/conformance.h"

#include <exception>

#include "tests/conformance/cases.h"

namespace larder::conformance {
namespace {

/// A broken connector fails every check of a loop; more than these tell nothing new.
constexpr std::size_t kFailuresKept = 20;

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
