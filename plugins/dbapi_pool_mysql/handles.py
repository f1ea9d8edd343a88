"""What a borrower holds for these drivers: a `PooledConnection` that never reconnects in place.

A reconnect gives another session: a transaction, variables and temporary tables are gone without an
error. So asking for one is refused; borrowing anew is how a pool reconnects. Programs that know of no
pool hold one that reconnects as the driver's own does (`Bare...`); it is closed when it comes back.
Knows the pool only by its driver.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

from dbapi_pool.handles import FencedCall, PooledConnection, is_returned


class MySQLHandle(PooledConnection):
    """What borrowed connections have in common."""

    __slots__ = ()

    def ping(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's, but it never reconnects, whatever the arguments say: raises instead."""
        return FencedCall(self, "ping", True)(**self._lease.pool.driver.quiet_ping)


class _CallableAutocommit(PooledConnection):
    """For drivers with a method `autocommit` (PyMySQL, mysqlclient)."""

    __slots__ = ()

    def autocommit(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        call = FencedCall(self, "autocommit", True)
        self._lease.pool.begin_work(self._lease.member).attributes = True
        return call(*args, **kwargs)


class CallableAutocommitHandle(_CallableAutocommit, MySQLHandle):
    """A borrowed connection of mysqlclient."""

    __slots__ = ()


class _Reconnecting(MySQLHandle):
    """For drivers that can be told to connect again."""

    __slots__ = ()

    def connect(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises the driver's `NotSupportedError`."""
        _refuse(self, "connect")

    def reconnect(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises the driver's `NotSupportedError`."""
        _refuse(self, "reconnect")


class PyMySQLHandle(CallableAutocommitHandle, _Reconnecting):
    """A borrowed connection of PyMySQL."""

    __slots__ = ()


class _Properties(PooledConnection):
    """For drivers where writing some attributes sends SQL (mysql-connector, mariadb)."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("database", "sql_mode", "time_zone"):
            setattr(self.driver_connection, name, value)  # a full reset follows on return
        else:
            super().__setattr__(name, value)


class PropertiesHandle(_Properties, _Reconnecting):
    """A borrowed connection of mysql-connector or mariadb."""

    __slots__ = ()


def _refuse(handle: PooledConnection, name: str) -> NoReturn:
    errors = handle._lease.pool.driver.module
    raise errors.NotSupportedError(
        f"{name}(): a borrowed connection does not reconnect, since its transaction and session would"
        " be lost without an error; give it back and borrow another with pool.connection()"
    )


# -- as the drivers' own ---------------------------------------------------------------------------


class _Bare(PooledConnection):
    """What connections that do as the driver's own have in common."""

    __slots__ = ()

    _reopen: Callable[[], None]
    _refuse_second_close: Callable[[], None]

    def ping(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's, which may reconnect."""
        return self._may_reconnect("ping", args, kwargs)

    def _may_reconnect(self, name: str, args: Any, kwargs: Any) -> Any:
        lease = self._lease
        driver, member = lease.pool.driver, lease.member
        before = driver.session_id(member.conn)
        try:
            return FencedCall(self, name, True)(*args, **kwargs)
        finally:
            if driver.session_id(member.conn) != before:
                lease.pool.begin_work(member).unseen()

    def _open_again(self, name: str, args: Any, kwargs: Any) -> Any:
        """A call that opens also what was closed."""
        return self._reopen() if is_returned(self) else self._may_reconnect(name, args, kwargs)


class _BareReconnecting(_Bare):
    """For drivers that can be told to connect again, also after `close()`."""

    __slots__ = ()

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's; after `close()` it borrows again."""
        return self._open_again("connect", args, kwargs)

    def reconnect(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's; after `close()` it borrows again."""
        return self._open_again("reconnect", args, kwargs)

    def ping(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's; after `close()` it borrows again, if it is told to reconnect."""
        if is_returned(self) and _means_to_reconnect(self._connection_class, args, kwargs):
            return self._reopen()
        return self._may_reconnect("ping", args, kwargs)


def _means_to_reconnect(kind: Any, args: Any, kwargs: Any) -> bool:
    call = inspect.signature(kind.ping).bind(None, *args, **kwargs)
    call.apply_defaults()
    return bool(call.arguments.get("reconnect"))


class BareMySQLClientHandle(_CallableAutocommit, _Bare):
    """A connection of mysqlclient that does as the driver's own."""

    __slots__ = ()

    @property
    def open(self) -> int:
        """As the driver's: 1 or 0."""
        return 0 if is_returned(self) else int(self._lease.member.conn.open)

    @property
    def closed(self) -> int:
        """As the driver's: 0 or 1."""
        return 1 - self.open


class BarePyMySQLHandle(_CallableAutocommit, _BareReconnecting):
    """A connection of PyMySQL that does as the driver's own."""

    __slots__ = ()

    def ping(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's; after `close()` it borrows again, if it is told to reconnect."""
        if is_returned(self) and not _means_to_reconnect(self._connection_class, args, kwargs):
            self._refuse_second_close()  # it has the same words
        return super().ping(*args, **kwargs)


class BareConnectorHandle(_Properties, _BareReconnecting):
    """A connection of mysql-connector that does as the driver's own."""

    __slots__ = ()

    def is_connected(self) -> bool:
        """As the driver's."""
        return not is_returned(self) and FencedCall(self, "is_connected", True)()

    def is_closed(self) -> bool:
        """As the driver's."""
        return is_returned(self) or FencedCall(self, "is_closed", True)()


class BareMariaDBHandle(_Properties, _Bare):
    """A connection of mariadb that does as the driver's own."""

    __slots__ = ()

    def reconnect(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        return self._may_reconnect("reconnect", args, kwargs)
