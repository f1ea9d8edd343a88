"""What the demo prints: one table and a verdict for people, or one JSON document for programs.

Must never measure, nor decide anything but how it looks.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .audit import Check
from .runner import Outcome

P50, P99 = 0.50, 0.99


@dataclass(frozen=True)
class Result:
    """One contender's rush and its books."""

    name: str
    outcome: Outcome
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


@dataclass(frozen=True)
class Report:
    """Both rushes, the pool's first."""

    database: str
    orders: int
    workers: int
    max_size: int
    results: tuple[Result, Result]

    @property
    def ok(self) -> bool:
        return all(result.ok for result in self.results)

    @property
    def ratio(self) -> float:
        """How many times the orders per second the pool makes of it."""
        pool, other = self.results
        return pool.outcome.orders_per_second / other.outcome.orders_per_second


def as_json(report: Report) -> str:
    """The whole report as one document."""
    document = {
        "database": report.database,
        "orders": report.orders,
        "workers": report.workers,
        "max_size": report.max_size,
        "results": [_result(result) for result in report.results],
        "ratio": round(report.ratio, 3),
        "ok": report.ok,
    }
    return json.dumps(document, indent=2)


def _result(result: Result) -> dict[str, Any]:
    outcome = result.outcome
    return {
        "name": result.name,
        "seconds": round(outcome.seconds, 3),
        "orders_per_second": round(outcome.orders_per_second, 1),
        "wait_p50_ms": round(outcome.wait_ms(P50), 4),
        "wait_p99_ms": round(outcome.wait_ms(P99), 4),
        "connections_opened": outcome.opened,
        "accepted": outcome.accepted,
        "rejected": outcome.rejected,
        "checks": [{**asdict(check), "ok": check.ok} for check in result.checks],
        "ok": result.ok,
    }


def show(report: Report, console: Console) -> None:
    """The report for people."""
    _line(
        console,
        f"{report.orders:,} orders, {report.workers} workers,"
        f" at most {report.max_size} pooled connections, {report.database}",
    )
    console.print(_table(report, console))
    for result in report.results:
        _verdict(result, console)


def _table(report: Report, console: Console) -> Table:
    table = Table(box=box.ROUNDED if console.is_terminal else box.ASCII)
    table.add_column("")
    for result in report.results:
        table.add_column(result.name, justify="right")
    table.add_column("ratio", justify="right")
    pool, other = (result.outcome for result in report.results)
    _measure(table, "orders/s", pool.orders_per_second, other.orders_per_second, ",.0f")
    for name, quantile in ("p50", P50), ("p99", P99):
        title = f"wait for a connection, {name} (ms)"
        _measure(table, title, pool.wait_ms(quantile), other.wait_ms(quantile), ",.3f")
    _measure(table, "connections opened", pool.opened, other.opened, ",")
    for name in "accepted", "rejected":
        table.add_row(f"orders {name}", f"{getattr(pool, name):,}", f"{getattr(other, name):,}", "")
    return table


def _measure(table: Table, title: str, pool: float, other: float, form: str) -> None:
    table.add_row(title, format(pool, form), format(other, form), _ratio(pool, other))


def _ratio(pool: float, other: float) -> str:
    if not pool or not other:
        return "-"
    return f"{pool / other:.3g}" if pool >= other else f"1/{other / pool:.3g}"


def _verdict(result: Result, console: Console) -> None:
    if result.ok:
        number = len(result.checks)
        _line(
            console,
            f"[green]OK[/] {result.name}: all orders, stock and money accounted for"
            f" ({number} checks)",
        )
    for check in result.checks:
        if not check.ok:
            _line(
                console,
                f"[red]WRONG[/] {result.name}: {check.name}:"
                f" expected {check.expected:,}, found {check.found:,}",
            )


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
