"""What a MySQL or MariaDB server says about itself to any user: `describe`.

It must never know a driver: it speaks through a function that runs a query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbapi_pool.drivers.facts import Server

from .session import Rows

# https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html,
# https://mariadb.com/kb/en/server-system-variables/. A server has some of them.
_VARIABLES = (
    "extra_max_connections", "extra_port", "hostname", "idle_transaction_timeout",
    "innodb_lock_wait_timeout", "innodb_read_only", "max_connections",
    "max_execution_time", "max_statement_time", "max_user_connections",
    "read_only", "super_read_only", "version", "version_comment", "wait_timeout",
)  # fmt: skip
_STATUS = ("Ssl_cipher", "Ssl_version", "Threads_connected")

_POOLERS = {"proxysql": "ProxySQL", "maxscale": "MaxScale"}


def describe(rows: Rows, address: str) -> Server:
    """Four round trips, five with MariaDB; needs no privilege."""
    variables = _values(rows, "VARIABLES", _VARIABLES)
    status = _values(rows, "STATUS", _STATUS)
    version = variables.get("version", "")
    sessions = _whole(status, "Threads_connected")
    signature = f"{version} {variables.get('version_comment', '')}".lower()
    return Server(
        product="MariaDB" if "mariadb" in signature else "MySQL",
        version=version or None,
        address=address,
        tls=" ".join(filter(None, (status.get("Ssl_version"), status.get("Ssl_cipher")))),
        pooler=next((name for sign, name in _POOLERS.items() if sign in signature), None),
        read_only=_is_read_only(variables),
        max_connections=_whole(variables, "max_connections"),
        user_connections=_whole(variables, "max_user_connections"),
        extra_connections=_extra(variables),
        connections=sessions,
        connections_of_others=None if sessions is None else max(0, sessions - _own(rows)),
        cores=_cores(rows) if "mariadb" in signature else None,
        idle_timeout=_seconds(variables, "wait_timeout"),
        idle_in_transaction_timeout=_seconds(variables, "idle_transaction_timeout"),
        statement_timeout=_statement_timeout(variables),
        lock_timeout=_seconds(variables, "innodb_lock_wait_timeout"),
    )


def _values(rows: Rows, what: str, names: tuple[str, ...]) -> dict[str, str]:
    listed = ", ".join(f"'{name}'" for name in names)
    found = rows(f"SHOW SESSION {what} WHERE Variable_name IN ({listed})")
    return {_text(name): _text(value) for name, value in found}


def _own(rows: Rows) -> int:
    """This user's sessions, which anybody may list: those of others only who has PROCESS."""
    [[me]] = rows("SELECT USER()")
    name = _text(me).rpartition("@")[0]
    return sum(_text(user) == name for _, user, *_ in rows("SHOW PROCESSLIST"))


def _extra(variables: Mapping[str, str]) -> int:
    """One, for whoever may administrate connections; at MariaDB's extra port there are more:
    https://mariadb.com/kb/en/handling-too-many-connections/."""
    there = variables.get("extra_port", "0") != "0"
    return 1 + ((_whole(variables, "extra_max_connections") or 0) if there else 0)


def _cores(rows: Rows) -> int | None:
    """What MariaDB made as many thread groups of, unless it was told a number. MySQL does not tell."""
    found = rows(
        "SELECT GLOBAL_VALUE, GLOBAL_VALUE_ORIGIN FROM information_schema.SYSTEM_VARIABLES"
        " WHERE VARIABLE_NAME = 'THREAD_POOL_SIZE'"
    )
    values = [int(_text(value)) for value, origin in found if _text(origin) == "AUTO"]
    return values[0] if values else None


def _text(value: Any) -> str:
    return bytes(value).decode() if isinstance(value, (bytes, bytearray)) else str(value)


def _whole(values: Mapping[str, str], name: str) -> int | None:
    text = values.get(name, "")
    return int(text) if text.isdigit() else None


def _seconds(values: Mapping[str, str], name: str) -> float | None:
    return float(values[name]) if name in values else None


def _statement_timeout(variables: Mapping[str, str]) -> float | None:
    if "max_statement_time" in variables:  # MariaDB: seconds
        return float(variables["max_statement_time"])
    milliseconds = _seconds(variables, "max_execution_time")  # MySQL
    return None if milliseconds is None else milliseconds / 1000


def _is_read_only(variables: Mapping[str, str]) -> bool | None:
    switches = [
        variables[name]
        for name in ("read_only", "super_read_only", "innodb_read_only")
        if name in variables
    ]
    # MariaDB 12 has words for how much is refused.
    return any(value.upper() not in ("OFF", "0") for value in switches) if switches else None
