"""What pooling has saved a program: the counts behind `ManagedModule.stats()`, and what it tells.

A leaf. Must never know a pool but by its `PoolStats`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from typing import Any

from ..stats import PoolStats

__all__ = ["ManagedStats", "Stopwatch", "Sum"]


@dataclass(frozen=True, kw_only=True)
class ManagedStats:
    """What became of the calls of one managed `connect`. Times are seconds."""

    module: str
    connects: int
    """Calls that gave a connection."""
    unpooled: int
    """Of these, those that got one of their own: sharing would be wrong, or every pool was in use."""
    opened: int
    """Connections that the pools opened."""
    connect_time: float
    """What the driver took to open these, together."""
    first_connect_time: float
    """What the first of them took: more than the others, as a rule, since libraries were loaded."""
    waits: int
    """Calls that found nothing idle, be it that a connection had to be opened."""
    wait_time: float
    """What those waited, together."""
    pools: tuple[PoolStats, ...]
    """The pools there are now, the last one used last; once all are closed, those that were closed."""

    @property
    def saved(self) -> int:
        """Connections that need not be opened."""
        return max(0, self.connects - self.unpooled - self.opened)

    @property
    def saved_time(self) -> float:
        """An estimate of what opening those would have taken: each as long as those that were opened
        after the first one, or as that if there was no other."""
        if self.opened < 2:
            return self.saved * self.connect_time
        later = self.connect_time - self.first_connect_time
        return self.saved * later / (self.opened - 1)


class Sum:
    """A number that threads add to. Not behind a lock, which a fork could copy locked."""

    def __init__(self) -> None:
        self._parts: dict[int, float] = {}  # each thread has its own

    def add(self, number: float) -> None:
        """Count it in."""
        me = get_ident()
        self._parts[me] = self._parts.get(me, 0) + number

    @property
    def value(self) -> float:
        """All of it."""
        return sum(self._parts.copy().values())


class Stopwatch:
    """What some calls took, in seconds."""

    def __init__(self) -> None:
        self.total = Sum()
        self.first: float | None = None

    def timing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which is timed from now on, unless it raises."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            result = function(*args, **kwargs)
            seconds = time.monotonic() - start
            self.total.add(seconds)
            self.first = seconds if self.first is None else self.first
            return result

        return timed
