"""LMCache's asyncio client over native connectors: one in Python that the test controls, and
larder's own. tests/interop has LMCache's."""

import asyncio
import gc
import random
import sys
import threading
import weakref

import pytest
from aio_support import Buffer, run, until
from conftest import random_bytes, spec_of
from fake_native import FakeClient

from larder.lmcache import ConnectorClient

KINDS = ["fake", "memory", "log", "fs"]


def client_of(kind, directory, **options):
    return FakeClient(**options) if kind == "fake" else ConnectorClient(spec_of(kind, directory))


# --- Answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_single_keys(kind, tmp_path):
    async def main():
        client = client_of(kind, tmp_path)
        keys = [f"k{i}" for i in range(5)]
        values = [random_bytes(4096, i) for i in range(5)]
        assert await client.batch_set(keys, [memoryview(value) for value in values]) is None
        assert await client.batch_exists([*keys, "x"]) == [True] * 5 + [False]
        assert await client.batched_exists(["x"]) == [False]
        buffers = [bytearray(4096) for _ in range(6)]
        found = await client.batch_get([*keys, "x"], [memoryview(buffer) for buffer in buffers])
        assert found == [True] * 5 + [False]
        assert buffers[:5] == values
        assert buffers[5] == bytes(4096), "the buffer of a miss is as it was"
        assert await client.set("one", memoryview(b"1")) is None
        one = bytearray(1)
        assert await client.get("one", memoryview(one)) is True and one == b"1"
        assert await client.get("none", memoryview(one)) is False and one == b"1"
        assert await client.exists("one") is True
        assert await client.exists("none") is False
        client.close()

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_the_sync_forms_from_many_threads(kind, tmp_path):
    errors = []

    def work(client, number):
        try:
            for turn in range(30):
                keys = [f"{number}-{turn}-{i}" for i in range(3)]
                values = [random_bytes(1000, key) for key in keys]
                client.batch_set_sync(keys, [memoryview(value) for value in values])
                buffers = [bytearray(1000) for _ in keys]
                assert client.batch_get_sync(keys, [memoryview(b) for b in buffers]) == [True] * 3
                assert buffers == values
                assert client.batch_exists_sync([keys[0], "x"]) == [True, False]
                assert client.batched_exists_sync(["x"]) == [False]
                client.set_sync(keys[0] + "s", memoryview(b"1"))
                assert client.get_sync(keys[0] + "s", memoryview(buffers[0])[:1])
                assert client.exists_sync(keys[0] + "s") and not client.exists_sync("x")
        except BaseException as error:
            errors.append(error)

    async def main():
        client = client_of(kind, tmp_path)
        threads = [threading.Thread(target=work, args=(client, n)) for n in range(6)]
        for thread in threads:
            thread.start()
        await until(lambda: not any(thread.is_alive() for thread in threads))
        assert not errors, errors
        assert not client._pending and not client._early
        client.close()

    run(main())


def test_ten_thousand_concurrent_awaits():
    async def main():
        client = await ConnectorClient.open("memory:?capacity=1GiB")
        await client.batch_set([f"k{i}" for i in range(100)], [b"%4d" % i for i in range(100)])
        buffers = [bytearray(4) for _ in range(10_000)]
        found = await asyncio.gather(
            *(client.get(f"k{i % 100}", buffer) for i, buffer in enumerate(buffers))
        )
        assert all(found)
        assert all(buffer == b"%4d" % (i % 100) for i, buffer in enumerate(buffers))
        client.close()

    run(main())


def test_wrong_arguments():
    async def main():
        client = FakeClient()
        with pytest.raises(ValueError, match="2 keys, 1 bufs"):
            await client.batch_get(["a", "b"], [memoryview(bytearray(1))])
        with pytest.raises(ValueError, match="1 keys, 2 bufs"):
            await client.batch_set(["a"], [b"1", b"2"])
        client.close()
        larders = ConnectorClient("memory:")
        with pytest.raises(RuntimeError, match="keys list is empty"):
            await larders.batch_exists([])
        with pytest.raises(TypeError, match="read-only"):
            await larders.get("k", b"1")
        assert not larders._pending and larders._submitting == 0
        larders.close()
        with pytest.raises(RuntimeError, match="no running event loop"):
            await asyncio.to_thread(FakeClient)

    run(main())


def test_a_failed_batch_raises_its_text_and_only_there():
    async def main():
        client = FakeClient()
        good, bad, after = await asyncio.gather(
            client.set("good", memoryview(b"1")),
            client.set("bad", memoryview(b"1")),
            client.set("after", memoryview(b"1")),
            return_exceptions=True,
        )
        assert good is None and after is None
        assert isinstance(bad, RuntimeError) and str(bad) == "no room for bad"
        with pytest.raises(RuntimeError, match="no room for bad"):
            await asyncio.to_thread(client.set_sync, "bad", memoryview(b"1"))
        client.close()

    run(main())


@pytest.mark.parametrize("mask", [None, [], [True], [True] * 3])
def test_a_mask_that_is_missing_or_of_the_wrong_length_fails_only_its_load(mask):
    async def main():
        client = FakeClient(holds=True)
        native = client._client
        native.values = {"a": b"1", "b": b"2"}
        buffers = [memoryview(bytearray(1)) for _ in range(4)]
        first = asyncio.create_task(client.batch_get(["a", "b"], buffers[:2]))
        await asyncio.sleep(0)
        second = asyncio.create_task(client.batch_get(["a", "b"], buffers[2:]))
        await asyncio.sleep(0)
        held = native.held
        native.mask, native.held = (lambda _: mask), held[:1]
        native.finish()
        native.mask, native.held = (lambda found: found), held[1:]
        native.finish()
        with pytest.raises(RuntimeError, match="per-key results"):
            await first
        assert await second == [True, True]
        native.holds, native.mask = False, lambda _: None
        assert await client.batch_exists(["a"]) == [] and await client.exists("a") is False
        client.close()

    run(main())


def test_completions_that_nobody_asked_for_are_ignored():
    async def main():
        client = FakeClient()
        client._client.complete(99, True, "", [True])
        await client.set("a", memoryview(b"1"))
        assert await client.exists("a")
        client.close()

    run(main())


# --- Keepalive ------------------------------------------------------------------------------------


def test_buffers_live_until_their_completion_also_when_the_task_is_cancelled():
    async def main():
        client = FakeClient(holds=True)
        client._client.values["k"] = b"12345678"
        buffer = Buffer(8)
        watch = weakref.ref(buffer)
        task = asyncio.create_task(client.get("k", memoryview(buffer)))
        del buffer
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        assert watch() is not None, "native code would write to freed memory"
        client._client.finish()
        await until(lambda: gc.collect() >= 0 and watch() is None)
        client.close()

    run(main())


@pytest.mark.parametrize("kind", ["memory", "log", "delays"])
def test_a_storm_of_cancellations(kind, tmp_path):
    chooser = random.Random(kind)
    values = {f"k{i}": random_bytes(chooser.choice([1, 5000, 60_000]), i) for i in range(16)}
    delays = "fault:?inner=memory:&delay_rate=0.5&delay=1ms"
    watched = []

    async def load(client, keys):
        buffers = [Buffer(len(values[key])) for key in keys]
        watched.extend(map(weakref.ref, buffers))
        mask = await client.batch_get(keys, [memoryview(buffer) for buffer in buffers])
        assert mask == [True] * len(keys)
        assert buffers == [values[key] for key in keys]

    async def save(client, keys):
        copies = [Buffer(values[key]) for key in keys]
        watched.extend(map(weakref.ref, copies))
        await client.batch_set(keys, copies)

    async def look(client, keys):
        assert await client.batch_exists(keys) == [True] * len(keys)

    async def storm(client):
        tasks = []
        for _ in range(1000):
            keys = chooser.sample(list(values), 3)
            tasks.append(asyncio.create_task(chooser.choice([load, save, look])(client, keys)))
            if chooser.random() < 0.4:
                await asyncio.sleep(0)
            if chooser.random() < 0.5:
                chooser.choice(tasks[-20:]).cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = sum(isinstance(result, asyncio.CancelledError) for result in results)
        assert 100 < cancelled < 900
        assert results.count(None) == 1000 - cancelled

    def is_any_kept():
        gc.collect()
        return any(ref() is not None for ref in watched)

    async def main():
        client = ConnectorClient(delays if kind == "delays" else spec_of(kind, tmp_path))
        await client.batch_set(list(values), list(values.values()))
        await storm(client)
        await until(lambda: not is_any_kept())
        assert not client._pending and not client._abandoned
        client.close()

    run(main())


def test_nothing_is_referenced_more_often_than_before():
    async def main():
        client = ConnectorClient("memory:")
        key, buffer = "k" * 100, bytearray(4)
        await client.set(key, b"1234")
        before = sys.getrefcount(key), sys.getrefcount(buffer)
        for _ in range(20):
            assert await client.get(key, buffer)
            assert await asyncio.to_thread(client.get_sync, key, buffer)
        await until(lambda: (sys.getrefcount(key), sys.getrefcount(buffer)) == before)
        client.close()

    run(main())


# --- What LMCache's class does not have -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "log", "fs"])
def test_deletes_sizes_and_scans(kind, tmp_path):
    async def main():
        client = client_of(kind, tmp_path)
        keys = [f"m1/{i}" for i in range(5)] + ["m2/0"]
        await client.batch_set(keys, [memoryview(bytes(i)) for i in range(6)])
        assert await client.sizes([*keys, "x"]) == [0, 1, 2, 3, 4, 5, None]
        assert await client.delete(["m1/0", "x"]) == [True, False]
        found = [entry async for entry in client.scan("m1/")]
        assert sorted(found) == [(f"m1/{i}".encode(), i) for i in range(1, 5)]
        assert len([entry async for entry in client.scan()]) == 5
        assert await client.delete_prefix("m1/") == 4
        assert await client.sizes(keys) == [None] * 5 + [5]

        def in_a_thread():
            assert client.sizes_sync(["m2/0", "x"]) == [5, None]
            assert list(client.scan_sync("m")) == [(b"m2/0", 5)]
            assert client.delete_sync(["m2/0", "x"]) == [True, False]
            client.set_sync("m3", memoryview(b"1"))
            assert client.delete_prefix_sync("m") == 1

        await asyncio.get_running_loop().run_in_executor(None, in_a_thread)
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await client.sizes(["k"])

    run(main())
