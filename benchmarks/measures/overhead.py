"""What a borrower's own work costs through what the pool hands out, on sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from ..adapters import SELECT, Adapter
from ..drivers import Real
from ..measuring import (
    Loop,
    Row,
    Run,
    added,
    by_turns,
    cpu_ns,
    measure,
    median,
    no_collector,
)

ROWS = 100_000
RAW = "sqlite3 itself"


def over_statements(conn: Any) -> Loop:
    """Statements on one cursor."""
    cursor = conn.cursor()

    def loop(n: int) -> None:
        for _ in range(n):
            cursor.execute(SELECT)
            cursor.fetchone()

    return loop


def over_cursors(conn: Any) -> Loop:
    """Cursors with one statement each."""

    def loop(n: int) -> None:
        for _ in range(n):
            cursor = conn.cursor()
            cursor.execute(SELECT)
            cursor.fetchone()
            cursor.close()

    return loop


def _fetch(how: str, rows: int) -> Callable[[Any], Loop]:
    sql = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        f" WHERE i < {rows}) SELECT i FROM n"
    )

    def one_by_one(cursor: Any) -> None:
        while cursor.fetchone() is not None:
            pass

    def iterate(cursor: Any) -> None:
        for _ in cursor:
            pass

    def everything(cursor: Any) -> None:
        cursor.fetchall()

    act = {"iterate": iterate, "fetchone": one_by_one, "fetchall": everything}[how]

    def make(conn: Any) -> Loop:
        def loop(n: int) -> None:
            for _ in range(n):
                cursor = conn.cursor()
                cursor.execute(sql)
                act(cursor)
                cursor.close()

        return loop

    return make


class _Lent:
    """A connection of each pool, and one of the driver's own."""

    def __init__(self, kinds: list[type[Adapter]]) -> None:
        self._pools = {kind.name: kind(_sqlite(), 1) for kind in kinds}
        self.conns = {RAW: lent_sqlite()}
        self.conns |= {name: pool.borrow() for name, pool in self._pools.items()}

    def close(self) -> None:
        self.conns[RAW].close()
        for name, pool in self._pools.items():
            pool.give_back(self.conns[name])
            pool.close()


def _sqlite() -> Real:
    return Real(sqlite3, database=":memory:", check_same_thread=False)


def lent_sqlite() -> Any:
    """The driver's own connection."""
    return _sqlite().connect()


def _kinds(run: Run) -> list[type[Adapter]]:
    return run.kinds("sqlite3", lambda kind: kind.wraps)


@measure("overhead", "Per statement and per cursor")
def overhead(run: Run) -> list[Row]:
    """CPU time (ns) of a statement and of a whole cursor's life on sqlite3 in memory, and what the
    pool adds to the driver's own (median of the differences in each round). Pools that are not
    listed hand out the driver's connection: they add nothing, and cannot know what is done with it
    after it was given back. *Fenced*: whether a cursor that was kept is dead once its connection is
    given back. Ideal: 0, fenced.
    """
    kinds = _kinds(run)
    lent = _Lent(kinds)
    figures = {}
    for what, make in (("statement", over_statements), ("cursor", over_cursors)):
        loops = {name: make(conn) for name, conn in lent.conns.items()}
        figures[what] = by_turns(loops, run.scale(21, 9, 1), run.scale(1e7, 4e6, 1e5))
    lent.close()
    rows: list[Row] = []
    fenced = {kind.name: _is_fenced(kind) for kind in kinds}
    for name in lent.conns:
        row: Row = {"pool": name}
        for what, times in figures.items():
            row[f"{what} ns"] = round(median(times[name]))
            row[f"+{what} ns"] = round(added(times[name], times[RAW]))
        rows.append({**row, "fenced": fenced.get(name, "")})
    return rows


def _is_fenced(kind: type[Adapter]) -> str:
    """Whether a cursor that is kept after the return can still run a statement."""
    pool = kind(_sqlite(), 1)
    conn = pool.borrow()
    cursor = conn.cursor()
    pool.give_back(conn)
    try:
        cursor.execute(SELECT)
    except Exception:
        return "yes"
    else:
        return "no"
    finally:
        pool.close()


@measure("fetch", "Fetching 100,000 rows")
def fetch(run: Run) -> list[Row]:
    """CPU time per row (ns) of a query of 100,000 rows on sqlite3, in each way of fetching, and as
    a ratio to the driver's own. Ideal: 1.00.
    """
    rows = run.scale(ROWS, ROWS, 100)
    lent = _Lent(_kinds(run))
    table: dict[str, Row] = {name: {"pool": name} for name in lent.conns}
    for how in ("iterate", "fetchone", "fetchall"):
        loops = {name: _fetch(how, rows)(conn) for name, conn in lent.conns.items()}
        for loop in loops.values():
            loop(1)
        times = _once_each(loops, run.scale(7, 3, 1))
        for name, row in table.items():
            row[f"{how} ns"] = round(median(times[name]) / rows)
            ratios = (a / b for a, b in zip(times[name], times[RAW], strict=True))
            row[f"{how} ratio"] = round(median(ratios), 2)
    lent.close()
    return list(table.values())


def _once_each(loops: dict[str, Loop], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            with no_collector():
                times[name].append(cpu_ns(loop, 1))
    return times
