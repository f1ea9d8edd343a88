"""The PEP 249 errors of duckdb, with the one that it lacks: `InterfaceError`.

A connection that was returned to the pool raises that one, so `except duckdb.Error` catches it.
"""

from __future__ import annotations

from duckdb import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,
    paramstyle,
)

__all__ = [
    "DataError",
    "DatabaseError",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Warning",
    "paramstyle",
]


class InterfaceError(Error):
    """As PEP 249 has it: an error of the interface rather than of the database."""
