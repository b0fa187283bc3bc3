"""`larder server` beside LMCache's own server, in turn, by raw frames: latencies, server CPU, cycles
with several clients, and transfers through shared memory against memcpy.

    python bench/server_bench.py [--rounds 7] [--tokens 131072] [--only larder] [--transfers-only]

Run it with the python of the environment `engine` (scripts/python_env.sh). Frames are encoded before
the clock starts, so that a client costs little; each round asks every server in turn.
"""

import argparse
import collections
import ctypes
import mmap
import multiprocessing
import os
import pathlib
import random
import sys
import tempfile
import threading
import time

import numpy
from quartiles import quartiles

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "interop"))

# pylint: disable=wrong-import-position
from mp_server import MpServer
from mp_wire import OPERATIONS, RawClient, decode, encode, key, registration

CHUNK = 256
PROMPTS = 16
INSTANCE = 4711
MODEL = "bench/model"
TICKS = os.sysconf("SC_CLK_TCK")


def tokens_of(seed, count):
    # Ids as a vocabulary of 150,000 has them.
    return numpy.random.default_rng(seed).integers(0, 150_000, count).tolist()


class Client(RawClient):
    """Sends frames that were encoded before, one request at a time."""

    def frames(self, operation, *arguments):
        return [encode(OPERATIONS[operation]), *map(encode, arguments)]

    def run(self, frames):
        self.next_uid += 1
        self.send([encode(self.next_uid), *frames])
        reply = self.receive(60)
        assert reply is not None, "no reply within 60 s"
        return reply

    def result(self, frames):
        """QUERY until it is known."""
        while len(reply := self.run(frames)) < 3:
            pass
        return decode(reply[2])


class Bench:
    """One server, with the prompts of this run stored in it."""

    def __init__(self, kind, directory, tokens, l1_gb, hidden):
        self.kind = kind
        options = ["--hash-memory", "512MiB"] if kind == "larder" else []
        self.server = MpServer(
            kind,
            pathlib.Path(directory) / f"{kind}.log",
            chunk_tokens=CHUNK,
            l1_gb=l1_gb,
            options=options,
            shm_name=f"bench_{kind}_{os.getpid()}",
        ).wait_ready()
        self.client = Client(self.server.port)
        self.client.ask(
            "register",
            registration(INSTANCE, model=MODEL, layers=1, hidden=hidden, block=16, chunk=CHUNK),
        )
        self.tokens = tokens
        self.version = "0.5.6"

    def key(self, tokens, request, worker=None):
        return key(tokens, request, worker=worker, model=MODEL, version=self.version)

    def store(self, tokens, request):
        stored = self.key(tokens, request, worker=0)
        version = [] if self.kind in ("larder", "0.5.6") else [[]]
        self.client.ask("prepare_store", stored, INSTANCE, *version, seconds=60)
        assert self.client.ask("commit_store", stored, INSTANCE, b"", seconds=60)

    def cpu_seconds(self):
        """Of the server and its threads."""
        fields = pathlib.Path(f"/proc/{self.server.process.pid}/stat").read_text().rsplit(")", 1)[1]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / TICKS

    def close(self):
        self.client.close()
        self.server.stop()


def timed(work):
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Latencies:
    """Milliseconds by row and server; a row's figure is the median of the rounds' medians."""

    def __init__(self):
        self.rounds = collections.defaultdict(list)
        self.all = collections.defaultdict(list)

    def add(self, row, kind, values):
        self.rounds[row, kind].append(percentile(values, 0.5))
        self.all[row, kind] += values

    def show(self, kinds):
        print(f"{'milliseconds':44}" + "".join(f"{kind + ' p50':>14}{'p99':>9}" for kind in kinds))
        for row in dict.fromkeys(row for row, _ in self.rounds):
            cells = ""
            for kind in kinds:
                p50 = quartiles(self.rounds[row, kind])[0]
                cells += f"{p50:14.3f}{percentile(self.all[row, kind], 0.99):9.3f}"
            print(f"{row:44}{cells}")


def measure_latencies(benches, rounds, count):
    """What a scheduler waits for."""
    seen = Latencies()
    prompts = [tokens_of(seed, count) for seed in range(PROMPTS)]
    requests = {}
    for bench in benches:
        for number, tokens in enumerate(prompts):
            bench.store(tokens, f"store-{number}")
        client = bench.client
        requests[bench.kind] = [
            (
                client.frames("lookup", bench.key(tokens, f"r{number}"), 1),
                client.frames("query", f"r{number}"),
                client.frames("free", bench.key(tokens, f"r{number}"), 1),
                client.frames("end_session", f"r{number}"),
            )
            for number, tokens in enumerate(prompts)
        ]
    expected = count // CHUNK
    cpu = collections.defaultdict(list)
    for turn in range(rounds):
        for bench in random.sample(benches, len(benches)):
            client, mine = bench.client, requests[bench.kind]
            ping = client.frames("ping", None)
            seen.add("PING", bench.kind, [timed(lambda: client.run(ping)) for _ in range(300)])
            lookups, frees, ends = [], [], []
            before = bench.cpu_seconds()
            for _ in range(3):
                for lookup, query, free, end in mine:
                    began = time.perf_counter()
                    client.run(lookup)
                    hit = client.result(query)
                    lookups.append((time.perf_counter() - began) * 1000)
                    assert hit == expected, (bench.kind, hit, expected)
                    frees.append(timed(lambda: client.run(free)))
                    ends.append(timed(lambda: client.run(end)))
            cpu[bench.kind].append((bench.cpu_seconds() - before) * 1000 / (3 * len(mine)))
            seen.add(f"LOOKUP + QUERY, {count} tokens, hit", bench.kind, lookups)
            seen.add(f"FREE, {count} tokens", bench.kind, frees)
            seen.add("END", bench.kind, ends)
            unseen = []
            for number in range(8):
                tokens = tokens_of((turn, number, 99), count)
                lookup = client.frames("lookup", bench.key(tokens, f"n{number}"), 1)
                query = client.frames("query", f"n{number}")
                began = time.perf_counter()
                client.run(lookup)
                client.result(query)
                unseen.append((time.perf_counter() - began) * 1000)
                client.run(client.frames("end_session", f"n{number}"))
            seen.add(f"LOOKUP + QUERY, {count} tokens, never seen", bench.kind, unseen)
            seen.add(
                "PING under never-seen LOOKUPs",
                bench.kind,
                ping_under_lookups(bench, count, turn),
            )
    seen.show([bench.kind for bench in benches])
    for bench in benches:
        print(
            f"server CPU of LOOKUP + QUERY + FREE + END, {count} tokens, {bench.kind}: "
            f"{quartiles(cpu[bench.kind])[0]:.3f} ms"
        )


def ping_under_lookups(bench, count, turn):
    """PINGs of one client while another one looks up what nobody has seen."""
    client = Client(bench.server.port)
    prepared = [
        client.frames("lookup", bench.key(tokens_of((turn, number, 7), count), f"p{number}"), 1)
        for number in range(24)
    ]

    def stream():
        for frames in prepared:
            client.run(frames)

    other = threading.Thread(target=stream)
    other.start()
    ping = bench.client.frames("ping", None)
    values = []
    while other.is_alive():
        values.append(timed(lambda: bench.client.run(ping)))
    client.close()
    return values


def cycles(port, frames, seconds, counts, number):
    """LOOKUP, QUERY, FREE, END, again and again. In a process of its own."""
    client = Client(port)
    done = 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        lookup, query, free, end = frames[done % len(frames)]
        client.run(lookup)
        client.result(query)
        client.run(free)
        client.run(end)
        done += 1
    counts[number] = done / seconds


def measure_cycles(benches, rounds, count, clients, seconds=2.0):
    rates = collections.defaultdict(list)
    prompts = [tokens_of((seed, 5), count) for seed in range(PROMPTS)]
    for bench in benches:
        for number, tokens in enumerate(prompts):
            bench.store(tokens, f"cycle-{number}")
    for _ in range(rounds):
        for bench in random.sample(benches, len(benches)):
            spawning = multiprocessing.get_context("spawn")
            counts = spawning.Array("d", clients)
            workers = []
            for number in range(clients):
                frames = [
                    (
                        bench.client.frames("lookup", bench.key(tokens, f"c{number}-{i}"), 1),
                        bench.client.frames("query", f"c{number}-{i}"),
                        bench.client.frames("free", bench.key(tokens, f"c{number}-{i}"), 1),
                        bench.client.frames("end_session", f"c{number}-{i}"),
                    )
                    for i, tokens in enumerate(prompts)
                ]
                arguments = (bench.server.port, frames, seconds, counts, number)
                workers.append(spawning.Process(target=cycles, args=arguments))
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            rates[bench.kind].append(sum(counts))
    for bench in benches:
        middle, low, high = quartiles(rates[bench.kind])
        print(
            f"cycles/s, {clients} clients, {count} tokens, {bench.kind}: "
            f"{middle:.0f} ({low:.0f} to {high:.0f})"
        )


def copy(target, source, count):
    ctypes.memmove(target, source, count)


def measure_transfers(benches, rounds, mib):
    """16 chunks through shared memory: the slots, one memcpy each way, the commit."""
    chunk_bytes = mib << 20
    chunks = 16
    source = numpy.random.default_rng(1).integers(0, 255, chunk_bytes * chunks, dtype=numpy.uint8)
    target = numpy.zeros_like(source)
    ceiling, rates = [], collections.defaultdict(list)
    pools = {}
    for bench in benches:
        with open(bench.server.pool(), "r+b") as pool:
            pools[bench.kind] = numpy.frombuffer(mmap.mmap(pool.fileno(), 0), dtype=numpy.uint8)
            pools[bench.kind].max()  # Its pages are mapped from here on, as a worker's are soon.
    number = 0
    for _ in range(rounds):
        ceiling.append(timed(lambda: copy(target.ctypes.data, source.ctypes.data, source.nbytes)))
        for bench in random.sample(benches, len(benches)):
            pool = pools[bench.kind]
            base = pool.ctypes.data
            number += 1
            tokens = tokens_of((number, 3), CHUNK * chunks)
            request = f"t{number}"
            stored = bench.key(tokens, request, worker=0)
            client = bench.client
            prepare = client.frames("prepare_store", stored, INSTANCE)
            commit = client.frames("commit_store", stored, INSTANCE, b"")
            began = time.perf_counter()
            slots = decode(client.run(prepare)[2])["context"]["slots"]
            for i, slot in enumerate(slots):
                copy(base + slot["offset"], source.ctypes.data + i * chunk_bytes, chunk_bytes)
            client.run(commit)
            rates["store", bench.kind].append((time.perf_counter() - began) * 1000)
            assert len(slots) == chunks
            client.run(client.frames("lookup", bench.key(tokens, request), 1))
            assert client.result(client.frames("query", request)) == chunks
            prepare = client.frames("prepare_retrieve", stored, INSTANCE)
            commit = client.frames("commit_retrieve", stored, INSTANCE)
            began = time.perf_counter()
            slots = decode(client.run(prepare)[2])["context"]["slots"]
            for i, slot in enumerate(slots):
                copy(target.ctypes.data + i * chunk_bytes, base + slot["offset"], chunk_bytes)
            client.run(commit)
            rates["retrieve", bench.kind].append((time.perf_counter() - began) * 1000)
            assert (source == target).all()
            client.run(client.frames("end_session", request))
    memcpy = quartiles(ceiling)[0]
    size = source.nbytes / 1e6
    print(f"memcpy of {chunks} x {mib} MiB: {size / memcpy:.2f} GB/s")
    for way in ("store", "retrieve"):
        for bench in benches:
            middle, low, high = quartiles(rates[way, bench.kind])
            print(
                f"{way} {chunks} x {mib} MiB through shared memory, {bench.kind}: "
                f"{size / middle:.2f} GB/s ({size / high:.2f} to {size / low:.2f}), "
                f"{memcpy / middle:.2f} x memcpy"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=131072)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--only", action="append", help="larder, 0.5.6 or 0.5.7rc2; default both")
    parser.add_argument("--transfers-only", action="store_true")
    options = parser.parse_args()
    kinds = options.only or ["larder", "0.5.6"]
    with tempfile.TemporaryDirectory() as directory:
        if not options.transfers_only:
            benches = [Bench(kind, directory, options.tokens, 1, 4) for kind in kinds]
            measure_latencies(benches, options.rounds, options.tokens)
            measure_cycles(benches, options.rounds, 32768, options.clients)
            for bench in benches:
                bench.close()
        for mib in (1, 4):
            # Two planes of 256 tokens of float16.
            hidden = (mib << 20) // (2 * CHUNK * 2)
            benches = [Bench(kind, directory, options.tokens, 2, hidden) for kind in kinds]
            measure_transfers(benches, options.rounds * 4, mib)
            for bench in benches:
                bench.close()


if __name__ == "__main__":
    main()
