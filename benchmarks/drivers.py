"""What the pools under test pool: a fake driver that costs next to nothing, and real ones by name.

A `Fake` looks enough like PyMySQL, psycopg and mysql.connector for each pool's own code to run
unchanged. It must never know a pool.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import ModuleType
from typing import Any

IDLE, IN_TRANSACTION = 0, 2  # as libpq numbers them


class Cursor:
    """Runs nothing."""

    __slots__ = ("_conn",)
    rowcount = 1
    description = None

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def execute(self, sql: str, parameters: Any = ()) -> None:
        self._conn.begin()

    def fetchone(self) -> tuple[int]:
        return (1,)

    def fetchall(self) -> list[tuple[int]]:
        return [(1,)]

    def close(self) -> None:
        pass


class Connection:
    """Every method does as little as it can; transactions are tracked, since pools ask."""

    autocommit = False
    closed = False
    open = True
    pool_config_version: Any = None  # mysql.connector's pool writes it
    transaction_status = IDLE

    def __init__(self, driver: Fake) -> None:
        self._driver = driver

    @property
    def info(self) -> Connection:
        """Where psycopg2 keeps `transaction_status`."""
        return self

    pgconn = info
    """Where psycopg keeps it."""

    @property
    def in_transaction(self) -> bool:
        """As mysql.connector and sqlite3 tell it."""
        return self.transaction_status != IDLE

    def begin(self) -> None:
        self.transaction_status = IN_TRANSACTION

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        self.transaction_status = IDLE

    def rollback(self) -> None:
        self.transaction_status = IDLE

    def ping(self, reconnect: bool = False) -> None:
        pass

    def is_connected(self) -> bool:
        """mysql.connector's ping."""
        return True

    def reset_session(self) -> None:
        """mysql.connector's, which ends a transaction too."""
        self.transaction_status = IDLE

    def close(self) -> None:
        pass

    disconnect = close
    """mysql.connector's."""


class Observed(Connection):
    """Tells its driver of every round trip, each of which takes the driver's `round_trip`."""

    def _goes(self, what: str) -> None:
        self._driver.saw(what)

    def begin(self) -> None:
        self._goes("statement")
        super().begin()

    def commit(self) -> None:
        self._goes("commit")
        super().commit()

    def rollback(self) -> None:
        self._goes("rollback")
        super().rollback()

    def ping(self, reconnect: bool = False) -> None:
        self._goes("ping")

    def is_connected(self) -> bool:
        self._goes("ping")
        return True

    def reset_session(self) -> None:
        self._goes("session reset")
        super().reset_session()


class Fake:
    """A DB-API module in all but type. `observed`: its connections count, wait and hang."""

    apilevel = "2.0"
    threadsafety = 1
    paramstyle = "format"

    class Error(Exception):
        """PEP 249's; the others derive from it."""

    class InterfaceError(Error):
        pass

    class DatabaseError(Error):
        pass

    class OperationalError(DatabaseError):
        pass

    class InternalError(DatabaseError):
        pass

    class ProgrammingError(DatabaseError):
        pass

    class NotSupportedError(DatabaseError):
        pass

    class DataError(DatabaseError):
        pass

    class IntegrityError(DatabaseError):
        pass

    class Warning(Exception):
        pass

    def __init__(self, observed: bool = False) -> None:
        self.kind = Observed if observed else Connection
        self.connect_time = 0.0
        self.round_trip: dict[str, float] = {}
        """Seconds, by what is done; nothing takes no time."""
        self.hang: dict[str, threading.Event] = {}
        """What does not come back until the event is set."""
        self.seen: list[str] = []  # appended to by many threads; a `Counter` would lose some
        self.ready: list[Connection] = []
        """Made before: given out first."""

    creator = property(lambda self: self)
    """What a pool takes as the module that connects."""
    kwargs: dict[str, Any] = {}

    def connect(self) -> Connection:
        """A new connection, after `connect_time`."""
        if self.ready:
            return self.ready.pop()
        if self.kind is Observed:
            self.saw("connect")
        if self.connect_time:
            time.sleep(self.connect_time)
        return self.kind(self)

    def saw(self, what: str) -> None:
        """Count it, and take its time."""
        self.seen.append(what)
        if what in self.hang:
            self.hang[what].wait()
        if self.round_trip.get(what):
            time.sleep(self.round_trip[what])

    def counts(self) -> Counter[str]:
        """What was done so far."""
        return Counter(self.seen)


class Real:
    """A driver's module and the arguments of its `connect`."""

    def __init__(self, module: ModuleType, **kwargs: Any) -> None:
        self.creator = module
        self.kwargs = kwargs
        self.name = module.__name__

    def connect(self) -> Any:
        """A new connection."""
        return self.creator.connect(**self.kwargs)
