#include "tests/conformance/subjects.h"

#include "larder/connectors/builtin.h"
#include "larder/connectors/memory/memory_connector.h"

namespace larder::conformance {
namespace {

/// A connector that needs nothing but its spec.
Open opener(std::string spec) {
  return [spec = std::move(spec)] { return builtin_registry().open(spec); };
}

std::string limits() {
  return "batches_max=" + std::to_string(kLimitedBatches) +
         "&in_flight=" + std::to_string(kLimitedBytes);
}

}  // namespace

std::vector<Subject> memory_subjects() {
  Subject subject;
  subject.name = "memory";
  subject.open = opener("memory:?capacity=256MiB");
  subject.open_small = opener("memory:?capacity=1MiB");
  // What it accepts has ended when submit() returns, so nothing is in flight that could be limited.
  subject.damage = [](Connector& connector, std::string_view key) {
    return dynamic_cast<memory::MemoryConnector&>(connector).damage_for_test(key);
  };
  return {subject};
}

std::vector<Subject> fault_subjects() {
  Subject quiet;
  quiet.name = "fault_without_faults";
  quiet.open = opener("fault:?inner=memory:%3Fcapacity%3D256MiB");
  quiet.open_small = opener("fault:?inner=memory:%3Fcapacity%3D1MiB");
  quiet.open_limited = opener("fault:?inner=memory:&" + limits());

  // Late answers are within the contract, so every rule must hold under them.
  Subject delayed;
  delayed.name = "fault_with_delays";
  const std::string delays = "&delay_rate=20%25&delay=1ms&seed=3";
  delayed.open = opener("fault:?inner=memory:%3Fcapacity%3D256MiB" + delays);
  delayed.open_small = opener("fault:?inner=memory:%3Fcapacity%3D1MiB" + delays);
  delayed.open_limited = opener("fault:?inner=memory:&" + limits() + delays);
  return {quiet, delayed};
}

std::vector<Subject> mock_subjects() {
  Subject subject;
  subject.name = "mock";
  subject.open = opener("mock:?max_size_gb=0.25&mock_bandwidth_gb=1000");
  subject.open_small = opener("mock:?max_size_gb=0.001&mock_bandwidth_gb=1000");
  subject.open_limited = opener("mock:?max_size_gb=0.25&mock_bandwidth_gb=1000&" + limits());
  return {subject};
}

std::vector<Subject> all_subjects() {
  std::vector<Subject> subjects;
  for (const auto& some : {memory_subjects(), fault_subjects(), mock_subjects(), log_subjects(),
                           fs_subjects(), resp_subjects(), tiered_subjects()}) {
    subjects.insert(subjects.end(), some.begin(), some.end());
  }
  return subjects;
}

}  // namespace larder::conformance
