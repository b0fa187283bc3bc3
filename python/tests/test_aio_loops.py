"""larder.aio: loops in threads, loops that are closed, forks, exits."""

import asyncio
import gc
import os
import threading
import weakref

import pytest
from aio_support import STALLED, Buffer, in_threads, is_free, run
from conftest import random_bytes, run_python, spec_of

import larder
import larder.aio


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
        assert all(outcome.hits == [True] for outcome in await asyncio.gather(*loads))
        assert buffers == values
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
    tasks = [
        loop.create_task(store.get_into(["k"], [each], timeout=None)) for each in (buffer, freed)
    ]
    loop.run_until_complete(asyncio.sleep(0))
    tasks[1].cancel()
    loop.close()
    assert not is_free(buffer), "the operation goes on"
    # Another loop takes finished operations, and continues.
    assert run(store.exists(["k"])) == [True]

    async def closes():
        await store.close(timeout=4)

    run(closes())
    assert is_free(buffer) and is_free(freed)
    tasks[0]._log_destroy_pending = False
    del tasks


def test_close_takes_the_answers_of_loops_that_are_gone():
    spec = "fault:?inner=memory:&delay_rate=1&delay=20ms&pattern=get:*"
    store = run(larder.aio.open(spec)._open())
    run(store.set_many(["k"], [b"1"]))
    loop = asyncio.new_event_loop()
    task = loop.create_task(store.get_into(["k"], [bytearray(1)], timeout=None))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    task._log_destroy_pending = False
    run(store.close(timeout=10_000))  # Half of it would be too long for run().
    assert not store._pending


class QuietClient:
    """In the place of the native client: its fd never becomes readable."""

    closed = False

    def __init__(self):
        self.fd = os.eventfd(0)
        self.submitted = threading.Event()

    def event_fd(self):
        return self.fd

    def submit_get_into(self, number, keys, buffers, urgency, timeout):
        self.submitted.set()

    def drain(self):
        return [(1, ([True], [False], [1], [None]))]


def test_a_sleeping_loop_is_woken_by_the_one_that_has_its_answer():
    client = QuietClient()
    store = larder.aio.Store(client, "quiet:")

    async def main(number):
        if number == 0:
            assert (await store.get_into(["k"], [bytearray(1)], timeout=None)).hits == [True]
        else:
            assert client.submitted.wait(60)
            store._drain(asyncio.get_running_loop())

    in_threads(2, main)
    os.close(client.fd)


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
