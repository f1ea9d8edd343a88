"""`Outage`: how connecting has gone of late, and when it is worth another try.

A leaf: it is told what happened and what time it is. It must never connect, wait or tell anybody.
"""

from __future__ import annotations

from .errors import replica
from .ledger import OPENING, Census
from .member import AT_ONCE, NEVER

BACKOFF_FIRST = 0.05
BACKOFF_MOST = (
    0.5  # so that soon after the server is back there is a connection, also on a busy machine
)
TRY_FOR = 30.0  # how long connecting is tried again for somebody who was sent away


class Outage:
    """Failures to connect since the last success; none, mostly."""

    def __init__(self) -> None:
        self.last_error: BaseException | None = None
        self.failures = 0
        self.retry_at = AT_ONCE
        self.announced = False  # that checkouts fail at once
        self.told = False  # anybody, that connecting fails
        self._failed = 0
        self._since = NEVER

    def failed(self, exc: BaseException, now: float, transient: bool, chance: float) -> None:
        """Connecting failed; `transient`: another try may help, after a pause that doubles.

        `chance`: a random number from 0 to 1, lest all processes try at the same moment.
        """
        if transient and now - self.retry_at > TRY_FOR:
            self._since = now  # anew: nobody has tried for long
        self.last_error = replica(exc)
        wait = min(BACKOFF_MOST, BACKOFF_FIRST * 2**self.failures)
        self.failures = min(self.failures + 1, 30)
        self._failed += 1
        self.retry_at = now + wait * (0.5 + 0.5 * chance)

    def over(self) -> int | None:
        """Connecting succeeded. If anybody was told that it does not, how often it had failed."""
        failed = self._failed if self.told else None
        self.failures = self._failed = 0
        self._since = NEVER
        self.retry_at = AT_ONCE
        self.last_error = None
        self.announced = self.told = False
        return failed

    def vain_for(self, now: float, census: Census, patience: float) -> float:
        """For how long connecting has been in vain: it fails, or has not come back for `patience`
        seconds, and nothing is open. What nobody has tried for long may succeed now."""
        if census.open:
            return 0.0
        stuck = now - patience
        begun = [place.since for place in census.tasks[OPENING] if place.since <= stuck]
        failing = self._since if now - self.retry_at <= TRY_FOR else NEVER
        return max(0.0, now - min([failing, *begun]))
