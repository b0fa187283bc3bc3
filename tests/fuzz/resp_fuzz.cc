// The parser of the Redis protocol: what it tells must not depend on where the input is cut, and
// must hold its limits. The first byte chooses the cuts.
#include "larder/base/random.h"
#include "larder/connectors/resp/resp_parser.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

using resp::ParserLimits;
using resp::RespParser;
using Event = RespParser::Event;

constexpr ParserLimits kLimits{
    .bulk_bytes_max = 4096, .array_elements_max = 100, .line_bytes_max = 1000};

struct Told {
  Event event = Event::kNeedMore;
  std::string text;
  std::int64_t number = 0;
  friend bool operator==(const Told&, const Told&) = default;
};

/// Takes all of a piece. False: the parser is broken.
bool read(RespParser& parser, std::span<const std::byte> piece, std::string& payload,
          std::vector<Told>& told) {
  for (;;) {
    if (parser.payload_left() > 0) {
      LARDER_CHECK(parser.payload_left() <= kLimits.bulk_bytes_max);
      const std::size_t taken = std::min<std::size_t>(parser.payload_left(), piece.size());
      if (taken == 0) return true;
      payload.append(reinterpret_cast<const char*>(piece.data()), taken);
      parser.took_payload(taken);
      piece = piece.subspan(taken);
      continue;
    }
    const std::size_t before = piece.size();
    const Event event = parser.next(piece);
    LARDER_CHECK(piece.size() <= before);
    LARDER_CHECK(parser.text().size() <= RespParser::kTextBytesMax);
    switch (event) {
      case Event::kNeedMore:
        LARDER_CHECK(piece.empty());
        return true;
      case Event::kBroken:
        LARDER_CHECK(*parser.broken_why() != '\0');
        told.push_back({event, parser.broken_why(), 0});
        return false;
      case Event::kSimple:
      case Event::kError:
        told.push_back({event, std::string{parser.text()}, 0});
        break;
      case Event::kArray:
        LARDER_CHECK(parser.integer() >= 0 &&
                     parser.integer() <= static_cast<std::int64_t>(kLimits.array_elements_max));
        [[fallthrough]];
      case Event::kInteger:
        told.push_back({event, "", parser.integer()});
        break;
      case Event::kNull:
        told.push_back({event, "", 0});
        break;
      case Event::kBulk:
        LARDER_CHECK(parser.bulk_bytes() <= kLimits.bulk_bytes_max);
        payload.clear();
        told.push_back({event, "", static_cast<std::int64_t>(parser.bulk_bytes())});
        break;
      case Event::kBulkEnd:
        LARDER_CHECK(payload.size() == parser.bulk_bytes());
        told.push_back({event, payload, 0});
        break;
    }
  }
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  Input input{bytes};
  Random cuts{input.take<std::uint8_t>()};
  std::span<const std::byte> rest = input.rest();

  std::vector<Told> at_once;
  RespParser whole{kLimits};
  std::string payload;
  read(whole, rest, payload, at_once);

  std::vector<Told> in_pieces;
  RespParser cut{kLimits};
  payload.clear();
  while (!rest.empty()) {
    const std::size_t size = std::min<std::size_t>(rest.size(), 1 + cuts.below(20));
    if (!read(cut, rest.first(size), payload, in_pieces)) break;
    rest = rest.subspan(size);
  }
  LARDER_CHECK(at_once == in_pieces);
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const std::string_view text :
       {"+OK\r\n", "-ERR no such thing\r\n", ":1000\r\n:-1\r\n", "$-1\r\n*-1\r\n",
        "$5\r\nhello\r\n+PONG\r\n", "*2\r\n$1\r\na\r\n:7\r\n", "$0\r\n\r\n",
        "$12\r\n$5\r\nhello\r\n\r\n-MOVED 1 127.0.0.1:1\r\n", "$4097\r\n", "*101\r\n",
        ":9223372036854775808\r\n", "$3\r\nabcd\r\n"}) {
    all.push_back(seed(1, to_bytes(text)));
  }
  return all;
}

}  // namespace larder::fuzz
