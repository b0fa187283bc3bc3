#include "larder/connectors/plugin/load_plugins.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace larder::plugin {
namespace {

std::string path_of(const std::string& name) {
  return LARDER_TEST_PLUGINS "/" + name + ".so";
}

constexpr ConnectorType kMemory{.name = "memory",
                                .summary = "Keeps values in memory.",
                                .example = "memory:",
                                .location_parameter = "",
                                .parameters = {},
                                .open = nullptr};

std::string refusal_of(const std::string& path) {
  Registry registry;
  registry.add(kMemory);
  const SetupStatus loaded = load(path, registry);
  EXPECT_FALSE(loaded.has_value()) << path;
  EXPECT_EQ(registry.types().size(), 1U);
  return loaded ? "" : loaded.error().text;
}

TEST(LoadPlugins, AGoodOneAddsItsType) {
  Registry registry;
  load_all(path_of("none"), registry);
  ASSERT_FALSE(registry.refusal()) << registry.refusal()->text;
  const ConnectorType* const type = registry.find("test");
  ASSERT_NE(type, nullptr);
  EXPECT_TRUE(check_table(*type).has_value());
  EXPECT_EQ(type->summary, "A table in memory, for tests.");
  EXPECT_TRUE(registry.read(*Spec::parse(type->example)).has_value());
}

/// Each message has words that only its defect has.
TEST(LoadPlugins, EveryDefectIsNamedWithTheFile) {
  const std::pair<const char*, const char*> defects[] = {
      {"abi", "is built for version 2 of the plugin interface, and this larder has version 1"},
      {"size", "has a description of 136 bytes, wanted 144"},
      {"null_type", "larder_plugin() returned null"},
      {"no_get", "leaves 'get' of its description null"},
      {"half_connection", "has only one of connect and disconnect"},
      {"bad_table", "table row 'capacity': the help must be a sentence"},
      {"taken_name", "has the connector type 'memory', and there is one of this name already"},
      {"no_symbol", "has no function larder_plugin()"}};
  for (const auto& [name, wanted] : defects) {
    const std::string text = refusal_of(path_of(name));
    EXPECT_NE(text.find("LARDER_PLUGINS: the plugin '" + path_of(name) + "' "), std::string::npos)
        << text;
    EXPECT_NE(text.find(wanted), std::string::npos) << text;
  }
}

TEST(LoadPlugins, AFileThatIsNoneIsRefused) {
  EXPECT_NE(refusal_of("/nowhere/x.so").find("does not exist"), std::string::npos);
  EXPECT_NE(refusal_of("x.so").find("write ./x.so"), std::string::npos);
  const std::string path = testing::TempDir() + "/no_object.so";
  std::ofstream{path} << "text";
  EXPECT_NE(refusal_of(path).find("cannot be loaded: "), std::string::npos);
}

TEST(LoadPlugins, TheSameTypeTwiceIsRefused) {
  Registry registry;
  load_all(path_of("none") + ":" + path_of("none"), registry);
  ASSERT_TRUE(registry.refusal().has_value());
  EXPECT_NE(registry.refusal()->text.find("'test', and there is one"), std::string::npos);
}

/// A spec must not mean something else because a plugin is missing.
TEST(LoadPlugins, NothingOpensWhereOneIsMissing) {
  Registry registry;
  load_all(path_of("none") + ":/nowhere/x.so", registry);
  const auto opened = registry.open("test:t");
  ASSERT_FALSE(opened.has_value());
  EXPECT_NE(opened.error().text.find("'/nowhere/x.so' does not exist"), std::string::npos);
}

}  // namespace
}  // namespace larder::plugin
