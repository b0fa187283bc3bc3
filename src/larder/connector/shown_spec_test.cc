#include "larder/connector/shown_spec.h"

#include <gtest/gtest.h>

#include <array>

namespace larder {
namespace {

using Opened = SetupResult<std::unique_ptr<Connector>>;

Opened refuse(const ConnectorType& /*type*/, const Parameters& /*parameters*/,
              const Registry& /*registry*/) {
  return SetupError{ErrorCode::kUnavailable, "not here"};
}

constexpr std::array kServerRows = {
    Parameter{.name = "address", .help = "Where.", .is_secret = true},
    Parameter{.name = "password", .help = "Who may.", .is_secret = true},
    Parameter{.name = "ttl", .help = "How long."},
};
constexpr std::array kWrapperRows = {
    Parameter{.name = "inner", .kind = ParameterKind::kSpec, .help = "What is wrapped."},
    Parameter{.name = "rate", .help = "How often."},
};
constexpr std::array kFileRows = {Parameter{.name = "path", .help = "Where."}};

constexpr ConnectorType kServer{.name = "server",
                                .summary = "Elsewhere.",
                                .example = "server://host",
                                .location_parameter = "address",
                                .parameters = kServerRows,
                                .open = refuse};
constexpr ConnectorType kWrapper{.name = "wrapper",
                                 .summary = "Wraps.",
                                 .example = "wrapper:",
                                 .location_parameter = "",
                                 .parameters = kWrapperRows,
                                 .open = refuse};
constexpr ConnectorType kFile{.name = "file",
                              .summary = "Here.",
                              .example = "file:/data",
                              .location_parameter = "path",
                              .parameters = kFileRows,
                              .open = refuse};

std::string shown(std::string_view text) {
  Registry registry;
  for (const ConnectorType* type : {&kServer, &kWrapper, &kFile}) registry.add(*type);
  return shown_spec(text, registry);
}

TEST(ShownSpecTest, WhatIsHarmlessIsShownUnescaped) {
  EXPECT_EQ(shown("file:/a%20b@c"), "file:/a b@c");
  EXPECT_EQ(shown("server://host:1/2?ttl=5s"), "server://host:1/2?ttl=5s");
  EXPECT_EQ(shown(R"({"type": "server", "address": "host", "ttl": 5})"), "server:host?ttl=5");
  EXPECT_EQ(shown("file:" + std::string(500, 'x')), "file:" + std::string(500, 'x'));
}

TEST(ShownSpecTest, SecretsAreHiddenInEverySpelling) {
  EXPECT_EQ(shown("server://:secret@host:1/2?ttl=5s"), "server://(hidden)@host:1/2?ttl=5s");
  EXPECT_EQ(shown("server:user:secret@host"), "server:(hidden)@host");
  EXPECT_EQ(shown("server://user:se@cret@host"), "server://(hidden)@host");
  EXPECT_EQ(shown("server://host?password=secret"), "server://host?password=(hidden)");
  EXPECT_EQ(shown(R"({"type": "server", "address": "//u:secret@h", "password": "secret"})"),
            "server://(hidden)@h?password=(hidden)");
  EXPECT_EQ(shown("server://u:secret@h?address=//u:secret@h"), "server:(hidden)?address=(hidden)")
      << "given twice";
}

TEST(ShownSpecTest, NestedSpecsHideTheirOwn) {
  EXPECT_EQ(shown("wrapper:?rate=1&inner=server://u:secret@h%3Fpassword%3Dsecret"),
            "wrapper:?inner=server://(hidden)@h?password=(hidden)&rate=1");
  EXPECT_EQ(shown(R"({"type": "wrapper", "inner": {"type": "other", "token": "secret"}})"),
            "wrapper:?inner=other:?token=(hidden)");
}

TEST(ShownSpecTest, WhatIsNotKnownIsHidden) {
  EXPECT_EQ(shown("servr://u:secret@h?pasword=secret"), "servr:(hidden)?pasword=(hidden)");
  EXPECT_EQ(shown("server://h?pasword=secret"), "server://h?pasword=(hidden)");
  EXPECT_EQ(shown("wrapper:secret"), "wrapper:(hidden)") << "a location where none belongs";
  EXPECT_EQ(shown("wrapper:?inner=%secret"), "(hidden)");
  EXPECT_EQ(shown("no spec: secret"), "(hidden)");
  EXPECT_EQ(shown(""), "(hidden)");
}

TEST(ShownSpecTest, NothingCanForgeALine) {
  EXPECT_EQ(shown("file:/a%0Ab%1B[2J"), R"(file:/a\x0ab\x1b[2J)");
}

}  // namespace
}  // namespace larder
