"""larder.aio against real stores: answers, cancellation at any moment, loops and threads, ends."""

import asyncio
import gc
import os
import random
import sys
import threading
import time
import weakref

import pytest
from conftest import KIB, random_bytes, run_python, spec_of

import larder
import larder.aio

# A connector whose loads are answered by nobody.
STALLED = "fault:?inner=memory:&stall_rate=1&stall=1h&pattern=get:*"


class Buffer(bytearray):
    """A bytearray that can be watched by a weakref."""


def run(main):
    return asyncio.run(asyncio.wait_for(main, 300))


async def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.001)


async def in_flight(store):
    return (await store.report()).counters["batches_in_flight_load"]


def is_free(buffer):
    """Whether nobody has its memory any more."""
    try:
        buffer.append(0)
        buffer.pop()
    except BufferError:
        return False
    return True


# --- Answers --------------------------------------------------------------------------------------


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


@pytest.fixture
def store_of(tmp_path):
    return lambda kind, **parameters: larder.aio.open(spec_of(kind, tmp_path, **parameters))


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


# --- The loop keeps turning -----------------------------------------------------------------------


class Turns:
    """Counts what the loop does while something is awaited."""

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
        deadline = time.monotonic() + 30
        while True:
            try:
                async with store_of("log") as store:
                    await store.set_many(["k"], [b"1"])
                return
            except larder.OpenError as error:  # Still being opened, or closed again.
                assert "in use" in str(error) and time.monotonic() < deadline

    run(main())


# --- Cancellation ---------------------------------------------------------------------------------

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
                assert await in_flight(store) == 0
                await store.set_many([key], [b"12345678"])
            assert (sys.getrefcount(key), sys.getrefcount(buffer)) == before

    run(main())


def test_a_key_whose_load_was_cancelled_is_a_miss_until_it_is_stored_again():
    async def main():
        async with larder.aio.open(STALLED) as store:
            await store.set_many(["k"], [b"1"])
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(store.get_into(["k"], [bytearray(1)], timeout=None), 0.01)
            await until_back(store)
            await store.set_many(["k"], [b"2"])
            assert await store.exists(["k"]) == [True]

    async def until_back(store):
        while await in_flight(store):
            await asyncio.sleep(0.001)

    run(main())


def test_a_timeout_is_a_failed_key():
    async def main():
        async with larder.aio.open(STALLED) as store:
            await store.set_many(["k"], [b"1"])
            outcomes = await store.get_into(["k"], [bytearray(1)], timeout=0.05)
            assert outcomes.failed == [True]
            assert "deadline" in outcomes.errors[0]

    run(main())


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


# --- Loops and threads ----------------------------------------------------------------------------


def in_threads(count, main):
    """Runs `main(number)` in a loop of its own in each thread; raises what one of them raised."""
    errors = []

    def work(number):
        try:
            run(main(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


async def churn(store, name, rounds):
    for turn in range(rounds):
        keys = [f"{name}-{turn}-{i}" for i in range(4)]
        values = [random_bytes(3000, key) for key in keys]
        assert all((await store.set_many(keys, values)).stored)
        buffers = [bytearray(3000) for _ in keys]
        doomed = asyncio.create_task(store.get_into(keys, [bytearray(3000) for _ in keys]))
        await asyncio.sleep(0)
        doomed.cancel()
        loads = [store.get_into([key], [buffer]) for key, buffer in zip(keys, buffers)]
        # A cancelled load may have made its keys misses; wrong bytes are never right.
        for value, buffer, outcome in zip(values, buffers, await asyncio.gather(*loads)):
            assert outcome.hits == [False] or buffer == value
        assert (await store.get_into([keys[0]], [bytearray(1)])).hits == [False]


def test_every_thread_has_a_loop_and_a_store(tmp_path):
    async def main(number):
        async with larder.aio.open(spec_of("log", tmp_path / str(number))) as store:
            await churn(store, str(number), 20)

    in_threads(4, main)


@pytest.mark.parametrize("kind", ["memory", "log"])
def test_loops_of_several_threads_share_a_store(kind, store_of):
    store = run(store_of(kind)._open())

    async def main(number):
        await asyncio.gather(*(churn(store, f"{number}-{i}", 10) for i in range(5)))

    in_threads(4, main)
    run(store.close())
    assert not store._pending


def test_one_store_serves_one_loop_after_another(store_of):
    store = run(store_of("log")._open())
    run(store.set_many(["k"], [b"1"]))
    assert run(store.get("k")) == b"1"
    run(store.close())


def test_a_loop_that_is_closed_with_work_in_flight(store_of):
    store = run(larder.aio.open(STALLED)._open())
    run(store.set_many(["k"], [b"12345678"]))
    buffer, freed = Buffer(8), Buffer(8)
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(store.get_into(["k"], [each], timeout=None)) for each in (buffer, freed)]
    loop.run_until_complete(asyncio.sleep(0))
    tasks[1].cancel()
    loop.close()
    assert not is_free(buffer), "the operation goes on"
    # Another loop takes what is finished, and goes on.
    assert run(store.exists(["k"])) == [True]

    async def closes():
        await store.close(timeout=4)

    run(closes())
    assert is_free(buffer) and is_free(freed)
    tasks[0]._log_destroy_pending = False
    del tasks


def test_garbage_collection_of_a_store_whose_loop_is_gone():
    store = run(larder.aio.open(STALLED)._open())
    run(store.set_many(["k"], [b"12345678"]))
    buffer = Buffer(8)
    watch, kept = weakref.ref(store), weakref.ref(buffer)
    loop = asyncio.new_event_loop()
    task = loop.create_task(store.get_into(["k"], [buffer], timeout=None))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    task._log_destroy_pending = False
    del store, task, buffer, loop
    gc.collect()
    assert watch() is None and kept() is None


EXIT = {
    "an open store": "loop.run_until_complete(store.get('a'))",
    "a loop that was closed with work in flight": """
task = loop.create_task(store.get_into(['k'], [bytearray(8)], timeout=None))
task._log_destroy_pending = False
loop.run_until_complete(asyncio.sleep(0))
loop.close()
""",
    "a loop that was left": """
task = loop.create_task(store.get_into(['k'], [bytearray(8)], timeout=None))
task._log_destroy_pending = False
loop.run_until_complete(asyncio.sleep(0))
""",
    "a loop in a daemon thread": """
import threading
started = threading.Event()
async def work():
    started.set()
    await store.get_into(['k'], [bytearray(8)], timeout=None)
def turn():
    asyncio.set_event_loop(loop)
    loop.run_until_complete(work())
threading.Thread(target=turn, daemon=True).start()
started.wait()
""",
}


@pytest.mark.parametrize("kind", EXIT)
def test_the_interpreter_can_exit_with(kind):
    ended = run_python(
        "import asyncio, larder.aio\n"
        "loop = asyncio.new_event_loop()\n"
        f"store = loop.run_until_complete(larder.aio.open({STALLED!r})._open())\n"
        "loop.run_until_complete(store.set_many(['k'], [b'12345678']))\n" + EXIT[kind]
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""


def test_after_fork_the_child_is_told_and_the_parent_goes_on(store_of):
    async def main():
        async with store_of("log") as store:
            await store.set_many(["k"], [b"parent"])
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    await store.get("k")
                except larder.ForkedError:
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert await store.get("k") == b"parent"

    run(main())


def test_in_a_forked_childs_own_loop_the_store_is_refused_too():
    store = run(larder.aio.open("memory:")._open())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(store.get("k"))
        except larder.ForkedError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    run(store.close())


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


def test_close_ends_what_waits_in_another_threads_loop():
    store = run(larder.aio.open(STALLED)._open())
    run(store.set_many(["k"], [b"1"]))
    waiting = threading.Barrier(2)

    async def main(number):
        if number == 0:
            load = asyncio.create_task(store.get_into(["k"], [bytearray(1)], timeout=None))
            await asyncio.sleep(0)
            waiting.wait()
            with pytest.raises(larder.ClosedError):
                await load
        else:
            waiting.wait()
            await store.close(timeout=2)

    in_threads(2, main)


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
        self.fd = os.eventfd(0, os.EFD_NONBLOCK) if hasattr(os, "eventfd") else os.pipe()[0]
        self.cancelled = []
        self.drained = []
        self.error = None

    def event_fd(self):
        return self.fd

    def submit_get_into(self, number, keys, buffers, timeout):
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


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="os.eventfd came with Python 3.10")
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
