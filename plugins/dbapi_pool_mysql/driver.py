"""`MySQLDriver`: what the pool needs to know about MySQL and MariaDB, whichever driver speaks.

What one driver does in its own way is in `with_pymysql`, `with_mysqlclient`, `with_connector` and
`with_mariadb`. This must never know the pool, nor import a driver before it is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from dbapi_pool.drivers import registry
from dbapi_pool.drivers.base import Arguments, Connect, Driver, Target
from dbapi_pool.drivers.facts import Server
from dbapi_pool.drivers.registry import bare_connect

from . import faults, hosts, server, session, sockets, urls
from .handles import MySQLHandle
from .hosts import Address, Hosts
from .session import Baseline
from .statements import MYSQL

IN_TRANSACTION = 1
AUTOCOMMIT = 2
"""Bits of the status that the server sends:
https://dev.mysql.com/doc/dev/mysql-server/latest/mysql__com_8h.html"""

ENVIRONMENT = ("MYSQL_HOST", "MYSQL_HOME", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT", "USER", "HOME")
"""What the drivers and their libraries read when they connect."""

_MUTABLE = (dict, list)


class Snapshot(NamedTuple):
    """What a connection was like when it was set up."""

    attributes: dict[str, Any]
    contents: dict[str, Any]
    """Copies of those that can change in place."""
    autocommit: bool | None
    session: Any
    """The server's number for the session."""


class Unfit(Exception):
    """A server is not of the kind that was asked for."""


class MySQLDriver(Driver):
    """What the four drivers have in common. It serves as itself only URLs for which none is there."""

    name = "mysql"
    system = "mysql"
    dialect = MYSQL
    handle_base: type[MySQLHandle] = MySQLHandle

    retryable = faults.RETRYABLE
    """Numbers of the errors after which `pool.run` tries the transaction again. Change it on a
    subclass, or an instance."""

    module_name = ""
    """The DB-API module."""
    connection_class_name = ""
    """Where its connections' class is: `module:name`."""
    url_types: urls.Types = {}
    """The keys that its URLs may have."""
    quiet_ping: Mapping[str, Any] = {}
    """Arguments of its `ping` with which it does not reconnect."""
    volatile: frozenset[str] = frozenset()
    """Attributes of its connections that are about the conversation, not the borrower's to set."""
    slots: tuple[str, ...] = ()
    """Attributes that a borrower may set and that are not in `__dict__`."""
    autocommit_default: bool | None = False
    """What `connect` sets if it is not told."""

    def __init__(self, module: ModuleType | type | None = None, creator: Any = None) -> None:
        """`creator`: what the user gave. Only of the driver's module, and of a URL, is it certain that
        what it gives is what the driver makes of the arguments; see `reset_session`."""
        if module is None and self.module_name:
            module = importlib.import_module(self.module_name)
        super().__init__(module)
        # Whether what it is called with are the driver's own arguments.
        self._own = isinstance(creator, str) or self._is_ours(creator)
        self._standard = False  # until its arguments are known: `connect_arguments`
        self._kwargs: dict[str, Any] = {}
        self._baseline: Baseline | None = None
        self._variables: dict[str, Any] = {}
        self._resets_well: bool | None = None  # to be seen
        self._hosts: Hosts | None = None  # if there are several, or one must be of a kind

    # -- what each driver does in its own way -----------------------------------------------------

    def rows(self, conn: Any, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement, and read all of its result."""
        raise NotImplementedError

    def run(self, conn: Any, sql: str) -> None:
        """Run one statement for its effect; results are read and forgotten."""
        self.rows(conn, sql)

    def descriptor(self, conn: Any) -> int | None:
        """The descriptor of its socket at this moment; None if the driver has none to show. Raises
        if the connection is closed."""
        raise NotImplementedError

    def is_closed(self, conn: Any) -> bool:
        """Whether the driver itself knows that it is closed. No I/O."""
        raise NotImplementedError

    def session_id(self, conn: Any) -> Any:
        """The server's number for the session. No I/O."""
        raise NotImplementedError

    def status(self, conn: Any) -> int | None:
        """The status that the server sent last, as far as the driver shows it. No I/O."""
        raise NotImplementedError

    def autocommit(self, conn: Any) -> bool | None:
        """Whether it is in autocommit mode, as far as the driver knows. No I/O."""
        status = self.status(conn)
        return None if status is None else bool(status & AUTOCOMMIT)

    def set_autocommit(self, conn: Any, value: bool) -> None:
        """Change the mode, so that the driver knows."""
        conn.autocommit(value)

    def settle(self, conn: Any) -> None:
        """See to it that no result is left unread. Raises `UnreadResult` if too much is."""

    def reset(self, conn: Any, snapshot: Snapshot) -> bool:
        """Reset the session on the server, and set what the connect arguments asked for, but for
        the database and the role. False: this driver or server cannot."""
        return False

    def address(self, conn: Any) -> str:
        """Where the server was reached."""
        raise NotImplementedError

    # -- what the user gave -----------------------------------------------------------------------

    @functools.cached_property
    def connection_class(self) -> Any:
        """The class of its connections."""
        place, _, name = self.connection_class_name.partition(":")
        return getattr(importlib.import_module(place), name)

    def parse_url(self, url: str) -> Target:
        """`mysql://user:password@host:3306/database?key=value`; the keys are those of `connect`, and
        with several hosts those of `hosts`. Raises `ValueError`."""
        if not self.module_name:
            raise urls.missing(url)
        parts = urls.parts_of(url, self.url_types)
        connect = getattr(self.module, "connect")  # noqa: B009  (unknown to mypy)
        own = {key: value for key, value in parts.query.items() if key not in hosts.TYPES}
        given = {**urls.login_of(parts), **self.url_arguments(own)}
        if not hosts.Hosts.are_meant(parts):
            return connect, (), given
        self._hosts = hosts.Hosts(parts)
        for name in ("host", "port"):
            given.pop(name, None)
        given.setdefault("connect_timeout", hosts.PATIENCE)
        return (
            functools.partial(self._connect_to_one, bare_connect(connect), self._hosts),
            (),
            given,
        )

    def url_arguments(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """What the query of a URL is in arguments of `connect`."""
        return dict(query)

    def connect_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """As they are; remembered for what a reset has to set again."""
        self._kwargs = dict(kwargs)
        self._standard = self._own and not args
        self._resets_well = self._standard or None
        return args, kwargs

    def check_settings(
        self, settings: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuses a pool of the driver's own within this one."""
        for name in ("pool_name", "pool_size"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{name}={kwargs[name]!r}: that asks the driver for a pool of its own; leave it"
                    " out, and set max_size"
                )

    def _is_ours(self, creator: Any) -> bool:
        root = self.module_name.partition(".")[0]
        return bool(root) and registry.root_module(creator) == root

    # -- one of several servers -------------------------------------------------------------------

    def open(self, conn: Any) -> None:
        """Connect what the driver's `connect` has left unconnected."""

    def _connect_to_one(self, connect: Connect, hosts_: Hosts, /, **kwargs: Any) -> Any:
        """A connection to the first that will do. A refusal that would be the same everywhere is raised
        at once, as libpq does it."""
        failures: list[str] = []
        full = False
        for address, wish in hosts_.candidates():
            try:
                conn = self._connect_to(connect, hosts_, address, wish, kwargs)
            except Unfit as exc:
                failures.append(f"{hosts.text_of(address)} {exc}")
            except Exception as exc:
                if not self.is_transient(exc):
                    raise
                full = full or self.is_server_full(exc)
                kind = f"{type(exc).__name__} {faults.code_of(exc) or ''}".rstrip()
                failures.append(f"{hosts.text_of(address)}: {kind}")
            else:
                hosts_.found(address)
                return conn
        raise self._nowhere(failures, full)

    def _connect_to(
        self, connect: Connect, hosts_: Hosts, address: Address, wish: str, kwargs: dict[str, Any]
    ) -> Any:
        host, port = address
        conn = connect(**kwargs, host=host, port=port or hosts.PORT)
        try:
            self.open(conn)
            objection = hosts_.objection(self.rows(conn, hosts.ROLE), wish)
            if objection is not None:
                raise Unfit(objection)
        except BaseException:
            with contextlib.suppress(Exception):
                self.close(conn)
            raise
        return conn

    def _nowhere(self, failures: Sequence[str], full: bool) -> Exception:
        kind = _nowhere_class(getattr(self.module, "OperationalError"))  # noqa: B009  (unknown to mypy)
        # Each but once: a host may have been tried for two reasons.
        error = kind(f"no server will do: {'; '.join(dict.fromkeys(failures))}")
        error.dbapi_pool_full = full
        return error  # type: ignore[no-any-return]

    # -- a connection's beginning and end ---------------------------------------------------------

    def connected(self, conn: Any) -> None:
        """Learns from the first connection what a new session is like."""
        if self._baseline is None:
            if not self._standard:
                self._variables = session.variables(self._rows_of(conn))
            self._baseline = Baseline.of(self._rows_of(conn))

    def _rows_of(self, conn: Any) -> session.Rows:
        return lambda sql: self.rows(conn, sql)

    def run_setup(self, conn: Any, statements: Sequence[str]) -> None:
        """Runs them and commits; their results are read, so that none is in the way."""
        for sql in statements:
            self.run(conn, sql)
        self.commit(conn)

    def is_alive(self, conn: Any) -> bool:
        """False if it is closed, or anything has come in: the end of the session, or what belongs to
        nobody. Any doubt is death."""
        try:
            if self.is_closed(conn):
                return False
            fd = self.descriptor(conn)
            return fd is None or sockets.is_quiet(fd)
        except Exception:
            return False

    def ping(self, conn: Any) -> None:
        """COM_PING: no statement, so no transaction. Where it matters which server it is, that is asked
        instead: it may have got another role."""
        if self._hosts is None or not self._hosts.choosy:
            conn.ping(**self.quiet_ping)
            return
        objection = self._hosts.objection_later(self.rows(conn, hosts.ROLE))
        if objection is not None:
            raise Unfit(objection)

    def interrupt(self, conn: Any) -> bool:
        """Cuts the socket; False for mysql-connector's C extension, which shows none."""
        try:
            fd = self.descriptor(conn)
            if fd is None:
                return False
            sockets.cut(fd)
        except Exception:  # it is closed, or being closed
            return False
        return True

    def cancel(self, conn: Any, session_id: Any) -> str | None:
        """KILL (https://mariadb.com/kb/en/kill/), which one may do to one's own sessions: a server does
        not notice before the end of most statements that nobody waits for them."""
        return f"KILL {int(session_id)}"

    def abandon_after_fork(self, conn: Any) -> None:
        """Leads its descriptor to the null device, since closing it, or mere garbage collection,
        would say goodbye to the server on the parent's behalf. Where there is none, keeps the
        connection from ever being finalized."""
        try:
            fd = self.descriptor(conn)
        except Exception:  # closed already
            return
        if fd is not None:
            sockets.lead_nowhere(fd)
            return
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(conn))

    # -- transactions -----------------------------------------------------------------------------

    def in_transaction(self, conn: Any) -> bool | None:
        """The server's flag in autocommit mode, else None.

        Outside autocommit mode every SELECT begins a transaction, of which the flag says nothing
        where the driver does not look at the end of a result, nor after an error. Raises
        `UnreadResult` for a result that is too long to be read to its end.
        """
        self.settle(conn)
        status = self.status(conn)
        if status is None or not self.autocommit(conn):
            return None
        return bool(status & IN_TRANSACTION)

    def begin(
        self, conn: Any, isolation: str | None, readonly: bool | None, options: Mapping[str, Any]
    ) -> None:
        """SET TRANSACTION ISOLATION LEVEL and START TRANSACTION, as far as needed: none in a mode
        without autocommit if nothing is asked, else one round trip for each.

        `isolation`: READ UNCOMMITTED, READ COMMITTED, REPEATABLE READ or SERIALIZABLE. `readonly`:
        READ ONLY or READ WRITE. Option `consistent_snapshot=True`. Raises `ValueError` for anything
        else. All of it ends with the transaction.
        """
        mode = self.autocommit(conn)
        for sql in session.beginning(mode is not False, isolation, readonly, options):
            self.run(conn, sql)

    # -- a clean session --------------------------------------------------------------------------

    def snapshot(self, conn: Any) -> Snapshot:
        """Every attribute of the connection but `volatile`, and the autocommit mode."""
        attributes = self._attributes(conn)
        contents = {
            name: value.copy() for name, value in attributes.items() if type(value) in _MUTABLE
        }
        return Snapshot(attributes, contents, self.autocommit(conn), self.session_id(conn))

    def _attributes(self, conn: Any) -> dict[str, Any]:
        found = {name: value for name, value in vars(conn).items() if name not in self.volatile}
        found.update((name, getattr(conn, name)) for name in self.slots if hasattr(conn, name))
        return found

    def restore(self, conn: Any, snapshot: Snapshot) -> None:
        """Puts attributes back, and with one round trip the autocommit mode, if they differ."""
        if snapshot.autocommit is not None and self.autocommit(conn) != snapshot.autocommit:
            self.set_autocommit(conn, snapshot.autocommit)
        self.restore_attributes(conn, snapshot)

    def restore_attributes(self, conn: Any, snapshot: Snapshot) -> None:
        """Puts attributes back, and takes away what was added. No I/O."""
        now = self._attributes(conn)
        for name in now.keys() - snapshot.attributes.keys():
            del vars(conn)[name]  # mysqlclient forbids delattr
        for name, value in snapshot.attributes.items():
            if now.get(name, snapshot) is not value:
                setattr(conn, name, value)
        for name, content in snapshot.contents.items():
            value = snapshot.attributes[name]
            if value != content:
                _refill(value, content)

    def reset_session(self, conn: Any, snapshot: Snapshot) -> bool:
        """COM_RESET_CONNECTION, then what it loses: character set, autocommit mode, sql_mode,
        time_zone and `init_command` of the connect arguments, database and role.

        False, so that the connection is replaced: if the session is not the one that it was, or
        another user's; if the server runs an `init_connect`, which is not repeated; if there was no
        database, and now there is one; where the server (before MySQL 5.7.3, MariaDB 10.2.4) or the
        driver cannot; and if a function made the connection that sets variables which a reset loses,
        as the first reset shows.
        """
        baseline = self._baseline
        if baseline is None or baseline.init_connect or self._resets_well is False:
            return False
        if self.session_id(conn) != snapshot.session:
            return False
        self.restore_attributes(conn, snapshot)  # what follows relies on them
        try:
            if not self.reset(conn, snapshot):
                return False
        except Exception as exc:
            if faults.code_of(exc) == faults.UNKNOWN_COMMAND:
                return False
            raise
        restored = baseline.restore(self._rows_of(conn), lambda sql: self.run(conn, sql))
        if restored and self._resets_well is None:
            self._resets_well = session.variables(self._rows_of(conn)) == self._variables
        return restored and self._resets_well is not False

    def set_up(
        self, conn: Any, snapshot: Snapshot, charset: str | None, collation: str | None
    ) -> None:
        """Repeat what the connect arguments asked for."""
        variables = {"sql_mode": self._kwargs.get("sql_mode")}
        sql = session.settings(charset, collation, snapshot.autocommit, variables)
        if sql:
            self.run(conn, sql)
        if self._kwargs.get("init_command"):
            self.run(conn, self._kwargs["init_command"])

    # -- what an error means ----------------------------------------------------------------------

    def is_disconnect(self, exc: BaseException, conn: Any) -> bool:
        """Whether the driver says that it is closed, or the error says that it is lost."""
        try:
            if self.is_closed(conn):
                return True
        except Exception:
            return True
        return faults.is_lost(exc)

    def is_failover(self, exc: BaseException, conn: Any) -> bool:
        """1290 because of a read-only option, 1836, and Galera's 1047. Not 1792, which a READ ONLY
        transaction of the borrower raises too."""
        return faults.is_read_only(exc)

    def is_server_wide(self, exc: BaseException) -> bool:
        """The server shuts down, or does not listen."""
        return faults.is_server_wide(exc)

    def is_transient(self, exc: BaseException) -> bool:
        """Refused, lost, or too many connections. A wrong password (1045), a database that is
        unknown or denied (1049, 1044), a host that is not allowed (1130), a certificate that does
        not verify are told at once."""
        return faults.is_transient(exc) or getattr(exc, "dbapi_pool_passes", False)

    def is_server_full(self, exc: BaseException) -> bool:
        """By its number."""
        return faults.code_of(exc) in faults.FULL or getattr(exc, "dbapi_pool_full", False)

    def is_retryable(self, exc: BaseException) -> bool:
        """Whether its number is one of `retryable`."""
        return faults.code_of(exc) in self.retryable

    def ends_transaction(self, exc: BaseException, conn: Any) -> bool:
        """A deadlock, and a row that changed under MariaDB's snapshot isolation. Not a lock wait
        timeout: the pool does not know of a server with `innodb_rollback_on_timeout`."""
        return faults.is_rolled_back(exc)

    # -- for people -------------------------------------------------------------------------------

    def server(self, conn: Any) -> Server:
        """What the server says of itself to any user; ends the transaction it may have begun."""
        try:
            return server.describe(self._rows_of(conn), self.address(conn))
        finally:
            if self.autocommit(conn) is not True:
                self.rollback(conn)


def _refill(value: Any, content: Any) -> None:
    value.clear()
    if isinstance(value, dict):
        value.update(content)
    else:
        value.extend(content)


@functools.cache
def _nowhere_class(kind: Any) -> Any:
    """The driver's error, of which is known that a later try may succeed."""
    return type(kind.__name__, (kind,), {"dbapi_pool_passes": True, "__module__": kind.__module__})
