"""What the benchmarks of servers share: a server with stored prompts, a client whose frames are encoded
before the clock starts, and figures."""

import collections
import os
import pathlib
import sys
import time

import numpy
from quartiles import quartiles

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "interop"))

# pylint: disable=wrong-import-position
from mp_server import LARDER as LARDER
from mp_server import MpServer
from mp_server import wait_for as wait_for
from mp_wire import OPERATIONS, RawClient, decode, encode, key, registration

CHUNK = 256
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

    def __init__(self, kind, directory, l1_gb, hidden, l2=None, own_options=()):
        self.kind = kind
        options = ["--hash-memory", "512MiB", *own_options] if kind == "larder" else []
        if l2 is not None:
            options += ["--l2-adapter", l2]
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
                if not self.all[row, kind]:  # That server has no such row.
                    cells += f"{'-':>14}{'-':>9}"
                    continue
                p50 = quartiles(self.rounds[row, kind])[0]
                cells += f"{p50:14.3f}{percentile(self.all[row, kind], 0.99):9.3f}"
            print(f"{row:44}{cells}")
