#include "larder/connector/registry.h"

#include <gtest/gtest.h>

#include <array>
#include <stdexcept>
#include <system_error>

#include "larder/connector/describe.h"

namespace larder {
namespace {

constexpr std::array kRows = {
    Parameter{.name = "path", .help = "Directory of the store.", .is_required = true},
    Parameter{.name = "capacity",
              .kind = ParameterKind::kBytes,
              .default_text = "1GiB",
              .minimum = "1MiB",
              .maximum = "1TiB",
              .help = "How much it may use."},
    Parameter{.name = "sync",
              .kind = ParameterKind::kChoice,
              .default_text = "none",
              .choices = "none|batch",
              .help = "When it is flushed."},
    Parameter{.name = "password", .help = "Who may.", .is_secret = true},
};

using Opened = SetupResult<std::unique_ptr<Connector>>;

/// Opening returns its arguments: these tests need no connector.
Opened refuse(const ConnectorType& /*type*/, const Parameters& parameters,
              const Registry& /*registry*/) {
  return SetupError{ErrorCode::kUnavailable, "opened " + parameters.text("path")};
}

constexpr ConnectorType kLog{.name = "log",
                             .summary = "Keeps values in a log.",
                             .example = "log:/data/kv?capacity=200GiB",
                             .location_parameter = "path",
                             .parameters = kRows,
                             .open = refuse};
constexpr ConnectorType kMemory{
    .name = "memory",
    .summary = "Keeps values in memory.",
    .example = "memory:",
    .location_parameter = "",
    .parameters = {},
    .open = [](const ConnectorType&, const Parameters&, const Registry&) -> Opened {
      throw std::runtime_error("broken");
    }};
constexpr ConnectorType kFault{
    .name = "fault",
    .summary = "Breaks.",
    .example = "fault:",
    .location_parameter = "",
    .parameters = {},
    .open = [](const ConnectorType&, const Parameters&, const Registry&) -> Opened {
      throw std::system_error(ENOSPC, std::generic_category(), "full");
    }};

Registry make_registry() {
  Registry registry;
  registry.add(kLog);
  registry.add(kMemory);
  registry.add(kFault);
  return registry;
}

TEST(RegistryTest, OpenPassesTheParametersWithTheLocationUnderItsName) {
  const auto opened = make_registry().open("log:/data/kv");

  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().text, "opened /data/kv");
}

TEST(RegistryTest, APythonSpecSaysWhereItCanBeOpened) {
  const auto opened = Registry{}.open("python:mystore:Store?path=/data/kv.db");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kUnimplemented);
  EXPECT_NE(opened.error().text.find("larder.open("), std::string::npos) << opened.error().text;
}

TEST(RegistryTest, AnUnknownTypeNamesTheNearestAndListsAll) {
  const auto opened = make_registry().open("lgo:/data/kv");

  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(opened.error().text,
            "unknown connector type 'lgo': did you mean 'log'? Known types: fault, log, memory");
  EXPECT_EQ(make_registry().open("zebra:").error().text,
            "unknown connector type 'zebra'. Known types: fault, log, memory");
  EXPECT_EQ(Registry{}.open("log:").error().text,
            "unknown connector type 'log'. Known types: none");
}

TEST(RegistryTest, ErrorsOfSpecLocationAndParametersComeThrough) {
  EXPECT_EQ(make_registry().open("log").error().text,
            "spec: expected a connector type and ':' at the beginning, for example "
            "log:/data/kv?capacity=200GiB or memory:");
  EXPECT_NE(make_registry().open("memory:/x").error().text.find("takes no location"),
            std::string::npos);
  EXPECT_EQ(make_registry().open("memory:?a=1").error().text,
            "memory: unknown parameter 'a'. This type has no parameters");
  EXPECT_EQ(make_registry().open("log:").error().text,
            "log: 'path' is missing, which stands behind 'log:'; write for example "
            "log:/data/kv?capacity=200GiB");
}

TEST(RegistryTest, WhatOtherSystemsWriteIsAnsweredWithWhatItIsCalledHere) {
  const std::pair<const char*, const char*> cases[] = {
      {"file:///data/kv", "log:/data/kv names a store of larder's own"},
      {"file:/data/kv", "fs:/data/kv a directory of LMCache's files"},
      {"cache:6379", "A Redis server is named redis://HOST:PORT"},
      {"/data/kv", "that is a path, and a type must stand before it: log:PATH"},
      {"./kv?capacity=1GiB", "or fs:PATH"},
      {"~/kv", "log:PATH?capacity=200GiB"},
  };
  for (const auto& [text, expected] : cases) {
    const auto opened = make_registry().open(text);
    ASSERT_FALSE(opened.has_value()) << text;
    EXPECT_EQ(opened.error().code, ErrorCode::kInvalidArgument) << text;
    EXPECT_NE(opened.error().text.find(expected), std::string::npos) << opened.error().text;
  }
}

TEST(RegistryTest, AnExceptionWhileOpeningIsAnError) {
  const auto opened = make_registry().open("memory:");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kInternal);
  EXPECT_EQ(opened.error().text, "memory: opening failed: broken");
  EXPECT_EQ(make_registry().open("fault:").error().code, ErrorCode::kResourceExhausted);
}

TEST(RegistryTest, FindGivesTheTypeOrNothing) {
  const Registry registry = make_registry();
  EXPECT_EQ(registry.find("log"), &kLog);
  EXPECT_EQ(registry.find("lo"), nullptr);
  EXPECT_EQ(registry.types().size(), 3U);
}

// ---- check_table --------------------------------------------------------------------------------

std::string table_error(const Parameter& row, const ConnectorType& base = kLog) {
  const std::array rows = {kRows[0], row};
  ConnectorType type = base;
  type.example = "log:/data/kv";
  type.parameters = rows;
  const SetupStatus status = check_table(type);
  return status ? "no error" : status.error().text;
}

TEST(CheckTableTest, RightTablesPass) {
  const SetupStatus log = check_table(kLog);
  EXPECT_TRUE(log) << log.error().text;
  EXPECT_TRUE(check_table(kMemory));
  EXPECT_TRUE(check_table(kFault));
}

TEST(CheckTableTest, AWrongRowIsNamed) {
  const auto integer = [](std::string_view text, std::string_view minimum,
                          std::string_view maximum) {
    return Parameter{.name = "n",
                     .kind = ParameterKind::kInteger,
                     .default_text = text,
                     .minimum = minimum,
                     .maximum = maximum,
                     .help = "N."};
  };
  EXPECT_EQ(table_error(integer("5", "1", "9")), "no error");
  EXPECT_EQ(table_error(integer("x", "1", "9")),
            "log: n=x: not a whole number; write for example 16");
  EXPECT_EQ(table_error(integer("10", "1", "9")), "log: n=10: must be 1 to 9");
  EXPECT_EQ(table_error(integer("5", "y", "9")),
            "log: n=y: not a whole number; write for example 16");
  EXPECT_EQ(table_error(integer("", "9", "1")), "log: n=9: must be 9 to 1");
  EXPECT_NE(table_error(Parameter{.name = "n", .help = "no sentence"}).find("must be a sentence"),
            std::string::npos);
  EXPECT_NE(table_error(Parameter{.name = "type", .help = "T."}).find("not 'type'"),
            std::string::npos);
  EXPECT_NE(
      table_error(Parameter{.name = "n", .default_text = "a", .help = "N.", .is_required = true})
          .find("required, but has a default"),
      std::string::npos);
  EXPECT_NE(table_error(Parameter{.name = "n", .minimum = "1", .help = "N."})
                .find("only numbers have bounds"),
            std::string::npos);
  EXPECT_NE(table_error(Parameter{.name = "n", .kind = ParameterKind::kChoice, .help = "N."})
                .find("kChoice has some"),
            std::string::npos);
  EXPECT_NE(table_error(Parameter{.name = "n", .choices = "a|b", .help = "N."}).find("kChoice"),
            std::string::npos);
  EXPECT_NE(table_error(kRows[0]).find("stands twice"), std::string::npos);
}

TEST(CheckTableTest, AWrongTypeIsNamed) {
  const auto error = [](auto change) {
    ConnectorType type = kLog;
    change(type);
    const SetupStatus status = check_table(type);
    return status ? "no error" : status.error().text;
  };
  EXPECT_NE(error([](auto& type) { type.summary = "none"; }).find("summary"), std::string::npos);
  EXPECT_NE(error([](auto& type) { type.open = nullptr; }).find("open"), std::string::npos);
  EXPECT_NE(error([](auto& type) { type.location_parameter = "dir"; }).find("location parameter"),
            std::string::npos);
  EXPECT_NE(error([](auto& type) { type.example = "memory:"; }).find("another type"),
            std::string::npos);
  EXPECT_NE(
      error([](auto& type) { type.example = "log:?oops=1"; }).find("unknown parameter 'oops'"),
      std::string::npos);
}

// ---- describe -----------------------------------------------------------------------------------

TEST(DescribeTest, PlainTextHasEveryRow) {
  EXPECT_EQ(describe(kLog),
            "log: Keeps values in a log.\n"
            "\n"
            "Example: log:/data/kv?capacity=200GiB\n"
            "The text between 'log:' and '?' is 'path'.\n"
            "\n"
            "Parameters:\n"
            "  path (text; required)\n"
            "      Directory of the store.\n"
            "  capacity (size, 1MiB to 1TiB; default 1GiB)\n"
            "      How much it may use.\n"
            "  sync (none, batch; default none)\n"
            "      When it is flushed.\n"
            "  password (text; not set; secret)\n"
            "      Who may.\n");
  EXPECT_NE(describe(kMemory).find("It has no parameters."), std::string::npos);
}

TEST(DescribeTest, MarkdownHasASectionPerTypeInOrderOfName) {
  const Registry registry = make_registry();
  const std::string text = describe_markdown(registry.types());

  const auto fault = text.find("## fault\n");
  const auto log = text.find("## log\n");
  const auto memory = text.find("## memory\n");
  ASSERT_NE(log, std::string::npos);
  EXPECT_TRUE(text.starts_with("# Connectors\n"));
  EXPECT_NE(text.find("| [log](#log) | "), std::string::npos);
  EXPECT_LT(log, memory);  // As they were added.
  EXPECT_LT(memory, fault);
  EXPECT_NE(text.find("| `capacity` | size, 1MiB to 1TiB | 1GiB | How much it may use. |\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("| `password` | text | not set | Who may. Secret: never shown. |\n"),
            std::string::npos);
}

}  // namespace
}  // namespace larder
