"""What pooling saved a program, in a few lines on stderr. Must never show a connection's arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ...dropin.saved import ManagedStats
from ...stats import PoolStats


def report(every: Sequence[ManagedStats]) -> None:
    """Tell it, a module at a time."""
    used = [stats for stats in every if stats.connects]
    lines = [line for stats in used for line in _lines(stats)] or ["nothing was connected to"]
    for line in lines:
        print(f"dbapi-pool: {line}", file=sys.stderr)


def _lines(stats: ManagedStats) -> list[str]:
    lines = [
        f"{stats.module}: {_count(stats.connects, 'connect')}, {stats.opened + stats.unpooled} opened"
        f" ({stats.unpooled} of them not pooled), {stats.saved} saved"
    ]
    if stats.opened:
        lines.append(f"{stats.module}: {_story(stats)}")
    return lines + [_line(pool) for pool in stats.pools]


def _story(stats: ManagedStats) -> str:
    first, saved = _time(stats.first_connect_time), _time(stats.saved_time)
    if stats.opened == 1:
        return (
            f"opening took {first} (the first time it takes longer), so at most {saved} were saved"
        )
    others = _time((stats.connect_time - stats.first_connect_time) / (stats.opened - 1))
    return f"opening took {first} at first and {others} later, so about {saved} were saved"


def _line(pool: PoolStats) -> str:
    waited = max(0, pool.waits - pool.opened - pool.connect_errors)
    text = (
        f"{pool.name}: {_count(pool.checkouts, 'connect')}, {pool.opened} opened, {waited} waited"
    )
    return f"{text}, {_count(pool.timeouts, 'timeout')}" if pool.timeouts else text


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"
