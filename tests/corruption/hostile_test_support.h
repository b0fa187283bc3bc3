#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/logging.h"
#include "tests/corruption/crash_note.h"
#include "tests/corruption/survival.h"

namespace larder::corruption {

class HostileTest : public ::testing::TestWithParam<std::string> {
 protected:
  HostileTest() { set_log_level(LogLevel::kOff); }

  static std::shared_ptr<const GoldenImage> golden(const std::string& name) {
    auto loaded = golden_image(name);
    EXPECT_TRUE(loaded.has_value()) << loaded.error().text;
    return loaded.value_or(nullptr);
  }
  /// A fresh copy of the store.
  static Survival survival() { return Survival{golden(GetParam())}; }

  static void expect_survives(Survival& store, const std::string& what,
                              const std::vector<std::string>& reasons = {},
                              bool to_the_end = true) {
    set_crash_note(GetParam() + ": " + what);
    EXPECT_EQ(store.check(reasons, to_the_end), "") << GetParam() << ": " << what;
  }
  static std::string set_aside(const Survival& store, std::size_t segment) {
    return store.map().segments()[segment].file + " was set aside";
  }
  /// A segment with that kind of table that holds records; SIZE_MAX: the store has none.
  static std::size_t find(const StoreMap& map, Source source) {
    for (std::size_t i = 0; i < map.segments().size(); ++i) {
      if (map.segments()[i].source == source) return i;
    }
    return SIZE_MAX;
  }
};

}  // namespace larder::corruption
