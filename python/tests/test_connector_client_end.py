"""LMCache's asyncio client: threads, loops that stop or are closed, and every way to end."""

import asyncio
import gc
import os
import threading
import time
import weakref

import pytest
from aio_support import STALLED, Buffer, is_free, run, until
from fake_native import FakeClient, FakeNative

import larder
from larder.lmcache import Connector, ConnectorClient, ConnectorClientBase

# --- Threads and loops ----------------------------------------------------------------------------


class EarlyNative(FakeNative):
    """Its load is drained before its submission has returned, as may happen in any thread but the
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
    assert not is_free(memory)
    was_held = []
    native.close = lambda: was_held.append(not is_free(memory))
    del client, loop
    gc.collect()
    assert was_held == [True], "the connector was closed, and before the buffer went"
    assert is_free(memory)


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
        # The fd, which stays readable, is not watched any more.
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
