"""Counts of a `PromptCache`, and the one line of log when its store begins to fail."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator

from larder.hf._types import Counters

_log = logging.getLogger("larder.hf")


class Tally:
    """Any thread may call anything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters = Counters()
        self._failures = 0
        self._is_failing = False

    @property
    def counters(self) -> Counters:
        return self._counters

    def add(self, **numbers: int) -> None:
        """Adds to the counters of these names."""
        with self._lock:
            self._add(numbers)

    def fail(self, reason: str, **numbers: int) -> None:
        """Adds, keeps the reason, and logs it if it is the first failure since a success."""
        with self._lock:
            self._add(numbers)
            self._counters = dataclasses.replace(self._counters, last_error=reason)
            self._failures += 1
            is_new, self._is_failing = not self._is_failing, True
        if is_new:
            _log.warning("%s (further failures are only counted until one call succeeds)", reason)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Around one call: when it ends without a failure, the next one is logged again."""
        failures = self._failures
        yield
        with self._lock:
            if self._failures == failures:
                self._is_failing = False

    def _add(self, numbers: dict[str, int]) -> None:
        sums = {name: getattr(self._counters, name) + more for name, more in numbers.items()}
        self._counters = dataclasses.replace(self._counters, **sums)
