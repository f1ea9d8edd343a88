"""`PostgreSQLDriver`: what psycopg2 and psycopg have in common, since both speak through libpq.

It must never know the pool, nor import either of them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from dbapi_pool.drivers import urls
from dbapi_pool.drivers.base import Arguments, Driver, Target
from dbapi_pool.drivers.facts import Server
from dbapi_pool.errors import PoolError

from . import connection_string, facts, faults, wire
from .statements import POSTGRESQL

_MOST_READS = 1_000  # of 8 kB and more each

# In these an end of connecting may be set where nobody but libpq sees it.
_SET_ELSEWHERE = ("PGCONNECT_TIMEOUT", "PGSERVICE")

ENVIRONMENT = (
    "PGAPPNAME", "PGCHANNELBINDING", "PGCLIENTENCODING", "PGCONNECT_TIMEOUT", "PGDATABASE",
    "PGDATESTYLE", "PGGEQO", "PGGSSDELEGATION", "PGGSSENCMODE", "PGGSSLIB", "PGHOST", "PGHOSTADDR",
    "PGKRBSRVNAME", "PGLOADBALANCEHOSTS", "PGMAXPROTOCOLVERSION", "PGMINPROTOCOLVERSION", "PGOPTIONS",
    "PGPASSFILE", "PGPASSWORD", "PGPORT", "PGREQUIREAUTH", "PGREQUIREPEER", "PGREQUIRESSL",
    "PGSERVICE", "PGSERVICEFILE", "PGSSLCERT", "PGSSLCERTMODE", "PGSSLCOMPRESSION", "PGSSLCRL",
    "PGSSLCRLDIR", "PGSSLKEY", "PGSSLMAXPROTOCOLVERSION", "PGSSLMINPROTOCOLVERSION", "PGSSLMODE",
    "PGSSLNEGOTIATION", "PGSSLROOTCERT", "PGSSLSNI", "PGSYSCONFDIR", "PGTARGETSESSIONATTRS", "PGTZ",
    "PGUSER", "HOME",
)  # fmt: skip
"""https://www.postgresql.org/docs/current/libpq-envars.html; HOME has the files that it looks for."""

# https://www.postgresql.org/docs/current/transaction-iso.html
_LEVELS = ("SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED", "READ UNCOMMITTED")


class PostgreSQLDriver(Driver):
    """The common half of a driver for PostgreSQL."""

    dialect = POSTGRESQL
    system = "postgresql"

    retryable: frozenset[str] = faults.RETRYABLE
    """The SQLSTATEs after which `pool.run` tries again: serialization failure, deadlock, lock timeout.
    Change it in a subclass."""

    connect_timeout: int | None = 10
    """Seconds that connecting may take at most if nobody has set an end; as long as a checkout, if
    that is less, but 2 at least. (libpq waits for ever: a server that takes connections and never
    answers would keep every place of the pool, also when it is back.) None: as libpq does. Change it
    on a subclass, or an instance."""

    def __init__(self, module: ModuleType, creator: Any = None) -> None:
        """`creator`: what the user gave, if it was no URL."""
        super().__init__(module)
        self._creator = creator
        self._is_url = False
        self._added: dict[str, Any] = {}

    # -- what the user gave -----------------------------------------------------------------------

    def parse_url(self, url: str) -> Target:
        """The URL goes to libpq as it is, so several hosts, `service` and `options` work
        (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS)."""
        scheme, _, rest = urls.without_driver(url).partition(":")
        text = f"{scheme.lower()}:{rest}"
        connection_string.check(text, self.string_parser)
        self._is_url = True
        return self._connect, (text,), {}

    @property
    def _connect(self) -> Callable[..., Any]:
        connect: Callable[..., Any] = getattr(self.module, "connect")  # noqa: B009
        return connect

    def connect_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Adds `connect_timeout`, unless something else decides about that, or nobody may see it."""
        wanted = self.connect_timeout is not None and not self.faithful
        if wanted and self._waits_for_ever(args, kwargs):
            kwargs = self._added = {**kwargs, "connect_timeout": self.connect_timeout}
        return args, kwargs

    def _waits_for_ever(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether these arguments go to libpq, and set no end."""
        if not (self._is_url or self._is_own()) or any(map(os.environ.get, _SET_ELSEWHERE)):
            return False
        text = args[0] if args else kwargs.get(self.string_argument)
        try:
            given = {*kwargs, *(self.string_parser(text) if text else ())}
        except Exception:  # `check_settings` will say so
            return False
        return not given & {"connect_timeout", "service"}

    def _end_for(self, checkout_timeout: float | None) -> int:
        most = self.connect_timeout or 0
        return most if checkout_timeout is None else min(most, max(2, math.ceil(checkout_timeout)))

    def _is_own(self) -> bool:
        """Whether the creator is the driver itself, so that its arguments mean what they say."""
        return bool(getattr(self._creator, "connect", self._creator) == self._connect)

    def check_settings(
        self, settings: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Refuses a connection string that libpq cannot read: its own error would quote from it, and
        what it quotes may be the password. Also has connecting end with the checkout."""
        if self._added and kwargs is self._added:
            self._added["connect_timeout"] = self._end_for(settings.get("checkout_timeout"))
        if not self._is_own():
            return  # what its arguments mean is not known
        text = args[0] if args else kwargs.get(self.string_argument)
        if isinstance(text, str):
            connection_string.check(text, self.string_parser)

    def endpoint(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[str, int | None] | None:
        """Of a connection string too; not what a service or the environment says."""
        text = args[0] if args else kwargs.get(self.string_argument)
        try:
            parts = {**(self.string_parser(text) if isinstance(text, str) else {}), **kwargs}
        except Exception:  # not libpq's arguments
            return None
        port = str(parts.get("port") or "")
        named = {"host": parts.get("host"), "port": int(port) if port.isdecimal() else None}
        return None if "," in str(named["host"]) else super().endpoint((), named)

    string_argument = ""
    """What `connect` calls its first argument."""

    def string_parser(self, text: str) -> Mapping[str, Any]:
        """A connection string taken apart by libpq. Raises the driver's error."""
        raise NotImplementedError

    # -- a connection's life ----------------------------------------------------------------------

    def is_quiet(self, conn: Any) -> bool:
        """Whether the kernel knows nothing of an idle connection, or nothing but notifications, which
        are then taken in."""
        for _ in range(_MOST_READS):
            if not wire.readable(conn.fileno()):
                return True
            if not self.takes_in_notifications(conn):
                break
        # The server's last words were taken in, and its end of file may not be here yet: whoever asks
        # again must get the same answer.
        self.interrupt(conn)
        return False

    def takes_in_notifications(self, conn: Any) -> bool:
        """Take in some of what the server sent to an idle connection: False if it was something else
        than notifications, or parts of them. The server's last words come as a notice."""
        raise NotImplementedError

    def interrupt(self, conn: Any) -> bool:
        """Cuts the connection: a call that waits for the server fails at once. The session is lost."""
        try:
            wire.cut(conn.fileno())
        except Exception:  # closed already
            return False
        return True

    def cancel(self, conn: Any, session_id: Any) -> str | None:
        """Sends a cancel request
        (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS): a
        server does not notice before the end of a statement that nobody waits for it."""
        conn.cancel()
        return None

    # -- transactions -----------------------------------------------------------------------------

    def commit(self, conn: Any) -> None:
        """Raises `InFailedSqlTransaction` for a transaction that has failed, and rolls it back: a
        server does that with COMMIT too, without an error
        (https://www.postgresql.org/docs/current/sql-commit.html), and no driver tells."""
        if self.has_failed(conn):
            self.rollback(conn)
            raise self.lost_transaction()
        self.commit_whole(conn)

    def has_failed(self, conn: Any) -> bool:
        """Whether the transaction failed, so that it can only be rolled back."""
        raise NotImplementedError

    def commit_whole(self, conn: Any) -> None:
        """As `commit`, for one that has not failed."""
        super().commit(conn)

    def lost_transaction(self) -> Exception:
        """The error for a commit that committed nothing."""
        error: Exception = getattr(self.module, "errors").InFailedSqlTransaction(  # noqa: B009
            "nothing was committed: a statement of this transaction had failed before, so it was"
            " rolled back"
        )
        return error

    def begin(
        self, conn: Any, isolation: str | None, readonly: bool | None, options: Mapping[str, Any]
    ) -> None:
        """The transaction begins with the first statement, and costs no further round trip.

        `isolation`: SERIALIZABLE, REPEATABLE READ, READ COMMITTED or READ UNCOMMITTED
        (https://www.postgresql.org/docs/current/transaction-iso.html). `readonly`, and the option
        `deferrable`: True or False (https://www.postgresql.org/docs/current/sql-set-transaction.html).
        What is None stays as the connection has it. In autocommit mode that is off until the
        connection comes back. Raises `ValueError` for anything else.
        """
        unknown = sorted(set(options) - {"deferrable"})
        if unknown:
            raise ValueError(
                f"transaction({unknown[0]}=...): PostgreSQL knows only the option 'deferrable'"
            )
        level = _level(isolation)
        _check_switch("readonly", readonly)
        deferrable = options.get("deferrable")
        _check_switch("deferrable", deferrable)
        self.begin_with(conn, level, readonly, deferrable)

    def begin_with(
        self, conn: Any, level: str | None, readonly: bool | None, deferrable: bool | None
    ) -> None:
        """As `begin`, with arguments that were checked; `level` in capitals."""
        raise NotImplementedError

    # -- what an error means ----------------------------------------------------------------------

    def is_disconnect(self, exc: BaseException, conn: Any) -> bool:
        """By what the connection says of itself, else by what the server said, else by the text."""
        if conn.closed:
            return True
        if isinstance(exc, PoolError) or not isinstance(exc, self._error("Error")):
            return False
        return faults.ended_session(exc) or faults.says_lost(exc)

    def is_failover(self, exc: BaseException, conn: Any) -> bool:
        """Whether a statement was refused because the server is a standby; not if the transaction was
        asked to be read-only. From PostgreSQL 14 on, which reports it without being asked
        (https://www.postgresql.org/docs/current/libpq-status.html#LIBPQ-PQPARAMETERSTATUS)."""
        if faults.code_of(exc) != faults.READ_ONLY or self.is_read_only_by_wish(conn):
            return False
        return bool(conn.info.parameter_status("in_hot_standby") == "on")

    def is_read_only_by_wish(self, conn: Any) -> bool:
        """Whether the connection's own attribute makes its transactions read-only."""
        raise NotImplementedError

    def is_server_wide(self, exc: BaseException) -> bool:
        """Shutdown, crash, starting up, or nobody listens."""
        return isinstance(exc, self._error("Error")) and faults.is_server_wide(exc)

    def is_transient(self, exc: BaseException) -> bool:
        """Nobody listens, starting up, full, or silent; but no wrong password, unknown database, or
        bad argument."""
        if isinstance(exc, self._error("OperationalError")):
            return faults.is_passing(exc)
        return super().is_transient(exc)

    def is_server_full(self, exc: BaseException) -> bool:
        """By its words: an error of connecting has no SQLSTATE that drivers show."""
        return isinstance(exc, self._error("OperationalError")) and faults.is_full(exc)

    def is_retryable(self, exc: BaseException) -> bool:
        """By the SQLSTATE: see `retryable`."""
        return faults.code_of(exc) in self.retryable

    def _error(self, name: str) -> type[BaseException]:
        error: type[BaseException] = getattr(self.module, name)
        return error

    # -- for people -------------------------------------------------------------------------------

    def server(self, conn: Any) -> Server:
        """Two queries, which any user may run; they leave no transaction open."""
        info = conn.info
        address = info.host if info.host.startswith("/") else f"{info.host}:{info.port}"
        return facts.server(
            lambda sql: self.rows(conn, sql), address, info.backend_pid, self.is_encrypted(conn)
        )

    def pooling(self, conn: Any, other: Any) -> str | None:
        """By the process ids of the sessions that the two get, and whether they get a transaction."""
        if not self.is_pooled(conn):
            return None
        if not facts.share_sessions(lambda: self._session(conn), lambda: self._session(other)):
            return "session"
        return "transaction" if self._lets_begin(other) else "statement"

    def is_pooled(self, conn: Any) -> bool:
        """Whether a pooler stands between: the session is another process than the one that was told
        of when connecting. One round trip."""
        return bool(self._session(conn) != conn.info.backend_pid)

    def _session(self, conn: Any) -> Any:
        return self.rows(conn, facts.SESSION)[0][0]

    def _lets_begin(self, conn: Any) -> bool:
        self.begin(conn, None, None, {})
        cursor = conn.cursor()
        try:
            cursor.execute("SELECT 1")
        except self._error("Error") as exc:
            if not self.is_disconnect(exc, conn):
                raise
            return False
        self.rollback(conn)
        return True

    def rows(self, conn: Any, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query, as tuples; outside a transaction if there is none."""
        raise NotImplementedError

    def is_encrypted(self, conn: Any) -> bool:
        """Whether the connection is encrypted, as far as the client knows."""
        raise NotImplementedError


def _level(isolation: Any) -> str | None:
    if isolation is None:
        return None
    if not isinstance(isolation, str) or isolation.upper() not in _LEVELS:
        raise ValueError(
            f"transaction(isolation={isolation!r}): must be one of {', '.join(_LEVELS)}"
        )
    return isolation.upper()


def _check_switch(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"transaction({name}={value!r}): must be True, False or None")
