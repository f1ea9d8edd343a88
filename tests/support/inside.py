"""The one look inside: what the state machines must know of a pool that cannot be seen from outside.

`Line` watches the order in which waiters are served, `Inside` the places of one ledger, `WatchedPool`
tells its judge when it lends and when what came back was dealt with. Must never judge a promise that
the pool's public face shows.
"""

from __future__ import annotations

import functools
from collections import Counter, deque
from collections.abc import Callable
from types import CodeType
from typing import Any, Protocol

from dbapi_pool import Pool
from dbapi_pool.ledger import Lease
from dbapi_pool.picture import picture
from dbapi_pool.stats import PoolStats

Complain = Callable[[str], object]


class Line(deque[Any]):
    """The line of waiters, with a note of who joined when, and of who was served out of turn."""

    def __init__(self, ident: Callable[[], int], complain: Complain) -> None:
        super().__init__()
        self.ident = ident
        self.complain = complain
        self.turns: dict[int, tuple[int, Any]] = {}  # once for all; with the waiter, so it stays
        self.joins: Counter[int] = Counter()
        self.looking: dict[int, int] = {}  # thread that looks at what it was given: its turn
        self.suspicions: dict[int, str] = {}  # what such a thread did for another, if it rejoins

    def append(self, waiter: Any) -> None:
        super().append(waiter)
        self._joined(waiter)

    def appendleft(self, waiter: Any) -> None:
        super().appendleft(waiter)
        self._joined(waiter)

    def insert(self, index: int, waiter: Any) -> None:
        super().insert(index, waiter)
        self._joined(waiter)

    def popleft(self) -> Any:
        waiter = super().popleft()
        self._left(waiter)
        return waiter

    def remove(self, waiter: Any) -> None:
        self.looking.pop(waiter.thread, None)
        super().remove(waiter)
        self._left(waiter)

    def ended(self, thread: int) -> None:
        """Its call of `connection()` ended."""
        self.looking.pop(thread, None)
        self.suspicions.pop(thread, None)

    def _left(self, waiter: Any) -> None:
        if waiter.lease is None:  # it gave up, or was told an error
            return
        turn = self._turn(waiter)
        complaint = f"thread {waiter.thread} was served out of turn"
        if any(self._turn(other) < turn for other in self):
            self.complain(complaint)
        # Who looks at what it was given may find it of no use, and make room: for itself first.
        me = self.ident()
        if self.looking.get(me, turn) < turn:
            self.suspicions[me] = complaint
        self.looking[waiter.thread] = turn

    def _joined(self, waiter: Any) -> None:
        self.looking.pop(waiter.thread, None)
        if waiter.thread in self.suspicions:
            self.complain(self.suspicions.pop(waiter.thread))
        self.joins[waiter.thread] += 1
        self.turns.setdefault(id(waiter), (len(self.turns), waiter))

    def _turn(self, waiter: Any) -> int:
        return self.turns[id(waiter)][0]


class Watcher(Protocol):
    """What a `WatchedPool` tells."""

    def watch_borrow(self, timeout: float | None, borrow: Callable[[], Any]) -> Any: ...
    def return_begins(self, conn: Any) -> None: ...
    def return_ended(self, conn: Any) -> None: ...


class WatchedPool(Pool):
    """A pool that tells whenever it lends, on whatever way, and when a return is over."""

    def __init__(self, watcher: Watcher, *args: Any, **options: Any) -> None:
        self._watcher = watcher
        super().__init__(*args, **options)

    def _borrow(self, timeout: float | None, code: CodeType, lasti: int) -> Any:
        borrow = functools.partial(super()._borrow, timeout, code, lasti)
        return self._watcher.watch_borrow(timeout, borrow)

    def check_in(self, lease: Lease) -> None:
        self._watch(lease, super().check_in, lease)

    def discard(self, lease: Lease, reason: str) -> None:
        self._watch(lease, super().discard, lease, reason)

    def _watch(self, lease: Lease, act: Callable[..., None], *args: Any) -> None:
        conn = lease.member.conn if lease.member is not None else None
        self._watcher.return_begins(conn)
        try:
            act(*args)
        finally:
            self._watcher.return_ended(conn)


class Inside:
    """The pool's own record. It does not keep the pool alive."""

    def __init__(self, pool: Pool, ident: Callable[[], int], complain: Complain) -> None:
        self._name = pool.name
        self._lock = pool._lock
        self._ledger = pool._ledger
        self._counters = pool._counters
        self.line = self._ledger.waiters = Line(ident, complain)

    def stats(self) -> PoolStats:
        """As `Pool.stats`, also of a pool that nobody has any more."""
        return picture(self._lock, self._name, self._ledger, self._counters)

    def to_be_opened(self) -> int:
        """Empty places that were given to waiters who have not taken them yet."""
        leases = [waiter.lease for _, waiter in self.line.turns.values()]
        return sum(lease is not None and lease.member is None for lease in leases)

    @staticmethod
    def connection_of(handle: Any) -> Any:
        """The driver's connection, without a note that it was taken."""
        return handle._lease.member.conn

    def check(self) -> None:
        """One place per member, and each place in one category."""
        census = self._ledger.census()
        groups = (census.idle, census.lent, census.orphaned, *census.tasks.values())
        placed = [id(place) for group in groups for place in group]
        assert len(placed) == len(set(placed)), "a place in two categories"
        idle = list(self._ledger.idle)
        assert len({id(lease) for lease in idle}) == len(idle), "a lease is idle twice"
        for lease in idle:
            assert lease.place.ref() is lease, "an idle lease does not own its place"
            assert lease.member is lease.place.member
            assert lease.member is not None
            assert lease.member.work is None, "idle, but somebody's work is on it"
            assert lease.member.thread == 0, "idle, but somebody's"
        members = [place.member for place in self._ledger.places if place.member is not None]
        assert len({id(member.conn) for member in members}) == len(members), "a member twice"
