#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/base/mutex.h"
#include "larder/connector/connector.h"

namespace larder::conformance {

/// The rules of connector.h (C1 to C8, P1, P2, P10, P11) as cases that run on any connector. Needs
/// no test framework: whoever writes a connector describes it as a Subject, calls run_case() for
/// every one of conformance_cases() and prints what comes back.

/// kUnimplemented means that this machine lacks what the text names ("root, to mount a tmpfs"): the
/// case is then skipped and not failed.
using Open = std::function<SetupResult<std::unique_ptr<Connector>>()>;

/// The most batches of one class that a connector from Subject::open_limited admits.
inline constexpr std::size_t kLimitedBatches = 4;
/// The most value bytes of one class that it admits.
inline constexpr std::uint64_t kLimitedBytes = std::uint64_t{2} << 20;

/// A connector under test. Cases run one after the other; a case has at most one connector of the
/// subject open at a time.
struct Subject {
  std::string name;   ///< Letters, digits, underscores.
  Open open;          ///< Empty of keys at every call, with room for 64 MiB of values.
  Open reopen;        ///< What the last one held, after it was closed. None: nothing survives.
  Open open_small;    ///< Empty, as little capacity as it can have. None: it is never full.
  Open open_limited;  ///< Empty, with kLimitedBatches and kLimitedBytes. None: no limits.
  /// Changes a stored value behind the connector's back. None: it cannot be reached.
  std::function<bool(Connector&, std::string_view key)> damage;
  bool keeps_while_room = true;                ///< A stored key stays until the capacity is needed.
  std::uint64_t patience_ns = 60'000'000'000;  ///< How long a batch may take to come back.
  std::string missing;  ///< Not empty: what this machine lacks for it, e.g. "root".
};

/// What one run of a case found. Any thread.
class Context {
 public:
  Context(const Subject& subject, std::uint64_t seed) : subject_(subject), seed_(seed) {}

  const Subject& subject() const noexcept { return subject_; }
  /// Of every random choice of the case.
  std::uint64_t seed() const noexcept { return seed_; }

  /// Notes a failure when `condition` is false. Returns it.
  bool expect(bool condition, const std::string& message,
              std::source_location where = std::source_location::current());

  /// What this machine lacks for the subject: "needs root".
  void skip(std::string needs) LARDER_EXCLUDES(mutex_);

  std::vector<std::string> failures() const LARDER_EXCLUDES(mutex_);
  std::string skipped() const LARDER_EXCLUDES(mutex_);

 private:
  const Subject& subject_;
  const std::uint64_t seed_;
  mutable Mutex mutex_;
  std::vector<std::string> failures_ LARDER_GUARDED_BY(mutex_);
  std::string skipped_ LARDER_GUARDED_BY(mutex_);
};

struct Case {
  std::string_view name;  ///< lower_case, a sentence.
  std::string_view rule;  ///< "C1", "P10", ...
  void (*run)(Context& context);
  /// Whether the subject has what the case is about. None: every subject has.
  bool (*applies)(const Subject& subject) = nullptr;
};

std::span<const Case> conformance_cases();
/// A rule in one sentence; empty if there is no such rule.
std::string_view text_of_rule(std::string_view rule) noexcept;
bool applies(const Case& test_case, const Subject& subject);

struct CaseResult {
  std::vector<std::string> failures;
  std::string skipped;  ///< Not empty: "needs ...".
};

inline constexpr std::uint64_t kDefaultSeed = 20'260'101;

/// For cases that apply to the subject.
CaseResult run_case(const Case& test_case, const Subject& subject,
                    std::uint64_t seed = kDefaultSeed);

}  // namespace larder::conformance
