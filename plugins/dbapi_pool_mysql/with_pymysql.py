"""`PyMySQLDriver`: PyMySQL, from 1.0.2. See https://pymysql.readthedocs.io/.

It has no public call for COM_RESET_CONNECTION and shows no socket, so this uses two private methods and
one private attribute, the same since 1.0; where they are missing it does without.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from dbapi_pool.drivers.bare import Bare
from dbapi_pool.drivers.base import Arguments, Driver, plain_class

from . import cursors, sockets, unanswered, urls
from .contexts import SharedContext, can_share
from .cursors import FEW, UnreadResult
from .driver import AUTOCOMMIT, ENVIRONMENT, IN_TRANSACTION, MySQLDriver, Snapshot
from .handles import BarePyMySQLHandle, PyMySQLHandle
from .pymysql_cursors import shortcuts
from .unanswered import Unanswered

_RESET_CONNECTION = 0x1F
"""https://dev.mysql.com/doc/dev/mysql-server/latest/my__command_8h.html"""


_READING = ("nextset", "read_next")


class PyMySQLDriver(MySQLDriver):
    """PyMySQL."""

    name = "pymysql"
    module_name = "pymysql"
    connection_class_name = "pymysql.connections:Connection"
    url_types = urls.PYMYSQL
    quiet_ping = {"reconnect": False}
    handle_base = PyMySQLHandle
    volatile = frozenset({
        "_affected_rows", "_auth_plugin_name", "_closed", "_current_timeout", "_next_seq_id",
        "_result", "_rfile", "_secure", "_sock", "host_info", "protocol_version", "salt",
        "server_capabilities", "server_charset", "server_language", "server_status",
        "server_thread_id", "server_version",
    })  # fmt: skip
    harmless = Driver.harmless | {
        "affected_rows", "begin", "character_set_name", "client_flag", "commit", "cursor", "escape",
        "escape_string", "get_autocommit", "get_host_info", "get_proto_info", "get_server_info",
        "insert_id", "kill", "literal", "open", "rollback", "server_thread_id", "show_warnings",
        "thread_id",
    }  # fmt: skip
    bare = Bare(
        handle_base=BarePyMySQLHandle,
        closed=("InterfaceError", 0, ""),
        closed_twice=("Error", "Already closed"),
        environment=ENVIRONMENT,
        connects_later=True,
    )

    def __init__(self, module: ModuleType | type | None = None, creator: Any = None) -> None:
        """`creator`: see `MySQLDriver`."""
        super().__init__(module, creator)
        if self.known_harmless is self.classifier.harmless:
            self.known_harmless = self.classifier.reads  # see `rollback_soon`
            self.known_inert = self.classifier.inert
        self._shared: SharedContext | None = None
        self._end: float | None = None  # of connecting, if the user has set none
        # Whether the connections' class can do without an answer; of the class that was seen last.
        self._deferring: tuple[Any, bool] = (None, False)

    # -- what the user gave -----------------------------------------------------------------------

    def connect_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Has one SSL context shared by all connections, unless the user brings one; see `contexts`.
        Connects in `connected`, where that can be given an end."""
        args, kwargs = super().connect_arguments(args, kwargs)
        if not self._standard:
            return args, kwargs
        if not can_share(kwargs):
            return args, {"defer_connect": True, **kwargs}
        self._shared = SharedContext(self.connection_class, kwargs)
        return args, self._shared.arguments(kwargs)

    def check_settings(
        self, settings: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuses `defer_connect=True`: a pool lends open connections. Also has connecting end with
        the checkout, but after 2 s at least, unless there is a `connect_timeout`."""
        super().check_settings(settings, args, kwargs)
        checkout = settings.get("checkout_timeout")
        if checkout is not None and "connect_timeout" not in self._kwargs:
            self._end = max(2.0, checkout)
        if self._kwargs.get("defer_connect"):
            raise ValueError("defer_connect=True: the pool lends open connections; leave it out")

    # -- a connection's beginning and end ---------------------------------------------------------

    def connected(self, conn: Any) -> None:
        """Connects it, if that was put off."""
        self.open(conn)
        super().connected(conn)
        self.settle(conn)

    def open(self, conn: Any) -> None:
        """Connects it, if it is not."""
        if conn.open:
            return
        with _an_end(conn, self._end):
            if self._shared is not None:
                self._shared.open(conn)
            else:
                conn.connect()

    def close(self, conn: Any) -> None:
        """Closes without reading what a half-read result still holds, now or when it is garbage."""
        _forget_result(conn)
        conn.close()

    def is_closed(self, conn: Any) -> bool:
        """PyMySQL lets its socket go with the first error."""
        return not conn.open

    def descriptor(self, conn: Any) -> int | None:
        """That of its private socket."""
        return int(conn._sock.fileno()) if hasattr(conn, "_sock") else None

    def is_alive(self, conn: Any) -> bool:
        """As for every driver of these; the answer to a rollback is read, if it has come."""
        if not (sockets.TELLS_ENDS and hasattr(conn, "_sock")):
            return super().is_alive(conn)
        try:
            return unanswered.is_alive(conn)
        except Exception:
            return False

    def session_id(self, conn: Any) -> Any:
        """`thread_id()`."""
        return conn.thread_id()

    def status(self, conn: Any) -> int:
        """That of the last OK packet; those at the end of results are not looked at."""
        return int(conn.server_status)

    def in_transaction(self, conn: Any) -> bool | None:
        """As for every driver of these, in one piece: it is asked at every checkin."""
        self.settle(conn)
        status = conn.server_status
        return bool(status & IN_TRANSACTION) if status & AUTOCOMMIT else None

    def rollback_soon(self, conn: Any) -> bool:
        """Where PyMySQL is as it is known; not in autocommit mode, where a transaction is rare."""
        if conn.server_status & AUTOCOMMIT or not self._defers(conn):
            return False
        unanswered.send(conn)
        return True

    def _defers(self, conn: Any) -> bool:
        kind, can = self._deferring
        if kind is not plain_class(type(conn)):
            kind = plain_class(type(conn))
            can = unanswered.can_defer(kind, self.connection_class)
            self._deferring = (kind, can)
        return can

    def settle(self, conn: Any) -> None:
        """Raises for any result that is not read: the cursors have been closed by now. What the last
        one was like, `insert_id()` and `affected_rows()`, is forgotten."""
        result = getattr(conn, "_result", None)
        if result is None or type(result) is Unanswered:
            return
        if result.unbuffered_active or result.has_next:
            raise UnreadResult("a result was left unread")
        conn._result = None
        conn._affected_rows = 0

    def rows(self, conn: Any, sql: str) -> list[tuple[Any, ...]]:
        """With a cursor of PyMySQL's own, whatever the connection's `cursorclass` is."""
        cursor = _cursors().Cursor(conn)
        cursor.execute(sql)
        found = list(cursor.fetchall())
        cursor.close()  # reads further results
        return found

    def reset(self, conn: Any, snapshot: Snapshot) -> bool:
        """Two round trips, and one more for `init_command`."""
        send = getattr(conn, "_execute_command", None)
        read = getattr(conn, "_read_ok_packet", None)
        if send is None or read is None:
            return False
        send(_RESET_CONNECTION, b"")
        read()
        # What an option file may have given too is known to the connection.
        self._kwargs.update(sql_mode=conn.sql_mode, init_command=conn.init_command)
        self.set_up(conn, snapshot, conn.charset, getattr(conn, "collation", None))
        return True

    def address(self, conn: Any) -> str:
        """`host:port`, or the path of the socket."""
        return conn.unix_socket or f"{conn.host}:{conn.port}"

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
        if len(args) + len(kwargs) > 1 or set(kwargs) - {"cursor"}:
            return None  # the driver's own TypeError
        asked = args[0] if args else kwargs.get("cursor")
        made = self._cursor_class(asked or conn.cursorclass, plain_class(type(conn)), pooled)
        return None if made is None else made(conn)

    def another_cursor(self, conn: Any, kind: type) -> Callable[[], Any]:
        """One more of the class."""
        return functools.partial(kind, conn)

    def keeps_rows(self, cursor: Any) -> bool:
        """All but those of the unbuffered cursors."""
        return not isinstance(cursor, _cursors().SSCursor)

    def _cursor_class(self, cls: Any, kind: Any, pooled: Callable[[type], type]) -> Any:
        if kind.cursor is not self.connection_class.cursor:
            return None
        home = _cursors()
        return cursors.for_borrower(cls, home.Cursor, pooled, _end, home, _READING, shortcuts(home))


@contextmanager
def _an_end(conn: Any, end: float | None) -> Iterator[None]:
    """While it connects, each answer must come within `connect_timeout`, or `end` if that is less.
    PyMySQL thinks of it for the TCP connection alone: a server that never greets would keep a place of
    the pool for ever."""
    names = ("connect_timeout", "_read_timeout", "_write_timeout")
    before = {name: getattr(conn, name) for name in names if hasattr(conn, name)}
    ends = [one for one in (end, before.get("connect_timeout")) if one]
    try:
        for name, value in before.items():
            setattr(conn, name, min([*ends, value] if value else ends, default=None))
        yield
    finally:
        for name, value in before.items():
            setattr(conn, name, value)


@functools.cache
def _cursors() -> Any:
    return importlib.import_module("pymysql.cursors")


def _end(cursor: Any, conn: Any) -> None:
    """Before a cursor is closed with its lease."""
    result = cursor._result
    if result is None or not result.unbuffered_active:
        return
    cut_short = cursors.is_cut_short(cursor)
    if not cut_short and len(_cursors().SSCursor.fetchmany(cursor, FEW)) < FEW:
        return
    # Nobody shall read on: not the cursor's close, nor its or its result's finalizer.
    result.unbuffered_active = False
    cursor.connection = None
    if not cut_short:
        sockets.cut(conn._sock.fileno())
    raise UnreadResult("an unbuffered result was left with too much unread")


def _forget_result(conn: Any) -> None:
    result = getattr(conn, "_result", None)
    if type(result) is Unanswered:
        conn._result = None
    elif result is not None:
        result.unbuffered_active = False
