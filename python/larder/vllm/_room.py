"""Whether vLLM's host tier has room for one more chunk, so that a load waits and no chunk on the
disk is computed again."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable


class Room(enum.Enum):
    """The answer for a chunk of the store now."""

    FREE = "free"
    """It may be loaded."""
    LATER = "later"
    """Rows will be free soon: ask again."""
    NONE = "none"
    """This request gets no more rows: compute the chunk."""


class _Claim:
    """The chunks that one request wanted and that it has not used yet."""

    def __init__(self, now: float) -> None:
        self.keys: set[bytes] = set()
        self.loading = 0
        self.used_at = now


class RoomLedger:
    """Rows of the host tier that are promised to requests.

    vLLM puts a chunk into any row that is not being copied, so a request that wants chunks while
    another one waits for its last takes the rows of the other, and both load again and again; and
    when all rows are being copied it computes chunks that it could have loaded. Hence the order
    here:

    - The request that asked first may always load, up to the number of rows.
    - Another one may load while all promises fit into `promised_max` rows.
    - No request may load while almost all rows are being copied.

    A promise ends when the request runs, or ends, or has neither asked nor loaded for `timeout`
    seconds. A request for which no promise and no copy ended for `timeout` seconds gets no more.

    Threads: one at a time. Cost: constant for each question.
    """

    def __init__(self, rows: int, timeout: float, clock: Callable[[], float]) -> None:
        self._spare = rows // 16
        self.rows_max = max(1, rows - self._spare)
        self.promised_max = max(1, rows - rows // 8)
        self._timeout = timeout
        self._clock = clock
        self._claims: dict[str, _Claim] = {}  # In the order of their first question.
        self._promised = 0
        self._copying = 0  # Rows that loads and stores under way have.
        self._granted: dict[str, set[bytes]] = {}  # In this step, and not loading yet.
        self._granted_rows = 0
        self._waits_since: dict[str, float] = {}
        self._moved_at = clock()

    @property
    def promised(self) -> int:
        return self._promised

    @property
    def copying(self) -> int:
        return self._copying

    def ask(self, request: str, key: bytes) -> Room:
        now = self._clock()
        claim = self._claims.get(request)
        is_known = claim is not None and key in claim.keys
        is_first = not self._claims or next(iter(self._claims)) == request
        if not is_known and is_first and claim is not None and len(claim.keys) >= self.rows_max:
            return Room.NONE  # More than the tier holds: the rest is computed.
        if self._copying + self._granted_rows >= self.rows_max:
            return self._wait(request, now)
        if not is_known and not is_first and self._promised >= self.promised_max:
            return self._wait(request, now)
        self._waits_since.pop(request, None)
        if claim is None:
            claim = self._claims[request] = _Claim(now)
        claim.used_at = now
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
        self._copying += count
        claim = self._claims.get(request)
        if claim is not None:
            claim.loading += 1

    def end_load(self, request: str, count: int, failed: Iterable[bytes]) -> None:
        self._moved()
        self._copying -= count
        claim = self._claims.get(request)
        if claim is None:
            return
        claim.loading = max(0, claim.loading - 1)
        claim.used_at = self._moved_at
        self._drop(request, claim, failed)

    def begin_store(self, count: int) -> None:
        self._copying += count

    def end_store(self, count: int) -> None:
        self._moved()
        self._copying -= count

    # --- What happens to the requests -------------------------------------------------------------

    def end_step(self, running: Iterable[str]) -> None:
        """A step of the scheduler has ended, and these requests began to run in it. The chunks
        promised to them are in the device's memory. A grant that got no row is no promise."""
        for request, keys in self._granted.items():
            claim = self._claims.get(request)
            if claim is not None and keys:
                self._drop(request, claim, keys)
        self._granted.clear()
        self._granted_rows = 0
        for request in running:
            self.release(request)
        now = self._clock()
        idle = [
            request
            for request, claim in self._claims.items()
            if not claim.loading and now - claim.used_at >= self._timeout
        ]
        for request in idle:
            self.release(request)

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
            del self._claims[request]

    def _moved(self) -> None:
        self._moved_at = self._clock()
