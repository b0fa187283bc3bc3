// larder_crash_writer: opens a log store, tells what every key is, and works on it until somebody
// kills it. It reports every operation before it is submitted and after it came back; judging is
// the business of who reads that.
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "larder/base/aligned_buffer.h"
#include "larder/base/logging.h"
#include "larder/base/random.h"
#include "larder/connectors/builtin.h"
#include "tests/crash/protocol.h"

namespace larder::crash {
namespace {

constexpr std::size_t kBatches = 6;
constexpr std::size_t kItemsMax = 4;
constexpr std::uint64_t kLifeShift = 40;  ///< Versions of a life are above those of all before.
constexpr int kAnswerWithinMs = 60'000;
constexpr std::size_t kAlignment = 4096;

struct Options {
  std::string spec;
  Content content;
  std::uint64_t seed = 0;
  std::uint64_t life = 0;
  bool is_last = false;  ///< Tells what every key is, closes the store and ends.
};

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "larder_crash_writer: %s\n", why.c_str());
  std::_Exit(1);
}

/// One batch with the memory of its items, used again and again.
struct Slot {
  struct Part {
    std::uint32_t key = 0;
    std::uint64_t version = 0;
    std::string name;
    AlignedBuffer memory;
    Slice slice;
  };
  Batch batch;
  std::vector<Item> items;
  std::array<Part, kItemsMax> parts;
  std::uint64_t operation = 0;
  bool is_in_flight = false;
};

/// Keeps several batches in flight, one thread, until it is killed.
class Writer {
 public:
  Writer(const Options& options, Connector& connector, SharedPage& page)
      : content_(options.content),
        connector_(connector),
        page_(page),
        random_(options.seed * 1'000'003 + options.life),
        next_version_((options.life << kLifeShift) + 1) {
    for (Slot& slot : slots_) {
      slot.items.reserve(kItemsMax);
      for (Slot::Part& part : slot.parts) {
        auto memory = AlignedBuffer::create(content_.value_bytes_max + 2 * kAlignment, kAlignment);
        if (!memory) fail("no memory");
        part.memory = std::move(*memory);
      }
    }
  }

  void tell_all() {
    std::uint32_t key = 0;
    while (key < content_.keys() || in_flight_ > 0) {
      for (Slot& slot : slots_) {
        if (slot.is_in_flight || key == content_.keys()) continue;
        begin(slot, Op::kGet);
        while (slot.items.size() < kItemsMax && key < content_.keys()) add_get(slot, key++);
        submit(slot);
      }
      wait(Kind::kFound);
    }
    send({{.kind = Kind::kAllFound}});
  }

  [[noreturn]] void work() {
    for (;;) {
      for (Slot& slot : slots_) {
        if (!slot.is_in_flight) start(slot);
      }
      publish_gauges();
      wait(Kind::kEnded);
    }
  }

 private:
  void start(Slot& slot) {
    const std::uint64_t choice = random_.below(100);
    begin(slot, choice < 66 ? Op::kSet : choice < 80 ? Op::kDelete : Op::kGet);
    slot.batch.set_mode = choice < 60 ? SetMode::kReplace : SetMode::kIfAbsent;
    slot.batch.urgency = static_cast<Urgency>(random_.below(kUrgencyCount));
    for (std::uint64_t left = 1 + random_.below(kItemsMax); left > 0; --left) {
      const bool is_hot = random_.below(2) == 0;
      const auto key = static_cast<std::uint32_t>(is_hot ? random_.below(content_.hot_keys)
                                                         : content_.hot_keys +
                                                               random_.below(content_.filler_keys));
      if (slot.batch.op == Op::kGet) add_get(slot, key);
      if (slot.batch.op == Op::kDelete) add(slot, key, 0);
      if (slot.batch.op == Op::kSet) add_set(slot, key);
    }
    std::vector<Message> messages;
    for (std::size_t i = 0; i < slot.items.size(); ++i) {
      messages.push_back({.kind = Kind::kInvoked,
                          .op = slot.batch.op,
                          .key = slot.parts[i].key,
                          .operation = slot.operation + i,
                          .version = slot.parts[i].version});
    }
    send(messages);
    submit(slot);
  }

  void begin(Slot& slot, Op op) {
    slot.items.clear();
    slot.batch.op = op;
    slot.batch.allow_shorter = true;
    slot.operation = next_operation_;
    next_operation_ += kOperationsPerBatch;
  }
  Slot::Part& add(Slot& slot, std::uint32_t key, std::uint64_t version) {
    Slot::Part& part = slot.parts[slot.items.size()];
    part.key = key;
    part.version = version;
    part.name = content_.key(key);
    slot.items.emplace_back().key = std::as_bytes(std::span{part.name});
    return part;
  }
  void add_get(Slot& slot, std::uint32_t key) {
    Slot::Part& part = add(slot, key, 0);
    part.slice = {.data = part.memory.data(), .bytes = content_.value_bytes_max};
    slot.items.back().value = {&part.slice, 1};
  }
  void add_set(Slot& slot, std::uint32_t key) {
    const std::uint64_t version = next_version_++;
    Slot::Part& part = add(slot, key, version);
    // One in four from memory that direct I/O cannot use.
    const std::size_t offset = random_.one_in(4) ? 8 : 0;
    part.slice = {.data = part.memory.data() + offset,
                  .bytes = static_cast<std::size_t>(content_.value_bytes(key, version))};
    Content::fill_value(key, version, {part.slice.data, part.slice.bytes});
    slot.items.back().value = {&part.slice, 1};
  }
  void submit(Slot& slot) {
    slot.batch.items = slot.items;
    slot.batch.user_data = &slot;
    const Status submitted = connector_.submit(slot.batch);
    if (!submitted) fail("a batch was refused: " + submitted.error().to_string());
    slot.is_in_flight = true;
    ++in_flight_;
  }

  /// Waits until something came back, and reports it.
  void wait(Kind kind) {
    pollfd ready{.fd = connector_.event_fd(), .events = POLLIN, .revents = 0};
    if (in_flight_ > 0 && ::poll(&ready, 1, kAnswerWithinMs) == 0)
      fail("the store does not answer");
    std::array<Batch*, kBatches> done{};
    const std::size_t count = connector_.reap(done);
    for (Batch* const batch : std::span{done}.first(count)) {
      Slot& slot = *static_cast<Slot*>(batch->user_data);
      slot.is_in_flight = false;
      --in_flight_;
      std::vector<Message> messages;
      for (std::size_t i = 0; i < slot.items.size(); ++i) messages.push_back(result(kind, slot, i));
      send(messages);
    }
  }

  Message result(Kind kind, const Slot& slot, std::size_t index) {
    const Item& item = slot.items[index];
    const Slot::Part& part = slot.parts[index];
    Message message{.kind = kind,
                    .op = slot.batch.op,
                    .outcome = item.outcome,
                    .existed = item.existed,
                    .key = part.key,
                    .operation = slot.operation + index,
                    .version = part.version};
    // A store or a delete may be refused for want of a free segment; nothing else goes wrong here.
    const bool may_fail =
        slot.batch.op != Op::kGet && item.error.code() == ErrorCode::kResourceExhausted;
    if (item.outcome == Outcome::kFailed && !may_fail) {
      fail("'" + part.name + "': " + item.error.to_string());
    }
    if (slot.batch.op != Op::kGet || item.outcome != Outcome::kHit) return message;
    const auto version = content_.version_of(
        part.key, {part.slice.data, static_cast<std::size_t>(item.value_bytes)});
    if (!version) fail("'" + part.name + "': a hit with bytes that nobody stored under this key");
    message.version = *version;
    return message;
  }

  void publish_gauges() {
    for (const Counter& counter : connector_.report().counters) {
      const auto value = static_cast<std::uint32_t>(counter.value);
      if (counter.name == "segments_sealing") page_.segments_sealing = value;
      if (counter.name == "segments_reclaiming") page_.segments_reclaiming = value;
    }
  }

 public:
  static void send(const std::vector<Message>& messages) {
    const std::size_t bytes = messages.size() * sizeof(Message);
    // Below PIPE_BUF, so it is written as a whole.
    if (bytes > 0 && ::write(kReportFd, messages.data(), bytes) != static_cast<ssize_t>(bytes)) {
      fail("nobody reads the report");
    }
  }

 private:
  const Content& content_;
  Connector& connector_;
  SharedPage& page_;
  Random random_;
  std::uint64_t next_version_;
  std::uint64_t next_operation_ = kOperationsPerBatch;
  std::size_t in_flight_ = 0;
  std::array<Slot, kBatches> slots_;
};

Options parse(char** arguments, int count) {
  if (count != 8) {
    fail(
        "usage: larder_crash_writer SPEC SEED LIFE HOT FILLER VALUE_MIN VALUE_MAX "
        "(negative LIFE: the last one)");
  }
  const auto number = [&](int i) { return std::strtoull(arguments[i], nullptr, 10); };
  Options options;
  options.spec = arguments[1];
  options.seed = number(2);
  options.is_last = arguments[3][0] == '-';
  options.life = options.is_last ? 0 : number(3);
  options.content = {.hot_keys = static_cast<std::uint32_t>(number(4)),
                     .filler_keys = static_cast<std::uint32_t>(number(5)),
                     .value_bytes_min = number(6),
                     .value_bytes_max = number(7)};
  return options;
}

int run(const Options& options) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // Whatever becomes of the test, this does not outlive it.
  set_log_level(LogLevel::kError);
  void* const page =
      ::mmap(nullptr, sizeof(SharedPage), PROT_READ | PROT_WRITE, MAP_SHARED, kPageFd, 0);
  if (page == MAP_FAILED) fail("cannot map the shared page");
  auto connector = builtin_registry().open(options.spec);
  if (!connector) fail(connector.error().text);
  Writer::send({{.kind = Kind::kOpened}});
  Writer writer{options, **connector, *static_cast<SharedPage*>(page)};
  writer.tell_all();
  if (!options.is_last) writer.work();
  if (!(*connector)->stop(kNever)) fail("the store cannot be stopped");
  Writer::send({{.kind = Kind::kClosed}});
  return 0;
}

}  // namespace
}  // namespace larder::crash

int main(int count, char** arguments) {
  return larder::crash::run(larder::crash::parse(arguments, count));
}
