#include "larder/wire/request.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "larder/wire/limits.h"
#include "larder/wire/wire_test_support.h"

namespace larder::wire {
namespace {

DecodeResult<Arguments> decode(Operation operation, const std::vector<std::string>& frames) {
  static std::vector<Bytes> bytes;
  bytes.clear();
  for (const std::string& frame : frames) bytes.push_back(from_hex(frame));
  static std::vector<Frame> views;
  views.assign(bytes.begin(), bytes.end());
  return decode_arguments(operation, views);
}

template <class T>
T decoded(Operation operation, const std::vector<std::string>& frames) {
  auto result = decode(operation, frames);
  if (!result || !std::holds_alternative<T>(*result)) {
    ADD_FAILURE() << (result ? "another request" : result.error().to_string());
    return {};
  }
  return std::get<T>(*result);
}

std::string error_of(Operation operation, const std::vector<std::string>& frames) {
  const auto result = decode(operation, frames);
  return result ? "no error" : result.error().to_string();
}

constexpr Integer kSeven{.bits = 7, .is_negative = false};

TEST(OperationTest, KnowsIdsAndNamesInAnyEncoding) {
  std::set<std::string_view> names;
  for (const OperationInfo& each : operations()) {
    EXPECT_TRUE(names.insert(each.name).second) << each.name;
    Bytes name;
    MsgpackWriter{name}.text(each.name);
    const auto by_name = decode_operation(name);
    ASSERT_TRUE(by_name && *by_name) << each.name;
    EXPECT_EQ(**by_name, each.operation);
    Bytes id;
    MsgpackWriter{id}.integer(static_cast<std::uint64_t>(each.operation));
    const auto by_id = decode_operation(id);
    const bool has_id = static_cast<unsigned>(each.operation) <= 33;
    ASSERT_TRUE(by_id.has_value());
    EXPECT_EQ(by_id->has_value(), has_id) << each.name;
    if (has_id) {
      EXPECT_EQ(**by_id, each.operation);
    }
  }
  EXPECT_EQ(decode_operation(from_hex("cd0016"))->value(), Operation::kPing);
  EXPECT_EQ(decode_operation(from_hex("d904")).has_value(), false);
  EXPECT_EQ(decode_operation(from_hex("d9046e6f6f70"))->value(), Operation::kNoop);
}

TEST(OperationTest, SaysWhatIsUnknownAndDropsWhatCannotBeRead) {
  const auto error = [](std::string_view frame) {
    const auto operation = decode_operation(from_hex(frame));
    return !operation ? "dropped" : *operation ? "known" : operation->error().to_string();
  };
  EXPECT_EQ(error("0b"),
            "the operation is 11; it must be an id that this server has, 1 to 10 or 12 to 33, or a "
            "name");
  for (const char* const id : {"00", "22", "ff", "cd0100", "40"}) {
    EXPECT_NE(error(id).find("an id that"), std::string::npos) << id;
  }
  Bytes name;
  MsgpackWriter{name}.text("lokup");
  EXPECT_NE(error(hex(name)).find("such as \"lookup\""), std::string::npos) << error(hex(name));
  EXPECT_NE(error("c3").find("the operation is true"), std::string::npos);
  EXPECT_NE(error("cb4035000000000000").find("float 21"), std::string::npos);
  EXPECT_EQ(error("cd"), "dropped");
  EXPECT_EQ(error("1800"), "dropped");
  EXPECT_EQ(error(""), "dropped");
}

TEST(EnvelopeTest, TakesAnyUidAndDropsWhatCannotBeAnswered) {
  const auto read = [](const std::vector<Bytes>& bytes) {
    const std::vector<Frame> frames(bytes.begin(), bytes.end());
    const auto envelope = read_envelope(frames);
    return envelope ? -1 : static_cast<int>(envelope.error());
  };
  const auto dropped = [](Dropped why) { return static_cast<int>(why); };
  EXPECT_EQ(read({from_hex("00"), from_hex("18")}), -1);
  EXPECT_EQ(read({{}, from_hex("18")}), -1);
  EXPECT_EQ(read({from_hex("7a7a"), from_hex("18"), {}}), -1);
  EXPECT_EQ(read({}), dropped(Dropped::kTooFewFrames));
  EXPECT_EQ(read({from_hex("00")}), dropped(Dropped::kTooFewFrames));
  EXPECT_EQ(read(std::vector<Bytes>(limits::kFrames + 1, from_hex("00"))), -1);
  EXPECT_EQ(read({Bytes(limits::kUidBytes + 1), from_hex("18")}), dropped(Dropped::kUidTooLong));
  EXPECT_EQ(read({from_hex("00"), {}, from_hex("61636b")}), -1);
  EXPECT_EQ(read({from_hex("00"), Bytes(limits::kOperationBytes + 1)}),
            dropped(Dropped::kUnreadableOperation));
}

TEST(EnvelopeTest, NumbersUids) {
  EXPECT_EQ(uid_number(from_hex("00")), 0U);
  EXPECT_EQ(uid_number(from_hex("cd0000")), 0U);
  EXPECT_EQ(uid_number(from_hex("cfffffffffffffffff")), ~std::uint64_t{0});
  for (const char* const uid : {"", "ff", "7a7a", "a130", "cd"}) {
    EXPECT_FALSE(uid_number(from_hex(uid)).has_value()) << uid;
  }
}

TEST(RequestTest, CountsArgumentsOfEveryOperation) {
  for (const OperationInfo& each : operations()) {
    for (const std::size_t count :
         {std::size_t{each.arguments_max} + 1, std::size_t{each.arguments_min} - 1}) {
      if (count > limits::kFrames) continue;
      const std::string error = error_of(each.operation, std::vector<std::string>(count, "00"));
      EXPECT_EQ(error.find("the number of arguments of " + std::string{each.name} + " is " +
                           std::to_string(count)),
                0U)
          << error;
    }
  }
}

TEST(RequestTest, SaysThatAMessageHasTooManyFrames) {
  const std::vector<std::string> frames(limits::kFrames - 1, "00");
  const std::string error = error_of(Operation::kPing, frames);
  EXPECT_NE(error.find("is more than 14; it must be 0 or 1"), std::string::npos) << error;
}

TEST(RequestTest, BoundsTheLengthOfEveryArgumentButInlineData) {
  const auto decode = [](Operation operation, const std::vector<Bytes>& bytes) {
    const std::vector<Frame> frames(bytes.begin(), bytes.end());
    const auto arguments = decode_arguments(operation, frames);
    return arguments ? std::string{} : arguments.error().to_string();
  };
  const Bytes one = from_hex("07");
  const Bytes largest(limits::kFrameBytes);
  const Bytes too_long(limits::kFrameBytes + 1);
  EXPECT_EQ(decode(Operation::kLookup, {largest, one}), "");
  EXPECT_NE(decode(Operation::kLookup, {too_long, one}).find("67108865 bytes"), std::string::npos);
  EXPECT_NE(decode(Operation::kPrepareStore, {one, one, too_long}), "");
  EXPECT_NE(decode(Operation::kCommitStore, {too_long, one, from_hex("c400")}), "");

  Bytes data = from_hex("c604000001");  // A binary of 64 MiB and one byte.
  data.resize(data.size() + limits::kFrameBytes + 1);
  EXPECT_EQ(decode(Operation::kCommitStore, {one, one, data}), "");
}

TEST(RequestTest, TakesWhatEitherVersionSends) {
  using enum Operation;
  EXPECT_TRUE(decoded<FreeLookupLocks>(kFreeLookupLocks, {"80", "01"}).extra_ranges.empty());
  const auto freed = decoded<FreeLookupLocks>(kFreeLookupLocks, {"80", "01", "91922030"});
  ASSERT_EQ(freed.extra_ranges.size(), 1U);
  EXPECT_EQ(freed.extra_ranges[0].start, 32U);
  EXPECT_EQ(freed.extra_ranges[0].end, 48U);
  EXPECT_TRUE(decoded<PrepareStore>(kPrepareStore, {"80", "07"}).skipped_chunks.empty());
  const auto store = decoded<PrepareStore>(kPrepareStore, {"80", "07", "9290920103"});
  EXPECT_EQ(store.instance, kSeven);
  ASSERT_EQ(store.skipped_chunks.size(), 2U);
  EXPECT_EQ(store.skipped_chunks[1], (std::vector<std::uint32_t>{1, 3}));
  EXPECT_FALSE(decoded<Ping>(kPing, {}).instance.has_value());
  EXPECT_FALSE(decoded<Ping>(kPing, {"c0"}).instance.has_value());
  EXPECT_EQ(decoded<Ping>(kPing, {"07"}).instance, kSeven);
  EXPECT_TRUE(decoded<Ping>(kPing, {"ff"}).instance->is_negative);
  EXPECT_EQ(decoded<NegotiateChunkSize>(kNegotiateChunkSize, {"18"}).alignment, 24U);
  EXPECT_EQ(decoded<SubscribeKvEvents>(kSubscribeKvEvents, {"07", "a16d", "00", "01"}).model, "m");
}

TEST(RequestTest, TakesPythonsTruthForForce) {
  using enum Operation;
  for (const char* const yes : {"c3", "01", "ff", "a178", "9100", "cb3ff0000000000000", "c40100"}) {
    EXPECT_TRUE(decoded<Clear>(kClear, {yes}).force) << yes;
  }
  for (const char* const no : {"c2", "00", "c0", "a0", "90", "80", "cb0000000000000000", "c400"}) {
    EXPECT_FALSE(decoded<Clear>(kClear, {no}).force) << no;
  }
  EXPECT_FALSE(decoded<Clear>(kClear, {}).force);
}

TEST(RequestTest, ReadsTheOthers) {
  using enum Operation;
  EXPECT_EQ(decoded<QueryPrefetchStatus>(kQueryPrefetchStatus, {"a3722d31"}).request_id, "r-1");
  EXPECT_EQ(decoded<EndSession>(kEndSession, {"a3722d31"}).request_id, "r-1");
  EXPECT_EQ(decoded<WaitPrefetchStatus>(kWaitPrefetchStatus, {"a172", "01"}).seconds, 1.0);
  EXPECT_EQ(decoded<WaitPrefetchStatus>(kWaitPrefetchStatus, {"a172", "ca3f000000"}).seconds, 0.5);
  EXPECT_EQ(decoded<WaitPrefetchStatus>(kWaitPrefetchStatus, {"a172", "ff"}).seconds, -1.0);
  EXPECT_EQ(decoded<UnregisterEngineDriven>(kUnregisterEngineDriven, {"07"}).instance, kSeven);
  EXPECT_TRUE(decoded<CommitStore>(kCommitStore, {"80", "07", "c40180"}).has_data);
  EXPECT_EQ(decoded<PrepareRetrieve>(kPrepareRetrieve, {"80", "07"}).instance, kSeven);
  EXPECT_EQ(decoded<CommitRetrieve>(kCommitRetrieve, {"80", "07"}).instance, kSeven);
  EXPECT_EQ(decoded<Lookup>(kLookup, {"80", "01"}).key.size(), 1U);
  decoded<GetChunkSize>(kGetChunkSize, {});
  decoded<Noop>(kNoop, {});
  decoded<GetExperimental>(kGetExperimental, {});
  decoded<ReportBlockAllocation>(kReportBlockAllocation, {"c1", "", "c1"});  // Never read.
  decoded<NotServed>(kCbUnifiedLookup, {"80", "01"});
}

TEST(RequestTest, ReadsTransfersWithFlatOrNestedBlocks) {
  using enum Operation;
  const auto store = decoded<Store>(kStore, {"80", "07", "9293010203910a", "c40173"});
  EXPECT_EQ(store.key.size(), 1U);
  EXPECT_EQ(store.instance, kSeven);
  EXPECT_EQ(store.event.size(), 1U);
  ASSERT_EQ(store.blocks.groups(), 2U);
  const auto first = store.blocks.group(0);
  EXPECT_EQ(std::vector(first.begin(), first.end()), (std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_EQ(store.blocks.group(1).front(), 10U);
  const auto flat = decoded<Retrieve>(kRetrieve, {"80", "07", "9201ceffffffff", "c400", "06"});
  ASSERT_EQ(flat.blocks.groups(), 1U);
  EXPECT_EQ(flat.blocks.group(0).back(), 0xFFFF'FFFFU);
  EXPECT_TRUE(flat.event.empty());
  EXPECT_EQ(flat.skip_tokens, 6U);
  const auto none = decoded<Store>(kStore, {"80", "07", "90", "c400"});
  EXPECT_EQ(none.blocks.groups(), 1U);
  EXPECT_TRUE(none.blocks.group(0).empty());
  const auto empty = decoded<Store>(kStore, {"80", "07", "92909101", "c400"});
  ASSERT_EQ(empty.blocks.groups(), 2U);
  EXPECT_TRUE(empty.blocks.group(0).empty());
}

TEST(RequestTest, RefusesTransfersWithWrongBlocks) {
  using enum Operation;
  const auto error = [](const std::string& blocks) {
    return error_of(kStore, {"80", "07", blocks, "c400"});
  };
  EXPECT_EQ(error("9201ff"), "gpu_block_ids is -1; it must be an integer from 0 to 4294967295");
  EXPECT_NE(error("92019102").find("gpu_block_ids is an array of 1"), std::string::npos);
  EXPECT_NE(error("92910102").find("gpu_block_ids[1] is 2"), std::string::npos);
  EXPECT_NE(error("9191c0").find("gpu_block_ids[0] is nil"), std::string::npos);
  EXPECT_NE(error("9191cf0000000100000000").find("is 4294967296"), std::string::npos);
  std::string groups = "dc0041";
  for (std::size_t i = 0; i <= limits::kGroups; ++i) groups += "90";
  EXPECT_NE(error(groups).find("at most 64 arrays"), std::string::npos);
  EXPECT_NE(error("dd00010001").find("at most 65536"), std::string::npos);
  EXPECT_NE(error_of(kStore, {"80", "07", "90", "a0"}).find("event_ipc_handle"), std::string::npos);
  EXPECT_NE(error_of(kRetrieve, {"80", "07", "90", "c400", "ff"}).find("skip_first_n_tokens is -1"),
            std::string::npos);
}

TEST(RequestTest, RefusesWrongTypesByName) {
  using enum Operation;
  EXPECT_EQ(error_of(kPing, {"a178"}), "instance_id is text \"x\"; it must be an integer");
  EXPECT_EQ(error_of(kPing, {"c3"}), "instance_id is true; it must be an integer");
  EXPECT_EQ(error_of(kPing, {"c0c0"}), "instance_id is nil; it must be an integer");
  EXPECT_EQ(error_of(kLookup, {"80", "c0"}), "tp_size is nil; it must be an integer");
  EXPECT_NE(error_of(kQueryPrefetchStatus, {"01"}).find("request_id is 1"), std::string::npos);
  EXPECT_NE(error_of(kQueryPrefetchStatus, {"c40172"}).find("binary of 1"), std::string::npos);
  EXPECT_NE(error_of(kEndSession, {"a17200"}).find("1 more bytes"), std::string::npos);
  EXPECT_NE(error_of(kWaitPrefetchStatus, {"a172", "a131"}).find("a number"), std::string::npos);
  EXPECT_NE(error_of(kWaitPrefetchStatus, {"a172", "cb7ff8000000000000"}).find("a number"),
            std::string::npos);
  EXPECT_NE(error_of(kCommitStore, {"80", "07", "a0"}).find("data is text"), std::string::npos);
  EXPECT_NE(error_of(kFreeLookupLocks, {"80", "01", "c0"}).find("extra_ranges"), std::string::npos);
  EXPECT_NE(error_of(kFreeLookupLocks, {"80", "01", "919120"}).find("[start, end]"),
            std::string::npos);
  EXPECT_NE(error_of(kPrepareStore, {"80", "07", "c0"}).find("skipped_chunks"), std::string::npos);
  EXPECT_NE(error_of(kPrepareStore, {"80", "07", "91c0"}).find("skipped_chunks"),
            std::string::npos);
  for (const char* const alignment : {"00", "ff", "c0", "ce00010001"}) {
    EXPECT_NE(error_of(kNegotiateChunkSize, {alignment}).find("from 1 to 65536"),
              std::string::npos);
  }
  std::string many = "dc0041";
  for (std::size_t i = 0; i <= limits::kGroups; ++i) many += "90";
  EXPECT_NE(error_of(kPrepareStore, {"80", "07", many}).find("at most 64"), std::string::npos);
}

/// A registration as 0.5.7 sends it, with each field in the place of another if wanted.
Bytes registration(std::string_view replaced = "", std::string_view value = "",
                   std::string_view groups = "90") {
  Bytes frame;
  MsgpackWriter writer{frame};
  writer.map(10);
  const auto field = [&](std::string_view name, std::string_view given) {
    writer.text(name == replaced && value.empty() ? "unknown" : name);
    const Bytes bytes = from_hex(name == replaced && !value.empty() ? value : given);
    frame.insert(frame.end(), bytes.begin(), bytes.end());
  };
  field("instance_id", "cf1a5a000000000001");
  field("model_name", "a16d");
  field("world_size", "01");
  field("block_size", "04");
  field("num_layers", "02");
  field("hidden_dim_size", "08");
  field("dtype_str", "a7666c6f61743136");
  field("use_mla", "c2");
  field("num_physical_slots", "10");
  field("group_layouts", groups);
  return frame;
}

TEST(RegistrationTest, ReadsWhatEitherVersionSends) {
  const Bytes frame = registration();
  const auto result = decode_engine_driven_registration(frame);
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ(result->instance.bits, 0x1a5a000000000001U);
  EXPECT_EQ(result->model, "m");
  EXPECT_EQ(result->block_size, 4U);
  EXPECT_EQ(result->num_layers, 2U);
  EXPECT_EQ(result->hidden_dim_size, 8U);
  EXPECT_EQ(result->dtype, "float16");
  EXPECT_FALSE(result->use_mla);
  EXPECT_EQ(result->num_physical_slots, 16U);
  EXPECT_TRUE(result->groups.empty());
  for (const std::string_view defaulted : {"num_physical_slots", "group_layouts"}) {
    EXPECT_TRUE(decode_engine_driven_registration(registration(defaulted))) << defaulted;
  }
  EXPECT_FALSE(decode_engine_driven_registration(registration("num_physical_slots", "c0"))
                   ->num_physical_slots.has_value());
}

TEST(RegistrationTest, ReadsGroups) {
  Bytes group;
  MsgpackWriter writer{group};
  writer.map(8);
  writer.text("num_layers"), writer.integer(1);
  writer.text("hidden_dim_size"), writer.integer(8);
  writer.text("dtype_str"), writer.text("float8_e4m3fn");
  writer.text("tokens_per_block"), writer.integer(4);
  writer.text("window_tokens"), writer.integer(12);
  writer.text("kv_size"), writer.integer(2);
  writer.text("window_chunks"), writer.integer(1);
  writer.text("recurrent"), writer.boolean(true);
  const Bytes frame = registration("", "", "91" + hex(group));
  const auto result = decode_engine_driven_registration(frame);
  ASSERT_TRUE(result) << result.error().to_string();
  ASSERT_EQ(result->groups.size(), 1U);
  EXPECT_EQ(result->groups[0].dtype, "float8_e4m3fn");
  EXPECT_EQ(result->groups[0].window_tokens, 12U);
  EXPECT_EQ(result->groups[0].planes, 2U);
  EXPECT_EQ(result->groups[0].window_chunks, 1U);
  EXPECT_TRUE(result->groups[0].is_recurrent);
  const auto wrong = decode_engine_driven_registration(registration("", "", "9180"));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().to_string(),
            "the registration.group_layouts[0].num_layers is missing; it must be given");
}

TEST(RegistrationTest, RefusesWhatWouldGiveWrongLayouts) {
  const auto error = [](std::string_view field, std::string_view value) {
    const auto result = decode_engine_driven_registration(registration(field, value));
    return result ? "no error" : result.error().to_string();
  };
  EXPECT_EQ(error("dtype_str", "ad746f7263682e666c6f61743136"),
            "the registration.dtype_str is text \"torch.float16\"; it must be a torch type without "
            "\"torch.\", such as \"float16\"");
  EXPECT_NE(error("dtype_str", "a86e6f6e73656e7365").find("nonsense"), std::string::npos);
  for (const std::string_view field :
       {"world_size", "block_size", "num_layers", "hidden_dim_size", "num_physical_slots"}) {
    EXPECT_NE(error(field, "00").find("from 1"), std::string::npos) << field;
    EXPECT_NE(error(field, "ceffffffff").find("from 1"), std::string::npos) << field;
  }
  EXPECT_NE(error("use_mla", "01").find("true or false"), std::string::npos);
  for (const std::string_view field : {"instance_id", "model_name", "world_size", "block_size",
                                       "num_layers", "hidden_dim_size", "dtype_str", "use_mla"}) {
    EXPECT_NE(error(field, "").find("missing"), std::string::npos) << field;
  }
  EXPECT_FALSE(decode_engine_driven_registration(from_hex("90")));
}

}  // namespace
}  // namespace larder::wire
