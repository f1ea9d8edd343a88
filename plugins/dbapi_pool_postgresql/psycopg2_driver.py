"""`Psycopg2Driver`: what the pool needs to know about psycopg2.

See https://www.psycopg.org/docs/connection.html and `.../extensions.html`. It must never know the
pool. psycopg2 keeps two states of a transaction, its own (`status`) and libpq's: a COMMIT or BEGIN
typed by hand makes them differ, and then its `commit()` and `rollback()` do too much or nothing.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import psycopg2  # type: ignore[import-untyped]
from psycopg2 import extensions
from psycopg2 import sql as composing

from dbapi_pool.drivers.bare import Bare
from dbapi_pool.drivers.base import Arguments, plain_class
from dbapi_pool.fences import failed, fence_result
from dbapi_pool.handles import PooledConnection

from . import facts
from .driver import ENVIRONMENT, PostgreSQLDriver
from .handles import attribute_method, cursor_body, guarded, is_returned, tpc_commit, work_of
from .wire import readable

log = logging.getLogger("dbapi_pool.postgresql")

SETUP: int = extensions.STATUS_SETUP
READY: int = extensions.STATUS_READY
PREPARED: int = extensions.STATUS_PREPARED
IDLE: int = extensions.TRANSACTION_STATUS_IDLE
BUSY: int = extensions.TRANSACTION_STATUS_ACTIVE
FAILED: int = extensions.TRANSACTION_STATUS_INERROR


class Attributes(NamedTuple):
    """The attributes of a connection that its borrower may change."""

    autocommit: bool
    characteristics: tuple[Any, Any, Any]
    """isolation_level, readonly, deferrable"""
    cursor_factory: Any
    notices: Any
    notifies: Any
    string_types: dict[Any, Any]
    binary_types: dict[Any, Any]
    own: dict[str, Any] | None
    """What instances of a subclass carry besides; None: nothing can."""


class BarePsycopg2Connection(PooledConnection):
    """A borrowed psycopg2 connection that does as the driver's own."""

    __slots__ = ()

    set_session = attribute_method("set_session")
    set_isolation_level = attribute_method("set_isolation_level")

    @property
    def closed(self) -> int:
        """As the driver's: 0, or another number."""
        return 1 if is_returned(self) else int(self._lease.member.conn.closed)

    @property
    def notices(self) -> Any:
        """As the driver's; the next borrower has a list of its own."""
        work_of(self).attributes = True
        return self._lease.member.conn.notices

    @property
    def notifies(self) -> Any:
        """As the driver's; the next borrower has a list of its own."""
        work_of(self).attributes = True
        return self._lease.member.conn.notifies

    def lobject(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's; the large object ends with the lease."""
        work = work_of(self)
        work.pending = work.wrote = True
        conn = self._lease.member.conn
        factory = kwargs.pop("lobject_factory", extensions.lobject)
        try:
            made = conn.lobject(*args, lobject_factory=_lobject_class(factory), **kwargs)
        except BaseException as exc:
            failed(self, exc)
            raise
        made._handle = self
        return fence_result(self, work, made)


class Psycopg2Connection(BarePsycopg2Connection):
    """A borrowed psycopg2 connection."""

    __slots__ = ()

    tpc_commit = tpc_commit


class _InPython(extensions.connection):  # type: ignore[misc]
    """The driver's connection, of a class that can be derived from after it was made."""


_InPython.__name__ = _InPython.__qualname__ = extensions.connection.__name__
_InPython.__module__ = extensions.connection.__module__


class Psycopg2Driver(PostgreSQLDriver):
    """psycopg2, from 2.8 on."""

    name = "psycopg2"
    handle_base = Psycopg2Connection
    harmless = PostgreSQLDriver.harmless | {
        "cursor_factory", "fileno", "get_backend_pid", "get_dsn_parameters", "get_parameter_status",
        "get_transaction_status", "info", "isexecuting", "xid",
    }  # fmt: skip
    bare = Bare(
        handle_base=BarePsycopg2Connection,
        closed=("InterfaceError", "connection already closed"),
        cursor_closed="cursor already closed",
        environment=ENVIRONMENT,
        unwrapping=(
            "psycopg2.extensions:encrypt_password",
            "psycopg2.extensions:quote_ident",
            "psycopg2.extensions:register_type",
            "psycopg2.sql:Literal.as_string",
            # The driver calls these with its own; others may call them too.
            "psycopg2._json:Json.prepare",
            "psycopg2._range:RangeAdapter.prepare",
            "psycopg2.extensions:SQL_IN.prepare",
            "psycopg2.extras:HstoreAdapter.prepare",
            "psycopg2.extras:Inet.prepare",
        ),
    )

    def __init__(self, creator: Any = None) -> None:
        super().__init__(psycopg2, creator)
        self.known_harmless = self.classifier.harmless

    def check_settings(
        self, settings: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuses asynchronous connections, which have no transactions."""
        super().check_settings(settings, args, kwargs)
        for name in ("async", "async_"):
            if kwargs.get(name):
                raise ValueError(f"{name}={kwargs[name]!r}: {_ASYNCHRONOUS}")

    string_argument = "dsn"

    def string_parser(self, text: str) -> Mapping[str, Any]:
        parts: Mapping[str, Any] = extensions.parse_dsn(text)
        return parts

    # -- a connection's beginning and end ---------------------------------------------------------

    def connected(self, conn: Any) -> None:
        """Refuses an asynchronous connection with `ValueError`, and one of a class that has not called
        psycopg2's own `__init__`.

        A pooler takes clients in also where it has no session for them, or the server is away: so
        what looks like one is asked for a sign of life.
        """
        if conn.async_:
            raise ValueError(f"the creator makes asynchronous connections: {_ASYNCHRONOUS}")
        if conn.status == SETUP:
            raise ValueError("the creator makes connections that are not connected")
        if facts.is_made_up(conn.get_backend_pid()):
            self.ping(conn)

    def run_setup(self, conn: Any, statements: Sequence[str]) -> None:
        """Outside a transaction, so that a later rollback does not undo them."""
        _outside(conn, lambda: [_run(conn, sql) for sql in statements])

    def is_alive(self, conn: Any) -> bool:
        """Ready, in no transaction, and the kernel knows nothing bad. Forgets the notices and
        notifications that a borrower got, or nobody."""
        try:
            if conn.closed or conn.status != READY or conn.get_transaction_status() != IDLE:
                return False
            alive = not readable(conn.fileno()) or self.is_quiet(conn)
            if conn.notices or conn.notifies:
                _forget(conn.notices)
                _forget(conn.notifies)
        except Exception:
            return False
        return alive

    def takes_in_notifications(self, conn: Any) -> bool:
        notices = list(conn.notices)
        conn.poll()
        return list(conn.notices) == notices and not conn.closed

    def ping(self, conn: Any) -> None:
        """`SELECT 1`, outside a transaction."""
        _outside(conn, lambda: _run(conn, "SELECT 1"))

    # -- transactions -----------------------------------------------------------------------------

    def in_transaction(self, conn: Any) -> bool:
        """By both states, psycopg2's own and libpq's."""
        return bool(conn.status != READY or conn.get_transaction_status() != IDLE)

    def has_failed(self, conn: Any) -> bool:
        return bool(conn.get_transaction_status() == FAILED)

    def commit_whole(self, conn: Any) -> None:
        """Also commits what was begun by hand in autocommit mode, where psycopg2's does nothing."""
        conn.commit()
        if conn.get_transaction_status() != IDLE:
            _end_by_hand(conn, "COMMIT")

    def rollback(self, conn: Any) -> None:
        """Also rolls back what was begun by hand in autocommit mode, and a two-phase transaction that
        is not prepared yet.

        Raises `InterfaceError` for one that is prepared (its name is logged nowhere: psycopg2 does not
        tell it), and in the middle of a COPY or another thread's statement.
        """
        if conn.status == PREPARED:
            log.warning(
                "a connection came back with a two-phase transaction that is prepared, neither"
                " committed nor rolled back: it stays so on the server (see pg_prepared_xacts)"
            )
            raise psycopg2.InterfaceError("a two-phase transaction was left prepared")
        if conn.get_transaction_status() == BUSY:
            raise psycopg2.InterfaceError("the connection is in the middle of something")
        if conn.status != READY or conn.closed:
            _roll_back(conn)
        if conn.get_transaction_status() != IDLE:
            _end_by_hand(conn, "ROLLBACK")

    def begin_with(
        self, conn: Any, level: str | None, readonly: bool | None, deferrable: bool | None
    ) -> None:
        """psycopg2 says so in the BEGIN that it sends before the first statement."""
        conn.set_session(
            isolation_level=level, readonly=readonly, deferrable=deferrable, autocommit=False
        )

    # -- a clean session --------------------------------------------------------------------------

    def snapshot(self, conn: Any) -> Attributes:
        """Everything that can be set on a connection, or registered on it."""
        own = getattr(conn, "__dict__", None)
        return Attributes(
            autocommit=conn.autocommit,
            characteristics=_characteristics(conn),
            cursor_factory=conn.cursor_factory,
            notices=conn.notices,
            notifies=conn.notifies,
            string_types=dict(conn.string_types),
            binary_types=dict(conn.binary_types),
            own=None if own is None else dict(own),
        )

    def restore(self, conn: Any, snapshot: Attributes) -> None:
        """No round trip, unless isolation_level, readonly or deferrable were set in autocommit mode:
        those psycopg2 has told to the server."""
        if _characteristics(conn) != snapshot.characteristics:
            if conn.autocommit:
                conn.autocommit = False
            conn.isolation_level, conn.readonly, conn.deferrable = snapshot.characteristics
        if conn.autocommit != snapshot.autocommit:
            conn.autocommit = snapshot.autocommit
        if conn.cursor_factory is not snapshot.cursor_factory:
            conn.cursor_factory = snapshot.cursor_factory
        conn.notices = _fresh(snapshot.notices)
        conn.notifies = _fresh(snapshot.notifies)
        _refill(conn.string_types, snapshot.string_types)
        _refill(conn.binary_types, snapshot.binary_types)
        if snapshot.own is not None:
            _refill(conn.__dict__, snapshot.own)

    def reset_session(self, conn: Any, snapshot: Attributes) -> bool:
        """`conn.reset()`: `DISCARD ALL` (https://www.postgresql.org/docs/current/sql-discard.html), and
        psycopg2's own idea of the encoding."""
        conn.reset()
        return True

    def may_change_session(self, sql: Any) -> bool:
        """Also reads what is composed with `psycopg2.sql`, unless there is a `Literal` in it: what
        that becomes is up to an adapter."""
        if not isinstance(sql, composing.Composable):
            return super().may_change_session(sql)
        text = _text_of(sql)
        return text is None or super().may_change_session(text)

    # -- what an error means, and for people ------------------------------------------------------

    def is_read_only_by_wish(self, conn: Any) -> bool:
        return bool(conn.readonly)

    def rows(self, conn: Any, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = _outside(conn, lambda: _run(conn, sql))
        return found

    def is_encrypted(self, conn: Any) -> bool:
        return bool(conn.info.ssl_in_use)

    # -- handles ----------------------------------------------------------------------------------

    native_advice = (
        "have it opened by the pool: Pool(psycopg2, ...), or give connection_factory=, a subclass of"
        " psycopg2.extensions.connection, to psycopg2.connect()"
    )

    def native_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Adds a `connection_factory`, as psycopg2's own class is written in C."""
        given = len(args) > 1 or "connection_factory" in kwargs
        if given or not (self._is_url or self._is_own()):
            return args, kwargs
        return args, {**kwargs, "connection_factory": _InPython}

    def open_cursor(
        self,
        conn: Any,
        pooled: Callable[[type], type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """`conn.cursor(name, cursor_factory, ...)` with a class derived from the factory; None if that
        is no class, or the connection's class has a `cursor()` of the user's own."""
        factory = args[1] if len(args) > 1 else kwargs.get("cursor_factory")
        opener: Any = plain_class(type(conn)).cursor
        if opener is not extensions.connection.cursor:
            if opener.__module__ != "psycopg2.extras":
                return None
            factory = _class_of_cursor(conn, factory)
        factory = factory or conn.cursor_factory or extensions.cursor
        if not isinstance(factory, type) or not issubclass(factory, extensions.cursor):
            return None
        name = args[:1]
        named = bool(name and name[0]) or bool(kwargs.get("name"))
        made = pooled(_named_cursor_class(factory) if named else _cursor_class(factory))
        others = dict(zip(("withhold", "scrollable"), args[2:4], strict=False))
        cursor = conn.cursor(*name, **{**kwargs, **others, "cursor_factory": made})
        return cursor if type(cursor) is made else None

    def another_cursor(self, conn: Any, kind: type) -> Callable[[], Any]:
        return functools.partial(conn.cursor, cursor_factory=kind)


_ASYNCHRONOUS = "the pool lends connections that wait for their answers; leave it out"


# -- small acts on a connection, whatever its borrower did to it ----------------------------------


def _run(conn: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor = extensions.cursor(conn)  # not conn.cursor(): its class may be anybody's
    try:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()


def _outside(conn: Any, act: Callable[[], Any]) -> Any:
    """Act in no transaction, or in one that is committed, whichever takes fewer round trips."""
    # With characteristics set, switching to autocommit sends a SET for each, and another on the way
    # back.
    switch = not conn.autocommit and _characteristics(conn) == (None, None, None)
    if switch:
        conn.autocommit = True
    result = act()
    if switch:
        conn.autocommit = False
    conn.commit()
    return result


def _end_by_hand(conn: Any, word: str) -> None:
    autocommit = conn.autocommit
    if not autocommit:  # psycopg2 would send a BEGIN first
        conn.autocommit = True
    _run(conn, word)
    if not autocommit:
        conn.autocommit = False


def _roll_back(conn: Any) -> None:
    try:
        conn.rollback()
    except psycopg2.ProgrammingError:  # "rollback cannot be used during a two-phase transaction"
        conn.tpc_rollback()


def _characteristics(conn: Any) -> tuple[Any, Any, Any]:
    return conn.isolation_level, conn.readonly, conn.deferrable


def _text_of(composed: Any) -> str | None:
    """What is sent for it, if that is certain."""
    if isinstance(composed, composing.Composed):
        parts = [_text_of(part) for part in composed.seq]
        return None if None in parts else "".join(map(str, parts))
    if type(composed) is composing.Identifier:
        return ".".join('"' + name.replace('"', '""') + '"' for name in composed.strings)
    if type(composed) in (composing.SQL, composing.Placeholder):
        return str(composed.as_string(None))
    return None


def _forget(messages: Any) -> None:
    """Empty psycopg2's own list; a collector that `setup` put in its place is the user's."""
    if messages and type(messages) is list:
        messages.clear()


def _fresh(messages: Any) -> Any:
    """A new list, since somebody may have kept the old one."""
    return [] if type(messages) is list else messages


def _refill(now: dict[Any, Any], before: dict[Any, Any]) -> None:
    if now != before:
        now.clear()
        now.update(before)


# -- classes for borrowed cursors and large objects -----------------------------------------------


def _class_of_cursor(conn: Any, factory: Any) -> Any:
    """What cursors a connection makes whose class has a `cursor()` of its own (`DictConnection`)."""
    probe = conn.cursor(cursor_factory=factory) if factory else conn.cursor()
    probe.close()
    return type(probe)


@functools.lru_cache(maxsize=256)
def _cursor_class(cls: type) -> type:
    body = cursor_body(cls, "psycopg2", extensions.cursor.connection.__get__)
    return type(cls.__name__, (cls,), body)


@functools.lru_cache(maxsize=256)
def _named_cursor_class(cls: Any) -> type:
    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        """As the driver's. What it declares WITH HOLD outlives its transaction, and the object."""
        if self.withhold:
            self._work.session = True
        return cls.execute(self, *args, **kwargs)

    def close(self: Any) -> None:
        """As the driver's. On return it is no error that a commit has ended a named cursor already."""
        try:
            cls.close(self)
        except psycopg2.ProgrammingError:
            if not is_returned(self._handle) or self.withhold:
                raise

    body = cursor_body(cls, "psycopg2", extensions.cursor.connection.__get__)
    return type(cls.__name__, (cls,), {**body, "execute": execute, "close": close})


@functools.lru_cache(maxsize=256)
def _lobject_class(cls: Any) -> type:
    body: dict[str, Any] = {
        "__slots__": ("_handle",) if cls.__weakrefoffset__ else ("__weakref__", "_handle"),
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
    }
    for name in ("export", "read", "seek", "tell", "truncate", "unlink", "write"):
        body[name] = guarded(name, getattr(cls, name))
    return type(cls.__name__, (cls,), body)
