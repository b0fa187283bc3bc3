#include "larder/tools/key_text.h"

#include <gtest/gtest.h>

#include "larder/base/random.h"

namespace larder::tools {
namespace {

TEST(KeyTextTest, PrintableTextIsItselfAndTheRestIsEscaped) {
  EXPECT_EQ(escape_key("model@00ff:a b~"), "model@00ff:a b~");
  EXPECT_EQ(escape_key(std::string_view{"\0\n\x1b[31m\x7f\xff", 9}),
            "\\x00\\x0a\\x1b[31m\\x7f\\xff");
  EXPECT_EQ(escape_key("a\\x41"), "a\\\\x41");
}

TEST(KeyTextTest, EveryKeyComesBack) {
  Random random{1};
  for (std::size_t bytes = 0; bytes < 300; ++bytes) {
    std::string key(bytes, '\0');
    random.fill(std::as_writable_bytes(std::span{key}));
    const auto back = unescape_key(escape_key(key));
    ASSERT_TRUE(back.has_value()) << back.error().text;
    EXPECT_EQ(*back, key);
  }
}

TEST(KeyTextTest, ABackslashThatBeginsNothingIsRefusedWithItsPlace) {
  for (const char* const text :
       {"ab\\", "ab\\n", "ab\\x", "ab\\x4", "ab\\xg0", "ab\\x-1", "ab\\x 1"}) {
    const auto key = unescape_key(text);
    ASSERT_FALSE(key.has_value()) << text;
    EXPECT_EQ(key.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(key.error().text.find("position 3"), std::string::npos) << key.error().text;
  }
}

}  // namespace
}  // namespace larder::tools
