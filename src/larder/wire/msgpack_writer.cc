#include "larder/wire/msgpack_writer.h"

#include "larder/base/check.h"

namespace larder::wire {

void MsgpackWriter::big_endian(std::uint64_t value, unsigned bytes) {
  for (unsigned shift = 8 * bytes; shift > 0;) {
    shift -= 8;
    put(static_cast<unsigned>(value >> shift) & 0xFFU);
  }
}

void MsgpackWriter::integer(std::uint64_t value) {
  if (value < 0x80) {
    put(static_cast<unsigned>(value));
  } else if (value <= 0xFF) {
    put(0xCC), big_endian(value, 1);
  } else if (value <= 0xFFFF) {
    put(0xCD), big_endian(value, 2);
  } else if (value <= 0xFFFF'FFFF) {
    put(0xCE), big_endian(value, 4);
  } else {
    put(0xCF), big_endian(value, 8);
  }
}

void MsgpackWriter::negative(std::int64_t value) {
  LARDER_CHECK(value < 0);
  const auto bits = static_cast<std::uint64_t>(value);
  if (value >= -32) {
    put(static_cast<unsigned>(bits) & 0xFFU);
  } else if (value >= INT8_MIN) {
    put(0xD0), big_endian(bits, 1);
  } else if (value >= INT16_MIN) {
    put(0xD1), big_endian(bits, 2);
  } else if (value >= INT32_MIN) {
    put(0xD2), big_endian(bits, 4);
  } else {
    put(0xD3), big_endian(bits, 8);
  }
}

void MsgpackWriter::text(std::string_view value) {
  const std::size_t bytes = value.size();
  LARDER_CHECK(bytes <= 0xFFFF'FFFF);
  if (bytes < 32) {
    put(0xA0U | static_cast<unsigned>(bytes));
  } else if (bytes <= 0xFF) {
    put(0xD9), big_endian(bytes, 1);
  } else if (bytes <= 0xFFFF) {
    put(0xDA), big_endian(bytes, 2);
  } else {
    put(0xDB), big_endian(bytes, 4);
  }
  append(std::as_bytes(std::span{value}));
}

void MsgpackWriter::binary(std::span<const std::byte> value) {
  const std::size_t bytes = value.size();
  LARDER_CHECK(bytes <= 0xFFFF'FFFF);
  if (bytes <= 0xFF) {
    put(0xC4), big_endian(bytes, 1);
  } else if (bytes <= 0xFFFF) {
    put(0xC5), big_endian(bytes, 2);
  } else {
    put(0xC6), big_endian(bytes, 4);
  }
  append(value);
}

void MsgpackWriter::array(std::size_t count) {
  LARDER_CHECK(count <= 0xFFFF'FFFF);
  if (count < 16) {
    put(0x90U | static_cast<unsigned>(count));
  } else if (count <= 0xFFFF) {
    put(0xDC), big_endian(count, 2);
  } else {
    put(0xDD), big_endian(count, 4);
  }
}

void MsgpackWriter::map(std::size_t count) {
  LARDER_CHECK(count <= 0xFFFF'FFFF);
  if (count < 16) {
    put(0x80U | static_cast<unsigned>(count));
  } else if (count <= 0xFFFF) {
    put(0xDE), big_endian(count, 2);
  } else {
    put(0xDF), big_endian(count, 4);
  }
}

}  // namespace larder::wire
