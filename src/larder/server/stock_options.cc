// The options of `lmcache server` (0.5.6 and 0.5.7) that larder does not honour.
#include <array>

#include "larder/server/option_table.h"

namespace larder::server {
namespace {

constexpr OptionRow not_needed(std::string_view name, std::string_view value,
                               std::string_view why) {
  return {.name = name, .use = OptionUse::kNotNeeded, .value = value, .help = why};
}

constexpr OptionRow flag_not_needed(std::string_view name, std::string_view why) {
  return {.name = name, .use = OptionUse::kNotNeeded, .shape = OptionShape::kFlag, .help = why};
}

constexpr OptionRow switch_not_needed(std::string_view name, std::string_view why) {
  return {.name = name, .use = OptionUse::kNotNeeded, .shape = OptionShape::kSwitch, .help = why};
}

constexpr OptionRow refused(std::string_view name, std::string_view value,
                            std::string_view harmless, std::string_view instead) {
  return {.name = name,
          .use = OptionUse::kRefused,
          .value = value,
          .help = instead,
          .harmless = harmless};
}

constexpr OptionRow refused_as(OptionShape shape, std::string_view name, std::string_view value,
                               std::string_view instead) {
  return {
      .name = name, .use = OptionUse::kRefused, .shape = shape, .value = value, .help = instead};
}

constexpr std::string_view kOneThread =
    "One thread answers all requests, and the stores have threads of their own.";
constexpr std::string_view kNoGrpc = "It belongs to gRPC, which larder does not serve.";
constexpr std::string_view kNoPoll = "larder is told of events and polls for none.";
constexpr std::string_view kNoBus = "There is no event bus: numbers are counted where they arise.";
constexpr std::string_view kBoundedLoads =
    "Loads are bounded by their bytes, half of L1 for one request.";
constexpr std::string_view kNoPython = "There is no Python whose garbage would have to be watched.";
constexpr std::string_view kHashLog =
    "It belongs to --lookup-hash-log-dir, which larder does not have.";
constexpr std::string_view kGds = "It belongs to --gds-l1-path, which larder does not have.";
constexpr std::string_view kCoordination =
    "It belongs to --coordinator-url, which larder does not have.";
constexpr std::string_view kPeers =
    "It belongs to --p2p-advertise-url, which larder does not have.";
constexpr std::string_view kBlend =
    "larder keeps prefixes only and has no CacheBlend; run `lmcache server --engine-type blend` "
    "for "
    "the models that need it.";
constexpr std::string_view kNoPeers =
    "larder does not move data between servers; give the servers one store that they share: "
    "--l2-adapter fs:/mnt/shared/kv or --l2-adapter redis://HOST:PORT.";
constexpr std::string_view kNoCoordinator =
    "larder joins no coordinator; servers share content through a common --l2-adapter (fs: on a "
    "shared file system, or redis:), and each evicts by itself.";
constexpr std::string_view kNoTraces =
    "larder writes no traces and pushes to no OpenTelemetry collector; read the numbers from "
    "/metrics.";
constexpr std::string_view kNoCode = "larder runs no Python that others hand in; leave it out.";
constexpr std::string_view kNoKeys =
    "larder's HTTP side has no API keys for reading. Leave it out; for what changes state use "
    "--admin-token-file. Keep --http-host on loopback, or put a proxy that checks keys before it.";

constexpr auto kRows = std::to_array<OptionRow>({
    // ---- Transport and threads.
    refused("transport", "NAME", "zmq",
            "larder speaks ZeroMQ only; leave it out, and set the engines' lmcache.mp.host to "
            "tcp://HOST."),
    not_needed("max-workers", "N", kOneThread),
    not_needed("max-gpu-workers", "N", kOneThread),
    not_needed("max-cpu-workers", "N", kOneThread),
    not_needed("grpc-server-workers", "N", kNoGrpc),
    not_needed("grpc-server-mode", "MODE", kNoGrpc),
    refused_as(OptionShape::kSwitch, "isolated-ipc", {},
               "Workers reach the pool through /dev/shm; let the containers share it (--ipc=host, "
               "or one volume on /dev/shm) and leave the option out here and in the engines."),
    // ---- The kind of engine.
    refused("hash-algorithm", "NAME", "blake3",
            "larder names chunks by blake3 only, LMCache's default; leave it out, here and in the "
            "engines."),
    refused("engine-type", "NAME", "default", kBlend),
    refused_as(OptionShape::kFlag, "enable-segmented-prefix", {}, kBlend),
    refused_as(OptionShape::kFlag, "enable-dedup-content", {}, kBlend),
    refused_as(OptionShape::kFlag, "enable-blend-reorder", {}, kBlend),
    refused("kv-load-policy", "MODULE:CLASS", "",
            "larder loads what it has; an engine says what not to load by lmcache.skip_load in a "
            "request's configs."),
    // ---- Code of others.
    refused_as(OptionShape::kList, "runtime-plugin-locations", "PATH", kNoCode),
    refused("runtime-plugin-config", "JSON", "{}", kNoCode),
    {.name = "script-allowed-imports",
     .use = OptionUse::kNotNeeded,
     .shape = OptionShape::kList,
     .value = "MODULE",
     .help = "There is no /run_script that would import anything."},
    refused_as(OptionShape::kSwitch, "run-script-api-enabled", {}, kNoCode),
    refused_as(OptionShape::kList, "enable", "MODULE",
               "larder has none of LMCache's experimental modules; leave it out."),
    refused_as(OptionShape::kRepeated, "server-module", "JSON", kNoCode),
    // ---- L1.
    refused_as(OptionShape::kSwitch, "l1-use-hugepages", {},
               "L1 lies in shared memory of /dev/shm, not in the pool of huge pages; leave it out. "
               "larder asks for huge pages where /dev/shm may have them (mount -o "
               "remount,huge=advise /dev/shm)."),
    refused_as(OptionShape::kSwitch, "l1-mlock", {},
               "larder does not lock L1 into memory; leave it out, and switch swap off."),
    refused("l1-devdax-path", "PATH", "",
            "larder's L1 is memory; put a file system on the device and name it as "
            "--l2-adapter log:PATH?capacity=SIZE."),
    not_needed("l1-devdax-offset-gb", "GIB",
               "It belongs to --l1-devdax-path, which larder does not have."),
    refused("gds-l1-path", "PATH", "",
            "larder's L1 is memory; name the disk as --l2-adapter log:PATH?capacity=SIZE."),
    switch_not_needed("gds-l1-use-direct-io", kGds),
    not_needed("gds-l1-backend", "NAME", kGds),
    // ---- L2.
    not_needed("l2-prefetch-max-in-flight", "N", kBoundedLoads),
    not_needed("l2-prefetch-inflight-watermark", "SHARE", kBoundedLoads),
    not_needed("periodic-notifier-interval-ms", "MS", kNoPoll),
    // ---- Peers and coordinator.
    refused("p2p-advertise-url", "HOST:PORT", "", kNoPeers),
    refused("p2p-listen-url", "HOST:PORT", "", kNoPeers),
    not_needed("p2p-lookup-timeout", "SECONDS", kPeers),
    not_needed("p2p-load-timeout", "SECONDS", kPeers),
    not_needed("p2p-transfer-engine", "NAME", kPeers),
    refused("coordinator-url", "URL", "", kNoCoordinator),
    not_needed("coordinator-advertise-ip", "IP", kCoordination),
    not_needed("coordinator-heartbeat-interval", "SECONDS", kCoordination),
    refused_as(OptionShape::kFlag, "coordinator-event-reporting", {}, kNoCoordinator),
    not_needed("coordinator-event-flush-interval", "SECONDS", kCoordination),
    not_needed("coordinator-event-transport", "NAME", kCoordination),
    not_needed("coordinator-kafka-bootstrap-servers", "HOSTS", kCoordination),
    not_needed("coordinator-kafka-topic", "NAME", kCoordination),
    not_needed("coordinator-kafka-delivery-timeout", "SECONDS", kCoordination),
    not_needed("coordinator-blend-timeout", "SECONDS", kCoordination),
    not_needed("coordinator-blend-match-concurrency", "N", kCoordination),
    // ---- Who may see what.
    refused_as(OptionShape::kRepeated, "api-key-file", "FILE", kNoKeys),
    refused_as(OptionShape::kRepeated, "http-api-key-file", "FILE", kNoKeys),
    // ---- Observability.
    flag_not_needed("disable-observability", kNoBus),
    flag_not_needed("disable-metrics",
                    "Numbers are counted in any case, and cost nothing until /metrics is read."),
    flag_not_needed("disable-grpc-metrics", kNoGrpc),
    flag_not_needed("disable-logging",
                    "LARDER_LOG sets what is logged, and nothing is logged for each request."),
    refused_as(OptionShape::kFlag, "enable-tracing", {}, kNoTraces),
    refused_as(OptionShape::kFlag, "enable-token-trace", {}, kNoTraces),
    refused("otlp-endpoint", "URL", "", kNoTraces),
    not_needed("event-bus-queue-size", "N", kNoBus),
    not_needed("prometheus-port", "PORT",
               "LMCache's server does not listen there either. /metrics is at --http-port, and at "
               "--metrics-port where that is given."),
    not_needed("metrics-sample-rate", "SHARE", "Everything is counted."),
    refused("lookup-hash-log-dir", "PATH", "",
            "larder keeps no log of the hashes that were looked up; leave it out."),
    not_needed("lookup-hash-log-rotation-interval", "SECONDS", kHashLog),
    not_needed("lookup-hash-log-rotation-max-size", "BYTES", kHashLog),
    not_needed("lookup-hash-log-max-files", "N", kHashLog),
    flag_not_needed("enable-gc-monitor", kNoPython),
    not_needed("gc-monitor-min-pause-ms", "MS", kNoPython),
    not_needed("gc-monitor-top-objects", "N", kNoPython),
    flag_not_needed("enable-extra-logging", "/status has throughput and memory at any moment."),
    not_needed("extra-logging-interval", "SECONDS",
               "/status has throughput and memory at any moment."),
    refused("trace-level", "LEVEL", "",
            "larder records no operations; leave it out. `larder replay` plays request traces."),
    not_needed("trace-output", "PATH", "It belongs to --trace-level, which larder does not have."),
    // ---- Of every command of LMCache.
    not_needed("format", "FORMAT", "The server prints lines; --json makes them JSON."),
    not_needed("output", "PATH", "Redirect standard output instead."),
    flag_not_needed("quiet", "The server says little; redirect standard output to say nothing."),
});

}  // namespace

std::span<const OptionRow> stock_rows() noexcept {
  return kRows;
}

}  // namespace larder::server
