"""Where another pool is better than ours: looked up in the results, so that nobody has to confess.

Must never measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .adapters import ALL
from .measuring import Result, Row
from .targets import OURS

NOTICED = 1.05
"""By how much it must be better to be named: less is noise."""


@dataclass(frozen=True)
class Figure:
    """A column by which pools are compared."""

    measure: str
    column: str
    text: str
    more: bool = False
    """Whether more is better."""
    where: Mapping[str, Any] = field(default_factory=dict)


_SERVERS = (("postgresql", "psycopg2"), ("postgresql", "psycopg"), ("mariadb", "pymysql"),
            ("mariadb", "mysql.connector"))  # fmt: skip
_REQUESTS = ("select 1", "read", "transaction")

FIGURES = (
    Figure("cycle", "idle ns", "borrow and give back, ns"),
    Figure("cycle", "used ns", "the same with one statement through the portable driver, ns"),
    Figure("overhead", "+statement ns", "added per statement on sqlite3, ns"),
    Figure("overhead", "+cursor ns", "added per cursor on sqlite3, ns"),
    Figure("fetch", "iterate ratio", "fetching by iteration, of the driver's own"),
    Figure("fetch", "fetchone ratio", "fetching one by one, of the driver's own"),
    *(
        Figure("fairness", "of ideal", f"{n} threads on 8, of ideal", True, {"threads": n})
        for n in (2, 8, 32, 128)
    ),
    Figure("round trips at once", "of ideal", "8 threads, 1 ms round trips, of ideal", True),
    Figure("growth", "empty ms", "32 served from an empty pool, ms"),
    Figure("growth", "one open ms", "32 served with one connection open, ms"),
    Figure("spike", "all served ms", "the spike, ms"),
    Figure("spike", "opened", "the spike, connections opened"),
    *(
        Figure(
            measure,
            f"{what}/s, {n} thr.",
            f"{driver}, {what}, threads: {n}, requests/s",
            True,
            {"driver": driver},
        )
        for measure, driver in _SERVERS
        for what in _REQUESTS
        for n in (1, 16)
    ),
    *(
        Figure(
            measure,
            f"{what}, CPU us",
            f"{driver}, {what}, CPU us a request",
            False,
            {"driver": driver},
        )
        for measure, driver in _SERVERS
        for what in _REQUESTS
    ),
    Figure("memory", "with one bytes", "memory of a pool, bytes"),
    Figure("memory", "each further bytes", "memory per idle connection, bytes"),
)

_OTHERS = {kind.name for kind in ALL if not (kind.ours or kind.floor)}


def _is_peer(row: Row) -> bool:
    return row["pool"].removesuffix(" + semaphore") in _OTHERS


def _better(ours: float, theirs: float, more: bool) -> bool:
    if more:
        return theirs > ours * NOTICED
    return theirs * NOTICED < ours or theirs < 0 < ours


def _beaten(figure: Figure, result: Result) -> Row | None:
    """What beats us in one figure; None if nothing does."""
    column = figure.column
    ours = result.row(pool=OURS, **figure.where)
    if ours is None or ours.get(column) is None:
        return None
    peers = [
        (row[column], row["pool"])
        for row in result.rows
        if _is_peer(row) and row.get(column) is not None
        if all(row.get(key) == value for key, value in figure.where.items())
    ]
    better = [one for one in peers if _better(ours[column], one[0], figure.more)]
    names = ", ".join(f"{pool} {value:,}" for value, pool in sorted(better, reverse=figure.more))
    return {"figure": figure.text, "`Pool`": ours[column], "better": names} if names else None


def table(results: Mapping[str, Result]) -> list[Row]:
    """A row for each figure in which a pool is better than ours by more than noise."""
    beaten = (_beaten(f, results[f.measure]) for f in FIGURES if f.measure in results)
    return [row for row in beaten if row is not None]
