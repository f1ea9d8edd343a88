"""The concurrency core: who gets which member, and when.

It knows no driver, does no I/O, reads no clock and knows nobody but `errors`. Of a member it knows
which thread has borrowed it, nothing else.

**Capacity is objects.** A `Place` is room for one driver connection; `max_size` of them may be
occupied. A `Lease` is the right to use one place, and a place has at most one living lease: it
refers to it weakly. So where a lease *is* says everything: parked in `idle`, in a borrower's
handle, with a waiter, in a job of the keeper. A lease that anybody loses (an exception between two
steps, a handle dropped without close, a thread that died) stops living, and its place is found to
have none: empty if it holds no member, orphaned if it does. No number is kept that could drift.

**The common path takes no lock.** Checkout pops a lease off `idle`, checkin appends it: one C call
each, atomic, and a lease lost right after is found again as above. What makes that safe beside
waiters is order: a waiter enters `waiters` and then looks at `idle`; who returns appends to `idle`
and then looks at `waiters`. Whoever comes second sees the other.

**What must be atomic**, with or without the GIL; on free-threaded builds CPython's per-object locks
make it so (its documentation: "Thread safety guarantees"):

* `deque`: `append`, `pop`, `remove`, `len`, an index. The common path, and `_take`: one wins.
* `list`: `append`, `remove`, `pop`, `+= (x,)`, `del x[-1]`, replacing a slice, a copy. A handle's
  tether (one returns), `wishes`, `Work.inside`, `Work.cursors`.
* Loading and storing an attribute: all see the old or the new. `place.task`, `member.doom`, `gate`.
* Calling a weak reference: the lease, kept alive from then on, or None.
* `Signal.set` from several threads at once.

Not atomic, and so used by one owner or under a lock only: `x += 1` (`member.uses`, by the borrower;
`Counters`, under its lock), any look followed by a store (`place.ref`, under this one), walking
through a deque (`snapshot`), and emptying a slot: on free-threaded 3.13 two threads may both succeed.
Two failures at once may count as one for the keeper, whose next attempt is then made sooner. Two
drains may not, so `generation` is no number: each stores an object of its own, and an opener that
began before any of them finds another than it saw. A lease dropped by another thread than the one
that made it may be noticed later without the GIL: when that one runs on, or at a garbage collection,
which the keeper sees to while anybody waits.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections import deque
from collections.abc import Callable

from .errors import PoolClosed, PoolError, PoolFull, PoolTimeout, replica

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, Protocol, TypeVar

    T = TypeVar("T")

    class SignalLike(Protocol):
        """What a waiter sleeps on; see `system.Signal`."""

        def set(self) -> None: ...
        def wait(self, timeout: float | None = None) -> bool: ...


OPEN = None
SUSPENDED = "suspended"
CLOSED = "closed"

OPENING = "opening"
CHECKING = "checking"
CLEANING = "cleaning"
CLOSING = "closing"

NOT_YET = float("inf")


def snapshot(things: deque[T]) -> list[T]:
    """What is in it, while others append and pop at its right end, and remove.

    Without the GIL, `list(things)` takes many steps and raises if one of these falls between them.
    Looked at one by one from the right, what stays in it all the while is found at least once.
    """
    try:
        return list(things)
    except RuntimeError:
        found: dict[int, T] = {}
        for index in reversed(range(len(things))):
            with contextlib.suppress(IndexError):
                thing = things[index]
                found[id(thing)] = thing
        return list(reversed(found.values()))


def _no_lease() -> None:
    """Stands for the weak reference of a place that has no lease."""
    return None


class Place:
    """Room for one driver connection."""

    __slots__ = ("member", "ref", "since", "task")

    def __init__(self) -> None:
        self.member: Any = None
        self.ref: Callable[[], Lease | None] = _no_lease
        self.task: str | None = None  # what the keeper does with it; meaningless without a lease
        self.since = 0.0  # when that began, by the keeper's clock; NOT_YET: it is about to


class Lease:
    """The right to use one place. Whoever holds it, owns it; dropped, it is found again."""

    __slots__ = ("__weakref__", "member", "place", "pool")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.member = place.member
        self.pool: Any = None  # set while lent, so that a borrowed connection keeps its pool


class Waiter:
    """One caller in line."""

    __slots__ = (
        "error", "in_line", "lease", "patient", "signal", "since", "thread", "turn", "where"
    )  # fmt: skip

    def __init__(
        self, signal: SignalLike, thread: int, since: float, where: Any, patient: bool = True
    ) -> None:
        """`patient=False`: waits only for what is free or on its way."""
        self.signal = signal
        self.patient = patient
        self.thread = thread
        self.since = since
        self.where = where
        self.turn = 0  # its number in the line, for good: see `Ledger.rejoin`
        self.in_line = False  # False: certainly not
        self.lease: Lease | None = None
        self.error: BaseException | None = None

    @property
    def answered(self) -> bool:
        """Whether it was given a lease, or an error to raise."""
        return self.lease is not None or self.error is not None

    def take(self) -> Lease:
        """The answer: the lease, which is the caller's now, or the error."""
        lease, self.lease = self.lease, None
        if lease is not None:
            return lease
        error, self.error = self.error, None
        assert error is not None, "taken before it was answered"
        try:
            raise error
        finally:
            del error  # or it and this frame would keep each other, and the caller's, alive


class Stuck:
    """A lent member whose borrower waits in line for another. It does not keep the lease."""

    __slots__ = ("member", "place", "uses", "waiter")

    def __init__(self, place: Place, waiter: Waiter) -> None:
        self.place = place
        self.member = place.member
        self.uses = self.member.uses  # which lease of the member it is
        self.waiter = waiter

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Stuck)
            and self.member is other.member
            and self.uses == other.uses
            and self.waiter is other.waiter
        )


class Wish:
    """One caller who waits until sizes change. Only the caller holds it: one who was interrupted
    wishes nothing any more."""

    __slots__ = ("__weakref__", "count", "signal")

    def __init__(self, signal: SignalLike, count: int = 0) -> None:
        """`count`: so many connections shall be open."""
        self.signal = signal
        self.count = count


class Census:
    """Every occupied place, by what is being done with it; one moment's view."""

    __slots__ = ("idle", "lent", "orphaned", "tasks")

    def __init__(self) -> None:
        self.idle: list[Place] = []
        self.lent: list[Place] = []
        self.tasks: dict[str, list[Place]] = {OPENING: [], CHECKING: [], CLEANING: [], CLOSING: []}
        self.orphaned: list[Place] = []

    @property
    def occupied(self) -> int:
        """Places that hold, or are about to hold, a driver connection."""
        return self.open + len(self.tasks[OPENING]) + len(self.tasks[CLOSING])

    @property
    def open(self) -> int:
        """Those with a connection that is not being closed."""
        busy = len(self.tasks[CHECKING]) + len(self.tasks[CLEANING])
        return len(self.idle) + len(self.lent) + len(self.orphaned) + busy


class Ledger:
    """Places, leases and the line of waiters of one pool."""

    def __init__(
        self,
        lock: AbstractContextManager[object],
        min_size: int,
        max_size: int,
        lost: Callable[[Any], object],
    ) -> None:
        """`lost` is called with a weak reference when a lease died: anywhere, at any time, maybe
        under this ledger's own lock. It may only set a flag or a signal."""
        # The rule of the lock: it guards `places`, `waiters`, the assignment of leases to places and
        # the switching of `gate`. Under it nothing blocks, no driver, logger or user code is called.
        # It is re-entrant only because the garbage collector may run a finalizer under it, which
        # returns a connection: after every call, what was looked at before is looked at again.
        # It may be skipped for `idle.pop()`, `idle.append()` with a look at `waiters` and `gate`
        # before the one and after the other (see `settle`), and `idle.remove()`.
        # A `with` block of it raises nothing (on Python 3.10 a signal may strike on the way to its
        # `__exit__`, which is not called then) and holds no loop (from 3.13 on the jump back may be
        # struck, and lie outside of the block's protection): both in functions of their own.
        self._lock = lock
        self._lost = lost
        self.min_size = min_size
        self.max_size = max_size
        self.inline = False  # waiters may be given an empty place, to open it themselves
        self.places: list[Place] = []
        self.idle: deque[Lease] = deque()  # LIFO, so that a pool can shrink
        self.waiters: deque[Waiter] = deque()  # FIFO
        self._turns = itertools.count()
        self.gate: str | None = OPEN
        self.generation = object()  # another for each drain; not a number, see above
        # What those who warm the pool up now ask for, beside `min_size`.
        self.wishes: list[weakref.ref[Wish]] = []

    # -- waiting ----------------------------------------------------------------------------------

    def join(self, waiter: Waiter, max_waiting: int | None) -> bool:
        """Stand in line, and be served if something is free.

        True: nothing is to be done but to wait; see `_is_settled`. Raises `PoolClosed`, and if nothing
        is free or on its way for this waiter `PoolTimeout` for the impatient and `PoolFull`.
        """
        settled = False
        with self._lock:
            refusal = None
            if self.gate is not OPEN or max_waiting is not None or not waiter.patient:
                refusal = self._refusal(waiter, max_waiting)
            if refusal is None:
                waiter.turn = next(self._turns)
                waiter.in_line = True
                self.waiters.append(waiter)
                self._serve()
                settled = self._is_settled(waiter.thread)
        if refusal is not None:
            raise refusal
        return settled

    def _is_settled(self, thread: int) -> bool:
        """Whether every place holds a member, and none was borrowed by `thread`: so no connection
        can be opened now (who vacates a place sees to that then), and whether `thread` waits makes no
        deadlock. Caller holds the lock."""
        for place in self.places:
            member = place.member
            if member is None or member.thread == thread:
                return False
        return len(self.places) >= self.max_size

    def _refusal(self, waiter: Waiter, max_waiting: int | None) -> type[PoolError] | None:
        """Why it may not stand in line. Caller holds the lock."""
        if self.gate is CLOSED:
            return PoolClosed
        if waiter.patient and max_waiting is None:
            return None
        lent = len(self._census().lent) if self.gate is OPEN else self.max_size
        ahead = len(self.waiters) - max(self.max_size - lent, 0)
        if ahead >= 0 and not waiter.patient:
            return PoolTimeout
        if max_waiting is not None and ahead >= max_waiting:
            return PoolFull
        return None

    def stuck(self, waiter: Waiter) -> list[Stuck]:
        """Every lent member, if each was borrowed by a thread that waits in this line, and `waiter`
        still waits: unless one was passed on to another thread, nobody will ever be served. Else, and
        to a thread that has borrowed none of them, an empty list: its waiting changes nothing."""
        with self._lock:
            return self._stuck(waiter) if self._has_borrowed(waiter.thread) else []

    def _has_borrowed(self, thread: int) -> bool:
        """Caller holds the lock."""
        members = [place.member for place in self.places]
        return any(member is not None and member.thread == thread for member in members)

    def leave_stuck(self, waiter: Waiter, before: list[Stuck]) -> list[Stuck]:
        """As `stuck`, if that is still as it was `before`; `waiter` leaves the line then: so only one
        is told."""
        with self._lock:
            now = self._stuck(waiter)
            if now != before:
                return []
            self.waiters.remove(waiter)
            waiter.in_line = False
            return now

    def _stuck(self, waiter: Waiter) -> list[Stuck]:
        """Caller holds the lock."""
        if waiter not in self.waiters:
            return []
        places = self._census().lent
        waiting = {other.thread: other for other in self.waiters}
        members = [place.member for place in places]
        if len(places) < self.max_size or not all(
            member is not None and member.thread in waiting and not member.in_call
            for member in members
        ):
            return []
        return [Stuck(place, waiting[place.member.thread]) for place in places]

    def rejoin(self, waiter: Waiter) -> None:
        """Stand in line again, as if never served: what the waiter was given turned out not to be
        usable. That is first, or behind those who came before it and are back already."""
        with self._lock:
            closed = self.gate is CLOSED
            if not closed:
                waiter.lease = None
                waiter.in_line = True
                before = sum(other.turn < waiter.turn for other in tuple(self.waiters))
                self.waiters.insert(before, waiter)
                self._serve()
        if closed:
            raise PoolClosed

    def leave(self, waiter: Waiter) -> None:
        """Leave the line. It may have been served at the same instant: see `waiter.lease`."""
        with self._lock:
            try:
                self.waiters.remove(waiter)
            except ValueError:
                pass
            waiter.in_line = False
            self._serve()

    def fail(
        self,
        error: BaseException,
        whom: Callable[[Waiter], bool] = lambda waiter: True,
        most: int | None = None,
    ) -> None:
        """Let those in line raise `error`: the first `most` of them, and only `whom`.

        Each gets a copy of its own, for a traceback of its own.
        """
        # Copied before the lock is taken: that is the error's own code.
        pairs = [(waiter, replica(error)) for waiter in snapshot(self.waiters) if whom(waiter)]
        with self._lock:
            self._fail(pairs[:most])
            self._serve()

    def _fail(self, pairs: list[tuple[Waiter, BaseException]]) -> None:
        """Caller holds the lock."""
        for waiter, error in pairs:
            if waiter in self.waiters and not waiter.answered:
                waiter.error = error
                self._dismiss(waiter)

    def _dismiss(self, waiter: Waiter) -> None:
        """It has its answer. Caller holds the lock."""
        # Told first: if an exception strikes in between, it is still in line, and leaves it itself.
        waiter.signal.set()
        try:
            self.waiters.remove(waiter)
        except ValueError:  # a finalizer was quicker
            pass
        waiter.in_line = False

    def serve(self) -> None:
        """Give what is free to those who wait, first come, first served."""
        with self._lock:
            self._serve()

    def _serve(self) -> None:
        """Caller holds the lock. May be entered again by a finalizer, from `_next`."""
        while self.waiters:
            waiter = self.waiters[0]
            if waiter.lease is None and waiter.error is None:  # else it was struck in between
                lease = self._next()
                if lease is None:
                    return
                if waiter.answered or waiter not in self.waiters:
                    self._put_back(lease)
                    continue
                waiter.lease = lease  # from here on it is the waiter's
                del lease
            self._dismiss(waiter)

    def _put_back(self, lease: Lease) -> None:
        """Nobody wants it after all. Caller holds the lock."""
        if lease.member is not None:
            self.idle.append(lease)

    def _next(self) -> Lease | None:
        """Something free, or None. Caller holds the lock."""
        if self.gate is not OPEN:
            return None
        if not self.idle and not self.inline:
            return None
        try:
            return self.idle.pop()
        except IndexError:  # also when somebody on the common path was quicker
            return self._vacancy() if self.inline else None

    # -- places -----------------------------------------------------------------------------------

    def park(self, lease: Lease) -> None:
        """What was opened or checked is idle. In one step with the end of that task: else who looked
        between would count as lent what somebody in line is about to get, and him, too."""
        with self._lock:
            lease.place.task = None
            self.idle.append(lease)

    def settle(self) -> list[Lease]:
        """After appending to `idle` while somebody waits, or the gate is not open: serve the line.

        Returns leases to be closed: all that is idle, if the pool was closed meanwhile.
        """
        with self._lock:
            self._serve()
        return self.take_idle(lambda member: True) if self.gate is CLOSED else []

    def take_idle(self, wanted: Callable[[Any], object], most: int | None = None) -> list[Lease]:
        """Take idle leases, longest idle first, whose member is `wanted`; they are the caller's."""
        taken: list[Lease] = []
        for lease in snapshot(self.idle):
            if most is not None and len(taken) >= most:
                break
            member = lease.member  # None: somebody was quicker, and it is closed already
            if member is not None and wanted(member):
                taken.append(lease)
                if not self._take(lease):
                    taken.pop()
        return taken

    def idle_members(self) -> list[Any]:
        """Those idle at this moment; others may borrow them meanwhile."""
        members = [lease.member for lease in snapshot(self.idle)]
        return [member for member in members if member is not None]

    def _take(self, lease: Lease) -> bool:
        """Take this very lease out of idle; False if somebody was quicker."""
        try:
            self.idle.remove(lease)
        except (ValueError, IndexError):
            return False
        return True

    def claim(
        self, stuck: float, *, single: bool = False, step: int = 1, slow: float = -NOT_YET
    ) -> Lease | None:
        """A lease on an empty place, for an opener; None if no further connection is wanted.

        Wanted is one for each waiter that nothing is on its way to, and whatever `floor` lacks; with
        `single`, at most one at a time. Where some are open already, those who wait may soon get one
        of these: then at most `step` at a time are opened for them, those not counted that began
        before the time `slow`. What began before the time `stuck` (opening, checking, cleaning) is
        not relied upon.
        """
        with self._lock:
            if self.gate is not OPEN or not self._has_room():
                return None
            census = self._census()
            opening, checking, cleaning = (
                sum(place.since > stuck for place in census.tasks[task])
                for task in (OPENING, CHECKING, CLEANING)
            )
            coming = opening + checking + cleaning
            if single and opening:
                return None
            if census.open + opening >= self.floor():
                at_once = sum(place.since > slow for place in census.tasks[OPENING])
                if len(self.waiters) <= coming or (census.open and at_once >= step):
                    return None
            return self._vacancy()

    def _has_room(self) -> bool:
        """Whether another connection could be opened. Caller holds the lock."""
        occupied = [p for p in self.places if p.member is not None or p.ref() is not None]
        return len(occupied) < self.max_size

    def floor(self) -> int:
        """How many connections shall be open at least, now."""
        wishes = [wish.count for ref in tuple(self.wishes) if (wish := ref()) is not None]
        return max([self.min_size, *wishes])

    def adopt(self) -> list[Lease]:
        """New leases on the orphaned places. Their connections are in doubt: close them."""
        with self._lock:
            return self._adopt()

    def _adopt(self) -> list[Lease]:
        """Caller holds the lock."""
        found = [self._lease(place, CLOSING) for place in self.places if self._orphaned(place)]
        return [lease for lease in found if lease is not None]

    def fill(self, lease: Lease, member: Any, task: str | None = None) -> None:
        """The place of `lease` now holds `member`; `task`: what is still being done with it."""
        lease.place.member = member
        lease.member = member
        lease.place.task = task

    def owns(self, lease: Lease) -> bool:
        """Whether the lease is still good: not so when it was lost, and then brought back to life by
        a finalizer (PEP 442). Its place has gone, or is going, another way."""
        return lease.place.ref() is lease

    def vacate(self, lease: Lease) -> None:
        """The place of `lease` is empty: its connection is closed for good, or was never opened."""
        place = lease.place
        with self._lock:
            lease.member = place.member = None
            place.task = None
            place.ref = _no_lease
            if len(self.places) > self.max_size:
                self.places.remove(place)
            self._serve()

    def excess(self) -> int:
        """How many connections are open or opening above the bound, after it was lowered. Those that
        are being closed do not count."""
        if len(self.places) <= self.max_size:
            return 0
        census = self.census()
        return max(0, census.open + len(census.tasks[OPENING]) - self.max_size)

    def shut(self, gate: str | None) -> bool:
        """Open, suspend or close the pool; False if it is closed, which is for ever."""
        with self._lock:
            if self.gate is CLOSED:
                return gate is CLOSED
            self.gate = gate
            self._serve()
            return True

    def census(self) -> Census:
        """One moment's view of every place."""
        with self._lock:
            return self._census()

    def _census(self) -> Census:
        """Caller holds the lock."""
        parked = {id(lease.place) for lease in snapshot(self.idle)}
        census = Census()
        for place in self.places:
            task = place.task  # once: whoever has the lease changes it without the lock
            if place.ref() is None:
                if place.member is not None:
                    census.orphaned.append(place)
            elif id(place) in parked:
                census.idle.append(place)
            else:
                (census.tasks[task] if task else census.lent).append(place)
        return census

    @staticmethod
    def _orphaned(place: Place) -> bool:
        return place.member is not None and place.ref() is None

    def _vacancy(self) -> Lease | None:
        """A lease on an empty place, to open it, if the bound allows. Caller holds the lock."""
        spare = Place()  # now, since making it may run a finalizer, which may take the last room
        occupied = 0
        empty = None
        for place in self.places:
            if place.member is not None or place.ref() is not None:
                occupied += 1
            elif empty is None:
                empty = place
        if occupied >= self.max_size:
            return None
        if empty is None:
            empty = spare
            self.places.append(empty)
        return self._lease(empty, OPENING)

    def _lease(self, place: Place, task: str) -> Lease | None:
        """A new lease on a place that has none. Caller holds the lock.

        None if a finalizer, run meanwhile in this very thread, was quicker: from the last look at
        `place.ref` to its change there is no call.
        """
        before = place.ref
        lease = Lease(place)
        ref = weakref.ref(lease, self._lost)
        if before() is not None or place.ref is not before:
            return None
        place.since = NOT_YET
        place.task = task
        place.ref = ref
        return lease
