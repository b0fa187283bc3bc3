"""The asyncio client over LMCache's own compiled connector, beside the client that it replaces."""

import asyncio
import ctypes
import random
import threading

import pytest
from lmcache.lmcache_fs import LMCacheFSClient
from lmcache.v1.storage_backend.native_clients import connector_client_base as lmcaches

from larder.lmcache import Connector, ConnectorClient, ConnectorClientBase

HASH = "00010203aabbccddeeff001122334455"


def key(i):
    return f"llama@000000ff@0@{HASH[:-4]}{i:04x}"


def view(data):
    """A buffer as LMCache passes it."""
    return memoryview((ctypes.c_ubyte * len(data)).from_buffer(bytearray(data)))


def users_class(base):
    """A user's client, as LMCache's own are written: only the base differs."""

    class FilesClient(base[LMCacheFSClient]):
        def __init__(self, path, workers, loop=None):
            super().__init__(LMCacheFSClient(str(path), workers), loop)

    return FilesClient


def run(main):
    return asyncio.run(asyncio.wait_for(main, 300))


@pytest.mark.parametrize("base", [lmcaches.ConnectorClientBase, ConnectorClientBase])
def test_a_users_client_works_with_either_base(base, tmp_path):
    values = [random.Random(i).randbytes(4096) for i in range(20)]
    keys = [key(i) for i in range(20)]

    def in_a_thread(client):
        buffer = view(bytes(4096))
        client.get_sync(keys[3], buffer)
        assert bytes(buffer) == values[3]
        client.set_sync(key(100), view(b"new"))
        assert client.exists_sync(key(100))
        assert client.batch_exists_sync([keys[0], key(101)]) == [True, False]

    async def main():
        client = users_class(base)(tmp_path, 4)
        await client.batch_set(keys, [view(value) for value in values])
        buffers = [view(bytes(4096)) for _ in keys]
        await client.batch_get(keys, buffers)
        assert [bytes(buffer) for buffer in buffers] == values
        assert await client.batch_exists([*keys, key(99)]) == [True] * 20 + [False]
        assert await client.exists(keys[0]) is True
        if base is ConnectorClientBase:  # LMCache's sync calls may lose their completion.
            await asyncio.to_thread(in_a_thread, client)
        client.close()

    run(main())


def test_a_load_tells_its_misses(tmp_path):
    async def main():
        client = users_class(ConnectorClientBase)(tmp_path, 2)
        await client.set(key(1), view(b"1234"))
        buffers = [view(b"....") for _ in range(3)]
        assert await client.batch_get([key(0), key(1), key(2)], buffers) == [False, True, False]
        assert [bytes(buffer) for buffer in buffers] == [b"....", b"1234", b"...."]
        client.close()

    run(main())


def test_threads_and_cancelled_tasks_at_once(tmp_path):
    values = {key(i): random.Random(i).randbytes(20_000) for i in range(16)}
    errors = []

    def load_in_a_thread(client):
        try:
            for name, value in values.items():
                buffer = view(bytes(20_000))
                assert client.get_sync(name, buffer) and bytes(buffer) == value
        except BaseException as error:
            errors.append(error)

    async def load(client, names):
        buffers = [view(bytes(20_000)) for _ in names]
        assert await client.batch_get(names, buffers) == [True] * len(names)
        assert [bytes(buffer) for buffer in buffers] == [values[name] for name in names]

    async def main():
        chooser = random.Random(1)
        client = users_class(ConnectorClientBase)(tmp_path, 4)
        await client.batch_set(list(values), [view(value) for value in values.values()])
        threads = [threading.Thread(target=load_in_a_thread, args=(client,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        tasks = []
        for _ in range(500):
            names = chooser.sample(list(values), 4)
            tasks.append(asyncio.create_task(load(client, names)))
            if chooser.random() < 0.4:
                await asyncio.sleep(0)
            if chooser.random() < 0.5:
                chooser.choice(tasks[-10:]).cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results), results
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert not errors, errors
        client.close()

    run(main())


def test_the_same_files_through_larders_own_client(tmp_path):
    async def main():
        theirs = users_class(lmcaches.ConnectorClientBase)(tmp_path, 2)
        await theirs.set(key(1), view(b"theirs"))
        ours = ConnectorClient(Connector(type="fs_native", base_path=str(tmp_path)))
        buffer = view(bytes(6))
        assert await ours.get(key(1), buffer) is True
        assert bytes(buffer) == b"theirs"
        theirs.close()
        ours.close()

    run(main())
