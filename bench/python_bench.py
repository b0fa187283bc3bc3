"""The Python module beside the C++ bench, and its lookups. Prints what docs/benchmarks_lab.md quotes.

    python bench/python_bench.py loads [--pairs 7]     memory:, batches of 16, beside `larder bench`
    python bench/python_bench.py alignment SPEC        LMCache's door with aligned buffers and with others
    python bench/python_bench.py exists SPEC [--keys 10000000]

Run it with the python of an environment that has the package (scripts/python_env.sh test).
"""

import argparse
import mmap
import os
import random
import re
import select
import subprocess
import sys
import time

import larder
from larder.lmcache import Connector
from quartiles import quartiles

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BATCH = 16


def show(name, values, unit=""):
    middle, low, high = quartiles(values)
    print(f"  {name:<28} {middle:9.3f} {unit}  (quartiles {low:.3f} to {high:.3f})", flush=True)


def cpp_rate(size):
    """GB/s of the C++ bench, one pass."""
    command = os.path.join(os.path.dirname(sys.executable), "larder")
    ended = subprocess.run(
        [command, "bench", "memory:?capacity=4GiB", "--mode", "load", "--size", str(size)]
        + ["--batch", str(BATCH), "--in-flight", "1", "--bytes", "1GiB", "--pairs", "1"]
        + ["--no-fio", "--no-verify", "--quiet"],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(re.search(r"ours +([0-9.]+) GB/s", ended.stdout)[1])


def buffers_of(size, offset=0):
    region = mmap.mmap(-1, BATCH * size + 2 * MIB)
    region.madvise(mmap.MADV_HUGEPAGE)
    view = memoryview(region)
    for page in range(0, len(view), 4096):
        view[page] = 1  # A page that is there.
    return [view[offset + i * size :][:size] for i in range(BATCH)]


def store_pass(store, size, keys, buffers):
    begin = time.perf_counter()
    for batch in keys:
        hits = store.get_into(batch, buffers).hits
        assert all(hits)
    return len(keys) * BATCH * size / (time.perf_counter() - begin) / 1e9


def door_pass(connector, size, keys, buffers, operation="get"):
    submit = getattr(connector, f"submit_batch_{operation}")
    poller = select.poll()
    poller.register(connector.event_fd(), select.POLLIN)
    begin = time.perf_counter()
    for batch in keys:
        future = submit(batch, buffers)
        poller.poll()
        ((done, ok, error, hits),) = connector.drain_completions()
        assert done == future and ok and all(hits or ()), error
    return len(keys) * BATCH * size / (time.perf_counter() - begin) / 1e9


def loads(pairs):
    for size in (64 * KIB, MIB, 4 * MIB):
        count = GIB // size
        keys = [[f"key-{b * BATCH + i}" for i in range(BATCH)] for b in range(count // BATCH)]
        values = [random.randbytes(size) for _ in range(BATCH)]
        buffers = buffers_of(size)
        store = larder.open("memory:?capacity=2GiB")
        door = Connector("memory:?capacity=2GiB")
        rates = {"C++ bench": [], "Store.get_into": [], "lmcache.Connector": []}
        for batch in keys:
            store.set_many(batch, values)
            future = door.submit_batch_set(batch, values)
            while not any(done[0] == future for done in door.drain_completions()):
                pass
        for _ in range(pairs):
            rates["C++ bench"].append(cpp_rate(size))
            rates["Store.get_into"].append(store_pass(store, size, keys, buffers))
            rates["lmcache.Connector"].append(door_pass(door, size, keys, buffers))
        print(f"memory:, loads of {size // KIB} KiB, batch {BATCH}, 1 in flight, {pairs} pairs")
        for name, values_ in rates.items():
            show(name, values_, "GB/s")
        for name in ("Store.get_into", "lmcache.Connector"):
            ratios = [ours / cpp for ours, cpp in zip(rates[name], rates["C++ bench"])]
            show(f"ratio of {name}", ratios)
        store.close()
        door.close()


def alignment(spec, pairs):
    for size in (64 * KIB, MIB, 4 * MIB):
        door = Connector(spec)
        rates, shares = {}, {}
        for turn in range(pairs):
            for offset in (0, 64):
                buffers = buffers_of(size, offset)
                keys = [
                    [f"{size}-{turn}-{offset}-{b}-{i}" for i in range(BATCH)]
                    for b in range(512 * MIB // size // BATCH)
                ]
                staged = door.metrics()["larder_bytes_staged_total"]
                for operation in ("set", "get"):
                    rate = door_pass(door, size, keys, buffers, operation)
                    rates.setdefault((operation, offset), []).append(rate)
                staged = door.metrics()["larder_bytes_staged_total"] - staged
                shares[offset] = staged / (2 * len(keys) * BATCH * size)
        needed = door.report()["properties"]["buffer_alignment"]
        door.close()
        print(
            f"{size // KIB} KiB, batch {BATCH}, 1 in flight, {pairs} pairs; this disk asks for "
            f"{needed}; copied: {shares[0]:.0%} of aligned, {shares[64]:.0%} of 64-byte aligned"
        )
        for operation in ("set", "get"):
            for offset, name in ((0, "aligned"), (64, "64-byte aligned")):
                show(f"{operation}, {name}", rates[operation, offset], "GB/s")
            ratios = [a / b for a, b in zip(rates[operation, 64], rates[operation, 0])]
            show(f"{operation}, ratio", ratios)


def exists(spec, count):
    def key(i):
        return f"meta-llama/Llama-3.1-8B-Instruct@02000000@0@{i:066x}"

    assert len(key(0)) == 110
    with larder.open(spec) as store:
        for first in range(store.report().keys // 10_000 * 10_000, count, 10_000):
            keys = [key(i) for i in range(first, min(first + 10_000, count))]
            assert all(store.set_many(keys, [b""] * len(keys), timeout=600).stored)
        assert store.report().keys >= count * 0.99, store.report().keys
        rates, cpu_rates = [], []
        chooser = random.Random(1)
        for _ in range(9):
            # Every second one is not there.
            batches = [
                [key(chooser.randrange(count) + (i & 1) * count) for i in range(1000)]
                for _ in range(300)
            ]
            begin, cpu = time.perf_counter(), time.process_time()
            found = sum(sum(store.exists(batch)) for batch in batches)
            rates.append(0.3 / (time.perf_counter() - begin))
            cpu_rates.append(0.3 / (time.process_time() - cpu))
            assert found >= 150_000 * 0.99
        print(f"{spec}, {count} keys, exists of 1,000 str keys of 110 characters, half misses")
        show("exists", rates, "M keys/s")
        show("exists, of CPU time", cpu_rates, "M keys/s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["loads", "alignment", "exists"])
    parser.add_argument("spec", nargs="?", default="memory:?capacity=16GiB")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--keys", type=int, default=10_000_000)
    given = parser.parse_args()
    if given.what == "loads":
        loads(given.pairs)
    elif given.what == "alignment":
        alignment(given.spec, given.pairs)
    else:
        exists(given.spec, given.keys)


if __name__ == "__main__":
    main()
