"""What was promised, and whether it was kept: each target with the figure of this run.

Must never measure. A target that is not met is shown with its figure, as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .adapters import ALL, BareHandOff
from .measuring import Result, Row

OURS = "dbapi_pool Pool"
FLOOR = BareHandOff.name
_NO_PEERS = {kind.name for kind in ALL if kind.ours or kind.floor}

Results = Mapping[str, Result]
Verdict = tuple[str, bool]


@dataclass(frozen=True)
class Target:
    """One promise."""

    measure: str
    text: str
    limit: str
    judge: Callable[[Result], Verdict | None]
    """The figure as text, and whether it is good enough; None if a row that it needs is missing."""

    def verdict(self, results: Results) -> Verdict | None:
        """None: not measured in this run."""
        result = results.get(self.measure)
        return None if result is None else self.judge(result)


def _at_most(
    limit: float, column: str, unit: str, **where: Any
) -> Callable[[Result], Verdict | None]:
    def judge(result: Result) -> Verdict | None:
        row = result.row(**where)
        return None if row is None else (f"{row[column]:,} {unit}", row[column] <= limit)

    return judge


def _at_least(limit: float, column: str, **where: Any) -> Callable[[Result], Verdict | None]:
    def judge(result: Result) -> Verdict | None:
        row = result.row(**where)
        return None if row is None else (f"{row[column]}", row[column] >= limit)

    return judge


def _cycle_against(limit: float, *peers: str) -> Callable[[Result], Verdict | None]:
    """Our idle cycle to the cheapest of these."""

    def judge(result: Result) -> Verdict | None:
        ours = result.row(pool=OURS)
        others = [row["idle ns"] for name in peers if (row := result.row(pool=name))]
        if ours is None or not others:
            return None
        ratio = ours["idle ns"] / min(others)
        return f"{ratio:.2f} ({ours['idle ns']:,} to {min(others):,} ns)", ratio <= limit

    return judge


def _peers(result: Result, driver: str) -> Iterable[Row]:
    for row in result.rows:
        if row["driver"] == driver and row["pool"] not in _NO_PEERS:
            if not row["pool"].startswith("no pool"):
                yield row


def _requests_against(limit: float, driver: str, what: str) -> Callable[[Result], Verdict | None]:
    """Our requests per second to the best peer's."""

    def judge(result: Result) -> Verdict | None:
        ours = result.row(pool=OURS, driver=driver)
        column = f"{what}/s, 16 thr."
        if ours is None or column not in ours:
            return None
        best = max(_peers(result, driver), key=lambda row: float(row[column]), default=None)
        if best is None:
            return None
        ratio = ours[column] / best[column]
        figures = f"{ratio:.2f} ({ours[column]:,} to {best[column]:,} of {best['pool']}"
        floor = result.row(pool=FLOOR, driver=driver)
        if floor is not None:
            figures += f"; {FLOOR}: {floor[column]:,}"
        return f"{figures})", ratio >= limit

    return judge


def _spike(result: Result) -> Verdict | None:
    row = result.row(pool=OURS)
    if row is None:
        return None
    took, opened = row["all served ms"], row["opened"]
    return f"{took} ms, {opened:g} new", took <= 35 and opened <= 1


_IN_THE_CROWD = {"pool": OURS, "threads": 32}

TARGETS = (
    Target("cycle", "idle cycle, all defaults on, to DBUtils at its cheapest", "at most 0.25",
           _cycle_against(0.25, "DBUtils", "DBUtils, ping=0")),
    Target("cycle", "the same, to psycopg2.pool", "below 1", _cycle_against(1.0, "psycopg2.pool")),
    Target("overhead", "per statement on sqlite3", "at most +50 ns",
           _at_most(50, "+statement ns", "ns", pool=OURS)),
    Target("overhead", "per cursor on sqlite3", "at most +150 ns",
           _at_most(150, "+cursor ns", "ns", pool=OURS)),
    Target("round trips at once", "8 threads, 1 ms round trips, of ideal", "at least 0.97",
           _at_least(0.97, "of ideal", pool=OURS)),
    Target("fairness", "32 threads on 8: Jain's index", "at least 0.99",
           _at_least(0.99, "Jain", **_IN_THE_CROWD)),
    Target("fairness", "32 threads on 8: starved", "none",
           _at_most(0, "starved", "threads", **_IN_THE_CROWD)),
    Target("growth", "32 served from an empty pool", "at most 60 ms",
           _at_most(60, "empty ms", "ms", pool=OURS)),
    Target("growth", "32 served with one connection open", "at most 40 ms",
           _at_most(40, "one open ms", "ms", pool=OURS)),
    Target("spike", "HikariCP's spike", "at most 35 ms, 1 new connection", _spike),
    Target("imports", "`import dbapi_pool`", "at most 10 ms",
           _at_most(10, "ms", "ms", statement="import dbapi_pool")),
    Target("imports", "`from dbapi_pool import Pool`", "at most 10 ms",
           _at_most(10, "ms", "ms", statement="from dbapi_pool import Pool")),
    Target("memory", "per idle connection", "at most 150 bytes",
           _at_most(150, "each further bytes", "bytes", pool=OURS)),
    Target("postgresql", "psycopg2, `select 1`, 16 threads on 8, to the best peer", "at least 1",
           _requests_against(1.0, "psycopg2", "select 1")),
    Target("postgresql", "psycopg2, transaction, 16 threads on 8, to the best peer", "at least 1",
           _requests_against(1.0, "psycopg2", "transaction")),
    Target("mariadb", "PyMySQL, `select 1`, 16 threads on 8, to the best peer", "at least 1.5",
           _requests_against(1.5, "pymysql", "select 1")),
    Target("mariadb", "PyMySQL, transaction, 16 threads on 8, to the best peer", "at least 1.5",
           _requests_against(1.5, "pymysql", "transaction")),
)  # fmt: skip


def table(results: Results) -> list[Row]:
    """Every target that this run can judge."""
    rows = []
    for target in TARGETS:
        verdict = target.verdict(results)
        if verdict is not None:
            figure, good = verdict
            met = "yes" if good else "**no**"
            rows.append(
                {"promise": target.text, "target": target.limit, "seen": figure, "met": met}
            )
    return rows
