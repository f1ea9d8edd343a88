"""`Cursor`: a PEP 249 cursor on one DuckDB session.

DuckDB's own `cursor()` makes another session, with a transaction of its own; in PEP 249 the cursors
of a connection share it (https://peps.python.org/pep-0249/#cursor-objects). A session holds one result
at a time, so the rows that a cursor has not read yet are kept for it when another one executes.
It must never know a pool.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NoReturn

from .errors import InterfaceError

RESULTS = frozenset({
    "arrow", "df", "fetch_arrow_table", "fetch_df", "fetch_df_chunk", "fetch_record_batch", "fetchdf",
    "fetchnumpy", "pl", "tf", "to_arrow_reader", "to_arrow_table", "torch",
})  # fmt: skip
"""DuckDB's own ways to read a result: https://duckdb.org/docs/current/clients/python/conversion"""

_readers: weakref.WeakKeyDictionary[Any, weakref.ref[Cursor]] = weakref.WeakKeyDictionary()
"""The cursor whose result a session holds."""


def keep_rest(conn: Any) -> None:
    """Before the session forgets its result: read the rest of it for the cursor that it belongs to."""
    reader = _readers.pop(conn, lambda: None)()
    if reader is not None:
        reader._next = partial(next, iter(conn.fetchall()), None)


class Cursor:
    """A cursor on the session `conn`."""

    arraysize = 1
    connection: Any = None
    description: Any = None
    rowcount = -1

    def __init__(self, conn: Any) -> None:
        self._session = conn
        self._next: Callable[[], Any] = _nothing

    def execute(self, sql: Any, parameters: Any = None) -> Cursor:
        """As duckdb's."""
        return self._run(self._conn.execute, sql, parameters)

    def executemany(self, sql: Any, parameters: Any = None) -> Cursor:
        """As duckdb's."""
        return self._run(self._conn.executemany, sql, parameters)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Cursor:
        conn = self._conn
        if not self._is_reading():
            keep_rest(conn)
        _readers.pop(conn, None)
        self._next, self.description, self.rowcount = _nothing, None, -1
        function(*arguments)
        self._next, self.description, self.rowcount = conn.fetchone, conn.description, conn.rowcount
        _readers[conn] = weakref.ref(self)
        return self

    def fetchone(self) -> Any:
        """The next row, or None."""
        self._conn  # noqa: B018  (raises if it is closed)
        return self._next()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Up to `size` rows; None: `arraysize`."""
        return list(islice(self, self.arraysize if size is None else size))

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        if self._is_reading():
            return self._conn.fetchall()  # type: ignore[no-any-return]
        return list(self)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def close(self) -> None:
        """Forget the result."""
        if self._session is not None and self._is_reading():
            _readers.pop(self._session, None)
        self._session = None

    def setinputsizes(self, sizes: Any) -> None:
        """Does nothing, as PEP 249 allows."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Does nothing, as PEP 249 allows."""

    @property
    def _conn(self) -> Any:
        if self._session is None:
            raise InterfaceError("the cursor is closed")
        return self._session

    def _is_reading(self) -> bool:
        reader = _readers.get(self._conn)
        return reader is not None and reader() is self

    def __getattr__(self, name: str) -> Any:
        if name in RESULTS and self._is_reading():
            return getattr(self._conn, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _nothing() -> NoReturn:
    raise InterfaceError("nothing was executed on this cursor, or it failed")
