"""`Counters`: what a pool counts, since it leaves no trace in the ledger's places.

A leaf. `PoolStats` shows the totals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from .tally import Tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .member import Member


class Counters:
    """Totals of rare events, under a lock: the common path never comes here."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        # Guards the numbers below.
        self._lock = lock
        self.waits = Tally()
        self.waits_in_vain = 0
        self.connects = Tally()
        self.past_holds = Tally()  # of connections that have left
        self.past_uses = 0
        self.connect_errors = 0
        self.timeouts = 0
        self.leaked = 0
        self._refused: Counter[str] = Counter()
        self._closed: Counter[str] = Counter()

    def waited(self, seconds: float) -> None:
        """A checkout that had to wait ended."""
        with self._lock:
            self.waits.add(seconds)

    def refused(self, why: str, timeout: bool, waited: bool) -> None:
        """A checkout ended without a connection; `timeout`: by one of the pool's timeouts; `waited`: it
        is among the waits."""
        with self._lock:
            self.waits_in_vain += waited
            self._refused[why] += 1
            self.timeouts += timeout

    def connected(self, seconds: float) -> None:
        """A driver connection was opened."""
        with self._lock:
            self.connects.add(seconds)

    def connect_failed(self) -> None:
        """A driver connection could not be opened."""
        with self._lock:
            self.connect_errors += 1

    def leak(self) -> None:
        """A connection has been lent for too long."""
        with self._lock:
            self.leaked += 1

    def retired(self, reason: str, member: Member) -> None:
        """A driver connection leaves. What was counted with it is counted here from now on: in one
        step, or a look in between would see less than one before."""
        with self._lock:
            uses, holds = member.part()
            self._closed[reason] += 1
            self.past_uses += uses
            if holds is not None:
                self.past_holds.add_all(holds)

    def by_reason(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Connections closed by reason, and checkouts refused by error."""
        with self._lock:
            return MappingProxyType(dict(self._closed)), MappingProxyType(dict(self._refused))
