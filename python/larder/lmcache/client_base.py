"""An asyncio client over any native connector, as a replacement for LMCache's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import select
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, Union, cast

from larder import _larder

__all__ = ["ConnectorClientBase"]

NativeT = TypeVar("NativeT")
_Future = Union["asyncio.Future[Any]", "concurrent.futures.Future[Any]"]
_Completion = tuple[bool, str, "list[bool] | None"]

_CLOSE_SECONDS = 35.0
# How often a thread that waits looks whether the loop still takes completions for it.
_LOOK_SECONDS = 0.2

_log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    future: _Future
    result_of: Callable[[list[bool] | None, int], Any]
    keys: Sequence[str]
    buffers: tuple[Any, ...]
    """Keys and buffers are kept alive for the native threads by standing here."""


class ConnectorClientBase(Generic[NativeT]):
    """Awaitable batches over any object with LMCache's contract for native connectors:
    `event_fd()`, `submit_batch_get/set(keys, memoryviews)`, `submit_batch_exists(keys)`,
    `drain_completions()` and `close()`. A subclass of LMCache's class of this name works with this
    one as its base:

        class MyClient(ConnectorClientBase[MyNative]):
            def __init__(self, path, loop=None):
                super().__init__(MyNative(path), loop)

    The coroutines belong to `loop` (None: the running one). The `..._sync` forms are for other
    threads. A failed batch raises RuntimeError with the native text. Loads return a bool for each
    key; the buffer of a miss is unchanged.

    Keys and buffers are kept alive until their completion has come, also when the waiting task was
    cancelled, the loop was closed, or `close()` gave up on them.
    """

    def __init__(
        self, native_client: NativeT, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.loop = loop or asyncio.get_running_loop()
        self._client: NativeT = native_client
        self._native = cast(Any, native_client)
        self._fd = int(self._native.event_fd())
        self._closed = False
        self._is_close_called = False
        self._lock = threading.Lock()  # Guards the four below; never held in a native call.
        self._pending: dict[int, _Entry] = {}
        self._abandoned: list[_Entry] = []
        self._early: dict[int, _Completion] = {}
        self._submitting = 0
        self._drain_lock = threading.Lock()  # A native connector is drained by one at a time.
        if self._is_loops_turn():
            self.loop.add_reader(self._fd, self._on_ready)
        else:
            self.loop.call_soon_threadsafe(self.loop.add_reader, self._fd, self._on_ready)

    # --- In the loop ------------------------------------------------------------------------------

    async def get(self, key: str, buf: Any) -> bool:
        """Loads one value; whether it was there."""
        return (await self.batch_get([key], [buf]))[0]

    async def set(self, key: str, buf: Any) -> None:
        await self.batch_set([key], [buf])

    async def exists(self, key: str) -> bool:
        return _first(await self.batch_exists([key]))

    async def batch_get(self, keys: Sequence[str], bufs: Sequence[Any]) -> list[bool]:
        """Loads each value into its buffer; whether each was there.

        Raises RuntimeError when the connector did not tell it for each key.
        """
        found: list[bool] = await self._start_get(keys, bufs, self.loop.create_future())
        return found

    async def batch_set(self, keys: Sequence[str], bufs: Sequence[Any]) -> None:
        await self._start_set(keys, bufs, self.loop.create_future())

    async def batch_exists(self, keys: Sequence[str]) -> list[bool]:
        found: list[bool] = await self._start_exists(keys, self.loop.create_future())
        return found

    async def batched_exists(self, keys: Sequence[str]) -> list[bool]:
        return await self.batch_exists(keys)

    # --- In other threads -------------------------------------------------------------------------

    def get_sync(self, key: str, buf: Any) -> bool:
        return self.batch_get_sync([key], [buf])[0]

    def set_sync(self, key: str, buf: Any) -> None:
        self.batch_set_sync([key], [buf])

    def exists_sync(self, key: str) -> bool:
        return _first(self.batch_exists_sync([key]))

    def batch_get_sync(self, keys: Sequence[str], bufs: Sequence[Any]) -> list[bool]:
        """Like `batch_get`, for a thread other than the loop's, which may be stopped or closed."""
        found: list[bool] = self._wait(self._start_get(keys, bufs, self._sync_future()))
        return found

    def batch_set_sync(self, keys: Sequence[str], bufs: Sequence[Any]) -> None:
        self._wait(self._start_set(keys, bufs, self._sync_future()))

    def batch_exists_sync(self, keys: Sequence[str]) -> list[bool]:
        found: list[bool] = self._wait(self._start_exists(keys, self._sync_future()))
        return found

    def batched_exists_sync(self, keys: Sequence[str]) -> list[bool]:
        return self.batch_exists_sync(keys)

    # --- The end ----------------------------------------------------------------------------------

    def close(self, timeout: float | None = _CLOSE_SECONDS) -> None:
        """Fails pending operations with "Client closed", then closes the connector. Any thread;
        idempotent.

        Buffers are kept alive until the connector's own close() has returned, which runs in a
        thread. `timeout` in seconds (None: none) bounds how long this call waits for it; then it
        raises `StuckError`.
        """
        seconds = _larder.seconds(timeout, "timeout", allows_zero=True)
        with self._lock:
            if self._is_close_called:
                return
            self._is_close_called = self._closed = True
        self._stop_watching()
        self._fail_all("Client closed")
        errors: list[BaseException] = []

        def close_native() -> None:
            try:
                self._close_native()
            except BaseException as error:
                errors.append(error)
                _log.warning("closing a native connector failed: %s", error)
            else:
                self._abandoned.clear()

        # A daemon, so that a connector that hangs does not keep the process from ending.
        thread = threading.Thread(target=close_native, name="larder-close", daemon=True)
        thread.start()
        thread.join(None if timeout is None else seconds)
        if thread.is_alive():
            raise _larder.StuckError(
                f"the connector's close() has not returned within {seconds:g} s. The buffers of "
                f"{len(self._abandoned)} batches are kept alive until it does"
            )
        if errors:
            raise errors[0]

    def _close_native(self) -> None:
        self._native.close()

    def __del__(self) -> None:
        # The native threads go before the buffers do.
        if not getattr(self, "_is_close_called", True) and (self._pending or self._abandoned):
            try:
                self._close_native()
            except Exception as error:
                _log.warning("closing a native connector failed: %s", error)

    # --- Submission -------------------------------------------------------------------------------

    def _start_get(self, keys: Sequence[str], bufs: Sequence[Any], future: _Future) -> Any:
        return self._start(self._native.submit_batch_get, _mask_of, future, keys, bufs)

    def _start_set(self, keys: Sequence[str], bufs: Sequence[Any], future: _Future) -> Any:
        return self._start(self._native.submit_batch_set, _nothing_of, future, keys, bufs)

    def _start_exists(self, keys: Sequence[str], future: _Future) -> Any:
        return self._start(self._native.submit_batch_exists, _list_of, future, keys)

    def _start(
        self,
        submit: Callable[..., Any],
        result_of: Callable[[list[bool] | None, int], Any],
        future: _Future,
        keys: Sequence[str],
        *bufs: Sequence[Any],
    ) -> Any:
        """`bufs`: one list of buffers, or none for operations without."""
        keys = _listed("keys", keys)
        buffers = [_listed("bufs", given) for given in bufs]
        if bufs and len(keys) != len(buffers[0]):
            raise ValueError(f"keys and bufs: {len(keys)} keys, {len(buffers[0])} bufs")
        with self._lock:
            if self._closed:
                raise RuntimeError("Client closed")
            self._submitting += 1
        entry = _Entry(future, result_of, keys, tuple(map(tuple, buffers)))
        future_id = None
        try:
            future_id = int(submit(keys, *buffers))
        finally:
            completion = self._register(future_id, entry)
        if completion is not None:
            _complete(entry, completion)
        return future

    def _register(self, future_id: int | None, entry: _Entry) -> _Completion | None:
        """The completion, if another thread has drained it already."""
        is_late = False
        completion = None
        with self._lock:
            self._submitting -= 1
            if future_id is not None:
                completion = self._early.pop(future_id, None)
                if completion is None:
                    is_late = self._closed
                    if is_late:
                        self._abandoned.append(entry)
                    else:
                        self._pending[future_id] = entry
            if self._submitting == 0:
                self._early.clear()  # This client did not submit these operations.
        if is_late:
            _fail(entry.future, "Client closed")
        return completion

    def _sync_future(self) -> concurrent.futures.Future[Any]:
        if _running_loop() is self.loop:
            raise RuntimeError(
                "a ..._sync call in the thread of the client's own loop would wait for itself; "
                "await the call without _sync"
            )
        return concurrent.futures.Future()

    def _wait(self, future: concurrent.futures.Future[Any]) -> Any:
        while True:
            try:
                return future.result(_LOOK_SECONDS)
            except concurrent.futures.TimeoutError:
                pass
            if self.loop.is_running() or self._closed:
                continue
            # The loop was stopped or closed, and this thread takes completions in its place.
            poller = select.poll()
            poller.register(self._fd, select.POLLIN)
            poller.poll(_LOOK_SECONDS * 1000)
            self._on_ready()

    # --- Completions ------------------------------------------------------------------------------

    def _on_ready(self) -> None:
        with self._drain_lock:
            try:
                while not self._closed:
                    completions = self._native.drain_completions()
                    if not completions:
                        return
                    for future_id, ok, text, results in completions:
                        self._take(int(future_id), (bool(ok), str(text), results))
            except Exception as error:
                self._break_off(f"native drain_completions failed: {error}")

    def _take(self, future_id: int, completion: _Completion) -> None:
        with self._lock:
            entry = self._pending.pop(future_id, None)
            if entry is None and self._submitting > 0:
                self._early[future_id] = completion
        if entry is None:
            return
        if isinstance(entry.future, concurrent.futures.Future):
            _complete(entry, completion)
        else:
            self._in_loop(_complete, entry, completion)

    def _break_off(self, text: str) -> None:
        """The connector's answers cannot be read any more; close() of it is still to come."""
        with self._lock:
            self._closed = True
        self._stop_watching()
        self._fail_all(text)

    def _fail_all(self, text: str) -> None:
        with self._lock:
            entries = list(self._pending.values())
            self._abandoned.extend(entries)  # The native threads may still use their buffers.
            self._pending.clear()
        for entry in entries:
            if isinstance(entry.future, concurrent.futures.Future):
                _fail(entry.future, text)
            else:
                self._in_loop(_fail, entry.future, text)

    def _stop_watching(self) -> None:
        if self._is_loops_turn():
            if not self.loop.is_closed():
                self.loop.remove_reader(self._fd)
            return
        is_removed = threading.Event()

        def remove() -> None:
            self.loop.remove_reader(self._fd)
            is_removed.set()

        self._in_loop(remove)
        # The connector will close the fd, whose number may then be another file's.
        is_removed.wait(1.0)

    def _is_loops_turn(self) -> bool:
        """Whether this thread may touch the loop's readers: the loop's own, or any if it does not
        run."""
        return _running_loop() is self.loop or not self.loop.is_running()

    def _in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        if _running_loop() is self.loop:
            call(*arguments)
            return
        try:
            self.loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            pass  # The loop is closed, and nothing waits in it any more.


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _complete(entry: _Entry, completion: _Completion) -> None:
    ok, text, results = completion
    if not ok:
        _fail(entry.future, text)
        return
    try:
        result = entry.result_of(results, len(entry.keys))
    except RuntimeError as error:
        _fail(entry.future, str(error))
        return
    if not entry.future.done():
        entry.future.set_result(result)


def _fail(future: _Future, text: str) -> None:
    if not future.done():
        future.set_exception(RuntimeError(text))


def _listed(name: str, given: Any) -> list[Any]:
    if isinstance(given, (str, bytes, bytearray)):
        raise TypeError(f"{name}: a single {type(given).__name__}, wanted a list")
    try:
        return list(given)
    except TypeError:
        raise TypeError(f"{name}: {type(given).__name__}, wanted a list") from None


def _mask_of(results: list[bool] | None, keys: int) -> list[bool]:
    if results is None or len(results) != keys:
        told = "none" if results is None else str(len(results))
        raise RuntimeError(
            f"the connector gave no per-key results for a load of {keys} keys (it gave {told}), so "
            "hits and misses cannot be told apart"
        )
    return [bool(result) for result in results]


def _list_of(results: list[bool] | None, keys: int) -> list[bool]:
    return [] if results is None else [bool(result) for result in results]


def _nothing_of(results: list[bool] | None, keys: int) -> None:
    return None


def _first(results: list[bool]) -> bool:
    return bool(results) and results[0]
