"""larder.aio: tasks that are cancelled at any moment, and leftovers that must not be."""

import asyncio
import gc
import random
import sys
import weakref

import pytest
from aio_support import STALLED, Buffer, is_free, run, until
from conftest import random_bytes, spec_of

import larder
import larder.aio

STORM = {
    "memory": "memory:?capacity=1GiB",
    "delays": "fault:?inner=memory:&delay_rate=0.5&delay=2ms&seed=7",
    "stalls": "fault:?inner=memory:&stall_rate=0.2&stall=30ms&seed=7",
    "little room": "fault:?inner=memory:&delay_rate=0.5&delay=1ms&batches_max=4&in_flight=64KiB",
}


@pytest.mark.parametrize("kind", ["log", "fs", *STORM])
def test_a_storm_of_cancellations(kind, tmp_path):
    chooser = random.Random(kind)
    sizes = {f"k{i}": chooser.choice([1, 700, 4096, 40_000]) for i in range(24)}
    values = {key: random_bytes(size, key) for key, size in sizes.items()}
    watched = []
    finished = {"done": 0, "cancelled": 0}

    async def load(store, keys):
        buffers = [Buffer(sizes[key]) for key in keys]
        watched.extend(map(weakref.ref, buffers))
        outcomes = await store.get_into(keys, buffers, timeout=20)
        for key, buffer, hit in zip(keys, buffers, outcomes.hits):
            assert not hit or buffer == values[key]

    async def save(store, keys):
        copies = [Buffer(values[key]) for key in keys]
        watched.extend(map(weakref.ref, copies))
        await store.set_many(keys, copies, timeout=20)

    async def fetch(store, keys):
        value = await store.get(keys[0], timeout=20)
        assert value is None or value == values[keys[0]]

    async def look(store, keys):
        for key, size in zip(keys, await store.sizes(keys, timeout=20)):
            assert size in (None, sizes[key])

    async def remove(store, keys):
        await store.delete(keys[:1], timeout=20)

    async def one(store):
        work = chooser.choice([load, load, load, save, save, fetch, look, remove])
        try:
            await work(store, chooser.sample(list(sizes), chooser.randint(1, 4)))
            finished["done"] += 1
        except asyncio.CancelledError:
            finished["cancelled"] += 1
            raise
        except larder.Error as error:  # The value of a single key that was in the storm's way.
            assert "key '" in str(error)

    async def storm(store):
        tasks = set()
        for _ in range(1500):
            tasks.add(asyncio.create_task(one(store)))
            if chooser.random() < 0.5:
                await asyncio.sleep(0)
            if chooser.random() < 0.05:
                await asyncio.sleep(chooser.random() / 500)
            for task in chooser.sample(sorted(tasks, key=id), min(len(tasks), 2)):
                if chooser.random() < 0.3:
                    task.cancel()
            for task in [task for task in tasks if task.done()]:
                tasks.discard(task)
                assert task.cancelled() or task.exception() is None
        for task in tasks:
            if chooser.random() < 0.5:
                task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), result

    def is_any_kept():
        gc.collect()  # Exceptions and the frames that they hold are cycles.
        return any(ref() is not None for ref in watched)

    async def main():
        async with larder.aio.open(STORM.get(kind) or spec_of(kind, tmp_path)) as store:
            await store.set_many(values, values.values())
            await storm(store)
            assert not store._pending
            # Every batch comes back from the connector, and with it every buffer.
            await until(lambda: not is_any_kept())
            await store.set_many(values, values.values(), timeout=20)
            for key, value in values.items():
                copy = bytearray(sizes[key])
                if (await store.get_into([key], [copy], timeout=20)).hits == [True]:
                    assert copy == value

    run(main())
    assert finished["cancelled"] > 100 and finished["done"] > 100


def test_a_cancelled_load_is_cancelled_in_the_store_and_keeps_nothing():
    async def main():
        async with larder.aio.open(STALLED) as store:
            await store.set_many(["k" * 100], [b"12345678"])
            key, buffer = "k" * 100, Buffer(8)
            before = sys.getrefcount(key), sys.getrefcount(buffer)
            for turns in range(6):
                task = asyncio.create_task(store.get_into([key], [buffer], timeout=None))
                for _ in range(turns):
                    await asyncio.sleep(0)
                assert is_free(buffer) == (turns == 0), "held from submission on"
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                del task
                # Nothing but the cancellation ends it: the stall is an hour, the deadline never.
                await until(lambda: is_free(buffer))
                report = await store.report()
                assert report.counters["batches_in_flight_load"] == 0
                await store.set_many([key], [b"12345678"])
            assert (sys.getrefcount(key), sys.getrefcount(buffer)) == before

    run(main())


@pytest.mark.parametrize("kind", ["log", "fs", "memory", "delays", "little room"])
def test_cancelled_loads_lose_no_key(kind, tmp_path):
    async def main():
        async with larder.aio.open(STORM.get(kind) or spec_of(kind, tmp_path)) as store:
            keys = [f"k{i}" for i in range(16)]
            values = [random_bytes(20_000, key) for key in keys]
            await store.set_many(keys, values)
            chooser = random.Random(kind)
            for _ in range(100):
                buffers = [bytearray(20_000) for _ in keys]
                task = asyncio.create_task(store.get_into(keys, buffers, timeout=None))
                for _ in range(chooser.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
                assert (await asyncio.wait([task]))[0] == {task}
            assert await store.exists(keys) == [True] * 16
            buffers = [bytearray(20_000) for _ in keys]
            assert (await store.get_into(keys, buffers)).hits == [True] * 16
            assert buffers == values

    run(main())


def test_a_timeout_is_a_failed_key():
    async def main():
        async with larder.aio.open(STALLED) as store:
            await store.set_many(["k"], [b"1"])
            outcomes = await store.get_into(["k"], [bytearray(1)], timeout=0.05)
            assert outcomes.failed == [True]
            assert "deadline" in outcomes.errors[0]

    run(main())
