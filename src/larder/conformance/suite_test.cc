#include "larder/conformance/suite.h"

#include <gtest/gtest.h>

#include <string>

#include "larder/connector/blocking_client.h"
#include "larder/connectors/builtin.h"
#include "tests/support/temporary_directory.h"

namespace larder::conformance {
namespace {

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
  const auto tested = subject_of_spec(builtin_registry(), "memory:?capacity=256MiB", "");
  ASSERT_TRUE(tested.has_value()) << tested.error().text;
  const Ran ran = run(*tested, "C2");
  ASSERT_TRUE(ran.result.has_value());
  EXPECT_EQ(ran.result->failed, 0U) << ran.text;
  EXPECT_EQ(ran.result->good, 3U) << ran.text;
  EXPECT_NE(ran.text.find("C2  Each key has an outcome"), std::string::npos) << ran.text;
}

TEST(ConformanceSuite, WhatASpecCannotTestIsSaid) {
  const auto tested = subject_of_spec(builtin_registry(), "memory:?capacity=256MiB", "");
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
  const auto tested = subject_of_spec(builtin_registry(), "memory:", "");
  ASSERT_TRUE(tested.has_value());
  const Ran ran = run(*tested, "C99");
  ASSERT_FALSE(ran.result.has_value());
  EXPECT_NE(ran.result.error().text.find("'C99'"), std::string::npos);
}

/// Tiers do not list their keys.
std::string tiers(const testing::TemporaryDirectory& directory, const std::string& name) {
  return "tiered:?l1=64MiB&l2=fs:" + directory.path() + "/" + name;
}

TEST(ConformanceSuite, AStoreThatKeepsKeysAndDoesNotListThemNeedsNumbers) {
  const testing::TemporaryDirectory directory;
  const auto tested = subject_of_spec(builtin_registry(), tiers(directory, "t"), "");
  ASSERT_FALSE(tested.has_value());
  EXPECT_NE(tested.error().text.find("write {} into the spec"), std::string::npos)
      << tested.error().text;
  // With them a second run also finds an empty store.
  for (int i = 0; i < 2; ++i) {
    const auto numbered = subject_of_spec(builtin_registry(), tiers(directory, "t-{}"), "");
    ASSERT_TRUE(numbered.has_value()) << numbered.error().text;
    const Ran ran = run(*numbered, "C2");
    ASSERT_TRUE(ran.result.has_value());
    EXPECT_EQ(ran.result->failed, 0U) << ran.text;
    EXPECT_EQ(ran.result->good, 3U) << ran.text;
  }
}

TEST(ConformanceSuite, AStoreThatHoldsKeysIsRefusedAndStaysAsItIs) {
  const testing::TemporaryDirectory directory;
  const std::string spec = "fs:" + directory.path() + "/kv";
  const std::string value = "value";
  {
    const auto opened = builtin_registry().open(spec);
    ASSERT_TRUE(opened.has_value()) << opened.error().text;
    ASSERT_TRUE(BlockingClient{**opened}.set("key", std::as_bytes(std::span{value})).has_value());
    ASSERT_TRUE((*opened)->stop(kNever).has_value());
  }
  const auto tested = subject_of_spec(builtin_registry(), spec, "");
  ASSERT_FALSE(tested.has_value());
  EXPECT_NE(tested.error().text.find("the store holds 1 keys"), std::string::npos)
      << tested.error().text;
  const auto opened = builtin_registry().open(spec);
  ASSERT_TRUE(opened.has_value()) << opened.error().text;
  const auto loaded = BlockingClient{**opened}.get("key");
  ASSERT_TRUE(loaded.has_value() && loaded->has_value());
  EXPECT_EQ((*loaded)->size(), value.size());
  ASSERT_TRUE((*opened)->stop(kNever).has_value());
}

}  // namespace
}  // namespace larder::conformance
