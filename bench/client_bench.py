"""What a batch of loads costs through larder.Client, beside the other doors. Prints the table that
docs/benchmarks_lab.md quotes.

    python bench/client_bench.py [--rounds 7] [--seconds 0.5] [--batch 16] [--value 64] [--at-once 16]

In microseconds a batch, on `memory:`, whose own cost for small values is small: what is left is the
door's. One thread; `--at-once` batches in flight where the door can have them. `addresses`
names the buffers by address, `8 pieces` gives each value in pieces. The ways take turns within each
round. `larder bench memory:` measures the C++ core alone.

Run it with the python of an environment that has the package.
"""

import argparse
import ctypes
import select
import time

import larder
from larder.lmcache import Connector
from quartiles import quartiles

KEYS = 4096


class Bench:
    def __init__(self, given):
        self.batch, self.at_once = given.batch, given.at_once
        self.client = larder.Client("memory:")
        self.connector = Connector("memory:")
        self.store = larder.open("memory:")
        names = [f"key-{i}" for i in range(KEYS)]
        self.batches = [names[i : i + self.batch] for i in range(0, KEYS, self.batch)]
        values = [bytes(given.value)] * KEYS
        self.client.submit_set(names, values)
        self.connector.submit_batch_set(names, values)
        self.store.set_many(names, values)
        for opened in (self.client, self.connector):
            select.select([opened.event_fd()], [], [])
        assert self.client.drain()[0].ok and self.connector.drain_completions()[0][1]
        self.memory = bytearray(given.value * self.batch)
        view = memoryview(self.memory)
        self.buffers = [
            view[i * given.value : (i + 1) * given.value] for i in range(self.batch)
        ]
        self.pieces = [split(buffer) for buffer in self.buffers]
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.addresses = larder.Addresses(
            [address + i * given.value for i in range(self.batch)], given.value, self.memory
        )

    def through_client(self, buffers, end):
        client, poll = self.client, select.poll()
        poll.register(client.event_fd(), select.POLLIN)
        return self.drive(
            lambda keys: client.submit_get(keys, buffers), poll, lambda: len(client.drain()), end
        )

    def through_connector(self, end):
        connector, poll = self.connector, select.poll()
        poll.register(connector.event_fd(), select.POLLIN)
        return self.drive(
            lambda keys: connector.submit_batch_get(keys, self.buffers),
            poll,
            lambda: len(connector.drain_completions()),
            end,
        )

    def drive(self, submit, poll, drain, end):
        count = in_flight = 0
        while time.perf_counter() < end:
            while in_flight < self.at_once:
                submit(self.batches[(count + in_flight) % len(self.batches)])
                in_flight += 1
            poll.poll()
            ended = drain()
            count += ended
            in_flight -= ended
        while in_flight > 0:
            poll.poll()
            in_flight -= drain()
        return count

    def through_store(self, end):
        count = 0
        while time.perf_counter() < end:
            self.store.get_into(self.batches[count % len(self.batches)], self.buffers)
            count += 1
        return count


def split(buffer):
    """Eight pieces, the last of which has the rest."""
    size = len(buffer) // 8
    return [buffer[i * size : (i + 1) * size] for i in range(7)] + [buffer[7 * size :]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each way in each round")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--value", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=16)
    given = parser.parse_args()
    bench = Bench(given)
    ways = {
        "Client": lambda end: bench.through_client(bench.buffers, end),
        "Client, addresses": lambda end: bench.through_client(bench.addresses, end),
        "Client, 8 pieces": lambda end: bench.through_client(bench.pieces, end),
        "lmcache.Connector": bench.through_connector,
        "Store": bench.through_store,
    }
    taken = {way: [] for way in ways}
    for _ in range(given.rounds):
        for way, run in ways.items():
            begin = time.perf_counter()
            count = run(begin + given.seconds)
            taken[way].append((time.perf_counter() - begin) / count * 1e6)
    print(f"| microseconds a batch of {given.batch} keys of {given.value} bytes | median (quartiles) |")
    print("|---|---|")
    for way, values in taken.items():
        middle, low, high = quartiles(values)
        print(f"| {way} | {middle:.1f} ({low:.1f} to {high:.1f}) |", flush=True)


if __name__ == "__main__":
    main()
