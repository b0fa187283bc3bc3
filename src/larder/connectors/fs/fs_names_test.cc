// File systems to which names are not just bytes of any number up to 255.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <map>

#include "larder/base/unique_fd.h"
#include "larder/connectors/fs/file_name.h"
#include "larder/connectors/fs/fs_test_support.h"
#include "larder/connectors/fs/name_rules.h"

namespace larder::fs {
namespace {

const std::string kHash = std::string(62, '0') + "ff";

std::string lmcache_key(const std::string& model, const std::string& salt = "") {
  return model + "@00000000@0@" + kHash + (salt.empty() ? "" : "@" + salt);
}

/// Keys of which some file system would make one name of two.
std::vector<std::string> near_keys() {
  return {"Doc",
          "doc",
          "DOC",
          "i-doc",
          "k-doc",
          lmcache_key("m", "TeamA"),
          lmcache_key("m", "teama"),
          lmcache_key("Org/M"),
          lmcache_key("org/m"),
          lmcache_key("org-sep-m"),
          lmcache_key("e\xCC\x81"),
          lmcache_key("\xC3\xA9"),
          "e\xCC\x81",
          "\xC3\xA9",
          lmcache_key("a:b"),
          lmcache_key("a b?"),
          "a\x01z",
          "a\xFFz",
          std::string(150, 'x'),
          std::string(150, 'X'),
          std::string(500, 'y'),
          std::string(500, 'Y'),
          lmcache_key(std::string(100, 'm'), "t"),
          lmcache_key(std::string(100, 'M'), "t")};
}

struct OddFileSystem {
  const char* name;
  testing::OddNames names;
  const char* kind;
};

const OddFileSystem kOddFileSystems[] = {
    {"Plain", {}, "bytes"},
    {"NoCase", {.ignores_case = true}, "no_case"},
    {"NoCaseAndComposed", {.ignores_case = true, .composes = true}, "no_case"},
    {"Composed", {.composes = true}, "portable"},
    {"Portable", {.refuses_unportable = true}, "portable"},
    {"Short", {.bytes_max = 143}, "bytes"},
    {"ShortAndDoesNotSaySo", {.bytes_max = 143, .tells_bytes_max = false}, "bytes"},
    {"ShortAndTellsOnlyWhenAFileIsMade",
     {.bytes_max = 143, .tells_bytes_max = false, .tells_when_looked_for = false},
     "bytes"},
    {"CutsNames", {.bytes_max = 143, .tells_bytes_max = false, .cuts_names = true}, "bytes"},
    {"AsShortAsCanBe", {.bytes_max = kNameBytesMin}, "bytes"},
    {"ShortNoCase",
     {.bytes_max = 143, .ignores_case = true, .refuses_unportable = true},
     "no_case"},
};

class NamesTest : public ::testing::TestWithParam<OddFileSystem> {
 protected:
  void SetUp() override {
    std::string skipped;
    disk = faulty(skipped, GetParam().names);
    if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  }
  static std::map<std::string, std::uint64_t> scanned(OpenFs& fs) {
    std::map<std::string, std::uint64_t> keys;
    const auto page = fs.connector->scan({}, 1000);
    for (const auto& entry : page.value().entries) {
      EXPECT_TRUE(keys.emplace(entry.key, entry.value_bytes).second) << entry.key;
    }
    return keys;
  }

  std::unique_ptr<testing::FaultyDirectory> disk;
};

TEST_P(NamesTest, EveryKeyHasItsOwnValue) {
  const std::vector<std::string> keys = near_keys();
  {
    OpenFs fs{disk->path()};
    EXPECT_EQ(property_of(fs.connector->report(), "names"), GetParam().kind);
    EXPECT_EQ(property_of(fs.connector->report(), "name_bytes_max"),
              std::to_string(GetParam().names.bytes_max));
    const bool is_plain = std::string_view{GetParam().name} == "Plain";
    EXPECT_EQ(fs.connector->report().reasons.empty(), is_plain);
    EXPECT_EQ(fs.connector->report().health, Health::kHealthy);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      EXPECT_TRUE(fs.is_miss(keys[i])) << keys[i];
      fs.set(keys[i], value_of(i, 100 + i), SetMode::kIfAbsent);
    }
    EXPECT_EQ(fs.connector->report().keys, keys.size());
  }
  OpenFs fs{disk->path(), "capacity=100MiB"};
  EXPECT_EQ(fs.connector->report().keys, keys.size()) << "they are counted again";
  std::map<std::string, std::uint64_t> expected;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    EXPECT_TRUE(fs.has(keys[i], value_of(i, 100 + i))) << keys[i];
    expected[keys[i]] = 100 + i;
  }
  EXPECT_EQ(scanned(fs), expected);
  for (const std::string& key : keys) {
    EXPECT_TRUE(*fs.client->remove(key)) << key;
    EXPECT_TRUE(fs.is_miss(key));
  }
  EXPECT_TRUE(names_in(disk->path()).empty()) << names_in(disk->path()).front();
}

TEST_P(NamesTest, ClientsThatSeeTheDirectoryInDifferentWaysDoNotMixKeys) {
  const std::vector<std::string> keys = near_keys();
  OpenFs odd{disk->path()};
  OpenFs plain{disk->real_path()};
  for (const bool is_odd_first : {true, false}) {
    OpenFs& first = is_odd_first ? odd : plain;
    OpenFs& second = is_odd_first ? plain : odd;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      // Every value that is found is this key's.
      first.set(keys[i], value_of(i, 100 + i), SetMode::kReplace);
      for (std::size_t j = 0; j < keys.size(); ++j) {
        const auto size = second.client->exists(keys[j]).value();
        EXPECT_TRUE(!size || (j <= i && *size == 100 + j)) << keys[j] << " after " << keys[i];
      }
    }
    for (std::size_t i = 0; i < keys.size(); ++i) {
      Bytes buffer(100 + i);
      const auto found = second.client->get_into(keys[i], buffer).value();
      EXPECT_TRUE(!found || buffer == value_of(i, 100 + i)) << keys[i];
      second.set(keys[i], value_of(1000 + i, 100 + i), SetMode::kReplace);
      EXPECT_TRUE(second.has(keys[i], value_of(1000 + i, 100 + i)));
    }
    for (const std::string& key : keys) {
      static_cast<void>(odd.client->remove(key).value());
      static_cast<void>(plain.client->remove(key).value());
    }
    EXPECT_TRUE(names_in(disk->real_path()).empty());
  }
}

TEST_P(NamesTest, LmcachesFilesAreReadWhereTheyCannotBeAnotherKeys) {
  const std::string key = lmcache_key("Org/Model-1.5_B", "Team");
  const std::string name = file_name_of(key).text;
  if (name.size() > GetParam().names.bytes_max) return;  // LMCache could not write it.
  write_file(disk->path() + "/" + name, value_of(1));
  OpenFs fs{disk->path()};
  if (std::string_view{GetParam().kind} == "no_case") {
    EXPECT_TRUE(fs.is_miss(key));
    EXPECT_TRUE(scanned(fs).empty());
    fs.set(key, value_of(2));
    EXPECT_TRUE(fs.has(key, value_of(2)));
    EXPECT_EQ(content_of(disk->path() + "/" + name), value_of(1)) << "it is left alone";
  } else {
    EXPECT_TRUE(fs.has(key, value_of(1)));
  }
}

INSTANTIATE_TEST_SUITE_P(FileSystems, NamesTest, ::testing::ValuesIn(kOddFileSystems),
                         [](const auto& one) { return std::string{one.param.name}; });

TEST(FsNamesTest, ADirectoryThatCannotBeWrittenToIsJudgedByWhatIsThere) {
  std::string skipped;
  for (const bool ignores_case : {true, false}) {
    const auto disk = faulty(skipped, {.ignores_case = ignores_case});
    if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
    const std::string key = lmcache_key("m", "TeamA");
    const std::string odd = lmcache_key("a b?");
    for (const std::string& stored : {key, odd}) {
      write_file(disk->path() + "/" + file_name_of(stored).text, value_of(1));
    }
    disk->fail(testing::kCreates, EROFS);
    OpenFs fs{disk->path(), "staged=no"};
    EXPECT_EQ(property_of(fs.connector->report(), "names"), ignores_case ? "no_case" : "portable");
    EXPECT_TRUE(fs.is_miss(lmcache_key("m", "teama")));
    EXPECT_EQ(fs.is_miss(key), ignores_case);
    EXPECT_TRUE(fs.is_miss(odd));
    disk->heal();
    // It is tried again while keys are missed.
    if (ignores_case) continue;
    EXPECT_TRUE(eventually([&] { return fs.has(odd, value_of(1)); }));
    EXPECT_EQ(property_of(fs.connector->report(), "names"), "bytes");
    EXPECT_TRUE(fs.connector->report().reasons.empty());
  }
}

TEST(FsNamesTest, AnEmptyDirectoryOnAFullDiskMixesNoKeysWhenThereIsRoom) {
  std::string skipped;
  for (const bool ignores_case : {true, false}) {
    const auto disk = faulty(skipped, {.ignores_case = ignores_case});
    if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
    disk->fail(testing::kCreates, ENOSPC);
    OpenFs fs{disk->path()};
    EXPECT_EQ(property_of(fs.connector->report(), "names"), "no_case");
    ASSERT_EQ(fs.connector->report().reasons.size(), 1U);
    EXPECT_NE(fs.connector->report().reasons[0].find("no file can be made"), std::string::npos);
    EXPECT_EQ(fs.connector->report().health, Health::kHealthy);
    disk->heal();
    fs.set("Doc", value_of(1));
    EXPECT_TRUE(fs.is_miss("doc"));
    fs.set("doc", value_of(2));
    EXPECT_TRUE(fs.has("doc", value_of(2)));
    EXPECT_TRUE(!ignores_case || fs.has("Doc", value_of(1)));
    EXPECT_TRUE(eventually([&] {
      static_cast<void>(fs.client->exists("none"));
      const auto now = fs.connector->report();
      return property_of(now, "names") == (ignores_case ? "no_case" : "bytes") &&
             (ignores_case || now.reasons.empty());
    }));
  }
}

TEST(FsNamesTest, TheLengthThatIsFoundIsTheSameWhenTemporaryNamesGetLonger) {
  const testing::TemporaryDirectory directory;
  const UniqueFd fd{::open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  const auto first = probe_name_rules(fd.get());
  ASSERT_TRUE(first.has_value()) << first.error().to_string();
  // They have a number in them, of the process: the probe begins with the last one of its length.
  const auto is_last_but_one = [](const std::string& name) {
    const std::string number = name.substr(name.rfind('-') + 1);
    return number.find_first_not_of('f') == number.size() - std::string{"e.tmp"}.size() &&
           number.ends_with("e.tmp");
  };
  for (int tries = 0; !is_last_but_one(temporary_name()); ++tries) ASSERT_LT(tries, 1 << 20);
  const auto rules = probe_name_rules(fd.get());
  ASSERT_TRUE(rules.has_value()) << rules.error().to_string();
  EXPECT_EQ(rules->bytes_max, first->bytes_max);
}

TEST(FsNamesTest, WhatAKilledProcessLeftOfItsProbesIsSwept) {
  const testing::TemporaryDirectory directory;
  const std::string kept = ".larder-notes";
  const std::vector<std::string> left{".larder-0-1.tmp", ".larder-0-2\xC3\xA9.tmp",
                                      ".larder-0-3" + std::string(200, 'n') + ".tmp"};
  for (const char* const parameters :
       {"", "sharded_dirs=yes", "relative_tmp_dir=tmp", "sharded_dirs=yes&relative_tmp_dir=tmp"}) {
    for (const std::string& name : left) {
      write_file(directory.path() + "/" + name, {});
      make_older(directory.path() + "/" + name, 7200);
    }
    write_file(directory.path() + "/" + kept, {});
    make_older(directory.path() + "/" + kept, 7200);
    OpenFs fs{directory.path(), parameters};
    EXPECT_TRUE(eventually([&] { return fs.counter("temporaries_swept_total") == left.size(); }))
        << parameters;
    EXPECT_TRUE(std::filesystem::exists(directory.path() + "/" + kept));
  }
}

TEST(FsNamesTest, NamesThatAreTooShortForAnythingAreAnErrorAtOpening) {
  std::string skipped;
  const auto disk = faulty(skipped, {.bytes_max = kNameBytesMin - 1});
  if (!disk) GTEST_SKIP() << "SKIPPED (" << skipped << ")";
  Registry registry;
  registry.add(connector_type());
  const auto opened = registry.open("fs:" + disk->path());
  ASSERT_FALSE(opened.has_value());
  EXPECT_NE(opened.error().text.find("fewer than 71 bytes"), std::string::npos)
      << opened.error().text;
}

}  // namespace
}  // namespace larder::fs
