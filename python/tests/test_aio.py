"""larder.aio against real stores: answers, a loop that keeps turning, ends."""

import asyncio
import os
import time

import pytest
from aio_support import STALLED, Buffer, is_free, run, until
from conftest import random_bytes

import larder
import larder.aio


def test_every_call_gives_what_the_sync_one_gives(spec):
    async def main():
        async with larder.aio.open(spec) as store:
            stored = await store.set_many(["a", b"b", "c"], [b"one", bytearray(5000), b""])
            assert stored == larder.Stored([True] * 3, [False] * 3, [False] * 3, [None] * 3)
            again = await store.set_many(["a"], [b"new"], mode="if_absent")
            assert (again.stored, again.existed) == ([True], [True])
            buffers = [bytearray(3), bytearray(b"untouched")]
            outcomes = await store.get_into(["a", "x"], buffers)
            assert outcomes == larder.Outcomes([True, False], [False] * 2, [3, 0], [None] * 2)
            assert buffers == [b"one", b"untouched"]
            assert await store.get("a") == b"one"
            assert await store.get("c") == b""
            assert await store.get("x") is None
            assert await store.exists(["a", "x"]) == [True, False]
            assert await store.sizes(["b", "c", "x"]) == [5000, 0, None]
            assert dict([entry async for entry in store.scan()]) == {b"a": 3, b"b": 5000, b"c": 0}
            assert await store.delete(["c", "x"]) == [True, False]
            report = await store.report()
            assert (report.keys, report.health) == (2, "healthy")
            assert (await store.metrics())["larder_keys"] == 2
            assert "closed" not in repr(store)
        assert store.closed and "closed" in repr(store)

    run(main())


def test_no_keys_are_answered_at_once(store_of):
    async def main():
        async with store_of("memory") as store:
            assert (await store.get_into([], [])).hits == []
            assert (await store.set_many([], [])).stored == []
            assert await store.exists([]) == await store.sizes([]) == await store.delete([]) == []

    run(main())


def test_wrong_arguments_raise_what_the_sync_store_raises(store_of):
    async def main():
        async with store_of("memory") as store:
            with pytest.raises(TypeError, match="keys: a single str"):
                await store.exists("k")
            with pytest.raises(TypeError, match="read-only"):
                await store.get_into(["k"], [b"1"])
            with pytest.raises(ValueError, match="2 keys, 1 buffers"):
                await store.get_into(["a", "b"], [bytearray(1)])
            with pytest.raises(ValueError, match="mode: 'often'"):
                await store.set_many(["k"], [b"1"], mode="often")
            with pytest.raises(ValueError, match="timeout: -1"):
                await store.get("k", timeout=-1)
            with pytest.raises(TypeError, match="timeout: str"):
                await store.delete(["k"], timeout="soon")
            assert not store._pending

    run(main())


def test_a_failed_key_is_an_entry_and_for_single_values_an_error():
    async def main():
        async with larder.aio.open("fault:?inner=memory:&error_rate=1&pattern=get:*") as store:
            await store.set_many(["a"], [b"123"])
            outcomes = await store.get_into(["a"], [bytearray(3)])
            assert (outcomes.hits, outcomes.failed) == ([False], [True])
            assert "key 'a' (index 0, buffer of 3 bytes)" in outcomes.errors[0]
            await store.set_many(["b"], [b"123"])
            with pytest.raises(larder.Error, match="key 'b'"):
                await store.get("b")
        async with larder.aio.open("fault:?inner=memory:&error_rate=1&pattern=delete:*") as store:
            await store.set_many(["a"], [b"123"])
            with pytest.raises(larder.Error, match="key 'a'"):
                await store.delete(["a"])

    run(main())


def test_a_store_that_has_gone_down_answers_every_waiting_call():
    async def main():
        spec = "fault:?inner=memory:&error_rate=1&delay_rate=1&delay=20ms&pattern=get:*"
        async with larder.aio.open(spec) as store:
            await store.set_many(["a"], [b"1"])
            results = await asyncio.gather(
                *(store.get_into(["a"], [bytearray(1)]) for _ in range(100))
            )
            # The first failure makes the key a miss; none is left waiting, and none is a hit.
            assert not any(result.hits[0] for result in results)
            assert results[0].failed == [True]

    run(main())


def test_ten_thousand_concurrent_awaits(store_of):
    async def main(kind):
        async with store_of(kind) as store:
            values = {f"k{i}": random_bytes(200, i) for i in range(100)}
            await store.set_many(values, values.values())
            keys = [f"k{i % 100}" for i in range(10_000)]
            buffers = [bytearray(200) for _ in keys]
            results = await asyncio.gather(
                *(store.get_into([key], [buffer]) for key, buffer in zip(keys, buffers))
            )
            assert all(result.hits == [True] for result in results)
            assert all(values[key] == buffer for key, buffer in zip(keys, buffers))

    run(main("memory"))
    run(main("log"))


def test_an_exception_in_a_callback_disturbs_nobody(store_of):
    async def main():
        seen = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        async with store_of("memory") as store:
            await store.set_many(["k"], [b"1"])

            def fail(_):
                raise ZeroDivisionError

            tasks = []
            for _ in range(50):
                tasks.append(asyncio.create_task(store.get_into(["k"], [bytearray(1)])))
                tasks[-1].add_done_callback(fail)
            assert all(outcome.hits == [True] for outcome in await asyncio.gather(*tasks))
            await until(lambda: len(seen) == 50)
            assert all(isinstance(each["exception"], ZeroDivisionError) for each in seen)
            assert await store.get("k") == b"1"

    run(main())


# --- The loop keeps turning -----------------------------------------------------------------------


class Turns:
    """Counts the loop's work during an await."""

    async def __aenter__(self):
        self.count = 0
        self.task = asyncio.create_task(self.turn())
        await asyncio.sleep(0)
        self.count = 0
        return self

    async def turn(self):
        while True:
            self.count += 1
            await asyncio.sleep(0)

    async def __aexit__(self, *_):
        self.task.cancel()


def test_opening_listing_and_closing_leave_the_loop_free(store_of):
    async def main():
        async with Turns() as turns:
            store = await store_of("log")
            assert turns.count > 0
        await store.set_many(["k"], [b"1"])
        async with Turns() as turns:
            assert [key async for key, _ in store.scan()] == [b"k"]
            assert turns.count > 0
        async with Turns() as turns:
            await store.close()
            assert turns.count > 0

    run(main())


def test_a_spec_that_cannot_be_opened_says_why():
    async def main():
        with pytest.raises(larder.OpenError, match="nosuch"):
            await larder.aio.open("nosuch:/x")
        with pytest.raises(larder.OpenError, match="nosuch"):
            async with larder.aio.open("nosuch:/x"):
                pass

    run(main())


def test_an_opening_that_is_cancelled_leaves_nothing_open(store_of):
    async def main():
        for turns in (0, 1, 5, 50, 500):
            task = asyncio.create_task(store_of("log")._open())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await (await task).close()  # It was quicker.
            except asyncio.CancelledError:
                pass
        deadline = time.monotonic() + 120
        while True:
            try:
                async with store_of("log") as store:
                    await store.set_many(["k"], [b"1"])
                return
            except larder.OpenError as error:  # Still being opened, or closed again.
                assert "in use" in str(error) and time.monotonic() < deadline

    run(main())


# --- Closing --------------------------------------------------------------------------------------


def test_a_closed_store_says_so_and_closes_again(store_of):
    async def main():
        store = await store_of("log")
        await store.close()
        await store.close()
        for call in (
            store.get("k"),
            store.exists(["k"]),
            store.set_many(["k"], [b""]),
            store.get_into(["k"], [bytearray(1)]),
            store.delete(["k"]),
            store.report(),
            anext(store.scan()),
        ):
            with pytest.raises(larder.ClosedError, match="closed"):
                await call
        async with store_of("log"):
            pass  # Its directory is free.

    run(main())


def test_closes_at_one_time_all_return(store_of):
    async def main():
        store = await store_of("log")
        await asyncio.gather(*(store.close() for _ in range(5)))
        assert store.closed

    run(main())


def test_close_lets_calls_end_that_end_in_time():
    async def main():
        store = await larder.aio.open("fault:?inner=memory:&delay_rate=1&delay=50ms&pattern=get:*")
        await store.set_many(["k"], [b"1"])
        load = asyncio.create_task(store.get_into(["k"], [bytearray(1)]))
        await asyncio.sleep(0)
        await store.close()
        assert (await load).hits == [True]

    run(main())


def test_close_ends_what_waits_with_a_clear_error():
    async def main():
        store = await larder.aio.open(STALLED)
        await store.set_many(["k"], [b"1"])
        buffers = [Buffer(1) for _ in range(20)]
        loads = [
            asyncio.create_task(store.get_into(["k"], [buffer], timeout=None)) for buffer in buffers
        ]
        await asyncio.sleep(0)
        closing = asyncio.create_task(store.close(timeout=2))
        await asyncio.sleep(0)
        with pytest.raises(larder.ClosedError):
            await store.exists(["k"])  # Nothing new from here on.
        for result in await asyncio.gather(*loads, return_exceptions=True):
            assert isinstance(result, larder.ClosedError)
            assert str(result) == "the store was closed before the answer came"
        await closing
        assert all(is_free(buffer) for buffer in buffers)

    run(main())


def test_a_close_that_is_cancelled_can_be_called_again(store_of):
    async def main():
        store = await store_of("log")
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await store.close()
        assert store.closed

    run(main())


def test_arguments_may_close_the_store(store_of):
    async def main():
        store = await store_of("memory")

        def keys():
            store._client.close(0.0, 5.0)
            yield "k"

        with pytest.raises(larder.ClosedError):
            await store.set_many(keys(), [b"1"])

    run(main())
    with larder.open("memory:") as store:

        def keys():
            store.close()
            yield "k"

        for call in (store.exists, store.delete, lambda keys: store.set_many(keys, [b"1"])):
            with pytest.raises(larder.ClosedError):
                call(keys())


# --- What no real store does on demand ------------------------------------------------------------


class StuckClient:
    """In the place of the native client: accepts everything, and answers nothing."""

    closed = False

    def __init__(self):
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.cancelled = []
        self.drained = []
        self.error = None

    def event_fd(self):
        return self.fd

    def submit_get_into(self, number, keys, buffers, urgency, timeout):
        return None

    def cancel(self, number):
        self.cancelled.append(number)

    def drain(self):
        os.read(self.fd, 8)
        raise self.error

    def close(self, grace, timeout):
        raise larder.StuckError("the store is not closed: the kernel has it")


def test_what_the_kernel_keeps_past_the_timeout_raises():
    async def main():
        client = StuckClient()
        store = larder.aio.Store(client, "stuck:")
        with pytest.raises(larder.StuckError, match="no answer within 0.01 s"):
            await store.get_into(["k"], [bytearray(1)], timeout=0.01)
        assert client.cancelled == [1] and not store._pending
        with pytest.raises(larder.StuckError, match="not closed"):
            await store.close(timeout=0.1)
        with pytest.raises(larder.ClosedError):
            await store.get_into(["k"], [bytearray(1)])
        with pytest.raises(larder.StuckError, match="not closed"):
            await store.close(timeout=0.1)

    run(main())


def test_a_call_that_slips_in_while_the_store_closes_ends_too():
    async def main():
        client = StuckClient()
        store = larder.aio.Store(client, "stuck:")
        late = asyncio.get_running_loop().create_future()
        client.close = lambda grace, timeout: store._pending.update({99: late})
        await store.close()
        with pytest.raises(larder.ClosedError, match="before the answer came"):
            await late

    run(main())


def test_answers_that_cannot_be_read_fail_every_waiting_call():
    async def main():
        client = StuckClient()
        store = larder.aio.Store(client, "stuck:")
        loads = [
            asyncio.create_task(store.get_into(["k"], [bytearray(1)], timeout=None))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        client.error = MemoryError("none left")
        os.eventfd_write(client.fd, 1)
        for result in await asyncio.gather(*loads, return_exceptions=True):
            assert isinstance(result, larder.Error)
            assert "cannot be read: none left" in str(result)

    run(main())


def test_get_raises_when_the_key_could_not_be_looked_up(tmp_path):
    async def main():
        spec = f"fault:?inner=fs:{tmp_path}&error_rate=1&pattern=exists:*"
        async with larder.aio.open(spec) as store:
            await store.set("a", b"value")
            with pytest.raises(larder.Error, match="injected"):
                await store.get("a")
            assert await store.exists(["a"]) == [False]

    run(main())


def test_a_prefix_is_scanned_and_deleted(store_of):
    async def main():
        async with store_of("log") as store:
            names = [f"m1/{i}" for i in range(5000)] + ["m2/0", "other"]
            await store.set_many(names, [b"x"] * len(names))
            assert [entry async for entry in store.scan("m2/")] == [(b"m2/0", 1)]
            assert await store.delete_prefix("m1/") == 5000
            assert await store.delete_prefix("m1/") == 0
            assert {key async for key, _ in store.scan()} == {b"m2/0", b"other"}
            with pytest.raises(ValueError, match="^prefix: ''"):
                await store.delete_prefix("")
            assert (await store.set_many(["a"], [[b"1", b"23"]], urgency="background")).stored
            pieces = [bytearray(2), bytearray(1)]
            assert (await store.get_into(["a"], [pieces], urgency="prefetch")).hits == [True]
            assert pieces == [b"12", b"3"]

    run(main())


def test_a_cancelled_deletion_of_a_prefix_stops_after_its_page():
    async def main():
        slow = "fault:?inner=memory:&delay_rate=1&delay=5ms&pattern=delete:*"
        async with larder.aio.open(slow) as store:
            names = [f"k{i}" for i in range(40_000)]
            await store.set_many(names, [b""] * len(names))
            deletion = asyncio.ensure_future(store.delete_prefix("k", timeout=None))
            while len([key async for key in store.scan()]) == len(names):
                pass
            deletion.cancel()
            with pytest.raises(asyncio.CancelledError):
                await deletion
            await store.close()

    run(main())
