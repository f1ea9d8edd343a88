"""How a pool is doing, in words: `Health`, judged from what happened in the last minute.

`Monitor` remembers pictures of the pool, and is told the time. It must never know the pool, a thread
or a listener.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from .stats import PoolStats

Level = Literal["ok", "warning", "critical"]
LEVELS: tuple[Level, ...] = ("ok", "warning", "critical")

WINDOW = 60.0
"""Seconds that are looked back."""
EVERY = 5.0
"""Seconds between two looks of the housekeeper, while anybody listens to alerts."""
CALM = 3
"""So many looks in a row must be better before an alert says so: it shall not flap."""

SLOW = 0.1  # seconds that one checkout in a hundred may wait
OFTEN_IN_VAIN = 0.01  # the share of checkouts that may time out before that is critical
ENOUGH = 20  # checkouts, for one in a hundred to mean anything
CROWDED = 0.5  # the share of checkouts that may find nothing idle


@dataclass(frozen=True)
class Health:
    """`level`: "ok", "warning" or "critical". `reasons`: why, with numbers and what to change; the
    gravest first."""

    level: Level
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"level": self.level, "reasons": list(self.reasons)}


class Finding(NamedTuple):
    """One reason."""

    level: Level
    text: str


class Outlook(NamedTuple):
    """What a picture does not show. `error`: the class of the last connect error, while connecting
    fails; `overdue`: how many connections are lent for longer than `leak_after` now; `timeout`:
    `checkout_timeout`."""

    error: str | None
    overdue: int
    timeout: float | None


class Monitor:
    """The last minute of one pool."""

    def __init__(self, born: float) -> None:
        self._born = born
        self._past: deque[tuple[float, PoolStats]] = deque()
        self.level: Level = "ok"
        self._better = 0

    def look(self, stats: PoolStats, outlook: Outlook, now: float) -> Health:
        """What the pictures since the one a minute ago say."""
        past = self._past
        if not past:
            past.append((self._born, _unused(stats)))
        while len(past) > 1 and now - past[1][0] >= WINDOW:
            past.popleft()
        if now - past[-1][0] >= EVERY:
            past.append((now, stats))
        since, before = past[0]
        findings = [*_findings(before, stats, outlook, max(now - since, 0.0))]
        findings.sort(key=lambda finding: -LEVELS.index(finding.level))
        level: Level = findings[0].level if findings else "ok"
        return Health(level, tuple(finding.text for finding in findings))

    def alert(self, health: Health) -> tuple[Level, Level] | None:
        """`(before, now)` if that is worth telling: at once when it became worse, after some looks when
        it became better."""
        before, now = self.level, health.level
        worse = LEVELS.index(now) > LEVELS.index(before)
        self._better = 0 if now == before or worse else self._better + 1
        if not worse and self._better < CALM:
            return None
        self._better = 0
        self.level = now
        return before, now


def _unused(stats: PoolStats) -> PoolStats:
    """The pool when it was new."""
    empty = {field.name: 0 for field in fields(PoolStats) if field.type in ("int", "float")}
    return PoolStats(**{**empty, "name": stats.name, "max_size": stats.max_size})  # type: ignore[arg-type]


def _findings(
    before: PoolStats, now: PoolStats, outlook: Outlook, seconds: float
) -> Iterator[Finding]:
    yield from _connecting(before, now, outlook)
    yield from _refusals(before, now, seconds)
    yield from _waiting(before, now, outlook)
    yield from _holding(now, outlook)
    if now.state == "suspended":
        level: Level = "critical" if now.waiting else "warning"
        yield Finding(level, f"the pool is suspended, and {now.waiting} wait: call resume()")


def _connecting(before: PoolStats, now: PoolStats, outlook: Outlook) -> Iterator[Finding]:
    failed = now.connect_errors - before.connect_errors
    if outlook.error is not None and now.size == 0:
        text = (
            f"no connection is open, and connecting fails with {outlook.error}: is the server up?"
        )
        yield Finding("critical", text)
    elif failed:
        tried = failed + now.opened - before.opened
        yield Finding("warning", f"{failed} of {tried} connects failed: look at the server's log")


def _refusals(before: PoolStats, now: PoolStats, seconds: float) -> Iterator[Finding]:
    timeouts = now.timeouts - before.timeouts
    deadlocks = now.refused.get("PoolDeadlock", 0) - before.refused.get("PoolDeadlock", 0)
    if timeouts:
        asked = timeouts + now.checkouts - before.checkouts
        level: Level = "critical" if timeouts > OFTEN_IN_VAIN * asked else "warning"
        yield Finding(
            level,
            f"{timeouts} of {asked} checkouts timed out in {seconds:.0f} s: hold connections for less"
            f" time, or raise max_size={now.max_size}",
        )
    if deadlocks:
        text = f"{deadlocks} deadlocks: a thread borrows while it holds; return one before the next"
        yield Finding("critical", text)


def _waiting(before: PoolStats, now: PoolStats, outlook: Outlook) -> Iterator[Finding]:
    wait = now.wait - before.wait
    checkouts = now.checkouts - before.checkouts
    if not wait.count or checkouts < ENOUGH:
        return
    # Those who found one idle waited for nothing: they are no part of the histogram.
    at_once = max(checkouts - wait.count, 0) / max(checkouts, wait.count)
    slow = wait.quantile((0.99 - at_once) / (1 - at_once)) if at_once < 0.99 else 0.0
    advice = f"raise max_size={now.max_size}, or hold connections for less time"
    if slow is not None and slow > SLOW:
        grave = outlook.timeout is not None and slow > outlook.timeout / 2
        text = f"one checkout in a hundred waits for up to {slow:g} s: {advice}"
        yield Finding("critical" if grave else "warning", text)
    elif wait.count > CROWDED * checkouts and now.waiting:
        text = f"{wait.count} of {checkouts} checkouts found nothing idle: {advice}"
        yield Finding("warning", text)


def _holding(now: PoolStats, outlook: Outlook) -> Iterator[Finding]:
    if outlook.overdue:
        level: Level = "critical" if outlook.overdue * 2 >= now.max_size else "warning"
        yield Finding(
            level,
            f"{outlook.overdue} of max_size={now.max_size} connections are lent for longer than"
            " leak_after: the log says where they were borrowed; close them, or raise leak_after",
        )
