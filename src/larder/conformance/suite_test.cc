#include "larder/conformance/suite.h"

#include <gtest/gtest.h>

#include <string>

#include "larder/connector/registry.h"
#include "larder/connectors/memory/memory_connector.h"

namespace larder::conformance {
namespace {

const Registry& registry() {
  static const Registry only_memory = [] {
    Registry made;
    made.add(memory::connector_type());
    return made;
  }();
  return only_memory;
}

struct Ran {
  SetupResult<SuiteResult> result;
  std::string text;
};

Ran run(const SpecSubject& tested, const std::string& filter) {
  std::string text;
  const std::atomic<bool> stop = false;
  auto result =
      run_suite(tested, {.filter = filter}, [&](std::string_view part) { text += part; }, stop);
  return {std::move(result), std::move(text)};
}

TEST(ConformanceSuite, EveryRuleSaysWhatItAsks) {
  for (const Case& test_case : conformance_cases()) {
    EXPECT_NE(text_of_rule(test_case.rule), "") << test_case.rule;
    EXPECT_NE(list_suite().find(test_case.name), std::string::npos) << test_case.name;
  }
}

TEST(ConformanceSuite, AGoodConnectorKeepsARule) {
  const auto tested = subject_of_spec(registry(), "memory:?capacity=256MiB", "");
  ASSERT_TRUE(tested.has_value()) << tested.error().text;
  const Ran ran = run(*tested, "C2");
  ASSERT_TRUE(ran.result.has_value());
  EXPECT_EQ(ran.result->failed, 0U) << ran.text;
  EXPECT_EQ(ran.result->good, 3U) << ran.text;
  EXPECT_NE(ran.text.find("C2  Each key has an outcome"), std::string::npos) << ran.text;
}

TEST(ConformanceSuite, WhatASpecCannotTestIsSaid) {
  const auto tested = subject_of_spec(registry(), "memory:?capacity=256MiB", "");
  ASSERT_TRUE(tested.has_value());
  std::string text;
  for (const std::string& what : tested->untested) text += what + "\n";
  for (const char* const what : {"reopening:", "limits: a batch has ended",
                                 "a full connector: --small", "damaged values:"}) {
    EXPECT_NE(text.find(what), std::string::npos) << text;
  }
  const Ran ran = run(*tested, "survives_reopening");
  EXPECT_EQ(ran.result->skipped, 1U) << ran.text;
}

TEST(ConformanceSuite, AFilterThatFitsNothingIsAnError) {
  const auto tested = subject_of_spec(registry(), "memory:", "");
  ASSERT_TRUE(tested.has_value());
  const Ran ran = run(*tested, "C99");
  ASSERT_FALSE(ran.result.has_value());
  EXPECT_NE(ran.result.error().text.find("'C99'"), std::string::npos);
}

}  // namespace
}  // namespace larder::conformance
