"""Tasks that LMCache's controllers submit, run by a connector: ids, completions, event fds."""

from __future__ import annotations

import enum
import os
import select
import threading
from collections.abc import Callable
from typing import Any

from larder import _larder
from larder.lmcache.connector import Connector
from larder.lmcache.l2_errors import ErrorCounts
from larder.lmcache.l2_mirror import DONE, FAILED, MISS, Mirror

_TICK_MS = 500

# Transfers that the kernel had not completed at close(): connectors, and the memory that they may
# write to.
_kept_for_ever: list[object] = []


class Kind(enum.Enum):
    STORE = "store"
    LOOKUP = "lookup"
    LOAD = "load"
    DELETE = "delete"
    TOUCH = "touch"


_ANSWERED = (Kind.STORE, Kind.LOOKUP, Kind.LOAD)


class Task:
    """One submitted task. `objects` (LMCache's memory) are kept until the connector is done."""

    def __init__(
        self, kind: Kind, names: list[str], keys: list[Any], objects: list[Any] | None = None
    ) -> None:
        self.kind = kind
        self.names = names
        self.keys = keys
        self.objects = objects or []
        self.sizes: list[int] = []
        self.evictions_seen = 0  # By the mirror, before the submission.
        self.id = -1
        self.is_finished = threading.Event()


class TaskRunner:
    """Submits tasks to a connector and completes them in a thread of its own.

    `on_finished(task, codes)` makes the result that the controllers get; before it the mirror has
    heard of everything that had happened when the task ended. An exception in it is a failed task.

    Ownership: closes the connector and stops the mirror.
    Threads: any. Cost of a task: one wake-up of the thread.
    Invariant: a task is in `_running` from its submission until its result is there; its objects
    are referenced as long.
    """

    def __init__(
        self,
        connector: Connector,
        mirror: Mirror,
        errors: ErrorCounts,
        on_finished: Callable[[Task, bytes], Any],
    ) -> None:
        self._connector = connector
        self._mirror = mirror
        self._errors = errors
        self._on_finished = on_finished
        self._lock = threading.Lock()
        self._close_lock = threading.Lock()
        self._last_id = 0
        self._running: dict[int, Task] = {}  # By the task's id, which is the batch's too.
        self._results: dict[Kind, dict[int, Any]] = {kind: {} for kind in _ANSWERED}
        self._fds = {kind: os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for kind in _ANSWERED}
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_closed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="larder-l2")

    def start(self) -> None:
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive() and not self._is_closed

    def event_fd(self, kind: Kind) -> int:
        """-1 after close()."""
        return self._fds[kind]

    def in_flight(self) -> dict[str, int]:
        with self._lock:
            kinds = [task.kind for task in self._running.values()]
        return {kind.value: kinds.count(kind) for kind in Kind}

    def pop(self, kind: Kind, task_id: int) -> Any:
        with self._lock:
            return self._results[kind].pop(task_id, None)

    def pop_all(self, kind: Kind) -> dict[int, Any]:
        with self._lock:
            results, self._results[kind] = self._results[kind], {}
        return results

    def submit(self, task: Task) -> int:
        """The task's id. Never raises: a task that cannot be submitted has failed."""
        with self._lock:
            self._last_id += 1
            task.id = self._last_id
        if not task.names:
            self._complete(task, b"", "")
            return task.id
        task.evictions_seen = self._mirror.evictions_seen
        with self._lock:
            self._running[task.id] = task
        try:
            self._submit_to_connector(task)
        except Exception as error:
            with self._lock:
                was_running = self._running.pop(task.id, None) is not None
            if was_running:  # close() has not failed it meanwhile.
                self._complete(task, bytes(len(task.names)), error)
        return task.id

    def _submit_to_connector(self, task: Task) -> None:
        connector = self._connector
        if task.kind is Kind.LOOKUP:
            connector.submit_batch_exists(task.names, task.id)
        elif task.kind is Kind.DELETE:
            connector.submit_batch_delete(task.names, task.id)
        elif task.kind is Kind.TOUCH:
            connector.submit_batch_touch(task.names, task.id)
        else:
            views = [memory.byte_array for memory in task.objects]
            task.sizes = [len(view) for view in views]
            if task.kind is Kind.STORE:
                connector.submit_batch_set(task.names, views, task.id)
            else:
                connector.submit_batch_get(task.names, views, task.id)

    # --- Completion -----------------------------------------------------------------------------

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._connector.event_fd(), select.POLLIN)
        poller.register(self._wake_fd, select.POLLIN)
        while not self._stop.is_set():
            poller.poll(_TICK_MS)
            try:
                self._drain()
            except Exception as error:
                if self._stop.is_set():
                    return
                self._errors.note("completion", error)
                self._stop.wait(_TICK_MS / 1000)

    def _drain(self) -> None:
        finished = []
        completions = self._connector.drain()
        with self._lock:
            for completion in completions:
                codes, error = completion.codes, completion.error
                task = self._running.pop(completion.id, None)
                if task is not None:
                    finished.append((task, codes, error))
        # The connector reported the tasks' changes before it returned them.
        self._look_for_changes()
        for task, codes, error in finished:
            self._complete(task, codes, error)

    def _look_for_changes(self) -> None:
        try:
            self._mirror.pump()
            if not self._mirror.has_events:
                counters = self._connector.report()["counters"]
                evicted = counters["evictions_total"]
                self._mirror.note_evictions(evicted)
        except Exception as error:
            if not self._is_closed:
                self._errors.note("events", error)

    def _complete(self, task: Task, codes: bytes, error: str | Exception) -> None:
        if error:
            self._errors.note(task.kind.value, error)
        try:
            self._tell_mirror(task, codes)
            result = self._on_finished(task, codes)
        except Exception as failure:
            self._errors.note("completion", failure)
            result = self._on_finished(task, bytes(len(task.names)))
        task.objects = []
        if task.kind in _ANSWERED:
            with self._lock:
                self._results[task.kind][task.id] = result
                if self._fds[task.kind] >= 0:
                    os.eventfd_write(self._fds[task.kind], 1)
        task.is_finished.set()

    def _tell_mirror(self, task: Task, codes: bytes) -> None:
        if task.kind is Kind.LOOKUP:
            return
        if task.kind is Kind.STORE:
            self._mirror.note_stored(task.names, task.sizes, codes, task.evictions_seen)
        else:
            went = (DONE, MISS) if task.kind is Kind.DELETE else (MISS,)
            self._mirror.note_gone([name for name, code in zip(task.names, codes) if code in went])

    # --- The end --------------------------------------------------------------------------------

    def close(self) -> None:
        with self._close_lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._mirror.expect_end()
            try:
                # Meanwhile the thread completes tasks that end.
                self._connector.close()
            except _larder.StuckError as error:
                self._errors.note("close", error)
                with self._lock:
                    memory = [task.objects for task in self._running.values()]
                _kept_for_ever.append((self._connector, memory))
            self._stop.set()
            os.eventfd_write(self._wake_fd, 1)
            if self._thread.is_alive():
                self._thread.join()
            self._mirror.stop()
            with self._lock:
                left, self._running = list(self._running.values()), {}
            for task in left:
                self._complete(task, bytes([FAILED]) * len(task.names), "the adapter was closed")
            with self._lock:
                for kind, fd in self._fds.items():
                    os.close(fd)
                    self._fds[kind] = -1
            os.close(self._wake_fd)
