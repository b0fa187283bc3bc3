#include "larder/connectors/log/machine/record_writer.h"

#include <span>
#include <utility>

#include "larder/connectors/log/format/rule.h"

namespace larder::log_store {

bool RecordWriter::prepare(StoreTask& task) noexcept {
  if (task.header.size() != 0) return true;
  auto header = AlignedBuffer::create(state_.grain_bytes(), state_.grain_bytes());
  if (!header) return false;
  task.header = std::move(*header);
  return true;
}

std::uint64_t RecordWriter::plan(const Head& head, StoreTask& task) const noexcept {
  task.is_packed = state_.kind_of_new(task.value_bytes) == RecordKind::kPack;
  task.begins_pack = task.is_packed && !(head.segment() && runs_.can_join(task, head.next()));
  return record_bytes(task.value_bytes, state_.grain_bytes(), task.kind()) +
         (task.begins_pack ? state_.grain_bytes() : 0);
}

void RecordWriter::take_place(Head& head, StoreTask& task) noexcept {
  task.location = head.allocate(plan(head, task), 1, task.key.size());
  if (task.begins_pack) ++task.location.grain;
}

void RecordWriter::start(StoreTask& task) noexcept {
  if (is_broken(Rule::kPublishWhenComplete)) {
    state_.publish(task.fingerprint, {.location = task.location,
                                      .value_bytes = static_cast<std::uint32_t>(task.value_bytes),
                                      .is_packed = task.is_packed});
  }
  task.error = {};
  task.was_published = false;
  task.is_waiting = task.header_submitted = false;
  task.submitted = 0;
  task.transfers_in_flight = 0;
  task.next_in_write = nullptr;
  task.is_direct = is_aligned(task.value, task.value_bytes, state_.alignment);
  task.is_hashed = task.source.has_value();  // A move carries its checksum over (L8).
  if (!task.is_hashed) {
    task.hash.reset();
    task.hash_memory.clear();
    append_range(task.hash_memory, task.value, 0, task.value_bytes);
    if (task.value_bytes < kHashInlineBytesMax) {
      for (const iovec& part : task.hash_memory) {
        task.hash.update({static_cast<const std::byte*>(part.iov_base), part.iov_len});
      }
      task.checksum = task.hash.digest();
      task.is_hashed = true;
    } else {
      task.hash_job = {.memory = task.hash_memory,
                       .state = &task.hash,
                       .user_data = &task,
                       .tag = kHashOfStoreTask};
      state_.hash_pool->submit(task.hash_job);
    }
  }
  write(task);
}

void RecordWriter::on_hashed(StoreTask& task) noexcept {
  task.checksum = task.hash.digest();
  task.is_hashed = true;
  write(task);
}

/// Goes on with whatever the record is ready for.
void RecordWriter::write(StoreTask& task) noexcept {
  if (is_long(task)) return pieces_.advance(task);
  if (task.is_hashed) runs_.add(task);
}

void RecordWriter::pump() noexcept {
  while (!waiting_.empty()) {
    StoreTask& task = waiting_.front();
    if (!(is_long(task) ? pieces_.submit(task) : runs_.submit(task))) return;
    waiting_.pop();
    if (is_long(task)) pieces_.advance(task);
  }
}

void RecordWriter::fail_waiting(const Error& error) noexcept {
  WaitingRecords waiting = std::exchange(waiting_, {});
  while (!waiting.empty()) {
    StoreTask& task = waiting.front();
    waiting.pop();
    if (!is_long(task)) {
      runs_.fail(task, error);
      continue;
    }
    task.error = error;
    pieces_.advance(task);
  }
}

}  // namespace larder::log_store
