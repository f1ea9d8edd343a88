"""What `top` draws of one look at a dashboard, and of the change since the one before.

Every text from there is shown as it is, but for what would command a terminal. Must never know where
it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_COLOURS = {"ok": "green", "warning": "yellow", "critical": "bold red"}
_NUMBERS = ("in use", "idle", "busy", "max", "line", "lent/s", "99% wait", "timeouts")
"""Connections by what is done with them; callers in line; and checkouts."""
_HOLDERS = 8
"""So many holders of a pool are shown, the longest first."""


class Screen:
    """Draws looks, one after the other."""

    def __init__(self) -> None:
        self._before: Mapping[str, Any] = {}

    def draw(self, told: Mapping[str, Any], fine: bool) -> RenderableType:
        """`fine`: with lines that not every file or pipe can show."""
        pools = told["pools"]
        parts: list[RenderableType] = [
            Text(
                f"process {told['process']}: {len(pools)} {'pool' if len(pools) == 1 else 'pools'}"
            ),
            self._sizes(told, fine),
        ]
        parts += [reason for pool in pools for reason in _reasons(pool)]
        parts.append(_holders(pools, fine))
        self._before = told
        return Group(*parts)

    def _sizes(self, told: Mapping[str, Any], fine: bool) -> Table:
        table = _table(fine)
        table.add_column("pool", overflow="fold")
        table.add_column("health", overflow="fold")
        for title in _NUMBERS:
            table.add_column(title, justify="right", no_wrap=True)
        for pool in told["pools"]:
            table.add_row(plain(pool["name"]), _health(pool), *self._numbers(pool, told))
        return table

    def _numbers(self, pool: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
        stats = pool["stats"]
        busy = sum(stats[name] for name in ("opening", "checking", "cleaning", "closing"))
        rate = self._rate(pool, told)
        return [
            *(str(number) for number in (stats["in_use"], stats["idle"], busy, stats["max_size"])),
            str(stats["waiting"]),
            "-" if rate is None else f"{rate:.1f}",
            _seconds(pool["last_minute"]["wait"]["p99"]),
            str(stats["timeouts"]),
        ]

    def _rate(self, pool: Mapping[str, Any], told: Mapping[str, Any]) -> float | None:
        """Checkouts a second since the look before."""
        before = self._before
        if before.get("run") != told["run"] or told["now"] <= before["now"]:
            return None
        then = [one for one in before["pools"] if one["name"] == pool["name"]]
        if len(then) != 1:
            return None
        lent: int = pool["stats"]["checkouts"] - then[0]["stats"]["checkouts"]
        seconds: float = told["now"] - before["now"]
        return max(lent / seconds, 0.0)


def _table(fine: bool) -> Table:
    return Table(box=box.SIMPLE if fine else box.ASCII, show_edge=False, padding=(0, 1, 0, 0))


def _health(pool: Mapping[str, Any]) -> Text:
    level, state = pool["health"]["level"], pool["stats"]["state"]
    text = level if state == "open" else f"{level}, {state}"
    shown = plain(text)
    shown.stylize(_COLOURS.get(level, ""))
    return shown


def _reasons(pool: Mapping[str, Any]) -> list[Text]:
    return [
        Text.assemble(plain(pool["name"]), ": ", plain(reason))
        for reason in pool["health"]["reasons"]
    ]


def _holders(pools: list[Mapping[str, Any]], fine: bool) -> Table:
    table = _table(fine)
    for title in "pool", "held for", "thread", "borrowed at":
        table.add_column(title, overflow="fold")
    for pool in pools:
        for holder in pool["holders"][:_HOLDERS]:
            thread = holder["thread_name"] or str(holder["thread"])
            held = _seconds(holder["seconds"])
            table.add_row(plain(pool["name"]), held, plain(thread), plain(holder["site"]))
        more = len(pool["holders"]) + pool["holders_left_off"] - _HOLDERS
        if more > 0:
            table.add_row(plain(pool["name"]), "", "", f"and {more} more")
    return table


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def plain(text: str) -> Text:
    """As text, not as markup; and nothing in it moves the cursor or colours the terminal."""
    return Text(
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    )
