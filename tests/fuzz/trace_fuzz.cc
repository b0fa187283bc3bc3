// Traces as people have them: a line, a date, and a whole file, plain or of gzip.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "larder/base/unique_fd.h"
#include "larder/tools/block_trace.h"
#include "larder/tools/trace.h"
#include "larder/tools/trace_time.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

using namespace std::string_view_literals;

const std::atomic<bool> kNoStop = false;

void check_line(std::string_view text) {
  const auto line = tools::parse_trace_line(text);
  if (!line) {
    LARDER_CHECK(line.error().code == ErrorCode::kInvalidArgument && !line.error().text.empty());
    return;
  }
  // What the line is made of is in it.
  LARDER_CHECK(line->request.blocks.size() <= text.size());
  LARDER_CHECK(line->request.timestamp_ns < std::uint64_t{1} << 63);
  for (const std::string_view name : line->ignored_fields) {
    LARDER_CHECK(name.data() >= text.data() &&
                 name.data() + name.size() <= text.data() + text.size());
  }
}

void check_trace(const tools::Trace& trace) {
  LARDER_CHECK(!trace.requests.empty());
  std::uint64_t before_ns = 0;
  for (const tools::TraceRequest& request : trace.requests) {
    LARDER_CHECK(request.timestamp_ns >= before_ns);
    before_ns = request.timestamp_ns;
    LARDER_CHECK(request.block_tokens == trace.block_tokens && !request.blocks.empty());
    LARDER_CHECK(tools::tokens_of(request, request.blocks.size()) <= request.input_tokens);
  }
  const auto blocks = tools::BlockTrace::make(trace.requests);
  LARDER_CHECK(blocks && blocks->blocks() <= blocks->references());
}

void check_file(std::span<const std::byte> bytes) {
  const UniqueFd file{::memfd_create("trace_fuzz", MFD_CLOEXEC)};
  LARDER_CHECK(file);
  LARDER_CHECK(::write(file.get(), bytes.data(), bytes.size()) ==
               static_cast<ssize_t>(bytes.size()));
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  const auto trace = tools::read_trace({.trace_path = path}, kNoStop);
  if (trace) {
    check_trace(*trace);
  } else {
    LARDER_CHECK(trace.error().code == ErrorCode::kInvalidArgument &&
                 trace.error().text.starts_with(path + ":"));
  }
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  check_line(text);
  if (const auto ns = tools::parse_date_time_ns(text)) {
    LARDER_CHECK(*ns < std::uint64_t{1} << 63);
  }
  // A frame of zstd may ask for 2 GiB, which the reader grants and the fuzzer does not. libzstd is
  // fuzzed by its authors.
  if (text.starts_with("\x28\xB5\x2F\xFD") ||
      (text.size() >= 4 && text.substr(1, 3) == "\x2A\x4D\x18")) {
    return;
  }
  check_file(bytes);
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const std::string_view text :
       {R"({"timestamp": 27, "input_length": 513, "output_length": 9, "hash_ids": [0, 1]})"sv,
        R"({"timestamp": "2023-11-16 18:17:03.97", "hash_ids": ["0xab", -1], "session_id": "s"})"sv,
        R"({"chat_id": 1, "a": {"b": [1, null, true]}, "block_size": 16, "hash_ids": [1]})"sv,
        "\xEF\xBB\xBF{\"hash_ids\":[1]}\r\n\r\n{\"timestamp\":1.5,\"hash_ids\":[2]}\n"
        "{\"timestamp\":0.5,\"hash_ids\":[2,3]}"sv,
        "2024-05-10T00:00:00.25+02:00"sv, "1970-01-01 00:00:00Z"sv,
        // Two members of gzip: {"hash_ids":[1]} and an empty one.
        "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\xca\x48\x2c\xce\x88\xcf\x4c\x29"
        "\x56\xb2\x8a\x36\x8c\xad\xe5\x02\x00\xe8\xe6\x18\x3c\x11\x00\x00\x00\x1f\x8b\x08"
        "\x00\x00\x00\x00\x00\x02\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"sv}) {
    all.push_back(to_bytes(text));
  }
  return all;
}

}  // namespace larder::fuzz
