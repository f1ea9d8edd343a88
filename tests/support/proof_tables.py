"""The tables of docs/proof.md: how the figures that runs have left are put together.

A row stands for all that was run of one kind, such as the scenarios of one promise, and each Python
has a column. Must never measure, nor know what a pool is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guarantees import table

Fact = Mapping[str, Any]
"""One figure's file: `part`, `row`, `python`, `run`, and `figures` by name."""

MOST = {"ms", "bytes grown"}  # of these the highest is told, of all others the sum
EVEN_NONE = {"failing"}  # of others, a cell does not tell that there were none


def by_row(fact: Fact) -> list[str]:
    """Each has a row of its own."""
    return [fact["row"]]


def by_kind(fact: Fact) -> list[str]:
    """What stands before the first colon or comma: `checkin` of `checkin: clean, to a waiter`."""
    return [re.split("[:,]", fact["row"])[0]]


def by_promise(fact: Fact) -> list[str]:
    """Each promise of the scenario: `exclusive` and `bound` of `exclusive: one wins; bound`."""
    return [one.partition(":")[0] for one in fact["figures"]["promise"].split("; ")]


@dataclass(frozen=True)
class Layout:
    """How one table looks."""

    head: str = ""
    rows: Callable[[Fact], list[str]] = by_row
    count: str = ""
    """What the facts of a row are, if a cell shall say how many it sums up."""
    shown: tuple[str, ...] | None = None
    """Figures that a cell tells; None: all."""
    total: bool = False
    """Whether a last row sums up all."""


LAYOUTS: Mapping[str, Layout] = {
    "interleavings": Layout(
        "promise", by_promise, "scenarios", ("orders", "to one deviation", "to the end"), total=True
    ),
    "planted bugs": Layout("bug"),
    "frontrun": Layout("scenario"),
    "exceptions": Layout("struck", by_kind, "operations", total=True),
    "signals": Layout("strikes by", by_kind),
    "state machine": Layout("machine"),
    "state machine, planted": Layout("bug"),
    "garbage and threads": Layout("what", by_kind, "cases"),
    "free-threading": Layout("what the threads do", by_kind, "scenes"),
    "mutants": Layout("module", total=True),
}
"""By the part's name."""


def part_table(part: str, facts: Sequence[Fact]) -> str:
    """The table of one part."""
    layout = LAYOUTS.get(part, Layout())
    runs = list(dict.fromkeys(map(_run, sorted(facts, key=_when))))
    groups: dict[str, list[Fact]] = {}
    for fact in sorted(facts, key=lambda fact: str(fact["row"])):
        for name in layout.rows(fact):
            groups.setdefault(name, []).append(fact)
    lines = sorted(groups.items())
    if layout.total:
        lines.append(("**all**", list(facts)))
    return table(
        [layout.head, *runs], ([name, *_cells(layout, runs, mine)] for name, mine in lines)
    )


def _run(fact: Fact) -> str:
    return f"{fact['python']}, {fact['run']}"


def _when(fact: Fact) -> tuple[object, ...]:
    version = [int(number) for number in re.findall(r"\d+", fact["python"])]
    return (version, fact["python"].endswith("t"), fact["run"])


def _cells(layout: Layout, runs: Iterable[str], facts: Iterable[Fact]) -> list[str]:
    many = list(facts)
    return [_cell(layout, [fact["figures"] for fact in many if _run(fact) == run]) for run in runs]


def _cell(layout: Layout, many: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(name for figures in many for name in figures)
    shown = [name for name in names if layout.shown is None or name in layout.shown]
    parts = [_text(name, [one[name] for one in many if name in one]) for name in shown]
    parts = [part for part in parts if part]
    if layout.count and many and (len(many) > 1 or not parts):
        parts.insert(0, f"{len(many):,} {layout.count}")
    return ", ".join(parts)


def _text(name: str, values: Sequence[Any]) -> str:
    """`1,234 orders`; of words, which have no sum, those that all agree on."""
    name = name.replace("_", " ")
    if all(isinstance(value, int) for value in values):
        number = max(values) if name in MOST else sum(values)
        return f"{number:,} {name}" if number or name in EVEN_NONE else ""
    return f"{name} {values[0]}" if len(set(map(str, values))) == 1 else ""
