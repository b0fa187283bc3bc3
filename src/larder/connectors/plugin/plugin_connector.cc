#include "larder/connectors/plugin/plugin_connector.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "larder/base/check.h"
#include "larder/base/key_text.h"
#include "larder/connector/common_parameters.h"
#include "larder/connector/keys_in_use.h"
#include "larder/connector/worker_pool.h"

namespace larder::plugin {
namespace {

static_assert(LARDER_TEXT == static_cast<int>(ParameterKind::kText));
static_assert(LARDER_PATH == static_cast<int>(ParameterKind::kPath));
static_assert(LARDER_INTEGER == static_cast<int>(ParameterKind::kInteger));
static_assert(LARDER_BYTES == static_cast<int>(ParameterKind::kBytes));
static_assert(LARDER_DURATION == static_cast<int>(ParameterKind::kDuration));
static_assert(LARDER_BOOL == static_cast<int>(ParameterKind::kBool));
static_assert(LARDER_IN_MEMORY == static_cast<int>(Locality::kMemory));
static_assert(LARDER_ON_LOCAL_DISK == static_cast<int>(Locality::kLocalDisk));
static_assert(LARDER_ON_SHARED_FILES == static_cast<int>(Locality::kSharedFiles));
static_assert(LARDER_ON_A_SERVER == static_cast<int>(Locality::kRemote));

constexpr std::uint32_t kSlicesMax =
    1024;  // IOV_MAX: a plugin may hand them to readv() as they are.

// ---- What calls return --------------------------------------------------------------------------

/// `name` and the text of an errno live for ever.
Error error_of(const char* name, int number) {
  const char* const text = ::strerrordesc_np(number);
  const char* const what = text == nullptr ? "an unknown errno" : text;
  switch (number) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ENOTCONN:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
      return {ErrorCode::kUnavailable, name, what};
    case EBADMSG:
      return {ErrorCode::kCorruption, name, "the plugin found a damaged value"};
    case ENOTSUP:
    case ENOSYS:
      return {ErrorCode::kUnimplemented, name, "the plugin cannot do this"};
    default:
      return Error::from_errno(number, name, "a call of the plugin");
  }
}

/// Whether the key was there.
Result<bool> found_of(const char* name, int returned) {
  if (returned == LARDER_HIT) return true;
  if (returned == LARDER_MISS) return false;
  if (returned < 0) return error_of(name, -returned);
  return Error{ErrorCode::kInternal, name,
               "the plugin returned a number that larder/plugin.h does not define"};
}

// ---- The backend --------------------------------------------------------------------------------

/// An open store, closed when the last connection is gone.
struct Store {
  explicit Store(const larder_plugin_type& description)
      : plugin(description), keys(description.name) {}
  ~Store() {
    if (is_open) plugin.close(handle);
  }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  const larder_plugin_type& plugin;
  void* handle = nullptr;
  bool is_open = false;  ///< A plugin may have a null handle.
  KeysInUse keys;
};

/// A worker's connection, and its memory for the list of pieces.
class PluginConnection {
 public:
  PluginConnection(const Store& store, void* handle) : store_(&store), handle_(handle) {}
  PluginConnection(PluginConnection&& other) noexcept
      : store_(std::exchange(other.store_, nullptr)),
        handle_(other.handle_),
        pieces_(std::move(other.pieces_)) {}
  PluginConnection& operator=(PluginConnection&& other) noexcept {
    std::swap(store_, other.store_);
    std::swap(handle_, other.handle_);
    std::swap(pieces_, other.pieces_);
    return *this;
  }
  ~PluginConnection() {
    if (store_ != nullptr && store_->plugin.disconnect != nullptr) {
      store_->plugin.disconnect(store_->handle, handle_);
    }
  }

  void* handle() const noexcept { return handle_; }
  const std::vector<::iovec>& pieces_of(std::span<const Slice> slices) {
    pieces_.clear();
    for (const Slice& slice : slices) pieces_.push_back({slice.data, slice.bytes});
    return pieces_;
  }

 private:
  const Store* store_;
  void* handle_;
  std::vector<::iovec> pieces_;
};

class PluginBackend {
 public:
  using Connection = PluginConnection;

  explicit PluginBackend(std::unique_ptr<Store> store) : store_(std::move(store)) {}

  Result<Connection> connect() {
    void* handle = nullptr;
    if (plugin().connect != nullptr) {
      const int returned = plugin().connect(store_->handle, &handle);
      if (returned != 0) return error_of(plugin().name, returned < 0 ? -returned : EPROTO);
    }
    return Connection{*store_, handle};
  }

  Status get(Connection& connection, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, store_->keys.use(item.key, false, options.deadline_ns));
    const larder_key key = key_of(item, options);
    const auto& pieces = connection.pieces_of(item.value);
    std::uint64_t bytes = 0;
    LARDER_ASSIGN(const bool found,
                  found_of(plugin().name,
                           plugin().get(store_->handle, connection.handle(), &key, pieces.data(),
                                        static_cast<int>(pieces.size()), &bytes)));
    item.outcome = found ? Outcome::kHit : Outcome::kMiss;
    if (!found) return {};
    item.value_bytes = bytes;
    const std::uint64_t room = bytes_of(item.value);
    if (bytes > room || (bytes < room && !options.allow_shorter)) {
      return Error{ErrorCode::kSizeMismatch, plugin().name,
                   "the value and the buffer differ in size"};
    }
    return {};
  }

  Status set(Connection& connection, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, store_->keys.use(item.key, true, options.deadline_ns));
    const larder_key key = key_of(item, options);
    item.outcome = Outcome::kDone;
    if (options.set_mode == SetMode::kIfAbsent) {
      std::uint64_t bytes = 0;
      LARDER_ASSIGN(item.existed,
                    found_of(plugin().name,
                             plugin().exists(store_->handle, connection.handle(), &key, &bytes)));
      if (item.existed) return {};
    }
    const auto& pieces = connection.pieces_of(item.value);
    LARDER_ASSIGN(
        const bool is_stored,
        found_of(plugin().name, plugin().set(store_->handle, connection.handle(), &key,
                                             pieces.data(), static_cast<int>(pieces.size()))));
    if (is_stored) return {};
    return Error{ErrorCode::kInternal, plugin().name, "the plugin's set() returned a miss"};
  }

  Status exists(Connection& connection, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const bool found, look_up(connection, item, options));
    item.outcome = found ? Outcome::kHit : Outcome::kMiss;
    return {};
  }

  Status remove(Connection& connection, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, store_->keys.use(item.key, true, options.deadline_ns));
    const larder_key key = key_of(item, options);
    LARDER_ASSIGN(
        const bool was_there,
        found_of(plugin().name, plugin().remove(store_->handle, connection.handle(), &key)));
    item.outcome = was_there ? Outcome::kDone : Outcome::kMiss;
    return {};
  }

  Status touch(Connection& connection, Item& item, const CallOptions& options) {
    bool is_there = false;
    if (plugin().touch == nullptr) {
      LARDER_ASSIGN(is_there, look_up(connection, item, options));
      item.value_bytes = 0;
    } else {
      LARDER_ASSIGN(const auto use, store_->keys.use(item.key, false, options.deadline_ns));
      const larder_key key = key_of(item, options);
      LARDER_ASSIGN(is_there, found_of(plugin().name,
                                       plugin().touch(store_->handle, connection.handle(), &key)));
    }
    item.outcome = is_there ? Outcome::kDone : Outcome::kMiss;
    return {};
  }

  void append_report(Report& report) const {
    larder_usage usage = {};
    if (plugin().usage(store_->handle, &usage) != 0) return;
    report.keys = usage.keys;
    report.bytes_used = usage.bytes;
    report.capacity_bytes = usage.capacity_bytes;
  }

 private:
  const larder_plugin_type& plugin() const noexcept { return store_->plugin; }

  static larder_key key_of(const Item& item, const CallOptions& options) noexcept {
    return {item.key.data(), item.key.size(), options.deadline_ns};
  }

  Result<bool> look_up(Connection& connection, Item& item, const CallOptions& options) {
    LARDER_ASSIGN(const auto use, store_->keys.use(item.key, false, options.deadline_ns));
    const larder_key key = key_of(item, options);
    return found_of(plugin().name,
                    plugin().exists(store_->handle, connection.handle(), &key, &item.value_bytes));
  }

  std::unique_ptr<Store> store_;  // A pointer, because a backend is moved into its pool.
};

// ---- The connector ------------------------------------------------------------------------------

class PluginConnector final : public PooledConnector<PluginBackend> {
 public:
  PluginConnector(std::unique_ptr<WorkerPool<PluginBackend>> pool, const PluginType& type,
                  std::string where)
      : PooledConnector(std::move(pool)), type_(type), where_(std::move(where)) {}

  Capabilities capabilities() const noexcept override {
    Capabilities capabilities;
    capabilities.value_bytes_max = kValueBytesMax;
    capabilities.slices_max = kSlicesMax;
    capabilities.locality = static_cast<Locality>(type_.plugin->locality);
    capabilities.survives_restart = type_.plugin->survives_restart != 0;
    return capabilities;
  }

  Report report() const override {
    Report report;
    report.type = type_.name;
    report.where = where_;
    report.locality = static_cast<Locality>(type_.plugin->locality);
    pool().backend().append_report(report);
    pool().append_report(report);
    return report;
  }

  Result<ScanPage> scan(ScanCursor /*from*/, std::size_t /*keys_max*/) override {
    return Error{ErrorCode::kUnimplemented, type_.plugin->name, "plugins do not list their keys"};
  }

 private:
  const PluginType& type_;
  const std::string where_;
};

// ---- Opening ------------------------------------------------------------------------------------

// Every plugin has these after its own.
constexpr std::array kPoolRows{
    Parameter{
        .name = "workers",
        .kind = ParameterKind::kInteger,
        .default_text = "4",
        .minimum = "1",
        .maximum = "1024",
        .help = "Threads that call the plugin: this many each for lookups, loads and stores."},
    kMissAfterFailureParameter,
    kBatchesMaxParameter,
    kInFlightParameter,
};

larder_value value_of(const Parameters& parameters, const Parameter& row) {
  larder_value value = {};
  value.text = "";
  value.is_set = parameters.has(row.name) ? 1 : 0;
  if (value.is_set == 0) return value;
  switch (row.kind) {
    case ParameterKind::kInteger:
      value.number = parameters.integer(row.name);
      break;
    case ParameterKind::kBytes:
      value.number = static_cast<std::int64_t>(parameters.bytes(row.name));
      break;
    case ParameterKind::kDuration:
      value.number = static_cast<std::int64_t>(parameters.duration_ns(row.name));
      break;
    case ParameterKind::kBool:
      value.number = parameters.flag(row.name) ? 1 : 0;
      break;
    default:
      value.text = parameters.text(row.name).c_str();
  }
  return value;
}

SetupResult<std::unique_ptr<Store>> open_store(const PluginType& type,
                                               const Parameters& parameters) {
  std::vector<larder_value> values;
  for (const Parameter& row : std::span{type.rows}.first(type.plugin->parameter_count)) {
    values.push_back(value_of(parameters, row));
  }
  auto store = std::make_unique<Store>(*type.plugin);
  std::array<char, 512> text{};
  const int returned =
      type.plugin->open(values.data(), &store->handle, text.data(), text.size() - 1);
  if (returned == 0) {
    store->is_open = true;
    return store;
  }
  const int number = returned < 0 ? -returned : EPROTO;
  return SetupError{
      error_of(type.plugin->name, number).code(),
      std::string{type.name} + ": " +
          (text[0] == '\0' ? "the plugin could not open the store: " + errno_text(number)
                           : printable(text.data()))};
}

SetupResult<std::unique_ptr<Connector>> open(const ConnectorType& connector_type,
                                             const Parameters& parameters,
                                             const Registry& /*registry*/) {
  const auto& type = static_cast<const PluginType&>(connector_type);
  LARDER_ASSIGN(std::unique_ptr<Store> store, open_store(type, parameters));
  WorkerPoolOptions options;
  options.scheduler.name = type.name;
  options.scheduler.workers.fill(static_cast<std::uint32_t>(parameters.integer("workers")));
  options.scheduler.intake.name = type.plugin->name;
  options.scheduler.intake.limits = batch_limits_of(parameters);
  options.scheduler.intake.slices_max = kSlicesMax;
  options.scheduler.intake.miss_after_failure_ns = parameters.duration_ns("miss_after_failure");
  LARDER_ASSIGN(auto pool,
                WorkerPool<PluginBackend>::create(PluginBackend{std::move(store)}, options));
  std::string where;
  for (const Parameter& row : type.rows) {
    if (row.name == type.location_parameter && parameters.has(row.name)) {
      where = shown_value(row, parameters.text(row.name), 256);
    }
  }
  return std::make_unique<PluginConnector>(std::move(pool), type, std::move(where));
}

// ---- Descriptions -------------------------------------------------------------------------------

constexpr MetricRow kMetrics[] = {
    {"connections", MetricKind::kGauge, "Connections of the plugin."},
    {"connect_failures_total", MetricKind::kCounter, "Failed attempts to connect."},
};

std::string_view text_of(const char* text) {
  return text == nullptr ? std::string_view{} : text;
}

SetupError incomplete(std::string text) {
  return SetupError{ErrorCode::kInvalidArgument, std::move(text)};
}

SetupStatus check_layout(const larder_plugin_type& plugin) {
  if (plugin.abi != LARDER_PLUGIN_ABI) {
    return incomplete("is built for version " + std::to_string(plugin.abi) +
                      " of the plugin interface, and this larder has version " +
                      std::to_string(LARDER_PLUGIN_ABI) +
                      ": build it again with this larder's larder/plugin.h");
  }
  if (plugin.struct_bytes != sizeof(larder_plugin_type)) {
    return incomplete("has a description of " + std::to_string(plugin.struct_bytes) +
                      " bytes, wanted " + std::to_string(sizeof(larder_plugin_type)) +
                      ": set struct_bytes to sizeof(larder_plugin_type)");
  }
  return {};
}

SetupStatus check_members(const larder_plugin_type& plugin) {
  const std::pair<bool, const char*> members[] = {
      {plugin.name != nullptr, "name"},
      {plugin.summary != nullptr, "summary"},
      {plugin.example != nullptr, "example"},
      {plugin.open != nullptr, "open"},
      {plugin.close != nullptr, "close"},
      {plugin.get != nullptr, "get"},
      {plugin.set != nullptr, "set"},
      {plugin.exists != nullptr, "exists"},
      {plugin.remove != nullptr, "remove"},
      {plugin.usage != nullptr, "usage"},
      {plugin.parameter_count == 0 || plugin.parameters != nullptr, "parameters"}};
  for (const auto& [is_there, name] : members) {
    if (!is_there) {
      return incomplete(
          std::string{"leaves '"} + name +
          "' of its description null: larder/plugin.h says which members may be null");
    }
  }
  if ((plugin.connect == nullptr) != (plugin.disconnect == nullptr)) {
    return incomplete("has only one of connect and disconnect: set both, or neither");
  }
  if (plugin.reserved != 0)
    return incomplete("sets 'reserved' of its description, which must be 0");
  if (plugin.locality > LARDER_ON_A_SERVER) {
    return incomplete("has the locality " + std::to_string(plugin.locality) +
                      ": larder/plugin.h has 0 to 3");
  }
  return {};
}

SetupResult<Parameter> row_of(const larder_parameter& given) {
  const bool is_known =
      (given.kind >= LARDER_TEXT && given.kind <= LARDER_DURATION) || given.kind == LARDER_BOOL;
  if (!is_known || given.reserved != 0) {
    return incomplete("has a parameter '" + std::string{text_of(given.name)} +
                      "' whose kind or reserved is a number that larder/plugin.h does not have");
  }
  return Parameter{.name = text_of(given.name),
                   .kind = static_cast<ParameterKind>(given.kind),
                   .default_text = text_of(given.default_text),
                   .minimum = text_of(given.minimum),
                   .maximum = text_of(given.maximum),
                   .help = text_of(given.help),
                   .is_required = given.is_required != 0,
                   .is_secret = given.is_secret != 0};
}

}  // namespace

SetupResult<std::unique_ptr<PluginType>> make_type(const larder_plugin_type& plugin) {
  LARDER_TRY(check_layout(plugin));
  LARDER_TRY(check_members(plugin));
  auto type = std::make_unique<PluginType>();
  type->plugin = &plugin;
  for (const larder_parameter& given : std::span{plugin.parameters, plugin.parameter_count}) {
    LARDER_ASSIGN(const Parameter row, row_of(given));
    type->rows.push_back(row);
  }
  for (const Parameter& row : type->rows) {
    if (row.name != text_of(plugin.location)) continue;
    if (row.kind != ParameterKind::kText && row.kind != ParameterKind::kPath) {
      return incomplete("has a location that is neither LARDER_TEXT nor LARDER_PATH: '" +
                        std::string{row.name} + "'");
    }
  }
  type->rows.insert(type->rows.end(), kPoolRows.begin(), kPoolRows.end());
  type->name = plugin.name;
  type->summary = plugin.summary;
  type->example = plugin.example;
  type->location_parameter = text_of(plugin.location);
  type->parameters = type->rows;
  type->metrics = kMetrics;
  type->open = open;
  if (const SetupStatus checked = check_table(*type); !checked) {
    return incomplete("has a wrong table of parameters: " + checked.error().text);
  }
  return type;
}

}  // namespace larder::plugin
