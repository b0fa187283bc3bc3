"""Chunks of KV cache between vLLM's host memory and a larder store: everything of the tier that
needs no vLLM."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import larder
from larder.vllm._hints import RequestHints, Wanted
from larder.vllm._room import Room, RoomLedger
from larder.vllm._tally import Tally, log

_FAILED_KEYS_MAX = 65536
_FAILED_SECONDS = 60.0
_BATCH_KEYS = 1024  # Keys of a lookup, so that the first answers come early.
_TOUCHED_KEYS_MAX = 16384
_SLOWEST_BYTES_PER_SECOND = 256 << 20


class Answer(enum.Enum):
    """The result of a lookup."""

    HIT = "hit"
    MISS = "miss"
    RETRY = "retry"


class Timeouts(NamedTuple):
    """Seconds. A load or store of many chunks has a second more for each 256 MiB."""

    lookup: float = 3.0
    load: float = 10.0
    store: float = 60.0
    room: float = 10.0


class Finished(NamedTuple):
    """A job that has ended; given once."""

    id: int
    is_load: bool
    keys: list[bytes]
    done: list[bytes]
    """Those that were loaded, or that are in the store now."""
    moved: int
    """How many chunks were really copied."""
    seconds: float
    added: list[bytes]
    """Of a store: those that were not there before."""


class _Job(NamedTuple):
    id: int
    is_load: bool
    request: str
    keys: list[bytes]
    began: float
    wanted: Wanted | None = None
    """The hints of a store's request, which may have ended before it."""


class _Lookup:
    """A key that the store was asked for, and the requests that wait for the answer."""

    def __init__(self) -> None:
        self.found: bool | None = None
        self.requests: set[str] = set()


class Chunks:
    """Looks chunks up, loads and stores them. One chunk is one row of `view`, and one value of the
    store, whose key is `name()` and vLLM's key.

    Only `drain()` and `close()` wait, and no call raises for the store's errors. A chunk that
    cannot be looked up or loaded is a miss, and one that failed to load stays a miss until it was
    stored again, or for a minute.

    Ownership: owns the client. Holds an export of `view` until `close()`, and no reference to a row
    whose job `finished()` has returned.
    Threads: one at a time.
    """

    def __init__(
        self,
        client: larder.Client,
        view: memoryview,
        name: Callable[[], bytes],
        timeouts: Timeouts,
        clock: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
    ) -> None:
        """`view`: rows of one length, contiguous and writable. `name` is called once, at the first
        use of a key. Counts go to `tally`."""
        assert view.shape is not None
        self._client = client
        self._row_bytes = view.nbytes // view.shape[0] if view.shape[0] else 0
        self._flat = view.cast("B")
        self._name_of = name
        self._name: bytes | None = None
        self._timeouts = timeouts
        self._clock = clock
        self.room = RoomLedger(view.shape[0], timeouts.room, clock)
        self.tally = tally or Tally()
        self.hints = RequestHints(client, timeouts.load, self.tally)
        self._jobs: dict[int, _Job] = {}
        self._finished: list[Finished] = []
        self._failed: dict[bytes, float] = {}
        self._can_probe = True  # Until the store answered "not known" in this step.
        self._lookups: dict[bytes, _Lookup] = {}
        self._wanted: list[bytes] = []
        self._keys_of: dict[str, set[bytes]] = {}
        self._asking = 0
        self._touched: dict[bytes, None] = {}
        self._is_touching = False
        self._is_closed = False

    @property
    def row_bytes(self) -> int:
        return self._row_bytes

    @property
    def prefix(self) -> bytes:
        """The prefix of the keys of all chunks."""
        if self._name is None:
            self._name = self._name_of()
        return self._name

    # --- Lookup -----------------------------------------------------------------------------------

    def lookup(self, key: bytes, request: str) -> Answer:
        answer = self._is_there(key, request)
        if answer is not Answer.HIT:
            self.tally.add("lookups", answer.value)
            return answer
        self.hints.add(self.hints.of(request), (key,))
        room = self.room.ask(request, key)
        if room is Room.FREE:
            self.tally.add("lookups", "hit")
            return Answer.HIT
        self.tally.add("lookups", "waits_for_room" if room is Room.LATER else "no_room")
        return Answer.RETRY if room is Room.LATER else Answer.MISS

    def _is_there(self, key: bytes, request: str) -> Answer:
        if self._failed and self._has_failed(key):
            return Answer.MISS
        if self._can_probe:
            sizes = self._client.probe([self.prefix + key])
            if sizes is not None:
                return self._verdict(sizes[0])
            self._can_probe = False
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = _Lookup()
            self._wanted.append(key)
        if request not in lookup.requests:
            lookup.requests.add(request)
            self._keys_of.setdefault(request, set()).add(key)
        if lookup.found is None:
            return Answer.RETRY
        return Answer.HIT if lookup.found else Answer.MISS

    def _verdict(self, size: int | None) -> Answer:
        return Answer.HIT if size == self._row_bytes else Answer.MISS

    def _has_failed(self, key: bytes) -> bool:
        until = self._failed.get(key)
        if until is None:
            return False
        if self._clock() < until:
            return True
        del self._failed[key]
        return False

    def end_step(self, running: Iterable[str] = ()) -> None:
        """A step of the scheduler has ended, in which the requests `running` began to run. Submits
        the lookups of the step."""
        self.room.end_step(running)
        self._can_probe = True
        wanted, self._wanted = self._wanted, []
        wanted = [key for key in wanted if key in self._lookups]
        for begin in range(0, len(wanted), _BATCH_KEYS):
            keys = wanted[begin : begin + _BATCH_KEYS]
            self._submit_lookup(keys)
        self.hints.submit(self.prefix)
        if self._touched and not self._is_touching:
            keys = [self.prefix + key for key in self._touched]
            self._touched.clear()
            self._client.submit_touch(
                keys, timeout=self._timeouts.lookup, urgency="background", tag=None
            )
            self._is_touching = True

    def _submit_lookup(self, keys: list[bytes]) -> None:
        try:
            self._client.submit_exists(
                [self.prefix + key for key in keys],
                timeout=self._timeouts.lookup,
                urgency="demand",
                tag=keys,
            )
        except Exception as error:  # Nothing was submitted.
            self._end_lookup(keys, [False] * len(keys))
            self.tally.fail("exists", "chunks cannot be looked up", error)
        else:
            self._asking += 1

    def _end_lookup(self, keys: Sequence[bytes], found: Sequence[bool]) -> None:
        for key, is_found in zip(keys, found):
            lookup = self._lookups.get(key)
            if lookup is None:
                continue
            if not lookup.requests:
                del self._lookups[key]  # All have ended meanwhile.
            elif lookup.found is None:
                lookup.found = is_found

    def begin_request(self, request: str, hints: Any) -> bool:
        """`hints`: the request's envelope or None. Whether all chunks of the request should be stored,
        also those that are stored already, so that the hints reach them."""
        return self.hints.begin(request, hints)

    def end_request(self, request: str) -> None:
        self.hints.end(request)
        self.room.release(request)
        for key in self._keys_of.pop(request, ()):
            lookup = self._lookups.get(key)
            if lookup is None:
                continue
            lookup.requests.discard(request)
            if not lookup.requests and lookup.found is not None:
                del self._lookups[key]

    @property
    def is_asking(self) -> bool:
        """Answers to lookups are on their way, or hints to be submitted."""
        return self._asking > 0 or bool(self._wanted) or self.hints.is_waiting

    def touch(self, keys: Iterable[bytes]) -> None:
        """Marks chunks as used, at the end of the step. Beyond a bound the oldest are dropped."""
        for key in keys:
            self._touched[key] = None
        while len(self._touched) > _TOUCHED_KEYS_MAX:
            del self._touched[next(iter(self._touched))]

    # --- Jobs -------------------------------------------------------------------------------------

    def submit_load(
        self, id: int, keys: Collection[bytes], rows: Iterable[int], request: str
    ) -> None:
        job = _Job(id, True, request, list(keys), self._clock())
        self.room.begin_load(request, job.keys)
        self._submit(job, rows)

    def submit_store(
        self, id: int, keys: Collection[bytes], rows: Iterable[int], request: str = ""
    ) -> None:
        job = _Job(id, False, request, list(keys), self._clock(), self.hints.of(request))
        self.room.begin_store(len(job.keys))
        self._submit(job, rows)

    def _submit(self, job: _Job, rows: Iterable[int]) -> None:
        if not job.keys:
            self._finish(job, b"")
            return
        self._jobs[job.id] = job
        try:
            names = [self.prefix + key for key in job.keys]
            buffers = [self._row(int(row)) for row in rows]
            timeout = self._timeouts.load if job.is_load else self._timeouts.store
            timeout += len(names) * self._row_bytes / _SLOWEST_BYTES_PER_SECOND
            if job.is_load:
                self._client.submit_get(names, buffers, timeout=timeout, urgency="demand", tag=job)
            else:
                self._client.submit_set(names, buffers, timeout=timeout, urgency="store", tag=job)
        except Exception as error:  # Nothing was submitted.
            del self._jobs[job.id]
            self._note_failure(job.is_load, str(error))
            self._finish(job, bytes(len(job.keys)))

    def _row(self, row: int) -> memoryview:
        begin = row * self._row_bytes
        return self._flat[begin : begin + self._row_bytes]

    def finished(self) -> list[Finished]:
        """The jobs that have ended since the last call, each once."""
        self._take(self._client.drain())
        finished, self._finished = self._finished, []
        return finished

    def _take(self, completions: list[larder.Completion]) -> None:
        for completion in completions:
            for failure in completion.failures.values():
                self.tally.add("failures", f"{completion.operation} {failure.code}")
            if completion.operation == "touch":
                self._is_touching = False
            elif completion.operation in ("prefetch", "pin", "retain", "release"):
                self.hints.ended(completion)
            elif completion.operation == "exists":
                self._asking -= 1
                if completion.failures:
                    self.tally.fail("exists", "chunks cannot be looked up", completion.error)
                else:
                    self.tally.succeed("exists")
                found = [
                    code == larder.Code.DONE and size == self._row_bytes
                    for code, size in zip(completion.codes, completion.sizes)
                ]
                self._end_lookup(completion.tag, found)
            else:
                job = completion.tag
                del self._jobs[job.id]
                if completion.failures:
                    self._note_failure(job.is_load, completion.error)
                else:
                    self.tally.succeed("get" if job.is_load else "set")
                self._finish(job, completion.codes)

    def _note_failure(self, is_load: bool, error: str) -> None:
        if is_load:
            self.tally.fail("get", "chunks cannot be loaded and are computed", error)
        else:
            self.tally.fail("set", "chunks cannot be stored", error)

    def _finish(self, job: _Job, codes: bytes) -> None:
        good = (1,) if job.is_load else (1, 3)
        done = [key for key, code in zip(job.keys, codes) if code in good]
        moved = codes.count(1)
        if job.is_load:
            lost = [key for key, code in zip(job.keys, codes) if code not in good]
            self._mark_failed(lost)
            self.room.end_load(job.request, len(job.keys), lost)
            self.tally.add("chunks", "loaded", moved)
            self.tally.add("chunks", "not_loaded", len(lost))
        else:
            for key in done:
                self._failed.pop(key, None)
                lookup = self._lookups.get(key)
                if lookup is not None and lookup.found is False:
                    lookup.found = True
            self.hints.add(job.wanted, done)
            self.room.end_store(len(job.keys))
            self.tally.add("chunks", "stored", moved)
            self.tally.add("chunks", "existed", len(done) - moved)
            self.tally.add("chunks", "not_stored", len(job.keys) - len(done))
        added = [] if job.is_load else [k for k, code in zip(job.keys, codes) if code == 1]
        seconds = self._clock() - job.began
        self._finished.append(
            Finished(job.id, job.is_load, job.keys, done, moved, seconds, added)
        )

    def _mark_failed(self, keys: list[bytes]) -> None:
        until = self._clock() + _FAILED_SECONDS
        for key in keys:
            self._failed.pop(key, None)
            self._failed[key] = until
            lookup = self._lookups.get(key)
            if lookup is not None:
                lookup.found = False
        while len(self._failed) > _FAILED_KEYS_MAX:
            del self._failed[next(iter(self._failed))]

    # --- The end ----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Waits until no job is under way; `finished()` gives them. Each ends at its deadline,
        except for transfers in the kernel: their rows must not be used before it returns them."""
        warns_at = self._clock() + max(self._timeouts.load, self._timeouts.store) + 5
        while self._jobs:
            self._client.wait(1.0)
            self._take(self._client.drain())
            if self._jobs and self._client.closed:
                break
            if self._jobs and self._clock() > warns_at:
                warns_at = float("inf")
                log.warning(
                    "larder: %d jobs are still with the kernel or a peer after their deadline; "
                    "their memory cannot be used until it answers",
                    len(self._jobs),
                )

    def close(self, grace: float = 5.0, timeout: float = 30.0) -> None:
        """Lets jobs end, then cancels them. Idempotent. Raises `larder.StuckError` when the kernel
        still has rows; they are exported then."""
        if self._is_closed:
            return
        self._client.close(grace, timeout)
        self._is_closed = True
        self._jobs.clear()
        self._flat.release()

    @property
    def client(self) -> larder.Client:
        return self._client
