"""Directories of LMCache's `fs_native`, through its own compiled client: larder reads what it wrote,
it reads what larder wrote, and a directory in use goes from one to the other and back."""

import ctypes
import mmap
import os
import random
import select
import threading
import time

import pytest
from l2_adapter import key_of
from l2_json import l2_of
from l2_manager import Manager
from lmcache.lmcache_fs import LMCacheFSClient
from lmcache_server import CHUNK_TOKENS, Engine, Server, wait_for

from larder.lmcache import Connector

KIB = 1024
CHUNKS = 24
HASH = "00010203aabbccddeeff001122334455"

# Every shape of key for which LMCache has a file, and the file.
NAMES = {
    f"llama@000000ff@0@{HASH}": f"llama@0x000000ff@0@{HASH}.data",
    f"llama@000000ff@1f@{HASH}": f"llama@0x000000ff@1f@{HASH}.data",
    f"llama@02010201@0@{HASH}@alice": f"llama@0x02010201@0@{HASH}@alice.data",
    f"llama@02010201@5@{HASH}@tenant 7.b": f"llama@0x02010201@5@{HASH}@tenant 7.b.data",
    f"meta-llama/Llama-3.1-8B@000000ff@0@{HASH}": (
        f"meta-llama-SEP-Llama-3.1-8B@0x000000ff@0@{HASH}.data"
    ),
    f"/a//b/@000000ff@0@{HASH}@s": f"-SEP-a-SEP--SEP-b-SEP-@0x000000ff@0@{HASH}@s.data",
    f".hidden@000000ff@0@{HASH}": f".hidden@0x000000ff@0@{HASH}.data",
    f"a b\n'\":*?<>|\\é@000000ff@0@{HASH}": f"a b\n'\":*?<>|\\é@0x000000ff@0@{HASH}.data",
    f"-SEP@000000ff@0@{HASH}": f"-SEP@0x000000ff@0@{HASH}.data",
    f"{'m' * 200}@000000ff@0@{HASH}": f"{'m' * 200}@0x000000ff@0@{HASH}.data",
    "short@0@0@00": "short@0x0@0@00.data",
    "zz@zz@zz@zz@zz": "zz@0xzz@zz@zz@zz.data",
    "@@@": "@0x@@.data",
}


class Buffers:
    """Aligned buffers as LMCache's L1 hands them out, and their memory."""

    def __init__(self, sizes):
        self.region = mmap.mmap(-1, sum(-(-size // 4096) * 4096 for size in sizes) + 4096)
        self.views, begin = [], 0
        for size in sizes:
            array = (ctypes.c_ubyte * size).from_buffer(self.region, begin)
            self.views.append(memoryview(array))
            begin += -(-size // 4096) * 4096

    def fill(self, values):
        for view, value in zip(self.views, values):
            view.cast("B")[:] = value
        return self.views

    def values(self):
        return [bytes(view) for view in self.views]


class Native:
    """Any client with the contract of LMCache's native connectors."""

    def __init__(self, client):
        self.client = client
        self.poller = select.poll()
        self.poller.register(client.event_fd(), select.POLLIN)

    def wait(self, future):
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline, "no completion"
            self.poller.poll(100)
            for future_id, ok, error, results in self.client.drain_completions():
                assert future_id == future
                return ok, error, results

    def set(self, keys, values):
        buffers = Buffers([len(value) for value in values])
        return self.wait(self.client.submit_batch_set(keys, buffers.fill(values)))

    def get(self, keys, sizes):
        buffers = Buffers(sizes)
        ok, error, results = self.wait(self.client.submit_batch_get(keys, buffers.views))
        return ok, [bool(result) for result in results or []], buffers.values()

    def exists(self, keys):
        return [bool(found) for found in self.wait(self.client.submit_batch_exists(keys))[2]]

    def delete(self, keys):
        return [bool(done) for done in self.wait(self.client.submit_batch_delete(keys))[2]]

    def close(self):
        self.client.close()


def values_of(keys, seed, size=64 * KIB):
    generator = random.Random(seed)
    return [generator.randbytes(size) for _ in keys]


WAYS = {
    "buffered": {},
    "direct": {"use_odirect": True},
    "temporary folder": {"relative_tmp_dir": "tmp"},
    "read ahead": {"read_ahead_size": 16 * KIB},
}


@pytest.fixture(params=WAYS, ids=lambda way: way.replace(" ", "_"))
def pair(request, tmp_path):
    """LMCache's client and larder on one directory with the same parameters."""
    way, base = WAYS[request.param], str(tmp_path / "kv")
    stock = Native(LMCacheFSClient(base, 4, **way))
    ours = Native(Connector(type="fs_native", base_path=base, num_workers=4, **way))
    yield stock, ours, tmp_path / "kv"
    ours.close()
    stock.close()


def values_in(directory):
    return {
        name: (directory / name).read_bytes()
        for name in os.listdir(directory)
        if (directory / name).is_file()
    }


def test_larder_reads_what_lmcache_wrote(pair):
    stock, ours, directory = pair
    keys = list(NAMES)
    values = values_of(keys, 1)
    ok, error, _ = stock.set(keys, values)
    assert ok, error
    assert values_in(directory) == dict(zip(NAMES.values(), values))
    assert ours.exists(keys) == [True] * len(keys)
    assert ours.get(keys, [64 * KIB] * len(keys)) == (True, [True] * len(keys), values)
    # There already: larder writes nothing.
    before = {name: (directory / name).stat().st_ino for name in NAMES.values()}
    ok, error, _ = ours.set(keys, values_of(keys, 2))
    assert ok, error
    assert before == {name: (directory / name).stat().st_ino for name in NAMES.values()}
    assert ours.delete(keys) == [True] * len(keys)
    assert stock.exists(keys) == [False] * len(keys)
    assert values_in(directory) == {}


def test_lmcache_reads_what_larder_wrote(pair):
    stock, ours, directory = pair
    keys = list(NAMES)
    values = values_of(keys, 3)
    ok, error, _ = ours.set(keys, values)
    assert ok, error
    assert values_in(directory) == dict(zip(NAMES.values(), values))
    assert stock.exists(keys) == [True] * len(keys)
    assert stock.get(keys, [64 * KIB] * len(keys)) == (True, [True] * len(keys), values)
    ok, error, _ = stock.set(keys, values_of(keys, 4))
    assert ok, error
    assert values_in(directory) == dict(zip(NAMES.values(), values))
    assert stock.delete(keys) == [True] * len(keys)
    assert ours.exists(keys) == [False] * len(keys)


def test_lengths_that_direct_io_cannot_take_are_the_same_files(pair):
    stock, ours, directory = pair
    sizes = [0, 1, 4095, 4096, 4097, 100_001]
    keys = [f"m@00000001@0@{size:08x}" for size in sizes]
    values = [random.Random(size).randbytes(size) for size in sizes]
    for writer, reader in ((stock, ours), (ours, stock)):
        ok, error, _ = writer.set(keys, values)
        assert ok, error
        assert reader.get(keys, sizes) == (True, [True] * len(keys), values)
        assert reader.delete(keys) == [True] * len(keys)


# LMCache's adapters in each of their modes. With use_odirect fs_native stores whole slots of L1.
MODES = {
    "fs_native": {"type": "fs_native"},
    "fs_native_direct": {"type": "fs_native", "use_odirect": True},
    "fs": {"type": "fs"},
    "fs_direct": {"type": "fs", "use_odirect": True},
}
CHUNK_SIZES = [1, 31, 4064, 4095, 4096, 4097, 7488, 8160, 8191, 8192, 100_001]


def files_by_inode(directory):
    """Values and their inodes: a file that is written again has another one."""
    files = [directory / name for name in os.listdir(directory) if name.endswith(".data")]
    return {file.name: (file.stat().st_ino, file.stat().st_size) for file in files}


@pytest.mark.parametrize("form", ["native_plugin", "plugin"])
@pytest.mark.parametrize("mode", MODES)
def test_chunks_of_any_length_go_from_one_to_the_other_and_stay(tmp_path, mode, form):
    """As LMCache itself stores and loads them: through its L1, its controllers and its adapters."""
    l2 = dict(MODES[mode], base_path=str(tmp_path))
    larder = l2_of(form, **l2)
    keys = {(who, size): key_of(size, who) for size in CHUNK_SIZES for who in ("stock", "larder")}

    def store(l2, who):
        before = len(files_by_inode(tmp_path))
        with Manager(l2) as manager:
            for size in CHUNK_SIZES:
                manager.use_chunks_of(size)
                manager.store([keys[who, size]])
            wait_for(lambda: len(files_by_inode(tmp_path)) == before + len(CHUNK_SIZES), "the store")

    def expect_hits(l2):
        with Manager(l2) as manager:
            for size in CHUNK_SIZES:
                manager.use_chunks_of(size)
                assert manager.load([keys["stock", size], keys["larder", size]]) == (2, 2), size

    store(dict(l2), "stock")
    store(larder, "larder")
    files = files_by_inode(tmp_path)
    expect_hits(larder)
    expect_hits(dict(l2))
    # Whatever it finds there each leaves to the other, also when it is to store it.
    for other, who in ((larder, "stock"), (dict(l2), "larder")):
        with Manager(other) as manager:
            for size in CHUNK_SIZES:
                manager.use_chunks_of(size)
                manager.store([keys[who, size]])
    assert files_by_inode(tmp_path) == files


def test_keys_that_lmcache_confuses_or_refuses_are_kept_apart_and_out_of_its_way(pair):
    stock, ours, directory = pair
    good = f"meta/llama@000000ff@0@{HASH}"
    awkward = [
        f"meta-SEP-llama@000000ff@0@{HASH}",
        f"meta/llama@000000ff@0@{HASH}@",
        "m@000000ff@0@a/../../b@s",
        f"{'m' * 300}@000000ff@0@{HASH}",
        "not LMCache's",
        "m\0@000000ff@0@00",
    ]
    ok, error, _ = stock.set([good], values_of([good], 1))
    assert ok, error
    assert ours.exists(awkward) == [False] * len(awkward)
    values = values_of(awkward, 2)
    ok, error, _ = ours.set(awkward, values)
    assert ok, error
    assert ours.get(awkward, [64 * KIB] * len(awkward))[1:] == ([True] * len(awkward), values)
    assert stock.get([good], [64 * KIB]) == (True, [True], values_of([good], 1))


def test_names_of_earlier_releases_are_read_and_never_written(tmp_path):
    old = {
        f"org/m@000000ff@0@{HASH}": f"org-SEP-m@0x000000ff@{HASH}.data",
        f"org/m@000000ff@0@{HASH}@alice": f"org-SEP-m@0x000000ff@{HASH}@alice.data",
    }
    keys = list(old)
    values = values_of(keys, 5)
    for name, value in zip(old.values(), values):
        (tmp_path / name).write_bytes(value)
    ours = Native(Connector(type="fs", base_path=str(tmp_path)))
    assert ours.exists(keys) == [True, True]
    assert ours.get(keys, [64 * KIB] * 2) == (True, [True, True], values)
    ok, error, _ = ours.set(keys, values)
    assert ok, error
    assert sorted(os.listdir(tmp_path)) == sorted(old.values())
    assert ours.delete(keys) == [True, True]
    assert os.listdir(tmp_path) == []
    ours.close()


def test_stores_of_both_at_once_leave_whole_values(tmp_path):
    base, size = str(tmp_path / "kv"), 256 * KIB
    keys = [f"m@00000001@0@{number:08x}" for number in range(20)]
    by_stock, by_ours = values_of(keys, 1, size), values_of(keys, 2, size)
    failures = []

    def store(client, values):
        for _ in range(10):
            ok, error, _ = client.set(keys, values)
            if not ok:
                failures.append(error)
            client.delete(keys[::3])

    stock = Native(LMCacheFSClient(base, 4))
    ours = Native(Connector(type="fs_native", base_path=base))
    threads = [
        threading.Thread(target=store, args=(stock, by_stock), daemon=True),
        threading.Thread(target=store, args=(ours, by_ours), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive()
    assert not failures
    ok, found, values = ours.get(keys, [size] * len(keys))
    for i, is_found in enumerate(found):
        assert not is_found or values[i] in (by_stock[i], by_ours[i]), keys[i]
    assert sum(found) >= len(keys) // 2
    ours.close()
    stock.close()


def prompt(number=0):
    return [number * 1_000_003 + i for i in range(CHUNKS * CHUNK_TOKENS)]


def files_in(directory):
    return [name for name in os.listdir(directory) if name.endswith(".data")]


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_server_adopts_an_existing_directory_and_gives_it_back(tmp_path, world_size):
    directory, log_path = tmp_path / "kv", tmp_path / "server.log"
    native = {"type": "fs_native", "base_path": str(directory), "num_workers": 4}
    keys = CHUNKS * world_size
    with Server(native, log_path) as server:
        Engine(server, world_size).store(prompt(1))
        wait_for(lambda: directory.exists() and len(files_in(directory)) == keys, "the store")

    with Server(l2_of(**native), log_path) as server:
        wait_for(lambda: server.larder_metrics().get("larder_keys") == keys, "the count of files")
        engine = Engine(server, world_size)
        assert engine.load(prompt(1)) == CHUNKS, "every chunk that fs_native wrote is a hit"
        metrics = server.larder_metrics()
        assert metrics["larder_hits_total"] == keys
        assert metrics["larder_get_failures_total"] == 0
        engine.store(prompt(2))
        wait_for(lambda: len(files_in(directory)) == 2 * keys, "the store")

    with Server(native, log_path) as server:
        engine = Engine(server, world_size)
        assert engine.load(prompt(2)) == CHUNKS, "every chunk that larder wrote is a hit"
        assert engine.load(prompt(1)) == CHUNKS
