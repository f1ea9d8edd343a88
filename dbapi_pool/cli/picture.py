"""A picture in a file: lines over sizes, as SVG. By matplotlib, which is an extra of its own.

Must never know what the lines mean.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import click

_COLOURS = ("#c0392b", "#2c3e50", "#7f8c8d")


@dataclass(frozen=True)
class Line:
    """One line: points over sizes. Points that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Picture:
    """What is to be drawn."""

    title: str
    across: str
    up: str
    lines: Sequence[Line]
    levels: Sequence[tuple[str, float]] = ()
    """Named values, drawn across."""
    mark: tuple[str, float] | None = None
    """A named size."""
    logarithmic: bool = False


def svg_file(text: str) -> Path:
    """An option's value: a file that can be drawn into, `FILE.svg` in a folder that is there."""
    path = Path(text)
    if path.suffix.lower() != ".svg":
        raise click.BadParameter(f"{text!r} does not end in .svg.")
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(path.parent)!r}.")
    if importlib.util.find_spec("matplotlib") is None:
        raise click.BadParameter('it needs matplotlib: pip install "dbapi-pool[plot]".')
    return path


def draw(picture: Picture, path: Path) -> None:
    """Write it: the same file for the same numbers. Raises `OSError`."""
    matplotlib = importlib.import_module("matplotlib")
    figure_of = importlib.import_module("matplotlib.figure").Figure
    # Its ids are by chance otherwise; and text stays text.
    with matplotlib.rc_context({"svg.hashsalt": "dbapi_pool", "svg.fonttype": "none"}):
        figure = figure_of(figsize=(7, 4.5), layout="constrained")
        _fill(figure.add_subplot(), picture)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _fill(axes: Any, picture: Picture) -> None:
    for number, line in enumerate(picture.lines):
        points = [
            (x, y) for x, y in line.points if isfinite(y) and (y > 0 or not picture.logarithmic)
        ]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=line.name)
    for name, value in picture.levels:
        axes.axhline(value, linestyle="--", color="#27ae60", label=name)
    if picture.mark is not None:
        axes.axvline(picture.mark[1], linestyle=":", color="#2980b9", label=picture.mark[0])
    axes.set_yscale("log" if picture.logarithmic else "linear")
    axes.set(title=picture.title, xlabel=picture.across, ylabel=picture.up)
    if not picture.logarithmic:
        axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
