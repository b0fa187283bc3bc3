"""Which keys must not be deleted now, and how many want that."""

from __future__ import annotations

from collections.abc import Iterable


class LockTable:
    """Reference counts by key. The caller's lock guards it.

    Invariant: only keys with a positive count are in it.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def __contains__(self, key: str) -> bool:
        return key in self._counts

    def count(self, key: str) -> int:
        return self._counts.get(key, 0)

    def acquire(self, keys: Iterable[str]) -> None:
        counts = self._counts
        for key in keys:
            counts[key] = counts.get(key, 0) + 1

    def release(self, keys: Iterable[str]) -> None:
        """Releases each once; a key without a lock is left as it is."""
        counts = self._counts
        for key in keys:
            count = counts.get(key, 0)
            if count > 1:
                counts[key] = count - 1
            elif count == 1:
                del counts[key]
