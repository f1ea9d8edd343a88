"""`ConnectorDriver`: mysql-connector-python, in pure Python and with its C extension. See
https://dev.mysql.com/doc/connector-python/en/.

The C extension shows no descriptor: there, liveness is what the last call told (so let the pool ping:
`ping_after`), a hung call cannot be cut, and after a fork the connection is kept for ever.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dbapi_pool.drivers.bare import Bare
from dbapi_pool.drivers.base import Driver, plain_class

from . import cursors, sockets, urls
from .cursors import FEW, UnreadResult
from .driver import AUTOCOMMIT, ENVIRONMENT, IN_TRANSACTION, MySQLDriver, Snapshot
from .handles import BareConnectorHandle, PropertiesHandle

_KINDS = {
    frozenset(): "",
    frozenset({"buffered"}): "Buffered",
    frozenset({"raw"}): "Raw",
    frozenset({"buffered", "raw"}): "BufferedRaw",
    frozenset({"dictionary"}): "Dict",
    frozenset({"buffered", "dictionary"}): "BufferedDict",
    frozenset({"prepared"}): "Prepared",
    frozenset({"prepared", "dictionary"}): "PreparedDict",
}
"""Arguments of `cursor()` to the class that they mean:
https://dev.mysql.com/doc/connector-python/en/connector-python-api-mysqlconnection-cursor.html"""

_READING = ("nextset", "fetchone", "fetchmany", "fetchall")
_SWITCHES = ("buffered", "raw", "prepared", "dictionary")


class ConnectorDriver(MySQLDriver):
    """mysql-connector-python."""

    name = "mysql-connector"
    module_name = "mysql.connector"
    connection_class_name = "mysql.connector.abstracts:MySQLConnectionAbstract"
    url_types = urls.CONNECTOR
    quiet_ping = {"reconnect": False}
    handle_base = PropertiesHandle
    volatile = frozenset({
        "_character_set", "_cmysql", "_columns", "_columns_desc", "_handshake", "_have_next_result",
        "_in_transaction", "_local_infile_filenames", "_protocol", "_query", "_server_version",
        "_socket", "_span", "_unread_result",
    })  # fmt: skip
    harmless = Driver.harmless | {
        "cmd_ping", "cmd_statistics", "commit", "consume_results", "cursor", "get_server_info",
        "get_server_version", "handle_unread_result", "is_closed", "is_connected",
        "isset_client_flag", "rollback", "server_version", "start_transaction",
    }  # fmt: skip
    bare = Bare(
        handle_base=BareConnectorHandle,
        closed=("OperationalError", "MySQL Connection not available"),
        environment=ENVIRONMENT,
    )

    # -- a connection's beginning and end ---------------------------------------------------------

    def connected(self, conn: Any) -> None:
        """Also switches on TCP_NODELAY and SO_KEEPALIVE, which the pure one leaves off."""
        sock = getattr(getattr(conn, "_socket", None), "sock", None)
        if sock is not None:
            sockets.be_prompt(sock)
        super().connected(conn)

    def is_closed(self, conn: Any) -> bool:
        """What the driver knows."""
        if _is_c(conn):
            return bool(conn.is_closed())
        if not hasattr(conn, "_socket"):
            return False
        sock = getattr(conn._socket, "sock", None)
        return sock is None or sock.fileno() < 0

    def descriptor(self, conn: Any) -> int | None:
        """That of its private socket; the C extension has none to show."""
        shown = not _is_c(conn) and hasattr(conn, "_socket")
        return int(conn._socket.sock.fileno()) if shown else None

    def session_id(self, conn: Any) -> Any:
        """`connection_id`."""
        return conn.connection_id

    def autocommit(self, conn: Any) -> bool | None:
        """What was set by `connect` and its property, which asks the server to be read."""
        value = getattr(conn, "_autocommit", None)
        return None if value is None else bool(value)

    def status(self, conn: Any) -> int:
        """Put together from what it shows."""
        flag = IN_TRANSACTION if conn.in_transaction else 0
        return flag | (AUTOCOMMIT if self.autocommit(conn) else 0)

    def set_autocommit(self, conn: Any, value: bool) -> None:
        """By its property."""
        conn.autocommit = value

    def settle(self, conn: Any) -> None:
        """Reads what a cursor left, if it is little. Raises for more, and for further results."""
        if conn.unread_result and not _read_few(conn):
            raise UnreadResult("a result was left with too much unread")
        if not _is_c(conn) and conn.have_next_result:
            raise UnreadResult("a result was left unread")

    def rows(self, conn: Any, sql: str) -> list[tuple[Any, ...]]:
        """With a buffered cursor of its own, made without the ping that `cursor()` does."""
        cursor = _class(conn, frozenset({"buffered"}))(conn)
        try:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            cursor.close()

    def reset(self, conn: Any, snapshot: Snapshot) -> bool:
        """`cmd_reset_connection()`, which also sets what the connect arguments asked for: three
        round trips or more."""
        return bool(conn.cmd_reset_connection())

    def restore_attributes(self, conn: Any, snapshot: Snapshot) -> None:
        """Also tells the converter, which has an opinion of its own."""
        super().restore_attributes(conn, snapshot)
        if conn.converter is not None:
            # The property without the underscore could not be read before version 9.2.
            conn.converter.set_unicode(conn._use_unicode)

    def address(self, conn: Any) -> str:
        """`host:port`, or the path of the socket."""
        return conn.unix_socket or f"{conn.server_host}:{conn.server_port}"

    # -- what an error means ----------------------------------------------------------------------

    def is_disconnect(self, exc: BaseException, conn: Any) -> bool:
        """Also after a time-out of its own: it says that it has closed the connection, and has not, so
        that the answer, when it comes, would be taken for that to the next statement."""
        return isinstance(exc, _timeouts()) or super().is_disconnect(exc, conn)

    # -- cursors ----------------------------------------------------------------------------------

    def open_cursor(
        self,
        conn: Any,
        pooled: Callable[[type], type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """A cursor of a class derived from the one that these arguments of `cursor()` mean, made
        without the ping that `cursor()` does each time; None if the connection's `cursor` is the
        user's."""
        if plain_class(type(conn)).cursor not in _native_cursor_methods():
            return None
        cls = _class_for(conn, args, kwargs)
        if cls is None:  # the driver knows better, and raises what it raises
            cls = type(conn.cursor(*args, **kwargs))
        conn.handle_unread_result()
        made = pooled(cursors.prepared(cls, _end, None, _READING))
        timeouts = {
            name: kwargs[name]
            for name in ("read_timeout", "write_timeout")
            if kwargs.get(name) is not None and not _is_c(conn)
        }
        return made(conn, **timeouts)

    def keeps_rows(self, cursor: Any) -> bool:
        """Those of buffered cursors."""
        kinds = {base.__name__ for base in type(cursor).__mro__}
        return bool(kinds & {"MySQLCursorBuffered", "CMySQLCursorBuffered"})


@functools.cache
def _timeouts() -> tuple[type[Exception], ...]:
    errors = importlib.import_module("mysql.connector.errors")
    names = ("ReadTimeoutError", "WriteTimeoutError")  # from 9.2
    return tuple(getattr(errors, name) for name in names if hasattr(errors, name))


def _is_c(conn: Any) -> bool:
    return hasattr(conn, "_cmysql")


@functools.cache
def _native_cursor_methods() -> list[Any]:
    connector = importlib.import_module("mysql.connector")
    classes = (connector.MySQLConnection, getattr(connector, "CMySQLConnection", None))
    return [cls.cursor for cls in classes if cls is not None]


def _class_for(conn: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The cursor class that these arguments mean; None if that is not certain."""
    names = {*_SWITCHES, "cursor_class", "read_timeout", "write_timeout"}
    if args or set(kwargs) - names or not _are_timeouts(kwargs):
        return None
    cls = kwargs.get("cursor_class")
    if cls is not None:
        base = _class(conn, frozenset())
        return cls if isinstance(cls, type) and issubclass(cls, base) else None
    chosen = {name: kwargs.get(name) for name in _SWITCHES}
    for name in ("buffered", "raw"):
        if chosen[name] is None:
            chosen[name] = getattr(conn, f"_{name}")
    kind = frozenset(name for name, value in chosen.items() if value is True)
    return _class(conn, kind) if kind in _KINDS else None


def _are_timeouts(kwargs: Mapping[str, Any]) -> bool:
    given = [kwargs[name] for name in ("read_timeout", "write_timeout") if name in kwargs]
    return all(value is None or (isinstance(value, int) and value >= 0) for value in given)


def _class(conn: Any, kind: frozenset[str]) -> Any:
    return _cursor_class(_is_c(conn), kind)


@functools.cache
def _cursor_class(c: bool, kind: frozenset[str]) -> Any:
    home = importlib.import_module("mysql.connector.cursor_cext" if c else "mysql.connector.cursor")
    return getattr(home, f"{'C' if c else ''}MySQLCursor{_KINDS[kind]}")


def _read_few(conn: Any) -> bool:
    """Read at most `FEW` rows; whether the result has ended."""
    eof = conn.get_rows(count=FEW)[1]
    return eof is not None and not conn.unread_result


def _end(cursor: Any, conn: Any) -> None:
    """Before a cursor is closed with its lease."""
    if cursors.is_cut_short(cursor):
        raise UnreadResult("a result was cut short")
    if conn.unread_result and not _read_few(conn):
        if not _is_c(conn):
            conn.shutdown()
        raise UnreadResult("a result was left with too much unread")
