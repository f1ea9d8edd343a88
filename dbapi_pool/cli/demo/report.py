"""What the demo prints: one table and a verdict for people, or one JSON document for programs.

Must never measure, nor decide anything but how it looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .comparison import Result

P50, P99 = 0.50, 0.99


@dataclass(frozen=True)
class Report:
    """Both rushes, the pool's first."""

    database: str
    orders: int
    workers: int
    max_size: int
    results: tuple[Result, ...]

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
        "wait_p50_ms": round(outcome.waited_ms(P50), 4),
        "wait_p99_ms": round(outcome.waited_ms(P99), 4),
        "order_p50_ms": round(outcome.took_ms(P50), 4),
        "order_p99_ms": round(outcome.took_ms(P99), 4),
        "connections_opened": result.opened,
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
    for title, form, pool, other in _measures(*report.results):
        table.add_row(title, format(pool, form), format(other, form), _ratio(pool, other))
    outcomes = [result.outcome for result in report.results]
    table.add_row("orders accepted", *(f"{outcome.accepted:,}" for outcome in outcomes), "")
    table.add_row("orders rejected", *(f"{outcome.rejected:,}" for outcome in outcomes), "")
    return table


def _measures(one: Result, two: Result) -> Iterator[tuple[str, str, float, float]]:
    """Title, format, and the figure of each contender."""
    pool, other = one.outcome, two.outcome
    yield "orders/s", ",.0f", pool.orders_per_second, other.orders_per_second
    for name, part in ("p50", P50), ("p99", P99):
        title = f"wait for a connection, {name}, ms"
        yield title, ",.2f", pool.waited_ms(part), other.waited_ms(part)
    for name, part in ("p50", P50), ("p99", P99):
        title = f"order taken to done, {name}, ms"
        yield title, ",.2f", pool.took_ms(part), other.took_ms(part)
    yield "connections opened", ",", one.opened, two.opened


def _ratio(pool: float, other: float) -> str:
    if not pool or not other:
        return "-"
    return _brief(pool / other) if pool >= other else f"1/{_brief(other / pool)}"


def _brief(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


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
