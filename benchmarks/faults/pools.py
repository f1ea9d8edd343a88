"""The pools that take part, each with the settings that its users need when servers die.

Ours with its defaults, and with a ping at every checkout; SQLAlchemy with `pool_pre_ping`;
psycopg_pool with its `check`; DBUtils with its defaults, which ping where a driver can;
psycopg2.pool as it is. Each waits `timeout` seconds for a connection if it can be told to.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections import Counter
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

from ..adapters import (
    Adapter,
    Closing,
    DBUtils,
    OurPool,
    OurPoolPinging,
    Psycopg2Pool,
    Putting,
)
from ..drivers import Real

_DIALECTS = {
    "psycopg2": "postgresql+psycopg2",
    "psycopg": "postgresql+psycopg",
    "pymysql": "mysql+pymysql",
    "sqlite3": "sqlite+pysqlite",
}


class SQLAlchemyPrePing(Closing):
    """An engine's pool, with a ping at every checkout."""

    name = "SQLAlchemy, pre-ping"
    needs = ("sqlalchemy",)

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        import sqlalchemy
        from sqlalchemy.pool import QueuePool

        self.engine = sqlalchemy.create_engine(
            f"{_DIALECTS[driver.name]}://",
            creator=driver.connect,
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=0,
            pool_timeout=timeout,
            pool_pre_ping=True,
        )
        self.borrow = self.engine.raw_connection

    def close(self) -> None:
        self.engine.dispose()


class PsycopgPoolChecking(Putting):
    """With a round trip at every checkout."""

    name = "psycopg_pool, check"
    needs = ("psycopg_pool", "psycopg")
    drivers = ("psycopg",)

    def __init__(self, driver: Any, size: int, timeout: float = 30.0) -> None:
        from psycopg_pool import ConnectionPool

        source = SimpleNamespace(connect=lambda conninfo, **kwargs: driver.connect())
        self.pool = ConnectionPool(
            "", connection_class=source, min_size=0, max_size=size, timeout=timeout, open=True,
            check=ConnectionPool.check_connection,
        )  # fmt: skip
        self.borrow = self.pool.getconn
        self.give_back = self.pool.putconn

    def close(self) -> None:
        self.pool.close(timeout=0)


class Psycopg2PoolAsItIs(Psycopg2Pool):
    """For its own driver."""

    drivers = ("psycopg2",)


OURS = OurPool.name
KINDS: tuple[type[Adapter], ...] = (
    OurPool, OurPoolPinging, DBUtils, SQLAlchemyPrePing, PsycopgPoolChecking, Psycopg2PoolAsItIs,
)  # fmt: skip


def take_part(kind: type[Adapter], module: str) -> bool:
    """Whether it can pool this driver's connections."""
    return kind.takes(module) and not (module == "sqlite3" and kind is OurPoolPinging)


class Attempts:
    """How often `connect` of some drivers is called, by the port or the file that is asked for."""

    def __init__(self) -> None:
        self._seen: Counter[Any] = Counter()
        # Many threads count.
        self._lock = threading.Lock()

    def __getitem__(self, where: Any) -> int:
        return self._seen[where]

    @contextlib.contextmanager
    def of(self, modules: list[ModuleType]) -> Iterator[Attempts]:
        """Count while the block runs. All pools reach a driver by its module's `connect`."""
        originals = [(module, module.connect) for module in modules]
        for module, connect in originals:
            setattr(module, "connect", self._counting(connect))  # noqa: B010  (unknown to mypy)
        try:
            yield self
        finally:
            for module, connect in originals:
                setattr(module, "connect", connect)  # noqa: B010

    def _counting(self, connect: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._seen[kwargs.get("port", kwargs.get("database"))] += 1
            return connect(*args, **kwargs)

        # Ours asks a creator where it comes from.
        counted.__module__ = getattr(connect, "__module__", None) or ""
        return counted


def driver(module: str, arguments: dict[str, Any]) -> Real:
    """The driver that a pool is given."""
    return Real(importlib.import_module(module), **arguments)
