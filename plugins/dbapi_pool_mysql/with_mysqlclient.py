"""`MySQLClientDriver`: mysqlclient (`MySQLdb`), from 2.1. See https://mysqlclient.readthedocs.io/."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dbapi_pool.drivers.bare import Bare
from dbapi_pool.drivers.base import Arguments, Driver, plain_class

from . import cursors, sockets, urls
from .cursors import FEW, UnreadResult
from .driver import ENVIRONMENT, MySQLDriver, Snapshot
from .handles import BareMySQLClientHandle, CallableAutocommitHandle

_POSITIONS = ("host", "user", "password", "database", "port", "unix_socket")
_IN_SSL = {"ssl_ca": "ca", "ssl_capath": "capath", "ssl_cert": "cert", "ssl_cipher": "cipher",
           "ssl_key": "key"}  # fmt: skip
_MODES = {  # the strongest last
    "ssl_disabled": "DISABLED", "ssl_verify_cert": "VERIFY_CA",
    "ssl_verify_identity": "VERIFY_IDENTITY",
}  # fmt: skip

_TWIN = "_dbapi_pool_twin"


class MySQLClientDriver(MySQLDriver):
    """mysqlclient."""

    name = "mysqlclient"
    module_name = "MySQLdb"
    connection_class_name = "MySQLdb.connections:Connection"
    url_types = urls.MYSQLCLIENT
    handle_base = CallableAutocommitHandle
    volatile = frozenset({_TWIN})
    slots = ("converter",)
    harmless = Driver.harmless | {
        "affected_rows", "begin", "character_set_name", "commit", "cursor", "errno", "error",
        "escape", "escape_string", "field_count", "fileno", "get_autocommit",
        "get_character_set_info", "get_host_info", "get_proto_info", "get_server_info", "info",
        "insert_id", "kill", "literal", "more_results", "rollback", "show_warnings", "sqlstate",
        "stat", "string_literal", "thread_id", "warning_count",
    }  # fmt: skip
    bare = Bare(
        handle_base=BareMySQLClientHandle,
        closed=("OperationalError", 2006, ""),
        closed_twice=("OperationalError", 2006, ""),
        environment=ENVIRONMENT,
    )

    # -- what the user gave -----------------------------------------------------------------------

    def url_arguments(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Certificates go to `ssl`, and `ssl_verify_cert`, `ssl_verify_identity` and `ssl_disabled`,
        as the other drivers call them, become `ssl_mode`."""
        arguments = {key: value for key, value in query.items() if key not in {*_IN_SSL, *_MODES}}
        files = {_IN_SSL[key]: value for key, value in query.items() if key in _IN_SSL}
        modes = [mode for key, mode in _MODES.items() if query.get(key)]
        if files:
            arguments["ssl"] = files
        if modes:
            arguments.setdefault("ssl_mode", modes[-1])
        return arguments

    def connect_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """As they are; remembered, since a reset means to log in again."""
        if len(args) <= len(_POSITIONS):
            named = dict(zip(_POSITIONS, args, strict=False))
            super().connect_arguments((), {**named, **kwargs})
        else:
            super().connect_arguments(args, kwargs)
        return args, kwargs

    # -- a connection's beginning and end ---------------------------------------------------------

    def connected(self, conn: Any) -> None:
        """Also notes the character set, of which the client library has a notion of its own."""
        self._charset = conn.character_set_name()
        vars(conn)[_TWIN] = sockets.Twin(conn.fileno())
        super().connected(conn)

    def close(self, conn: Any) -> None:
        """Also lets go of the descriptor that `interrupt` needs."""
        twin = vars(conn).pop(_TWIN, None)
        try:
            conn.close()
        finally:
            if twin is not None:
                twin.close()

    def interrupt(self, conn: Any) -> bool:
        """By a descriptor of its own: from 2.3 the driver tells nothing while it is in a call."""
        twin = vars(conn).get(_TWIN)
        try:
            return twin is not None and not self.is_closed(conn) and twin.cut()
        except OSError:  # it has ended already
            return False

    def abandon_after_fork(self, conn: Any) -> None:
        """Takes away both descriptors."""
        super().abandon_after_fork(conn)
        twin = vars(conn).pop(_TWIN, None)
        if twin is not None:
            twin.close()

    def is_closed(self, conn: Any) -> bool:
        """What the client library knows."""
        return not conn.open

    def descriptor(self, conn: Any) -> int:
        """`fileno()`."""
        return int(conn.fileno())

    def session_id(self, conn: Any) -> Any:
        """`thread_id()`."""
        return conn.thread_id()

    def status(self, conn: Any) -> None:
        """It shows none."""

    def autocommit(self, conn: Any) -> bool:
        """`get_autocommit()`, which is the server's flag."""
        return bool(conn.get_autocommit())

    def rows(self, conn: Any, sql: str) -> list[tuple[Any, ...]]:
        """Below cursors, so that none of the connection's settings matters but its converters."""
        conn.query(sql.encode(conn.encoding))
        found: list[tuple[Any, ...]] = []
        while True:
            result = conn.store_result()
            if result is not None:
                found += result.fetch_row(0)
            if conn.next_result() != 0:
                return found

    def reset(self, conn: Any, snapshot: Snapshot) -> bool:
        """COM_CHANGE_USER to the same user (https://mariadb.com/kb/en/com_change_user/), since it
        offers no COM_RESET_CONNECTION: four round trips. False if the password is not known: it was
        given in an option file."""
        given = self._kwargs
        if "user" not in given or given.get("read_default_file") or given.get("read_default_group"):
            return False
        password = given.get("password", given.get("passwd", ""))
        assert self._baseline is not None
        conn.change_user(given["user"], password, self._baseline.database or "")
        conn.set_character_set(self._charset)
        collation = given.get("collation")
        self.set_up(conn, snapshot, collation and self._charset, collation)
        return True

    def address(self, conn: Any) -> str:
        """`host:port`, or the path of the socket."""
        host, _, way = conn.get_host_info().partition(" via ")
        return f"{host}:{conn.port}" if way.startswith("TCP") else sockets.path(conn.fileno())

    # -- cursors ----------------------------------------------------------------------------------

    def open_cursor(
        self,
        conn: Any,
        pooled: Callable[[type], type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """`conn.cursor(cls)` with a class derived from `cls`, or from the connection's own
        `cursorclass`; None if that is no class, or the connection's `cursor` is the user's."""
        home = _cursors()
        if plain_class(type(conn)).cursor is not self.connection_class.cursor:
            return None
        if len(args) + len(kwargs) > 1 or set(kwargs) - {"cursorclass"}:
            return None  # the driver's own TypeError
        asked = args[0] if args else kwargs.get("cursorclass")
        made = cursors.for_borrower(asked or conn.cursorclass, home.BaseCursor, pooled, _end, home)
        return None if made is None else conn.cursor(made)

    def keeps_rows(self, cursor: Any) -> bool:
        """Those of the cursors that store their result."""
        return isinstance(cursor, _cursors().CursorStoreResultMixIn)


@functools.cache
def _cursors() -> Any:
    return importlib.import_module("MySQLdb.cursors")


def _end(cursor: Any, conn: Any) -> None:
    """Before a cursor is closed with its lease."""
    if cursor._result is None or not isinstance(cursor, _cursors().CursorUseResultMixIn):
        return
    if len(cursor._result.fetch_row(FEW)) < FEW:
        return
    sockets.cut(conn.fileno())
    with suppress(Exception):  # nothing more comes, so this does not read on
        cursor._discard()
    cursor.connection = cursor._result = None
    raise UnreadResult("an unbuffered result was left with too much unread")
