"""Transfers of `larder server` beside LMCache's own server, in turn: through shared memory against
memcpy, and from a log store below L1 against what that store loads by itself.

    python bench/server_transfers.py [--rounds 20] [--only larder] [--copy-threads 1] [--disk DIR]

Run it with the python of the environment `engine` (scripts/python_env.sh). DIR is on the disk to
measure and has room for 6 GiB.
"""

import argparse
import collections
import contextlib
import ctypes
import json
import math
import mmap
import multiprocessing
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

import msgspec
import numpy
from quartiles import quartiles
from server_support import (
    CHUNK,
    INSTANCE,
    LARDER,
    Bench,
    Client,
    decode,
    encode,
    key,
    percentile,
    timed,
    tokens_of,
    wait_for,
)

CHUNKS = 16  # Of one transfer.
L1_GIB = 2
IN_FLIGHT = 4  # Lookups that wait for L2, as a scheduler has them.


def hidden_of(mib):
    """Of a layout whose chunk has so many MiB: two planes of 256 tokens of float16."""
    return (mib << 20) // (2 * CHUNK * 2)


class Memory:
    """Shared memory as a worker sees it, and a memcpy into it and out of it."""

    def __init__(self, path, is_touched=True):
        with open(path, "r+b") as file:
            self.bytes = numpy.frombuffer(mmap.mmap(file.fileno(), 0), dtype=numpy.uint8)
        if is_touched:
            self.bytes.max()  # Its pages are mapped from here on, as a worker's are soon.
        self.base = self.bytes.ctypes.data

    def write(self, offsets, source, chunk_bytes):
        for i, offset in enumerate(offsets):
            ctypes.memmove(self.base + offset, source.ctypes.data + i * chunk_bytes, chunk_bytes)

    def read(self, offsets, target, chunk_bytes):
        for i, offset in enumerate(offsets):
            ctypes.memmove(target.ctypes.data + i * chunk_bytes, self.base + offset, chunk_bytes)


class Worker:
    """One server's clients, and what its worker copies."""

    def __init__(self, bench, memory):
        self.bench, self.client, self.memory = bench, bench.client, memory

    def frames(self, tokens, request):
        """Of a store and a retrieve: prepare and commit of each."""
        stored = self.bench.key(tokens, request, worker=0)
        return (
            self.client.frames("prepare_store", stored, INSTANCE),
            self.client.frames("commit_store", stored, INSTANCE, b""),
            self.client.frames("prepare_retrieve", stored, INSTANCE),
            self.client.frames("commit_retrieve", stored, INSTANCE),
        )

    def offsets(self, prepare):
        slots = decode(self.client.run(prepare)[2])["context"]["slots"]
        return [slot["offset"] for slot in slots]

    def store(self, prepare, commit, source, chunk_bytes):
        offsets = self.offsets(prepare)
        self.memory.write(offsets, source, chunk_bytes)
        self.client.run(commit)
        return len(offsets)

    def retrieve(self, prepare, commit, target, chunk_bytes):
        offsets = self.offsets(prepare)
        self.memory.read(offsets, target, chunk_bytes)
        self.client.run(commit)
        return len(offsets)

    def look_up(self, tokens, request):
        """The hit in chunks, once it is known."""
        self.client.run(self.client.frames("lookup", self.bench.key(tokens, request), 1))
        return decode(self.client.run(self.client.frames("wait", request, 60.0))[2])

    def end(self, request):
        self.client.run(self.client.frames("end_session", request))


def show(what, size, milliseconds, ceiling):
    middle, low, high = quartiles(milliseconds)
    print(
        f"{what}: {size / middle / 1e6:.2f} GB/s ({size / high / 1e6:.2f} to "
        f"{size / low / 1e6:.2f}), {ceiling / middle:.2f} x memcpy"
    )


def measure_memory(benches, rounds, mib):
    """16 chunks through shared memory: the slots, one memcpy each way, the commit. The ceiling is
    the same memcpy by the same pieces, in turn over as much shared memory as the servers have."""
    chunk_bytes = mib << 20
    size = CHUNKS * chunk_bytes
    source = numpy.random.default_rng(1).integers(0, 255, size, dtype=numpy.uint8)
    target = numpy.zeros_like(source)
    times = collections.defaultdict(list)
    workers = [Worker(bench, Memory(bench.server.pool())) for bench in benches]
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        os.truncate(file.name, L1_GIB << 30)
        plain = Memory(file.name)
    for number in range(rounds):
        at = number * size % (L1_GIB << 30)
        offsets = range(at, at + size, chunk_bytes)
        times["write"].append(timed(lambda: plain.write(offsets, source, chunk_bytes)))
        times["read"].append(timed(lambda: plain.read(offsets, target, chunk_bytes)))
        for worker in random.sample(workers, len(workers)):
            kind = worker.bench.kind
            tokens, request = tokens_of((number, 3), CHUNK * CHUNKS), f"t{number}"
            frames = worker.frames(tokens, request)
            times["store", kind].append(
                timed(lambda: worker.store(*frames[:2], source, chunk_bytes))
            )
            assert worker.look_up(tokens, request) == CHUNKS
            target[:] = 0
            times["retrieve", kind].append(
                timed(lambda: worker.retrieve(*frames[2:], target, chunk_bytes))
            )
            assert (source == target).all()
            worker.end(request)
    for way, plain_way in (("store", "write"), ("retrieve", "read")):
        ceiling = quartiles(times[plain_way])[0]
        print(f"memcpy of {CHUNKS} x {mib} MiB, {plain_way}: {size / ceiling / 1e6:.2f} GB/s")
        for bench in benches:
            what = f"{way} {CHUNKS} x {mib} MiB through shared memory, {bench.kind}"
            show(what, size, times[way, bench.kind], ceiling)


class DrivenWorker:
    """A worker whose blocks the server copies: layers of float16 in shared memory, [2, BLOCKS, 16, 8,
    128] where tokens come before heads (NHD) and [2, BLOCKS, 8, 16, 128] where heads do (HND), so a
    chunk of 256 tokens takes a MiB in each. Of the blocks one half is stored, and what is retrieved
    goes into the other one."""

    BLOCKS, BLOCK, HEADS, HEAD = 2 * CHUNKS * CHUNK // 16 + 1, 16, 8, 128
    INSTANCE = INSTANCE + 1

    def __init__(self, bench, layers, order):
        self.bench, self.client = bench, bench.client
        self.model = f"bench/driven-{order}"
        of_block = [self.BLOCK, self.HEADS] if order == "NHD" else [self.HEADS, self.BLOCK]
        shape = [2, self.BLOCKS, *of_block, self.HEAD]
        stride = [math.prod(shape[i + 1 :]) for i in range(5)]
        size = 2 * math.prod(shape)
        self.paths, tensors = [], []
        for layer in range(layers):
            name = f"/lmcache_kv_{os.getpid()}_{bench.server.port}{layer}"
            self.paths.append(pathlib.Path("/dev/shm" + name))
            self.paths[-1].write_bytes(os.urandom(1 << 20) * (size >> 20) + bytes(size % (1 << 20)))
            metadata = {"dtype": "float16", "shape": shape, "stride": stride}
            metadata |= {"storage_offset": 0, "device_uuid": "cpu"}
            body = {"type": "cpu_shm", "shm_name": name, "nbytes": size, "version": 1}
            tensors.append(msgspec.msgpack.Ext(1, encode(body | {"metadata": metadata})))
        self.layers = [numpy.memmap(path, numpy.uint8, "r+").reshape(2, -1) for path in self.paths]
        hints = {"kv_layout": order}
        arguments = [self.INSTANCE, tensors, self.model, 1, "vllm", hints, []]
        assert self.client.ask("register_kv_cache", *arguments, seconds=60) is None
        self.first = list(range(1, 1 + self.BLOCKS // 2))
        self.second = list(range(1 + self.BLOCKS // 2, self.BLOCKS))

    def key(self, number):
        tokens = tokens_of((number, 11), CHUNK * CHUNKS)
        return key(tokens, f"v{number}", worker=0, model=self.model, version=self.bench.version)

    def look_up(self, stored, request):
        """Until all chunks are hit: LMCache answers a store before it has published it."""
        lookup = self.client.frames("lookup", stored | {"worker_id": None}, 1)
        query = self.client.frames("query", request)

        def is_hit():
            self.client.run(lookup)
            return self.client.result(query) == CHUNKS

        wait_for(is_hit, f"the store of {request}", 10)

    def is_equal(self):
        """Of both halves of the blocks."""
        block = self.BLOCK * self.HEADS * self.HEAD * 2
        half = len(self.first) * block
        return all(
            (layer[:, block : block + half] == layer[:, block + half : block + 2 * half]).all()
            for layer in self.layers
        )

    def close(self):
        self.client.ask("unregister_kv_cache", self.INSTANCE, seconds=60)
        for path in self.paths:
            path.unlink()


def measure_driven(benches, rounds, mib, order):
    """STORE and RETRIEVE of 16 chunks, which the server copies."""
    size = CHUNKS * mib << 20
    source = numpy.random.default_rng(1).integers(0, 255, size, dtype=numpy.uint8)
    target = numpy.zeros_like(source)
    workers = [DrivenWorker(bench, mib, order) for bench in benches]
    times = collections.defaultdict(list)
    event = b"stub_ipc_handle"
    for number in range(rounds):
        times["memcpy"].append(
            timed(lambda: ctypes.memmove(target.ctypes.data, source.ctypes.data, size))
        )
        for worker in random.sample(workers, len(workers)):
            kind, client, stored = worker.bench.kind, worker.client, worker.key(number)
            frames = client.frames("store", stored, worker.INSTANCE, [worker.first], event)
            began = time.perf_counter()
            good = decode(client.run(frames)[2])[1]
            times["store", kind].append((time.perf_counter() - began) * 1000)
            assert good is True
            worker.look_up(stored, f"v{number}")
            blocks = [worker.second]
            frames = client.frames("retrieve", stored, worker.INSTANCE, blocks, event, 0)
            began = time.perf_counter()
            good = decode(client.run(frames)[2])[1]
            times["retrieve", kind].append((time.perf_counter() - began) * 1000)
            assert good is True and worker.is_equal()
            client.run(client.frames("end_session", f"v{number}"))
    ceiling = quartiles(times["memcpy"])[0]
    print(f"memcpy of {size >> 20} MiB in one piece, warm: {size / ceiling / 1e6:.2f} GB/s")
    for way in ("store", "retrieve"):
        for bench in benches:
            what = f"{way} {CHUNKS} x {mib} MiB {order}, copied by the server, {bench.kind}"
            show(what, size, times[way, bench.kind], ceiling)
    for worker in workers:
        worker.close()


def measure_first_fill(directory, mib):
    """F27: L1 filled once, and once more, by a worker that has touched nothing before. The server
    has its memory from the system, as `--no-l1-use-lazy` takes it at the start."""
    chunk_bytes = mib << 20
    rounds = (L1_GIB << 30) // (CHUNKS * chunk_bytes) - 1
    source = numpy.ones(CHUNKS * chunk_bytes, dtype=numpy.uint8)
    bench = Bench("larder", directory, L1_GIB, hidden_of(mib), own_options=["--no-l1-use-lazy"])
    status = bench.server.status
    wait_for(lambda: status()["larder"]["l1_memory"]["committed"] == L1_GIB << 30, "all of L1", 60)
    worker = Worker(bench, Memory(bench.server.pool(), is_touched=False))
    passes = []
    for number in range(3):
        frames = [
            worker.frames(tokens_of((number, i, 4), CHUNK * CHUNKS), f"f{number}-{i}")[:2]
            for i in range(rounds)
        ]
        passes.append(timed(lambda: [worker.store(*f, source, chunk_bytes) for f in frames]))
        bench.client.run(bench.client.frames("clear", True))
    bench.close()
    rates = [rounds * source.nbytes / spent / 1e6 for spent in passes]
    print(
        f"first fill of L1, {mib} MiB a chunk: {rates[0]:.2f} GB/s, then {rates[1]:.2f} and "
        f"{rates[2]:.2f}: {rates[0] / rates[1]:.2f} x the second"
    )


def stored_below(worker, prompts, source, chunk_bytes):
    """Stores the prompts, and leaves them in L2 alone."""
    for number, tokens in enumerate(prompts):
        worker.store(*worker.frames(tokens, f"d{number}")[:2], source, chunk_bytes)
    status = worker.bench.server.status
    wait_for(lambda: status()["larder"]["l1_bytes"]["wanted"] == 0, "the store below L1", 120)


def bench_log(directory, mib):
    """GB/s of loads from a log store by `larder bench`, as many batches in flight as prompts here."""
    command = [
        *(str(LARDER), "bench", f"log:{directory}/alone?capacity=3GiB&max_value=4MiB"),
        *("--size", f"{mib}MiB", "--batch", str(CHUNKS), "--bytes", "1GiB", "--pairs", "5"),
        *("--in-flight", str(IN_FLIGHT), "--no-fio", "--no-verify", "--json"),
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rates = json.loads(text)["series"][0]["gb_per_second"]
    shutil.rmtree(f"{directory}/alone")
    return rates["median"]


def measure_disk(directory, disk, mib, rounds):
    """LOOKUP of what L2 alone has until the worker may read it, against the store's own loads."""
    alone = bench_log(disk, mib)
    chunk_bytes = mib << 20
    source = numpy.random.default_rng(1).integers(0, 255, CHUNKS * chunk_bytes, dtype=numpy.uint8)
    url = f"log:{disk}/l2-{mib}?capacity=3GiB&max_value=4MiB"
    bench = Bench("larder", directory, L1_GIB, hidden_of(mib), url)
    worker = Worker(bench, Memory(bench.server.pool()))
    prompts = [
        tokens_of((i, 6), CHUNK * CHUNKS) for i in range((1 << 30) // (CHUNKS * chunk_bytes))
    ]
    stored_below(worker, prompts, source, chunk_bytes)
    rates = []
    for number in range(rounds):
        bench.client.run(bench.client.frames("clear", True))
        began = time.perf_counter()
        for i in range(len(prompts) + IN_FLIGHT):
            if i < len(prompts):
                key = bench.key(prompts[i], f"w{number}-{i}")
                bench.client.run(bench.client.frames("lookup", key, 1))
            if i >= IN_FLIGHT:
                finish(worker, prompts, number, i - IN_FLIGHT)
        rates.append(len(prompts) * source.nbytes / (time.perf_counter() - began) / 1e9)
    bench.close()
    middle, low, high = quartiles(rates)
    print(
        f"L2 load to the worker, {mib} MiB a chunk: {middle:.2f} GB/s ({low:.2f} to {high:.2f}); "
        f"larder bench {alone:.2f} GB/s: {middle / alone:.2f}"
    )


def finish(worker, prompts, number, i):
    request = f"w{number}-{i}"
    hit = decode(worker.client.run(worker.client.frames("wait", request, 60.0))[2])
    assert hit == CHUNKS, hit
    prepare, commit = worker.frames(prompts[i], request)[2:]
    assert len(worker.offsets(prepare)) == CHUNKS
    worker.client.run(commit)
    worker.end(request)


def saturate(port, prepared, is_ready, is_done):
    """Loads from L2 without a pause. In a process of its own."""
    client = Client(port)
    is_ready.set()
    while not is_done.is_set():
        for lookup, wait, end in prepared:
            client.run(lookup)
            client.run(wait)
            client.run(end)
    client.close()


def measure_lookups_under_load(directory, disk, count=32768):
    """LOOKUPs of what L1 has while another client loads from L2 more than L1 can hold."""
    chunk_bytes = 1 << 20
    source = numpy.ones(CHUNKS * chunk_bytes, dtype=numpy.uint8)
    url = f"log:{disk}/busy?capacity=4GiB&max_value=4MiB"
    bench = Bench("larder", directory, 1, hidden_of(1), url)
    worker = Worker(bench, Memory(bench.server.pool()))
    prompts = [tokens_of((i, 8), CHUNK * CHUNKS) for i in range(128)]  # 2 GiB.
    stored_below(worker, prompts, source, chunk_bytes)
    # Its chunks are in L1 while something holds them: a session that has not ended.
    held = tokens_of(9, count)
    bench.store(held, "held")
    worker.look_up(held, "holds")
    frames = bench.client.frames
    prepared = [
        (
            frames("lookup", bench.key(tokens, f"s{i}"), 1),
            frames("wait", f"s{i}", 60.0),
            frames("end_session", f"s{i}"),
        )
        for i, tokens in enumerate(prompts)
    ]
    lookup, query, end = (
        frames("lookup", bench.key(held, "q"), 1),
        frames("query", "q"),
        frames("end_session", "q"),
    )
    spawning = multiprocessing.get_context("spawn")
    is_ready, is_done = spawning.Event(), spawning.Event()
    other = spawning.Process(
        target=saturate, args=(bench.server.port, prepared, is_ready, is_done)
    )
    values = []
    chunks = -bench.server.status()["larder"]["chunks"]["hit_l2"]
    other.start()
    is_ready.wait()
    began = time.perf_counter()
    while time.perf_counter() < began + 8:
        values.append(timed(lambda: (bench.client.run(lookup), bench.client.result(query))))
        bench.client.run(end)
    spent = time.perf_counter() - began
    is_done.set()
    chunks += bench.server.status()["larder"]["chunks"]["hit_l2"]
    other.join()
    bench.close()
    print(
        f"LOOKUP + QUERY of {count} tokens in L1 while L2 loads {chunks * chunk_bytes / spent / 1e9:.2f} GB/s: p50 "
        f"{percentile(values, 0.5):.3f} ms, p99 {percentile(values, 0.99):.3f} ms"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", action="append", help="larder, 0.5.6 or 0.5.7rc2; default both")
    parser.add_argument("--copy-threads", help="of larder's server; default its own")
    parser.add_argument("--disk", type=pathlib.Path, help="measure L2, too, in this directory")
    options = parser.parse_args()
    kinds = options.only or ["larder", "0.5.6"]
    own = ["--copy-threads", options.copy_threads] if options.copy_threads else []
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        for mib in (1, 4):
            benches = [
                Bench(kind, directory, L1_GIB, hidden_of(mib), own_options=own) for kind in kinds
            ]
            measure_memory(benches, options.rounds, mib)
            for order in ("NHD", "HND"):
                measure_driven(benches, options.rounds, mib, order)
            for bench in benches:
                bench.close()
            measure_first_fill(directory, mib)
        if options.disk is None:
            return
        disk = stack.enter_context(tempfile.TemporaryDirectory(dir=options.disk))
        for mib in (1, 4):
            measure_disk(directory, disk, mib, max(5, options.rounds // 4))
        measure_lookups_under_load(directory, disk)


if __name__ == "__main__":
    main()
