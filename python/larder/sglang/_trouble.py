"""Counts errors, and logs one line when a kind of error begins."""

from __future__ import annotations

import logging
import threading

_log = logging.getLogger("larder.sglang")


class Trouble:
    """Any thread may call anything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_failing = False
        self.failures = 0
        self.last = ""
        """The last failure, in words."""

    def fail(self, reason: str) -> None:
        """Counts, keeps the reason, and logs it if it is the first since `works()`."""
        with self._lock:
            self.failures += 1
            self.last = reason
            is_new, self._is_failing = not self._is_failing, True
        if is_new:
            _log.warning("%s (further failures are only counted until a call succeeds)", reason)

    def works(self) -> None:
        """A call succeeded: the next failure is logged again."""
        if self._is_failing:
            with self._lock:
                self._is_failing = False

    def give_up(self, reason: str) -> None:
        """The backend is unusable, and SGLang continues without it."""
        with self._lock:
            self.failures += 1
            self.last = reason
        _log.error("%s. SGLang runs as without larder: nothing is stored, and nothing found", reason)

    def say(self, text: str) -> None:
        _log.error("%s", text)
