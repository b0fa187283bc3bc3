"""Counts of the tier, and one line of log when something begins to fail."""

from __future__ import annotations

import logging

from larder._doors import printable

# Below "vllm", so that its lines are shown as vLLM's own are.
log = logging.getLogger("vllm.larder")


class Tally:
    """Counters by name and label, and the first failure of each kind since a success in the log.

    Threads: one at a time.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self._failing: set[str] = set()

    def add(self, name: str, label: str = "", count: int = 1) -> None:
        if count:
            self.counts[name, label] = self.counts.get((name, label), 0) + count

    def get(self, name: str, label: str = "") -> int:
        return self.counts.get((name, label), 0)

    def fail(self, kind: str, what: str, reason: object) -> None:
        """Logs `what` and the reason if it is the first of its kind since a success."""
        if kind in self._failing:
            return
        self._failing.add(kind)
        log.warning(
            "larder: %s: %s (further failures are only counted until one succeeds)",
            what,
            printable(str(reason)),
            exc_info=reason if isinstance(reason, BaseException) else None,
        )

    def succeed(self, kind: str) -> None:
        self._failing.discard(kind)
