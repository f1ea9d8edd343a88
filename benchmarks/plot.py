"""The picture of docs/performance.md. Must never measure; needs matplotlib, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .adapters import ALL
from .measuring import Result
from .targets import OURS

Bars = list[tuple[str, float]]

_VARIANTS = {kind.name for kind in ALL if kind.variant}


def _column(result: Result, name: str, **where: Any) -> Bars:
    rows = (r for r in result.rows if all(r.get(k) == v for k, v in where.items()))
    return [(r["pool"], r[name]) for r in rows if r["pool"] not in _VARIANTS and name in r]


PANELS: tuple[tuple[str, str, Callable[[Result], Bars], bool], ...] = (
    ("cycle", "borrow and give back (CPU ns)", lambda r: _column(r, "idle ns"), True),
    (
        "round trips at once",
        "8 threads, 1 ms round trips (of ideal)",
        lambda r: _column(r, "of ideal"),
        False,
    ),
    (
        "fairness",
        "32 threads on 8: Jain's index",
        lambda r: _column(r, "Jain", threads=32),
        False,
    ),
    (
        "fairness",
        "32 threads on 8: throughput (of ideal)",
        lambda r: _column(r, "of ideal", threads=32),
        False,
    ),
    ("spike", "HikariCP's spike (ms)", lambda r: _column(r, "all served ms"), True),
    (
        "postgresql",
        "PostgreSQL, psycopg2, select 1, 16 threads (requests/s)",
        lambda r: _column(r, "select 1/s, 16 thr.", driver="psycopg2"),
        False,
    ),
)
"""Measure, title, bars, logarithmic."""


def draw(results: Mapping[str, Result], path: Path) -> None:
    """Write an SVG, the same for the same results. Raises `ImportError` without matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "dbapi_pool"  # else its ids are by chance
    matplotlib.rcParams["svg.fonttype"] = "none"  # text as text
    from matplotlib.figure import Figure

    panels = [panel for panel in PANELS if panel[0] in results]
    figure = Figure(figsize=(9, 2.6 * ((len(panels) + 1) // 2)), layout="constrained")
    for number, (name, title, bars, logarithmic) in enumerate(panels, 1):
        axes = figure.add_subplot((len(panels) + 1) // 2, 2, number)
        _panel(axes, title, bars(results[name]), logarithmic)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    # matplotlib leaves blanks at the ends of lines.
    text = path.read_text("utf-8")
    path.write_text("\n".join(line.rstrip() for line in text.split("\n")), "utf-8")


def _panel(axes: Any, title: str, bars: Bars, logarithmic: bool) -> None:
    names = [name for name, _ in bars][::-1]
    values = [value for _, value in bars][::-1]
    colours = ["#c0392b" if name == OURS else "#95a5a6" for name in names]
    shown = axes.barh(names, values, color=colours, log=logarithmic)
    axes.bar_label(shown, [f"{value:,.4g}" for value in values], padding=2, fontsize=6)
    axes.set_title(title + (", logarithmic" if logarithmic else ""), fontsize=9)
    axes.xaxis.set_visible(False)  # each bar has its number
    axes.tick_params(labelsize=7, length=0)
    axes.margins(x=0.25 if not logarithmic else 0.4)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
