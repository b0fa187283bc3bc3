#include "tests/corruption/open_image.h"

#include "larder/base/check.h"

namespace larder::corruption {
namespace {

/// Far more rounds than any batch takes: a path that needs them turns without end.
constexpr int kRoundsMax = 1'000'000;
constexpr std::size_t kScanPage = 16;

}  // namespace

log_store::PathOptions OpenImage::options(std::uint64_t capacity_bytes,
                                          std::uint64_t value_bytes_max) {
  log_store::PathOptions options;
  options.capacity_bytes = capacity_bytes;
  options.value_bytes_max = value_bytes_max;
  options.io_bytes = 256U << 10;
  options.coalesce_bytes = 256U << 10;
  options.staging_bytes = 1U << 20;
  options.hash_threads = 0;
  return options;
}

SetupResult<std::unique_ptr<OpenImage>> OpenImage::open(StoreImage& image,
                                                        const log_store::PathOptions& options) {
  std::unique_ptr<OpenImage> opened{new OpenImage{image}};
  opened->value_bytes_max_ = options.value_bytes_max;
  LARDER_ASSIGN(opened->path_, log_store::LogPath::open(options, opened->device_, opened->device_,
                                                        opened->clock_, "the image"));
  return opened;
}

template <class Condition>
void OpenImage::turn_until(Condition&& is_done) {
  for (int rounds = 0; !is_done(); ++rounds) {
    LARDER_CHECK(rounds < kRoundsMax);
    path_->turn();
    if (!is_done()) device_.wait(path_->next_timer_ns());
  }
}

void OpenImage::run(Batch& batch) {
  LARDER_CHECK(path_->intake().submit(batch).has_value());
  Batch* finished = nullptr;
  turn_until([&] { return finished != nullptr || path_->intake().reap({&finished, 1}) == 1; });
}

std::vector<Found> OpenImage::read(std::span<const std::string> keys,
                                   std::vector<std::byte>& memory) {
  if (keys.empty()) return {};
  if (memory.size() < keys.size() * value_bytes_max_) {
    memory.resize(keys.size() * value_bytes_max_);
  }
  std::vector<Slice> slices(keys.size());
  std::vector<Item> items(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    slices[i] = {.data = memory.data() + i * value_bytes_max_, .bytes = value_bytes_max_};
    items[i].key = std::as_bytes(std::span{keys[i]});
    items[i].value = {&slices[i], 1};
  }
  Batch batch;
  batch.items = items;
  batch.op = Op::kGet;
  batch.allow_shorter = true;
  run(batch);
  std::vector<Found> found;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Item& item = items[i];
    const std::uint64_t bytes = item.outcome == Outcome::kHit ? item.value_bytes : 0;
    LARDER_CHECK(bytes <= value_bytes_max_);
    found.push_back({.outcome = item.outcome,
                     .error = item.error.code(),
                     .value = {slices[i].data, static_cast<std::size_t>(bytes)}});
  }
  return found;
}

Outcome OpenImage::set(const std::string& key, std::span<const std::byte> value) {
  Slice slice{.data = const_cast<std::byte*>(value.data()), .bytes = value.size()};
  Item item;
  item.key = std::as_bytes(std::span{key});
  item.value = {&slice, 1};
  Batch batch;
  batch.items = {&item, 1};
  batch.op = Op::kSet;
  batch.set_mode = SetMode::kReplace;
  run(batch);
  return item.outcome;
}

std::vector<std::string> OpenImage::scan() {
  std::vector<std::string> keys;
  log_store::ScanTask task;
  task.keys_max = kScanPage;
  task.on_done = [](log_store::ScanTask& done) noexcept { done.user_data = nullptr; };
  for (int pages = 0;; ++pages) {
    LARDER_CHECK(pages < kRoundsMax);
    task.user_data = this;  // Until it is done.
    path_->start_scan(task);
    turn_until([&] { return task.user_data == nullptr; });
    LARDER_CHECK(task.page.has_value());
    for (const ScanPage::Entry& entry : task.page->entries) keys.push_back(entry.key);
    if (task.page->done) return keys;
    task.from = task.page->next;
  }
}

Status OpenImage::close() {
  path_->intake().stop();
  path_->begin_stop();
  turn_until([&] { return path_->is_idle(); });
  Status closed = path_->close();
  path_.reset();
  return closed;
}

}  // namespace larder::corruption
