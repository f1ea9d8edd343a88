"""`Counters`: what a pool counts, since it leaves no trace in the ledger's places.

A leaf. `PoolStats` shows the totals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager


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
