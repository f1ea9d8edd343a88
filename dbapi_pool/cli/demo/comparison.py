"""The comparison: both contenders with the same orders, in turns, each in a shop of its own.

Must never know options, or how anything looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .audit import Check, audit
from .contenders import ConnectionPerOrder, Contender, OnePool
from .database import Database
from .runner import Outcome, Rush
from .workload import Order, Product, Shop

ROUNDS = 10

Progress = Callable[[str, int], object]
"""Told a contender's name, and how many orders it has handled."""


@dataclass(frozen=True)
class Result:
    """What one contender came to, and its books."""

    name: str
    outcome: Outcome
    opened: int
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


@dataclass(frozen=True)
class Stall:
    """One contender and its shop."""

    contender: Contender
    shop: Shop
    conn: Any
    """A connection beside, to open and audit the shop with."""
    rounds: list[Outcome] = field(default_factory=list)

    def result(self, orders: int) -> Result:
        """All rounds together, and the audit."""
        outcome = Outcome.of(self.rounds)
        checks = audit(self.conn, self.shop, orders, outcome.accepted, outcome.rejected)
        return Result(self.contender.name, outcome, self.contender.opened(), tuple(checks))


@dataclass(frozen=True)
class Comparison:
    """What both contenders are given."""

    products: list[Product]
    rush: list[Order]
    workers: int
    max_size: int

    def run(self, databases: tuple[Database, Database], progress: Progress) -> tuple[Result, ...]:
        """The result with the pool, in the first database, and the one without, in the second."""
        with_pool, without = databases
        with self._pooled(with_pool) as one, self._unpooled(without) as other:
            self._take_turns([one, other], progress)
            return tuple(stall.result(len(self.rush)) for stall in (one, other))

    def _take_turns(self, stalls: list[Stall], progress: Progress) -> None:
        # Round about, so that a machine that is busy for a while is so for both.
        length = -(-len(self.rush) // ROUNDS)
        for start in range(0, len(self.rush), length):
            orders = self.rush[start : start + length]
            for stall in stalls:
                told = partial(_advance, progress, stall.contender.name, start)
                stall.rounds.append(Rush(stall.contender, orders, self.workers).run(told))

    @contextmanager
    def _pooled(self, database: Database) -> Iterator[Stall]:
        with _shop(database, self.products) as (conn, shop):
            with OnePool.at(database, shop, self.max_size) as contender:
                yield Stall(contender, shop, conn)

    @contextmanager
    def _unpooled(self, database: Database) -> Iterator[Stall]:
        with _shop(database, self.products) as (conn, shop):
            yield Stall(ConnectionPerOrder(database, shop), shop, conn)


def _advance(progress: Progress, name: str, before: int, done: int) -> None:
    progress(name, before + done)


@contextmanager
def _shop(database: Database, products: list[Product]) -> Iterator[tuple[Any, Shop]]:
    with database.connection() as conn:
        shop = Shop(database.sql)
        try:
            shop.open(conn, products)
            yield conn, shop
        finally:
            conn.rollback()
            shop.close(conn)
