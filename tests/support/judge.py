"""`Judge`: the model of one pool, and what must be true of it at any moment.

It is told by the pool when it lends (`inside.WatchedPool`), and by those who borrow when they begin to
give back; all else it asks of the driver. It neither starts threads nor decides what happens, and does
not keep its pool alive once it is dropped.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from builds import FREE
from inside import Inside, WatchedPool
from troubles import LOCAL, REMOTE, UNKNOWN, Planted, driver_of

from dbapi_pool.errors import (
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolFull,
    PoolSettingError,
    PoolTimeout,
    PoolUnavailable,
)
from dbapi_pool.stats import PoolStats
from dbapi_pool.testing import FakeConnection, FakeDriver, VirtualClock

PATIENCE = 30.0  # what timeout=0 waits for a connect that there is room for
GOOD_FOR = 1.0  # seconds that a ping or an opening counts, whatever ping_after is
BACKOFF = 1.0  # at most between two tries to connect
LOOK = 1.0  # how late the housekeeper looks while somebody waits
TWICE = 0.06  # within that a deadlock is proven twice, as where other threads live; the test's does
CUT = 10.0  # within that a call that hangs is cut: ping_timeout, and as much until it is seen

NOT_LENT = (PoolTimeout, PoolFull, PoolClosed, PoolDeadlock)


@dataclass(eq=False)
class Borrower:
    """One call of `connection()`, or of what borrows in its stead, from its beginning to its end."""

    turn: int
    thread: int
    began: float
    joined: int  # how often this thread had stood in line before
    timeout: float | None
    mishaps: int  # what had gone wrong in the pool when it began
    gate: tuple[str, int]  # the pool's state when it began, and how often that had changed
    resized: int  # how often the pool was resized before
    waiting: int  # how many stood in line then

    @property
    def deadline(self) -> float:
        """When it must have ended."""
        if self.timeout is None:
            return float("inf")
        return self.began + (self.timeout or PATIENCE)


class Judge:
    """A pool, its server, its borrowers, and what must be true of them.

    A connection that is lent is in `owners`, until its borrower begins to give it back. From then
    on, until the pool has dealt with it, it is in `between`: lent, or not any more. What was
    dropped is `lost`, until it is closed.
    """

    def __init__(
        self,
        clock: VirtualClock,
        fake: FakeDriver,
        kind: str,
        options: dict[str, Any],
        complain: Callable[[str], object],
        *,
        slack: float = 0.0,
        name: str | None = None,
    ) -> None:
        """`slack`: seconds that calls in the borrower's own thread may take, of a local driver."""
        self.clock = clock
        self.now = clock.monotonic
        self.fake = fake
        self.kind = kind
        self.options = options
        self.slack = slack if kind == LOCAL else 0.0
        self._complain = complain
        self.refused = False  # whether the server was ever down
        self.owners: dict[Any, int | None] = {}  # by connection's number; None: on the table
        self.fresh: set[Any] = set()  # of those: lent, but the borrower has not got it yet
        self.between: set[Any] = set()
        self.lost: set[Any] = set()
        self.dealing: dict[Any, int] = {}  # of those between: the thread that returns it
        self.shared: set[Any] = set()  # of those lent: others could reach it, or have done
        self.detached: list[FakeConnection] = []
        self.borrowing: list[Borrower] = []
        self.open: dict[Any, FakeConnection] = {}
        self.opening = 0
        self.opened = 0
        self.begun: dict[Any, int] = {}  # event at which the connect began
        self.born: dict[Any, float] = {}
        self.approved: dict[Any, tuple[int, float]] = {}  # opened or pinged: event, time
        self.returned: dict[Any, tuple[int, float]] = {}
        self.uses: Counter[Any] = Counter()
        self._deadlock: dict[Any, int] = {}  # one that is certain: whose each connection is
        self._deadlocked_at = 0.0  # since when it is
        self.events = 0
        self.drained = 0  # event of the last drain
        self.limit: int = options["max_size"]
        self._closed = False
        self.suspended = False
        self.gate_moves = 0
        self.resized = 0
        driver = driver_of(kind, fake, self._approve)
        self.pool: WatchedPool | None = None
        self.inside: Inside | None = None
        pool = WatchedPool(self, self._connect, driver=driver, clock=clock, name=name, **options)
        self.name = pool.name
        self.inside = Inside(pool, clock.get_ident, self.complain)
        self.pool = pool

    def complain(self, text: str) -> None:
        """A promise was broken."""
        self._complain(f"{self.name}: {text}")

    def must(self, truth: object, text: str) -> None:
        """Complain unless it is so. Does not raise: it may be within the pool's own code."""
        if not truth:
            self.complain(text)

    def stats(self) -> PoolStats:
        """As the pool's."""
        assert self.inside is not None
        return self.inside.stats()

    @property
    def closed(self) -> bool:
        """By somebody, or since nobody had it any more."""
        return self._closed or (self.pool is None and self.stats().state == "closed")

    # -- what happens at the driver ---------------------------------------------------------------

    def _connect(self) -> Any:
        began = self._event()[0]
        self.opening += 1
        self._check_bound()
        try:
            conn = self.fake.connect()
        finally:
            self.opening -= 1
        if conn is not None:
            self.opened += 1
            self.open[conn.number] = conn
            self.begun[conn.number] = began
            self.born[conn.number] = self.now()
            self._approve(conn)
        return conn

    def count_open(self) -> int:
        """Connections that are open, by the driver's word."""
        self.open = {number: conn for number, conn in self.open.items() if not conn.closed}
        return len(self.open)

    def _leaving(self) -> int:
        """How many are being returned, or were dropped and are not closed yet."""
        self.count_open()
        self.between.intersection_update(self.open)
        self.lost.intersection_update(self.open)
        return len(self.between) + len(self.lost)

    def _event(self) -> tuple[int, float]:
        self.events += 1
        return self.events, self.now()

    def _approve(self, conn: Any) -> None:
        self.approved[conn.number] = self._event()

    # -- borrowing --------------------------------------------------------------------------------

    def watch_borrow(self, timeout: float | None, borrow: Callable[[], Any]) -> Any:
        """`borrow()`, judged at the instant it ends. In any thread."""
        if self.inside is None:  # the pool is only being made
            return borrow()
        borrower = self._begin(timeout)
        try:
            handle = borrow()
            self._judge_handle(borrower, handle)
        except BaseException as exc:
            self._judge_refusal(borrower, exc)
            raise
        finally:
            self.borrowing.remove(borrower)
            self.inside.line.ended(borrower.thread)
        number = handle.number
        self.owners[number] = borrower.thread
        self.fresh.add(number)
        self.uses[number] += 1
        return handle

    def _begin(self, timeout: float | None) -> Borrower:
        assert self.inside is not None
        me = self.clock.get_ident()
        borrower = Borrower(
            turn=self._event()[0],
            thread=me,
            began=self.now(),
            joined=self.inside.line.joins[me],
            timeout=self.options["checkout_timeout"] if timeout is None else timeout,
            mishaps=self._mishaps(),
            gate=self._gate(),
            resized=self.resized,
            waiting=len(self.inside.line),
        )
        self.borrowing.append(borrower)
        return borrower

    def _gate(self) -> tuple[str, int]:
        return self.stats().state, self.gate_moves

    def _mishaps(self) -> int:
        """Whatever may cost a waiter the member that it was given."""
        closed = sum(self.stats().closed.values())
        return closed + self.fake.calls["ping"] + self.fake.calls["rollback"]

    def _judge_handle(self, borrower: Borrower, handle: Any) -> None:
        number = handle.number
        conn = self.open.get(number)
        assert self.inside is not None
        if conn is None or self.inside.connection_of(handle) is not conn:
            return self.complain(f"lent connection {number}, which is another pool's, or closed")
        shut = borrower.gate[0] != "open" and borrower.gate == self._gate()
        self.must(not shut, f"lent by a pool that is {borrower.gate[0]}")
        self.must(self.now() <= borrower.deadline + self.slack, "served after its deadline")
        self.must(number not in self.owners, "one member for two borrowers")
        self.must(number not in self.between, "lent before its return was over")
        self.must(number not in self.lost, "lent after it was dropped")
        self.must(self.begun[number] > self.drained, "a drained connection was lent")
        room = len(self.owners) < self.stats().max_size or borrower.resized < self.resized
        self.must(room, "too many")
        self._judge_turn(borrower)
        self._judge_age(number)
        self._judge_life(conn)
        self._judge_cleanliness(conn)

    def _judge_turn(self, borrower: Borrower) -> None:
        assert self.inside is not None
        line = self.inside.line
        if line.joins[borrower.thread] == borrower.joined:
            self.must(not borrower.waiting, "went past those in line")
        else:
            self.must(borrower.thread in line.looking, "served, but not by the line")
        in_line = {waiter.thread for waiter in line}
        for other in self.borrowing:
            if other.turn < borrower.turn and other.thread in in_line:
                in_vain = line.joins[other.thread] > other.joined + 1
                reason = in_vain or self._mishaps() > other.mishaps
                self.must(reason, f"overtook thread {other.thread} without a reason")

    def _judge_age(self, number: Any) -> None:
        lifetime, most = self.options["max_lifetime"], self.options["max_uses"]
        if lifetime is not None:
            self.must(self.now() - self.born[number] < lifetime + self.slack, "too old")
        self.must(most is None or self.uses[number] < most, "lent too often")

    def _judge_life(self, conn: FakeConnection) -> None:
        if self.kind != UNKNOWN:
            self.must(not conn.killed, "a connection that is known to be dead was lent")
        after = self.options["ping_after"]
        if after is None:
            return
        event, time = self.approved[conn.number]
        returned = self.returned.get(conn.number, (0, 0.0))
        now = self.now() - self.slack
        if returned[0] < event:
            self.must(now - time < max(after, GOOD_FOR), "not pinged")
        else:
            self.must(now - returned[1] < after, "not pinged")

    def _judge_cleanliness(self, conn: FakeConnection) -> None:
        if conn.killed or self.options["reset"] == "none":
            return
        if self.options["reset"] == "transaction":
            self.must(not conn.in_transaction, "lent in a transaction")
            self.must(not conn.half_read, "lent with a half-read result")
        else:
            try:
                self.fake.check_clean(conn)
            except AssertionError as exc:
                self.complain(str(exc))

    def _judge_refusal(self, borrower: Borrower, exc: BaseException) -> None:
        waited = self.now() - borrower.began
        self.must(self.now() <= borrower.deadline + self.slack, "told after its deadline")
        if isinstance(exc, PoolClosed):
            self.must(self.closed, "PoolClosed, but it is open")
        elif isinstance(exc, PoolFull):
            self.must(waited <= self.slack, "PoolFull, but not at once")
            self.must(
                self.stats().waiting >= self.options["max_waiting"], "PoolFull, but it is not"
            )
        elif isinstance(exc, PoolDeadlock):
            self._judge_deadlock(borrower)
        elif isinstance(exc, PoolUnavailable):
            self.must(self.options["fail_fast_after"] is not None, "PoolUnavailable, unasked")
            self.must(self.stats().idle == 0, "PoolUnavailable, but one is idle")
        elif isinstance(exc, PoolTimeout):
            self._judge_timeout(borrower, waited)
        else:
            self.must(self.is_explained(exc), f"not ours, not the driver's: {exc!r}")
            patient = self.kind == REMOTE and borrower.timeout != 0
            self.must(not (patient and self._is_refusal(exc)), "did not wait for the server")

    def _judge_timeout(self, borrower: Borrower, waited: float) -> None:
        if borrower.timeout == 0 and waited <= self.slack:
            stats = self.stats()
            busy = stats.in_use + stats.cleaning + stats.waiting >= stats.max_size
            self.must(busy or stats.state == "suspended", "PoolTimeout, but there was room")
        else:
            self.must(self.now() >= borrower.deadline, "PoolTimeout before its deadline")

    def _judge_deadlock(self, borrower: Borrower) -> None:
        waiting = {other.thread for other in self.borrowing}
        out = len(self.owners) + self._leaving()
        self.must(out >= self.stats().max_size, "PoolDeadlock, but there is room")
        # In a pool that was shrunk, what comes back above the bound serves nobody.
        serves = self._leaving() and len(self.owners) < self.stats().max_size
        self.must(not serves, "PoolDeadlock, while one is being returned")
        stuck = all(owner in waiting for owner in self.owners.values())
        self.must(stuck, "PoolDeadlock, but somebody may still return one")

    # -- what may be raised -----------------------------------------------------------------------

    def is_explained(self, exc: BaseException | None) -> bool:
        """Whether `exc` is, or comes from, what this test made the driver do."""
        while exc is not None:
            if isinstance(exc, Planted) or self._is_refusal(exc):
                return True
            if isinstance(exc, PoolError) and "returned None" in str(exc):
                return True
            exc = exc.__cause__
        return False

    def _is_refusal(self, exc: BaseException) -> bool:
        return self.refused and isinstance(exc.__cause__, ConnectionRefusedError)

    def attempt(self, act: Callable[[], Any], *expected: type[BaseException]) -> Any:
        """Do it, and swallow what it may raise; None then."""
        try:
            return act()
        except AssertionError:
            raise
        except BaseException as exc:
            if not (isinstance(exc, expected) or self.is_explained(exc)):
                raise AssertionError(f"{self.name}: unexpected: {exc!r}") from exc
            return None

    # -- giving back ------------------------------------------------------------------------------

    def received(self, number: Any, shared: bool) -> None:
        """The borrower has got it. `shared`: and keeps it where other threads can reach it."""
        self.fresh.discard(number)
        if shared:
            self.shared.add(number)

    def handed_to(self, number: Any, thread: int | None) -> None:
        """It changed hands; None: it lies where anybody may take it."""
        self.shared.add(number)
        self.owners[number] = thread

    def part(self, number: Any) -> None:
        """Its borrower begins to give it back."""
        del self.owners[number]
        self.between.add(number)

    def lose(self, number: Any) -> None:
        """It is dropped, without a word to the pool."""
        del self.owners[number]
        self.lost.add(number)
        self.shared.discard(number)

    def parted(self, number: Any) -> None:
        """Its borrower has no more to do with it."""
        self.between.discard(number)
        self.shared.discard(number)

    def return_begins(self, conn: Any) -> None:
        """The pool deals with what was given back."""
        if conn is None:
            return self.complain("what is no lease any more was given back")
        number = conn.number
        if number in self.fresh:  # it could not be used at all
            self.fresh.discard(number)
            self.part(number)
        known = number in self.between
        self.must(known, f"connection {number} was returned, which its borrower has not done")
        me = self.clock.get_ident()
        once = self.dealing.setdefault(number, me) == me
        self.must(once, f"connection {number} is returned by two threads")

    def return_ended(self, conn: Any) -> None:
        """The pool has dealt with it."""
        if conn is not None:
            self.returned[conn.number] = self._event()
            self.dealing.pop(conn.number, None)
            self.parted(conn.number)

    # -- the pool's life --------------------------------------------------------------------------

    def resize(self, max_size: int, min_size: int | None) -> None:
        """Change the sizes, if they go together."""
        if self.pool is None:
            return
        self.limit = max(self.limit, self.pool.max_size)
        self.resized += 1
        resize = self.pool.resize
        self.attempt(lambda: resize(max_size, min_size), PoolSettingError)

    def drain(self) -> None:
        """From now on no connection may be lent that is open or opening now."""
        if self.pool is not None:
            self.drained = self._event()[0]
            self.attempt(self.pool.drain)

    def warm_up(self, count: int, timeout: float) -> None:
        """Have connections opened."""
        if self.pool is not None:
            warm_up = self.pool.warm_up
            self.attempt(lambda: warm_up(count, timeout), PoolSettingError, *NOT_LENT)

    def open_gate(self, open_it: bool) -> None:
        """Resume, or suspend."""
        if self.pool is not None and not self.closed:
            self.suspended = not open_it
            self.gate_moves += 1
            self.attempt(self.pool.resume if open_it else self.pool.suspend)

    def close(self, timeout: float) -> None:
        """Close the pool."""
        if self.pool is not None:
            self._closed = True
            close = self.pool.close
            self.attempt(lambda: close(timeout))

    def drop(self) -> None:
        """Nobody has the pool any more, but for those who borrow from it or hold one of its own."""
        self.pool = None

    # -- the promises -----------------------------------------------------------------------------

    def check_always(self) -> None:
        """True at any moment."""
        assert self.inside is not None
        self.inside.check()
        self._check_bound()
        late = [one for one in self.borrowing if one.deadline + self.slack < self.now()]
        assert not late, f"{self.name}: still waiting after the deadline: {late}"

    def _check_bound(self) -> None:
        if self.inside is None:
            return
        stats = self.stats()
        occupied = stats.size + stats.opening + stats.closing
        counted = self.count_open() + self.opening - self._detached_open()
        self.must(counted <= occupied, "connections that the pool does not know")
        self.limit = max(self.limit, stats.max_size)
        self.must(occupied <= self.limit, "more than max_size")
        self.limit = max(stats.max_size, min(self.limit, occupied))

    def _detached_open(self) -> int:
        return sum(not conn.closed for conn in self.detached)

    def check_at_rest(self) -> None:
        """True when everybody has done what can be done at this instant."""
        stats = self.stats()
        lent, maybe = len(self.owners), self._leaving()
        # A borrower that looks at what it took off the idle ones, by a ping of its own.
        looking = len(self.borrowing) - stats.waiting if self.kind == LOCAL else 0
        self.must(lent <= stats.in_use <= lent + maybe + looking, "a lease is lost, or never was")
        orphaned = stats.size - stats.idle - stats.in_use - stats.checking - stats.cleaning
        self.must(0 <= orphaned <= maybe, "somebody's connection is nobody's")
        self.must(stats.checkouts == sum(self.uses.values()), "checkouts are miscounted")
        self.must(stats.opened == self.opened, "opened ones are miscounted")
        self.must(stats.waiting <= len(self.borrowing), "somebody in line is not there")
        counted = self.count_open() - self._detached_open()
        self.must(counted == stats.size + stats.closing, "open ones are miscounted")
        # Of a local driver: who closes what was of no use may be given a place to open meanwhile.
        assert self.inside is not None
        opening = self.opening + self.inside.to_be_opened()
        self.must(stats.opening == opening, "opening ones are miscounted")
        self.must(not stats.idle or stats.size <= stats.max_size, "shrunk, but not what is idle")
        self._check_deadlocks_are_told(stats)
        if self.closed:
            self.must(not stats.idle, "idle in a closed pool")
            self.must(not stats.waiting, "waiting for a closed pool")
        elif stats.waiting and not self.suspended:
            self.must(not stats.idle, "a waiter sleeps while a member is idle")
            self._check_help_is_coming(stats)

    def _check_deadlocks_are_told(self, stats: PoolStats) -> None:
        case = dict(self.owners) if self._is_certain_deadlock(stats) else {}
        if case != self._deadlock:
            self._deadlock, self._deadlocked_at = case, self.now()
        in_time = self.now() < self._deadlocked_at + TWICE
        self.must(not case or in_time, "a deadlock that nobody was told of")

    def _is_certain_deadlock(self, stats: PoolStats) -> bool:
        """Whether nobody will ever be served, and the pool can know."""
        if stats.in_use < stats.max_size or not self.owners or self._leaving():
            return False
        assert self.inside is not None
        in_line = {waiter.thread for waiter in self.inside.line}
        return in_line.issuperset(self.owners.values()) and self.shared.isdisjoint(self.owners)

    def _check_help_is_coming(self, stats: PoolStats) -> None:
        """Caller has seen that somebody waits."""
        if self.kind == LOCAL:
            used = stats.size + stats.closing + stats.opening
            self.must(used >= stats.max_size, "nobody opens what is wanted")

    def check_well(self) -> None:
        """After the server has worked for a while, with nothing in the way."""
        self.check_at_rest()
        if FREE:  # what one thread made and another dropped is found by a collection: see `ledger`
            gc.collect()
        stats = self.stats()
        self.must(stats.in_use == len(self.owners), "a lease is lost for good")
        busy = stats.opening + stats.closing + stats.checking + stats.cleaning
        self.must(not busy, "there is no end to opening, closing, checking or cleaning")
        self.must(stats.size <= max(stats.max_size, stats.in_use), "shrunk, but not in the end")
        if not (self.closed or self.suspended):
            served = not stats.waiting or stats.in_use >= stats.max_size
            self.must(served, "capacity is lost")
            self.must(stats.size >= stats.min_size, "min_size is not kept")

    def check_end(self) -> None:
        """After it was closed, and all was returned."""
        self.check_always()
        self.check_at_rest()
        self.must(not self.owners, f"not returned: {self.owners}")
        stats = self.stats()
        self.must(not stats.size + stats.opening + stats.closing, "something stays open")
        self.must(self.pool is None or self.pool.close() is True, "it says so")
        self.must(not self.count_open() + self.opening, "the driver has something open")
