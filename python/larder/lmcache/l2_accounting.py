"""Which keys are in a store, and how large they are: arithmetic only, no I/O and no threads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from larder.lmcache.l2_keys import parse_key


class Change(NamedTuple):
    """Keys that came (`is_stored`) or went, with their sizes in bytes."""

    is_stored: bool
    keys: list[bytes]
    sizes: list[int]


class _Entry:
    __slots__ = ("size", "scan")

    def __init__(self, size: int, scan: int) -> None:
        self.size = size
        self.scan = scan  # The last scan during which the key was known to exist.


class Accounts:
    """A mirror of a store's keys, updated by events in their order, and by scans of the whole
    content while events continue.

    Every call returns the changes of the mirror, for the listeners.

    Keys that are not LMCache's (`parse_key`) are only counted, in `foreign_keys` and
    `foreign_bytes`; no change names them.

    Threads: the caller's lock guards it. Cost: about 250 bytes a key.
    Invariant: the sizes of the changes, added up, are those of the keys.
    """

    def __init__(self) -> None:
        self.bytes_used = 0
        self.foreign_keys = 0
        self.foreign_bytes = 0
        self._entries: dict[bytes, _Entry] = {}
        self._foreign: dict[bytes, _Entry] = {}
        self._scan = 0
        self._gone: set[bytes] | None = None  # Removed since the scan began; None without one.

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def items(self) -> list[tuple[bytes, int]]:
        """A copy: every LMCache key with its size."""
        return [(key, entry.size) for key, entry in self._entries.items()]

    # --- What happens ---------------------------------------------------------------------------

    def apply(self, happened: Iterable[tuple[bool, bytes, int]]) -> list[Change]:
        """Keys that were stored (True) or removed (False), with the size if stored."""
        changes: list[Change] = []
        for is_stored, key, size in happened:
            if is_stored:
                self._store(key, size, changes)
            else:
                self._remove(key, changes)
        return changes

    def _store(self, key: bytes, size: int, changes: list[Change]) -> None:
        if self._gone is not None:
            self._gone.discard(key)
        self._set(key, self._entries.get(key) or self._foreign.get(key), size, changes)

    def _remove(self, key: bytes, changes: list[Change]) -> None:
        if self._gone is not None:
            self._gone.add(key)
        self._take_out(key, changes)

    def _set(self, key: bytes, entry: _Entry | None, size: int, changes: list[Change]) -> None:
        if entry is not None and entry.size == size:
            entry.scan = self._scan
            return
        if entry is not None:
            self._take_out(key, changes)  # Replaced by another size.
        self._put_in(key, size, changes)

    def _put_in(self, key: bytes, size: int, changes: list[Change]) -> None:
        entry = _Entry(size, self._scan)
        if parse_key(key) is None:
            self._foreign[key] = entry
            self.foreign_keys += 1
            self.foreign_bytes += size
            return
        self._entries[key] = entry
        self.bytes_used += size
        _add(changes, True, key, size)

    def _take_out(self, key: bytes, changes: list[Change]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes_used -= entry.size
            _add(changes, False, key, entry.size)
            return
        entry = self._foreign.pop(key, None)
        if entry is not None:
            self.foreign_keys -= 1
            self.foreign_bytes -= entry.size

    # --- Scans ----------------------------------------------------------------------------------

    def begin_scan(self) -> None:
        """From now on `scanned` gets every key that exists all the time until `end_scan`, and
        `apply` every event. A scan that was begun and not ended is forgotten."""
        self._scan += 1
        self._gone = set()

    def give_up_scan(self) -> None:
        """Forgets that a scan was begun."""
        self._gone = None

    def scanned(self, page: Iterable[tuple[bytes, int]]) -> list[Change]:
        """Keys that were seen since `begin_scan`. All events before they were seen have been
        applied."""
        assert self._gone is not None, "scanned() without begin_scan()"
        changes: list[Change] = []
        for key, size in page:
            # An event during the scan outweighs the scan, which may have looked earlier.
            entry = self._entries.get(key) or self._foreign.get(key)
            if key not in self._gone and (entry is None or entry.scan < self._scan):
                self._set(key, entry, size, changes)
        return changes

    def end_scan(self) -> list[Change]:
        """Drops keys that neither the scan nor an event since it began has shown."""
        assert self._gone is not None, "end_scan() without begin_scan()"
        self._gone = None
        stale = [
            key
            for entries in (self._entries, self._foreign)
            for key, entry in entries.items()
            if entry.scan < self._scan
        ]
        changes: list[Change] = []
        for key in stale:
            self._take_out(key, changes)
        return changes


def _add(changes: list[Change], is_stored: bool, key: bytes, size: int) -> None:
    if not changes or changes[-1].is_stored != is_stored:
        changes.append(Change(is_stored, [], []))
    changes[-1].keys.append(key)
    changes[-1].sizes.append(size)
