#include "larder/connectors/builtin.h"

#include <gtest/gtest.h>

#include <string>

namespace larder {
namespace {

TEST(BuiltinRegistryTest, EveryTableIsWellFormed) {
  ASSERT_FALSE(builtin_registry().types().empty());
  for (const ConnectorType* type : builtin_registry().types()) {
    const auto checked = check_table(*type);
    EXPECT_TRUE(checked.has_value()) << (checked ? "" : checked.error().text);
  }
}

TEST(BuiltinRegistryTest, NoTwoTypesShareAName) {
  for (const ConnectorType* type : builtin_registry().types()) {
    EXPECT_EQ(builtin_registry().find(type->name), type);
  }
}

TEST(BuiltinRegistryTest, ExamplesOfTypesThatNeedNothingOpen) {
  for (const char* name : {"memory", "fault"}) {
    const ConnectorType* const type = builtin_registry().find(name);
    ASSERT_NE(type, nullptr) << name;
    const auto opened = builtin_registry().open(type->example);
    ASSERT_TRUE(opened.has_value()) << opened.error().text;
    EXPECT_EQ((*opened)->report().type, name);
  }
}

TEST(BuiltinRegistryTest, UnknownTypeNamesTheNearest) {
  const auto opened = builtin_registry().open("memroy:");
  ASSERT_FALSE(opened.has_value());
  EXPECT_NE(opened.error().text.find("'memory'"), std::string::npos) << opened.error().text;
}

}  // namespace
}  // namespace larder
