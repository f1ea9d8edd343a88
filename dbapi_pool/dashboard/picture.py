"""What the dashboard tells: every pool in plain values, ready for JSON, and the last minutes of each.

Bounded in every direction. No text of an error, no argument of a connect and no SQL goes in. It must
never know HTTP.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from .. import Histogram, Holder, Pool, PoolStats

KEPT = 300.0
"""Seconds that are remembered."""
STEP = 1.0
"""Seconds between two samples at least, however many are watching."""
COARSE = 5.0  # between two of the pictures from which the last minute is told
MINUTE = 60.0
MOST_POOLS = 100
MOST_HOLDERS = 100
MOST_TEXT = 300
"""Characters of a name or a path that are shown."""

SAMPLED = (
    "time", "in_use", "idle", "busy", "max_size", "waiting", "checkouts", "waits", "wait_time",
    "timeouts",
)  # fmt: skip
"""What the numbers of a sample are. `busy`: opening, checking, cleaning and closing."""

Sample = tuple[float, ...]
Pools = Callable[[], Iterable[Pool]]


class Past:
    """The last minutes of one pool."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=int(KEPT / STEP))
        self._pictures: deque[tuple[float, PoolStats]] = deque()

    def note(self, stats: PoolStats, now: float) -> None:
        """Remember this, unless something as new is remembered."""
        samples, pictures = self._samples, self._pictures
        if not samples or now - samples[-1][0] >= STEP:
            samples.append(_sample(stats, now))
        while samples[0][0] < now - KEPT:
            samples.popleft()
        if not pictures or now - pictures[-1][0] >= COARSE:
            pictures.append((now, stats))
        while len(pictures) > 1 and now - pictures[1][0] >= MINUTE:
            pictures.popleft()

    def since(self, when: float) -> list[Sample]:
        """The samples that are newer."""
        return [sample for sample in self._samples if sample[0] > when]

    def times(self, stats: PoolStats, now: float) -> dict[str, Any]:
        """How long waiting, connecting and holding took in the last minute, as far as it was seen."""
        since, before = self._pictures[0]
        return {
            "seconds": now - since,
            "wait": _spread(stats.wait - before.wait),
            "connect": _spread(stats.connect - before.connect),
            "hold": _spread(stats.hold - before.hold),
        }


def _sample(stats: PoolStats, now: float) -> Sample:
    busy = stats.opening + stats.checking + stats.cleaning + stats.closing
    rest = (stats.max_size, stats.waiting, stats.checkouts, stats.waits, stats.wait_time)
    return (now, stats.in_use, stats.idle, busy, *rest, stats.timeouts)


def _spread(histogram: Histogram) -> dict[str, Any]:
    """Infinite, which JSON has not, becomes the last bound."""
    values = {"mean": histogram.mean, "median": histogram.quantile(0.5)}
    values["p99"] = histogram.quantile(0.99)
    highest = Histogram.bounds[-1]
    return {
        "count": histogram.count,
        **{name: value and min(value, highest) for name, value in values.items()},
    }


class Recorder:
    """Pictures of pools, whenever somebody asks; between these nothing runs."""

    def __init__(self, pools: Pools, clock: Callable[[], float] = time.monotonic) -> None:
        self._pools = pools
        self._clock = clock
        # Guards what is remembered, and lets one look at a time: who comes second waits for no
        # driver and no borrower, as looking at a pool does not.
        self._lock = threading.Lock()
        self._past: WeakKeyDictionary[Pool, Past] = WeakKeyDictionary()
        self._run = secrets.token_hex(8)
        _recorders.add(self)

    def named(self, name: str) -> list[Pool]:
        """The pools of that name."""
        return [pool for pool in self._pools() if pool.name == name]

    def picture(self, since: float = float("-inf")) -> dict[str, Any]:
        """Everything, with samples newer than `since`, a `now` of an earlier picture of this `run`."""
        every = list(self._pools())
        with self._lock:
            now = self._clock()
            shown = [self._shown(pool, now, since) for pool in every[:MOST_POOLS]]
        return {
            "process": os.getpid(),
            "run": self._run,
            "now": now,
            "sampled": list(SAMPLED),
            "kept": KEPT,
            "pools": shown,
            "left_off": max(len(every) - MOST_POOLS, 0),
        }

    def _shown(self, pool: Pool, now: float, since: float) -> dict[str, Any]:
        """Caller holds the lock."""
        stats = pool.stats()
        past = self._past.setdefault(pool, Past())
        past.note(stats, now)
        held = pool.holders()
        return {
            "name": pool.name,
            "stats": stats.as_dict(),
            "health": pool.health().as_dict(),
            "holders": [_shown_holder(holder) for holder in held[:MOST_HOLDERS]],
            "holders_left_off": max(len(held) - MOST_HOLDERS, 0),
            "settings": _settings(pool),
            "last_minute": past.times(stats, now),
            "samples": past.since(since),
        }

    def _after_fork(self) -> None:
        # Whoever held the lock is not here, and the pools begin anew.
        self._lock = threading.Lock()
        self._past = WeakKeyDictionary()
        self._run = secrets.token_hex(8)


def _shown_holder(holder: Holder) -> dict[str, Any]:
    values = holder.as_dict()
    values["site"] = values["site"][-MOST_TEXT:]
    values["thread_name"] = _thread_name(holder.thread)[:MOST_TEXT]
    return values


def _thread_name(ident: int) -> str:
    """ "" for one that `threading` does not know: a greenlet, a thread of C, one that has ended."""
    names = (thread.name for thread in threading.enumerate() if thread.ident == ident)
    return next(names, "")


def _settings(pool: Pool) -> dict[str, Any]:
    """Not the text of `setup`: it may set a password."""
    values = pool.options.as_dict()
    values["setup"] = None if values["setup"] is None else "(given)"
    values["max_size"], values["min_size"] = pool.max_size, pool.min_size
    if values["sizing"] is not None:
        values["sizing"] = f"{values['sizing']}, up to {pool.options.max_size}"
    return values


_recorders: WeakSet[Recorder] = WeakSet()


def _in_child() -> None:
    for recorder in list(_recorders):
        recorder._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
