"""The MySQL and MariaDB plugin of dbapi_pool: PyMySQL, mysqlclient, mysql-connector-python and mariadb.

Importing this imports no driver: entry points are loaded in programs that use another database.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from dbapi_pool.drivers import Driver, hookimpl

if TYPE_CHECKING:
    from .driver import MySQLDriver
    from .with_connector import ConnectorDriver
    from .with_mariadb import MariaDBDriver
    from .with_mysqlclient import MySQLClientDriver
    from .with_pymysql import PyMySQLDriver

__all__ = [
    "ConnectorDriver",
    "MariaDBDriver",
    "MySQLClientDriver",
    "MySQLDriver",
    "PyMySQLDriver",
]

serves = ("pymysql", "MySQLdb", "mysql.connector", "mariadb")
"""The DB-API modules that it serves, for `dbapi-pool plugins`."""

_HOMES = {
    "ConnectorDriver": ".with_connector",
    "MariaDBDriver": ".with_mariadb",
    "MySQLClientDriver": ".with_mysqlclient",
    "MySQLDriver": ".driver",
    "PyMySQLDriver": ".with_pymysql",
}

_DRIVERS = {
    "pymysql": "PyMySQLDriver",
    "MySQLdb": "MySQLClientDriver",
    "mysql": "ConnectorDriver",
    "mariadb": "MariaDBDriver",
}
"""Root module to driver."""

_CONNECTIONS = {
    "pymysql": ("pymysql.connections", "Connection"),
    "MySQLdb": ("MySQLdb.connections", "Connection"),
    "mysql": ("mysql.connector.abstracts", "MySQLConnectionAbstract"),
    "mariadb": ("mariadb.connections", "Connection"),
}
"""Root module to where the class of all its connections is."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@hookimpl
def dbapi_pool_driver(creator: Any, root: str) -> Driver | None:
    """The driver for one of the four modules, its connect function, its connections' classes, and for
    `mysql:` and `mariadb:` URLs."""
    if isinstance(creator, str):
        return _for_url(root.lower())
    name = root if root in _DRIVERS else _root_of_connection_class(creator)
    if name is None or _is_asynchronous(creator):
        return None
    made: Driver = __getattr__(_DRIVERS[name])(creator=creator)
    return made


def _for_url(scheme: str) -> Driver | None:
    from .urls import SCHEMES, root_for

    if scheme not in SCHEMES:
        return None
    root = root_for(scheme)
    if root is None:
        return __getattr__("MySQLDriver")()  # type: ignore[no-any-return]  # its URLs say why not
    made: Driver = __getattr__(_DRIVERS[root])(creator=scheme)
    return made


def _root_of_connection_class(creator: Any) -> str | None:
    """For a class made elsewhere that derives from the connections of a driver."""
    if not isinstance(creator, type):
        return None
    for root, (place, name) in _CONNECTIONS.items():
        base = getattr(sys.modules.get(place), name, None)
        if base is not None and issubclass(creator, base):
            return root
    return None


def _is_asynchronous(creator: Any) -> bool:
    name = getattr(creator, "__module__", None) or getattr(creator, "__name__", "")
    return str(name).startswith("mysql.connector.aio")
