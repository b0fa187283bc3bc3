"""larder as a remote connector of LMCache that runs within the engine (`LMCacheConnectorV1`)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import torch
from lmcache.logging import init_logger
from lmcache.v1.memory_management import BytesBufferMemoryObj, MemoryFormat
from lmcache.v1.storage_backend.connector import base_connector

from larder import _larder
from larder._client import Addresses, Client, Completion
from larder.lmcache.connector import refuse_storage_plugin, register_metrics
from larder.lmcache.l2_errors import ErrorCounts
from larder.lmcache.remote_config import open_store, parameters_of, time_outs
from larder.lmcache.remote_values import (
    BINARY,
    TRAILER_BYTES_MAX,
    Layout,
    layout_of,
    parse_trailer,
    take_layout,
    trailer_of,
)

__all__ = ["RemoteConnector"]

# Keys of one load: a batch ends when its last key does, so a slow key delays at most these.
_LOAD_KEYS = 16
# Largest value in full chunks: a serde's output may be larger than its input.
_CHUNKS_MAX = 2
# How long a batch may take to come back after its deadline before its caller stops waiting.
_GRACE_SECONDS = 0.25
_ROOM_SECONDS = 0.01  # Between two attempts to get memory that stores hold.
_CLOSE_SECONDS = 30.0

# The class has a method `list`.
_Objects = list[Any]
_Names = list[str]


class RemoteConnector(base_connector.RemoteConnector):  # type: ignore[misc]
    """LMCache's remote store, behind its memory on the host, over any larder connector:

        remote_storage_plugins: ["larder"]
        extra_config:
          remote_storage_plugin.larder.module_path: larder.lmcache
          remote_storage_plugin.larder.class_name: RemoteConnector
          remote_storage_plugin.larder.url: log:/data/kv?capacity=500GiB

    LMCache makes it. Besides `url` there may be the connector's own parameters, or its `type` with
    them, and `load_timeout`, `store_timeout` and `lookup_timeout` in seconds. `{worker_id}` in a
    parameter becomes the worker's number: with several workers each needs its own `log` directory.
    A wrong parameter, or a store that cannot be opened, raises `larder.OpenError`, `TypeError` or
    `ValueError` from the constructor, which LMCache logs; the engine continues without it.

    Values go from LMCache's memory to the store, and back, by address (remote_values.py has their
    form). No other method raises: a load that failed, was late or found no memory is None, for its
    key alone, and a failed lookup finds nothing. Each kind of error is logged once.

    **Deadlines.** Every call ends by its deadline, by default before LMCache gives up on it
    (`blocking_timeout_secs`, `lookup_timeout_ms`). Memory that the kernel may still write to, or
    read from, stays LMCache's allocation until that has ended, also when the call was cancelled.

    Threads: the coroutines belong to LMCache's loop, the other calls to any thread. A thread of its
    own completes submitted batches.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, local_cpu_backend: Any, config: Any, **others: Any
    ) -> None:
        refuse_storage_plugin("RemoteConnector", others)
        super().__init__(local_cpu_backend.config, local_cpu_backend.metadata)
        self._errors = ErrorCounts(init_logger(__name__))
        self._memory = local_cpu_backend
        self._metadata = local_cpu_backend.metadata
        parameters = parameters_of(config, type(self), self._metadata)
        self._load_seconds, self._store_seconds, self._lookup_seconds = time_outs(
            parameters, config
        )
        self._client = open_store(parameters, self._metadata)
        self._storing = 0  # Puts under way; the loop's.
        self._pending: set[Future[Completion]] = set()
        self._thread = threading.Thread(target=self._complete, name="larder", daemon=True)
        self._thread.start()
        register_metrics()

    # --- Lookups ----------------------------------------------------------------------------------

    async def exists(self, key: Any) -> bool:
        return await self.batched_async_contains("", [key]) == 1

    def exists_sync(self, key: Any) -> bool:
        return self.batched_contains([key]) == 1

    def support_batched_contains(self) -> bool:
        return True

    def batched_contains(self, keys: _Objects) -> int:
        """How many keys, from the first one on, have a value."""
        with self._noting("lookup"):
            names = _names(keys)
            sizes = self._client.probe(names)
            if sizes is None:
                future = self._submit(
                    self._client.submit_exists, names, timeout=self._lookup_seconds
                )
                try:
                    completion = future.result(self._lookup_seconds + _GRACE_SECONDS)
                except FutureTimeoutError:
                    self._note_late("lookup", names)
                    return 0
                self._note_failures("lookup", completion)
                return completion.leading_hits
            return _leading(sizes)
        return 0

    def support_batched_async_contains(self) -> bool:
        return True

    async def batched_async_contains(
        self, lookup_id: str, keys: _Objects, pin: bool = False
    ) -> int:
        """As `batched_contains()`. Nothing is pinned: a key that goes before it is loaded is a miss."""
        with self._noting("lookup"):
            sizes = await self._sizes(_names(keys), time.monotonic() + self._lookup_seconds)
            return _leading(sizes)
        return 0

    async def _sizes(self, names: _Names, end: float) -> Sequence[int | None]:
        """Bytes of each value, None for a key without one."""
        found = self._client.probe(names)
        if found is not None:
            return found
        future = self._submit(self._client.submit_exists, names, deadline=end)
        completion = await _outcome(future, end)
        if completion is None:
            self._note_late("lookup", names)
            return [None] * len(names)
        self._note_failures("lookup", completion)
        return [size if hit else None for hit, size in zip(completion.hits, completion.sizes)]

    # --- Loads ------------------------------------------------------------------------------------

    async def get(self, key: Any) -> Any | None:
        return (await self.batched_get([key]))[0]

    def support_batched_get(self) -> bool:
        return True

    async def batched_get(self, keys: _Objects) -> _Objects:
        """Each key's memory object, or None."""
        loads: list[_Load] = []
        try:
            with self._noting("load"):
                await self._load(_names(keys), loads, time.monotonic() + self._load_seconds)
                found: list[Any | None] = [None] * len(keys)
                for load in loads:
                    for index, memory in load.take():
                        found[index] = memory
                return found
        finally:
            for load in loads:
                load.abandon(self._client)
        return [None] * len(keys)

    def support_batched_get_non_blocking(self) -> bool:
        return True

    async def batched_get_non_blocking(self, lookup_id: str, keys: _Objects) -> _Objects:
        """The memory objects of the keys before the first one that could not be loaded."""
        found = await self.batched_get(keys)
        usable = _leading(found)
        for memory in found[usable:]:
            if memory is not None:
                memory.ref_count_down()
        return found[:usable]

    async def _load(self, names: _Names, loads: list[_Load], end: float) -> None:
        """Loads the values that exist. Every load that was begun is in `loads`, also after an
        exception."""
        sizes = await self._sizes(names, end)
        size_max = _CHUNKS_MAX * self._full_chunk().bytes + TRAILER_BYTES_MAX
        for index, size in enumerate(sizes):
            if size is None:
                continue
            if not 0 < size <= size_max:  # LMCache would give up its memory for it.
                self._remove_unusable(
                    names[index], f"{size} bytes, and a chunk has {size_max} at most"
                )
                continue
            if not loads or len(loads[-1]) == _LOAD_KEYS:
                loads.append(_Load())
            memory = await self._room(size, end)
            if memory is None:
                self._errors.note(
                    "no memory",
                    f"LMCache has none for {size} bytes and whatever follows them; raise "
                    "max_local_cpu_size",
                )
                break
            loads[-1].add(index, names[index], memory)
            if len(loads[-1]) == _LOAD_KEYS:
                self._begin(loads[-1], end)
        if loads and loads[-1].future is None and len(loads[-1]):
            self._begin(loads[-1], end)
        for load in loads:
            if load.future is None:
                continue
            completion = await _outcome(load.future, end)
            if completion is None:
                self._note_late("load", load.names)
                continue
            self._note_failures("load", completion)
            self._judge(load, completion)

    def _begin(self, load: _Load, end: float) -> None:
        load.future = self._submit(
            self._client.submit_get,
            load.names,
            Addresses(
                [memory.data_ptr for memory in load.memories],
                load.sizes,
                owner=load.memories,
            ),
            deadline=end,
            id_to=load,
        )

    async def _room(self, size: int, end: float) -> Any | None:
        """A memory object of so many bytes. Waits for one only while stores hold memory that they
        will release: LMCache's own way to wait blocks the loop, and so these stores."""
        while True:
            memory = self._allocate(size)
            if memory is not None or not self._storing or time.monotonic() >= end:
                return memory
            await asyncio.sleep(_ROOM_SECONDS)

    def _allocate(self, size: int) -> Any | None:
        whole = self._full_chunk()
        if size == whole.bytes:
            shapes, dtypes, fmt = list(whole.shapes), list(whole.dtypes), whole.fmt
        else:
            shapes, dtypes, fmt = [torch.Size([size])], [torch.uint8], MemoryFormat.KV_2LTD
        memory = self._memory.allocate(shapes, dtypes, fmt, busy_loop=False)
        if memory is not None and memory.raw_data.nbytes < size:  # A page is of one size.
            memory.ref_count_down()
            return None
        return memory

    def _full_chunk(self) -> Layout:
        """The layout of a full chunk; LMCache may learn of groups of layers after it made this."""
        metadata = self._metadata
        return Layout(self.meta_fmt, tuple(metadata.get_shapes()), tuple(metadata.get_dtypes()))

    def _judge(self, load: _Load, completion: Completion) -> None:
        """Makes memory objects of the loaded values. A value that no such object can be made of is
        removed, so that it is a miss from now on and can be stored again."""
        whole = self._full_chunk().bytes
        for place, hit in enumerate(completion.hits):
            if not hit:
                continue
            memory, size = load.memories[place], load.sizes[place]
            try:
                if size != whole:
                    layout = parse_trailer(memory.byte_array)
                    if layout.fmt in BINARY:
                        data = bytes(memory.byte_array[: layout.bytes])
                        memory.ref_count_down()
                        load.memories[place] = BytesBufferMemoryObj(data)
                    else:
                        take_layout(memory, layout)
            except ValueError as error:
                self._remove_unusable(load.names[place], str(error))
                continue
            load.loaded.add(place)

    def _remove_unusable(self, name: str, why: str) -> None:
        self._errors.note("unusable value", f"{name}: {why}")
        self._submit(self._client.submit_delete, [name])

    # --- Stores -----------------------------------------------------------------------------------

    async def put(self, key: Any, memory_obj: Any) -> None:
        await self.batched_put([key], [memory_obj])

    def support_batched_put(self) -> bool:
        return True

    async def batched_put(self, keys: _Objects, memory_objs: _Objects) -> None:
        """Stores each value whose key has none."""
        with self._noting("store"):
            names, values, held = [], [], []
            whole = self._full_chunk()
            for name, memory in zip(_names(keys), memory_objs):
                try:
                    value = _value_of(memory, whole)
                except ValueError as error:
                    self._errors.note("unusable memory object", f"{name}: {error}")
                    continue
                names.append(name)
                values.append(value)
                held.append(memory)
            if not names:
                return
            end = time.monotonic() + self._store_seconds
            for memory in held:
                memory.ref_count_up()
            future: Future[Completion] = Future()
            future.add_done_callback(functools.partial(_give_back, held))
            self._storing += 1
            try:
                self._submit(self._client.submit_set, names, values, deadline=end, future=future)
                completion = await _outcome(future, end)
            finally:
                self._storing -= 1
            if completion is None:
                self._note_late("store", names)
            else:
                self._note_failures("store", completion)

    # --- What else LMCache asks -------------------------------------------------------------------

    def remove_sync(self, key: Any) -> bool:
        """Removes a value; whether it was there."""
        with self._noting("delete"):
            future = self._submit(
                self._client.submit_delete, _names([key]), timeout=self._lookup_seconds
            )
            completion = future.result(self._lookup_seconds + _GRACE_SECONDS)
            self._note_failures("delete", completion)
            return completion.leading_hits == 1
        return False

    async def list(self) -> _Names:
        """Every key in the store; none where the connector cannot list its keys."""
        with self._noting("list"):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, self._list)
        return []

    def _list(self) -> _Names:
        return [key.decode(errors="replace") for key, _ in self._client.scan()]

    def support_ping(self) -> bool:
        return True

    async def ping(self) -> int:
        """0 while the store works; 1 while it is down or all operations of one kind fail."""
        with self._noting("ping"):
            report = self._client.report()
            return int(report.health == "down" or report.is_failing)
        return 1

    def report_status(self) -> dict[str, Any]:
        """The store's report, and how many errors of each kind there were."""
        status: dict[str, Any] = {}
        with self._noting("report_status"):
            report = self._client.report()
            status = {"health": report.health, "reasons": report.reasons}
        return {**status, "errors": self._errors.counts()}

    async def close(self) -> None:
        """Lets stores end, then closes the store. Raises nothing; a hanging close is left to its
        thread."""
        with self._noting("close"):
            await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        try:
            self._client.close(min(self._store_seconds, _CLOSE_SECONDS / 2), _CLOSE_SECONDS)
        finally:
            self._thread.join(5.0)
        # No more completions come, and the memory of undrained ones is unused.
        for future in list(self._pending):
            future.set_exception(_larder.ClosedError("the store was closed meanwhile"))

    def __repr__(self) -> str:
        return f"<larder.lmcache.RemoteConnector over {self._client!r}>"

    # --- Batches and errors -----------------------------------------------------------------------

    def _submit(
        self,
        submit: Callable[..., int],
        *arguments: Any,
        future: Future[Completion] | None = None,
        id_to: _Load | None = None,
        **options: Any,
    ) -> Future[Completion]:
        """Submits; the future has the outcome when the batch has ended, and is never cancelled."""
        future = future or Future()
        future.set_running_or_notify_cancel()  # From here on cancel() does nothing.
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        try:
            batch_id = submit(*arguments, tag=future, **options)
        except BaseException as error:
            future.set_exception(error)
            raise
        if id_to is not None:
            id_to.batch_id = batch_id
        return future

    def _complete(self) -> None:
        """The thread's: gives each batch its outcome, until the client is closed."""
        client = self._client
        while not client.closed:
            try:
                client.wait(1.0)
                for completion in client.drain():
                    completion.tag.set_result(completion)
            except _larder.ForkedError:
                return
            except Exception as error:
                self._errors.note("completion", error)

    @contextlib.contextmanager
    def _noting(self, kind: str) -> Iterator[None]:
        """No exception goes to LMCache; its own cancellation does."""
        try:
            yield
        except Exception as error:
            self._errors.note(kind, error)

    def _note_failures(self, kind: str, completion: Completion) -> None:
        for failure in completion.failures.values():
            self._errors.note(f"{kind} ({failure.code})", failure.text)

    def _note_late(self, kind: str, names: Sequence[str]) -> None:
        self._errors.note(
            f"{kind} (late)",
            f"{len(names)} keys from {names[0]} on: the store has not answered by the deadline",
        )


class _Load:
    """Keys that are loaded with one batch, and the memory that they are loaded into. The references
    are this object's until `take()` gives them to LMCache or the batch has ended."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sizes: list[int] = []
        self.memories: list[Any] = []
        self.loaded: set[int] = set()
        """Places whose memory has a value."""
        self.future: Future[Completion] | None = None
        self.batch_id: int | None = None
        self._indices: list[int] = []
        self._is_taken = False

    def __len__(self) -> int:
        return len(self.names)

    def add(self, index: int, name: str, memory: Any) -> None:
        self._indices.append(index)
        self.names.append(name)
        self.sizes.append(memory.get_size())
        self.memories.append(memory)

    def take(self) -> Iterable[tuple[int, Any]]:
        """The loaded values, with their index among all keys; releases the others."""
        if self.future is None or not self.future.done():
            return []
        self._is_taken = True
        _give_back([one for place, one in enumerate(self.memories) if place not in self.loaded])
        return [(self._indices[place], self.memories[place]) for place in sorted(self.loaded)]

    def abandon(self, client: Client) -> None:
        """Releases the memory that was not taken, when nothing writes to it any more."""
        if self._is_taken:
            return
        self._is_taken = True
        if self.future is None:
            _give_back(self.memories)
            return
        if self.batch_id is not None:
            with contextlib.suppress(_larder.Error):
                client.cancel(self.batch_id)
        self.future.add_done_callback(functools.partial(_give_back, self.memories))


def _give_back(memories: Iterable[Any], _: object = None) -> None:
    for memory in memories:
        memory.ref_count_down()


async def _outcome(future: Future[Completion], end: float) -> Completion | None:
    """A batch's outcome; None when there is none at `end` and a little more. The batch
    continues."""
    waiting = asyncio.wrap_future(future)
    seconds = max(end - time.monotonic(), 0.0) + _GRACE_SECONDS
    done, _ = await asyncio.wait({waiting}, timeout=seconds)
    return waiting.result() if done else None


def _leading(found: Sequence[Any | None]) -> int:
    """How many, from the first one on, are there."""
    return next((index for index, one in enumerate(found) if one is None), len(found))


def _names(keys: Iterable[Any]) -> list[str]:
    return [_name(key) for key in keys]


def _name(key: Any) -> str:
    """LMCache's text of a key, but that no two sets of tags have the same."""
    name: str = key.to_string()
    if not key.tags:
        return name
    tags = "@".join(f"{tag}%{value}" for tag, value in key.tags)
    quoted = "@".join(f"{_quoted(tag)}={_quoted(value)}" for tag, value in key.tags)
    return name.removesuffix(tags) + quoted


def _quoted(text: object) -> str:
    return str(text).replace("%", "%25").replace("@", "%40").replace("=", "%3D")


def _value_of(memory: Any, whole: Layout) -> Any:
    """A memory object as a value: its memory, and a trailer where it is no full chunk."""
    layout = layout_of(memory)
    if layout == whole:
        return Addresses([memory.data_ptr], memory.get_size(), owner=memory)
    return [memory.byte_array, trailer_of(layout, whole.bytes)]
