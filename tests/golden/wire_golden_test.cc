// What LMCache's clients sent, larder reads; what LMCache's servers answered, larder writes to the
// byte.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "larder/base/key_text.h"
#include "larder/wire/chunk_hash.h"
#include "larder/wire/hash_memo.h"
#include "larder/wire/key.h"
#include "larder/wire/operation.h"
#include "larder/wire/reply.h"
#include "larder/wire/request.h"
#include "larder/wire/wire_test_support.h"
#include "tests/golden/golden_store.h"
#include "tests/support/temporary_directory.h"

namespace larder::wire {
namespace {

struct Record {
  std::string capture;
  bool is_request = false;
  std::string connection;
  std::vector<Bytes> frames;

  std::vector<Frame> views() const { return {frames.begin(), frames.end()}; }
};

std::vector<Record> read_captures(const std::string& version) {
  const testing::TemporaryDirectory directory;
  const auto unpacked =
      larder::testing::unpack_store(LARDER_GOLDEN_DIRECTORY "/wire", directory.path());
  EXPECT_TRUE(unpacked.has_value()) << unpacked.error().text;
  std::ifstream in{directory.path() + "/lmcache_" + version + ".txt"};
  std::vector<Record> records;
  std::string capture;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words{line};
    std::string kind;
    words >> kind;
    if (kind == "=") {
      words >> capture;
      continue;
    }
    Record record{.capture = capture, .is_request = kind == ">", .connection = {}, .frames = {}};
    words >> record.connection;
    for (std::string frame; words >> frame;) {
      record.frames.push_back(frame == "-" ? Bytes{} : from_hex(frame));
    }
    records.push_back(std::move(record));
  }
  return records;
}

bool is_transfer(Operation operation) {
  return operation == Operation::kStore || operation == Operation::kRetrieve ||
         (operation >= Operation::kPrepareStore && operation <= Operation::kCommitRetrieve);
}

std::optional<Frame> key_of(const Arguments& arguments) {
  return std::visit(
      [](const auto& request) -> std::optional<Frame> {
        if constexpr (requires { request.key; }) return request.key;
        return std::nullopt;
      },
      arguments);
}

/// Chunks of 16 tokens, as in all of the captures.
class Server {
 public:
  /// Why larder would not serve the request, or nothing.
  std::optional<std::string> refusal(const Record& record) {
    const auto frames = record.views();
    const auto envelope = read_envelope(frames);
    if (!envelope) return "dropped " + std::to_string(static_cast<int>(envelope.error()));
    const auto operation = decode_operation(envelope->operation_frame);
    if (!operation) return "unreadable operation";
    if (!*operation) return operation->error().to_string();
    const auto arguments = decode_arguments(**operation, envelope->arguments);
    if (!arguments) return arguments.error().to_string();
    if (std::holds_alternative<NotServed>(*arguments)) return "not served";
    const auto key = key_of(*arguments);
    if (!key) return std::nullopt;
    reader_.start(*key);
    while (reader_.advance(100) == KeyReader::State::kMore) {
    }
    if (reader_.state() == KeyReader::State::kFailed) return reader_.error().to_string();
    if (is_transfer(**operation)) {
      const auto checked = check_transfer_key(reader_.key(), kChunkTokens);
      if (!checked) return checked.error().to_string();
    }
    return std::nullopt;
  }

  const KeyReader& reader() const { return reader_; }
  const HashMemo& memo() const { return memo_; }

  static constexpr std::uint32_t kChunkTokens = 16;

 private:
  HashMemo memo_{{.bytes_max = std::size_t{1} << 20, .chunk_tokens = kChunkTokens, .seed = 7}};
  ChunkHasher hasher_{kChunkTokens};
  KeyReader reader_{memo_, hasher_};
};

class WireGoldenTest : public ::testing::TestWithParam<std::string> {
 protected:
  const std::vector<Record> records_ = read_captures(GetParam());
};

bool was_answered(const std::vector<Record>& records, std::size_t request) {
  const Record& asked = records[request];
  for (std::size_t i = request + 1; i < records.size(); ++i) {
    const Record& record = records[i];
    if (record.capture != asked.capture || record.connection != asked.connection ||
        record.frames.empty() || record.frames[0] != asked.frames[0]) {
      continue;
    }
    return !record.is_request;
  }
  return false;
}

/// What larder refuses though LMCache answers it, with its reason.
const std::map<std::string, std::string> kRefused{
    {"key.world_size is 0; it must be an integer from 1 to 255",
     "LMCache counts no hits in a world of nobody; the answer to the refusal is the same"},
    {"gpu_block_ids[0] is -1; it must be an integer from 0 to 4294967295",
     "LMCache would read in front of the tensor"},
    {"key.start is 32; it must be at most key.end", "LMCache stores nothing, and says that it did"},
    {"key.worker_id is 5; it must be below key.world_size, 1", "no object has that rank"},
    {"not served", "what servers ask each other; larder shares no L1 with others"},
};

/// What larder takes and LMCache left unanswered, as "CAPTURE OPERATION", with its reason.
const std::map<std::string, std::string> kTaken{
    {"20_sglang_adapter register_kv_cache", "lists of keys and values on a CPU"},
    {"53_object_layouts register_kv_cache", "a layout that the plan refuses, and not the decoder"},
    {"31_err_arity ping", "no argument at all"},
    {"31_err_arity clear", "no argument at all"},
    {"31_err_arity prepare_store", "two arguments, as 0.5.6 sends, or chunks that do not exist"},
    {"31_err_arity free_lookup_locks", "two arguments, as 0.5.6 sends"},
    {"31_err_arity negotiate_chunk_size", "another alignment: the engine's to answer"},
    {"63_negotiate_chunk_size negotiate_chunk_size", "the same"},
    {"32_err_types lookup", "num_kv_readers missing or 0"},
    {"32_err_types store", "blocks in a flat array, or lists that do not fit the registration"},
    {"35_err_registration register_kv_cache",
     "no such shared memory, or layers that do not exist: the copies' to answer"},
    {"48_free_without_num_kv_readers free_lookup_locks", "num_kv_readers 0"},
    {"34_err_locks prepare_store", "an instance that is not registered: the engine's to answer"},
    {"35_err_registration prepare_store", "the same"},
    {"35_err_registration commit_store", "the same"},
    {"35_err_registration prepare_retrieve", "the same"},
    {"35_err_registration commit_retrieve", "the same"},
};

TEST_P(WireGoldenTest, TakesWhatLmcacheAnsweredAndRefusesTheRest) {
  Server server;
  std::size_t taken = 0;
  for (std::size_t i = 0; i < records_.size(); ++i) {
    const Record& record = records_[i];
    if (!record.is_request) continue;
    if (record.frames[1].empty()) continue;  // A credit or the end of a stream.
    const auto refusal = server.refusal(record);
    if (!refusal) ++taken;
    if (was_answered(records_, i) == !refusal.has_value()) continue;
    const auto operation = decode_operation(record.frames[1]);
    ASSERT_TRUE(operation && *operation) << hex(record.frames[1]);
    const std::string name{info(**operation).name};
    if (!refusal) {
      EXPECT_TRUE(kTaken.contains(record.capture + " " + name)) << record.capture << ' ' << name;
    } else {
      EXPECT_TRUE(kRefused.contains(*refusal)) << record.capture << ' ' << name << ": " << *refusal;
    }
  }
  EXPECT_GT(taken, 100U);
}

/// The packed tokens of a key, by the general reader instead of unpack_ids().
Bytes packed_tokens(Frame frame) {
  MsgpackReader reader{frame};
  std::size_t values = 100'000;
  const std::uint32_t fields = reader.next()->count;
  for (std::uint32_t i = 0; i < fields; ++i) {
    const std::string name{as_text(reader.next()->bytes)};
    if (name == "token_bytes") {
      const auto bytes = reader.next()->bytes;
      return {bytes.begin(), bytes.end()};
    }
    if (name != "token_ids") {
      reader.skip(values);
      continue;
    }
    std::vector<std::uint32_t> tokens(reader.next()->count);
    for (auto& token : tokens) token = static_cast<std::uint32_t>(reader.next()->integer.bits);
    return pack(tokens);
  }
  return {};
}

TEST_P(WireGoldenTest, GivesEveryKeyTheHashesOfItsTokens) {
  Server server;
  ChunkHasher fresh{Server::kChunkTokens};
  constexpr std::size_t kChunkBytes = Server::kChunkTokens * kTokenBytes;
  std::size_t chunks = 0;
  for (const Record& record : records_) {
    if (!record.is_request || server.refusal(record)) continue;
    const auto frames = record.views();
    const auto arguments =
        decode_arguments(**decode_operation(frames[1]), std::span{frames}.subspan(2));
    const auto key = key_of(*arguments);
    if (!key) continue;
    const Bytes packed = packed_tokens(*key);
    const auto hashes = server.reader().hashes();
    const std::uint64_t hashed =
        std::min<std::uint64_t>(packed.size() / kTokenBytes, server.reader().key().end);
    ASSERT_EQ(hashes.size(), hashed / Server::kChunkTokens);
    ChunkHash hash = no_chunk_hash();
    for (std::size_t i = 0; i < hashes.size(); ++i, ++chunks) {
      hash = fresh.hash(hash, std::span{packed}.subspan(i * kChunkBytes, kChunkBytes));
      ASSERT_EQ(hex(hashes[i]), hex(hash)) << record.capture;
    }
  }
  EXPECT_GT(chunks, 100U);
  EXPECT_GT(server.memo().statistics().found_total, 50U);
}

/// A slot of a captured reply.
struct CapturedSlots {
  std::vector<std::vector<std::uint64_t>> shapes;
  std::vector<std::string> dtypes;
  std::vector<SlotLayout> layouts;
  std::vector<Slot> slots;
  bool has_groups = false;
  bool has_slots = false;
};

void read_slot(MsgpackReader& reader, CapturedSlots& out) {
  Slot slot;
  const std::uint32_t fields = reader.next()->count;
  for (std::uint32_t i = 0; i < fields; ++i) {
    const std::string name{as_text(reader.next()->bytes)};
    const Value value = *reader.next();
    if (name == "offset") slot.offset = value.integer.bits;
    if (name == "length") slot.bytes = value.integer.bits;
    if (name == "dtype") out.dtypes.emplace_back(as_text(value.bytes));
    if (name == "shape") {
      auto& shape = out.shapes.emplace_back(value.count);
      for (auto& size : shape) size = reader.next()->integer.bits;
    }
  }
  out.slots.push_back(slot);
}

CapturedSlots read_context(MsgpackReader& reader) {
  CapturedSlots out;
  const std::uint32_t fields = reader.next()->count;
  for (std::uint32_t i = 0; i < fields; ++i) {
    const std::string name{as_text(reader.next()->bytes)};
    const std::uint32_t count = reader.next()->count;
    for (std::uint32_t k = 0; k < count; ++k) {
      if (name == "slots") {
        read_slot(reader, out);
        continue;
      }
      const auto number = static_cast<std::uint32_t>(reader.next()->integer.bits);
      (name == "group_ids" ? out.slots[k].group : out.slots[k].chunk) = number;
    }
    out.has_groups |= name == "group_ids";
    out.has_slots |= name == "slots";
  }
  for (std::size_t i = 0; i < out.slots.size(); ++i) {
    out.layouts.push_back({.shape = out.shapes[i], .dtype = out.dtypes[i]});
  }
  for (std::size_t i = 0; i < out.slots.size(); ++i) out.slots[i].layout = &out.layouts[i];
  return out;
}

/// The same reply written by larder, or nothing where it has no encoder for the operation.
std::optional<Bytes> written_again(Operation operation, const Bytes& reply) {
  MsgpackReader reader{reply};
  const Value head = *reader.next();
  switch (operation) {
    case Operation::kPing:
    case Operation::kCommitStore:
    case Operation::kCommitRetrieve:
      return encode_boolean(head.boolean);
    case Operation::kGetChunkSize:
    case Operation::kNegotiateChunkSize:
    case Operation::kQueryPrefetchStatus:
    case Operation::kWaitPrefetchStatus:
      return encode_number(head.integer.bits);
    case Operation::kNoop:
      return encode_ok();
    case Operation::kGetExperimental: {
      std::vector<std::string> names(head.count);
      for (auto& name : names) name = as_text(reader.next()->bytes);
      const std::vector<std::string_view> views(names.begin(), names.end());
      return encode_names(views);
    }
    case Operation::kStore:
    case Operation::kRetrieve: {
      const bool is_registered = !reader.next()->bytes.empty();
      const bool is_good = reader.next()->boolean;
      return is_good ? encode_transfer_done(true)
                     : encode_failure(operation, "", is_registered).payload;
    }
    case Operation::kRegisterEngineDriven: {
      if (head.count != 3) return std::nullopt;  // 0.5.6 has no null_block_id, and ignores it.
      reader.next();
      const std::string pool{as_text(reader.next()->bytes)};
      reader.next();
      const std::uint64_t bytes = reader.next()->integer.bits;
      reader.next();
      return encode_registered(pool, bytes, static_cast<std::int64_t>(reader.next()->integer.bits));
    }
    case Operation::kPrepareStore: {
      reader.next();
      const CapturedSlots context = read_context(reader);
      return context.has_slots ? encode_store_slots(context.slots, context.has_groups)
                               : encode_failure(operation, "").payload;
    }
    case Operation::kPrepareRetrieve: {
      reader.next();
      const bool is_good = reader.next()->boolean;
      reader.next();
      if (!reader.next()->bytes.empty()) return std::nullopt;  // Values within the message.
      reader.next();
      const CapturedSlots context = read_context(reader);
      return is_good ? encode_retrieve_slots(context.slots, context.has_groups)
                     : encode_failure(operation, "").payload;
    }
    default:
      return std::nullopt;
  }
}

TEST_P(WireGoldenTest, WritesRepliesToTheByte) {
  std::map<Operation, std::size_t> written;
  for (const Record& record : records_) {
    if (record.is_request || record.frames.size() < 3) continue;
    const Operation operation = **decode_operation(record.frames[1]);
    const auto again = written_again(operation, record.frames[2]);
    if (!again) continue;
    EXPECT_EQ(hex(*again), hex(record.frames[2])) << record.capture << info(operation).name;
    ++written[operation];
  }
  EXPECT_GE(written.size(), 8U);
  EXPECT_GT(written[Operation::kPrepareStore], 5U);
  EXPECT_GE(written[Operation::kPrepareRetrieve], 4U);
}

INSTANTIATE_TEST_SUITE_P(Versions, WireGoldenTest, ::testing::Values("0.5.6", "0.5.7rc2"));

}  // namespace
}  // namespace larder::wire
