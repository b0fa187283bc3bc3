"""`Store`: a connector with plain calls that wait for their answer."""

from __future__ import annotations

import dataclasses
import math
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Union

from larder import _larder, _metrics, _spec
from larder._spec import SpecLike

if TYPE_CHECKING:
    from typing_extensions import Self

    from larder._larder import _Buffers as Buffers
    from larder._larder import _Value as Value

Key = Union[str, bytes]
Urgency = Literal["demand", "prefetch", "store", "background"]
Hint = Literal["prefetch", "pin", "retain", "release"]

SCAN_PAGE_KEYS = 4096


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """The results of one `get_into` or `look_up`, in the order of the keys.

    A key is a hit, a miss (neither hit nor failed; its buffer is untouched) or failed (its buffer
    may hold anything).
    """

    hits: list[bool]
    failed: list[bool]
    sizes: list[int]
    """Bytes of each hit's value, and of each value that failed because its buffer has another size;
    0 for the others."""
    errors: list[str | None]
    """Why a key failed, with key, sizes and cause; None for the others."""
    seconds_to_load: float | None = None
    """Of `look_up`: how long loading all hits would take if it began now, by what loads took within
    the last minute and by what is under way; 0 without hits. None where that is not known, as nothing
    was loaded within the last minute, and of `get_into`. An estimate and no promise."""

    @property
    def leading_hits(self) -> int:
        """How many keys, from the first one on, are hits: the usable part of a prefix."""
        return next((i for i, hit in enumerate(self.hits) if not hit), len(self.hits))


@dataclasses.dataclass(frozen=True)
class Hinted:
    """The results of one `prefetch`, `pin`, `retain` or `release`, in the order of the keys.

    A key that is neither done nor failed has no value, or, for `release`, was neither pinned nor
    retained.
    """

    done: list[bool]
    failed: list[bool]
    """It was refused, for want of room or budget, or the value could not be loaded."""
    errors: list[str | None]


@dataclasses.dataclass(frozen=True)
class Stored:
    """The results of one `set_many`, in the order of the keys."""

    stored: list[bool]
    """The key has a value now: this one, or with mode `if_absent` the one that it had."""
    existed: list[bool]
    """Mode `if_absent`: the key had a value, and nothing was written."""
    failed: list[bool]
    errors: list[str | None]


class Recent(NamedTuple):
    """The outcomes of one kind of operation within the last minute."""

    succeeded: int
    """Hits, misses and done."""
    failed: int
    """Without those that failed by their caller's doing: illegal, cancelled, of another size."""


class WhatIfPoint(NamedTuple):
    """One capacity."""

    capacity_bytes: int | None
    """None: unlimited."""
    hit_rate: float | None
    """None: not known yet, as too little was seen."""


@dataclasses.dataclass(frozen=True)
class WhatIf:
    """Estimated hit rates with other capacities under LRU eviction. Estimated from a sample of the
    keys, within 0.02; of recent asks, the latest ones counting most."""

    points: dict[str, WhatIfPoint]
    """`half`, `same`, `double` and `unlimited`."""
    measured: float | None
    """What was found, of the same asks, to compare `same` with. None: too few yet."""
    asked: int
    """Keys that it is of; older ones count less."""
    of: str
    """What asked: `lookups` (exists), or `loads` (get) where fewer keys are looked up."""


@dataclasses.dataclass(frozen=True)
class Report:
    """A snapshot of a store's state."""

    type: str
    where: str
    health: str
    """`healthy`, `degraded` or `down`."""
    reasons: list[str]
    """Why it is not healthy, or what is worth knowing."""
    bytes_used: int
    capacity_bytes: int
    """0: not bounded by larder."""
    keys: int
    integrity: str
    """`checked`: key, length and checksum of every hit are proven. `none`: name and length only."""
    locality: str
    properties: dict[str, str]
    counters: dict[str, int]
    """Names that end in `_total` only grow; docs/metrics.md has them all."""
    recent: dict[str, Recent]
    """By kind: `lookups` (exists), `loads` (get) and `stores` (set, delete)."""
    times: dict[str, float]
    """In seconds: of batches by kind half (`recent_p50_load_seconds`) and 99 of a hundred (`p99`)
    within the last minute, and how long the oldest that is queued has waited."""
    is_failing: bool
    """Some kind of operation was asked for within the last minute and nothing of it worked: at least
    three keys failed, none succeeded."""
    what_if: WhatIf | None
    """None: nothing bounds the capacity."""


def what_if_of(raw: dict[str, Any] | None) -> WhatIf | None:
    if raw is None:
        return None
    points = {name: WhatIfPoint(*point) for name, point in raw["points"].items()}
    return WhatIf(**{**raw, "points": points})


def report_of(raw: dict[str, Any]) -> Report:
    """A report as the module gives it."""
    recent = {kind: Recent(*outcomes) for kind, outcomes in raw["recent"].items()}
    return Report(**{**raw, "recent": recent, "what_if": what_if_of(raw["what_if"])})


def open(
    spec: SpecLike | None = None, *, metrics_address: str | None = None, **parameters: Any
) -> Store:
    """Opens a store.

        larder.open("log:/data/kv?capacity=200GiB")                   # A URL,
        larder.open("log:/data/kv", capacity="200GiB")                # parameters by keyword,
        larder.open({"type": "log", "path": "/data/kv"})              # LMCache's JSON as a dict,
        larder.open(pathlib.Path("/data/kv"), capacity="200GiB")      # the directory of a log,
        larder.open("/data/kv")                                       # also as a str: it has a slash.

    An existing log remembers its capacity; a new one needs it. `larder connectors` on the command
    line lists types and parameters. None means that a keyword is "not set"; a keyword that `spec`
    has too is refused.

    `metrics_address` serves the numbers of this process's stores there, as `larder.serve_metrics()`
    does, for Prometheus and `larder top`, until this store is closed. Stores that name the same
    address share one server, which the last of them closes.

    Raises `OpenError`, whose text names the fault (in the spec, of the disk, or another owner) and
    the remedy; it is a `TypeError` too if an argument has a wrong type, and always a `ValueError`.
    Also raises the errors of `serve_metrics()` for an address.
    """
    return Store(spec, metrics_address=metrics_address, **parameters)


class Store:
    """Keys with values, behind any connector; made by `larder.open()`. Threads: any, all calls; none
    holds the GIL while it waits, copies or frees.

        store["a"] = b"one"                    # store.set("a", b"one")
        store["a"], "a" in store               # b"one", True
        store["kv"] = numpy.ones((2, 3))       # Arrays and tensors are their bytes,
        store.get_into(["kv"], [array])        # and are loaded into others.
        del store["a"]

    Keys are `str` (as UTF-8) or `bytes`, 1 to 1024 bytes. Buffers are `bytes`-like objects, arrays
    with the buffer protocol (NumPy's) and torch tensors on the CPU, contiguous, of any shape and type
    of items; lists of them, which are the pieces of one value; or `Addresses`. Only their bytes are
    stored, and none are copied on the way. They are kept alive while they are in use, also when a
    call ends early; do not change them while a call runs.

    `timeout` is in seconds, above 0; None means no time-out. Transfers that the kernel does not
    have by then fail. The others end when the kernel completes them; a second after the time-out
    the call raises `StuckError`.

    After `os.fork()` the child's object raises `ForkedError`; the parent's keeps working.
    """

    def __init__(
        self, spec: SpecLike | None = None, *, metrics_address: str | None = None, **parameters: Any
    ) -> None:
        text = _spec.text_of(spec, parameters)
        self._lease = _metrics.lease(metrics_address)
        try:
            self._client = _larder.Client(text)
        except BaseException:
            if self._lease is not None:
                self._lease.end()
            raise
        if self._lease is not None:
            self._lease.end_with(self)
        _metrics.serve_if_asked()
        self._shown_spec = _larder.shown_spec(text)  # The other one may hold a password.

    def get_into(
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
        return Outcomes(*self._client.get_into(keys, buffers, urgency, timeout))

    def get(self, key: Key, *, timeout: float | None = 30.0) -> bytes | None:
        """The value of one key, or None. Raises `Error` when it could not be looked up or loaded.

        It is always one whole value, the old or a newer one, also if it is replaced during the
        call.
        """
        return self._client.get(key, timeout)

    def get_many(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> list[bytes | None]:
        """The value of each key, or None. Raises `Error` with the first reason when some could not be
        looked up or loaded, after all were tried.

        For large values `get_into()` saves a copy, and it reports the result of each key.
        """
        end = time.monotonic() + _larder.seconds(timeout, "timeout")
        load = LoadOfMany(keys)
        load.take_sizes(self.sizes(load.keys, timeout=timeout))
        if load.found:
            load.take(self.get_into(load.found, load.buffers, timeout=left_until(end)))
        for key in load.replaced:
            load.put(key, self.get(key, timeout=left_until(end)))
        return load.values()

    def __getitem__(self, key: Key) -> bytes:
        """`store[key]`: as `get()`, but that a key without a value is a `KeyError`."""
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Key, value: Value) -> None:
        """`store[key] = value`: as `set()`."""
        self.set(key, value)

    def __delitem__(self, key: Key) -> None:
        """`del store[key]`: as `delete()`, but that a key without a value is a `KeyError`."""
        if not self.delete([key])[0]:
            raise KeyError(key)

    def __iter__(self) -> Iterator[bytes]:
        """The keys of `scan()`."""
        return (key for key, _ in self.scan())

    def set(
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
        return was_written(Stored(*self._client.set(key, value, check_mode(mode), timeout)))

    def set_many(
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
        return Stored(*self._client.set_many(keys, values, check_mode(mode), urgency, timeout))

    def exists(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> list[bool]:
        """Whether each key has a value that can be loaded."""
        return self._client.exists(keys, timeout)

    def __contains__(self, key: Key) -> bool:
        """`key in store`: whether the key has a value that can be loaded; waits for 30 s at most."""
        return self.exists([key])[0]

    def sizes(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> list[int | None]:
        """Bytes of each key's value; None for a key without."""
        return self._client.sizes(keys, timeout)

    def look_up(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> Outcomes:
        """Which keys have a value, how large they are, and in `seconds_to_load` how long loading
        them would take: for callers that would rather compute a value than wait longer for it."""
        return Outcomes(*self._client.look_up(keys, timeout))

    @property
    def hints(self) -> frozenset[str]:
        """Which of `prefetch`, `pin`, `retain` and `release` this store carries out. The others raise
        `UnsupportedError`."""
        return frozenset(self._client._hints())

    def prefetch(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> Hinted:
        """Brings each key's value where it is loaded fastest, and waits for it: in `tiered:` into L1.
        It stays there until others need the room.

        Raises `UnsupportedError`, as the other three do, where the connector cannot: see `hints`.
        """
        return hinted(self._client.hint(keys, "prefetch", None, timeout))

    def pin(self, keys: Iterable[Key], ttl: float, *, timeout: float | None = 30.0) -> Hinted:
        """Like `prefetch()`, and keeps each value there for `ttl` seconds from then on, a day at
        most.

        The connector's parameter `pins` bounds the room of pins; a pin beyond it fails. A second
        pin makes it last as long as the later of the two. `release()`, a delete, a store that
        replaces, and `close()` end it, also those of another user of the store.
        """
        return hinted(self._client.hint(keys, "pin", ttl, timeout))

    def retain(self, keys: Iterable[Key], ttl: float, *, timeout: float | None = 30.0) -> Hinted:
        """Keeps each value from being evicted where it is stored, for `ttl` seconds, a day at most: in
        `tiered:` from the tiers. Bounds and ends are those of `pin()`."""
        return hinted(self._client.hint(keys, "retain", ttl, timeout))

    def release(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> Hinted:
        """Ends the pin and the retention of each key, whichever caller asked for them."""
        return hinted(self._client.hint(keys, "release", None, timeout))

    def delete(self, keys: Iterable[Key], *, timeout: float | None = 30.0) -> list[bool]:
        """Removes each key; whether it was there.

        Raises `Error` with the first reason when some could not be removed, after all were tried.
        """
        deleted, errors = self._client.delete(keys, timeout)
        for error in errors:
            if error is not None:
                raise _larder.Error(error)
        return deleted

    def delete_prefix(self, prefix: Key, *, timeout: float | None = 30.0) -> int:
        """Removes every key that begins with `prefix`, which may not be empty; how many there were.

        The keys are found by a scan, page by page: a key that is stored meanwhile may stay. Raises
        `UnsupportedError` if the connector cannot list its keys (Redis), and `Error` if some could
        not be removed, after all were tried, or if the time ran out.
        """
        return delete_prefix(self._client, prefix, timeout)

    def scan(self, prefix: Key = b"") -> Iterator[tuple[bytes, int]]:
        """Every key that begins with `prefix` with its value's size, oldest first where there is an
        age.

        A key that exists during the whole scan is listed at least once. Raises `UnsupportedError`
        where the connector cannot list its keys (Redis).
        """
        return scan(self._client, prefix)

    def report(self) -> Report:
        """State, capacity and counters, without I/O."""
        return report_of(self._client.report())

    def metrics(self) -> dict[str, int]:
        """The report's numbers under one name each, `larder_...`, as a Prometheus collector wants."""
        return metrics_of(self.report())

    def close(self, timeout: float | None = 30.0) -> None:
        """Lets running calls end, then closes. Idempotent; also called by `with` and at exit.

        Half of `timeout` (seconds, 0 or more) is for running calls to end by themselves; then they
        are cancelled. Raises `StuckError`, which names what the kernel or a peer still has. Its
        buffers stay alive, and another close() continues to wait.
        """
        self._client.close(timeout)
        if self._lease is not None:
            self._lease.end()

    @property
    def metrics_address(self) -> str | None:
        """The address that serves the numbers for `metrics_address=`, with the actual port."""
        return None if self._lease is None else self._lease.server.address

    @property
    def closed(self) -> bool:
        return self._client.closed

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
        return f"<larder.Store {self._shown_spec!r}{' closed' if self.closed else ''}>"


class LoadOfMany:
    """The steps of `get_many()`, for blocking and for awaiting callers: the sizes, then the values,
    then, one by one, those that were replaced in between."""

    def __init__(self, keys: Iterable[Key]) -> None:
        is_list = isinstance(keys, Iterable) and not isinstance(keys, (str, bytes, bytearray))
        self.keys: Any = tuple(keys) if is_list else keys  # The caller of the lookup refuses it.
        self.found: list[Key] = []
        self.buffers: list[bytearray] = []
        self.replaced: list[Key] = []
        self._values: dict[Key, bytes | None] = {}
        self._error: str | None = None

    def take_sizes(self, sizes: list[int | None]) -> None:
        for key, size in dict(zip(self.keys, sizes)).items():
            if size is not None:
                self.found.append(key)
                self.buffers.append(bytearray(size))

    def take(self, outcomes: Outcomes) -> None:
        for index, key in enumerate(self.found):
            if outcomes.hits[index]:
                self._values[key] = bytes(self.buffers[index])
            elif outcomes.failed[index] and outcomes.sizes[index]:
                self.replaced.append(key)
            elif outcomes.failed[index]:
                self._error = self._error or outcomes.errors[index]
        self.buffers.clear()

    def put(self, key: Key, value: bytes | None) -> None:
        self._values[key] = value

    def values(self) -> list[bytes | None]:
        if self._error is not None:
            raise _larder.Error(self._error)
        return [self._values.get(key) for key in self.keys]


def left_until(end: float) -> float | None:
    """The time left until a moment of time.monotonic(), which may have passed."""
    return max(end - time.monotonic(), 1e-6) if math.isfinite(end) else None


class Pages(Protocol):
    """Calls that the module's classes have for pages of keys."""

    def _scan_page(
        self, first_word: int, second_word: int, keys_max: int, prefix: Key
    ) -> tuple[list[tuple[bytes, int]], tuple[int, int], bool]: ...
    def _delete_page(
        self,
        first_word: int,
        second_word: int,
        keys_max: int,
        prefix: Key,
        timeout: float | None,
    ) -> tuple[int, int, str | None, tuple[int, int], bool]: ...


def scan(client: Pages, prefix: Key) -> Iterator[tuple[bytes, int]]:
    """Every key with this prefix and its value's size."""
    cursor, done = (0, 0), False
    while not done:
        entries, cursor, done = client._scan_page(*cursor, SCAN_PAGE_KEYS, prefix)
        yield from entries


def check_prefix(prefix: Key) -> None:
    """Refuses an empty one, which would be every key of the store."""
    if isinstance(prefix, (str, bytes)) and not prefix:
        raise ValueError(
            f"prefix: {prefix!r}, which every key begins with, wanted 1 byte or more; to empty a "
            "store, delete the keys of scan()"
        )


def delete_prefix(
    client: Pages,
    prefix: Key,
    timeout: float | None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> int:
    """Like `Store.delete_prefix()`, in the calling thread, until `is_wanted` returns False."""
    check_prefix(prefix)
    seconds = _larder.seconds(timeout, "timeout")
    end = time.monotonic() + seconds
    deleted, first_error = 0, None
    cursor, done = (0, 0), False
    while not done and is_wanted():
        left = end - time.monotonic() if math.isfinite(end) else None
        if left is not None and left <= 0:
            raise _larder.Error(
                f"prefix {prefix!r}: {deleted} keys were deleted within {seconds:g} s, and there may "
                "be more; call it again, or with a longer timeout"
            )
        count, _, error, cursor, done = client._delete_page(*cursor, SCAN_PAGE_KEYS, prefix, left)
        deleted += count
        first_error = first_error or error
    if first_error is not None:
        raise _larder.Error(f"{first_error}; {deleted} keys were deleted")
    return deleted


def hinted(raw: tuple[list[bool], list[bool], list[str | None], str | None]) -> Hinted:
    """The module's result of a hint. Raises `UnsupportedError`."""
    done, failed, errors, unsupported = raw
    if unsupported is not None:
        raise _larder.UnsupportedError(unsupported)
    return Hinted(done, failed, errors)


def check_mode(mode: str) -> bool:
    """Whether a store with this mode replaces."""
    if mode not in ("replace", "if_absent"):
        raise ValueError(f"mode: {mode!r}, wanted 'replace' or 'if_absent'")
    return mode == "replace"


def was_written(stored: Stored) -> bool:
    """The result of set() for its one key."""
    if stored.failed[0]:
        raise _larder.Error(stored.errors[0])
    return not stored.existed[0]


_HEALTH = {"healthy": 0, "degraded": 1, "down": 2}


def metrics_of(report: Report) -> dict[str, int]:
    """A report's numbers: gauges and totals by name. `larder_health` is 0 healthy, 1 degraded, 2
    down; `larder_is_failing` 0 or 1; `larder_recent_...` count the last minute's keys."""
    numbers = {
        "larder_health": _HEALTH[report.health],
        "larder_is_failing": int(report.is_failing),
        "larder_bytes_used": report.bytes_used,
        "larder_capacity_bytes": report.capacity_bytes,
        "larder_keys": report.keys,
    }
    for kind, recent in report.recent.items():
        numbers[f"larder_recent_{kind}_succeeded"] = recent.succeeded
        numbers[f"larder_recent_{kind}_failed"] = recent.failed
    numbers.update({f"larder_{name}": value for name, value in report.counters.items()})
    return numbers
