"""Bars in a terminal: a line of text each, plain where there is no terminal.

Must never know what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from rich.console import Console
from rich.markup import escape

WIDTH = 30


@dataclass(frozen=True)
class Bar:
    """One of them."""

    label: str
    value: float
    """Its length; `inf` for more than there is room for."""
    text: str
    """What stands behind it."""
    inner: float = 0.0
    """The length of its darker part."""
    marked: bool = False


def show_bars(console: Console, bars: Sequence[Bar], longest: float) -> None:
    """`longest`: the value as long as there is room; what is longer is cut, with a `>`."""
    label = max((len(bar.label) for bar in bars), default=0)
    for bar in bars:
        colour = "green" if bar.marked else "cyan"
        drawn = _drawn(bar, longest, console.is_terminal and not console.options.ascii_only)
        console.print(
            f"{escape(bar.label):>{label}} [{colour}]{escape(drawn):<{WIDTH}}[/] {escape(bar.text)}",
            highlight=False,
            soft_wrap=True,
        )


def _drawn(bar: Bar, longest: float, pretty: bool) -> str:
    dark, light = ("█", "▒") if pretty else ("#", "=")
    cells = _cells(bar.value, longest)
    inner = min(cells, _cells(bar.inner, longest))
    drawn = dark * inner + light * (cells - inner) if bar.inner else dark * cells
    return drawn[:-1] + ">" if bar.value > longest else drawn


def _cells(value: float, longest: float) -> int:
    if not value:
        return 0
    return max(1, round(WIDTH * value / longest)) if isfinite(value) and value <= longest else WIDTH
