"""Whatever borrowers, servers and clocks do, in whatever order: the promises hold after every step.

A hypothesis state machine over the real `Pool`, on the fake driver under the virtual clock.
`World` is the model and the judge, `PoolMachine` the steps. `DBAPI_POOL_TEST_EXAMPLES` sets how many
runs each test makes. Must never look inside the pool but through `Inside`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dbapi_pool import Pool
from dbapi_pool.drivers import Driver
from dbapi_pool.errors import (
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolFull,
    PoolSettingError,
    PoolTimeout,
)
from dbapi_pool.testing import FakeConnection, FakeDriver, FakeDriverPlugin, Task, VirtualClock

EXAMPLES = int(os.environ.get("DBAPI_POOL_TEST_EXAMPLES", "100"))
STEPS = 40

PATIENCE = 30.0  # what timeout=0 waits for a connect that there is room for
GOOD_FOR = 1.0  # seconds that a ping or an opening counts, whatever ping_after is
BACKOFF = 1.0  # at most between two tries to connect
LOOK = 1.0  # how late the housekeeper looks while somebody waits
CUT = 10.0  # within that a call that hangs is cut: ping_timeout, and as much until it is seen
THE_TEST = 1  # its number as a thread

NOT_LENT = (PoolTimeout, PoolFull, PoolClosed, PoolDeadlock)

REMOTE, LOCAL, UNKNOWN = "remote", "local", "unknown"


class Planted(BaseException):
    """What this test makes the driver raise."""


class Struck(Planted):
    """What no driver's caller expects: an interrupt, a cancellation, another library's timeout."""


class Failed(Planted, FakeDriver.OperationalError):
    """The driver's own error."""


class Refused(Planted, FakeDriver.ProgrammingError):
    """The driver's own error, of a kind that another try does not mend."""


class Lost(Planted, ConnectionResetError):
    """Says that the connection is gone."""


class Alien(Planted, RuntimeError):
    """Something that is not the driver's."""


# -- the one look inside --------------------------------------------------------------------------


class Line(deque[Any]):
    """The line of waiters, with a note of who joined when, and of who was served out of turn."""

    def __init__(self, ident: Callable[[], int], complaints: list[str]) -> None:
        super().__init__()
        self.ident = ident
        self.complaints = complaints
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
            self.complaints.append(complaint)
        # Who looks at what it was given may find it of no use, and make room: for itself first.
        me = self.ident()
        if self.looking.get(me, turn) < turn:
            self.suspicions[me] = complaint
        self.looking[waiter.thread] = turn

    def _joined(self, waiter: Any) -> None:
        self.looking.pop(waiter.thread, None)
        if waiter.thread in self.suspicions:
            self.complaints.append(self.suspicions.pop(waiter.thread))
        self.joins[waiter.thread] += 1
        self.turns.setdefault(id(waiter), (len(self.turns), waiter))

    def _turn(self, waiter: Any) -> int:
        return self.turns[id(waiter)][0]


class Inside:
    """The pool's own record, for what cannot be seen from outside."""

    def __init__(self, pool: Pool, ident: Callable[[], int], complaints: list[str]) -> None:
        self._ledger = pool._ledger
        self.line = self._ledger.waiters = Line(ident, complaints)

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
        members = [place.member for place in self._ledger.places if place.member is not None]
        assert len({id(member.conn) for member in members}) == len(members), "a member twice"


# -- drivers that remember what was pinged --------------------------------------------------------


class _Pinging(Driver):
    approve: Callable[[int], None]

    def ping(self, conn: Any) -> None:
        super().ping(conn)
        self.approve(conn.number)


class Known(_Pinging, FakeDriverPlugin):
    """The fake's own plugin."""


class Unknown(_Pinging):
    """Any driver: the portable defaults."""


# -- what hypothesis draws ------------------------------------------------------------------------

# What hypothesis finds simplest comes first, and what should be common comes often.
OPTIONS: dict[str, tuple[Any, ...]] = {
    "checkout_timeout": (30.0, 30.0, 4.0, 0, None),
    "max_waiting": (None, None, None, 2, 0),
    "max_lifetime": (None, 3600.0, 60.0),
    "idle_timeout": (None, 600.0, 8.0),
    "max_uses": (None, None, None, 3, 1),
    "ping_after": (30.0, None, 0, 2.0),
    "keepalive": (None, None, 5.0),
    "reset": ("auto", "auto", "auto", "auto", "always", "transaction", "none"),
    "leak_after": (None, 20.0),
}

TIMEOUTS = (None, None, 0, 0.5, 3.0, 20.0)
SPANS = (0.01, 0.6, 1.0, 3.0, 12.0, 130.0)
STATEMENTS = ("SELECT 1", "DELETE FROM t", "BEGIN", "SET role = admin")
WORK = (
    "execute and fetch: SELECT 1",
    "execute: SELECT 1, 2",
    "execute: INSERT INTO t VALUES (1)",
    "execute: BEGIN",
    "execute: SET role = admin",
    "execute: CREATE TABLE t (x)",
    "execute raw: SET role = admin",
    "execute raw: UPDATE t SET x = 2",
    "set: autocommit",
    "set: note",
    "set: invented",
    "set raw: autocommit",
    "call: commit",
    "call: rollback",
)
FAILING = (
    "connect", "close", "cursor", "execute", "fetch", "commit", "rollback", "is_alive", "ping",
    "reset", "begin",
)  # fmt: skip
HANGING = ("connect", "close", "ping")
HANGING_AT_CHECKIN = ("rollback", "reset")

WHICH = st.integers(0, 7)


@st.composite
def pool_settings(draw: st.DrawFn) -> dict[str, Any]:
    """Settings that a pool accepts."""
    chosen = {name: draw(st.sampled_from(values)) for name, values in OPTIONS.items()}
    chosen["max_size"] = draw(st.integers(1, 4))
    chosen["min_size"] = draw(st.sampled_from((0, 0, 1, 2)).filter(chosen["max_size"].__ge__))
    least = chosen["min_size"]
    chosen["max_idle"] = draw(st.none() | st.none() | st.integers(least, chosen["max_size"]))
    return chosen


# -- the model and the judge ----------------------------------------------------------------------


@dataclass(eq=False)
class Borrower:
    """One call of `connection()`, from its beginning to its end."""

    turn: int
    thread: int
    began: float
    joined: int  # how often this thread had stood in line before
    timeout: float | None
    mishaps: int  # what had gone wrong in the pool when it began
    gate: tuple[str, int]  # the pool's state when it began, and how often that had changed
    resized: int  # how often the pool was resized before

    @property
    def deadline(self) -> float:
        """When it must have ended."""
        if self.timeout is None:
            return float("inf")
        return self.began + (self.timeout or PATIENCE)


class World:
    """A pool, its server, its borrowers, and what must be true of them."""

    def __init__(self, kind: str, options: dict[str, Any], rest_every: int) -> None:
        self.kind = kind
        self.options = options
        self.rest_every = rest_every
        self.steps = 0
        self.clock = VirtualClock()
        self.now = self.clock.monotonic
        self.fake = FakeDriver(self.clock)
        self.fake.strict = options["reset"] in ("auto", "always")
        self.complaints: list[str] = []
        self.refused = False  # whether the server was ever down
        self.lent: list[Any] = []
        self.hidden: list[Any] = []  # connections' numbers
        self.owners: dict[Any, int] = {}  # connection's number: the thread that borrowed it
        self.cursors: list[tuple[Any, Any]] = []
        self.stale: list[Callable[[], Any]] = []
        self.detached: list[FakeConnection] = []
        self.borrowing: list[Borrower] = []
        self.tasks: list[Task] = []
        self.begun: dict[int, int] = {}  # event at which the connect began
        self.born: dict[int, float] = {}
        self.approved: dict[int, tuple[int, float]] = {}  # opened or pinged: event, time
        self.returned: dict[int, tuple[int, float]] = {}
        self.uses: Counter[int] = Counter()
        self.events = 0
        self.drained = 0  # event of the last drain
        self.limit: int = options["max_size"]
        self.closed = False
        self.suspended = False
        self.gate_moves = 0
        self.resized = 0
        self.pool = Pool(self._connect, driver=self._driver(), clock=self.clock, **options)
        self.inside = Inside(self.pool, self.clock.get_ident, self.complaints)

    def _driver(self) -> Driver:
        driver: Unknown | Known
        if self.kind == UNKNOWN:
            driver = Unknown(self.fake)  # type: ignore[arg-type]
        else:
            driver = Known(self.fake, local=self.kind == LOCAL, expendable=True)
        driver.approve = self._approve
        return driver

    def _connect(self) -> Any:
        began = self._event()[0]
        conn = self.fake.connect()
        if conn is not None:
            self.begun[conn.number] = began
            self.born[conn.number] = self.now()
            self._approve(conn.number)
        return conn

    def _event(self) -> tuple[int, float]:
        self.events += 1
        return self.events, self.now()

    def _approve(self, number: int) -> None:
        self.approved[number] = self._event()

    # -- borrowing --------------------------------------------------------------------------------

    def borrow(self, timeout: float | None, hidden: bool = False) -> Any:
        """`pool.connection(timeout)`, judged at the instant it ends. In any thread.

        `hidden`: nobody else shall use or return it.
        """
        borrower = self._begin(timeout)
        try:
            handle = self.pool.connection(timeout)
            self._judge_handle(borrower, handle)
        except AssertionError:
            raise
        except BaseException as exc:
            self._judge_refusal(borrower, exc)
            raise
        finally:
            self.borrowing.remove(borrower)
            self.inside.line.ended(borrower.thread)
        self._receive(handle, hidden)
        return handle

    def try_to_borrow(self, timeout: float | None) -> None:
        """`borrow`, where not to get one is fine, too."""
        self.attempt(lambda: self.borrow(timeout), *NOT_LENT)

    def try_to_borrow_two(self, timeout: float | None) -> None:
        """Borrow another while holding one, then forget the first."""
        self.attempt(lambda: self._borrow_two(timeout), *NOT_LENT)

    def _borrow_two(self, timeout: float | None) -> None:
        one = self.borrow(timeout, hidden=True)
        number = one.number
        try:
            self.borrow(timeout)
        finally:  # whoever keeps an error that was raised here keeps this frame, and so the handle
            self.hidden.remove(number)
            del self.owners[number]

    def _begin(self, timeout: float | None) -> Borrower:
        me = self.clock.get_ident()
        if timeout is None:
            timeout = self.options["checkout_timeout"]
        joined = self.inside.line.joins[me]
        borrower = Borrower(
            turn=self._event()[0],
            thread=me,
            began=self.now(),
            joined=joined,
            timeout=timeout,
            mishaps=self._mishaps(),
            gate=self._gate(),
            resized=self.resized,
        )
        self.borrowing.append(borrower)
        return borrower

    def _gate(self) -> tuple[str, int]:
        return self.pool.stats().state, self.gate_moves

    def _receive(self, handle: Any, hidden: bool) -> None:
        number = handle.number
        if hidden:
            self.hidden.append(number)
        else:
            self.lent.append(handle)
        self.owners[number] = self.clock.get_ident()
        self.uses[number] += 1

    def _mishaps(self) -> int:
        """Whatever may cost a waiter the member that it was given."""
        closed = sum(self.pool.stats().closed.values())
        return closed + self.fake.calls["ping"] + self.fake.calls["rollback"]

    def start(self, act: Callable[[float | None], None], timeout: float | None) -> None:
        """A borrower in a thread of its own."""
        # Without a result or an error, which the clock would keep for a while.
        self.tasks.append(self.clock.start(act, timeout, name="borrower"))

    def interrupt(self, which: int) -> None:
        """Something is raised in a waiting borrower."""
        waiting = [task for task in self.tasks if task.blocked]
        if waiting:
            # A class: an instance would make a cycle with its own frames, for the collector to find.
            waiting[which % len(waiting)].throw(Struck)  # type: ignore[arg-type]

    def _judge_handle(self, borrower: Borrower, handle: Any) -> None:
        shut = borrower.gate[0] != "open" and borrower.gate == self._gate()
        assert not shut, f"lent by a pool that is {borrower.gate[0]}"
        assert self.now() <= borrower.deadline, "served after its deadline"
        number = handle.number
        assert number not in self.owners, "one member for two borrowers"
        assert self.begun[number] > self.drained, "a drained connection was lent"
        assert len(self.owners) < self.pool.max_size or borrower.resized < self.resized, "too many"
        conn = {conn.number: conn for conn in self.fake.connections}[number]
        self._judge_turn(borrower)
        self._judge_age(number)
        self._judge_life(conn)
        self._judge_cleanliness(conn)

    def _judge_turn(self, borrower: Borrower) -> None:
        if self.inside.line.joins[borrower.thread] == borrower.joined:
            assert not self.pool.stats().waiting, "went past those in line"
        else:
            assert borrower.thread in self.inside.line.looking, "served, but not by the line"
        in_line = {waiter.thread for waiter in self.inside.line}
        for other in self.borrowing:
            if other.turn < borrower.turn and other.thread in in_line:
                assert self._mishaps() > other.mishaps, "was overtaken without a reason"

    def _judge_age(self, number: int) -> None:
        lifetime, most = self.options["max_lifetime"], self.options["max_uses"]
        assert lifetime is None or self.now() - self.born[number] < lifetime, "too old"
        assert most is None or self.uses[number] < most, "lent too often"

    def _judge_life(self, conn: FakeConnection) -> None:
        if self.kind != UNKNOWN:
            assert not conn.killed, "a connection that is known to be dead was lent"
        after = self.options["ping_after"]
        if after is None:
            return
        event, time = self.approved[conn.number]
        returned = self.returned.get(conn.number, (0, 0.0))
        if returned[0] < event:
            assert self.now() - time < max(after, GOOD_FOR), "not pinged"
        else:
            assert self.now() - returned[1] < after, "not pinged"

    def _judge_cleanliness(self, conn: FakeConnection) -> None:
        if conn.killed or self.options["reset"] == "none":
            return
        if self.options["reset"] == "transaction":
            assert not conn.in_transaction
            assert not conn.half_read
        else:
            self.fake.check_clean(conn)

    def _judge_refusal(self, borrower: Borrower, exc: BaseException) -> None:
        waited = self.now() - borrower.began
        assert self.now() <= borrower.deadline, "told after its deadline"
        stats = self.pool.stats()
        if isinstance(exc, PoolClosed):
            assert self.closed, "no, it is open"
        elif isinstance(exc, PoolFull):
            assert not waited
            assert stats.waiting >= self.options["max_waiting"]
        elif isinstance(exc, PoolDeadlock):
            self._judge_deadlock(borrower)
        elif isinstance(exc, PoolTimeout):
            self._judge_timeout(borrower, waited)
        else:
            assert self.is_explained(exc), f"not ours, not the driver's: {exc!r}"
            patient = self.kind == REMOTE and borrower.timeout != 0
            assert not (patient and self._is_refusal(exc)), "did not wait for the server"

    def _judge_timeout(self, borrower: Borrower, waited: float) -> None:
        if borrower.timeout == 0 and not waited:
            stats = self.pool.stats()
            busy = stats.in_use + stats.waiting >= stats.max_size
            assert busy or stats.state == "suspended", "there was room"
        else:
            assert self.now() == borrower.deadline, "told before its deadline"

    def _judge_deadlock(self, borrower: Borrower) -> None:
        waiting = {other.thread for other in self.borrowing} | {borrower.thread}
        assert len(self.owners) >= self.pool.max_size
        assert set(self.owners.values()) <= waiting, "somebody may still return one"

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
                raise AssertionError(f"unexpected: {exc!r}") from exc
            return None

    # -- giving back ------------------------------------------------------------------------------

    def part(self, which: int) -> tuple[Any, int, list[Any]]:
        """Take a handle from its borrower: it, its connection's number, its cursors."""
        handle = self.lent.pop(which % len(self.lent))
        number = handle.number
        del self.owners[number]
        cursors = [cursor for owner, cursor in self.cursors if owner is handle]
        self.cursors = [pair for pair in self.cursors if pair[0] is not handle]
        return handle, number, cursors

    def give_back(
        self, which: int, how: Callable[[Any], Any], *expected: type[BaseException]
    ) -> Any:
        """`how(handle)` returns it; whatever happens, it is returned, with all that is on it."""
        handle, number, cursors = self.part(which)
        kept = [handle.cursor, handle.commit, handle.rollback, lambda: handle.note]
        kept.append(lambda: setattr(handle, "note", "mine"))
        for cursor in cursors:
            kept += [functools.partial(cursor.execute, "SELECT 1"), cursor.fetchone]
        result = self.attempt(functools.partial(how, handle), *expected)
        self.returned[number] = self._event()
        self.stale = [*self.stale, *kept][-12:]
        with pytest.raises(self.fake.InterfaceError):
            handle.cursor()
        return result

    def use(self, which: int, work: str) -> None:
        """Use a connection, which may be dead by now, in the test's thread."""
        handle = self.lent[which % len(self.lent)]
        self.owners[handle.number] = THE_TEST  # whoever borrowed it passed it on
        self.attempt(lambda: self._work(handle, *work.split(": ")), self.fake.Error)

    def _work(self, handle: Any, kind: str, what: str) -> None:
        if kind == "call":
            getattr(handle, what)()
        elif kind == "set":
            setattr(handle, what, True)
        elif kind == "set raw":
            setattr(handle.driver_connection, what, True)
        elif kind == "execute raw":
            handle.driver_connection.execute(what)
        else:
            cursor = handle.cursor()
            self.cursors.append((handle, cursor))
            cursor.execute(what)
            if kind == "execute and fetch":
                cursor.fetchone()

    def resize(self, max_size: int, min_size: int | None) -> None:
        """Change the sizes, if they go together."""
        self.limit = max(self.limit, self.pool.max_size)
        self.resized += 1
        self.attempt(lambda: self.pool.resize(max_size, min_size), PoolSettingError)

    def drain(self) -> None:
        """From now on no connection may be lent that is open or opening now."""
        self.drained = self._event()[0]
        self.attempt(self.pool.drain)

    def warm_up(self, count: int, timeout: float) -> None:
        """Have connections opened."""
        act = functools.partial(self.pool.warm_up, count, timeout)
        self.attempt(act, PoolSettingError, *NOT_LENT)

    def open_gate(self, open_it: bool) -> None:
        """Resume, or suspend."""
        if not self.closed:
            self.suspended = not open_it
            self.gate_moves += 1
            self.attempt(self.pool.resume if open_it else self.pool.suspend)

    def close(self, timeout: float) -> None:
        """Close the pool."""
        self.closed = True
        self.attempt(lambda: self.pool.close(timeout))

    # -- the promises -----------------------------------------------------------------------------

    def step_done(self) -> None:
        """After every step."""
        self.steps += 1
        if self.steps % self.rest_every == 0:
            self.pass_time(0.0)
        self.check_always()

    def collect(self) -> None:
        """Take in what the borrowers' threads ended with."""
        ended = [task for task in self.tasks if task.done]
        self.tasks = [task for task in self.tasks if not task.done]
        for task in ended:
            task.result()

    def check_always(self) -> None:
        """True at any moment."""
        assert not self.complaints, self.complaints
        self.fake.check()
        self.inside.check()
        self._check_bound()
        numbers = [handle.number for handle in self.lent] + self.hidden
        assert len(set(numbers)) == len(numbers), "one member has two borrowers"
        assert set(numbers) == set(self.owners)
        late = [one for one in self.borrowing if one.deadline < self.now()]
        assert not late, f"still waiting after the deadline: {late}"

    def _check_bound(self) -> None:
        stats = self.pool.stats()
        occupied = stats.size + stats.opening + stats.closing
        counted = self.fake.open + self.fake.opening - len(self.detached)
        assert counted <= occupied, "connections that the pool does not know"
        assert occupied <= max(self.limit, stats.max_size), "more than max_size"
        self.limit = max(stats.max_size, min(self.limit, occupied))

    def check_at_rest(self) -> None:
        """True when everybody has done what can be done at this instant."""
        stats = self.pool.stats()
        assert stats.in_use == len(self.owners), "a lease is lost, or never was"
        assert stats.size == stats.idle + stats.in_use + stats.checking + stats.cleaning
        assert stats.checkouts == sum(self.uses.values())
        assert stats.opened == self.fake.opened
        assert stats.waiting == len(self.borrowing)
        assert self.fake.open == stats.size + stats.closing + len(self.detached)
        assert self.fake.opening == stats.opening
        if self.closed:
            assert not stats.idle
            assert not stats.waiting
        elif stats.waiting and not self.suspended:
            assert not stats.idle, "a waiter sleeps while a member is idle"
            self._check_help_is_coming(stats)

    def _check_help_is_coming(self, stats: Any) -> None:
        """Caller has seen that somebody waits."""
        if self.kind == LOCAL:
            assert stats.size + stats.closing >= stats.max_size, "nobody opens what is wanted"

    def settle(self) -> None:
        """The server works, nothing is in the way, and some time passes: the pool must be well."""
        self.fake.calm()
        self.clock.advance(BACKOFF + 2 * LOOK)
        self.collect()
        self.check_at_rest()
        stats = self.pool.stats()
        assert not stats.opening + stats.closing + stats.checking + stats.cleaning
        assert stats.size <= max(stats.max_size, stats.in_use), "shrunk, but not in the end"
        if not (self.closed or self.suspended):
            assert not stats.waiting or stats.in_use >= stats.max_size, "capacity is lost"
            assert stats.size >= stats.min_size, "min_size is not kept"

    def pass_time(self, seconds: float) -> None:
        """The clock goes on, and with it whatever has a time."""
        self.clock.advance(seconds)
        self.collect()
        self.check_at_rest()
        after = self.options["idle_timeout"]
        if after is not None and seconds > 1.5 * after + CUT + BACKOFF and not self.tasks:
            stats = self.pool.stats()
            assert not stats.idle or stats.size <= stats.min_size, "idle_timeout is not kept"

    def end(self, judge: bool) -> None:
        """Close everything; nothing may stay open."""
        try:
            self.fake.calm()
            self.close(timeout=0)
            self._return_all()
            self.clock.run()
            self._return_all()  # what a waiter was given just before the close
            for conn in self.detached:
                conn.close()
            self.detached.clear()
            if judge:
                self.clock.advance(2 * PATIENCE)
                self._judge_end()
        finally:
            self.clock.close()

    def _return_all(self) -> None:
        while self.lent:
            self.give_back(0, lambda handle: handle.close())

    def _judge_end(self) -> None:
        self.collect()
        assert not self.tasks, "somebody still waits for a closed pool"
        self.check_always()
        self.check_at_rest()
        assert self.pool.close() is True
        stats = self.pool.stats()
        assert not stats.size + stats.opening + stats.closing
        self.fake.assert_no_leak()


# -- the steps ------------------------------------------------------------------------------------

somebody_holds = precondition(lambda self: self.world.lent)
not_closed = precondition(lambda self: not self.world.closed)


def twice(handle: Any) -> None:
    """Return it twice, whatever the first time raises."""
    try:
        handle.close()
    finally:
        handle.close()
        handle.invalidate()


RETURNS: dict[str, Callable[[Any], Any]] = {
    "close": lambda handle: handle.close(),
    "close twice": twice,
    "invalidate": lambda handle: handle.invalidate(),
}
THEN = ("interrupt", "restart", "drain", "suspend", "resize")
HOW = ("close", "close", "close", "close twice", "invalidate")


class PoolMachine(RuleBasedStateMachine):
    """Everything that can happen to a pool, one at a time.

    Hypothesis leaves out some rules in each run. Where nobody borrows nothing happens, so others
    than the rules for that do it too.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.world: World

    @initialize(options=pool_settings(), rest_every=st.integers(1, 4), count=st.integers(1, 5))
    def open(self, options: dict[str, Any], rest_every: int, count: int) -> None:
        self.world = World(self.kind, options, rest_every)
        self.threads_borrow(None, count)

    @invariant()
    def the_promises_hold(self) -> None:
        self.world.step_done()

    def teardown(self) -> None:
        world = getattr(self, "world", None)
        if world is not None:
            # After a step that failed, the end would only repeat it in other words.
            world.end(judge=sys.exc_info()[0] is None)

    # -- checkout ---------------------------------------------------------------------------------

    @rule(timeout=st.sampled_from(TIMEOUTS), count=st.integers(1, 3))
    def threads_borrow(self, timeout: float | None, count: int) -> None:
        for _ in range(count):
            self.world.start(self.world.try_to_borrow, timeout)

    @rule(timeout=st.sampled_from((0, 0, 1.5)))
    def the_test_borrows(self, timeout: float) -> None:
        self.world.try_to_borrow(timeout)

    @rule(timeout=st.sampled_from(TIMEOUTS))
    def a_thread_borrows_two_and_forgets_one(self, timeout: float | None) -> None:
        self.world.start(self.world.try_to_borrow_two, timeout)

    @rule(which=WHICH)
    def a_waiter_is_interrupted(self, which: int) -> None:
        self.world.interrupt(which)

    # -- checkin ----------------------------------------------------------------------------------

    @somebody_holds
    @rule(which=WHICH, how=st.sampled_from(HOW), again=st.integers(0, 2))
    def checkin(self, which: int, how: str, again: int) -> None:
        self.world.give_back(which, RETURNS[how])
        self.threads_borrow(None, again)

    @somebody_holds
    @rule(which=WHICH, count=st.integers(1, 4), then=st.sampled_from(THEN))
    def checkin_and_something_at_the_same_instant(self, which: int, count: int, then: str) -> None:
        world = self.world
        self.threads_borrow(20.0, count)
        world.clock.run()
        if world.lent:
            world.give_back(which, RETURNS["close"])
        acts: dict[str, Callable[[], Any]] = {
            "interrupt": lambda: world.interrupt(which),
            "restart": world.fake.kill_all,
            "drain": world.drain,
            "suspend": lambda: world.open_gate(False),
            "resize": lambda: world.resize(1, 0),
        }
        acts[then]()

    @somebody_holds
    @rule(which=WHICH, detach=st.booleans())
    def drop_or_detach(self, which: int, detach: bool) -> None:
        handle, _, _ = self.world.part(which)
        if detach:  # its cursors stay: they are on a connection that is the borrower's own now
            self.world.detached.append(handle.detach())
            self.world.stale += [handle.cursor, handle.detach]

    @precondition(lambda self: self.world.detached)
    @rule()
    def close_a_detached_one(self) -> None:
        self.world.fake.off("close")  # what hangs there is the borrower's own to bear
        self.world.detached.pop().close()

    @somebody_holds
    @rule(which=WHICH, sql=st.sampled_from(STATEMENTS), fails=st.booleans())
    def use_in_a_with_block(self, which: int, sql: str, fails: bool) -> None:
        def use(handle: Any) -> None:
            with handle:
                handle.cursor().execute(sql)
                if fails:
                    raise Struck

        self.world.give_back(which, use, self.world.fake.Error)

    # -- use --------------------------------------------------------------------------------------

    @somebody_holds
    @rule(which=WHICH, work=st.sampled_from(WORK))
    def use(self, which: int, work: str) -> None:
        self.world.use(which, work)

    @rule(works=st.lists(st.sampled_from(WORK), max_size=3), how=st.sampled_from(HOW))
    def a_lease_from_its_beginning_to_its_end(self, works: list[str], how: str) -> None:
        world = self.world
        before = len(world.lent)
        world.try_to_borrow(0)
        if len(world.lent) > before:
            for work in works:
                world.use(-1, work)
            world.give_back(-1, RETURNS[how])

    @precondition(lambda self: self.world.stale)
    @rule(which=WHICH)
    def use_what_was_returned(self, which: int) -> None:
        world = self.world
        before = len(world.fake.executed)
        with pytest.raises(world.fake.InterfaceError):
            world.stale[which % len(world.stale)]()
        assert len(world.fake.executed) == before

    # -- the server, and the driver ---------------------------------------------------------------

    @rule(
        operation=st.sampled_from(FAILING),
        error=st.sampled_from((Failed, Refused, Lost, Alien, Struck)),
        after=st.booleans(),
    )
    def fail(self, operation: str, error: type[Planted], after: bool) -> None:
        # A class, not an instance: that would keep its frames, and so the handles in them.
        fake = self.world.fake
        fake.on(operation, error=error, after=after and operation != "connect", times=1)

    @rule(operation=st.sampled_from(HANGING))
    def hang_or_give_nothing(self, operation: str) -> None:
        fake = self.world.fake
        if self.kind == REMOTE:
            fake.on(operation, hang=True, times=1)
        else:
            fake.on("connect", returns=None, times=1)

    @precondition(lambda self: self.kind == REMOTE and self.world.lent)
    @rule(which=WHICH, operation=st.sampled_from(HANGING_AT_CHECKIN))
    def hang_at_checkin(self, which: int, operation: str) -> None:
        self.world.fake.on(operation, hang=True)
        self.world.give_back(which, RETURNS["close"])
        self.world.fake.off(operation)

    @rule(what=st.sampled_from(("down", "up", "restart", "kill")), which=WHICH)
    def the_server_changes(self, what: str, which: int) -> None:
        world = self.world
        connections = world.fake.connections
        if what == "restart":
            world.fake.kill_all()
        elif what == "kill" and connections:
            world.fake.kill(connections[which % len(connections)])
        else:
            world.fake.down = what == "down"
            world.refused |= world.fake.down

    # -- time, and the pool's life ----------------------------------------------------------------

    @rule(seconds=st.sampled_from(SPANS))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @not_closed
    @rule(
        max_size=st.integers(1, 4),
        min_size=st.none() | st.integers(0, 2),
        instead=st.sampled_from((None, "suspend", "resume", "resume", "warm up", "drain")),
    )
    def resize_or(self, max_size: int, min_size: int | None, instead: str | None) -> None:
        world = self.world
        if instead == "drain":
            world.drain()
        elif instead == "warm up":
            world.warm_up(max_size, float(min_size or 0))
        elif instead is not None:
            world.open_gate(instead == "resume")
        else:
            world.resize(max_size, min_size)

    @not_closed
    @precondition(lambda self: self.world.steps > STEPS / 2)
    @rule(timeout=st.sampled_from((0, 5.0)))
    def close(self, timeout: float) -> None:
        self.world.close(timeout)


@pytest.mark.parametrize("kind", [REMOTE, LOCAL, UNKNOWN])
def test_whatever_happens_in_whatever_order_the_promises_hold(kind: str) -> None:
    run_state_machine_as_test(
        functools.partial(PoolMachine, kind),
        settings=settings(
            max_examples=EXAMPLES,
            # The default run is the same every time; the variable asks for other examples each time.
            derandomize="DBAPI_POOL_TEST_EXAMPLES" not in os.environ,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
