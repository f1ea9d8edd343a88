"""What `bench` prints: a table, bars and a recommendation, or one JSON document.

Must never measure, nor decide anything but how it looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..bars import Bar, show_bars
from ..picture import Line, Picture
from ..target import Target
from ..words import duration, several
from .comparison import GAIN, STEADY, Comparison, Result


@dataclass(frozen=True)
class Report:
    """Everything that is to be shown."""

    target: Target
    driver: str
    sql: str
    threads: int
    seconds: float
    comparison: Comparison


def as_json(report: Report) -> str:
    """The whole report as one document: see docs/bench.md."""
    comparison = report.comparison
    document = {
        "driver": report.driver,
        "sql": report.sql,
        "threads": report.threads,
        "seconds": report.seconds,
        "ways": [_way(result) for result in comparison.results],
        "spread": round(comparison.spread, 3),
        "best": comparison.best.way.size,
        "recommended": comparison.recommended.way.size,
        "ok": comparison.ok,
    }
    return json.dumps(document, indent=2)


def _way(result: Result) -> dict[str, Any]:
    return {
        "size": result.way.size,
        "requests": result.requests,
        "requests_per_second": round(result.rate, 1),
        "ratio": round(result.ratio, 3),
        "p50": round(result.p50, 7),
        "p99": round(result.p99, 7),
        "cpu": round(result.cpu, 8),
        "connects": result.connects,
        "errors": result.errors,
    }


def show(report: Report, console: Console) -> None:
    """The report for people."""
    results = report.comparison.results
    _line(
        console,
        escape(
            f"{report.driver}: {report.sql!r}, {several(report.threads, 'thread')},"
            f" {report.seconds:g} s each way"
        ),
    )
    console.print(_table(results, console))
    recommended = report.comparison.recommended
    bars = [
        Bar(
            one.way.name,
            one.rate,
            f"{one.rate:,.0f}/s" + ("  <- recommended" if one is recommended else ""),
            marked=one is recommended,
        )
        for one in results
    ]
    show_bars(console, bars, max(one.rate for one in results))
    for result in results:
        _errors(result, report.target, console)
    for sentence in words(report):
        _line(console, escape(sentence))


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _table(results: Any, console: Console) -> Table:
    table = Table(box=box.ROUNDED if console.is_terminal else box.ASCII)
    table.add_column("")
    for title in "requests/s", "ratio", "p50", "p99", "CPU", "connects":
        table.add_column(title, justify="right")
    for one in results:
        table.add_row(
            one.way.name,
            f"{one.rate:,.0f}",
            f"{one.ratio:.3g}",
            duration(one.p50),
            duration(one.p99),
            duration(one.cpu),
            f"{one.connects:,}",
        )
    return table


def _errors(result: Result, target: Target, console: Console) -> None:
    error = result.error
    if error is None:
        return
    text = target.redacted(" ".join(f"{type(error).__name__}: {error}".split()))
    many = several(result.errors, "request")
    _line(console, f"[red]ERRORS[/] {escape(f'{result.way.name}: {many} failed; {text}')}")


def words(report: Report) -> Iterator[str]:
    """The recommendation."""
    comparison = report.comparison
    best, chosen = comparison.best, comparison.recommended
    part = "the best" if chosen is best else f"{chosen.rate / best.rate:.0%} of the best"
    beyond = "" if chosen is best else f" (max_size={best.way.size}, {best.rate:,.0f})"
    yield (
        f"Take max_size={chosen.way.size} for {several(report.threads, 'thread')}:"
        f" {chosen.rate:,.0f} requests/s, {part}{beyond}; {_gain(chosen)}."
    )
    if chosen is comparison.results[-1] and chosen.way.size < report.threads:
        yield f"It is the largest that was tried: try larger ones, up to --threads {report.threads}."
    if comparison.spread > STEADY:
        yield (
            f"The rounds of a pool differ by {comparison.spread:.0%} here, so differences like that"
            " may be chance: --seconds 30, or a quieter machine, tells more."
        )


def _gain(chosen: Result) -> str:
    if chosen.ratio >= GAIN:
        return f"{chosen.ratio:.3g} times as many as without a pool"
    return "no more than without a pool: connecting costs next to nothing here"


def picture(report: Report) -> Picture:
    """The throughput over sizes, for a file."""
    comparison = report.comparison
    return Picture(
        title=f"{report.driver}, {several(report.threads, 'thread')}",
        across="max_size",
        up="requests/s",
        lines=[Line("pool", [(one.way.size, one.rate) for one in comparison.results[1:]])],
        levels=[("no pool", comparison.without.rate)],
        mark=(
            f"recommended: {comparison.recommended.way.size}",
            comparison.recommended.way.size,
        ),
    )
