"""larder's two forms under LMCache, in turn: the adapter (`plugin`), and the connector behind
LMCache's own bridge (`native_plugin`). Prints what docs/benchmarks_lab.md quotes.

    python bench/l2_adapter_bench.py 'log:DIR?capacity=8GiB&max_value=4MiB' [--pairs 7]

Run it with the python of the environment `interop` (scripts/python_env.sh). The tasks are submitted
and awaited as LMCache's controllers do: poll the event fd, then ask for the result. Batches of 16.
"""

import argparse
import ctypes
import mmap
import os
import select
import statistics
import time

from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.l2_adapters import create_l2_adapter
from lmcache.v1.distributed.l2_adapters.native_plugin_l2_adapter import NativePluginL2AdapterConfig
from lmcache.v1.distributed.l2_adapters.plugin_l2_adapter import PluginL2AdapterConfig

KIB, MIB = 1 << 10, 1 << 20
BATCH = 16
FORMS = ("native_plugin", "plugin")


class Memory:
    """A MemoryObj as far as adapters look at it."""

    def __init__(self, address, size):
        self._view = memoryview((ctypes.c_ubyte * size).from_address(address))

    @property
    def byte_array(self):
        return self._view

    def get_size(self):
        return len(self._view)


class Arena:
    """A batch's aligned memory."""

    def __init__(self, size):
        self.region = mmap.mmap(-1, BATCH * size)
        base = ctypes.addressof(ctypes.c_ubyte.from_buffer(self.region))
        ctypes.memset(base, 0x5A, BATCH * size)
        self.objects = [Memory(base + i * size, size) for i in range(BATCH)]


def open_form(form, spec):
    if form == "plugin":
        config = PluginL2AdapterConfig("larder.lmcache", "L2Adapter", {"url": spec})
    else:
        config = NativePluginL2AdapterConfig("larder.lmcache", "Connector", {"url": spec})
    adapter = create_l2_adapter(config)
    if form == "plugin":
        # What earlier passes stored is accounted for in the background; that is not measured here.
        while not adapter.report_status()["accounting"]["is_complete"]:
            time.sleep(0.01)
    return adapter


def await_result(fd, take):
    while (result := take()) is None:
        select.select([fd], [], [], 5)
        try:
            os.eventfd_read(fd)
        except BlockingIOError:
            pass
    return result


def take_stored(adapter, task):
    return adapter.pop_completed_store_tasks().get(task)


def store(adapter, keys, objects):
    task = adapter.submit_store_task(keys, objects)
    fd = adapter.get_store_event_fd()
    assert await_result(fd, lambda: take_stored(adapter, task)).is_successful()


def load(adapter, keys, objects):
    task = adapter.submit_load_task(keys, objects)
    fd = adapter.get_load_event_fd()
    result = await_result(fd, lambda: adapter.query_load_result(task))
    assert result.popcount() == len(keys)


def look_up(adapter, keys, _):
    task = adapter.submit_lookup_and_lock_task(keys, {})
    fd = adapter.get_lookup_and_lock_event_fd()
    result = await_result(fd, lambda: adapter.query_lookup_and_lock_result(task))
    assert result.popcount() == len(keys)
    adapter.submit_unlock(keys)


def measure(adapter, operation, batches, arena):
    """(seconds in all, median microseconds of one task)."""
    times = []
    for keys in batches:
        begin = time.perf_counter()
        operation(adapter, keys, arena.objects)
        times.append(time.perf_counter() - begin)
    return sum(times), statistics.median(times) * 1e6


def batches_of(size, turn, form, batches):
    return [
        [
            ObjectKey(f"{turn}-{b}-{i}".encode(), f"bench/{form}-{size}", 0x01000000)
            for i in range(BATCH)
        ]
        for b in range(batches)
    ]


def run_size(spec, size, pairs, bytes_a_pass):
    arena = Arena(size)
    count = max(4, bytes_a_pass // size // BATCH)
    seen = {}
    for turn in range(pairs):
        # Which one is first alternates.
        for form in FORMS if turn % 2 == 0 else FORMS[::-1]:
            adapter = open_form(form, spec)
            batches = batches_of(size, turn, form, count)
            for operation in (store, load, look_up):
                seconds, task_us = measure(adapter, operation, batches, arena)
                rate = count * BATCH * size / seconds / 1e9
                seen.setdefault((operation.__name__, form), []).append((rate, task_us))
            adapter.close()
    return seen


def show(size, seen):
    for operation in ("store", "load", "look_up"):
        rows = {form: seen[operation, form] for form in FORMS}
        for column, unit in ((0, "GB/s"), (1, "us a task")):
            if operation == "look_up" and column == 0:
                continue
            middle = {form: statistics.median(row[column] for row in rows[form]) for form in FORMS}
            ratios = [a[column] / b[column] for a, b in zip(rows["plugin"], rows["native_plugin"])]
            print(
                f"{size // KIB:5} KiB {operation:8} {unit:10}"
                f" native_plugin {middle['native_plugin']:10.2f}  plugin {middle['plugin']:10.2f}"
                f"  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("spec")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--mib", type=int, default=256, help="bytes a pass")
    given = parser.parse_args()
    for size in (64 * KIB, MIB):
        show(size, run_size(given.spec, size, given.pairs, given.mib * MIB))


if __name__ == "__main__":
    main()
