// Commands of the admin HTTP (S28) about workers. cache_requests.cc has those of the cache.

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <variant>

#include "larder/base/logging.h"
#include "larder/base/size_text.h"
#include "larder/server/service_core.h"

namespace larder::server {
namespace {

using Kind = AdminError::Kind;

/// Registrations wait while the backend sums: this takes some three seconds.
constexpr std::uint64_t kSummedBytesMax = std::uint64_t{2} << 30;
/// Includes workers whose clients have gone.
constexpr std::size_t kChecksumsMax = 2;

AdminError error(Kind kind, std::string text) {
  return {.kind = kind, .text = std::move(text)};
}

template <class Visit>
void for_each_kernel(const CopyPlan& plan, Visit visit) {
  for (const ObjectGroupPlan& group : plan.groups) {
    for (const KernelGroupPlan& kernel : group.kernels) visit(kernel.shape);
  }
}

/// Whether the worker's memory has these blocks, and few enough of them.
Result<void, AdminError> check_command(const CopyPlan& plan, const ChecksumCommand& command) {
  if (command.blocks.empty()) {
    return error(Kind::kInvalid, "block_ids is required: the worker's blocks, as in [1, 2, 3]");
  }
  if (command.blocks_per_chunk == 0) {
    return error(Kind::kInvalid, "chunk_size must be positive: the blocks of a checksum, as in 16");
  }
  std::uint64_t blocks = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t bytes_each = 0;
  for_each_kernel(plan, [&](const CopyShape& shape) {
    blocks = std::min(blocks, shape.blocks);
    bytes_each += std::uint64_t{shape.planes} * shape.layers * block_bytes(shape);
  });
  const std::uint32_t highest = std::ranges::max(command.blocks);
  if (highest >= blocks) {
    return error(Kind::kInvalid, "block_ids: there is no block " + std::to_string(highest) +
                                     "; the worker has blocks 0 to " + std::to_string(blocks - 1));
  }
  if (bytes_each > kSummedBytesMax / command.blocks.size()) {
    return error(Kind::kInvalid, "block_ids: " + std::to_string(command.blocks.size()) +
                                     " blocks have more than " + format_bytes(kSummedBytesMax) +
                                     "; ask for fewer at once");
  }
  return {};
}

}  // namespace

void Service::Core::on_admin(AdminCommand command, AdminDone done) {
  std::visit([&](auto& each) { carry_out(each, done); }, command);
}

void Service::Core::carry_out(ChecksumCommand& command, AdminDone& done) {
  if (is_draining_) {
    return done(error(Kind::kBusy, "the server is ending; ask again when it has been restarted"));
  }
  const Instance* const instance = instances_.find({command.instance, true});
  if (instance == nullptr) {
    const bool copies_itself = instances_.find({command.instance, false}) != nullptr;
    return done(error(Kind::kNotFound,
                      "instance_id " + command.instance.to_string() + " not registered" +
                          (copies_itself ? " for transfers that the server drives: the server "
                                           "cannot read the memory of a worker that copies itself"
                                         : "")));
  }
  if (const auto checked = check_command(*instance->plan, command); !checked) {
    return done(checked.error());
  }
  if (copies_.checksums.size() == kChecksumsMax) {
    return done(error(Kind::kBusy, "other checksums are being computed; ask again in a moment"));
  }
  auto checksums = std::make_unique<Checksums>();
  checksums->request = {.blocks = std::move(command.blocks),
                        .blocks_per_chunk = command.blocks_per_chunk,
                        .is_by_layer = command.is_by_layer,
                        .checksums = {}};
  checksums->layers = layers_of(*instance->plan);
  checksums->job.op = CopyOp::kChecksum;
  checksums->job.view = instance->view;
  checksums->job.checksums = &checksums->request;
  if (const Status submitted = copies_backend_->submit(checksums->job); !submitted) {
    return done(error(Kind::kBusy, submitted.error().to_string()));
  }
  checksums->done = std::move(done);
  copies_.checksums.push_back(std::move(checksums));
}

void Service::Core::finish(Checksums& checksums) {
  if (checksums.job.outcome != CopyOutcome::kDone) {
    return checksums.done(error(Kind::kFailed, checksums.job.error.to_string()));
  }
  checksums.done(
      AdminResult{.checksums = std::move(checksums.request.checksums), .layers = checksums.layers});
}

}  // namespace larder::server
