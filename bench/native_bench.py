"""larder's connector beside LMCache's own compiled client of the same storage, call for call.

    python bench/native_bench.py fs DIRECTORY [--workers 4,32] [--ways direct,buffered] [--log]
    python bench/native_bench.py redis HOST:PORT [--workers 8]

One process, one caller, the contract of LMCache's native connectors for both, the same keys and
buffers. A round has a pass of each, in turn; a pass stores new keys and one loads them, `--batch`
keys a call. Rates are medians of the rounds with quartiles; CPU is this process's, user and system.
What was loaded is compared. For files there is a third in each round: fio, in the same directory.

Run it with the python of the environment `interop` (scripts/python_env.sh).
"""

import argparse
import dataclasses
import itertools
import json
import mmap
import os
import random
import select
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable

from larder.lmcache import Connector
from quartiles import quartiles

KIB, MIB = 1 << 10, 1 << 20
numbers_of_passes = itertools.count(1)  # No two passes store the same keys.


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a pass moves."""

    value_bytes: int
    batch: int
    in_flight: int
    bytes: int

    @property
    def batches(self):
        return max(1, self.bytes // self.value_bytes // self.batch)


@dataclasses.dataclass
class Pass:
    gb_per_s: float
    cpu_s_per_gb: float
    server_cpu_s_per_gb: float = 0.0


class Buffers:
    """One region of aligned memory: a value for each key of the batches in flight."""

    def __init__(self, shape):
        count = shape.batch * shape.in_flight
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # Shared memory has no huge pages.
        self._region = mmap.mmap(-1, count * shape.value_bytes + 2 * MIB, flags=flags)
        self._region.madvise(mmap.MADV_HUGEPAGE)  # As pinned memory is: small pages halve a disk.
        whole = memoryview(self._region)
        self.values = [whole[i * shape.value_bytes :][: shape.value_bytes] for i in range(count)]
        source = random.Random(7)
        for value in self.values:
            value[:] = source.randbytes(shape.value_bytes)

    def stamp(self, first, count, number):
        """Makes the values of a batch differ from every other batch's."""
        for i, value in enumerate(self.values[first : first + count]):
            value[:8] = (number * 4096 + i).to_bytes(8, "little")

    def check(self, first, count, number):
        for i, value in enumerate(self.values[first : first + count]):
            found = int.from_bytes(value[:8], "little")
            assert found == number * 4096 + i, f"batch {number}, value {i}: holds {found}"


def run_pass(client, shape, buffers, prefix, is_load):
    """Keeps `in_flight` batches going until every batch was stored or loaded once."""
    keys = [
        [f"bench@000000ff@0@{prefix:016x}{n:024x}{i:024x}" for i in range(shape.batch)]
        for n in range(shape.batches)
    ]
    submit = client.submit_batch_get if is_load else client.submit_batch_set
    free = list(range(shape.in_flight))
    running = {}
    poll = select.poll()
    poll.register(client.event_fd(), select.POLLIN)
    cpu, begin = time.process_time(), time.perf_counter()
    done = sent = 0
    while done < shape.batches:
        while free and sent < shape.batches:
            lane = free.pop()
            first = lane * shape.batch
            if not is_load:
                buffers.stamp(first, shape.batch, sent)
            views = buffers.values[first : first + shape.batch]
            running[submit(keys[sent], views)] = (lane, sent)
            sent += 1
        assert poll.poll(60_000), "nothing ended within a minute"
        for future, ok, error, results in client.drain_completions():
            lane, number = running.pop(future)
            assert ok and (not is_load or all(results)), error or results
            if is_load:
                buffers.check(lane * shape.batch, shape.batch, number)
            free.append(lane)
            done += 1
    seconds = time.perf_counter() - begin
    gb = shape.batches * shape.batch * shape.value_bytes / 1e9
    return Pass(gb / seconds, (time.process_time() - cpu) / gb)


def has_huge_pages(count_bytes):
    """Whether fio may have them, as the clients' buffers do: `sysctl vm.nr_hugepages=512` before."""
    with open("/proc/meminfo", encoding="ascii") as file:
        numbers = {line.split(":")[0]: int(line.split()[1]) for line in file}
    return numbers["HugePages_Free"] * numbers["Hugepagesize"] * KIB >= count_bytes


def fio_pass(directory, shape, is_load, is_direct):
    """The fastest of fio's ways with one file of a pass's bytes."""
    path = os.path.join(directory, "fio")
    best = 0.0
    for way in (["psync", "16", "1"], ["io_uring", "1", "32"], ["io_uring", "1", "128"]):
        engine, jobs, depth = way
        command = ["fio", "--name=ceiling", f"--filename={path}", f"--size={shape.bytes}"]
        command += [f"--bs={shape.value_bytes}", f"--rw={'read' if is_load else 'write'}"]
        command += [f"--ioengine={engine}", f"--numjobs={jobs}", f"--iodepth={depth}", "--thread"]
        command += [f"--io_size={shape.bytes // int(jobs)}", f"--direct={int(is_direct)}"]
        command += [f"--offset_increment={shape.bytes // int(jobs)}", "--group_reporting"]
        command += ["--output-format=json", "--fallocate=none", "--overwrite=0"]
        if has_huge_pages(int(jobs) * int(depth) * shape.value_bytes):
            command.append("--mem=mmaphuge")
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        job = json.loads(ended.stdout[ended.stdout.index("{") :])["jobs"][0]
        best = max(best, job["read" if is_load else "write"]["bw_bytes"] / 1e9)
    return Pass(best, 0.0)


def settle(is_cold=False):
    os.sync()
    if is_cold:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("1")


def show(title, results, reference):
    print(title, flush=True)
    for name, passes in results.items():
        middle, low, high = quartiles([one.gb_per_s for one in passes])
        cpu = statistics.median(one.cpu_s_per_gb for one in passes)
        server = statistics.median(one.server_cpu_s_per_gb for one in passes)
        pairs = zip(passes, results[reference], strict=True)
        ratio = quartiles([one.gb_per_s / other.gb_per_s for one, other in pairs])
        print(
            f"  {name:<24} {middle:7.3f} GB/s ({low:.3f} to {high:.3f})   "
            f"{ratio[0]:5.2f} x {reference} ({ratio[1]:.2f} to {ratio[2]:.2f})   "
            + (f"{cpu:.3f} s CPU/GB" if cpu else "")
            + (f", the server {server:.3f}" if server else ""),
            flush=True,
        )


def watched_pass(server_cpu, client, shape, *arguments):
    """run_pass() with the CPU that the server took meanwhile."""
    before = server_cpu()
    result = run_pass(client, shape, *arguments)
    gb = shape.batches * shape.batch * shape.value_bytes / 1e9
    result.server_cpu_s_per_gb = (server_cpu() - before) / gb
    return result


def compare_clients(
    title,
    makers,
    shape,
    rounds,
    before_load,
    fio=None,
    after_round=lambda: None,
    server_cpu=lambda: 0.0,
):
    """`makers`: name to a function that opens a client. The second one is the reference."""
    buffers = Buffers(shape)
    names = list(makers)
    stores = {name: [] for name in names}
    loads = {name: [] for name in names}
    if fio is not None:
        stores["fio"], loads["fio"] = [], []
    for turn in range(-1, rounds):
        for name in names if turn % 2 else reversed(names):
            client = makers[name]()
            settle()
            prefix = next(numbers_of_passes)
            stored = watched_pass(server_cpu, client, shape, buffers, prefix, False)
            before_load()
            loaded = watched_pass(server_cpu, client, shape, buffers, prefix, True)
            client.close()
            if turn >= 0:  # The first round warms up.
                stores[name].append(stored)
                loads[name].append(loaded)
        if fio is not None and turn >= 0:
            settle()
            stores["fio"].append(fio(False))
            before_load()
            loads["fio"].append(fio(True))
        after_round()
    show(f"{title}, store", stores, names[1])
    show(f"{title}, load", loads, names[1])


def stock_files(path, workers, is_direct):
    """LMCache's client as its adapter makes it: 0.5.7 has 256 threads for reads of their own."""
    from lmcache.lmcache_fs import LMCacheFSClient

    client = LMCacheFSClient
    has_readers = hasattr(client, "read_budget_bytes")
    readers = (256, 0) if has_readers else ()
    return client(path, workers, "", is_direct, 0, *readers)


def compare_files(given, shape):

    def clear():
        # Emptied and left: ext4 searches long for an inode where many were removed within minutes.
        for folder, _, files in os.walk(given.where):
            for name in files:
                os.truncate(os.path.join(folder, name), 0)
        shutil.rmtree(log, ignore_errors=True)
        os.sync()

    ours, theirs, log = (f"{given.where}/{name}" for name in ("larder", "native", "log"))
    os.makedirs(theirs, exist_ok=True)

    for way in given.ways.split(","):
        is_direct = way == "direct"
        for workers in (int(count) for count in given.workers.split(",")):
            makers: dict[str, Callable[[], object]] = {
                "larder fs": lambda w=workers, d=is_direct: Connector(
                    type="fs_native", base_path=ours, num_workers=w, use_odirect=d
                ),
                "fs_native": lambda w=workers, d=is_direct: stock_files(theirs, w, d),
            }
            if given.log:
                makers["larder log"] = lambda: Connector(
                    f"log:{log}?capacity=6GiB&max_value=8MiB&min_free=0"
                )
            compare_clients(
                f"{shape.value_bytes // KIB} KiB, {way}, {workers} workers",
                makers,
                shape,
                given.rounds,
                before_load=lambda: settle(not given.warm),
                fio=(lambda is_load, d=is_direct: fio_pass(given.where, shape, is_load, d)),
                after_round=clear,
            )


def compare_redis(given, shape):
    from lmcache.lmcache_redis import LMCacheRedisClient

    host, port = given.where.rsplit(":", 1)

    def ask(*words):
        command = ["redis-cli", "-h", host, "-p", port, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def server_cpu():
        lines = dict(line.split(":") for line in ask("info", "cpu").split() if ":" in line)
        return float(lines["used_cpu_user"]) + float(lines["used_cpu_sys"])

    for workers in (int(count) for count in given.workers.split(",")):
        compare_clients(
            f"{shape.value_bytes // KIB} KiB, {workers} connections",
            {
                "larder redis": lambda w=workers: Connector(
                    f"redis://{given.where}?connections={w}"
                ),
                "LMCache's client": lambda w=workers: LMCacheRedisClient(
                    host, int(port), w, "", ""
                ),
            },
            shape,
            given.rounds,
            before_load=lambda: None,
            after_round=lambda: ask("flushall"),
            server_cpu=server_cpu,
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("storage", choices=["fs", "redis"])
    parser.add_argument(
        "where", help="a directory that it makes and removes, or HOST:PORT that is flushed"
    )
    parser.add_argument("--size-kib", default="64,1024")
    parser.add_argument("--workers", default="4")
    parser.add_argument("--ways", default="direct", help="fs: of direct,buffered")
    parser.add_argument("--warm", action="store_true", help="fs: leave the page cache as it is")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="fs: leave the emptied files, so that "
        "a run soon after is not slowed down by their removal",
    )
    parser.add_argument("--log", action="store_true", help="fs: larder's log store too")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--in-flight", type=int, default=4, help="batches")
    parser.add_argument("--bytes-mib", type=int, default=1024, help="of a pass")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    shapes = [
        Shape(int(size) * KIB, given.batch, given.in_flight, given.bytes_mib * MIB)
        for size in given.size_kib.split(",")
    ]
    if given.storage == "redis":
        for shape in shapes:
            compare_redis(given, shape)
        return
    os.mkdir(given.where)  # Never somebody's own.
    try:
        for shape in shapes:
            compare_files(given, shape)
    finally:
        if not given.keep:
            shutil.rmtree(given.where)


if __name__ == "__main__":
    main()
