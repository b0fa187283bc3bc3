"""Keeps `Accounts` equal to the real content of a connector, its own evictions included."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from larder import _larder
from larder._client import Code
from larder.lmcache.l2_accounting import Accounts, Change

FAILED, DONE, MISS, EXISTED = map(int, Code)  # The result of a key.

_EVENTS_PAGE = 4096
# Completions wait while a page is delivered to listeners.
_SCAN_PAGE_KEYS = 256
_RETRY_SECONDS_MAX = 60.0


class Source(Protocol):
    """The part of a connector that is used here."""

    def events(
        self, position: int, events_max: int
    ) -> tuple[list[tuple[bool, bytes, int]], int, int] | None: ...
    def scan(
        self, first_word: int, second_word: int, keys_max: int
    ) -> tuple[list[tuple[bytes, int]], tuple[int, int], bool]: ...


def pages_of(
    source: Source, page_keys: int = _SCAN_PAGE_KEYS
) -> Iterator[list[tuple[bytes, int]]]:
    """Every key of a store with its size, page by page."""
    cursor, is_done = (0, 0), False
    while not is_done:
        page, cursor, is_done = source.scan(*cursor, page_keys)
        yield page


class Mirror:
    """Accounts of a connector's content, from its events and from scans in a thread of its own.

    A connector with events is followed by them; if it has lost some for this reader, a scan finds
    the differences. One without events is followed by the outcomes of this process's own operations
    (`note_stored`, `note_gone`), and scanned again for what it evicts (`note_evictions`). One that
    cannot list its keys is not scanned: the accounts are then of this process's own operations
    only, and `can_scan` says so.

    `on_change` gets every change once, in order, under `lock`; `on_error` gets the errors. Both run
    in the thread that found the change or the error, and must not raise.

    Threads: any. `lock` is held while changes are delivered, so that its holder sees accounts and
    listeners agree.
    Invariant: the changes that `on_change` got add up to `accounts`.
    """

    def __init__(
        self,
        source: Source,
        on_change: Callable[[Change], None],
        on_error: Callable[[str, BaseException], None],
        *,
        retry_seconds: float = 1.0,
    ) -> None:
        self.lock = threading.RLock()
        self.accounts = Accounts()
        self.events_lost = 0
        self.scans = 0
        self.scanned_keys = 0
        self._source = source
        self._on_change = on_change
        self._on_error = on_error
        self._retry_seconds = retry_seconds
        self._position = 0
        self._evictions_seen = 0
        self._is_scan_due = False  # Although no evictions were counted since the last one.
        self._next_scan_at = 0.0
        self.has_events = source.events(0, 0) is not None
        self.can_scan = True  # Until the first scan has ended.
        self._is_scan_wanted = True
        self._is_scanning = False
        self._wake = threading.Condition(self.lock)
        self._is_ending = False
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="larder-l2-scan")

    def start(self) -> None:
        """Begins the first scan, which accounts for the earlier content of the store."""
        self._thread.start()

    def expect_end(self) -> None:
        """The connector will be closed soon: a scan that cannot continue is not an error any
        more."""
        with self.lock:
            self._is_ending = True

    def stop(self) -> None:
        """No change is delivered after this."""
        with self.lock:
            self._is_stopped = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_complete(self) -> bool:
        """Whether a scan has ended, and nothing has made another one necessary since; or scans are
        impossible."""
        with self.lock:
            return not self._is_scan_wanted and not self._is_scanning

    def wait_until_complete(self, timeout: float) -> bool:
        with self.lock:
            return self._wake.wait_for(lambda: self.is_complete or self._is_stopped, timeout)

    def request_scan(self) -> None:
        with self.lock:
            self._is_scan_wanted = self.can_scan
            self._wake.notify_all()

    # --- What happens ---------------------------------------------------------------------------

    def pump(self) -> None:
        """Applies the connector's events up to now."""
        if not self.has_events:
            return
        with self.lock:
            while not self._is_stopped:
                page = self._source.events(self._position, _EVENTS_PAGE)
                if page is None:
                    return
                events, self._position, lost = page
                if lost:
                    # A running scan relies on complete events: it begins again.
                    self.events_lost += lost
                    self.request_scan()
                self._tell(self.accounts.apply(events))
                if len(events) < _EVENTS_PAGE:
                    return

    @property
    def evictions_seen(self) -> int:
        """How many evictions the scan that was last asked for knows of, and maybe more."""
        with self.lock:
            return self._evictions_seen

    def note_stored(
        self, keys: Sequence[str], sizes: Sequence[int], codes: bytes, evictions_seen: int
    ) -> None:
        """The outcomes of this process's own stores, for a connector without events, which has no
        other source for them. `evictions_seen` is the value of the property before they were
        submitted."""
        happened = [
            (True, key.encode(), size)
            for key, size, code in zip(keys, sizes, codes)
            if code in (DONE, EXISTED)
        ]
        with self.lock:
            if self.has_events or self._is_stopped:
                return
            self._tell(self.accounts.apply(happened))
            if evictions_seen != self._evictions_seen:
                # The keys may be among those evicted, and the scan for them may be over.
                self._is_scan_due = True

    def note_gone(self, keys: Sequence[str]) -> None:
        """Keys that this process deleted or did not find, for a connector without events."""
        with self.lock:
            if not self.has_events and not self._is_stopped:
                self._tell(self.accounts.apply((False, key.encode(), 0) for key in keys))

    def note_evictions(self, evicted_total: int) -> None:
        """The connector's own count, reported again and again. Without events a scan has to find
        the evicted keys; scans take at most a tenth of the time."""
        with self.lock:
            if self.has_events or self._is_scanning or time.monotonic() < self._next_scan_at:
                return
            if evicted_total == self._evictions_seen and not self._is_scan_due:
                return
            self._evictions_seen = evicted_total
            self.request_scan()

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            self._on_change(change)

    # --- Scans ----------------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while True:
            with self.lock:
                pause = min(self._retry_seconds * 2**failures, _RETRY_SECONDS_MAX)
                if failures:
                    self._wake.wait_for(lambda: self._is_stopped, pause)
                self._wake.wait_for(lambda: self._is_scan_wanted or self._is_stopped)
                if self._is_stopped:
                    return
            try:
                self._scan()
                failures = 0
            except _larder.UnsupportedError:
                with self.lock:
                    self.can_scan = self._is_scanning = self._is_scan_wanted = False
                    self.accounts.give_up_scan()
                    self._wake.notify_all()
            except Exception as error:
                if self._is_ending or self._is_stopped:
                    return
                failures += 1
                self._on_error("scan", error)
                with self.lock:
                    self._is_scanning = False
                    self._is_scan_wanted = True

    def _scan(self) -> None:
        began = time.monotonic()
        with self.lock:
            self._is_scanning = True
            # Events before this happened before the scan looks.
            self.pump()
            self._is_scan_wanted = False
            self._is_scan_due = False
            self.accounts.begin_scan()
            self.scanned_keys = 0
        for page in pages_of(self._source):
            with self.lock:
                self.pump()
                if self._is_stopped or self._is_scan_wanted:
                    return
                self._tell(self.accounts.scanned(page))
                self.scanned_keys += len(page)
        with self.lock:
            self.pump()
            if self._is_stopped or self._is_scan_wanted:
                return
            self._tell(self.accounts.end_scan())
            self.scans += 1
            self._is_scanning = False
            ended = time.monotonic()
            self._next_scan_at = ended + 9 * (ended - began)
            self._wake.notify_all()
