"""The picture of a pool that `Pool.stats()` gives: from the ledger's places, and from what is counted.

Reads both, changes nothing. It must never know the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from .counters import Counters
from .ledger import CHECKING, CLEANING, CLOSING, OPENING, Census, Ledger
from .stats import Histogram, PoolStats


def picture(
    lock: AbstractContextManager[object], name: str, ledger: Ledger, counters: Counters
) -> PoolStats:
    """A frozen picture; `lock` is that of the ledger and of the counters, so both are of one moment."""
    with lock:
        stats = _picture(name, ledger, counters)
    return stats


def _picture(name: str, ledger: Ledger, counters: Counters) -> PoolStats:
    """Caller holds the lock."""
    census = ledger.census()
    members = _members(census)
    records = [member.record for member in members if member.record is not None]
    closed, refused = counters.by_reason()
    wait = Histogram.of([counters.waits])
    connect = Histogram.of([counters.connects])
    return PoolStats(
        name=name,
        min_size=ledger.min_size,
        max_size=ledger.max_size,
        size=census.open,
        idle=len(census.idle),
        in_use=len(census.lent),
        opening=len(census.tasks[OPENING]),
        checking=len(census.tasks[CHECKING]),
        cleaning=len(census.tasks[CLEANING]),
        closing=len(census.tasks[CLOSING]),
        waiting=len(ledger.waiters),
        checkouts=counters.past_uses + sum(member.uses for member in members),
        waits=wait.count,
        waits_in_vain=counters.waits_in_vain,
        wait_time=wait.total,
        timeouts=counters.timeouts,
        opened=connect.count,
        closed=closed,
        connect_errors=counters.connect_errors,
        refused=refused,
        leaked=counters.leaked,
        wait=wait,
        connect=connect,
        hold=Histogram.of([counters.past_holds, *(record.holds for record in records)]),
        state=ledger.gate or "open",
    )


def _members(census: Census) -> Sequence[Any]:
    """Of every connection that is open, or being closed."""
    busy = [*census.tasks[CHECKING], *census.tasks[CLEANING], *census.tasks[CLOSING]]
    places = [*census.idle, *census.lent, *census.orphaned, *busy]
    return [member for place in places if (member := place.member) is not None]
