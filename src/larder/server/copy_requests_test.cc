// Workers whose blocks the server copies (S17, S21 to S25), over a backend that the test drives.

#include <gtest/gtest.h>

#include <deque>
#include <tuple>

#include "larder/server/server_test_support.h"

namespace larder::server {
namespace {

using wire::Operation;

/// Keeps every job until the test lets it end.
class ScriptedCopies final : public CopyBackend {
 public:
  Status prepare_arena(std::span<std::byte> /*arena*/) noexcept override { return {}; }
  Status submit(CopyJob& job) noexcept override {
    jobs.push_back(&job);
    if (job.op == CopyOp::kMap) job.view = ViewId{++views};
    return {};
  }
  std::size_t reap(std::span<CopyJob*> out) noexcept override {
    std::size_t count = 0;
    while (count < out.size() && !done.empty()) {
      out[count++] = done.front();
      done.pop_front();
    }
    return count;
  }
  int event_fd() const noexcept override { return -1; }
  void cancel(CopyJob& job) noexcept override { cancelled.push_back(&job); }
  void begin_until(std::uint64_t until_ns) noexcept override { begins_until_ns = until_ns; }
  CopyStatistics statistics() const noexcept override { return {}; }
  Status stop(std::uint64_t /*deadline_ns*/) noexcept override { return {}; }

  /// The first job of this kind ends.
  void finish(CopyOp op, CopyOutcome outcome = CopyOutcome::kDone) {
    const auto found = std::ranges::find(jobs, op, &CopyJob::op);
    ASSERT_NE(found, jobs.end());
    (*found)->outcome = outcome;
    if (outcome == CopyOutcome::kFailed) {
      (*found)->error = Error{ErrorCode::kIo, "", "scripted"};
      (*found)->reason = "the memory cannot be mapped";
    }
    done.push_back(*found);
    jobs.erase(found);
  }

  std::vector<CopyJob*> jobs;
  std::deque<CopyJob*> done;
  std::vector<CopyJob*> cancelled;
  std::uint64_t views = 0;
  std::uint64_t begins_until_ns = 0;
};

class CopyRequestsTest : public ServiceFixture {
 protected:
  CopyRequestsTest() { copies = &backend; }

  static wire::Bytes tensor() {
    return encoded([](wire::MsgpackWriter& writer) {
      writer.map(5);
      writer.text("type"), writer.text("cpu_shm");
      writer.text("shm_name"), writer.text("/lmcache_kv_1_0");
      writer.text("nbytes"), writer.integer(8192);
      writer.text("version"), writer.integer(1);
      writer.text("metadata");
      writer.map(5);
      writer.text("dtype"), writer.text("float16");
      writer.text("shape"), writer.array(5);
      for (const std::uint64_t size : {2U, 64U, 4U, 2U, 4U}) writer.integer(size);
      writer.text("stride"), writer.array(5);
      for (const std::uint64_t stride : {2048U, 32U, 8U, 4U, 1U}) writer.integer(stride);
      writer.text("storage_offset"), writer.integer(0);
      writer.text("device_uuid"), writer.text("cpu");
    });
  }
  /// One layer of 64 blocks with 4 tokens: a chunk of 16 tokens takes 4 blocks.
  void ask_to_register(std::uint64_t instance = 7, std::uint64_t connection = 2) {
    wire::Bytes tensors = encoded([](wire::MsgpackWriter& writer) { writer.array(1); });
    const wire::Bytes body = tensor();
    for (const int byte :
         {0xC8, static_cast<int>(body.size() >> 8), static_cast<int>(body.size() & 0xFF), 1}) {
      tensors.push_back(std::byte{static_cast<unsigned char>(byte)});
    }
    tensors.insert(tensors.end(), body.begin(), body.end());
    const auto hints = encoded([](wire::MsgpackWriter& writer) {
      writer.map(1);
      writer.text("kv_layout"), writer.text("NHD");
    });
    send(Operation::kRegisterKvCache,
         {number(instance), tensors, text("golden/model-1"), number(1), text("vllm"), hints},
         connection);
  }
  void register_driven(std::uint64_t instance = 7, std::uint64_t connection = 2) {
    replies.clear();
    ask_to_register(instance, connection);
    finish(CopyOp::kMap);
    ASSERT_EQ(replies.size(), 1U);
    ASSERT_EQ(replies[0].hex(), "none");
  }
  void finish(CopyOp op, CopyOutcome outcome = CopyOutcome::kDone) {
    backend.finish(op, outcome);
    service().on_copies();
    turn();
  }
  static wire::Bytes blocks(std::uint32_t count, std::uint32_t from = 1) {
    return encoded([&](wire::MsgpackWriter& writer) {
      writer.array(1);
      writer.array(count);
      for (std::uint32_t i = 0; i < count; ++i) writer.integer(from + i);
    });
  }
  void ask_to_store(const wire::KeySample& sample, const wire::Bytes& ids,
                    std::uint64_t instance = 7) {
    replies.clear();
    send(Operation::kStore, {make_key(sample), number(instance), ids, binary("event")}, 2);
    turn();
  }
  void ask_to_retrieve(const wire::KeySample& sample, const wire::Bytes& ids) {
    replies.clear();
    send(Operation::kRetrieve, {make_key(sample), number(7), ids, binary("event"), number(0)}, 2);
    turn();
  }
  /// The answer comes into `answers`.
  void ask_for_checksums(const ChecksumCommand& command, std::vector<AdminAnswer>& answers) {
    service().on_admin(command,
                       [&answers](AdminAnswer given) { answers.push_back(std::move(given)); });
    turn();
  }
  /// The only reply.
  std::string answer() { return replies.size() == 1 ? replies[0].hex() : "no reply, or several"; }

  static constexpr std::string_view kGood = "92c40f737475625f6970635f68616e646c65c3";
  static constexpr std::string_view kBad = "92c40f737475625f6970635f68616e646c65c2";

  ScriptedCopies backend;
};

TEST_F(CopyRequestsTest, AStoreIsVisibleWhenItIsAnswered) {
  register_driven();
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  EXPECT_TRUE(replies.empty());
  ASSERT_EQ(backend.jobs.size(), 1U);
  EXPECT_EQ(backend.jobs[0]->cells.size(), 2U);
  EXPECT_EQ(backend.jobs[0]->event.size(), 5U);
  finish(CopyOp::kStore);
  EXPECT_EQ(answer(), kGood);
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 2U);
  ask_to_retrieve(key("s", 1, 0, 32), blocks(8, 20));
  finish(CopyOp::kRetrieve);
  EXPECT_EQ(answer(), kGood);
  EXPECT_EQ(status().engine.reads_open, 0U);
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  EXPECT_EQ(answer(), kGood);  // It is there already (S3).
  EXPECT_TRUE(backend.jobs.empty());
}

TEST_F(CopyRequestsTest, ChunksThatAWorkerHasRetrievedAreItsOwn) {
  register_driven();
  EXPECT_EQ(status().instances[0].rank, std::nullopt);
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  finish(CopyOp::kStore);
  EXPECT_EQ(status().instances[0].rank, 0U);
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 2U);
  ask_to_retrieve(key("s", 1, 0, 32), blocks(8, 20));
  EXPECT_EQ(status().instances[0].chunks_loaded, 0U);
  finish(CopyOp::kRetrieve);
  EXPECT_EQ(status().instances[0].chunks_loaded, 2U);
  EXPECT_EQ(lookup(key("t", 1, 0, 32)), 2U);
  ask_to_retrieve(key("t", 1, 0, 32), blocks(8, 20));
  finish(CopyOp::kRetrieve, CopyOutcome::kFailed);
  EXPECT_EQ(status().instances[0].chunks_loaded, 2U);
}

TEST_F(CopyRequestsTest, AFailedStorePublishesNothing) {
  register_driven();
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  finish(CopyOp::kStore, CopyOutcome::kFailed);
  EXPECT_EQ(answer(), kBad);
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 0U);
  EXPECT_EQ(status().engine.writes_open, 0U);
}

TEST_F(CopyRequestsTest, ChunksOfNullBlocksAreNotStored) {
  register_driven();
  const auto ids = encoded([](wire::MsgpackWriter& writer) {
    writer.array(1);
    writer.array(8);
    for (const std::uint64_t id : {1U, 2U, 3U, 4U, 0U, 0U, 0U, 0U}) writer.integer(id);
  });
  ask_to_store(key("r", 1, 0, 32), ids);
  ASSERT_EQ(backend.jobs.size(), 1U);
  EXPECT_EQ(backend.jobs[0]->cells.size(), 1U);
  finish(CopyOp::kStore);
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 1U);
}

TEST_F(CopyRequestsTest, BlocksBeyondTheWorkersMemoryAreRefused) {
  register_driven();
  ask_to_store(key("r", 1, 0, 32), blocks(8, 60));
  EXPECT_EQ(answer(), kBad);
  ask_to_store(key("r", 1, 0, 32), blocks(7));
  EXPECT_EQ(answer(), kBad);
  EXPECT_TRUE(backend.jobs.empty());
}

TEST_F(CopyRequestsTest, ARetrieveOfWhatIsNotThereFails) {
  register_driven();
  ask_to_retrieve(key("s", 1, 0, 32), blocks(8));
  EXPECT_EQ(answer(), kBad);
}

TEST_F(CopyRequestsTest, AWorkerThatIsNotRegisteredIsToldSo) {
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  EXPECT_EQ(answer(), "92c400c2");
  EXPECT_FALSE(ping(2, 7));
  EXPECT_TRUE(ping(2, 7));
}

TEST_F(CopyRequestsTest, MemoryThatCannotBeMappedIsAnError) {
  ask_to_register();
  replies.clear();
  finish(CopyOp::kMap, CopyOutcome::kFailed);
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_NE(replies[0].error().find("cannot be mapped"), std::string::npos);
  EXPECT_TRUE(status().instances.empty());
}

TEST_F(CopyRequestsTest, UnregisterIsAnsweredWhenItsCopiesHaveEnded) {
  register_driven();
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  send(Operation::kUnregisterKvCache, {number(7)}, 2);
  EXPECT_TRUE(replies.empty());
  EXPECT_TRUE(status().instances.empty());
  finish(CopyOp::kStore);
  EXPECT_EQ(answer(), kGood);
  replies.clear();
  finish(CopyOp::kUnmap);
  EXPECT_EQ(answer(), "none");
  EXPECT_EQ(status().engine.owners, 0U);
}

TEST_F(CopyRequestsTest, WhatAWorkerHadWhenItRegistersAgainIsNotPublished) {
  register_driven();
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  ask_to_register();
  finish(CopyOp::kMap);
  EXPECT_TRUE(replies.empty());  // It waits for the copies of before.
  finish(CopyOp::kStore);
  EXPECT_EQ(answer(), kBad);
  replies.clear();
  finish(CopyOp::kUnmap);
  EXPECT_EQ(answer(), "none");
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 0U);
  EXPECT_EQ(status().instances.size(), 1U);
}

TEST_F(CopyRequestsTest, TwoRegistrationsOfOneWorkerMapItsMemoryOnce) {
  ask_to_register();
  ask_to_register();
  replies.clear();
  finish(CopyOp::kMap);
  EXPECT_EQ(replies.size(), 1U);
  finish(CopyOp::kMap);
  EXPECT_EQ(replies.size(), 1U);  // The second one waits for the memory of the first to go.
  EXPECT_EQ(backend.jobs.size(), 1U);
  finish(CopyOp::kUnmap);
  EXPECT_EQ(replies.size(), 2U);
  EXPECT_EQ(replies[1].hex(), "none");
  EXPECT_EQ(status().instances.size(), 1U);
  EXPECT_TRUE(backend.jobs.empty());
}

TEST_F(CopyRequestsTest, TheIdOfAWorkerThatIsBeingMappedIsTheFirstOnes) {
  ask_to_register(7, 2);
  ask_to_register(7, 3);
  replies.clear();
  finish(CopyOp::kMap);
  EXPECT_EQ(answer(), "none");
  replies.clear();
  finish(CopyOp::kMap);
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_NE(replies[0].error().find("in use"), std::string::npos);
  finish(CopyOp::kUnmap);  // Of the second one's memory.
  EXPECT_EQ(status().instances.size(), 1U);
}

TEST_F(CopyRequestsTest, AWorkerThatIsUnregisteredWhileItIsMappedIsNotRegistered) {
  ask_to_register();
  send(Operation::kUnregisterKvCache, {number(7)}, 2);
  replies.clear();
  finish(CopyOp::kMap);
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_NE(replies[0].error().find("unregistered"), std::string::npos);
  EXPECT_TRUE(status().instances.empty());
  finish(CopyOp::kUnmap);
}

TEST_F(CopyRequestsTest, ASecondUnregisterWaitsAsTheFirst) {
  register_driven();
  replies.clear();
  send(Operation::kUnregisterKvCache, {number(7)}, 2);
  send(Operation::kUnregisterKvCache, {number(7)}, 2);
  EXPECT_TRUE(replies.empty());
  finish(CopyOp::kUnmap);
  EXPECT_EQ(replies.size(), 2U);
}

TEST_F(CopyRequestsTest, RetrievesOfOneRangeHoldItsChunksEach) {
  register_driven();
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  finish(CopyOp::kStore);
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 2U);
  EXPECT_EQ(lookup(key("t", 1, 0, 32)), 2U);
  ask_to_retrieve(key("s", 1, 0, 32), blocks(8, 20));
  ask_to_retrieve(key("t", 1, 0, 32), blocks(8, 40));
  finish(CopyOp::kRetrieve);
  EXPECT_EQ(status().engine.reads_open, 1U);
  finish(CopyOp::kRetrieve);
  EXPECT_EQ(status().engine.reads_open, 0U);
}

TEST_F(CopyRequestsTest, AWorkerWhoseCopiesRunIsNotToldToRegisterAgain) {
  options.worker_reap_ns = 30 * kSecond;
  register_driven();
  ping(2, 7);
  pass(32 * kSecond);
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  EXPECT_EQ(answer(), "92c400c2");
  EXPECT_TRUE(ping(2, 7));
  finish(CopyOp::kUnmap);
  EXPECT_FALSE(ping(2, 7));
}

TEST_F(CopyRequestsTest, AWorkerThatIsReapedIsToldWhenItsCopiesHaveEnded) {
  options.worker_reap_ns = 30 * kSecond;
  register_driven();
  ping(2, 7);
  pass(32 * kSecond);
  EXPECT_TRUE(status().instances.empty());
  EXPECT_TRUE(ping(2, 7));
  finish(CopyOp::kUnmap);
  EXPECT_FALSE(ping(2, 7));
}

TEST_F(CopyRequestsTest, AStoreThatRanAcrossAStallIsNotPublished) {
  register_driven();
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  turn(6 * kSecond);
  ASSERT_EQ(status().totals.stalls, 1U);
  EXPECT_EQ(backend.cancelled, backend.jobs);
  finish(CopyOp::kStore);
  EXPECT_EQ(answer(), kBad);
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 0U);
}

TEST_F(CopyRequestsTest, NoCopyBeginsWhileTheServerIsStopped) {
  register_driven();
  EXPECT_EQ(backend.begins_until_ns, now_ns + 5 * kSecond);
}

TEST_F(CopyRequestsTest, AClientThatGoesWhileItsMemoryIsMappedIsNotRegistered) {
  ask_to_register();
  service().on_closed(ConnectionId{2});
  finish(CopyOp::kMap);
  EXPECT_TRUE(status().instances.empty());
  finish(CopyOp::kUnmap);
  EXPECT_TRUE(backend.jobs.empty());
}

TEST_F(CopyRequestsTest, BothModesShareWhatIsStored) {
  register_driven(7, 2);
  register_worker({.instance = 8, .num_layers = 1, .hidden = 8}, 3);
  ASSERT_EQ(status().instances.size(), 2U);
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  finish(CopyOp::kStore);
  EXPECT_EQ(lookup(key("s", 1, 0, 32)), 2U);
  EXPECT_NE(prepare_retrieve(key("s", 1, 0, 32), 8, 3).hex(), kNoContext);
  // Each has its own operations, and an id may be used in both.
  EXPECT_EQ(prepare_store(key("t", 2, 0, 32), 7, 2).hex(), kNoContext);
  ask_to_store(key("t", 2, 0, 32), blocks(8), 8);
  EXPECT_EQ(answer(), "92c400c2");
  register_worker({.instance = 7, .num_layers = 1, .hidden = 8}, 3);
  EXPECT_EQ(status().instances.size(), 3U);
}

TEST_F(CopyRequestsTest, TheEndWaitsForCopies) {
  register_driven();
  ask_to_store(key("r", 1, 0, 32), blocks(8));
  EXPECT_FALSE(service().drain(now_ns + 10 * kSecond));
  finish(CopyOp::kStore);
  EXPECT_TRUE(service().drain(now_ns + 10 * kSecond));
  ask_to_store(key("t", 2, 0, 32), blocks(8));
  EXPECT_EQ(answer(), kBad);
}

TEST_F(CopyRequestsTest, AServerThatCopiesForNobodySaysSo) {
  options.transfer_mode = TransferMode::kEngineDriven;
  ask_to_register();
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_NE(replies[0].error().find("--supported-transfer-mode"), std::string::npos);
}

// ---- Checksums, which the admin HTTP asks for (S28).

TEST_F(CopyRequestsTest, ChecksumsAreAnsweredWhenTheBackendHasThem) {
  register_driven();
  std::vector<AdminAnswer> answers;
  ask_for_checksums({.instance = {.bits = 7}, .blocks = {1, 2, 3}, .blocks_per_chunk = 2}, answers);
  ASSERT_EQ(backend.jobs.size(), 1U);
  EXPECT_TRUE(answers.empty());
  ChecksumRequest& request = *backend.jobs[0]->checksums;
  EXPECT_EQ(request.blocks, (std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_EQ(request.blocks_per_chunk, 2U);
  request.checksums.resize(2);
  finish(CopyOp::kChecksum);
  ASSERT_EQ(answers.size(), 1U);
  ASSERT_TRUE(answers[0]);
  EXPECT_EQ(answers[0]->checksums.size(), 2U);
  EXPECT_EQ(answers[0]->layers, 1U);
  ask_for_checksums({.instance = {.bits = 7}, .blocks = {1}, .blocks_per_chunk = 1}, answers);
  finish(CopyOp::kChecksum, CopyOutcome::kFailed);
  ASSERT_EQ(answers.size(), 2U);
  ASSERT_FALSE(answers[1]);
  EXPECT_EQ(answers[1].error().kind, AdminError::Kind::kFailed);
}

TEST_F(CopyRequestsTest, ChecksumsThatCannotBeAreRefusedInASentence) {
  register_driven();
  register_worker({.instance = 8, .num_layers = 1, .hidden = 8}, 3);
  using Kind = AdminError::Kind;
  const std::vector<std::tuple<ChecksumCommand, Kind, std::string>> cases = {
      {{.instance = {.bits = 77}}, Kind::kNotFound, "instance_id 77 not registered"},
      {{.instance = {.bits = ~std::uint64_t{0}, .is_negative = true}}, Kind::kNotFound, "id -1 "},
      {{.instance = {.bits = 8}}, Kind::kNotFound, "a worker that copies itself"},
      {{.instance = {.bits = 7}, .blocks_per_chunk = 1}, Kind::kInvalid, "block_ids is required"},
      {{.instance = {.bits = 7}, .blocks = {1}}, Kind::kInvalid, "chunk_size must be positive"},
      {{.instance = {.bits = 7}, .blocks = {1, 64}, .blocks_per_chunk = 1},
       Kind::kInvalid,
       "there is no block 64; the worker has blocks 0 to 63"},
      {{.instance = {.bits = 7},
        .blocks = std::vector<std::uint32_t>(std::size_t{1} << 25, 1),
        .blocks_per_chunk = 1},
       Kind::kInvalid,
       "ask for fewer at once"},
  };
  for (const auto& [command, kind, expected] : cases) {
    std::vector<AdminAnswer> answers;
    ask_for_checksums(command, answers);
    ASSERT_EQ(answers.size(), 1U);
    ASSERT_FALSE(answers[0]);
    EXPECT_EQ(answers[0].error().kind, kind);
    EXPECT_NE(answers[0].error().text.find(expected), std::string::npos) << answers[0].error().text;
  }
  EXPECT_TRUE(backend.jobs.empty());
}

TEST_F(CopyRequestsTest, ChecksumsInFlightAreFewAndTheEndWaitsForThem) {
  register_driven();
  const ChecksumCommand command{.instance = {.bits = 7}, .blocks = {1}, .blocks_per_chunk = 1};
  std::vector<AdminAnswer> answers;
  for (int i = 0; i < 3; ++i) ask_for_checksums(command, answers);
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].error().kind, AdminError::Kind::kBusy);
  EXPECT_FALSE(service().drain(now_ns + 10 * kSecond));
  finish(CopyOp::kChecksum);
  EXPECT_FALSE(service().drain(now_ns + 10 * kSecond));
  ask_for_checksums(command, answers);
  ASSERT_EQ(answers.size(), 3U);
  EXPECT_NE(answers[2].error().text.find("is ending"), std::string::npos);
  finish(CopyOp::kChecksum);
  EXPECT_TRUE(service().drain(now_ns + 10 * kSecond));
  EXPECT_EQ(answers.size(), 4U);
}

TEST_F(CopyRequestsTest, ChecksumsOfAWorkerThatEndsComeBackBeforeIt) {
  register_driven();
  std::vector<AdminAnswer> answers;
  const ChecksumCommand command{.instance = {.bits = 7}, .blocks = {1}, .blocks_per_chunk = 1};
  ask_for_checksums(command, answers);
  replies.clear();
  send(Operation::kUnregisterKvCache, {number(7)}, 2);
  turn();
  EXPECT_TRUE(replies.empty());
  ask_for_checksums(command, answers);
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].error().kind, AdminError::Kind::kNotFound);
  finish(CopyOp::kChecksum);
  EXPECT_EQ(answers.size(), 2U);
  finish(CopyOp::kUnmap);
  EXPECT_EQ(answer(), "none");
}

}  // namespace
}  // namespace larder::server
