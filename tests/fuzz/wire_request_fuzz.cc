// A message of several frames: envelope, operation, arguments, and the answer to its failure.
#include "larder/wire/reply.h"
#include "larder/wire/request.h"
#include "tests/fuzz/fuzz_target.h"

namespace larder::fuzz {
namespace {

/// A message as one input: each frame behind its length of two bytes.
void append_frame(Bytes& out, const Bytes& frame) {
  out.push_back(static_cast<std::byte>(frame.size()));
  out.push_back(static_cast<std::byte>(frame.size() >> 8U));
  out.insert(out.end(), frame.begin(), frame.end());
}

}  // namespace

void run(std::span<const std::byte> bytes) {
  Input input{bytes};
  std::vector<Bytes> frames;  // Of their exact size, so that ASan sees every byte beyond.
  while (!input.empty() && frames.size() < 20) {
    const auto frame = input.take_bytes(input.take<std::uint16_t>());
    frames.emplace_back(frame.begin(), frame.end());
  }
  const std::vector<wire::Frame> views(frames.begin(), frames.end());
  const auto envelope = wire::read_envelope(views);
  if (!envelope) return;
  static_cast<void>(wire::uid_number(envelope->uid));
  const auto operation = wire::decode_operation(envelope->operation_frame);
  if (!operation) return;
  if (!*operation) {
    LARDER_CHECK(!wire::encode_unknown_operation(operation->error()).operation.empty());
    return;
  }
  const auto arguments = wire::decode_arguments(**operation, envelope->arguments);
  if (arguments) return;
  LARDER_CHECK(!arguments.error().field.empty() && !arguments.error().remedy.empty());
  const auto failure = wire::encode_failure(**operation, arguments.error().to_string());
  LARDER_CHECK(failure.has_payload == !failure.payload.empty());
  wire::MsgpackReader reader{failure.has_payload ? failure.payload : failure.operation};
  std::size_t values = 100;
  if (!reader.at_end()) LARDER_CHECK(reader.skip(values) && reader.at_end());
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const wire::OperationInfo& each : wire::operations()) {
    for (const bool by_name : {false, true}) {
      Bytes message;
      append_frame(message, Bytes{std::byte{0}});
      Bytes operation;
      wire::MsgpackWriter writer{operation};
      if (by_name) {
        writer.text(each.name);
      } else {
        writer.integer(static_cast<std::uint64_t>(each.operation));
      }
      append_frame(message, operation);
      for (unsigned i = 0; i < each.arguments_max; ++i) {
        append_frame(message, to_bytes(i == 0 ? "\x81\xa5start\x01" : "\x92\x91\x01\x90"));
      }
      all.push_back(message);
    }
  }
  Bytes registration;
  append_frame(registration, Bytes{std::byte{0}});
  append_frame(registration, Bytes{std::byte{14}});
  append_frame(registration, to_bytes("\x84\xabinstance_id\x01\xaamodel_name\xa1m\xa9"
                                      "dtype_str"
                                      "\xa7"
                                      "float16\xadgroup_layouts\x91\x80"));
  all.push_back(registration);
  Bytes tensor;
  append_frame(tensor, Bytes{std::byte{0}});
  append_frame(tensor, Bytes{std::byte{1}});
  append_frame(tensor, Bytes{std::byte{7}});
  append_frame(tensor, to_bytes("\x91\xc7\x52\x01\x85\xa4type\xa7"
                                "cpu_shm\xa8shm_name\xa0\xa6nbytes\x10\xa7version\x01\xa8metadata"
                                "\x83\xa5"
                                "dtype\xa5uint8\xa5shape\x92\x02\x04\xa6stride\x92\x04\x01"));
  append_frame(tensor, to_bytes("\xa1m"));
  append_frame(tensor, Bytes{std::byte{1}});
  append_frame(tensor, to_bytes("\xa4vllm"));
  append_frame(tensor, to_bytes("\x81\xa9kv_layout\xa3NHD"));
  append_frame(tensor, to_bytes("\x91\x82\xaf"
                                "engine_group_id\x01\xadlayer_indices\x91\x01"));
  all.push_back(tensor);
  return all;
}

}  // namespace larder::fuzz
