"""Errors in an adapter whose callers must not get them as exceptions."""

from __future__ import annotations

import logging
import threading

from larder._doors import printable


class ErrorCounts:
    """Counts errors by kind, and writes the first of each kind to the log, in one line whatever key
    its text has. Threads: any.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def note(self, kind: str, error: object) -> None:
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            is_first = self._counts[kind] == 1
        if is_first:
            self._logger.warning(
                "larder: %s: %s. Others of this kind are only counted, in the adapter's status.",
                kind,
                printable(str(error)),
                exc_info=error if isinstance(error, BaseException) else None,
            )

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)
