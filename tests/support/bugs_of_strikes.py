"""Known bugs, planted into copies of the pool's methods: each costs something when an exception
strikes at the wrong moment, and nothing otherwise. The injector must find each.

It must never be imported by what is not a test of the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dbapi_pool import Pool
from dbapi_pool.cleaning import Cleaner
from dbapi_pool.crew import Crew
from dbapi_pool.keeper import Keeper
from dbapi_pool.ledger import CLOSING, Ledger, Waiter


@dataclass(frozen=True)
class Bug:
    """`methods`: what takes the place of which; `where`: the scenario that shows it."""

    name: str
    where: str
    methods: dict[tuple[type, str], Callable[..., Any]]
    since: tuple[int, int] = (3, 10)
    """The first Python that has it."""

    def __str__(self) -> str:
        return self.name


# -- a counter instead of places: nobody takes back what a dead opener counted ---------------------

_vacancy, _vacate = Ledger._vacancy, Ledger.vacate


def _counted_vacancy(ledger: Any) -> Any:
    count = getattr(ledger, "count", 0)
    if count >= ledger.max_size:
        return None
    ledger.count = count + 1
    return _vacancy(ledger)


def _uncounted(ledger: Any, lease: Any) -> None:
    ledger.count -= 1
    _vacate(ledger, lease)


# -- a lock by hand: struck between `acquire()` and `try` ------------------------------------------


def _leave_by_hand(ledger: Any, waiter: Waiter) -> None:
    ledger._lock.acquire()
    try:
        _strike_out(ledger, waiter)
        ledger._serve()
    finally:
        ledger._lock.release()


def _strike_out(ledger: Any, waiter: Waiter) -> None:
    try:
        ledger.waiters.remove(waiter)
    except ValueError:
        pass


# -- a loop inside `with lock:` whose jump back the compiler put outside of its protection ---------


def _loop_in_the_lock(ledger: Any, waiter: Waiter) -> None:
    with ledger._lock:
        for other in tuple(ledger.waiters):
            if other is waiter and not waiter.answered:
                ledger.waiters.remove(waiter)
        ledger._serve()


# -- who was interrupted stays in line -------------------------------------------------------------


def _stays(pool: Any, waiter: Waiter) -> None:
    """Nobody leaves the line."""


# -- out of the line before there is an answer -----------------------------------------------------


def _serve_hastily(ledger: Any) -> None:
    while ledger.waiters:
        waiter = ledger.waiters.popleft()
        lease = ledger._next()
        if lease is None:
            ledger.waiters.appendleft(waiter)
            return
        waiter.lease = lease
        del lease
        waiter.signal.set()


# -- the housekeeper dies, and nobody misses it ----------------------------------------------------


def _deaf(keeper: Keeper) -> None:
    """Nobody revives the housekeeper."""


# -- a cleaning that was cut short counts as done --------------------------------------------------


def _clean_enough(pool: Any, lease: Any, member: Any, work: Any) -> Any:
    cleaner = Cleaner(pool._source.driver, pool._options.reset, pool._options.setup)
    try:
        return cleaner.clean(member, work)
    except BaseException:
        member.work = None
        lease.pool = None
        pool._keeper.put(lease)
        raise


# -- work that only its submitter looks after ------------------------------------------------------


def _submit_only(crew: Any, job: Callable[[], object]) -> None:
    crew._jobs.append(job)
    _tend(crew)


_tend = Crew.tend


def _untended(crew: Any) -> None:
    """A job that nobody was told of stays where it is."""


# -- a permit taken out of a list before it has an owner -------------------------------------------


def _adopt_once(ledger: Any) -> list[Any]:
    """Orphaned places are taken off the books first, and then given new leases."""
    found = [place for place in ledger.places if ledger._orphaned(place)]
    for place in found:
        ledger.places.remove(place)
    leases = []
    for place in found:
        leases.append(ledger._lease(place, CLOSING))
        ledger.places.append(place)
    return leases


# -- `resize()` leaves what is too many ------------------------------------------------------------


def _resize_once(pool: Any, max_size: int) -> None:
    pool._options = replace(pool._options, max_size=max_size)
    ledger = pool._ledger
    excess = ledger.excess() + len(ledger.places) - max_size
    ledger.max_size = max_size
    pool._keeper.retire_all(ledger.take_idle(lambda member: True, excess), "resized")
    ledger.serve()
    pool._keeper.wish()


def _retire_only_the_old(keeper: Any, now: float) -> None:
    ledger = keeper._ledger
    after = keeper._options.idle_timeout
    spare = max(ledger.census().open - ledger.min_size, 0)
    old = ledger.take_idle(lambda member: now >= member.returned + after, spare)
    keeper.retire_all(old, "idle")


BUGS = [
    Bug(
        "a counter instead of places",
        "checkout: opening",
        {(Ledger, "_vacancy"): _counted_vacancy, (Ledger, "vacate"): _uncounted},
    ),
    Bug("a lock by hand", "checkout: timed out", {(Ledger, "leave"): _leave_by_hand}),
    Bug(
        "a loop inside the lock",
        "checkout: timed out behind others",
        {(Ledger, "leave"): _loop_in_the_lock},
        since=(3, 13),
    ),
    Bug("the line is not left", "checkout: waited", {(Pool, "_quit"): _stays}),
    Bug(
        "out of the line before the answer",
        "checkin: clean, to a waiter",
        {(Ledger, "_serve"): _serve_hastily},
    ),
    Bug("nobody revives the housekeeper", "keeper: leak_after", {(Keeper, "revive"): _deaf}),
    Bug("half cleaned is clean", "checkin: rollback", {(Pool, "_clean"): _clean_enough}),
    Bug(
        "a job without a hand",
        "invalidate",
        {(Crew, "submit"): _submit_only, (Crew, "tend"): _untended},
    ),
    Bug(
        "off the books while it is adopted",
        "handle dropped",
        {(Ledger, "_adopt"): _adopt_once},
    ),
    Bug(
        "the excess is left",
        "resize() down",
        {
            (Pool, "resize"): _resize_once,
            (Keeper, "_retire_idle"): _retire_only_the_old,
        },
    ),
]
