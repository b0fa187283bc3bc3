"""LMCache's asyncio client over native connectors: one in Python that does what a test wants, and
larder's own. tests/interop has LMCache's."""

import asyncio
import gc
import os
import random
import sys
import threading
import time
import weakref

import pytest
from conftest import random_bytes, spec_of

import larder
from larder.lmcache import Connector, ConnectorClient, ConnectorClientBase

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


class FakeNative:
    """The native contract in Python over a dict. It holds no reference to a buffer, as native code
    does not. With `holds` its batches end when `finish()` says so."""

    def __init__(self, holds=False):
        self.values = {}
        self.holds = holds
        self.held = []
        self.completions = []
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.last = 0
        self.is_closed = False
        self.drain_error = None
        self.mask = lambda mask: mask

    def event_fd(self):
        return self.reader

    def _submit(self, work):
        self.last += 1
        future = self.last
        if self.holds:
            self.held.append((future, work))
        else:
            self.complete(future, *work())
        return future

    def finish(self):
        held, self.held = self.held, []
        for future, work in held:
            self.complete(future, *work())

    def complete(self, future, ok, error, results):
        self.completions.append((future, ok, error, results))
        os.write(self.writer, b"1")

    def submit_batch_get(self, keys, memoryviews):
        views = [weakref.ref(view) for view in memoryviews]

        def work():
            found = []
            for key, view in zip(keys, views):
                found.append(key in self.values)
                if found[-1]:
                    view()[:] = self.values[key]
            return True, "", self.mask(found)

        return self._submit(work)

    def submit_batch_set(self, keys, memoryviews):
        def work(values=[bytes(view) for view in memoryviews]):
            if "bad" in keys:
                return False, "no room for bad", None
            self.values.update(zip(keys, values))
            return True, "", None

        return self._submit(work)

    def submit_batch_exists(self, keys):
        return self._submit(lambda: (True, "", self.mask([key in self.values for key in keys])))

    def drain_completions(self):
        if self.drain_error is not None:
            raise self.drain_error
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass
        drained, self.completions = self.completions, []
        return drained

    def close(self):
        self.is_closed = True


class FakeClient(ConnectorClientBase[FakeNative]):
    """As a user's client is written over LMCache's base."""

    def __init__(self, holds=False, loop=None):
        super().__init__(FakeNative(holds), loop)


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


# --- Threads and loops ----------------------------------------------------------------------------


class EarlyNative(FakeNative):
    """Its load is drained before its submission has returned, as may happen to any thread but the
    loop's."""

    def __init__(self):
        super().__init__()
        self.is_drained = threading.Event()

    def submit_batch_exists(self, keys):
        future = super().submit_batch_exists(keys)
        assert self.is_drained.wait(60)
        return future

    def drain_completions(self):
        completions = super().drain_completions()
        if not completions and self.last > 0:
            self.is_drained.set()  # The one before gave it, and it was routed.
        return completions


def test_a_completion_that_comes_before_its_id_is_not_lost():
    async def main():
        client = ConnectorClientBase(EarlyNative())
        assert await asyncio.to_thread(client.batch_exists_sync, ["k"]) == [False]
        assert not client._early and not client._pending
        client.close()

    run(main())


class SlowNative(FakeNative):
    """Its submission takes as long as a test wants, as when a connector copies values in it."""

    def __init__(self):
        super().__init__()
        self.may_return = threading.Event()

    def submit_batch_exists(self, keys):
        assert self.may_return.wait(60)
        return super().submit_batch_exists(keys)


def test_a_slow_submission_of_another_thread_does_not_hold_up_the_loop():
    async def main():
        client = ConnectorClientBase(SlowNative())
        slow = asyncio.create_task(asyncio.to_thread(client.exists_sync, "k"))
        await until(lambda: client._submitting == 1)
        await client.set("k", memoryview(b"1"))
        assert await client.get("k", memoryview(bytearray(1)))
        assert not slow.done()
        client._client.may_return.set()
        assert await slow is True
        client.close()

    run(main())


def test_a_sync_call_in_the_loops_own_thread_is_refused():
    async def main():
        client = FakeClient()
        with pytest.raises(RuntimeError, match="await the call without _sync"):
            client.get_sync("k", memoryview(bytearray(1)))
        client.close()

    run(main())


@pytest.mark.parametrize("is_closed", [False, True])
def test_sync_calls_go_on_when_the_loop_does_not(is_closed):
    loop = asyncio.new_event_loop()
    client = ConnectorClient("memory:", loop)
    loop.run_until_complete(client.set("k", b"1"))
    if is_closed:
        loop.close()
    buffer = bytearray(1)
    assert client.get_sync("k", buffer) and buffer == b"1"
    client.close()
    loop.close()


def test_a_client_of_another_threads_loop():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        client = FakeClient(loop=loop)
        client.set_sync("k", memoryview(b"1"))
        assert asyncio.run_coroutine_threadsafe(client.exists("k"), loop).result(60)
        client._client.holds = True
        waiting = asyncio.run_coroutine_threadsafe(client.exists("k"), loop)
        deadline = time.monotonic() + 60
        while not client._client.held:
            assert time.monotonic() < deadline
        client.close()
        with pytest.raises(RuntimeError, match="Client closed"):
            waiting.result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_loop_that_is_closed_with_work_in_flight():
    loop = asyncio.new_event_loop()
    client = FakeClient(holds=True, loop=loop)
    native, memory = client._client, bytearray(1)
    task = loop.create_task(client.get("k", memoryview(memory)))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    task._log_destroy_pending = False
    del task
    gc.collect()
    assert is_held(memory)
    was_held = []
    native.close = lambda: was_held.append(is_held(memory))
    del client, loop
    gc.collect()
    assert was_held == [True], "the connector was closed, and before the buffer went"
    assert not is_held(memory)


def is_held(memory):
    try:
        memory.append(0)
        memory.pop()
    except BufferError:
        return True
    return False


# --- The end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fake", "larder"])
def test_close_fails_what_is_pending_and_closes_again(kind):
    async def main():
        client = FakeClient(holds=True) if kind == "fake" else ConnectorClient(STALLED)
        if kind == "larder":
            await client.set("k", b"1")
        buffers = [Buffer(1) for _ in range(3)]
        watched = [weakref.ref(buffer) for buffer in buffers]
        loads = [asyncio.create_task(client.get("k", memoryview(b))) for b in buffers[:2]]
        loads.append(asyncio.create_task(asyncio.to_thread(client.get_sync, "k", buffers[2])))
        await until(lambda: len(client._pending) == 3)
        client.close()
        client.close()
        for result in await asyncio.gather(*loads, return_exceptions=True):
            assert isinstance(result, RuntimeError) and str(result) == "Client closed"
        for call in (client.exists("k"), client.set("k", b"1"), client.get("k", bytearray(1))):
            with pytest.raises(RuntimeError, match="Client closed"):
                await call
        with pytest.raises(RuntimeError, match="Client closed"):
            await asyncio.to_thread(client.exists_sync, "k")
        native = client._client
        assert native.is_closed if kind == "fake" else native.closed
        del buffers, loads, result
        await until(lambda: gc.collect() >= 0 and not any(ref() for ref in watched))

    run(main())


def test_a_connector_that_does_not_close_keeps_its_buffers_and_holds_nobody_up():
    async def main():
        client = FakeClient(holds=True)
        may_close = threading.Event()
        client._client.close = may_close.wait
        buffer = Buffer(1)
        watch = weakref.ref(buffer)
        task = asyncio.create_task(client.get("k", memoryview(buffer)))
        del buffer
        await asyncio.sleep(0)
        with pytest.raises(larder.StuckError, match="buffers of 1 batches"):
            client.close(timeout=0.05)
        with pytest.raises(RuntimeError, match="Client closed"):
            await task
        del task
        gc.collect()
        assert watch() is not None
        may_close.set()
        await until(lambda: gc.collect() >= 0 and watch() is None)

    run(main())


def test_what_the_connectors_close_raises_is_raised():
    async def main():
        client = FakeClient()

        def fail():
            raise OSError("it is on fire")

        client._client.close = fail
        with pytest.raises(OSError, match="on fire"):
            client.close()

    run(main())


@pytest.mark.parametrize("kind", ["raises", "malformed"])
def test_completions_that_cannot_be_read_fail_everything_and_close_the_client(kind):
    async def main():
        client = FakeClient(holds=True)
        native = client._client
        waiting = [asyncio.create_task(client.exists("k")) for _ in range(3)]
        await until(lambda: len(client._pending) == 3)
        if kind == "raises":
            native.drain_error = ValueError("it broke")
        else:
            native.completions.append((1, True))
        os.write(native.writer, b"1")
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, RuntimeError)
            assert str(result).startswith("native drain_completions failed: ")
        with pytest.raises(RuntimeError, match="Client closed"):
            await client.exists("k")
        # Nobody watches the fd any more, which stays readable.
        assert asyncio.get_running_loop().remove_reader(native.reader) is False
        client.close()
        assert native.is_closed

    run(main())


def test_a_client_takes_an_open_connector_or_what_one_is_made_of():
    async def main():
        connector = Connector("memory:")
        client = ConnectorClient(connector)
        assert client._client is connector
        client.close()
        client = await ConnectorClient.open(type="memory", capacity="1GiB")
        await client.set("k", b"1")
        client.close()
        with pytest.raises(larder.OpenError):
            await ConnectorClient.open("nosuch:")

    run(main())
