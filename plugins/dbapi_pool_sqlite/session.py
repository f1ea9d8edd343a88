"""Small acts on a sqlite3 connection that work whatever its borrower did to it.

They must never know a pool, nor rely on row_factory, text_factory or an authorizer being as they were.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

HAS_AUTOCOMMIT = sys.version_info >= (3, 12)
"""Whether connections have PEP 249's `autocommit` attribute beside `isolation_level`."""

_PROBE = "_dbapi_pool_probe"


def rows(conn: Any, sql: str, text: Callable[[bytes], str] = str) -> list[tuple[Any, ...]]:
    """The rows of a query, as tuples with plain strings, which `text` makes."""
    text_factory, conn.text_factory = conn.text_factory, text
    try:
        cursor = sqlite3.Cursor(conn)  # one of the connection's own would take over its row_factory
        try:
            return cursor.execute(sql).fetchall()
        finally:
            cursor.close()
    finally:
        conn.text_factory = text_factory


def path(conn: Any) -> str:
    """Where the main database is, as the system's functions take it; empty if it has no file."""
    return str(rows(conn, "PRAGMA database_list", os.fsdecode)[0][2])


def run(conn: Any, sql: str) -> None:
    """Run a statement for its effect."""
    cursor = sqlite3.Cursor(conn)
    try:
        cursor.execute(sql)
    finally:
        cursor.close()


def is_manual(conn: Any) -> bool:
    """Whether the connection has `autocommit=False`: a transaction should then always be open."""
    return HAS_AUTOCOMMIT and conn.autocommit is False


def silence(conn: Any) -> None:
    """Remove the authorizer, progress handler and trace callback."""
    # Before Python 3.11, None is called as if it were a function, and so denies everything.
    conn.set_authorizer(None if sys.version_info >= (3, 11) else _allow)
    conn.set_progress_handler(None, 0)
    conn.set_trace_callback(None)


def _allow(*action: object) -> int:
    return sqlite3.SQLITE_OK


def _equal(a: str, b: str) -> int:
    return 0


def install_probe(conn: Any) -> None:
    """Make `has_active_statement` possible. Does not touch the database."""
    conn.create_collation(_PROBE, _equal)


def has_active_statement(conn: Any) -> bool:
    """Whether some statement on it is half-read: it holds a lock, or an old state of the file.

    Needs `install_probe` before. SQLite refuses to redefine a collation while a statement runs
    (https://www.sqlite.org/c3ref/create_collation.html), which is the only way to ask from Python.
    """
    try:
        install_probe(conn)
    except sqlite3.OperationalError as exc:
        return "active statements" in str(exc)
    return False
