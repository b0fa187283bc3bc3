#include "larder/server/instances.h"

#include <algorithm>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/base/size_text.h"
#include "larder/wire/dtype.h"

namespace larder::server {
namespace {

/// The slots of one group, as they are described to the worker.
struct Group {
  std::uint32_t layers = 0;
  std::uint32_t hidden = 0;
  std::string_view dtype;
  std::uint32_t planes = 0;
  std::uint32_t tokens = 0;
  std::uint32_t window_chunks = 0;
};

/// Nothing: more than a value may have.
std::optional<std::uint64_t> bytes_of(const Group& group) {
  const auto element = wire::dtype_bytes(group.dtype);
  LARDER_CHECK(element.has_value());  // The decoder has checked it.
  std::uint64_t bytes = *element;
  for (const std::uint64_t factor : {group.planes, group.layers, group.tokens, group.hidden}) {
    if (bytes > kValueBytesMax / factor) return std::nullopt;
    bytes *= factor;
  }
  return bytes;
}

std::vector<Group> groups_of(const wire::EngineDrivenRegistration& registration,
                             std::uint32_t chunk_tokens) {
  const std::uint32_t tokens = registration.num_physical_slots.value_or(chunk_tokens);
  const std::uint32_t planes = registration.use_mla ? 1 : 2;
  std::vector<Group> groups;
  for (const wire::GroupLayout& each : registration.groups) {
    groups.push_back({.layers = each.num_layers,
                      .hidden = each.hidden_dim_size,
                      .dtype = each.dtype,
                      .planes = each.planes == 0 ? planes : each.planes,
                      .tokens = each.window_tokens == 0 ? tokens : each.window_tokens,
                      .window_chunks = each.window_chunks});
  }
  if (groups.empty()) {
    groups.push_back({.layers = registration.num_layers,
                      .hidden = registration.hidden_dim_size,
                      .dtype = registration.dtype,
                      .planes = planes,
                      .tokens = tokens,
                      .window_chunks = 0});
  }
  // A worker of one group wants a slot for every chunk.
  if (groups.size() == 1) groups.front().window_chunks = 0;
  return groups;
}

std::string too_many_rows(std::string_view model, std::uint32_t world_size, std::size_t groups) {
  return "model \"" + printable(model) + "\" has a world size of " + std::to_string(world_size) +
         " and " + std::to_string(groups) + " KV groups; together they may have at most " +
         std::to_string(cache::kRowsMax) + " parts of a chunk: split it into fewer ranks";
}

std::string too_large_chunk(std::string_view model, std::uint32_t chunk_tokens) {
  return "a chunk of model \"" + printable(model) + "\" takes more than " +
         format_bytes(kValueBytesMax) + " on one rank; start the server with a smaller " +
         "--chunk-size than " + std::to_string(chunk_tokens);
}

void fill_groups(const Instance& instance, std::vector<GroupStatus>& out) {
  for (std::size_t i = 0; i < instance.slots.size(); ++i) {
    const std::vector<std::uint64_t>& shape = instance.shapes[i];  // Ends: layers, tokens, hidden.
    const cache::GroupSpec& group = instance.layout_spec.groups[i];
    out.push_back({.num_layers = static_cast<std::uint32_t>(shape[shape.size() - 3]),
                   .hidden = static_cast<std::uint32_t>(shape.back()),
                   .planes = group.planes,
                   .window_chunks = group.window_chunks,
                   .dtype = instance.dtypes[i]});
  }
}

void fill_groups(const CopyPlan& plan, std::vector<GroupStatus>& out) {
  for (const ObjectGroupPlan& group : plan.groups) {
    for (const KernelGroupPlan& kernel : group.kernels) {
      const auto element = wire::dtype_bytes(kernel.dtype).value_or(1);
      out.push_back({.num_layers = kernel.shape.layers,
                     .hidden = static_cast<std::uint32_t>(slot_bytes(kernel.shape) / element),
                     .planes = kernel.shape.planes,
                     .window_chunks = group.window_chunks,
                     .dtype = kernel.dtype});
    }
  }
}

}  // namespace

std::uint64_t Instance::chunk_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const cache::GroupSpec& group : layout_spec.groups) bytes += group.cell_bytes;
  return bytes;
}

std::uint32_t Instances::dtype_number(std::string_view dtype) {
  const auto found = std::ranges::find(dtypes_, dtype);
  if (found != dtypes_.end()) return static_cast<std::uint32_t>(found - dtypes_.begin());
  dtypes_.emplace_back(dtype);
  return static_cast<std::uint32_t>(dtypes_.size() - 1);
}

/// The instance as it will be; the engine has no part of it yet.
Result<std::unique_ptr<Instance>, std::string> Instances::describe(
    const wire::EngineDrivenRegistration& registration, std::uint32_t chunk_tokens) {
  auto made = std::make_unique<Instance>();
  made->id = registration.instance;
  made->model = registration.model;
  made->world_size = registration.world_size;
  made->block_tokens = registration.block_size;
  made->num_layers = registration.num_layers;
  made->dtype = registration.dtype;
  made->is_mla = registration.use_mla;
  made->layout_spec = {.model = made->model, .world_size = made->world_size, .groups = {}};
  const std::vector<Group> groups = groups_of(registration, chunk_tokens);
  made->has_groups = groups.size() > 1;
  if (groups.size() > cache::kRowsMax / made->world_size) {
    return too_many_rows(registration.model, made->world_size, groups.size());
  }
  for (const Group& group : groups) {
    const auto bytes = bytes_of(group);
    if (!bytes) {
      return too_large_chunk(registration.model, chunk_tokens);
    }
    std::vector<std::uint64_t>& shape = made->shapes.emplace_back();
    if (group.planes > 1) shape.push_back(group.planes);
    shape.insert(shape.end(), {group.layers, group.tokens, group.hidden});
    made->dtypes.emplace_back(group.dtype);
    made->layout_spec.groups.push_back({.cell_bytes = *bytes,
                                        .window_chunks = group.window_chunks,
                                        .planes = group.planes,
                                        .dtype = dtype_number(group.dtype)});
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    made->slots.push_back({.shape = made->shapes[i], .dtype = made->dtypes[i]});
  }
  return made;
}

Result<void, std::string> Instances::check_free(const WorkerId& id, ConnectionId connection,
                                                std::uint64_t now_ns) {
  const Instance* const before = find(id);
  if (before != nullptr && before->connection != connection && before->closed_ns == kNever &&
      now_ns - before->heard_ns < kActiveNs) {
    return "instance id " + id.id.to_string() +
           " is in use by another worker that is connected (model \"" + printable(before->model) +
           "\"); give each worker an id of its own, or end the other one";
  }
  return {};
}

Result<Instance*, std::string> Instances::add(const wire::EngineDrivenRegistration& registration,
                                              std::uint32_t chunk_tokens, ConnectionId connection,
                                              std::uint64_t now_ns) {
  LARDER_TRY(check_free({registration.instance, false}, connection, now_ns));
  LARDER_ASSIGN(std::unique_ptr<Instance> made, describe(registration, chunk_tokens));
  return put(std::move(made), connection, now_ns);
}

Result<void, std::string> Instances::check(const wire::Integer& id, std::string_view model,
                                           std::uint32_t world_size, const CopyPlan& plan,
                                           ConnectionId connection, std::uint64_t now_ns) {
  LARDER_TRY(check_free({id, true}, connection, now_ns));
  if (plan.groups.size() > cache::kRowsMax / world_size) {
    return too_many_rows(model, world_size, plan.groups.size());
  }
  for (const ObjectGroupPlan& group : plan.groups) {
    if (group.cell_bytes > kValueBytesMax) return too_large_chunk(model, plan.chunk_tokens);
  }
  return {};
}

Result<Instance*, std::string> Instances::add(const Driven& worker, ConnectionId connection,
                                              std::uint64_t now_ns) {
  LARDER_TRY(check_free({worker.id, true}, connection, now_ns));
  auto made = std::make_unique<Instance>();
  made->id = worker.id;
  made->model = worker.model;
  made->world_size = worker.world_size;
  made->plan = worker.plan;
  made->view = worker.view;
  made->num_layers = layers_of(*worker.plan);
  made->layout_spec = {.model = made->model, .world_size = made->world_size, .groups = {}};
  for (const ObjectGroupPlan& group : worker.plan->groups) {
    const KernelGroupPlan& first = group.kernels.front();
    made->layout_spec.groups.push_back({.cell_bytes = group.cell_bytes,
                                        .window_chunks = group.window_chunks,
                                        .planes = first.shape.planes,
                                        .dtype = dtype_number(first.dtype)});
  }
  const KernelGroupPlan& first = worker.plan->groups.front().kernels.front();
  made->block_tokens = first.tokens_per_block;
  made->dtype = first.dtype;
  made->is_mla = first.shape.planes == 1;
  return put(std::move(made), connection, now_ns);
}

Result<Instance*, std::string> Instances::put(std::unique_ptr<Instance> made,
                                              ConnectionId connection, std::uint64_t now_ns) {
  const WorkerId id{made->id, made->plan != nullptr};
  const Instance* const before = find(id);
  LARDER_CHECK(before == nullptr || !id.is_driven);  // Its memory is unmapped first.
  if (before == nullptr && by_id_.size() == kInstancesMax) {
    return "there are " + std::to_string(kInstancesMax) +
           " workers already; end those that are not needed, or wait until they are reaped";
  }
  // The old registration no longer counts, so that its layout may be replaced.
  if (before != nullptr) engine_.drop_layout(before->layout);
  const auto layout = engine_.add_layout(made->layout_spec);
  if (!layout) {
    if (before != nullptr) {
      const auto again = engine_.add_layout(before->layout_spec);
      LARDER_CHECK(again.has_value() && *again == before->layout);
    }
    return "model \"" + printable(made->model) + "\" with world size " +
           std::to_string(made->world_size) +
           " is registered with another KV layout by a worker that lives (" +
           std::string{layout.error().what()} +
           "); end that worker, or give this model another name";
  }
  if (before != nullptr) {
    // Its process lives, and may still be in the transfers that this ends.
    engine_.drop_owner(before->owner, cache::OwnerEnd::kReaped);
    spaces_.drop_registration(before->model, before->world_size);
  }
  made->layout = *layout;
  made->owner = engine_.add_owner(*layout);
  made->connection = connection;
  made->heard_ns = now_ns;
  spaces_.add_registration(made->model, made->world_size, *layout);
  take_owed(made->id);  // It does what the PING would have asked of it.
  std::unique_ptr<Instance>& place = by_id_[id];
  place = std::move(made);
  return place.get();
}

void Instances::release(const Instance& instance, cache::OwnerEnd why) {
  engine_.drop_owner(instance.owner, why);
  engine_.drop_layout(instance.layout);
  spaces_.drop_registration(instance.model, instance.world_size);
}

std::unique_ptr<Instance> Instances::take(const WorkerId& id) {
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return nullptr;
  std::unique_ptr<Instance> instance = std::move(found->second);
  by_id_.erase(found);
  return instance;
}

Instance* Instances::find(const WorkerId& id) noexcept {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second.get();
}

void Instances::note_heard(Instance& instance, ConnectionId connection,
                           std::uint64_t now_ns) noexcept {
  instance.connection = connection;
  instance.heard_ns = now_ns;
  instance.closed_ns = kNever;
}

void Instances::on_closed(ConnectionId connection, std::uint64_t now_ns) noexcept {
  for (const auto& [id, instance] : by_id_) {
    if (instance->connection == connection) instance->closed_ns = now_ns;
  }
}

void Instances::excuse_silence(std::uint64_t now_ns) noexcept {
  for (const auto& [id, instance] : by_id_) instance->heard_ns = now_ns;
}

void Instances::owe_false(const wire::Integer& id) {
  if (!owed_.insert(id).second) return;
  owed_order_.push_back(id);
  while (owed_order_.size() > kOwedMax) {
    owed_.erase(owed_order_.front());
    owed_order_.pop_front();
  }
}

bool Instances::take_owed(const wire::Integer& id) {
  if (owed_.erase(id) == 0) return false;
  std::erase(owed_order_, id);  // An old entry would end a later debt of the id.
  return true;
}

bool Instances::is_gone(const Instance& instance, std::uint64_t now_ns) const noexcept {
  if (instance.closed_ns != kNever && now_ns - instance.closed_ns >= kClosedGraceNs) return true;
  const std::uint64_t silent_ns = now_ns - instance.heard_ns;
  if (instance.heartbeat.pinged_ns == 0) return silent_ns > options_.worker_grace_ns;
  return options_.worker_reap_ns != 0 && silent_ns > options_.worker_reap_ns;
}

std::vector<WorkerId> Instances::gone(std::uint64_t now_ns) const {
  std::vector<WorkerId> gone;
  for (const auto& [id, instance] : by_id_) {
    if (is_gone(*instance, now_ns)) gone.push_back(id);
  }
  return gone;
}

std::uint64_t Instances::shortest_heartbeat_ns() const noexcept {
  std::uint64_t shortest_ns = kNever;
  for (const auto& [id, instance] : by_id_) {
    shortest_ns = std::min(shortest_ns, instance->heartbeat.period_ns);
  }
  return shortest_ns;
}

void Instances::fill(std::vector<InstanceStatus>& out, std::uint64_t now_ns) const {
  out.clear();
  for (const auto& [id, instance] : by_id_) {
    InstanceStatus& status = out.emplace_back();
    status.id = id.id.to_string();
    status.model = instance->model;
    status.world_size = instance->world_size;
    status.rank = instance->rank;
    status.num_layers = instance->num_layers;
    status.block_tokens = instance->block_tokens;
    status.dtype = instance->dtype;
    status.chunk_bytes = instance->chunk_bytes();
    status.silent_ns = now_ns - instance->heard_ns;
    status.connection = static_cast<std::uint64_t>(instance->connection);
    status.is_driven = instance->plan != nullptr;
    if (status.is_driven) {
      fill_groups(*instance->plan, status.groups);
    } else {
      fill_groups(*instance, status.groups);
    }
    status.is_mla = instance->is_mla;
    status.chunks_loaded = instance->chunks_loaded;
  }
  std::ranges::sort(out, {}, &InstanceStatus::id);
}

}  // namespace larder::server
