"""The soak: 64 engines with raw clients against one `larder server` over a log store and a Redis, for
LARDER_SOAK_SECONDS (60; 1200 for the record). Both modes of transfer, three models, one and two
ranks, salts, both versions' keys; clients that are killed; a server that is ended and killed in turn
and started again over the same disk; an L2 that fails, stalls and goes away. Every byte that is
retrieved is compared, every request is answered, and at the end nothing is left."""

import collections
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from mp_server import Restartable, full_only, l2_option
from mp_worker import SHARED, remove_segments_of
from redis_server import RedisServer
from soak_state import State

SECONDS = int(os.environ.get("LARDER_SOAK_SECONDS", "60"))
# At least three servers, none longer than a minute.
SERVER_SECONDS = min(60, SECONDS / 4)
PROCESSES, ENGINES = 8, 8
MIB = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")


class Clients:
    def __init__(self, directory, port):
        self.directory, self.port = directory, port
        (directory / "counts").mkdir()
        self.log = open(directory / "clients.log", "a", encoding="utf-8")  # noqa: SIM115
        self.processes = [None] * PROCESSES
        self.started, self.killed = 0, 0
        for place in range(PROCESSES):
            self.start(place)

    def start(self, place):
        job = {
            "port": self.port,
            "seed": self.started,
            "first": place * ENGINES,
            "engines": ENGINES,
            "directory": str(self.directory),
        }
        self.started += 1
        program = pathlib.Path(__file__).with_name("soak_client.py")
        self.processes[place] = subprocess.Popen(
            [sys.executable, program, json.dumps(job)], stdout=self.log, stderr=self.log
        )

    def kill_one(self, source):
        place = source.randrange(PROCESSES)
        victim = self.processes[place]
        assert victim.poll() is None, "a client ended by itself: see clients.log"
        victim.kill()
        victim.wait()
        remove_segments_of(victim.pid)
        self.killed += 1
        self.start(place)

    def counts(self):
        together = collections.Counter()
        for path in (self.directory / "counts").glob("[0-9]*"):
            if path.suffix:
                continue
            for name, value in json.loads(path.read_text()).items():
                together[name] = (
                    max(together[name], value) if name == "slowest_ms" else together[name] + value
                )
        return together

    def incidents(self):
        path = self.directory / "incidents"
        return path.read_text().splitlines() if path.exists() else []

    def end(self):
        """They leave when they are told to."""
        for process in self.processes:
            assert process.wait(120) == 0, "a client failed: see clients.log"

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()
            remove_segments_of(process.pid)
        self.log.close()


class Watch:
    """What the server takes, by server."""

    def __init__(self):
        self.samples = collections.defaultdict(list)
        self.slowest_status = 0.0

    def look(self, number, server):
        began = time.monotonic()
        server.status()
        self.slowest_status = max(self.slowest_status, time.monotonic() - began)
        descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        self.samples[number].append((server.resident_bytes(), descriptors))

    def last_of_each(self):
        """(warm, last) of the private memory: at two fifths of a server's life and at its end."""
        return [
            (samples[len(samples) * 2 // 5][0], samples[-1][0])
            for samples in self.samples.values()
            if len(samples) >= 5
        ]


def cpu_seconds(server):
    fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def options_of(tmp_path, redis, number):
    """Every second server has a disk that fails now and then, in bursts of operations."""
    log = {
        "type": "log",
        "path": str(tmp_path / "kv"),
        "capacity": "512MiB",
        "max_value": "1MiB",
        "min_free": "0",
    }
    bursts = [f"{kind}:{i}-{i + 199}" for kind in ("get", "set") for i in range(100, 20_000, 800)]
    faulty = {
        "type": "fault",
        "inner": log,
        "error_rate": 0.2,
        "delay_rate": 0.1,
        "delay": "100ms",
        "stall_rate": 0.02,
        "stall": "2s",
        "seed": number,
        "pattern": ";".join(bursts),
    }
    tiers = l2_option(faulty if number % 2 else log, f"redis://127.0.0.1:{redis.port}")
    return [*tiers, "--l2-load-timeout-seconds", "3", "--drain-seconds", "3"]


class Soak:
    def __init__(self, tmp_path, redis):
        self.tmp_path, self.redis = tmp_path, redis
        self.source = random.Random(int(os.environ.get("LARDER_SEED", "1")))
        self.state = State(tmp_path / "state")
        self.watch = Watch()
        self.number, self.ended = 0, collections.Counter()
        # Much less than what the prompts need.
        self.servers = Restartable(
            tmp_path, l1_gb="0.03125", options=options_of(tmp_path, redis, 0)
        )

    @property
    def server(self):
        return self.servers.server

    def replace_server(self):
        self.state.server += 1
        if self.number % 2:
            self.server.kill()
            self.ended["SIGKILL"] += 1
        else:
            assert self.server.stop(signal.SIGTERM) == 0, self.server.text()[-2000:]
            self.ended["SIGTERM"] += 1
        self.number += 1
        self.servers.arguments["options"] = options_of(self.tmp_path, self.redis, self.number)
        self.servers.start().wait_ready()
        self.state.server += 1

    def run(self, clients):
        """Every second something, until the time is over."""
        began = time.monotonic()
        replaced, killed, redis_changed, redis_runs = began, began, began, True
        while (now := time.monotonic()) - began < SECONDS:
            assert self.server.process.poll() is None, self.server.text()[-3000:]
            self.watch.look(self.number, self.server)
            if now - replaced > SERVER_SECONDS and began + SECONDS - now > SERVER_SECONDS / 2:
                self.replace_server()
                replaced = time.monotonic()
            if now - killed > min(10, SECONDS / 10):
                clients.kill_one(self.source)
                killed = now
            if now - redis_changed > min(17, SECONDS / 5):
                (self.redis.stop if redis_runs else self.redis.start)()
                redis_runs, redis_changed = not redis_runs, now
            time.sleep(1)
        if not redis_runs:
            self.redis.start()


def left_by(server):
    status = server.status()
    larder = status["larder"]
    kinds = ("writing", "loading", "locked", "orphan", "quarantine")
    left = {kind: larder["l1_bytes"][kind] for kind in kinds}
    left |= {"connections": larder["connections"], "lookups": status["active_prefetch_jobs"]}
    left["sessions"] = status["active_sessions"]
    for kind in ("registered_gpu_ids", "registered_non_cuda_instance_ids"):
        left[kind] = len(status[kind])
    return {name: value for name, value in left.items() if value}


@full_only
def test_soak(tmp_path):
    with RedisServer(tmp_path, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as redis:
        soak = Soak(tmp_path, redis)
        with soak.servers:
            clients = Clients(tmp_path, soak.server.port)
            try:
                soak.run(clients)
                soak.state.end()
                clients.end()
            finally:
                clients.kill()
                counts, incidents = clients.counts(), clients.incidents()
                report(soak, clients, counts)
            judge(soak, counts, incidents)
            pool = soak.server.pool()
            assert soak.server.stop() == 0
        assert not pool.exists()
        assert [each.name for each in SHARED.glob(f"{pool.name}*")] == []


def report(soak, clients, counts):
    print(f"\n{SECONDS} s, servers ended: {dict(soak.ended)}, clients killed: {clients.killed}")
    print(dict(counts), f"incidents: {len(clients.incidents())}")
    for number, samples in soak.watch.samples.items():
        bytes_, descriptors = zip(*samples, strict=True)
        print(
            f"server {number}: RssAnon {bytes_[0] / MIB:.1f} MiB at first, "
            f"{bytes_[len(bytes_) * 2 // 5] / MIB:.1f} warm, {bytes_[-1] / MIB:.1f} last; "
            f"descriptors {descriptors[0]}, most {max(descriptors)}, last {descriptors[-1]}"
        )
    print(f"slowest /status: {soak.watch.slowest_status:.2f} s")


def judge(soak, counts, incidents):
    assert incidents == [], f"{len(incidents)}, the first of them: {incidents[:5]}"
    for name in ("lookups", "retrieves", "stores", "chunks_hit"):
        assert counts[name] > 100, f"only {counts[name]} {name}: nothing was tried"
    if soak.server.status()["larder"]["stalls"] == 0 and not soak.ended:
        assert counts["retrieves_refused"] == 0
    ages = soak.watch.last_of_each()
    assert ages, "no server lived long enough to be judged"
    for warm, last in ages:
        assert last - warm < 16 * MIB, f"{warm} bytes grew to {last} in one server"
    assert max(last for _, last in ages[1:] or ages) - ages[0][1] < 16 * MIB, ages
    until = time.monotonic() + 60
    while (left := left_by(soak.server)) and time.monotonic() < until:
        time.sleep(0.5)
    print(f"left after the clients have gone: {left}")
    idle(soak)
    assert left == {}, soak.server.status()["storage_manager"]


def idle(soak):
    """Nobody is there: no thread spins, and the descriptors are those of an empty server."""
    before = cpu_seconds(soak.server)
    began = time.monotonic()
    time.sleep(10)
    share = (cpu_seconds(soak.server) - before) / (time.monotonic() - began)
    descriptors = len(os.listdir(f"/proc/{soak.server.process.pid}/fd"))
    print(f"idle: {share:.2%} of a core, {descriptors} descriptors")
    assert share <= 0.005
    _, busy = zip(*soak.watch.samples[soak.number], strict=True)
    assert descriptors < max(busy), "sockets of clients that have gone"
