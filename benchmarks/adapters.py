"""The pools, each as its users use it, behind one face: `borrow()` and `give_back(conn)`.

Loops are written out for each way of giving back, so that no adapter's call is in the figures.
Settings are each pool's defaults but for size and timeout. What must be reached into is said where
it is done, and it is never done while something is measured.
"""

from __future__ import annotations

import importlib
import operator
import queue
import threading
from collections import deque
from collections.abc import Callable
from importlib import util
from types import SimpleNamespace
from typing import Any

from .drivers import Real

SELECT = "SELECT 1"


class Adapter:
    """One pool of at most `size` connections of `driver` (`drivers.Fake` or `drivers.Real`)."""

    name = ""
    needs: tuple[str, ...] = ()
    """Modules without which it cannot be measured."""
    waits = True
    """Whether a borrower waits when all are lent; else it needs a semaphore in front."""
    wraps = False
    """Whether its borrowers get something of its own instead of the driver's connection."""
    grows = True
    """Whether it opens connections when they are needed, not all at once in the beginning."""
    drivers: tuple[str, ...] | None = None
    """The drivers that it is for; None: any."""
    largest = 1000
    """The most connections that it takes."""
    ends_transactions = True
    """Whether a transaction that was left open is its affair; else the borrower rolls back."""
    autocommits = False
    """Whether it puts connections into autocommit mode, so that transactions are begun by hand."""
    ours = False
    floor = False
    """Whether it is no pool but what one is measured against."""
    variant = False
    """Whether it is another one with a setting that is not the default: only in some tables."""

    borrow: Callable[[], Any]
    give_back: Callable[[Any], Any]

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        raise NotImplementedError

    @classmethod
    def lends_to_many(cls) -> bool:
        """Whether it can be compared where threads wait."""
        return not cls.variant and (cls.waits or not cls.floor)

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be measured here."""
        absent = [name for name in cls.needs if not _is_installed(name)]
        return f"not installed: {', '.join(absent)}" if absent else None

    @classmethod
    def takes(cls, driver: str) -> bool:
        """Whether it can pool this driver's connections."""
        return cls.drivers is None or driver in cls.drivers

    def warm(self, count: int) -> None:
        """Have `count` connections open and idle."""
        conns = [self.borrow() for _ in range(count)]
        for conn in conns:
            self.give_back(conn)

    def close(self) -> None:
        """Close what is idle."""

    def cycles(self, n: int) -> None:
        """Borrow and give back `n` times."""
        raise NotImplementedError

    def statements(self, n: int) -> None:
        """The same, with one statement each that leaves a transaction open."""
        raise NotImplementedError


def _is_installed(name: str) -> bool:
    try:
        return util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package of `package.module`
        return False


class Closing(Adapter):
    """Given back by `conn.close()`."""

    give_back = staticmethod(operator.methodcaller("close"))

    def cycles(self, n: int) -> None:
        borrow = self.borrow
        for _ in range(n):
            conn = borrow()
            conn.close()

    def statements(self, n: int) -> None:
        borrow = self.borrow
        for _ in range(n):
            conn = borrow()
            cursor = conn.cursor()
            cursor.execute(SELECT)
            cursor.fetchone()
            cursor.close()
            conn.close()


class Putting(Adapter):
    """Given back by `pool.put(conn)`."""

    def cycles(self, n: int) -> None:
        borrow, give_back = self.borrow, self.give_back
        for _ in range(n):
            conn = borrow()
            give_back(conn)

    def statements(self, n: int) -> None:
        borrow, give_back = self.borrow, self.give_back
        ends = self.ends_transactions
        for _ in range(n):
            conn = borrow()
            cursor = conn.cursor()
            cursor.execute(SELECT)
            cursor.fetchone()
            cursor.close()
            if not ends:
                conn.rollback()
            give_back(conn)


# -- ours ------------------------------------------------------------------------------------------


class OurPool(Closing):
    """`dbapi_pool.Pool`."""

    name = "dbapi_pool Pool"
    wraps = ours = True

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        from dbapi_pool import Pool

        self.pool = Pool(
            driver.creator,
            max_size=size,
            checkout_timeout=timeout,
            **self.settings(),
            **driver.kwargs,
        )
        self.borrow = self.pool.connection

    def settings(self) -> dict[str, Any]:
        """Other than the defaults."""
        return {}

    def close(self) -> None:
        self.pool.close(timeout=0)


class OurPoolPinging(OurPool):
    """The same with `ping_after=0`: a ping at every checkout."""

    name = "dbapi_pool Pool, ping_after=0"
    variant = True

    def settings(self) -> dict[str, Any]:
        return {"ping_after": 0}


class OurPooledDB(Closing):
    """`dbapi_pool.dropin.dbutils.PooledDB`."""

    name = "dbapi_pool PooledDB"
    wraps = ours = True

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        from dbapi_pool.dropin.dbutils import PooledDB

        self.pool = PooledDB(
            creator=driver.creator, maxconnections=size, blocking=True, **driver.kwargs
        )
        self.borrow = self.pool.connection

    def close(self) -> None:
        self.pool.close()


# -- peers -----------------------------------------------------------------------------------------


class DBUtils(Closing):
    """https://webwareforpython.github.io/dbutils/."""

    name = "DBUtils"
    needs = ("dbutils",)
    wraps = True
    ping: dict[str, Any] = {}

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        from dbutils.pooled_db import PooledDB

        self.pool = PooledDB(
            driver.creator, maxconnections=size, blocking=True, **self.ping, **driver.kwargs
        )
        self.borrow = self.pool.connection

    def close(self) -> None:
        self.pool.close()


class DBUtilsWithoutPing(DBUtils):
    """With the ping at each checkout switched off."""

    name = "DBUtils, ping=0"
    variant = True
    ping = {"ping": 0}


class SQLAlchemy(Closing):
    """https://docs.sqlalchemy.org/en/latest/core/pooling.html, used by itself."""

    name = "SQLAlchemy QueuePool"
    needs = ("sqlalchemy",)
    wraps = True

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        from sqlalchemy.pool import QueuePool

        self.pool = QueuePool(driver.connect, pool_size=size, max_overflow=0, timeout=timeout)
        self.borrow = self.pool.connect

    def close(self) -> None:
        self.pool.dispose()


class Psycopg2Pool(Putting):
    """https://www.psycopg.org/docs/pool.html."""

    name = "psycopg2.pool"
    needs = ("psycopg2",)
    drivers = ("fake", "psycopg2")
    waits = False

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        # Its `_connect` looks `connect` up in this name.
        from psycopg2 import pool as module

        class FromDriver(module.ThreadedConnectionPool):  # type: ignore[misc]
            def _connect(self, key: Any = None) -> Any:
                conn = driver.connect()
                self._used[key] = conn
                self._rused[id(conn)] = key
                return conn

        self.pool = FromDriver(0, size)
        # What is above `minconn` is closed on return, so it must be the size; set here, it opens
        # nothing yet.
        self.pool.minconn = size
        self.borrow = self.pool.getconn
        self.give_back = self.pool.putconn

    def close(self) -> None:
        self.pool.closeall()


class PsycopgPool(Putting):
    """https://www.psycopg.org/psycopg3/docs/advanced/pool.html, by its cheaper way."""

    name = "psycopg_pool"
    needs = ("psycopg_pool", "psycopg")
    drivers = ("fake", "psycopg")
    ends_transactions = False  # it does roll back, but logs a warning each time

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        from psycopg_pool import ConnectionPool

        source = SimpleNamespace(connect=lambda conninfo, **kwargs: driver.connect())
        self.pool = ConnectionPool(
            "", connection_class=source, min_size=0, max_size=size, timeout=timeout, open=True
        )
        self.borrow = self.pool.getconn
        self.give_back = self.pool.putconn

    def close(self) -> None:
        self.pool.close()


class MySQLConnectorPool(Closing):
    """https://dev.mysql.com/doc/connector-python/en/connector-python-connection-pooling.html."""

    name = "mysql.connector pool"
    needs = ("mysql.connector",)
    drivers = ("fake", "mysql.connector")
    waits = grows = False
    wraps = True
    largest = 32

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        from mysql.connector import pooling

        first = driver.connect()
        # It takes connections of its own class only; of exactly that class, the check is quick.
        self.pooling, self.classes = pooling, pooling.MYSQL_CNX_CLASS
        pooling.MYSQL_CNX_CLASS = type(first)
        self.pool = pooling.MySQLConnectionPool(pool_size=size, pool_name="benchmarks")
        self.pool._cnx_config = {"given": "connections"}
        for number in range(size):
            conn = driver.connect() if number else first
            conn.pool_config_version = self.pool._config_version
            self.pool.add_connection(conn)
        self.borrow = self.pool.get_connection

    def close(self) -> None:
        self.pool._remove_connections()
        self.pooling.MYSQL_CNX_CLASS = self.classes


class Peewee(Putting):
    """https://docs.peewee-orm.com/en/latest/peewee/playhouse.html#pool: a connection per thread."""

    name = "peewee pool"
    needs = ("playhouse.pool",)

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        import peewee
        from playhouse import pool as module

        of_postgresql = getattr(driver, "name", "") == "psycopg2"
        pooled = module._PooledPostgresqlDatabase if of_postgresql else module._PooledMySQLDatabase

        class Raw(peewee.Database):  # type: ignore[misc]
            # peewee's own databases take no connect function.
            _adapter = peewee.Psycopg2Adapter() if of_postgresql else None

            def _connect(self) -> Any:
                conn = driver.connect()
                if isinstance(driver, Real):  # as peewee's own do
                    _set_autocommit(conn)
                return conn

        self.autocommits = isinstance(driver, Real)
        database = type("Pooled", (pooled, Raw), {})
        self.pool = database("benchmarks", max_connections=size, timeout=timeout)
        self.borrow = self.pool.connection
        self.give_back = lambda conn: self.pool.close()

    def cycles(self, n: int) -> None:
        connect, close = self.pool.connect, self.pool.close
        for _ in range(n):
            connect()
            close()

    def statements(self, n: int) -> None:
        connect, close = self.pool.connection, self.pool.close
        for _ in range(n):
            conn = connect()
            cursor = conn.cursor()
            cursor.execute(SELECT)
            cursor.fetchone()
            cursor.close()
            close()

    def warm(self, count: int) -> None:
        # Several for one thread, which it does not offer.
        conns = []
        for _ in range(count):
            conns.append(self.pool.connection())
            self.pool._state.reset()
        for conn in conns:
            self.pool._close(conn)

    def close(self) -> None:
        self.pool.close_idle()


def _set_autocommit(conn: Any) -> None:
    if callable(getattr(type(conn), "autocommit", None)):  # PyMySQL's is a method
        conn.autocommit(True)
    else:
        conn.autocommit = True


class LifoQueueRecipe(Putting):
    """What people write: a bounded `queue.LifoQueue`, with a `None` for each unopened connection."""

    name = "LifoQueue recipe"

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        idle: queue.LifoQueue[Any] = queue.LifoQueue(size)
        for _ in range(size):
            idle.put(None)

        def borrow() -> Any:
            conn = idle.get(timeout=timeout)
            if conn is None:
                try:
                    conn = driver.connect()
                except BaseException:
                    idle.put(None)
                    raise
            return conn

        def give_back(conn: Any) -> None:
            conn.rollback()
            idle.put(conn)

        self.idle, self.borrow, self.give_back = idle, borrow, give_back

    def close(self) -> None:
        while not self.idle.empty():
            conn = self.idle.get()
            if conn is not None:
                conn.close()


class BareDeque(Putting):
    """No pool at all: `deque.pop` and `append`. The floor under everything else."""

    name = "bare deque"
    waits = grows = False
    floor = True
    ends_transactions = False

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        self.idle = deque(driver.connect() for _ in range(size))
        self.borrow = self.idle.pop
        self.give_back = self.idle.append

    def close(self) -> None:
        for conn in self.idle:
            conn.close()


class BareHandOff(Putting):
    """The least that serves first come, first served: nobody barges, each sleeps on his own lock.

    No timeout, no bound on anything, no fence: what that order costs by itself.
    """

    name = "bare hand-off in order"
    grows = False
    floor = True

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        self.idle = deque(driver.connect() for _ in range(size))
        self._waiters: deque[tuple[list[Any], threading.Lock]] = deque()
        self._lock = threading.Lock()

    def borrow(self) -> Any:  # type: ignore[override]
        with self._lock:
            if self.idle and not self._waiters:
                return self.idle.pop()
            given: list[Any] = []
            signal = threading.Lock()
            signal.acquire()
            self._waiters.append((given, signal))
        signal.acquire()
        return given.pop()

    def give_back(self, conn: Any) -> None:  # type: ignore[override]
        conn.rollback()
        with self._lock:
            if not self._waiters:
                self.idle.append(conn)
                return
            given, signal = self._waiters.popleft()
        given.append(conn)
        signal.release()

    def close(self) -> None:
        for conn in self.idle:
            conn.close()


class Private(Putting):
    """No pool: each thread keeps a connection. What a pool is compared to where threads wait."""

    name = "no pool: private connections"

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        self._own = threading.local()
        self._all: list[Any] = []

        def borrow() -> Any:
            conn = getattr(self._own, "conn", None)
            if conn is None:
                conn = self._own.conn = driver.connect()
                self._all.append(conn)
            return conn

        self.borrow = borrow
        self.give_back = operator.methodcaller("rollback")

    def warm(self, count: int) -> None:
        """Nothing: the threads open their own."""

    def close(self) -> None:
        for conn in self._all:
            conn.close()


class Guarded(Adapter):
    """A pool that does not wait, with a semaphore in front."""

    def __init__(self, inner: Adapter, size: int) -> None:
        self.inner = inner
        self.ends_transactions, self.autocommits = inner.ends_transactions, inner.autocommits
        self._free = threading.Semaphore(size)

    def borrow(self) -> Any:  # type: ignore[override]
        self._free.acquire()
        return self.inner.borrow()

    def give_back(self, conn: Any) -> None:  # type: ignore[override]
        self.inner.give_back(conn)
        self._free.release()

    def warm(self, count: int) -> None:
        self.inner.warm(count)

    def close(self) -> None:
        self.inner.close()


ALL: tuple[type[Adapter], ...] = (
    OurPool, OurPoolPinging, OurPooledDB, DBUtils, DBUtilsWithoutPing, SQLAlchemy, Psycopg2Pool,
    PsycopgPool, MySQLConnectorPool, Peewee, LifoQueueRecipe, BareHandOff, BareDeque,
)  # fmt: skip


def waiting(kind: type[Adapter], driver: Any, size: int, timeout: float = 30.0) -> Adapter:
    """A pool at which threads can wait."""
    made = kind(driver, size, timeout)
    return made if kind.waits else Guarded(made, size)


def waiting_name(kind: type[Adapter]) -> str:
    """What `waiting` makes, in tables."""
    return kind.name if kind.waits else f"{kind.name} + semaphore"


def version(module: str) -> str:
    """A module's version, as it says itself."""
    loaded = importlib.import_module(module)
    return str(getattr(loaded, "__version__", "?"))
