"""How a request gets its connection: a new one each time, or from a pool of some size.

Both do the same with it. Must never know threads, nor what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from ... import Pool
from ..access import Access
from .statement import run

CLOSING = 5.0
"""Seconds that a pool may take to close."""


@dataclass(frozen=True)
class Running:
    """A way that requests can go now."""

    request: Callable[[], None]
    """A whole request: a connection, the statement, a commit, and the connection is given back."""
    opened: Callable[[], int]
    """Connections opened so far; to be asked once, at the end."""


@dataclass(frozen=True)
class Way:
    """`size` connections in a pool; 0: no pool."""

    size: int

    @property
    def name(self) -> str:
        """For people."""
        return f"pool of {self.size}" if self.size else "no pool"

    @contextmanager
    def running(self, access: Access, sql: str) -> Iterator[Running]:
        """For one round; a pool has its connections open before it begins."""
        if not self.size:
            yield _without(access, sql)
            return
        target = access.target
        pool = Pool(target.creator, *target.args, max_size=self.size, **target.kwargs)
        try:
            pool.warm_up()
            yield _within(pool, sql)
        finally:
            pool.close(CLOSING)


def _without(access: Access, sql: str) -> Running:
    numbers = count()  # its step is atomic, which `+= 1` is not

    def request() -> None:
        conn = access.plain()
        next(numbers)
        try:
            run(conn, sql)
            conn.commit()
        finally:
            conn.close()

    return Running(request, lambda: next(numbers))


def _within(pool: Pool, sql: str) -> Running:
    def request() -> None:
        with pool.connection() as conn:
            run(conn, sql)

    return Running(request, lambda: pool.stats().opened)
