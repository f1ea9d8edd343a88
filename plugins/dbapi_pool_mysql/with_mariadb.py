"""`MariaDBDriver`: MariaDB Connector/Python, from 1.1. See
https://mariadb-corporation.github.io/mariadb-connector-python/.

It shows its socket's descriptor by a private method only: the public `socket` makes an object that
closes the descriptor when it is garbage.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dbapi_pool.drivers.bare import Bare
from dbapi_pool.drivers.base import Driver, plain_class

from . import cursors, sockets, urls
from .cursors import FEW, UnreadResult
from .driver import ENVIRONMENT, MySQLDriver, Snapshot
from .handles import BareMariaDBHandle, PropertiesHandle


class MariaDBDriver(MySQLDriver):
    """MariaDB Connector/Python."""

    name = "mariadb"
    system = "mariadb"
    module_name = "mariadb"
    connection_class_name = "mariadb.connections:Connection"
    url_types = urls.MARIADB
    handle_base = PropertiesHandle
    volatile = frozenset({"_last_executed_statement", "_socket"})
    slots = ("auto_reconnect", "_converter")
    harmless = Driver.harmless | {
        "begin", "client_capabilities", "commit", "cursor", "escape_string", "get_server_version",
        "kill", "rollback", "server_version_info", "show_warnings", "tls_peer_cert_info", "xid",
        "_check_closed",
    }  # fmt: skip
    bare = Bare(
        handle_base=BareMariaDBHandle,
        closed=("ProgrammingError", "Invalid connection or not connected"),
        closed_twice=("ProgrammingError", "Invalid connection or not connected"),
        environment=ENVIRONMENT,
    )

    # -- what the user gave -----------------------------------------------------------------------

    def check_settings(
        self, settings: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Where it shall be `faithful`, refuses to reconnect by itself: the next borrower would get a
        session that nobody has prepared."""
        super().check_settings(settings, args, kwargs)
        for name in ("reconnect", "auto_reconnect"):
            if self.faithful and kwargs.get(name):
                raise ValueError(f"{name}={kwargs[name]!r}: a pool's connections do not reconnect")

    # -- a connection's beginning and end ---------------------------------------------------------

    def connected(self, conn: Any) -> None:
        """Switches reconnecting off, whatever `reconnect` was: it happens without a word in the
        middle of a transaction."""
        conn.auto_reconnect = False
        super().connected(conn)

    def is_closed(self, conn: Any) -> bool:
        """What the driver knows."""
        return bool(getattr(conn, "_closed", False))

    def descriptor(self, conn: Any) -> int | None:
        """That of its private `_get_socket`."""
        return int(conn._get_socket()) if hasattr(conn, "_get_socket") else None

    def session_id(self, conn: Any) -> Any:
        """`connection_id`."""
        return conn.connection_id

    def status(self, conn: Any) -> int:
        """`server_status`."""
        return int(conn.server_status)

    def set_autocommit(self, conn: Any, value: bool) -> None:
        """By its property."""
        conn.autocommit = value

    def rows(self, conn: Any, sql: str) -> list[tuple[Any, ...]]:
        """With a cursor of its own class, whatever the connection's `cursor` is."""
        cursor = _counted(_cursors().Cursor)(conn)
        try:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.field_count else []
        finally:
            cursor.close()  # reads further results

    def reset(self, conn: Any, snapshot: Snapshot) -> bool:
        """Two round trips, and one more for `init_command`."""
        conn.reset()
        # The driver always speaks utf8mb4, with this collation in its handshake.
        self.set_up(conn, snapshot, conn.character_set, conn.collation)
        return True

    def address(self, conn: Any) -> str:
        """`host:port`, or the path of the socket."""
        return conn.unix_socket or f"{conn.server_name}:{conn.server_port}"

    # -- cursors ----------------------------------------------------------------------------------

    def open_cursor(
        self,
        conn: Any,
        pooled: Callable[[type], type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """`conn.cursor(cls, **kwargs)` with a class derived from `cls`; None if that is no class, or
        the connection's `cursor` is the user's."""
        home = _cursors()
        if plain_class(type(conn)).cursor is not self.connection_class.cursor or len(args) > 1:
            return None
        asked = dict(kwargs)
        cls = args[0] if args else asked.pop("cursorclass", home.Cursor)
        if not (isinstance(cls, type) and issubclass(cls, home.Cursor)):
            return None
        made = cursors.for_borrower(_counted(cls), home.Cursor, pooled, _end, home)
        return None if made is None else conn.cursor(made, **asked)

    def keeps_rows(self, cursor: Any) -> bool:
        """Those of buffered cursors, which are the default."""
        return bool(cursor.buffered and cursor.field_count)


@functools.cache
def _cursors() -> Any:
    return importlib.import_module("mariadb.cursors")


def _end(cursor: Any, conn: Any) -> None:
    """Before a cursor is closed with its lease."""
    # Interrupted in `execute`, it may have columns and no result, and fetching would crash the process.
    if not cursors.is_cut_short(cursor):
        if cursor.buffered or not cursor.field_count:
            return
        if len(_cursors().Cursor.fetchmany(cursor, FEW)) < FEW:
            return
    sockets.cut(conn._get_socket())
    with suppress(Exception):  # nothing more comes, so this does not read on
        _cursors().Cursor.close(cursor)
    raise UnreadResult("an unbuffered result was left with too much unread")


# -- a reference that the driver gives back without having taken it ----------------------------------


@functools.lru_cache(maxsize=256)
def _counted(cls: Any) -> type:
    """A subclass of a cursor class that leaves its connection's count of references right.

    The driver's cursor borrows its reference to the connection (`MrdbCursor_initialize`), and yet
    gives it back when the garbage collector clears it (`MrdbCursor_tpclear`, all of 1.1): the
    connection is freed while the pool still has it, and the process crashes, or another object stands
    in its place. It takes no more than an exception in a cycle, whose traceback leads to a cursor. So
    the reference that will be given back is taken here. Should the cycle end before the collector
    comes to the cursor, the connection's object, closed in its time as ever, is never freed: some
    bytes instead of a crash.
    """

    # Not looked up when it is needed: by then the interpreter may have taken this module apart.
    alone, count = _count_when_alone(), sys.getrefcount
    object_of, keep = ctypes.py_object, ctypes.pythonapi.Py_IncRef

    def __del__(self: Any) -> None:
        conn = self.__dict__.get("_connection")
        if conn is not None and count(self) > alone:
            keep(object_of(conn))
        cls.__del__(self)

    return type(
        cls.__name__,
        (cls,),
        {"__doc__": cls.__doc__, "__module__": cls.__module__, "__del__": __del__},
    )


@functools.cache
def _count_when_alone() -> int:
    """What `sys.getrefcount(self)` is in a `__del__` that no collector called."""
    counts = []

    class Alone:
        def __del__(self) -> None:
            counts.append(sys.getrefcount(self))

    Alone()
    return counts[0]
