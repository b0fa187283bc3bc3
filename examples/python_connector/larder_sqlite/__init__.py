"""A larder connector that keeps values in one SQLite file: `larder.open("sqlite:/data/kv.db")`."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

from larder.connectors import PythonConnector

__all__ = ["SqliteConnector"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS chunks (
    entry INTEGER NOT NULL, place INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (entry, place)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (keys INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM totals);
"""


class SqliteConnector(PythonConnector):
    """Values as rows of at most `chunk_bytes`, so that none is in memory twice as a whole.

    A value is stored in one transaction, and loaded in one: readers go on beside the one writer
    that SQLite has (write-ahead log), and see a whole value or none, also after a crash.
    """

    survives_restart = True
    locality = "local_disk"
    value_bytes_max = 1 << 30

    def __init__(
        self, location: str, chunk_bytes: str = str(1 << 20), num_workers: str = "4"
    ) -> None:
        # A spec's values are texts.
        self.chunk_bytes = int(chunk_bytes)
        self.num_workers = int(num_workers)
        if self.chunk_bytes < 1:
            raise ValueError(f"chunk_bytes: {chunk_bytes}, wanted 1 or more")
        self._location = location
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        with self._transaction() as database:
            self._totals = database.execute("SELECT keys, bytes FROM totals").fetchone()

    # --- What larder calls ------------------------------------------------------------------------

    def get_into(self, key: bytes, buffer: memoryview) -> int | None:
        with self._reading() as database:
            entry = self._entry(database, key)
            if entry is None:
                return None
            number, size = entry
            if size <= len(buffer):
                place = 0
                rows = database.execute(
                    "SELECT bytes FROM chunks WHERE entry = ? ORDER BY place", (number,)
                )
                for (piece,) in rows:
                    buffer[place : place + len(piece)] = piece
                    place += len(piece)
                if place != size:
                    raise OSError(f"{place} of {size} bytes are in the file")
            return int(size)

    def set(self, key: bytes, data: memoryview) -> None:
        with self._transaction() as database:
            before = self._entry(database, key)
            # The number stays, so that a scan that is under way still meets the key.
            (number,) = database.execute(
                "INSERT INTO entries (key, size) VALUES (?, ?)"
                " ON CONFLICT (key) DO UPDATE SET size = excluded.size RETURNING number",
                (key, len(data)),
            ).fetchone()
            database.execute("DELETE FROM chunks WHERE entry = ?", (number,))
            for place, begin in enumerate(range(0, len(data), self.chunk_bytes)):
                with data[begin : begin + self.chunk_bytes] as piece:
                    database.execute("INSERT INTO chunks VALUES (?, ?, ?)", (number, place, piece))
            self._count(database, before is None, len(data) - (before[1] if before else 0))

    def size(self, key: bytes) -> int | None:
        entry = self._entry(self._database(), key)
        return None if entry is None else int(entry[1])

    def delete(self, key: bytes) -> bool:
        with self._transaction() as database:
            entry = self._entry(database, key)
            if entry is None:
                return False
            number, size = entry
            database.execute("DELETE FROM chunks WHERE entry = ?", (number,))
            database.execute("DELETE FROM entries WHERE number = ?", (number,))
            self._count(database, -1, -size)
            return True

    def scan(self, cursor: int, limit: int) -> tuple[list[tuple[bytes, int]], int | None]:
        rows = (
            self._database()
            .execute(
                "SELECT number, key, size FROM entries WHERE number > ? ORDER BY number LIMIT ?",
                (cursor, limit),
            )
            .fetchall()
        )
        entries = [(key, size) for _, key, size in rows]
        return entries, rows[-1][0] if len(rows) == limit else None

    def usage(self) -> tuple[int, int]:
        keys, size = self._totals
        return keys, size

    def close(self) -> None:
        with self._lock:
            for database in self._opened:
                database.close()
            self._opened.clear()

    # --- The file ---------------------------------------------------------------------------------

    def _database(self) -> sqlite3.Connection:
        """This thread's connection: larder's threads live as long as the store is open."""
        database: sqlite3.Connection | None = getattr(self._local, "database", None)
        if database is None:
            database = sqlite3.connect(
                self._location, isolation_level=None, timeout=60, check_same_thread=False
            )
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT;")
            with self._lock:
                self._opened.append(database)
            self._local.database = database
        return database

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        database = self._database()
        database.execute("BEGIN")
        try:
            yield database
        finally:
            database.execute("ROLLBACK")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._database()
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise
        self._totals = database.execute("SELECT keys, bytes FROM totals").fetchone()

    @staticmethod
    def _entry(database: sqlite3.Connection, key: bytes) -> tuple[int, int] | None:
        entry: tuple[int, int] | None = database.execute(
            "SELECT number, size FROM entries WHERE key = ?", (key,)
        ).fetchone()
        return entry

    @staticmethod
    def _count(database: sqlite3.Connection, keys: int, size: int) -> None:
        database.execute("UPDATE totals SET keys = keys + ?, bytes = bytes + ?", (keys, size))
