"""`SQLiteDriver`: what the pool needs to know about the sqlite3 module.

See https://docs.python.org/3/library/sqlite3.html. It must never know the pool. What is kept about a
connection is kept by its `id`, since a `sqlite3.Connection` takes no weak reference, until `close`.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from dbapi_pool.drivers.bare import Bare
from dbapi_pool.drivers.base import Arguments, Driver, Target, plain_class
from dbapi_pool.drivers.facts import Server

from . import faults, places, session
from .cleaning import Baseline
from .handles import BareSQLiteHandle
from .session import HAS_AUTOCOMMIT
from .statements import SQLITE

log = logging.getLogger("dbapi_pool.sqlite")

FILE_CHECK_EVERY = 1.0
"""Seconds between two looks at the file's identity: one costs as much as several checkouts."""


class Attributes(NamedTuple):
    """The attributes of a connection that its borrower may change."""

    row_factory: Any
    text_factory: Any
    isolation_level: str | None
    autocommit: bool | int | None


class _Undo(NamedTuple):
    """What `begin` changed on a connection besides beginning."""

    query_only: bool
    autocommit: bool


class _InPython(sqlite3.Connection):
    """The driver's connection, of a class that can be derived from after it was made."""


_InPython.__name__ = _InPython.__qualname__ = sqlite3.Connection.__name__
_InPython.__module__ = sqlite3.Connection.__module__


class SQLiteDriver(Driver):
    """The sqlite3 driver. Databases are local: connecting takes microseconds and no thread."""

    name = "sqlite"
    system = "sqlite"
    local = True
    dialect = SQLITE
    statement_methods = ("execute", "executemany", "executescript")
    # Not iterdump: its iterator keeps a cursor that nobody else can close.
    harmless = Driver.harmless | {
        "autocommit", "backup", "commit", "cursor", "getconfig", "getlimit", "in_transaction",
        "interrupt", "isolation_level", "rollback", "row_factory", "serialize", "text_factory",
        "total_changes",
    }  # fmt: skip
    bare = Bare(
        handle_base=BareSQLiteHandle,
        closed=("ProgrammingError", "Cannot operate on a closed database."),
    )

    def __init__(self, module: ModuleType | type | None = None, creator: Any = None) -> None:
        """`creator`: what the user gave. A class with an `__init__` of its own may understand its
        arguments in another way, so they are then not looked at."""
        super().__init__(module or sqlite3)
        self._clock: Callable[[], float] = time.monotonic
        self._standard = _has_standard_arguments(creator)
        self._threads_allowed = False
        self._kind: places.Kind | None = None
        self._max_size = 1
        self._files: dict[int, places.File] = {}
        self._baselines: dict[int, Baseline] = {}
        self._undo: dict[int, _Undo] = {}

    # -- what the user gave -----------------------------------------------------------------------

    def parse_url(self, url: str) -> Target:
        """`sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` (in memory); see
        `places.arguments_for`. Raises `ValueError`."""
        args, kwargs = places.arguments_for(url)
        return sqlite3.connect, args, kwargs

    def connect_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Adds `check_same_thread=False`: one thread at a time uses a connection, but not always the
        same (https://docs.python.org/3/library/sqlite3.html#sqlite3.threadsafety)."""
        if not self._standard or places.argument(args, kwargs, "check_same_thread") is not None:
            return args, kwargs
        self._threads_allowed = self.faithful  # else the creator may be anybody's
        return args, {**kwargs, "check_same_thread": False}

    native_advice = (
        "have it opened by the pool: Pool(sqlite3, ...), or give factory=, a subclass of"
        " sqlite3.Connection, to sqlite3.connect()"
    )

    def native_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Adds a `factory`, as `sqlite3.Connection` itself is written in C."""
        if not self._standard or places.argument(args, kwargs, "factory") is not None:
            return args, kwargs
        return args, {**kwargs, "factory": _InPython}

    def check_settings(
        self, settings: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuses `check_same_thread=True`, and a private database for more than one connection.

        With a database in memory, the pool is told that its connections are not expendable.
        """
        self._max_size = settings.get("max_size", 1)
        if not self._standard:
            return
        if places.argument(args, kwargs, "check_same_thread"):
            raise ValueError(
                "check_same_thread=True: the pool's connections go from thread to thread, one at a"
                " time; leave it out (the pool then passes False)"
            )
        self._kind = places.kind_of(args, kwargs)
        self.expendable = self._kind in ("file", None)
        if self._kind == "private" and self._max_size > 1:
            raise ValueError(_private_text(self._max_size, args, kwargs))

    # -- a connection's beginning and end ---------------------------------------------------------

    def connected(self, conn: Any) -> None:
        """Sees what the arguments did not tell. Raises `ValueError` for a connection that only the
        thread which made it may use, and for one of a class that has not called sqlite3's own
        `__init__`."""
        try:
            conn.total_changes  # noqa: B018  (asks nobody but the connection)
        except sqlite3.ProgrammingError as exc:
            raise ValueError(
                f"the creator makes connections that are not connected: {exc}"
            ) from exc
        if not self._threads_allowed:
            self._require_other_threads(conn)
        session.install_probe(conn)
        path = session.path(conn)
        # A memdb database has a name that looks like a path; a file's is always absolute.
        if self._kind in ("private", "shared") or not os.path.isabs(path):
            self._connected_in_memory(conn)
        else:
            self._files[id(conn)] = places.File(path)

    def run_setup(self, conn: Any, statements: Sequence[str]) -> None:
        """Runs them outside a transaction, where PRAGMAs like foreign_keys and journal_mode have no
        effect, or fail; with `autocommit=False` (Python 3.12) there always is one."""
        if conn.in_transaction:
            session.run(conn, "ROLLBACK")
        for sql in statements:
            session.run(conn, sql)
        if conn.in_transaction:
            session.run(conn, "COMMIT")
        if session.is_manual(conn):
            session.run(conn, "BEGIN")

    def _require_other_threads(self, conn: Any) -> None:
        # No attribute tells, so this tries it once, with a call that does not touch the database.
        failures: list[Exception] = []

        def attempt() -> None:
            try:
                session.install_probe(conn)
            except Exception as exc:
                failures.append(exc)

        # No daemon, which some sub-interpreters refuse.
        thread = threading.Thread(target=attempt, name="dbapi_pool-sqlite-check", daemon=False)
        try:
            if sys.is_finalizing():  # before Python 3.12 it would be started, and never run
                return
            thread.start()
        except RuntimeError:  # no thread to be had: then nor for anybody else
            return
        thread.join()
        if failures:
            raise ValueError(
                "the creator makes connections that only their own thread may use; let it pass"
                " check_same_thread=False to sqlite3.connect (the pool lends a connection to one"
                " thread at a time)"
            ) from failures[0]
        self._threads_allowed = True

    def _connected_in_memory(self, conn: Any) -> None:
        if self._kind is None and self._max_size > 1 and self.expendable:
            log.warning(
                "the creator opens a database in memory, and max_size=%s: unless it is one with a"
                " shared cache, every connection of the pool sees another database",
                self._max_size,
            )
        self.expendable = False
        self._baselines[id(conn)] = Baseline.of(conn)

    def close(self, conn: Any) -> None:
        """Rolls back and closes, so that no lock survives.

        Since Python 3.11 closing alone leaves a connection with half-read cursors, or in a
        transaction, alive until the last cursor is garbage (`sqlite3_close_v2`,
        https://www.sqlite.org/c3ref/close.html); a half-read cursor that nobody closed is logged.
        """
        try:
            self._let_go(conn)
        except sqlite3.Error as exc:
            if not faults.is_closed(exc):
                log.warning("could not roll back before closing: %s", exc)
        finally:
            for kept in (self._files, self._baselines, self._undo):
                kept.pop(id(conn), None)
            conn.close()

    def _let_go(self, conn: Any) -> None:
        session.silence(conn)
        if conn.in_transaction:
            session.run(conn, "ROLLBACK")
        if sys.version_info >= (3, 11) and session.has_active_statement(conn):
            log.warning(
                "closed a connection on which a cursor that the pool cannot see is half-read: its"
                " database stays locked until that cursor is garbage"
            )

    def is_alive(self, conn: Any) -> bool:
        """False if it was closed, or its file was deleted, moved or replaced (looked at once per
        second at most, unless it is to be `faithful`, and by every `ping`)."""
        try:
            conn.total_changes  # noqa: B018  (raises if it is closed, and touches nothing)
        except Exception:
            return False
        file = self._files.get(id(conn))
        if file is None:
            return True
        now = self._clock()
        if now < file.check_at:
            return True
        if file.is_gone():
            return False  # and again, however soon it is asked
        if not self.faithful:
            file.check_at = now + FILE_CHECK_EVERY
        return True

    def ping(self, conn: Any) -> None:
        """Raises `sqlite3.OperationalError` if the file was deleted, moved or replaced.

        Reads nothing from the file, since a lock of another connection says nothing about this one.
        """
        session.run(conn, "SELECT 1")
        file = self._files.get(id(conn))
        if file is not None and file.is_gone():
            raise sqlite3.OperationalError(f"the database file {file.path} was deleted or replaced")

    def interrupt(self, conn: Any) -> bool:
        """Aborts the running statement: it raises `sqlite3.OperationalError` ("interrupted"). See
        https://www.sqlite.org/c3ref/interrupt.html."""
        try:
            conn.interrupt()
        except sqlite3.Error:
            return False
        return True

    def abandon_after_fork(self, conn: Any) -> None:
        """Makes sure that it is never finalized here, not even when the interpreter ends.

        Closing would delete the journal of the parent's transaction, whose COMMIT then fails with
        "disk I/O error" (https://www.sqlite.org/howtocorrupt.html, section 2.6). There is no
        descriptor to take away, so its reference count is raised for good.
        """
        try:
            import ctypes

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(conn))
        except (ImportError, AttributeError):  # no ctypes, or not CPython
            pass

    def has_active_statement(self, conn: Any) -> bool:
        """Whether some cursor on `conn` is half-read, seen by the pool or not. Takes a microsecond;
        afterwards the statements that `conn` has cached are prepared anew."""
        return session.has_active_statement(conn)

    # -- transactions -----------------------------------------------------------------------------

    def in_transaction(self, conn: Any) -> bool:
        """Whether `rollback` has something to do.

        That is an open transaction, and always with `autocommit=False` (Python 3.12): there a COMMIT
        typed by hand leaves no transaction open, so that the next borrower's work would be committed
        statement by statement.
        """
        return conn.in_transaction or (HAS_AUTOCOMMIT and conn.autocommit is False)

    def rollback(self, conn: Any) -> None:
        """Works in every mode."""
        mode = conn.autocommit if HAS_AUTOCOMMIT else None
        if mode is True:  # conn.rollback() does nothing then
            if conn.in_transaction:
                session.run(conn, "ROLLBACK")
        elif mode is False and not conn.in_transaction:  # conn.rollback() raises then
            session.run(conn, "BEGIN")
        else:
            conn.rollback()

    def begin(
        self, conn: Any, isolation: str | None, readonly: bool | None, options: Mapping[str, Any]
    ) -> None:
        """BEGIN, in the option `mode`: DEFERRED, IMMEDIATE or EXCLUSIVE
        (https://www.sqlite.org/lang_transaction.html). Default: the connection's `isolation_level`,
        else DEFERRED.

        `isolation` can only be SERIALIZABLE, which every transaction is
        (https://www.sqlite.org/isolation.html). `readonly=True` makes writing fail with
        `sqlite3.OperationalError` until the connection comes back
        (https://www.sqlite.org/pragma.html#pragma_query_only).
        Raises `ValueError` for anything else.
        """
        _require_serializable(isolation)
        mode = _mode(conn, readonly, options)
        self._change_for_transaction(conn, bool(readonly))
        if session.is_manual(conn) and conn.in_transaction:
            session.run(conn, "ROLLBACK")
        session.run(conn, f"BEGIN {mode}")

    def _change_for_transaction(self, conn: Any, readonly: bool) -> None:
        query_only = readonly and session.rows(conn, "PRAGMA query_only") == [(0,)]
        # With autocommit=True conn.commit() would do nothing.
        autocommit = HAS_AUTOCOMMIT and conn.autocommit is True
        if query_only or autocommit:
            self._undo[id(conn)] = _Undo(query_only, autocommit)
        if query_only:
            session.run(conn, "PRAGMA query_only = 1")
        if autocommit:
            conn.autocommit = False

    def _undo_begin(self, conn: Any) -> None:
        undo = self._undo.get(id(conn))
        if undo is None:
            return
        if undo.query_only:
            session.run(conn, "PRAGMA query_only = 0")
        if undo.autocommit:
            _set_autocommit(conn, True)
        del self._undo[id(conn)]

    # -- a clean session --------------------------------------------------------------------------

    def snapshot(self, conn: Any) -> Attributes:
        """row_factory, text_factory, isolation_level and, from Python 3.12, autocommit."""
        autocommit = conn.autocommit if HAS_AUTOCOMMIT else None
        return Attributes(conn.row_factory, conn.text_factory, conn.isolation_level, autocommit)

    def restore(self, conn: Any, snapshot: Attributes) -> None:
        """Only after a rollback: setting `isolation_level` or `autocommit` commits."""
        if conn.row_factory is not snapshot.row_factory:
            conn.row_factory = snapshot.row_factory
        if conn.text_factory is not snapshot.text_factory:
            conn.text_factory = snapshot.text_factory
        if self._undo:
            self._undo_begin(conn)
        # autocommit before isolation_level, which in manual mode needs the open transaction.
        if HAS_AUTOCOMMIT and conn.autocommit != snapshot.autocommit:
            _set_autocommit(conn, snapshot.autocommit)
        if conn.isolation_level != snapshot.isolation_level:
            conn.isolation_level = snapshot.isolation_level

    def reset_session(self, conn: Any, snapshot: Attributes) -> bool:
        """False for a file: closing and opening is quick, and cleaner than any cleaning.

        A database in memory would be lost, so its session is cleaned in place as well as SQLite
        allows, and what stays dirty is logged: a half-read cursor that the pool cannot see, a
        built-in function that was replaced, and before Python 3.11 any function that was added.
        """
        if self.expendable:
            return False
        baseline = self._baselines.get(id(conn))
        problems = (
            ["not seen when it was connected"] if baseline is None else baseline.restore(conn)
        )
        if problems:
            log.warning(
                "kept a database in memory although its session is not clean: %s",
                "; ".join(problems),
            )
        return True

    # -- for people -------------------------------------------------------------------------------

    def server(self, conn: Any) -> Server:
        """SQLite's version, and the file. Reads the file: raises `sqlite3.DatabaseError` if it is no
        database."""
        session.rows(conn, "PRAGMA schema_version")
        return Server("SQLite", sqlite3.sqlite_version, session.path(conn) or "in memory")

    # -- what an error means ----------------------------------------------------------------------

    def is_disconnect(self, exc: BaseException, conn: Any) -> bool:
        """Closed; or damaged, unreadable or moved away, but that only for a file: a database in
        memory is not given up for an error."""
        if faults.is_closed(exc):
            return True
        if not self.expendable:
            return False
        return faults.is_lost(exc) or self._writes_to_lost_file(exc, conn)

    def _writes_to_lost_file(self, exc: BaseException, conn: Any) -> bool:
        # Python 3.10 does not tell SQLITE_READONLY_DBMOVED from a database that is read-only.
        file = self._files.get(id(conn))
        return file is not None and faults.name_of(exc) == "SQLITE_READONLY" and file.is_gone()

    def is_transient(self, exc: BaseException) -> bool:
        """Whether another connection was in the way."""
        return faults.is_busy(exc)

    def is_retryable(self, exc: BaseException) -> bool:
        """Whether another connection was in the way: SQLITE_BUSY, SQLITE_LOCKED and their kin."""
        return faults.is_busy(exc)

    # -- handles ----------------------------------------------------------------------------------

    def open_cursor(
        self,
        conn: Any,
        pooled: Callable[[type], type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """`conn.cursor(factory)` with a class derived from the factory; None if the factory is no
        class, or the connection's class has a `cursor` of its own."""
        if not args and not kwargs:
            if plain_class(type(conn)).cursor is not sqlite3.Connection.cursor:
                return None
            return conn.cursor(pooled(sqlite3.Cursor))
        factory = args[0] if args else kwargs.get("factory")
        alone = len(args) + len(kwargs) == 1
        if alone and isinstance(factory, type) and issubclass(factory, sqlite3.Cursor):
            return conn.cursor(pooled(factory))
        return None

    def another_cursor(self, conn: Any, kind: type) -> Callable[[], Any]:
        return functools.partial(conn.cursor, kind)


def _has_standard_arguments(creator: Any) -> bool:
    """Whether what the creator is called with are the arguments of `sqlite3.connect`."""
    if not isinstance(creator, type) or not issubclass(creator, sqlite3.Connection):
        return True
    if creator.__init__ is sqlite3.Connection.__init__:
        return True
    kinds = {parameter.kind for parameter in inspect.signature(creator).parameters.values()}
    return {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds


def _private_text(max_size: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    database = places.argument(args, kwargs, "database")
    return (
        f"max_size={max_size!r} with the private database {database!r}: every connection would have"
        " a database of its own; set max_size=1, or share one by"
        ' Pool(sqlite3, "file:name?mode=memory&cache=shared", uri=True)'
    )


def _require_serializable(isolation: str | None) -> None:
    if isolation is not None and isolation.upper() != "SERIALIZABLE":
        raise ValueError(
            f"transaction(isolation={isolation!r}): SQLite's transactions are always SERIALIZABLE;"
            " leave it out"
        )


def _mode(conn: Any, readonly: bool | None, options: Mapping[str, Any]) -> str:
    unknown = sorted(set(options) - {"mode"})
    if unknown:
        raise ValueError(f"transaction({unknown[0]}=...): SQLite knows only the option 'mode'")
    mode = options.get("mode")
    if mode is None:
        return "DEFERRED" if readonly else conn.isolation_level or "DEFERRED"
    if not isinstance(mode, str) or mode.upper() not in places.MODES:
        raise ValueError(f"transaction(mode={mode!r}): must be one of {', '.join(places.MODES)}")
    if readonly and mode.upper() != "DEFERRED":
        raise ValueError(
            f"transaction(mode={mode!r}, readonly=True): only DEFERRED can be read-only"
        )
    return mode.upper()


def _set_autocommit(conn: Any, value: bool | int | None) -> None:
    # From False to LEGACY_TRANSACTION_CONTROL the transaction would stay open, to True be committed.
    if conn.in_transaction:
        session.run(conn, "ROLLBACK")
    conn.autocommit = value
