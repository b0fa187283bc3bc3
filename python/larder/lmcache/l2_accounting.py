"""Which keys are in a store, and how large they are: no I/O and no threads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from larder import _larder


class Change(NamedTuple):
    """Keys that came (`is_stored`) or went, with their sizes in bytes."""

    is_stored: bool
    keys: list[bytes]
    sizes: list[int]


class Accounts(_larder.KeyAccounts):
    """A mirror of a store's keys, updated by events in their order, and by scans of the whole
    content while events continue.

    Every call returns the changes of the mirror, for the listeners.

    Keys that are not LMCache's (`parse_key`) are only counted, in `foreign_keys` and
    `foreign_bytes`; no change names them.

    The mirror itself is C++ (`src/larder/doors/key_accounts.h`): it changes without the GIL, and a
    key with a hash of 32 bytes costs about 60 bytes.

    Threads: any; the caller's lock keeps what happens in order.
    Invariant: the sizes of the changes, added up, are those of the keys.
    """

    def apply(  # type: ignore[override]  # The module's are plain tuples.
        self, happened: Iterable[tuple[bool, bytes, int]]
    ) -> list[Change]:
        """Keys that were stored (True) or removed (False), with the size if stored."""
        return _named(super().apply(happened))

    def begin_scan(self) -> None:
        """From now on `scanned` gets every key that exists all the time until `end_scan`, and
        `apply` every event. A scan that was begun and not ended is forgotten."""
        super().begin_scan()

    def give_up_scan(self) -> None:
        """Forgets that a scan was begun."""
        super().give_up_scan()

    def scanned(  # type: ignore[override]
        self, page: Iterable[tuple[bytes, int]]
    ) -> list[Change]:
        """Keys that were seen since `begin_scan`. All events before they were seen have been
        applied. Raises `RuntimeError` without `begin_scan`."""
        return _named(super().scanned(page))

    def end_scan(self) -> list[Change]:  # type: ignore[override]
        """Drops keys that neither the scan nor an event since it began has shown. Raises
        `RuntimeError` without `begin_scan`."""
        return _named(super().end_scan())

    def items(self) -> list[tuple[bytes, int]]:
        """A copy: every LMCache key with its size, in no order."""
        return super().items()


def _named(changes: list[tuple[bool, list[bytes], list[int]]]) -> list[Change]:
    return [Change(*change) for change in changes]
