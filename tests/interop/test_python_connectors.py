"""LMCache's own compiled client as a connector of larder, by the native contract."""

import random

import pytest
from lmcache.lmcache_fs import LMCacheFSClient

import larder
from larder import connectors

KIB = 1024
HASH = "00010203aabbccddeeff001122334455"


@pytest.fixture
def opened(tmp_path):
    """larder.open() of a store over LMCache's files, as often as a test wants."""
    made = []

    def make(location):
        made.append(LMCacheFSClient(location, 4, "", False, 0))
        return made[-1]

    connectors.register("lmcache-files", make)
    yield lambda: larder.open(f"lmcache-files:{tmp_path}/files")
    connectors.unregister("lmcache-files")


def test_lmcaches_compiled_client_is_a_connector(opened, tmp_path):
    (tmp_path / "files").mkdir()
    keys = [f"llama@000000ff@{i:x}@{HASH}" for i in range(40)]
    values = [random.Random(i).randbytes(16 * KIB + i) for i in range(40)]
    with opened() as store:
        assert all(store.set_many(keys, values).stored)
        buffers = [bytearray(len(value)) for value in values]
        assert all(store.get_into(keys, buffers).hits)
        assert [bytes(buffer) for buffer in buffers] == values
        assert store.exists([*keys, "llama@000000ff@77@00"]) == [True] * 40 + [False]
        # Sizes are known of what was stored here.
        assert store.get(keys[3]) == values[3]
        assert store.set_many(keys[:1], [b"other"], mode="if_absent").existed == [True]
        assert store.delete(keys[:2]) == [True, True]
        assert store.exists(keys[:3]) == [False, False, True]
    # larder's own `fs` reads what was written that way.
    with larder.open(f"fs:{tmp_path}/files?min_free=0") as store:
        assert store.get(keys[5]) == values[5]


def test_what_another_run_stored_is_loaded_into_buffers(opened, tmp_path):
    (tmp_path / "files").mkdir()
    key, value = f"llama@000000ff@0@{HASH}", random.Random(1).randbytes(64 * KIB)
    with opened() as store:
        store.set_many([key], [value])
    with opened() as store:
        buffer = bytearray(len(value))
        assert store.get_into([key], [buffer]).hits == [True]
        assert buffer == value
        # Its client does not tell the size, so larder cannot either.
        assert store.sizes([key]) == [0]
