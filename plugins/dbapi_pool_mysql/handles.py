"""What a borrower holds for these drivers: a `PooledConnection` that never reconnects in place.

A reconnect gives another session: a transaction, variables and temporary tables are gone without an
error. So asking for one is refused; borrowing anew is how a pool reconnects. Knows the pool only by
its driver.
"""

from __future__ import annotations

from typing import Any, NoReturn

from dbapi_pool.handles import FencedCall, PooledConnection


class MySQLHandle(PooledConnection):
    """A borrowed connection of mysqlclient, and what the others have in common."""

    __slots__ = ()

    def ping(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's, but it never reconnects, whatever the arguments say: raises instead."""
        return FencedCall(self, "ping", True)(**self._lease.pool.driver.quiet_ping)


class CallableAutocommitHandle(MySQLHandle):
    """For drivers with a method `autocommit` (PyMySQL, mysqlclient)."""

    __slots__ = ()

    def autocommit(self, *args: Any, **kwargs: Any) -> Any:
        """As the driver's."""
        call = FencedCall(self, "autocommit", True)
        self._lease.pool.begin_work(self._lease.member).attributes = True
        return call(*args, **kwargs)


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


class PropertiesHandle(_Reconnecting):
    """A borrowed connection of mysql-connector or mariadb, where writing some attributes sends SQL."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("database", "sql_mode", "time_zone"):
            setattr(self.driver_connection, name, value)  # a full reset follows on return
        else:
            super().__setattr__(name, value)


def _refuse(handle: PooledConnection, name: str) -> NoReturn:
    errors = handle._lease.pool.driver.module
    raise errors.NotSupportedError(
        f"{name}(): a borrowed connection does not reconnect, since its transaction and session would"
        " be lost without an error; give it back and borrow another with pool.connection()"
    )
