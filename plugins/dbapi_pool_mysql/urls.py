"""Database URLs of MySQL and MariaDB: which driver a scheme means, and what each driver's keys are.

It must never connect, nor import a driver but to see whether it is there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from dbapi_pool.drivers.urls import DatabaseURL, boolean, parse

from . import hosts

Types = Mapping[str, Callable[[str], Any]]

_ANY = ("pymysql", "MySQLdb", "mysql", "mariadb")

SCHEMES: dict[str, tuple[str, ...]] = {
    "mysql": _ANY,
    "mariadb": _ANY,
    **{
        f"{dialect}+{name}": (root,)
        for dialect in ("mysql", "mariadb")
        for name, root in {
            "pymysql": "pymysql",
            "mysqldb": "MySQLdb",
            "mysqlclient": "MySQLdb",
            "mysqlconnector": "mysql",
            "mariadbconnector": "mariadb",
            "mariadb": "mariadb",
        }.items()
    },
}
"""Scheme to the root modules that may serve it, the best first. The names behind the `+` are those of
SQLAlchemy's URLs, and those of the packages."""

_PACKAGES = {
    "pymysql": "PyMySQL",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
    "mariadb": "mariadb",
}


def root_for(scheme: str) -> str | None:
    """The root module that serves a scheme here: the first that is installed; None: none is."""
    return next((root for root in SCHEMES[scheme] if _is_installed(root)), None)


def _is_installed(root: str) -> bool:
    name = "mysql.connector" if root == "mysql" else root
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def missing(url: str) -> ValueError:
    """What to say about a URL for which no driver is installed."""
    scheme = url.partition(":")[0].lower()
    packages = [_PACKAGES[root] for root in SCHEMES.get(scheme, _ANY)]
    if len(packages) == 1:
        return ValueError(f"{scheme}:// needs the package {packages[0]}, which is not installed")
    return ValueError(
        f"{scheme}:// needs one of the packages {', '.join(packages)}, and none is installed;"
        " `pip install PyMySQL` is the simplest"
    )


def parts_of(url: str, types: Types) -> DatabaseURL:
    """The parts of a URL. Raises `ValueError`."""
    return parse(url, {**types, **hosts.TYPES})


def login_of(parts: DatabaseURL) -> dict[str, Any]:
    """Host, port, user, password and database, as all four drivers call them; what was not given is
    left to the driver."""
    given = {
        "host": parts.host,
        "port": parts.port,
        "user": parts.user,
        "password": parts.password,
        "database": parts.database,
    }
    return {name: value for name, value in given.items() if value}


def optional_boolean(value: str) -> bool | None:
    """As `boolean`, or `none`: the server's default."""
    return None if value.lower() == "none" else boolean(value)


def names(value: str) -> list[str]:
    """A list, written with commas."""
    return [name.strip() for name in value.split(",") if name.strip()]


_TLS_FILES = dict.fromkeys(("ssl_ca", "ssl_cert", "ssl_key"), str)
_VERIFY = dict.fromkeys(("ssl_verify_cert", "ssl_verify_identity", "ssl_disabled"), bool)
_COMMON: dict[str, Callable[[str], Any]] = {
    "autocommit": optional_boolean,
    "charset": str,
    "collation": str,
    "connect_timeout": int,
    "init_command": str,
    "read_timeout": int,
    "sql_mode": str,
    "unix_socket": str,
    "write_timeout": int,
    **_TLS_FILES,
}

PYMYSQL: Types = {
    **_COMMON,
    **_VERIFY,
    "bind_address": str,
    "client_flag": int,
    "connect_timeout": float,
    "local_infile": bool,
    "max_allowed_packet": int,
    "program_name": str,
    "read_default_file": str,
    "read_default_group": str,
    "read_timeout": float,
    "ssl_key_password": str,
    "use_unicode": bool,
    "write_timeout": float,
}
"""Keys of PyMySQL's URLs: https://pymysql.readthedocs.io/en/latest/modules/connections.html"""

MYSQLCLIENT: Types = {
    **_COMMON,
    **_VERIFY,
    "client_flag": int,
    "compress": bool,
    "local_infile": int,
    "multi_statements": bool,
    "read_default_file": str,
    "read_default_group": str,
    "ssl_capath": str,
    "ssl_cipher": str,
    "ssl_mode": str.upper,
    "use_unicode": bool,
}
"""Keys of mysqlclient's URLs: https://mysqlclient.readthedocs.io/user_guide.html"""

CONNECTOR: Types = {
    **_COMMON,
    **_VERIFY,
    "allow_local_infile": bool,
    "auth_plugin": str,
    "autocommit": bool,
    "buffered": bool,
    "compress": bool,
    "connection_timeout": int,
    "consume_results": bool,
    "force_ipv6": bool,
    "get_warnings": bool,
    "raise_on_warnings": bool,
    "raw": bool,
    "time_zone": str,
    "tls_versions": names,
    "use_pure": bool,
    "use_unicode": bool,
}
"""Keys of mysql-connector-python's URLs:
https://dev.mysql.com/doc/connector-python/en/connector-python-connectargs.html"""

MARIADB: Types = {
    **{
        key: kind
        for key, kind in _COMMON.items()
        if key not in ("charset", "collation", "sql_mode")
    },
    "autocommit": bool,
    "client_flag": int,
    "compress": bool,
    "default_file": str,
    "default_group": str,
    "local_infile": bool,
    "plugin_dir": str,
    "ssl": bool,
    "ssl_capath": str,
    "ssl_cipher": str,
    "ssl_crlpath": str,
    "ssl_verify_cert": bool,
    "tls_version": str,
}
"""Keys of mariadb's URLs: https://mariadb-corporation.github.io/mariadb-connector-python/module.html"""
