"""`Client`: batches that are submitted and drained, and never waited for."""

from __future__ import annotations

import enum
import math
import select
import types
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from larder import _larder, _metrics, _spec
from larder._spec import SpecLike
from larder._store import (
    Key,
    Outcomes,
    Report,
    Stored,
    Urgency,
    check_mode,
    delete_prefix,
    metrics_of,
    report_of,
    scan,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from larder._larder import _Buffers as Buffers


class Addresses(_larder.Addresses):
    """Memory by address: for engines that name the pages of their pool by pointer and length.

        pointers, sizes = pool.get_page_buffer_meta(indices)      # As many for each page.
        client.submit_get(keys, larder.Addresses(pointers, sizes, owner=pool))

    In place of a list of buffers, the pieces are dealt out to the keys in order, the same number to
    each. In place of one key's buffer they are the pieces of that key.

    `pointers` is a list of ints, `sizes` a list of as many or one int for all. `owner`, any object,
    is kept alive as long as this object, and this object until the last batch that uses it has
    ended.

    Nothing can check an address. An address without memory, or without writable memory, crashes the
    process, and memory that is reused meanwhile is overwritten: the batch must have ended first.
    """

    def __init__(
        self, pointers: Iterable[int], sizes: Iterable[int] | int, owner: object = None
    ) -> None:
        super().__init__(pointers, sizes, owner)

    def __repr__(self) -> str:
        return f"<larder.Addresses of {len(self)} pieces, {self.bytes} bytes>"


class Code(enum.IntEnum):
    """The result of one key of a batch."""

    FAILED = 0
    """`Completion.failures` says why. A buffer that was loaded into may hold anything."""
    DONE = 1
    """The value was loaded, is there, was stored, was removed, or marked as used; a hint was carried
    out."""
    MISS = 2
    """The key has no value; of a release, it was neither pinned nor retained. A buffer is as it was."""
    EXISTED = 3
    """A store with mode `if_absent`: the key has a value, and nothing was written."""


class Failure(NamedTuple):
    """Why a key failed."""

    code: str
    """`invalid_argument`, `resource_exhausted`, `unavailable`, `deadline_exceeded`, `cancelled`,
    `corruption`, `io`, `internal`, `unimplemented` or `size_mismatch`."""
    text: str
    """For a person: key, sizes, cause and remedy."""

    @property
    def is_retryable(self) -> bool:
        """The same batch, unchanged, may succeed later."""
        return self.code in ("resource_exhausted", "unavailable")


class Completion(NamedTuple):
    """A batch that has ended; `Client.drain()` gives each once."""

    id: int
    """What the submission returned."""
    tag: Any
    """What the submission was given as `tag`."""
    operation: Literal[
        "get", "set", "exists", "delete", "touch", "prefetch", "pin", "retain", "release"
    ]
    codes: bytes
    """A `Code` for each key, in the order of the keys."""
    sizes: list[int]
    """Of `get` and `exists`: bytes of each value that was found, and of each that failed because its
    buffer has another size; 0 for the others. Empty for other operations."""
    failures: dict[int, Failure]
    """Why, by the index of each key that failed."""
    seconds_to_load: float | None = None
    """Of an `exists` with `estimates`: how long loading all hits would take if it began now; 0 without
    hits, None where it is not known. See `Outcomes.seconds_to_load`."""

    @property
    def ok(self) -> bool:
        """No key failed. Misses are no failures."""
        return not self.failures

    @property
    def hits(self) -> list[bool]:
        """Whether each key's code is `DONE`."""
        return [code == 1 for code in self.codes]

    @property
    def leading_hits(self) -> int:
        """How many keys, from the first one on, have the code `DONE`: the usable part of a prefix."""
        return len(self.codes) - len(self.codes.lstrip(b"\1"))

    @property
    def error(self) -> str:
        """The first failure's text, with the number of the others; empty where no key failed."""
        if not self.failures:
            return ""
        more = len(self.failures) - 1
        text = self.failures[min(self.failures)].text
        return f"{text} (and {more} more keys)" if more else text

    def outcomes(self) -> Outcomes:
        """For a `get`: the result of `Store.get_into()`."""
        return Outcomes(self.hits, self._failed(), self.sizes, self._errors())

    def stored(self) -> Stored:
        """For a `set`: the result of `Store.set_many()`."""
        existed = [code == Code.EXISTED for code in self.codes]
        stored = [code in (Code.DONE, Code.EXISTED) for code in self.codes]
        return Stored(stored, existed, self._failed(), self._errors())

    def _failed(self) -> list[bool]:
        return [code == 0 for code in self.codes]

    def _errors(self) -> list[str | None]:
        errors: list[str | None] = [None] * len(self.codes)
        for index, failure in self.failures.items():
            errors[index] = failure.text
        return errors


def completions_of(
    drained: list[
        tuple[int, Any, str, bytes, list[int], dict[int, tuple[str, str]], float | None]
    ],
) -> list[Completion]:
    """The result of the module's drain(), in its documented form."""
    completions: list[Completion] = []
    for batch_id, tag, operation, codes, sizes, failures, seconds in drained:
        told = {index: Failure(*failure) for index, failure in failures.items()}
        name: Any = operation
        completions.append(Completion(batch_id, tag, name, codes, sizes, told, seconds))
    return completions


class Client(_larder.BatchClient):
    """A store whose calls return at once: submit a batch, and drain finished batches when the event
    fd is readable. Made for engines, which have a loop of their own and never wait.

        client = larder.Client("log:/data/kv", capacity="200GiB")
        client.submit_set(["a", "b"], [b"one", [b"t", b"wo"]], tag="stored")
        client.submit_get(["a"], [bytearray(3)], timeout=0.5, tag="loaded")
        while client.wait():
            for completion in client.drain():
                print(completion.tag, completion.ok, completion.hits)

    The arguments are those of `larder.open()`. Opening may take seconds. Raises `OpenError`.

    **Submissions** take a list of keys (`str` as UTF-8, or `bytes`), and return the batch's id: a
    number that is never used again. They do no I/O, and raise for wrong arguments (`TypeError`,
    `ValueError`) and after `close()` (`ClosedError`) only; whatever the store cannot do comes from
    `drain()` as a failed key. Each takes

    - `timeout` in seconds from now (None: none), and `deadline`, a moment of `time.monotonic()`.
      The earlier one holds, time in queues included; it may already have passed. Items that the
      kernel does not have by then fail with `deadline_exceeded`; the others end when the kernel
      completes them.
    - `urgency`: `demand`, `prefetch`, `store` or `background`, which are weighted against each
      other, so that none starves. None: `store` for `submit_set()`, `prefetch` for
      `submit_prefetch()` and `submit_pin()`, `demand` for the others.
    - `waits_for_room`: beyond the connector's limits (docs/connectors.md) the batch waits its turn, and
      with False it fails at once, with `resource_exhausted`.
    - `tag`: any object, which comes back with the outcome. With it, a batch may be drained by
      another thread before its id is known.

    **Buffers** hold one value each: an object with the buffer protocol or a torch tensor on the CPU
    (contiguous, of any shape and type of items), a list of such pieces, whose concatenation is the
    value, or `Addresses`. They are kept alive, with the keys, until `drain()` has given their batch,
    or `close()` has returned. Do not touch them before that. A value may have as many pieces as the
    connector allows, at least 1024 where it has a limit; a value with more fails.

    **The outcome** of a batch comes once. Batches end in any order, and so do the keys of one; two
    batches on one key act as if one came after the other. A failed load makes its key a miss until
    it is stored again (a late one for half a minute at least), also if its buffer had another size
    than the value: otherwise an engine would find it and fail to load it again and again.

    **Threads**: any, all calls. No call holds the GIL while it copies or waits.

    **The end**: `close()`, `with`, the last reference, and the interpreter's exit close the store.
    Outcomes that have not been drained by then are dropped. After `os.fork()` the child's object
    raises `ForkedError`; the parent's keeps working.
    """

    def __init__(self, spec: SpecLike | None = None, **parameters: Any) -> None:
        text = _spec.text_of(spec, parameters)
        super().__init__(text)
        self._shown_spec = _larder.shown_spec(text)  # The other one may hold a password.
        _metrics.serve_if_asked()

    # --- Submission -------------------------------------------------------------------------------

    def submit_get(
        self,
        keys: Iterable[Key],
        buffers: Buffers,
        allow_shorter: bool = False,
        timeout: float | None = 30.0,
        deadline: float | None = None,
        urgency: Urgency | None = None,
        waits_for_room: bool = True,
        tag: object = None,
    ) -> int:
        """Loads the value of each key into its buffer, which must have exactly the value's size;
        with `allow_shorter` it may be larger, and `Completion.sizes` has the value's size."""
        return super().submit_get(
            keys, buffers, allow_shorter, timeout, deadline, urgency, waits_for_room, tag
        )

    def submit_set(  # type: ignore[override]  # The module takes the mode as a bool.
        self,
        keys: Iterable[Key],
        values: Buffers,
        mode: Literal["replace", "if_absent"] = "if_absent",
        timeout: float | None = 30.0,
        deadline: float | None = None,
        urgency: Urgency | None = None,
        waits_for_room: bool = True,
        tag: object = None,
    ) -> int:
        """Stores each value under its key."""
        return super().submit_set(
            keys, values, check_mode(mode), timeout, deadline, urgency, waits_for_room, tag
        )

    def submit_exists(
        self,
        keys: Iterable[Key],
        timeout: float | None = 30.0,
        deadline: float | None = None,
        urgency: Urgency | None = None,
        waits_for_room: bool = True,
        tag: object = None,
        estimates: bool = False,
    ) -> int:
        """Asks which keys have a value that can be loaded, and its size. With `estimates` the
        completion has in `seconds_to_load` how long loading them would take."""
        return super().submit_exists(
            keys, timeout, deadline, urgency, waits_for_room, tag, estimates
        )

    def submit_delete(
        self,
        keys: Iterable[Key],
        timeout: float | None = 30.0,
        deadline: float | None = None,
        urgency: Urgency | None = None,
        waits_for_room: bool = True,
        tag: object = None,
    ) -> int:
        """Removes each key; `MISS` where it was not there."""
        return super().submit_delete(keys, timeout, deadline, urgency, waits_for_room, tag)

    def submit_touch(
        self,
        keys: Iterable[Key],
        timeout: float | None = 30.0,
        deadline: float | None = None,
        urgency: Urgency | None = None,
        waits_for_room: bool = True,
        tag: object = None,
    ) -> int:
        """Marks each key as used, for the store's eviction."""
        return super().submit_touch(keys, timeout, deadline, urgency, waits_for_room, tag)

    def submit_prefetch(
        self,
        keys: Iterable[Key],
        timeout: float | None = 30.0,
        deadline: float | None = None,
        urgency: Urgency | None = None,
        waits_for_room: bool = True,
        tag: object = None,
    ) -> int:
        """As `Store.prefetch()`. The code is `DONE` when the value is there.

        For this call and the three below: a hint that the connector does not support fails with
        `unimplemented` (see `hints`), and one without room or budget with `resource_exhausted`.
        """
        return super()._submit_hint(
            keys, "prefetch", None, timeout, deadline, urgency, waits_for_room, tag
        )

    def submit_pin(
        self,
        keys: Iterable[Key],
        ttl: float,
        timeout: float | None = 30.0,
        deadline: float | None = None,
        urgency: Urgency | None = None,
        waits_for_room: bool = True,
        tag: object = None,
    ) -> int:
        """Like `Store.pin()`, for `ttl` seconds after the value has arrived."""
        return super()._submit_hint(
            keys, "pin", ttl, timeout, deadline, urgency, waits_for_room, tag
        )

    def submit_retain(
        self,
        keys: Iterable[Key],
        ttl: float,
        timeout: float | None = 30.0,
        deadline: float | None = None,
        urgency: Urgency | None = None,
        waits_for_room: bool = True,
        tag: object = None,
    ) -> int:
        """Like `Store.retain()`, for `ttl` seconds."""
        return super()._submit_hint(
            keys, "retain", ttl, timeout, deadline, urgency, waits_for_room, tag
        )

    def submit_release(
        self,
        keys: Iterable[Key],
        timeout: float | None = 30.0,
        deadline: float | None = None,
        urgency: Urgency | None = None,
        waits_for_room: bool = True,
        tag: object = None,
    ) -> int:
        """As `Store.release()`."""
        return super()._submit_hint(
            keys, "release", None, timeout, deadline, urgency, waits_for_room, tag
        )

    @property
    def hints(self) -> frozenset[str]:
        """Which of `prefetch`, `pin`, `retain` and `release` this store carries out."""
        return frozenset(super()._hints())

    def cancel(self, id: int) -> None:
        """A hint to end a batch soon: the keys that the kernel does not have yet fail with `cancelled`.
        It is drained all the same. An id that has ended is ignored."""
        super().cancel(id)

    # --- Outcomes ---------------------------------------------------------------------------------

    def event_fd(self) -> int:
        """An eventfd for poll(), epoll or `loop.add_reader()`: readable while there is something to
        drain. -1 after close(). The client's: do not read or close it."""
        return super().event_fd()

    def wait(self, timeout: float | None = 30.0) -> bool:
        """Blocks a thread that has no other work until there is something to drain; False when
        there is nothing at the time-out (seconds, 0 or more; None: no time-out), and after close().
        A close() in another thread ends it at once, with either answer: drain() is [] then."""
        seconds = _larder.seconds(timeout, "timeout", allows_zero=True)
        fd = self.event_fd()
        if fd < 0:
            return False
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        # poll() takes an int of 32 bits.
        ready = poller.poll(min(seconds * 1000, 2**31 - 1) if math.isfinite(seconds) else None)
        return bool(ready) and not self.closed

    def drain(self) -> list[Completion]:  # type: ignore[override]  # The module's are plain tuples.
        """The batches that have ended since the last call. Never waits; [] after close()."""
        return completions_of(super().drain())

    # --- What needs no batch ----------------------------------------------------------------------

    def probe(self, keys: Iterable[Key]) -> list[int | None] | None:
        """The sizes of the keys' values at once (None for a key without one), where the connector
        knows its keys in memory; None where only `submit_exists()` can tell."""
        return super().probe(keys)

    def events(
        self, position: int, events_max: int
    ) -> tuple[list[tuple[bool, bytes, int]], int, int] | None:
        """The changes since `position` (0 at first), evictions included: `([(was stored, key,
        bytes), ...], next position, how many were lost)`. None if the connector keeps none; its
        parameter `events` turns them on."""
        return super().events(position, events_max)

    def scan(self, prefix: Key = b"") -> Iterator[tuple[bytes, int]]:
        """As `Store.scan()`. May do I/O, page by page, in the calling thread."""
        return scan(self, prefix)

    def delete_prefix(self, prefix: Key, *, timeout: float | None = 30.0) -> int:
        """Like `Store.delete_prefix()`: it blocks the calling thread."""
        return delete_prefix(self, prefix, timeout)

    def report(self) -> Report:  # type: ignore[override]  # The module's is a dictionary.
        """State, capacity and counters, without I/O."""
        return report_of(super().report())

    def metrics(self) -> dict[str, int]:
        """The report's numbers under one name each, `larder_...`."""
        return metrics_of(self.report())

    # --- The end ----------------------------------------------------------------------------------

    def close(self, grace: float | None = 10.0, timeout: float | None = 30.0) -> None:
        """Lets pending operations end for `grace` seconds, then cancels them. Idempotent. After it
        has returned, every buffer is free, and drain() returns nothing any more.

        Raises `StuckError` when the kernel or a peer still has something at `timeout`. Its buffers
        are kept alive, and another close() continues to wait.
        """
        super().close(grace, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<larder.Client {self._shown_spec!r}{' closed' if self.closed else ''}>"
