"""Several engines in one process for the soak (test_mp_soak.py), each on a thread of its own with raw
connections for its scheduler and its workers:

    soak_client.py '{"port": 5555, "seed": 1, "first": 0, "engines": 8, "directory": "/tmp/soak"}'

The directory has the file "state" (soak_state.py), by which the driver says when the server is
replaced. What must not be is appended to "incidents", a line each; "counts/PID" has what was done."""

import collections
import contextlib
import json
import os
import pathlib
import random
import sys
import threading
import time

from mp_wire import RawClient, Refused
from mp_worker import EngineDrivenWorker, LmcacheDrivenWorker, Prompt, Shape, WrongBytes
from soak_state import State

# One rank and two, cells of 1 and 32 KiB.
SHAPES = [
    Shape("soak/one"),
    Shape("soak/two", world=2),
    Shape("soak/large", layers=4, hidden=128),
]
FAMILIES, TAILS, CHUNKS_MAX = 12, 20, 8
SALTS = ("", "", "tenant-a", "tenant-b")
BOUND_SECONDS = 20  # More than a load may take, on a machine that does other work, too.
GRACE_SECONDS = 2  # A request that was sent before the new server was there may still reach it.


class Lost(Exception):
    """A request that the server took with it."""


class Client(RawClient):
    """Waits no longer than the bound, and does not wait for a server that has gone."""

    def __init__(self, port, state, counts):
        super().__init__(port)
        self.state, self.counts = state, counts

    def answer(self, uid, seconds=BOUND_SECONDS):
        began, before, replaced = time.monotonic(), self.state.server, None
        while True:
            try:
                result = super().answer(uid, 0.25)
            except TimeoutError:
                pass
            except Refused:
                if self.state.server != before or before % 2:
                    raise Lost from None
                raise
            else:
                took = time.monotonic() - began
                self.counts["slowest_ms"] = max(self.counts["slowest_ms"], round(took * 1000))
                return result
            now = time.monotonic()
            if (
                replaced is None
                and self.state.server % 2 == 0
                and (self.state.server != before or before % 2)
            ):
                replaced = now
            if replaced is not None and now - replaced > GRACE_SECONDS:
                self.give_up(uid)
                raise Lost
            if replaced is None and self.state.server == before and now - began > seconds:
                self.give_up(uid)
                raise TimeoutError(f"no answer for {now - began:.1f} s")


class Engine:
    """One serving engine: a scheduler, and a worker for each rank of its model."""

    def __init__(self, job, number, state, counts):
        self.random = random.Random(f"{job['seed']}-{number}")
        self.job, self.number, self.state, self.counts = job, number, state, counts
        self.shape = SHAPES[number % len(SHAPES)]
        self.is_driven = number // len(SHAPES) % 2 == 1
        self.version = "0.5.6" if number % 4 < 2 else "0.5.7rc2"
        self.server = None  # To which the workers are registered.
        self.requests, self.request = 0, ""
        self.scheduler = self.client()
        kind = LmcacheDrivenWorker if self.is_driven else EngineDrivenWorker
        first = os.getpid() * 4096 + number * 8
        self.workers = [
            kind(self.client(), self.shape, first + rank, rank) for rank in range(self.shape.world)
        ]

    def client(self):
        return Client(self.job["port"], self.state, self.counts)

    def register(self):
        server = self.state.server
        for worker in self.workers:
            # Once false: it comes from a server before.
            worker.client.ask("ping", worker.instance)
            with contextlib.suppress(FileNotFoundError):  # Its server died right after it.
                worker.register()
        self.server = server

    def prompt(self):
        """Of few, so that much is found; those of a family begin alike."""
        family, tail = self.random.randrange(FAMILIES), int(self.random.random() ** 2 * TAILS)
        chunks = 2 + (family * 7 + tail) % (CHUNKS_MAX - 1)
        head = random.Random(family).choices(range(151_000), k=self.shape.chunk * (chunks // 2))
        rest = random.Random(family * 1000 + tail).choices(
            range(151_000), k=self.shape.chunk * (chunks - chunks // 2)
        )
        return Prompt(head + rest, 0, chunks, self.random.choice(SALTS), self.version)

    def part(self, prompt, begin, end):
        return Prompt(prompt.tokens, begin, end, prompt.salt, self.version)

    def step(self):
        if self.state.server % 2:  # Between two servers.
            return time.sleep(0.05)
        if self.server != self.state.server:
            self.register()
        chance = self.random.random()
        if chance < 0.9:
            self.serve(self.prompt())
        elif chance < 0.94:
            self.scheduler.ask("ping", None)
            for worker in self.workers:
                worker.client.ask("ping", worker.instance)
        elif chance < 0.96:
            self.leave_and_come_back()
        elif chance < 0.98:
            self.reconnect()
        elif chance < 0.995:
            self.say_nonsense()
        else:
            self.scheduler.ask("clear", False)
        self.counts["steps"] += 1

    def serve(self, prompt):
        """As an engine does for a request, or in one of the ways in which one goes wrong."""
        if self.random.random() > 0.05:  # Else the last one's id again.
            self.requests += 1
        request = f"{os.getpid()}-{self.number}-{self.requests}"
        hit = self.look_up(prompt, request)
        chance = self.random.random()
        if hit and chance < 0.75:
            begin = self.random.randrange(hit)
            if begin:
                self.free(self.part(prompt, 0, begin), request)
            self.retrieve(self.part(prompt, begin, hit), request)
        elif hit and chance < 0.85:
            for _ in range(2):  # Once is right.
                self.free(self.part(prompt, 0, hit), request)
        if hit < prompt.end:
            self.store(self.part(prompt, hit, prompt.end), request)
        if self.random.random() < 0.97:
            self.scheduler.ask("end_session", request)

    def look_up(self, prompt, request):
        asked = prompt.key(self.shape, request, None)
        self.scheduler.ask("lookup", asked, self.shape.world)
        began = time.monotonic()
        while (hit := self.scheduler.ask("query", request)) is None:
            if time.monotonic() - began > BOUND_SECONDS:
                raise TimeoutError(f"a lookup ran for {time.monotonic() - began:.1f} s")
            time.sleep(0.005)
        self.counts["lookups"] += 1
        self.counts["chunks_hit"] += hit
        self.counts["chunks_asked"] += prompt.end
        return hit

    def free(self, prompt, request):
        self.scheduler.ask("free", prompt.key(self.shape, request, None), self.shape.world)

    def retrieve(self, prompt, request):
        for worker in self.workers:
            if worker.retrieve(prompt, request):
                self.counts["retrieves"] += 1
                self.counts["bytes_compared"] += (prompt.end - prompt.begin) * self.shape.cell_bytes
            else:
                self.counts["retrieves_refused"] += 1

    def store(self, prompt, request):
        if not self.is_driven and self.random.random() < 0.03:  # Never committed.
            for worker in self.workers:
                worker.begin_store(prompt, request)
            return self.leave_and_come_back()
        for worker in self.workers:
            self.counts["stores" if worker.store(prompt, request) else "stores_refused"] += 1
        return None

    def leave_and_come_back(self):
        for worker in self.workers:
            worker.unregister()
        self.register()

    def reconnect(self):
        self.scheduler.close()
        self.scheduler = self.client()

    def say_nonsense(self):
        with contextlib.suppress(Refused):
            self.scheduler.ask(self.random.choice(["no_such_thing", "clear"]), 1, 2, 3)

    def close(self):
        for worker in self.workers:
            with contextlib.suppress(Lost, Refused, TimeoutError):
                worker.unregister()
            worker.client.close()
            worker.close()
        self.scheduler.close()


def run(job, number, state, counts):
    directory = pathlib.Path(job["directory"])

    def report(error):
        line = f"{type(error).__name__} engine {number} server {state.server}: {error}\n"
        with open(directory / "incidents", "a", encoding="utf-8") as incidents:
            incidents.write(line)

    engine = Engine(job, number, state, counts)
    while not state.is_over:
        try:
            engine.step()
        except Lost:
            counts["lost"] += 1
            engine.server = None
        except (WrongBytes, TimeoutError, Refused, AssertionError, KeyError, TypeError) as error:
            report(error)
            engine.server = None
            time.sleep(0.1)
    engine.close()


def main():
    job = json.loads(sys.argv[1])
    state = State(pathlib.Path(job["directory"]) / "state")
    numbers = range(job["first"], job["first"] + job["engines"])
    counts = {number: collections.Counter() for number in numbers}
    threads = [
        threading.Thread(target=run, args=(job, number, state, counts[number]))
        for number in numbers
    ]
    for thread in threads:
        thread.start()
    target = pathlib.Path(job["directory"]) / "counts" / str(os.getpid())
    while True:
        is_over = not any(thread.is_alive() for thread in threads)
        together = collections.Counter()
        for each in counts.values():
            for name, value in dict(each).items():
                together[name] = (
                    max(together[name], value) if name == "slowest_ms" else together[name] + value
                )
        target.with_suffix(".new").write_text(json.dumps(together))
        target.with_suffix(".new").rename(target)
        if is_over:
            return
        time.sleep(1)


if __name__ == "__main__":
    main()
