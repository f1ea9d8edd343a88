"""What a PostgreSQL server says about itself, as `Server`. Must never know a driver: it gets a function
that runs a query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbapi_pool.drivers.facts import Server

Rows = Callable[[str], list[tuple[Any, ...]]]

# Readable by anybody. https://www.postgresql.org/docs/current/view-pg-settings.html
_SETTINGS = """
SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN (
    'max_connections', 'superuser_reserved_connections', 'reserved_connections',
    'idle_session_timeout', 'idle_in_transaction_session_timeout', 'statement_timeout',
    'lock_timeout', 'server_version')
"""

# backend_type is NULL for the sessions of others, unless one is a member of pg_read_all_stats.
_FACTS = """
SELECT pg_catalog.version(), pg_catalog.pg_backend_pid(),
    pg_catalog.current_setting('transaction_read_only') = 'on',
    (SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = session_user),
    (SELECT count(*) FROM pg_catalog.pg_stat_activity
     WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'),
    (SELECT concat_ws(', ', version, cipher) FROM pg_catalog.pg_stat_ssl
     WHERE pid = pg_catalog.pg_backend_pid() AND ssl)
"""


def server(rows: Rows, address: str, pid: int, encrypted: bool) -> Server:
    """`rows` runs a query; `address`, `pid` and `encrypted`: what the client knows. Two round trips.

    A process id that is not the client's means that a pooler stands between.
    """
    settings: dict[str, str] = dict(rows(_SETTINGS))
    version, server_pid, read_only, limit, sessions, tls = rows(_FACTS)[0]
    pooled = server_pid != pid
    return Server(
        product=version.split()[0],
        version=settings.get("server_version"),
        address=address,
        tls=(("" if pooled else tls) or "TLS") if encrypted else "",
        pooler="PgBouncer, or one like it" if pooled else None,
        read_only=read_only,
        max_connections=_number(settings, "max_connections"),
        reserved_connections=(_number(settings, "superuser_reserved_connections") or 0)
        + (_number(settings, "reserved_connections") or 0),
        user_connections=None if limit is None else max(limit, 0),
        connections=sessions,
        idle_timeout=_seconds(settings, "idle_session_timeout"),
        idle_in_transaction_timeout=_seconds(settings, "idle_in_transaction_session_timeout"),
        statement_timeout=_seconds(settings, "statement_timeout"),
        lock_timeout=_seconds(settings, "lock_timeout"),
    )


def _number(settings: dict[str, str], name: str) -> int | None:
    return int(settings[name]) if name in settings else None


def _seconds(settings: dict[str, str], name: str) -> float | None:
    return int(settings[name]) / 1000 if name in settings else None  # its unit is ms
