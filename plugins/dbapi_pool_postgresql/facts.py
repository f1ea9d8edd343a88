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

# backend_type is NULL for the sessions of others, unless one is a member of pg_read_all_stats. The
# limits of roles and databases do not hold for superusers:
# https://www.postgresql.org/docs/current/sql-createrole.html, sql-createdatabase.html (same place).
_FACTS = """
SELECT pg_catalog.version(), pg_catalog.pg_backend_pid(),
    pg_catalog.current_setting('transaction_read_only') = 'on',
    CASE WHEN me.rolsuper THEN 0 ELSE me.rolconnlimit END,
    CASE WHEN me.rolsuper THEN 0 ELSE here.datconnlimit END,
    now.sessions, now.of_others, now.of_others_here,
    (SELECT concat_ws(', ', version, cipher) FROM pg_catalog.pg_stat_ssl
     WHERE pid = pg_catalog.pg_backend_pid() AND ssl)
FROM (SELECT count(*) AS sessions,
        count(*) FILTER (WHERE usename <> session_user) AS of_others,
        count(*) FILTER (WHERE usename <> session_user AND datname = current_database())
            AS of_others_here
      FROM pg_catalog.pg_stat_activity
      WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend') AS now
    LEFT JOIN pg_catalog.pg_roles AS me ON me.rolname = session_user
    LEFT JOIN pg_catalog.pg_database AS here ON here.datname = current_database()
"""

SESSION = "SELECT pg_catalog.pg_backend_pid()"
"""A query for the process that serves a session."""

_ROUNDS = 10

_LARGEST_PROCESS_ID = 1 << 22  # https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html


def is_made_up(pid: int) -> bool:
    """Whether what a client was told when it connected is no server's process: PgBouncer tells it 31 or
    32 bits at random. One in 500 of those is not seen."""
    return not 0 < pid <= _LARGEST_PROCESS_ID


def share_sessions(ask: Callable[[], Any], ask_other: Callable[[], Any]) -> bool:
    """Whether a pooler lets clients that stay connected share sessions: one in the other's, or in more
    than one. `ask`, `ask_other`: which session a client is in now.

    True is certain. In a pooler that gives away the session that was used last, as PgBouncer does, it
    shows at once where nobody else is; where others are, ids change.
    """
    seen: set[Any] = set()
    seen_by_other: set[Any] = set()
    for _ in range(_ROUNDS):
        seen.add(ask())
        seen_by_other.add(ask_other())
        if len(seen) > 1 or len(seen_by_other) > 1 or seen & seen_by_other:
            return True
    return False


def server(rows: Rows, address: str, pid: int, encrypted: bool) -> Server:
    """`rows` runs a query; `address`, `pid` and `encrypted`: what the client knows. Two round trips.

    A process id that is not the client's means that a pooler stands between.
    """
    settings: dict[str, str] = dict(rows(_SETTINGS))
    version, server_pid, read_only, of_user, of_database, *sessions, tls = rows(_FACTS)[0]
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
        user_connections=_limit(of_user),
        database_connections=_limit(of_database),
        connections=sessions[0],
        connections_of_others=sessions[1],
        others_in_database=sessions[2],
        idle_timeout=_seconds(settings, "idle_session_timeout"),
        idle_in_transaction_timeout=_seconds(settings, "idle_in_transaction_session_timeout"),
        statement_timeout=_seconds(settings, "statement_timeout"),
        lock_timeout=_seconds(settings, "lock_timeout"),
    )


def _limit(told: int | None) -> int | None:
    return None if told is None else max(told, 0)  # -1 is "no limit"


def _number(settings: dict[str, str], name: str) -> int | None:
    return int(settings[name]) if name in settings else None


def _seconds(settings: dict[str, str], name: str) -> float | None:
    return int(settings[name]) / 1000 if name in settings else None  # its unit is ms
