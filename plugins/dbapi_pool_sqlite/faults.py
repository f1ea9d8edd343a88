"""What sqlite3's errors mean. Pure functions over an exception; must never touch a connection.

Names are SQLite's result codes: https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import sqlite3

# `Error.sqlite_errorname` is new in Python 3.11; before, there is only sqlite3_errmsg's text.
_NAMES_BY_TEXT = {
    "database is locked": "SQLITE_BUSY",
    "database table is locked": "SQLITE_LOCKED",
    "database schema is locked": "SQLITE_LOCKED",
    "database disk image is malformed": "SQLITE_CORRUPT",
    "file is not a database": "SQLITE_NOTADB",
    "unable to open database file": "SQLITE_CANTOPEN",
    "disk I/O error": "SQLITE_IOERR",
    "attempt to write a readonly database": "SQLITE_READONLY",
}

_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_LOST = (
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
    "SQLITE_CANTOPEN",
    "SQLITE_IOERR",
    "SQLITE_READONLY_DBMOVED",
)


def name_of(exc: BaseException) -> str:
    """SQLite's name for the error, `""` if it is none of SQLite's or not known."""
    name = getattr(exc, "sqlite_errorname", None)
    if isinstance(name, str):
        return name
    if not isinstance(exc, sqlite3.Error):
        return ""
    text = str(exc)
    return next((name for start, name in _NAMES_BY_TEXT.items() if text.startswith(start)), "")


def is_busy(exc: BaseException) -> bool:
    """Whether another connection was in the way: SQLITE_BUSY or SQLITE_LOCKED, and their kin."""
    return name_of(exc).startswith(_BUSY)


def is_closed(exc: BaseException) -> bool:
    """Whether it says that the connection was closed."""
    return isinstance(exc, sqlite3.ProgrammingError) and "closed database" in str(exc)


def is_lost(exc: BaseException) -> bool:
    """Whether the file is damaged, gone or unreadable, so that only a new connection may do better."""
    # "unable to open database: x" is an ATTACH that failed; the connection's own file is "file".
    return name_of(exc).startswith(_LOST) and not str(exc).startswith("unable to open database:")
