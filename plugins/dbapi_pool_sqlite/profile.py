"""`many_threads`: a `setup` for many threads (or processes) on one database file.

Holds a few PRAGMAs and the patience that one of them needs. It must never know the pool: it takes any
sqlite3 connection.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import Any

from .faults import is_busy
from .session import rows

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


@dataclass(frozen=True)
class ManyThreads:
    """A callable that prepares a connection; pass it as the pool's `setup`.

    `Pool(sqlite3, "app.db", setup=many_threads)`, or `setup=ManyThreads(busy_timeout=10.0)`.

    It switches the file to write-ahead logging, so that readers and the one writer do not block each
    other (https://www.sqlite.org/wal.html; the file stays in that mode), and sets what follows. Use
    `pool.transaction(mode="IMMEDIATE")` for transactions that read before they write: one that
    becomes a writer later cannot wait and fails at once
    (https://www.sqlite.org/rescode.html#busy_snapshot).
    Raises `ValueError` for a setting out of range, when made; called, what sqlite3 raises.
    """

    busy_timeout: float = 5.0
    """Seconds to wait for a lock: https://www.sqlite.org/pragma.html#pragma_busy_timeout"""

    synchronous: str = "NORMAL"
    """OFF, NORMAL, FULL or EXTRA. With NORMAL in WAL mode a power failure cannot damage the file, but
    may undo the last transactions: https://www.sqlite.org/pragma.html#pragma_synchronous"""

    foreign_keys: bool = True
    """Whether foreign keys are enforced: https://www.sqlite.org/foreignkeys.html#fk_enable"""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.busy_timeout) and self.busy_timeout >= 0):
            raise ValueError(f"busy_timeout={self.busy_timeout!r}: must be seconds, 0 or more")
        if self.synchronous.upper() not in _SYNCHRONOUS:
            allowed = ", ".join(_SYNCHRONOUS)
            raise ValueError(f"synchronous={self.synchronous!r}: must be one of {allowed}")

    def __call__(self, conn: Any) -> None:
        """Prepare `conn`. Ends a transaction that is open on it."""
        # None of these may be changed within a transaction, and with autocommit=False (Python 3.12)
        # there always is one.
        manual = getattr(conn, "autocommit", None) is False
        if conn.in_transaction:
            conn.execute("ROLLBACK").close()
        try:
            self._prepare(conn)
        finally:
            if manual:
                conn.execute("BEGIN").close()

    def _prepare(self, conn: Any) -> None:
        conn.execute(f"PRAGMA busy_timeout = {round(self.busy_timeout * 1000)}").close()
        self._switch_to_wal(conn)
        conn.execute(f"PRAGMA synchronous = {self.synchronous.upper()}").close()
        conn.execute(f"PRAGMA foreign_keys = {int(self.foreign_keys)}").close()

    def _switch_to_wal(self, conn: Any) -> None:
        # The switch needs the file for itself for a moment. SQLite does not wait for that, since two
        # who have read already would wait for each other, so it can fail with SQLITE_BUSY at once.
        deadline = time.monotonic() + self.busy_timeout
        while True:
            try:
                if not _is_wal(conn):
                    conn.execute("PRAGMA journal_mode = WAL").close()
                return
            except Exception as exc:
                if not is_busy(exc) or time.monotonic() >= deadline:
                    raise
            time.sleep(random.uniform(0.001, 0.01))


def _is_wal(conn: Any) -> bool:
    return rows(conn, "PRAGMA journal_mode") == [("wal",)]


many_threads = ManyThreads()
"""`ManyThreads` with its defaults."""
