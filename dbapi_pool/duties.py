"""What is due in a pool, and when: the housekeeper's list.

It decides; the keeper acts. All that it does itself is to take from `idle` what shall be closed or
pinged. It must never know a thread, wait, or call a driver.
"""

from __future__ import annotations

from collections.abc import Iterator

from .ledger import CHECKING, CLEANING, CLOSING, Census, Lease, Ledger, snapshot
from .member import AT_ONCE, Member
from .options import Options
from .source import Source

LOOK_AGAIN = 1.0  # seconds between two looks while somebody waits: a safety net, not a clock
_SEARCH_EVERY = 10.0  # seconds at least between two garbage collections
_CUT = (CHECKING, CLEANING, CLOSING)  # what is cut when it takes longer than `ping_timeout`


class Duties:
    """What one pool's settings ask for as time goes by. `now` is the keeper's clock."""

    def __init__(self, ledger: Ledger, source: Source, options: Options) -> None:
        self._ledger = ledger
        self._source = source
        self._options = options
        self._searched = AT_ONCE

    def next_look(self, census: Census, now: float) -> float:
        """Seconds until something is due; 0 or less: it already is."""
        options = self._options
        spans = [options.idle_timeout, options.keepalive, options.leak_after, options.max_lifetime]
        look = min((span / 4 for span in spans if span is not None), default=60.0)
        if not self._source.driver.local:
            look = min(look, options.ping_timeout)
        for task in _CUT:
            for place in census.tasks[task]:
                late = place.since + options.ping_timeout - now
                look = min(look, late if late > 0 else options.ping_timeout)
        for member in self._ledger.idle_members():
            look = min(look, self._idle_due(member) - now)
        return look

    def _idle_due(self, member: Member) -> float:
        """When something must be done about an idle member."""
        options = self._options
        due = member.expires
        if options.idle_timeout is not None and self._may_shrink():
            due = min(due, member.returned + options.idle_timeout)
        if options.keepalive is not None:
            due = min(due, max(member.returned, member.pinged) + options.keepalive)
        return due

    def _may_shrink(self) -> bool:
        return self._source.driver.expendable and self._ledger.census().open > self._ledger.min_size

    def idle_to_close(self, now: float) -> Iterator[tuple[list[Lease], str]]:
        """What is taken from the idle ones to be closed, and why."""
        ledger = self._ledger
        for lease in ledger.take_idle(lambda member: member.doom is not None):
            yield [lease], lease.member.doom
        yield ledger.take_idle(lambda member: now >= member.expires), "lifetime"
        # Left behind by a `resize()` that was interrupted.
        yield ledger.take_idle(lambda member: True, ledger.excess()), "resized"
        if self._source.driver.expendable:
            yield self._surplus(), "surplus"
            yield self._idle_for_long(now), "idle"

    def _surplus(self) -> list[Lease]:
        """More than `max_idle`: what was opened or checked for somebody who then left."""
        most = self._options.max_idle
        if most is None:
            return []
        return self._ledger.take_idle(lambda member: True, max(len(self._ledger.idle) - most, 0))

    def _idle_for_long(self, now: float) -> list[Lease]:
        after = self._options.idle_timeout
        if after is None:
            return []
        spare = self._ledger.census().open - self._ledger.min_size
        return self._ledger.take_idle(lambda member: now >= member.returned + after, max(spare, 0))

    def idle_to_ping(self, now: float) -> list[Lease]:
        """What is taken from the idle ones, since `keepalive` asks for a ping."""
        every = self._options.keepalive
        if every is None:
            return []
        return self._ledger.take_idle(
            lambda member: now >= max(member.returned, member.pinged) + every
        )

    def hung(self, census: Census, now: float) -> Iterator[Member]:
        """In which a call into the driver takes longer than `ping_timeout`."""
        for task in _CUT:
            for place in census.tasks[task]:
                member = place.member
                late = now - place.since >= self._options.ping_timeout
                if late and member is not None and place.task == task:
                    yield member

    def worth_a_search(self, census: Census, now: float) -> bool:
        """All are lent, and nobody was served for a while: a dropped handle may be in a reference
        cycle (an exception's traceback makes one), which nothing collects while all threads wait."""
        waiters = snapshot(self._ledger.waiters)
        if len(census.lent) < self._ledger.max_size or not waiters:
            return False
        waited = now - min(waiter.since for waiter in waiters)
        # Ever more rarely in one long wait, since a collection stops everybody.
        if waited < LOOK_AGAIN or now - self._searched < max(_SEARCH_EVERY, waited / 2):
            return False
        self._searched = now
        return True
