"""Whether vLLM's host tier has room for one more chunk, so that a load waits and nothing is
recomputed that is on the disk."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable


class Room(enum.Enum):
    """What a chunk of the store may do now."""

    FREE = "free"
    """It may be loaded."""
    LATER = "later"
    """Rows will be free soon: ask again."""
    NONE = "none"
    """This request gets no more rows: compute the chunk."""


class _Claim:
    """What one request wants of the store and has not used yet."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.is_admitted = False
        self.asked: set[bytes] = set()
        """Chunks of this step, while it is not admitted."""
        self.need = 0
        """How many chunks it was admitted for."""
        self.keys: set[bytes] = set()
        """Chunks that were granted."""
        self.loading = 0
        self.used_at = now

    @property
    def rows(self) -> int:
        return max(self.need, len(self.keys))


class RoomLedger:
    """Rows of the host tier that are promised to requests.

    vLLM puts a chunk into the row that was not used for longest, so a request that is given some of
    its rows loses them again to those that run meanwhile, and loads them again and again; and when all
    rows are being copied vLLM computes what it could have loaded. Hence the order here:

    - The request that asked first may always load, up to the rows that there are.
    - Another one may load when all of its chunks fit, beside those of the requests before it and
      beside every row that was used since the oldest of them began. Nobody overtakes.
    - Nobody may load while almost all rows are being copied.

    A promise ends when the request runs, or ends, or has neither asked nor loaded for `timeout`
    seconds. A request for which no promise and no copy ended for `timeout` seconds gets no more.

    Threads: one at a time. Cost: constant for each question, and for each step that of the requests
    that wait.
    """

    def __init__(self, rows: int, timeout: float, clock: Callable[[], float]) -> None:
        self.rows_max = max(1, rows - rows // 16)
        self._timeout = timeout
        self._clock = clock
        self._claims: dict[str, _Claim] = {}  # In the order of their first question.
        self._count = 0  # Of claims that were made.
        self._promised = 0
        self._storing = 0
        self._loading = 0
        self._used: list[tuple[int, int]] = []  # The newest claim by then, and how many rows.
        self._granted: dict[str, set[bytes]] = {}  # In this step, and not yet being loaded.
        self._granted_rows = 0
        self._waits_since: dict[str, float] = {}
        self._moved_at = clock()

    @property
    def promised(self) -> int:
        return self._promised

    @property
    def copying(self) -> int:
        """Rows that loads and stores under way have."""
        return self._loading + self._storing

    def ask(self, request: str, key: bytes) -> Room:
        now = self._clock()
        claim = self._claims.get(request)
        if claim is None:
            self._count += 1
            claim = self._claims[request] = _Claim(self._count, now)
        claim.used_at = now
        is_first = next(iter(self._claims)) == request
        claim.is_admitted = claim.is_admitted or is_first
        if not claim.is_admitted:
            claim.asked.add(key)
            return self._wait(request, now)
        is_known = key in claim.keys
        if not is_known and len(claim.keys) >= self.rows_max:
            return Room.NONE  # More than the tier holds: what fits is loaded, the rest is computed.
        if self.copying + self._granted_rows >= self.rows_max:
            return self._wait(request, now)
        if not is_known and self._promised + self._storing >= self.rows_max and not is_first:
            return self._wait(request, now)
        self._waits_since.pop(request, None)
        if not is_known:
            claim.keys.add(key)
            self._promised += 1
        granted = self._granted.setdefault(request, set())
        if key not in granted:
            granted.add(key)
            self._granted_rows += 1
        return Room.FREE

    def _wait(self, request: str, now: float) -> Room:
        since = max(self._waits_since.setdefault(request, now), self._moved_at)
        return Room.LATER if now - since < self._timeout else Room.NONE

    def _admit(self) -> None:
        """At the end of a step: those that fit, in their order."""
        admitted = [claim for claim in self._claims.values() if claim.is_admitted]
        oldest = min((claim.number for claim in admitted), default=self._count + 1)
        self._used = [one for one in self._used if one[0] >= oldest]
        rows = sum(claim.rows for claim in admitted) + sum(count for _, count in self._used)
        for claim in self._claims.values():
            if claim.is_admitted:
                continue
            rows += len(claim.asked)
            if not claim.asked or rows > self.rows_max:
                break
            claim.is_admitted = True
            claim.need = len(claim.asked)
        for claim in self._claims.values():
            claim.asked.clear()

    def _use(self, rows: int) -> None:
        """So many rows are the newest now."""
        if rows:
            self._used.append((self._count, rows))

    # --- What happens to the rows -----------------------------------------------------------------

    def begin_load(self, request: str, keys: Iterable[bytes]) -> None:
        """vLLM has given rows to these, and they are being filled."""
        count = 0
        granted = self._granted.get(request, set())
        for key in keys:
            count += 1
            if key in granted:
                granted.discard(key)
                self._granted_rows -= 1
        self._loading += count
        claim = self._claims.get(request)
        if claim is not None:
            claim.loading += 1

    def end_load(self, request: str, count: int, failed: Iterable[bytes]) -> None:
        self._moved()
        self._loading -= count
        claim = self._claims.get(request)
        if claim is None:
            return
        claim.loading = max(0, claim.loading - 1)
        claim.used_at = self._moved_at
        self._drop(request, claim, failed)

    def begin_store(self, count: int) -> None:
        self._storing += count
        self._use(count)

    def end_store(self, count: int) -> None:
        self._moved()
        self._storing -= count

    # --- What happens to the requests -------------------------------------------------------------

    def end_step(self, running: Iterable[str]) -> None:
        """A step of the scheduler has ended, and these requests began to run in it. What was
        promised to them is in the device's memory. What was granted and got no row is no
        promise."""
        for request, keys in self._granted.items():
            claim = self._claims.get(request)
            if claim is not None and keys:
                self._drop(request, claim, keys)
        self._granted.clear()
        self._granted_rows = 0
        for request in running:
            claim = self._claims.get(request)
            self._use(claim.rows if claim is not None else 0)
            self.release(request)
        now = self._clock()
        idle = [
            request
            for request, claim in self._claims.items()
            if not claim.loading and now - claim.used_at >= self._timeout
        ]
        for request in idle:
            self.release(request)
        self._admit()

    def release(self, request: str) -> None:
        """The request runs or has ended."""
        self._waits_since.pop(request, None)
        claim = self._claims.pop(request, None)
        if claim is not None:
            self._promised -= len(claim.keys)
            self._moved()

    def _drop(self, request: str, claim: _Claim, keys: Iterable[bytes]) -> None:
        for key in list(keys):
            if key in claim.keys:
                claim.keys.discard(key)
                self._promised -= 1
        if not claim.keys and not claim.loading:
            self._claims.pop(request, None)

    def _moved(self) -> None:
        self._moved_at = self._clock()
