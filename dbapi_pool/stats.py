"""`PoolStats`: a frozen picture of a pool at one moment, and the few counters behind it.

A leaf. Sizes are derived from the ledger's places; only events that leave no trace there are
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PoolStats:
    """Sizes now, and totals since the pool was made. Times are seconds."""

    name: str
    min_size: int
    max_size: int
    size: int
    """Driver connections open: idle + in use + being checked or cleaned."""
    idle: int
    in_use: int
    opening: int
    checking: int
    """Being pinged before they are handed out."""
    cleaning: int
    """Being cleaned after they came back."""
    closing: int
    waiting: int
    """Callers in line."""
    checkouts: int
    """Connections lent."""
    waits: int
    """Checkouts that found nothing idle."""
    wait_time: float
    """What those waited, together."""
    timeouts: int
    opened: int
    closed: Mapping[str, int] = field(default_factory=dict)
    """Connections closed, by reason."""
    connect_errors: int = 0
    state: str = "open"
    """"open", "suspended" or "closed"."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "closed": dict(self.closed)}


class Counters:
    """Totals of rare events, under a lock: the common path never comes here."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        # Guards the numbers below.
        self._lock = lock
        self.opened = 0
        self.waits = 0
        self.wait_time = 0.0
        self.timeouts = 0
        self.connect_errors = 0
        self.past_uses = 0
        self._closed: Counter[str] = Counter()

    def waited(self, seconds: float) -> None:
        """A checkout that had to wait ended."""
        with self._lock:
            self.waits += 1
            self.wait_time += seconds

    def timed_out(self) -> None:
        """A checkout ended without a connection."""
        with self._lock:
            self.timeouts += 1

    def connected(self) -> None:
        """A driver connection was opened."""
        with self._lock:
            self.opened += 1

    def connect_failed(self) -> None:
        """A driver connection could not be opened."""
        with self._lock:
            self.connect_errors += 1

    def retired(self, reason: str, uses: int) -> None:
        """A driver connection that was lent `uses` times leaves."""
        with self._lock:
            self._closed[reason] += 1
            self.past_uses += uses

    def closed(self) -> Mapping[str, int]:
        """Connections closed, by reason."""
        with self._lock:
            return MappingProxyType(dict(self._closed))
