#include "larder/connector/parameters.h"

#include <gtest/gtest.h>
#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

namespace larder {
namespace {

constexpr std::array kTable = {
    Parameter{.name = "path", .help = "Where.", .is_required = true, .example = "/data/kv"},
    Parameter{.name = "depth",
              .kind = ParameterKind::kInteger,
              .default_text = "16",
              .minimum = "1",
              .maximum = "4096",
              .help = "How deep."},
    Parameter{.name = "offset",
              .kind = ParameterKind::kInteger,
              .default_text = "-5",
              .minimum = "-10",
              .help = "Signed."},
    Parameter{
        .name = "capacity", .kind = ParameterKind::kBytes, .minimum = "1MiB", .help = "How large."},
    Parameter{.name = "stall",
              .kind = ParameterKind::kDuration,
              .default_text = "5s",
              .maximum = "1h",
              .help = "How long."},
    Parameter{.name = "share",
              .kind = ParameterKind::kFraction,
              .default_text = "25%",
              .minimum = "0.1",
              .maximum = "0.9",
              .help = "How much."},
    Parameter{.name = "direct", .kind = ParameterKind::kBool, .default_text = "yes", .help = "If."},
    Parameter{.name = "sync",
              .kind = ParameterKind::kChoice,
              .default_text = "none",
              .choices = "none|batch|always",
              .help = "When."},
    Parameter{.name = "inner", .kind = ParameterKind::kSpec, .help = "What."},
    Parameter{.name = "password", .help = "Secret.", .is_secret = true},
    Parameter{.name = "code",
              .kind = ParameterKind::kInteger,
              .help = "Secret number.",
              .is_secret = true},
};

SetupResult<Parameters> parse(std::string_view text) {
  auto spec = Spec::parse(text);
  if (!spec) return spec.error();
  return Parameters::parse(*spec, kTable);
}

std::string error_of(std::string_view text) {
  const auto parameters = parse(text);
  return parameters ? "no error" : parameters.error().text;
}

TEST(ParametersTest, DefaultsAreFilledIn) {
  const auto parameters = parse("log:?path=/data");

  ASSERT_TRUE(parameters) << parameters.error().text;
  EXPECT_EQ(parameters->text("path"), "/data");
  EXPECT_EQ(parameters->integer("depth"), 16);
  EXPECT_EQ(parameters->integer("offset"), -5);
  EXPECT_EQ(parameters->duration_ns("stall"), 5'000'000'000U);
  EXPECT_DOUBLE_EQ(parameters->fraction("share"), 0.25);
  EXPECT_TRUE(parameters->flag("direct"));
  EXPECT_EQ(parameters->text("sync"), "none");
  EXPECT_TRUE(parameters->has("depth"));
  EXPECT_FALSE(parameters->has("capacity"));
  EXPECT_EQ(parameters->bytes("capacity"), 0U);
  EXPECT_FALSE(parameters->has("inner"));
  EXPECT_EQ(parameters->text("password"), "");
}

TEST(ParametersTest, EveryKindIsRead) {
  const auto parameters = parse(
      "log:?path=/data&depth=4096&offset=-10&capacity=1.5GiB&stall=250ms&share=0.9&direct=off"
      "&sync=always&inner=memory:%3Fcapacity%3D1GiB&password=x");

  ASSERT_TRUE(parameters) << parameters.error().text;
  EXPECT_EQ(parameters->integer("depth"), 4096);
  EXPECT_EQ(parameters->integer("offset"), -10);
  EXPECT_EQ(parameters->bytes("capacity"), 3ULL << 29U);
  EXPECT_EQ(parameters->duration_ns("stall"), 250'000'000U);
  EXPECT_DOUBLE_EQ(parameters->fraction("share"), 0.9);
  EXPECT_FALSE(parameters->flag("direct"));
  EXPECT_EQ(parameters->text("sync"), "always");
  EXPECT_EQ(parameters->spec("inner").type(), "memory");
  EXPECT_EQ(parameters->spec("inner").parameters().at("capacity"), "1GiB");
  EXPECT_EQ(parameters->text("password"), "x");
}

TEST(ParametersTest, AnUnknownParameterNamesTheNearestAndListsAll) {
  EXPECT_EQ(error_of("log:?path=/a&capcity=1GiB"),
            "log: unknown parameter 'capcity': did you mean 'capacity'? Known parameters: "
            "capacity, code, depth, direct, inner, offset, password, path, share, stall, sync");
  EXPECT_EQ(error_of("log:?path=/a&xyzzy=1").substr(0, 57),
            "log: unknown parameter 'xyzzy'. Known parameters: capacit");
}

TEST(ParametersTest, AValueThatDoesNotParseIsShownWithAnExample) {
  EXPECT_EQ(error_of("log:?path=/a&capacity=12parsecs"),
            "log: capacity=12parsecs: not a size; write for example 64MiB or 200GiB");
  EXPECT_EQ(error_of("log:?path=/a&depth=1.5"),
            "log: depth=1.5: not a whole number; write for example 16");
  const std::string digits(300, '9');
  for (const char* const name : {"capacity", "depth"}) {
    const std::string error = error_of(std::string{"log:?path=/a&"} + name + "=" + digits);
    EXPECT_NE(error.find(": too large; write for example "), std::string::npos) << error;
  }
  EXPECT_EQ(error_of("log:?path=/a&stall=5"),
            "log: stall=5: not a duration; write for example 250ms, 5s or 1h");
  EXPECT_EQ(error_of("log:?path=/a&share=2"),
            "log: share=2: not a fraction; write for example 0.25 or 25%");
  EXPECT_EQ(error_of("log:?path=/a&direct=maybe"), "log: direct=maybe: neither yes nor no");
  EXPECT_EQ(error_of("log:?path=/a&sync=batched"),
            "log: sync=batched: must be one of none, batch, always");
  EXPECT_EQ(error_of("log:?path=/a&sync="), "log: sync=: must be one of none, batch, always");
  EXPECT_EQ(error_of("log:?path=/a&inner=what"),
            "log: inner: spec: expected a connector type and ':' at the beginning, for example "
            "log:/data/kv?capacity=200GiB or memory:");
  EXPECT_EQ(error_of("log:?path="), "log: path=: must not be empty");
}

TEST(ParametersTest, BoundsAreInclusiveAndNamed) {
  EXPECT_EQ(error_of("log:?path=/a&depth=0"), "log: depth=0: must be 1 to 4096");
  EXPECT_EQ(error_of("log:?path=/a&depth=4097"), "log: depth=4097: must be 1 to 4096");
  EXPECT_EQ(error_of("log:?path=/a&depth=1"), "no error");
  EXPECT_EQ(error_of("log:?path=/a&offset=-11"), "log: offset=-11: must be at least -10");
  EXPECT_EQ(error_of("log:?path=/a&capacity=4KiB"), "log: capacity=4KiB: must be at least 1MiB");
  EXPECT_EQ(error_of("log:?path=/a&stall=2h"), "log: stall=2h: must be at most 1h");
  EXPECT_EQ(error_of("log:?path=/a&share=0.95"), "log: share=0.95: must be 0.1 to 0.9");
  EXPECT_EQ(error_of("log:?path=/a&share=10%25"), "no error");
}

TEST(ParametersTest, AMissingRequiredParameterIsNamedWithAnExample) {
  EXPECT_EQ(error_of("log:?depth=1"), "log: 'path' is missing; write for example path=/data/kv");
}

TEST(ParametersTest, ALocationThatNobodyRenamedIsRefused) {
  EXPECT_NE(error_of("log:/data?path=/a").find("takes no location"), std::string::npos);
}

TEST(ParametersTest, SecretsAreNotShown) {
  EXPECT_EQ(error_of("log:?path=/a&inner=redis:%3Fpassword%3Dhunter2%23").find("hunter2"),
            std::string::npos);
  EXPECT_EQ(error_of("log:?path=/a&code=hunter2"),
            "log: code=(hidden): not a whole number; write for example 16");
}

TEST(ParametersTest, LongAndUnprintableValuesAreShortenedAndCleaned) {
  const std::string text = error_of("log:?path=/a&capacity=%0A%1B[31m" + std::string(60'000, 'x'));

  EXPECT_LT(text.size(), 200U);
  EXPECT_NE(text.find("capacity=\\x0a\\x1b[31mxxx"), std::string::npos) << text;
  const std::string accents =
      error_of("log:?path=/a&capacity=x" + std::string(63, 'y') + "\xC3\xA9" + std::string(9, 'z'));
  EXPECT_EQ(accents.find('\xC3'), std::string::npos) << accents;
}

TEST(ParametersTest, ATildeAtTheStartOfAPathIsAHome) {
  constexpr std::array kPaths = {
      Parameter{.name = "path", .kind = ParameterKind::kPath, .help = "Where."},
      Parameter{.name = "note", .help = "Not a path."},
  };
  const std::string home = std::getenv("HOME") == nullptr ? "" : std::getenv("HOME");
  ::setenv("HOME", "/home/me", 1);
  const auto path_of = [&](const std::string& text) {
    const auto spec = Spec::parse("log:?path=" + text);
    EXPECT_TRUE(spec.has_value()) << text;
    const auto parameters = Parameters::parse(*spec, kPaths);
    return parameters ? parameters->text("path") : parameters.error().text;
  };
  EXPECT_EQ(path_of("~/kv"), "/home/me/kv");
  EXPECT_EQ(path_of("~"), "/home/me");
  EXPECT_EQ(path_of("/a/~/kv"), "/a/~/kv");
  EXPECT_EQ(path_of("./~kv"), "./~kv");
  EXPECT_EQ(path_of("~root/kv"), std::string{::getpwnam("root")->pw_dir} + "/kv");
  EXPECT_NE(path_of("~no-such-user/kv").find("there is no user 'no-such-user'"), std::string::npos);
  ::unsetenv("HOME");  // Then it is the system's value.
  EXPECT_EQ(path_of("~/kv"), std::string{::getpwuid(::geteuid())->pw_dir} + "/kv");
  ::setenv("HOME", home.c_str(), 1);
  const auto note = Parameters::parse(*Spec::parse("log:?note=~/kv"), kPaths);
  EXPECT_EQ(note->text("note"), "~/kv");
}

TEST(ParametersDeathTest, AskingForANameOrKindThatTheTableLacksIsABug) {
  const auto parameters = parse("log:?path=/data");
  EXPECT_DEATH(static_cast<void>(parameters->text("pth")), "LARDER_CHECK failed");
  EXPECT_DEATH(static_cast<void>(parameters->bytes("depth")), "LARDER_CHECK failed");
  EXPECT_DEATH(static_cast<void>(parameters->spec("inner")), "LARDER_CHECK failed");
}

}  // namespace
}  // namespace larder
