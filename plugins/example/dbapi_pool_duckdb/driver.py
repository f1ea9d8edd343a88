"""`DuckDBDriver`: what the pool needs to know about the duckdb module.

See https://duckdb.org/docs/current/clients/python/overview. It must never know the pool.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb

from dbapi_pool.drivers import Driver
from dbapi_pool.drivers.base import Arguments, Target
from dbapi_pool.drivers.facts import Server
from dbapi_pool.drivers.portable import PORTABLE
from dbapi_pool.drivers.sql import harmless
from dbapi_pool.drivers.urls import parse

from . import errors
from .cursor import RESULTS, Cursor, keep_rest


class DuckDBDriver(Driver):
    """The duckdb driver. Each member of the pool is a session of its own on one database."""

    name = "duckdb"
    local = True  # a session of an open database is there in 0.1 ms
    dialect = replace(
        PORTABLE, rules={**PORTABLE.rules, **dict.fromkeys(("BEGIN", "START", "END"), harmless)}
    )
    statement_methods = ("execute", "executemany")
    harmless = (
        Driver.harmless
        | RESULTS
        | {"description", "fetchall", "fetchmany", "fetchone", "interrupt", "rowcount"}
    )

    def __init__(self, creator: Any = None, *, autocommit: bool = False) -> None:
        """`autocommit`: leave DuckDB's own ways as they are: every statement is committed at once
        unless `begin()` was called. False: PEP 249's way, a transaction until commit or rollback."""
        super().__init__(errors)
        self._default = ":memory:" if creator in (duckdb, duckdb.connect) else None
        self._autocommit = autocommit
        self._target: Arguments | None = None
        # Keeps the database open as long as the pool is there: one in memory would be lost with its
        # last session, and opening a file while another thread closes it fails.
        self._root: Any = None
        self._inherited = False

    # -- what the user gave -----------------------------------------------------------------------

    def parse_url(self, url: str) -> Target:
        """`duckdb:///relative.db`, `duckdb:////absolute.db`, `duckdb:///:memory:name`; in the query
        `read_only`, `threads` and `memory_limit`."""
        parts = parse(url, {"read_only": bool, "threads": int, "memory_limit": str})
        if parts.hosts or parts.user:
            raise ValueError("a DuckDB URL has no host and no user: duckdb:///relative/path.db")
        config = dict(parts.query)
        named = {"read_only": config.pop("read_only", False), "config": config}
        return duckdb.connect, (parts.database or ":memory:",), named

    def check_settings(
        self, settings: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuses a database that is one connection's alone, or one connection that is everybody's."""
        database = args[0] if args else kwargs.get("database", self._default)
        if database in ("", ":memory:"):
            raise ValueError(
                f"database={database!r}: every connection would have a database of its own, and lose"
                " it when it is replaced; give it a name to share it: ':memory:app'"
            )
        if database == ":default:":
            raise ValueError("database=':default:': the same session would be lent to everybody")
        if database is not None:  # else the creator keeps to itself what it opens
            self._target = args, dict(kwargs)

    # -- a connection's beginning and end ---------------------------------------------------------

    def connected(self, conn: Any) -> None:
        """Refuses a database that was open when this process was forked: two processes would write
        to one file, without a lock and without DuckDB's threads."""
        if self._inherited:
            raise errors.NotSupportedError(
                "this process was forked while the database was open in its parent, which DuckDB"
                " does not survive: connect after the fork, or start processes with 'spawn'"
            )
        if self._root is None and self._target is not None:
            args, kwargs = self._target
            self._root = duckdb.connect(*args, **kwargs)
        self.begin_anew(conn)

    def run_setup(self, conn: Any, statements: Sequence[str]) -> None:
        """On the session itself: DuckDB's own cursors are other sessions."""
        for sql in statements:
            conn.execute(sql)
        self.commit(conn)

    def is_alive(self, conn: Any) -> bool:
        """False if it was closed."""
        try:
            conn.query_progress()  # touches nothing
        except duckdb.Error:
            return False
        return True

    def ping(self, conn: Any) -> None:
        """`SELECT 1`, on the session itself."""
        conn.execute("SELECT 1").fetchall()
        self.rollback(conn)

    def interrupt(self, conn: Any) -> bool:
        """The running statement raises `duckdb.InterruptException`."""
        conn.interrupt()
        return True

    def abandon_after_fork(self, conn: Any) -> None:
        """Keeps it for ever: finalizing it in the child crashes, as it waits for threads that are
        only in the parent."""
        self._inherited = True
        for kept in filter(None, (conn, self._root)):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))

    # -- transactions -----------------------------------------------------------------------------

    def begin_anew(self, conn: Any) -> None:
        """Begin the next transaction; DuckDB does nothing before its first statement."""
        if not self._autocommit:
            conn.begin()

    def commit(self, conn: Any) -> None:
        """Rows that were not read yet stay readable."""
        keep_rest(conn)
        conn.commit()
        self.begin_anew(conn)

    def rollback(self, conn: Any) -> None:
        """Also if there is no transaction, where DuckDB raises."""
        try:
            conn.rollback()
        except duckdb.TransactionException as exc:
            if "no transaction is active" not in str(exc):
                raise
        self.begin_anew(conn)

    def begin(
        self, conn: Any, isolation: str | None, readonly: bool | None, options: Mapping[str, Any]
    ) -> None:
        """With `readonly=True` writing fails. There is one isolation level, so none can be named."""
        for name, value in {"isolation": isolation, **options}.items():
            if value is not None:
                raise ValueError(
                    f"transaction({name}={value!r}): DuckDB has no choice; leave it out"
                )
        if not self._autocommit:
            conn.rollback()
        conn.execute("BEGIN TRANSACTION READ ONLY" if readonly else "BEGIN TRANSACTION")

    # -- a clean session --------------------------------------------------------------------------

    def restore(self, conn: Any, snapshot: Any) -> None:
        """A DuckDB session has no attributes. One that changed is replaced: see `reset_session`."""

    # -- what an error means ----------------------------------------------------------------------

    def is_disconnect(self, exc: BaseException, conn: Any) -> bool:
        """Closed, or a database that DuckDB gave up."""
        if isinstance(exc, duckdb.FatalException):
            return True
        return isinstance(exc, duckdb.ConnectionException) and "closed" in str(exc)

    def is_transient(self, exc: BaseException) -> bool:
        """Whether another process has the file open."""
        return isinstance(exc, duckdb.IOException) and "Could not set lock" in str(exc)

    def is_retryable(self, exc: BaseException) -> bool:
        """Whether another transaction changed the same rows, or table."""
        return isinstance(exc, duckdb.TransactionException) and "onflict" in str(exc)

    # -- for people, and handles ------------------------------------------------------------------

    def server(self, conn: Any) -> Server:
        """DuckDB's version, the file, and whether it is read-only."""
        version, path, read_only = conn.execute(
            "SELECT version(), path, readonly FROM duckdb_databases()"
            " WHERE database_name = current_database()"
        ).fetchone()
        self.rollback(conn)
        return Server("DuckDB", version, path or "in memory", read_only=read_only)

    def open_cursor(
        self,
        conn: Any,
        pooled: Callable[[type], type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """A PEP 249 cursor on the session. For DuckDB's own, a new session: `conn.duplicate()`."""
        return pooled(Cursor)(conn)
