"""Known bugs to plant into copies of the core, so that a check can show that it finds them.

Each is a patch: `with planted(name):` puts it in and takes it out. Wrong on purpose: no code to learn
from. Must never be used by a check that the core is right.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from dbapi_pool import handles, ledger, pool
from dbapi_pool.cleaning import Cleaner
from dbapi_pool.errors import PoolClosed
from dbapi_pool.keeper import Keeper
from dbapi_pool.ledger import CLOSED, OPEN, Lease, Ledger, Waiter
from dbapi_pool.member import Member, Work
from dbapi_pool.pool import Pool

Patches = list[tuple[Any, str, Any]]
BUGS: dict[str, Callable[[], Patches]] = {}


def _bug(name: str) -> Callable[[Callable[[], Patches]], Callable[[], Patches]]:
    def note(patches: Callable[[], Patches]) -> Callable[[], Patches]:
        BUGS[name] = patches
        return patches

    return note


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The core with that bug."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, wrong in BUGS[name]():
            stack.enter_context(mock.patch.object(owner, attribute, wrong))
        yield


# -- giving back ----------------------------------------------------------------------------------


@_bug("a doomed member is lent again")
def _() -> Patches:
    right = Pool.check_in

    def check_in(self: Pool, lease: Lease) -> None:
        if lease.member is not None:
            lease.member.doom = None
        right(self, lease)

    return [(Pool, "check_in", check_in)]


@_bug("what comes back is not offered to those who wait")
def _() -> Patches:
    return [(Keeper, "settle", lambda self: None)]


@_bug("a handle can be returned twice")
def _() -> Patches:
    def close(self: Any) -> None:
        if not self._tether:
            return
        lease = self._tether[0]
        try:
            lease.pool.check_in(lease)
        finally:
            self._tether.clear()

    return [(handles.PooledConnection, "close", close)]


@_bug("no rollback on return")
def _() -> Patches:
    return [(Cleaner, "_needs_rollback", lambda self, conn, work: False)]


@_bug("the record of the work stays")
def _() -> Patches:
    def set_work(self: Member, work: Work | None) -> None:
        if work is not None:
            slot.__set__(self, work)  # type: ignore[attr-defined]

    slot = vars(Member)["work"]

    def start(self: Member, *args: Any) -> None:
        slot.__set__(self, None)
        right(self, *args)

    right = Member.__init__
    return [
        (Member, "work", property(slot.__get__, set_work)),
        (Member, "__init__", start),
    ]


@_bug("a returned member seems to be its borrower's")
def _() -> Patches:
    slot = vars(Member)["thread"]

    def set_thread(self: Member, thread: int) -> None:
        if thread or self.uses == 0:
            slot.__set__(self, thread)

    return [(Member, "thread", property(slot.__get__, set_thread))]


@_bug("a session is not reset")
def _() -> Patches:
    right = Cleaner.clean

    def clean(self: Cleaner, member: Member, work: Work) -> str | None:
        work.session = False
        return right(self, member, work)

    return [(Cleaner, "clean", clean)]


@_bug("a return that was cut short leaks its place")
def _() -> Patches:
    def clean(self: Pool, lease: Lease, member: Member, work: Work) -> str | None:
        kept.append(lease)
        cleaner = Cleaner(self._source.driver, self._options.reset, self._options.setup)
        reason = cleaner.clean(member, work)
        kept.remove(lease)
        return reason

    kept: list[Lease] = []
    return [(Pool, "_clean", clean)]


# -- waiting --------------------------------------------------------------------------------------


@_bug("an empty place is not offered to those who wait")
def _() -> Patches:
    def vacate(self: Ledger, lease: Lease) -> None:
        place = lease.place
        with self._lock:
            lease.member = place.member = None
            place.task = None
            place.ref = ledger._no_lease
            if len(self.places) > self.max_size:
                self.places.remove(place)

    return [(Ledger, "vacate", vacate)]


@_bug("who was served in vain goes to the end of the line")
def _() -> Patches:
    def rejoin(self: Ledger, waiter: Waiter) -> None:
        with self._lock:
            if self.gate is CLOSED:
                raise PoolClosed
            waiter.lease = None
            self.waiters.append(waiter)
            self._serve()

    return [(Ledger, "rejoin", rejoin)]


@_bug("who was served in vain goes to the head of the line")
def _() -> Patches:
    def rejoin(self: Ledger, waiter: Waiter) -> None:
        with self._lock:
            if self.gate is CLOSED:
                raise PoolClosed
            waiter.lease = None
            self.waiters.appendleft(waiter)
            self._serve()

    return [(Ledger, "rejoin", rejoin)]


@_bug("an interrupted waiter keeps what it was given")
def _() -> Patches:
    def quit(self: Pool, waiter: Waiter) -> None:
        self._ledger.leave(waiter)
        if waiter.lease is not None:
            kept.append(waiter.lease)

    kept: list[Lease] = []
    return [(Pool, "_quit", quit)]


@_bug("a newcomer goes past those in line")
def _() -> Patches:
    right = Pool._obtain

    def obtain(self: Pool, *args: Any) -> Lease:
        with contextlib.suppress(IndexError):
            lease = self._ledger.idle.pop()
            if self._now() < lease.member.due and (
                lease.member.alive is None or lease.member.alive(lease.member.conn)
            ):
                return lease
            self._ledger.idle.append(lease)
        return right(self, *args)

    right_settle = Keeper.settle

    def settle(self: Keeper) -> None:
        if not self._ledger.waiters:
            return right_settle(self)
        self._system.spawn(self._ledger.serve, "late")

    return [(Pool, "_obtain", obtain), (Keeper, "settle", settle)]


@_bug("a timeout is not looked at when a member was of no use")
def _() -> Patches:
    right = Pool._wait

    def wait(self: Pool, waiter: Waiter, deadline: float) -> Lease:
        try:
            return right(self, waiter, deadline)
        except pool.PoolTimeout:
            self._ledger.waiters.append(waiter)
            return right(self, waiter, deadline + 5.0)

    return [(Pool, "_wait", wait)]


# -- places ---------------------------------------------------------------------------------------


@_bug("drained while it was opened, and lent")
def _() -> Patches:
    right = Keeper.open

    def open_(self: Keeper, lease: Lease) -> None:
        right(self, lease)
        if lease.member.doom == "drained":
            lease.member.doom = None
            self.approve(lease.member)

    return [(Keeper, "open", open_)]


@_bug("two pools share one ledger's idle members")
def _() -> Patches:
    right = Ledger.__init__
    idle: deque[Lease] = deque()

    def init(self: Ledger, *args: Any) -> None:
        right(self, *args)
        self.idle = idle

    return [(Ledger, "__init__", init)]


@_bug("the bound is looked at before, not while a place is taken")
def _() -> Patches:
    right = Ledger._vacancy

    def vacancy(self: Ledger) -> Lease | None:
        self.max_size += 1
        try:
            return right(self)
        finally:
            self.max_size -= 1

    return [(Ledger, "_vacancy", vacancy)]


@_bug("a place is free before its connection is closed")
def _() -> Patches:
    def close(self: Keeper, lease: Lease) -> None:
        conn = lease.member.conn
        self.vacate(lease)
        with contextlib.suppress(Exception):
            self._driver.close(conn)

    return [(Keeper, "_close", close)]


@_bug("nobody adopts what was dropped")
def _() -> Patches:
    return [(Ledger, "adopt", lambda self: [])]


@_bug("what comes back to a closed pool stays open")
def _() -> Patches:
    def settle(self: Ledger) -> list[Lease]:
        with self._lock:
            self._serve()
        return []

    return [(Ledger, "settle", settle)]


@_bug("a suspended pool lends")
def _() -> Patches:
    def next_(self: Ledger) -> Lease | None:
        gate, self.gate = self.gate, OPEN
        try:
            return right(self)
        finally:
            self.gate = gate

    right = Ledger._next
    return [(Ledger, "_next", next_)]


@_bug("a shrunk pool takes back all")
def _() -> Patches:
    return [(Ledger, "excess", lambda self: 0)]


@_bug("a failed ping is taken for a good one")
def _() -> Patches:
    right = Keeper.ping

    def ping(self: Keeper, member: Member) -> bool:
        right(self, member)
        self.approve(member)
        return True

    return [(Keeper, "ping", ping), (pool, "_alive", lambda member: True)]
