"""larder.aio beside the sync store, in microseconds for each batch of loads. Prints the table that
docs/benchmarks_lab.md quotes.

    python bench/aio_bench.py DIR [--rounds 7] [--seconds 0.5]

Values of 4 KiB, `memory:` and a `log:` below DIR, batches of 1 and 16; one batch at a time, and 64
at a time (as many waiting tasks, or as many calls in a pool of 64 threads). The ways take turns
within each round. Run it with the python of an environment that has the package.
"""

import argparse
import asyncio
import concurrent.futures
import itertools
import os
import random
import tempfile
import time

import larder
import larder.aio
from quartiles import quartiles

VALUE = 4096
KEYS = 4096
AT_ONCE = 64


async def each_in_turn(load, keys, end):
    count = 0
    while time.perf_counter() < end:
        await load(next(keys))
        count += 1
    return count


async def many_at_once(load, keys, end):
    return sum(await asyncio.gather(*(each_in_turn(load, keys, end) for _ in range(AT_ONCE))))


class Bench:
    """One connector, opened by both stores, and one size of batch."""

    def __init__(self, sync, aio, batch):
        self.sync, self.aio, self.batch = sync, aio, batch
        names = [f"key-{i}" for i in range(KEYS)]
        random.Random(1).shuffle(names)
        self.batches = [names[i : i + batch] for i in range(0, KEYS, batch)]
        self.free = [[bytearray(VALUE) for _ in range(batch)] for _ in range(AT_ONCE)]

    def load_sync(self, keys):
        buffers = self.free.pop()
        assert all(self.sync.get_into(keys, buffers).hits)
        self.free.append(buffers)

    async def load_aio(self, keys):
        buffers = self.free.pop()
        assert all((await self.aio.get_into(keys, buffers)).hits)
        self.free.append(buffers)

    async def load_in_thread(self, keys):
        await asyncio.to_thread(self.load_sync, keys)

    async def load_at_once(self, keys):
        self.load_sync(keys)

    async def rounds(self, rounds, seconds):
        ways = {
            "sync": (each_in_turn, self.load_at_once),
            "aio": (each_in_turn, self.load_aio),
            "to_thread": (each_in_turn, self.load_in_thread),
            "aio, 64": (many_at_once, self.load_aio),
            "to_thread, 64": (many_at_once, self.load_in_thread),
        }
        taken = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (drive, load) in ways.items():
                begin = time.perf_counter()
                count = await drive(load, itertools.cycle(self.batches), begin + seconds)
                taken[way].append((time.perf_counter() - begin) / count * 1e6)
        return taken


def show(name, batch, taken):
    cells = []
    for values in taken.values():
        middle, low, high = quartiles(values)
        cells.append(f"{middle:.1f} ({low:.1f} to {high:.1f})")
    print(f"| {name} | {batch} | " + " | ".join(cells) + " |", flush=True)


async def main(given):
    pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    asyncio.get_running_loop().set_default_executor(pool)
    print("| microseconds a batch | keys | sync | aio | to_thread | aio, 64 | to_thread, 64 |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=given.directory) as directory:
        for kind in ("memory", "log"):
            spec = {
                "memory": "memory:?capacity=1GiB",
                "log": f"log:{directory}/%s?capacity=1GiB&max_value=4MiB&segment=32MiB",
            }[kind]
            sync = larder.open(spec.replace("%s", "sync"))
            aio = await larder.aio.open(spec.replace("%s", "aio"))
            for i in range(KEYS):
                value = os.urandom(VALUE)
                sync.set_many([f"key-{i}"], [value])
                await aio.set_many([f"key-{i}"], [value])
            for batch in (1, 16):
                bench = Bench(sync, aio, batch)
                show(f"`{kind}:`", batch, await bench.rounds(given.rounds, given.seconds))
            sync.close()
            await aio.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", help="where the log stands for the time of the run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each way in each round")
    asyncio.run(main(parser.parse_args()))
