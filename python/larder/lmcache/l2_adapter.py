"""larder as an L2 adapter of LMCache's own interface, for its adapter type `plugin` (0.5)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from lmcache.logging import init_logger
from lmcache.v1.distributed.api import KeyEntry, KeyListPage, ObjectKey
from lmcache.v1.distributed.eviction import L2EvictionPolicy
from lmcache.v1.distributed.internal_api import L2StoreResult
from lmcache.v1.distributed.l2_adapters.base import L2AdapterInterface

from larder import _larder
from larder.lmcache.connector import Connector
from larder.lmcache.l2_accounting import Change
from larder.lmcache.l2_config import EVICTION_REFUSED, L2AdapterConfig
from larder.lmcache.l2_errors import ErrorCounts
from larder.lmcache.l2_keys import parse_key, wire_key
from larder.lmcache.l2_listing import list_page
from larder.lmcache.l2_locks import LockTable
from larder.lmcache.l2_mirror import DONE, EXISTED, FAILED, Mirror
from larder.lmcache.l2_tasks import Kind, Task, TaskRunner

try:
    from lmcache.lmcache_native import Bitmap
except ImportError:  # Before 0.5.4.
    from lmcache.native_storage_ops import Bitmap

_DELETE_SECONDS = 30.0
_SEED_KEYS = 4096
_HIT = bytes([DONE])


class L2Adapter(L2AdapterInterface):  # type: ignore[misc]
    """LMCache's L2 over any larder connector, with what `native_plugin` cannot have: locks that
    `delete` respects, usage that includes larder's own evictions and the content from before a
    restart, listing, and a choice of who evicts.

    `adapter_params` are those of `Connector`, and `evict` and `lmcache_capacity_gb`
    (`L2AdapterConfig.help`). Values are read from and written to LMCache's memory as they are, at
    their logical size: the padding behind them is never stored.

    No method but the constructor, `register_listener` and `list_l2_keys` raises: a task that could
    not be done ends as failed, is counted in `report_status()["errors"]` and logged once a kind.

    Locks: a lookup locks its keys from its submission on, and keeps the locks of those that it
    found until `submit_unlock`. `delete` leaves locked keys alone, as LMCache's raw_block does; a
    caller that needs them gone repeats it. larder's own eviction ignores locks: a key that is
    evicted between lookup and load is a miss.

    Threads: any. A thread of its own completes the tasks, and another reads the store's content (at
    the beginning, and after lost events).
    """

    def __init__(
        self,
        config: L2AdapterConfig | dict[str, Any],
        l1_memory_desc: Any = None,
        **_: Any,
    ) -> None:
        """`l1_memory_desc` only serves to report whether values move without a copy; nothing is
        registered.

        Raises `larder.OpenError`, `TypeError` and `ValueError` for errors of the configuration or
        the store.
        """
        if not isinstance(config, L2AdapterConfig):
            config = L2AdapterConfig.from_dict(config)
        self._config = config
        self._errors = ErrorCounts(init_logger(__name__))
        self._connector = Connector(**config.connector_parameters)
        try:
            super().__init__(max_capacity_bytes=self._capacity_bytes())
            self._alignment = _alignment_of(self._connector, l1_memory_desc)
            self._locality = str(self._connector.report()["locality"])
            self._lock = threading.Lock()
            self._locks = LockTable()
            self._skipped_deletes = 0
            self._mirror = Mirror(
                self._connector, self._on_change, lambda kind, error: self._errors.note(kind, error)
            )
            self._tasks = TaskRunner(self._connector, self._mirror, self._errors, self._on_finished)
        except BaseException:
            self._connector.close(0, 10)
            raise
        self._mirror.start()
        self._tasks.start()

    def _capacity_bytes(self) -> int:
        capacity = int(self._connector.report()["capacity_bytes"])
        if self._config.lmcache_capacity_gb:
            return int(self._config.lmcache_capacity_gb * 2**30)
        if self._config.evict == "lmcache" and capacity == 0:
            raise ValueError(
                "evict: 'lmcache' needs a capacity to evict at, and the store has none; give "
                "capacity, or lmcache_capacity_gb"
            )
        return capacity

    # --- Event descriptors ----------------------------------------------------------------------

    def get_store_event_fd(self) -> int:
        return self._tasks.event_fd(Kind.STORE)

    def get_lookup_and_lock_event_fd(self) -> int:
        return self._tasks.event_fd(Kind.LOOKUP)

    def get_load_event_fd(self) -> int:
        return self._tasks.event_fd(Kind.LOAD)

    # --- Tasks ----------------------------------------------------------------------------------

    def submit_store_task(self, keys: list[ObjectKey], objects: list[Any]) -> int:
        return self._tasks.submit(Task(Kind.STORE, _names(keys), list(keys), list(objects)))

    def pop_completed_store_tasks(self) -> dict[int, L2StoreResult]:
        """A task succeeds when all of its keys exist now; its bytes are those written, without keys
        that existed already."""
        return self._tasks.pop_all(Kind.STORE)

    def submit_lookup_and_lock_task(
        self, keys: list[ObjectKey], group_layout_descs: Any = None
    ) -> int:
        """The layouts are not needed; LMCache before 0.5 does not pass them."""
        names = _names(keys)
        with self._lock:
            self._locks.acquire(names)
        return self._tasks.submit(Task(Kind.LOOKUP, names, list(keys)))

    def query_lookup_and_lock_result(self, task_id: int) -> Bitmap | None:
        return self._tasks.pop(Kind.LOOKUP, task_id)

    def submit_unlock(self, keys: list[ObjectKey]) -> None:
        names = _names(keys)
        with self._lock:
            self._locks.release(names)

    def submit_load_task(self, keys: list[ObjectKey], objects: list[Any]) -> int:
        return self._tasks.submit(Task(Kind.LOAD, _names(keys), list(keys), list(objects)))

    def query_load_result(self, task_id: int) -> Bitmap | None:
        return self._tasks.pop(Kind.LOAD, task_id)

    def touch_keys(self, keys: list[ObjectKey]) -> None:
        """Marks keys as used, for larder's eviction and for listeners. Does not wait."""
        self._tasks.submit(Task(Kind.TOUCH, _names(keys), list(keys)))

    def submit_touch(self, keys: list[ObjectKey]) -> None:
        """The same, as LMCache 0.5.7 asks for it at the end of a request."""
        self.touch_keys(keys)

    def delete(self, keys: list[ObjectKey]) -> None:
        """Deletes the keys that are not locked, and waits up to 30 s for it. Usage and listeners
        know by the time of return; when events were lost, once `report_status()["accounting"]` says
        `is_complete` again."""
        names = _names(keys)
        with self._lock:
            chosen = [i for i, name in enumerate(names) if name not in self._locks]
            self._skipped_deletes += len(names) - len(chosen)
        if not chosen:
            return
        task = Task(Kind.DELETE, [names[i] for i in chosen], [keys[i] for i in chosen])
        self._tasks.submit(task)
        if not task.is_finished.wait(_DELETE_SECONDS):
            self._errors.note("delete", f"{len(chosen)} keys took more than {_DELETE_SECONDS:g} s")

    def _on_finished(self, task: Task, codes: bytes) -> Any:
        """The controllers' result of a task, after the mirror has its changes."""
        if task.kind is Kind.STORE:
            self._accessed(task, codes, EXISTED)
            written = sum(size for size, code in zip(task.sizes, codes) if code == DONE)
            return L2StoreResult(FAILED not in codes, written)
        if task.kind is Kind.LOOKUP:
            with self._lock:
                self._locks.release(
                    name for name, code in zip(task.names, codes) if code != DONE
                )
        elif task.kind is not Kind.DELETE:
            self._accessed(task, codes, DONE)
        return _bitmap_of(codes)

    # --- Listeners and usage --------------------------------------------------------------------

    @property
    def supports_global_eviction(self) -> bool:
        # If larder evicts, True makes LMCache hand over the policy of an eviction block, which
        # register_listener() then refuses by name; with False LMCache would ignore the block.
        return self._config.evict == "larder" or bool(super().supports_global_eviction)

    def register_listener(self, listener: Any) -> None:
        """The listener first gets every existing key. Its exceptions are counted.

        Raises `ValueError` for LMCache's eviction policy, unless `evict` is `lmcache`.
        """
        if self._config.evict == "larder" and isinstance(listener, L2EvictionPolicy):
            raise ValueError(EVICTION_REFUSED)
        guarded = _GuardedListener(listener, self._errors)
        with self._mirror.lock:
            super().register_listener(guarded)
            there = self._mirror.accounts.items()
            for i in range(0, len(there), _SEED_KEYS):
                page = there[i : i + _SEED_KEYS]
                guarded.on_l2_keys_stored(
                    [_object_key(name) for name, _ in page], [size for _, size in page]
                )

    def _on_change(self, change: Change) -> None:
        keys = [_object_key(name) for name in change.keys]
        try:
            if change.is_stored:
                self._notify_keys_stored(keys, change.sizes)
            else:
                self._notify_keys_deleted(keys, change.sizes)
        except Exception as error:
            self._errors.note("notify", error)

    def _accessed(self, task: Task, codes: bytes, wanted: int) -> None:
        keys = [key for key, code in zip(task.keys, codes) if code == wanted]
        if not keys:
            return
        try:
            with self._mirror.lock:
                self._notify_keys_accessed(keys)
        except Exception as error:
            self._errors.note("notify", error)

    # --- Listing and status ---------------------------------------------------------------------

    def list_l2_keys(
        self, model_name: str | None = None, page_size: int = 500, cursor: str | None = None
    ) -> KeyListPage:
        """LMCache's keys in the store, oldest first where it has an order. A key that exists all
        the time is listed at least once; pages before the last may be short.

        Raises `ValueError` for a bad `page_size` or `cursor`, and `larder.UnsupportedError`, which
        LMCache answers with 503, when the store cannot list its keys or cannot be read.
        """
        try:
            entries, token = list_page(self._connector, model_name, page_size, cursor)
        except _larder.UnsupportedError:
            raise
        except _larder.Error as error:
            raise _larder.UnsupportedError(f"the keys cannot be read now: {error}") from error
        return KeyListPage(
            entries=tuple(
                KeyEntry(key=ObjectKey(*fields).to_encoded_object_key(), size_bytes=size)
                for fields, size in entries
            ),
            next_page_token=token,
        )

    def report_status(self) -> dict[str, Any]:
        """Healthy unless the store is down or closed, or all its operations within the last minute
        failed; a degraded state shows in `health` and `reasons`."""
        try:
            report = self._connector.report()
        except Exception as error:
            report = {"health": "down", "is_failing": True, "reasons": [str(error)]}
        mirror = self._mirror
        usage = self.get_usage()
        with mirror.lock:
            accounting = {
                "is_complete": mirror.is_complete,
                "can_scan": mirror.can_scan,
                "scanned_keys": mirror.scanned_keys,
                "scans": mirror.scans,
                "follows_events": mirror.has_events,
                "events_lost": mirror.events_lost,
                "keys": len(mirror.accounts),
                "foreign_keys": mirror.accounts.foreign_keys,
                "foreign_bytes": mirror.accounts.foreign_bytes,
            }
        with self._lock:
            locks = {"locked_keys": len(self._locks), "skipped_deletes": self._skipped_deletes}
        return {
            "is_healthy": self._tasks.is_running
            and report["health"] != "down"
            and not report["is_failing"],
            "type": type(self).__name__,
            "connector": report.get("type", ""),
            "where": report.get("where", ""),
            "health": report["health"],
            "is_failing": report["is_failing"],
            "reasons": list(report["reasons"]),
            "evict": self._config.evict,
            "current_size_bytes": usage.total_bytes_used,
            "max_capacity_bytes": usage.total_capacity_bytes,
            "store_bytes_used": report.get("bytes_used", 0),
            "store_capacity_bytes": report.get("capacity_bytes", 0),
            "accounting": accounting,
            "in_flight": self._tasks.in_flight(),
            **locks,
            **self._alignment,
            "errors": self._errors.counts(),
        }

    def get_memory_tags(self) -> Any:
        """Where the values are, in the form that LMCache from 0.5.7 on asks for."""
        from lmcache.v1.distributed.api import MemoryResidency, MemorySegment, MemoryTags

        in_memory = self._locality in ("memory", "other_process")
        is_elsewhere = self._locality in ("remote", "shared_files")
        return MemoryTags(
            MemorySegment.DRAM if in_memory else MemorySegment.STORAGE,
            MemoryResidency.REMOTE if is_elsewhere else MemoryResidency.LOCAL,
        )

    # --- The end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Lets pending operations end (for 10 s, then cancels them); tasks that did not end are
        failed. Buffers are released when the kernel has completed its transfers. Idempotent."""
        self._tasks.close()


class _GuardedListener:
    """One listener's exception must not keep the others from hearing."""

    def __init__(self, listener: Any, errors: ErrorCounts) -> None:
        self._listener = listener
        self._errors = errors

    def on_l2_keys_stored(self, keys: list[ObjectKey], sizes: list[int]) -> None:
        try:
            self._listener.on_l2_keys_stored(keys, sizes)
        except Exception as error:
            self._errors.note("listener", error)

    def on_l2_keys_accessed(self, keys: list[ObjectKey]) -> None:
        try:
            self._listener.on_l2_keys_accessed(keys)
        except Exception as error:
            self._errors.note("listener", error)

    def on_l2_keys_deleted(self, keys: list[ObjectKey]) -> None:
        try:
            self._listener.on_l2_keys_deleted(keys)
        except Exception as error:
            self._errors.note("listener", error)


def _names(keys: Sequence[ObjectKey]) -> list[str]:
    return [wire_key(key) for key in keys]


def _object_key(name: bytes) -> ObjectKey:
    fields = parse_key(name)
    assert fields is not None, "the accounts hold LMCache's keys only"
    return ObjectKey(*fields)


def _bitmap_of(codes: bytes) -> Bitmap:
    count = len(codes)
    leading = count - len(codes.lstrip(_HIT))
    bitmap = Bitmap(count, leading)
    at = codes.find(_HIT, leading)
    while at >= 0:
        bitmap.set(at)
        at = codes.find(_HIT, at + 1)
    return bitmap


def _alignment_of(connector: Connector, l1_memory_desc: Any) -> dict[str, int | bool | None]:
    wanted = int(connector.report()["properties"].get("buffer_alignment", 1))
    given = getattr(l1_memory_desc, "align_bytes", None)
    return {
        "buffer_alignment": wanted,
        "l1_align_bytes": given,
        "is_l1_aligned": None if given is None else given % wanted == 0,
    }
