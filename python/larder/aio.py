"""Stores for asyncio: `larder.Store` with every operation awaitable.

    import larder.aio

    async with larder.aio.open("log:/data/kv?capacity=200GiB") as store:
        await store.set_many(["a", "b"], [b"one", b"two"])
        outcomes = await store.get_into(["a", "b"], [bytearray(3), bytearray(3)])

Names, arguments and results are those of `larder.open()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal

from larder import _larder, _metrics, _spec
from larder._spec import SpecLike
from larder._store import (
    SCAN_PAGE_KEYS,
    Hinted,
    Key,
    LoadOfMany,
    Outcomes,
    Pages,
    Report,
    Stored,
    Urgency,
    check_mode,
    delete_prefix,
    hinted,
    left_until,
    metrics_of,
    report_of,
    was_written,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from larder._larder import _Buffers as Buffers
    from larder._larder import _Value as Value

__all__ = ["Opening", "Store", "open"]

# How long a call waits past its time-out for transfers that the kernel already has.
_PAST_TIMEOUT = 1.0
_CLOSED_EARLY = (_larder.ClosedError, "the store was closed before the answer came")


def open(
    spec: SpecLike | None = None, *, metrics_address: str | None = None, **parameters: Any
) -> Opening:
    """Opens a store: `store = await larder.aio.open(spec)`, or `async with larder.aio.open(spec) as
    store:`, which closes it at the end. The arguments are those of `larder.open()`.

    It may take seconds, which are a thread's and not the loop's. Raises `OpenError`, whose text
    names the fault: in the spec, of the disk, or another owner. If the task is cancelled meanwhile,
    the store is closed as soon as it is open.
    """
    return Opening(_spec.text_of(spec, parameters), metrics_address)


class Opening:
    """The result of `open()`: await it, or use it with `async with`."""

    def __init__(self, spec: str, metrics_address: str | None = None) -> None:
        self._spec = spec
        self._metrics_address = metrics_address
        self._store: Store | None = None

    def __await__(self) -> Generator[Any, None, Store]:
        return self._open().__await__()

    async def _open(self) -> Store:
        is_wanted = True
        opened: list[tuple[_larder.AsyncClient, _metrics.Lease | None]] = []

        def end_unwanted() -> None:
            """Run by the first of the cancelled caller and the thread that has opened it."""
            with contextlib.suppress(IndexError):
                client, lease = opened.pop()
                client.close(0.0, 30.0)
                if lease is not None:
                    lease.end()

        def open_client() -> None:
            lease = _metrics.lease(self._metrics_address)
            try:
                opened.append((_larder.AsyncClient(self._spec), lease))
            except BaseException:
                if lease is not None:
                    lease.end()
                raise
            _metrics.serve_if_asked()
            if not is_wanted:
                end_unwanted()

        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, open_client)
        except BaseException:
            is_wanted = False
            loop.run_in_executor(None, end_unwanted)
            raise
        client, lease = opened.pop()
        return Store(client, _larder.shown_spec(self._spec), lease)

    async def __aenter__(self) -> Store:
        self._store = await self._open()
        return self._store

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        assert self._store is not None
        await self._store.close()

    def __repr__(self) -> str:
        return f"<larder.aio.Opening {_larder.shown_spec(self._spec)!r}>"


class Store:
    """Keys with values, behind any connector; made by `larder.aio.open()`.

    Keys, buffers and per-key results are those of `larder.Store`. Any event loop of any thread may
    use the store, several at once; each watches the store's event fd by one reader of its own.

    `timeout` is in seconds, above 0; None means no time-out. Transfers that the kernel does not
    have by then fail; a second later the call raises `StuckError` if the kernel still has some of
    them.

    A task may be cancelled at any moment, which also cancels its operation in the store. Whenever a
    call ends without its result (cancelled, `StuckError`, `ClosedError`), the operation may
    continue for a while: loads may still write into the buffers, and a store may still take effect.
    Keys and buffers are kept alive until it has ended; do not use such a buffer for anything else.

    `exists()` and `sizes()` answer at once, without giving the loop a turn, where the connector
    knows its keys in memory. After `os.fork()` the child's object raises `ForkedError`.
    """

    def __init__(
        self, client: _larder.AsyncClient, shown_spec: str, lease: _metrics.Lease | None = None
    ) -> None:
        self._client = client
        self._lease = lease
        if lease is not None:
            lease.end_with(self)
        self._shown_spec = shown_spec
        self._fd = client.event_fd()
        self._numbers = itertools.count(1)
        # By id, from before the submission until the entry is taken out. Every access is one
        # operation of the dict, hence atomic.
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._loops: set[asyncio.AbstractEventLoop] = set()
        self._closers: set[asyncio.Future[None]] = set()
        self._is_closing = False

    async def get_into(
        self,
        keys: Iterable[Key],
        buffers: Buffers,
        *,
        urgency: Urgency | None = None,
        timeout: float | None = 30.0,
    ) -> Outcomes:
        """Loads the value of each key into its buffer, which must have exactly the value's size.

        A value of another size is a failed key with its size in `sizes`; the value stays. After
        every other failure the key is a miss until it is stored again.

        `urgency` is `demand` (also None), `prefetch`, `store` or `background`: the connector weights
        them against each other, and starves none.
        """
        submit = self._client.submit_get_into
        return Outcomes(*await self._run(timeout, submit, keys, buffers, urgency))

    async def get(self, key: Key, *, timeout: float | None = 30.0) -> bytes | None:
        """The value of one key, or None. Raises `Error` when it could not be looked up or loaded.

        It is always one whole value, the old or a newer one, also if it is replaced during the
        call.
        """
        seconds = _larder.seconds(timeout, "timeout")
        end = time.monotonic() + seconds
        room, error = await self._run(timeout, self._client.submit_size, key)
        if error is not None:
            raise _larder.Error(error)
        while room is not None:
            left = None if timeout is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise _larder.Error(f"key {key!r} was not loaded within {seconds:g} s")
            value, error, more_room = await self._run(left, self._client.submit_get, key, room)
            found: bytes | None = value
            if error is None:
                return found
            if not more_room:
                raise _larder.Error(error)
            room = more_room  # It was replaced by a larger one since its size was asked.
        return None

    async def get_many(
        self, keys: Iterable[Key], *, timeout: float | None = 30.0
    ) -> list[bytes | None]:
        """The value of each key, or None. Raises `Error` with the first reason when some could not be
        looked up or loaded, after all were tried.

        For large values `get_into()` saves a copy, and it reports the result of each key.
        """
        end = time.monotonic() + _larder.seconds(timeout, "timeout")
        load = LoadOfMany(keys)
        load.take_sizes(await self.sizes(load.keys, timeout=timeout))
        if load.found:
            load.take(await self.get_into(load.found, load.buffers, timeout=left_until(end)))
        for key in load.replaced:
            load.put(key, await self.get(key, timeout=left_until(end)))
        return load.values()

    async def set(
        self,
        key: Key,
        value: Value,
        *,
        mode: Literal["replace", "if_absent"] = "replace",
        timeout: float | None = 30.0,
    ) -> bool:
        """Stores one value. Raises `Error` when it could not.

        True: the key has this value now. False: with mode `if_absent` it had one, and keeps that.
        """
        submit = self._client.submit_set
        return was_written(Stored(*await self._run(timeout, submit, key, value, check_mode(mode))))

    async def set_many(
        self,
        keys: Iterable[Key],
        values: Buffers,
        *,
        mode: Literal["replace", "if_absent"] = "replace",
        urgency: Urgency | None = None,
        timeout: float | None = 30.0,
    ) -> Stored:
        """Stores each value under its key. One key's failure is that key's alone.

        `urgency`: as of `get_into()`; None is `store`.
        """
        submit = self._client.submit_set_many
        return Stored(*await self._run(timeout, submit, keys, values, check_mode(mode), urgency))

    async def exists(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> list[bool]:
        """Whether each key has a value that can be loaded."""
        found: list[bool] = await self._run(timeout, self._client.submit_exists, keys)
        return found

    async def sizes(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> list[int | None]:
        """Bytes of each key's value; None for a key without."""
        found: list[int | None] = await self._run(timeout, self._client.submit_sizes, keys)
        return found

    async def look_up(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> Outcomes:
        """Which keys have a value, how large they are, and in `seconds_to_load` how long loading
        them would take: for callers that would rather compute a value than wait longer for it."""
        return Outcomes(*await self._run(timeout, self._client.submit_look_up, keys))

    @property
    def hints(self) -> frozenset[str]:
        """Which of `prefetch`, `pin`, `retain` and `release` this store carries out. The others raise
        `UnsupportedError`."""
        return frozenset(self._client._hints())

    async def prefetch(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> Hinted:
        """Brings each key's value where it is loaded fastest: in `tiered:` into L1. It stays there until
        others need the room.

        Raises `UnsupportedError`, as the other three do, where the connector cannot: see `hints`.
        """
        return hinted(await self._run(timeout, self._client.submit_hint, keys, "prefetch", None))

    async def pin(self, keys: Iterable[Key], ttl: float, *, timeout: float | None = 30.0) -> Hinted:
        """Like `prefetch()`, and keeps each value there for `ttl` seconds from then on, a day at
        most.

        The connector's parameter `pins` bounds the room of pins; a pin beyond it fails. A second
        pin makes it last as long as the later of the two. `release()`, a delete, a store that
        replaces, and `close()` end it, also those of another user of the store.
        """
        return hinted(await self._run(timeout, self._client.submit_hint, keys, "pin", ttl))

    async def retain(
        self, keys: Iterable[Key], ttl: float, *, timeout: float | None = 30.0
    ) -> Hinted:
        """Keeps each value from being evicted where it is stored, for `ttl` seconds, a day at most: in
        `tiered:` from the tiers. Bounds and ends are those of `pin()`."""
        return hinted(await self._run(timeout, self._client.submit_hint, keys, "retain", ttl))

    async def release(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> Hinted:
        """Ends the pin and the retention of each key, whichever caller asked for them."""
        return hinted(await self._run(timeout, self._client.submit_hint, keys, "release", None))

    async def delete(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> list[bool]:
        """Removes each key; whether it was there.

        Raises `Error` with the first reason when some could not be removed, after all were tried.
        """
        deleted: list[bool]
        deleted, errors = await self._run(timeout, self._client.submit_delete, keys)
        for error in errors:
            if error is not None:
                raise _larder.Error(error)
        return deleted

    async def delete_prefix(self, prefix: Key, *, timeout: float | None = 30.0) -> int:
        """Removes every key that begins with `prefix`, which may not be empty; how many there were.

        The keys are found by a scan, page by page, in a thread: a key that is stored meanwhile may
        stay. A cancelled task ends it after the page. Raises `UnsupportedError` if the connector
        cannot list its keys (Redis), and `Error` if some could not be removed, after all were
        tried, or if the time ran out.
        """
        return await delete_prefix_in_thread(self._client, prefix, timeout)

    async def scan(self, prefix: Key = b"") -> AsyncIterator[tuple[bytes, int]]:
        """Every key that begins with `prefix` with its value's size, oldest first where there is an
        age; page by page, in a thread.

        A key that exists during the whole scan is listed at least once. Raises `UnsupportedError`
        where the connector cannot list its keys (Redis).
        """
        async for entry in scan(self._client, prefix):
            yield entry

    async def report(self) -> Report:
        """State, capacity and counters, without I/O."""
        return report_of(self._client.report())

    async def metrics(self) -> dict[str, int]:
        """The report's numbers under one name each, `larder_...`, as Prometheus collectors want."""
        return metrics_of(await self.report())

    async def close(self, timeout: float | None = 30.0) -> None:
        """Lets waiting calls end, then closes, in a thread. Idempotent.

        Half of `timeout` (seconds, 0 or more) is for the calls to end by themselves; calls that
        have not ended then raise `ClosedError`, and their operations are cancelled. Raises
        `StuckError`, which names what the kernel or a peer still has. Its buffers stay alive, and
        another close() continues to wait.
        """
        seconds = _larder.seconds(timeout, "timeout", allows_zero=True)
        deadline = time.monotonic() + seconds
        self._is_closing = True
        loop = asyncio.get_running_loop()
        if not self.closed:
            await self._wait_until_idle(loop, seconds / 2)
            self._fail_all(*_CLOSED_EARLY)
            left = None if timeout is None else max(0.0, deadline - time.monotonic())
            await loop.run_in_executor(None, self._client.close, 0.0, left)
            self._fail_all(*_CLOSED_EARLY)  # Other threads' calls that were just being submitted.
        if self._lease is not None:
            await loop.run_in_executor(None, self._lease.end)
        for user in tuple(self._loops):
            _call_in(user, loop, user.remove_reader, self._fd)
        self._loops.clear()

    @property
    def metrics_address(self) -> str | None:
        """The address that serves the numbers for `metrics_address=`, with the actual port."""
        return None if self._lease is None else self._lease.server.address

    @property
    def closed(self) -> bool:
        return self._client.closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<larder.aio.Store {self._shown_spec!r}{' closed' if self.closed else ''}>"

    def __contains__(self, key: object) -> bool:
        raise TypeError(
            "`key in store` cannot wait for the answer; write `(await store.exists([key]))[0]`"
        )

    def __getitem__(self, key: object) -> Any:
        raise TypeError("`store[key]` cannot wait for the answer; write `await store.get(key)`")

    def __setitem__(self, key: object, value: object) -> None:
        raise TypeError("`store[key] = value` cannot wait; write `await store.set(key, value)`")

    def __delitem__(self, key: object) -> None:
        raise TypeError("`del store[key]` cannot wait; write `await store.delete([key])`")

    __iter__ = None  # Else Python asks for store[0]. `async for key, size in store.scan()`.

    # --- One operation ----------------------------------------------------------------------------

    async def _run(
        self, timeout: float | None, submit: Callable[..., Any], *arguments: object
    ) -> Any:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._client.event_fd()  # In a forked child this raises the better error.
            raise
        seconds = _larder.seconds(timeout, "timeout")
        if loop not in self._loops:
            self._watch_from(loop)
        if self._is_closing:
            raise _larder.ClosedError("the store was closed")
        number = next(self._numbers)
        future: asyncio.Future[Any] = loop.create_future()
        self._pending[number] = future
        timer: asyncio.TimerHandle | None = None
        try:
            result = submit(number, *arguments, timeout)
            if result is not None:
                return result
            if math.isfinite(seconds):
                timer = loop.call_later(seconds + _PAST_TIMEOUT, self._give_up, number, seconds)
            return await future
        except BaseException:
            self._client.cancel(number)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if self._pending.pop(number, None) is not None:
                self._note_ended()

    def _give_up(self, number: int, timeout: float) -> None:
        future = self._pending.get(number)
        if future is not None and not future.done():
            future.set_exception(
                _larder.StuckError(
                    f"no answer within {timeout:g} s: the kernel or a peer still has some of the "
                    "keys. Their buffers may still be written to and are kept alive until then"
                )
            )

    def _watch_from(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.closed:
            return
        self._client.event_fd()  # Raises in a forked child.
        for user in tuple(self._loops):
            if user.is_closed():
                self._loops.discard(user)
        loop.add_reader(self._fd, self._drain, loop)
        self._loops.add(loop)

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hands finished operations to the callers that wait for them, in any loop."""
        if self.closed:
            loop.remove_reader(self._fd)
            return
        try:
            finished = self._client.drain()
        except _larder.Error as error:  # E.g. of a forked child's copy.
            self._fail_all(type(error), str(error))
            return
        except Exception as error:
            self._fail_all(_larder.Error, f"the store's answers cannot be read: {error}")
            return
        for number, result in finished:
            future = self._pending.pop(number, None)
            if future is None:
                continue  # Cancelled or given up.
            _call_in(future.get_loop(), loop, _set_result, future, result)
        if finished:
            self._note_ended()

    def _fail_all(self, kind: type[Exception], text: str) -> None:
        loop = asyncio.get_running_loop()
        for number in tuple(self._pending):
            future = self._pending.pop(number, None)
            if future is not None:
                _call_in(future.get_loop(), loop, _set_exception, future, kind(text))

    # --- The end ----------------------------------------------------------------------------------

    async def _wait_until_idle(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._watch_from(loop)  # The others may not run any more.
        idle: asyncio.Future[None] = loop.create_future()
        self._closers.add(idle)
        try:
            self._note_ended()
            await asyncio.wait([idle], timeout=seconds)
        finally:
            self._closers.discard(idle)

    def _note_ended(self) -> None:
        if self._pending:
            return
        for idle in tuple(self._closers):
            _call_in(idle.get_loop(), None, _set_result, idle, None)


async def delete_prefix_in_thread(client: Pages, prefix: Key, timeout: float | None) -> int:
    """`Store.delete_prefix()` for any client of the module."""
    is_wanted = True
    try:
        return await asyncio.get_running_loop().run_in_executor(
            None, delete_prefix, client, prefix, timeout, lambda: is_wanted
        )
    finally:
        is_wanted = False


async def scan(client: Pages, prefix: Key) -> AsyncIterator[tuple[bytes, int]]:
    """Every key with this prefix and its value's size."""
    cursor, done = (0, 0), False
    while not done:
        entries, cursor, done = await asyncio.get_running_loop().run_in_executor(
            None, client._scan_page, *cursor, SCAN_PAGE_KEYS, prefix
        )
        for entry in entries:
            yield entry


def _call_in(
    loop: asyncio.AbstractEventLoop,
    running: asyncio.AbstractEventLoop | None,
    call: Callable[..., object],
    *arguments: object,
) -> None:
    """Calls in the thread of `loop`: at once when it is the running one. Never if it is closed."""
    if loop is running:
        call(*arguments)
        return
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        pass  # The loop is closed, and nothing waits in it any more.


def _set_result(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
