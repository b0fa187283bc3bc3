"""LMCache's adapters by themselves, in this process."""

import argparse
import json
import os
import select
import time
import zlib

from l2_json import l2_of
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.l2_adapters import create_l2_adapter
from lmcache.v1.distributed.l2_adapters.config import parse_args_to_l2_adapters_config

KIB, MIB = 1 << 10, 1 << 20


def plugin(*, eviction=None, **parameters):
    """The JSON of an adapter of the form `plugin`."""
    l2 = l2_of("plugin", **parameters)
    return l2 if eviction is None else {**l2, "eviction": eviction}


def log_of(directory, **parameters):
    given = {"capacity": "256MiB", "max_value": "1MiB", "segment": "4MiB", "min_free": "0"}
    given.update(parameters)
    return f"log:{directory}/kv?" + "&".join(f"{name}={value}" for name, value in given.items())


def parsed(*l2s):
    """As `lmcache server` parses its options --l2-adapter."""
    return parse_args_to_l2_adapters_config(
        argparse.Namespace(l2_adapter=[json.dumps(l2) for l2 in l2s])
    )


def adapter_of(l2, l1_memory_desc=None):
    """As the storage manager makes one."""
    return create_l2_adapter(parsed(l2).adapters[0], l1_memory_desc)


def key_of(i, salt="", model="meta-llama/Llama-3.1-8B", group=0):
    return ObjectKey(i.to_bytes(16, "big"), model, 0x02000000, group, salt)


def value_of(key, size):
    seed = zlib.crc32(repr(key).encode())
    return (seed.to_bytes(4, "big") * (size // 4 + 1))[:size]


class Memory:
    """The part of a MemoryObj that adapters use."""

    def __init__(self, data):
        self.data = bytearray(data)

    @property
    def byte_array(self):
        return memoryview(self.data)

    def get_size(self):
        return len(self.data)


class Driver:
    """What the controllers do with an adapter: submit, poll the event fd, take the result."""

    def __init__(self, adapter):
        self.adapter = adapter
        self.stored = {}

    def _wait(self, fd, take):
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        deadline = time.monotonic() + 120
        while (result := take()) is None:
            assert time.monotonic() < deadline, "no result"
            if poller.poll(1000):
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    pass
        return result

    def _take_stored(self, task):
        self.stored.update(self.adapter.pop_completed_store_tasks())
        return self.stored.pop(task, None)

    def store(self, keys, values):
        task = self.adapter.submit_store_task(keys, [Memory(value) for value in values])
        fd = self.adapter.get_store_event_fd()
        return self._wait(fd, lambda: self._take_stored(task))

    def lookup(self, keys):
        task = self.adapter.submit_lookup_and_lock_task(keys, {})
        fd = self.adapter.get_lookup_and_lock_event_fd()
        bits = self._wait(fd, lambda: self.adapter.query_lookup_and_lock_result(task))
        assert self.adapter.query_lookup_and_lock_result(task) is None, "given once"
        return [bits.test(i) for i in range(len(keys))]

    def load(self, keys, sizes):
        """The values, None for what was not loaded."""
        memories = [Memory(bytes(size)) for size in sizes]
        task = self.adapter.submit_load_task(keys, memories)
        bits = self._wait(
            self.adapter.get_load_event_fd(), lambda: self.adapter.query_load_result(task)
        )
        return [bytes(memory.data) if bits.test(i) else None for i, memory in enumerate(memories)]


class Listener:
    """Adds up what an adapter tells its listeners."""

    def __init__(self):
        self.sizes = {}
        self.accessed = []
        self.deleted = 0

    def on_l2_keys_stored(self, keys, sizes):
        for key, size in zip(keys, sizes, strict=True):
            assert key not in self.sizes, "stored twice"
            self.sizes[key] = size

    def on_l2_keys_accessed(self, keys):
        self.accessed += keys

    def on_l2_keys_deleted(self, keys):
        for key in keys:
            del self.sizes[key]
        self.deleted += len(keys)

    def by_salt(self):
        total = {}
        for key, size in self.sizes.items():
            total[key.cache_salt] = total.get(key.cache_salt, 0) + size
        return {salt: size for salt, size in total.items() if size}


def is_settled(adapter, listener):
    """The store lists what the listener has heard of, and the usage is the same."""
    listed = {}
    cursor = None
    while True:
        page = adapter.list_l2_keys(page_size=100, cursor=cursor)
        assert len(page.entries) <= 100
        listed.update((entry.key.to_object_key(), entry.size_bytes) for entry in page.entries)
        cursor = page.next_page_token
        if cursor is None:
            used = adapter.get_usage().total_bytes_used
            return listed == listener.sizes and used == sum(listed.values())
