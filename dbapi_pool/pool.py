"""`Pool`: the front desk. Checkout, checkin and life cycle; it tells others what to do.

Who gets which connection is decided in `ledger`, what takes time in the background is done by
`keeper`, what a returned connection needs is known to `cleaning`. Here is the way of one connection
to a borrower and back, and the wording of what goes wrong on it.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from sys import _getframe
from types import CodeType, FrameType, TracebackType

from . import diagnosis, fork, interpreters
from .checks import check_count, check_timeout
from .cleaning import Cleaner
from .counters import Counters
from .cursors import fence
from .deadlock import Inspector
from .errors import (
    ConnectionReturned,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolSettingError,
    PoolTimeout,
    for_driver,
)
from .handles import PooledConnection, lend
from .ledger import CLEANING, CLOSED, OPEN, SUSPENDED, Lease, Ledger, Stuck, Waiter, snapshot
from .member import AT_ONCE, NEVER, Member, Work
from .system import REAL, System
from .transactions import Terms, Transaction, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    from .drivers.base import Driver
    from .keeper import Keeper
    from .options import Reset, Setup
    from .stats import PoolStats

    T = TypeVar("T")

_NO_TIME = 1e-9
_CONNECT_PATIENCE = 30.0  # seconds that `timeout=0` waits for a connect that there was room for


def _nothing() -> None:
    """What a borrower does who has not stood in line."""


class Pool:
    """A pool of DB-API connections, safe to share among threads.

    `creator` is a DB-API module, a function or class that connects, or a database URL; the
    arguments that are not settings follow it: `Pool(pymysql, host="db", user="app", max_size=20)`.
    (A creator argument named like a setting: use `functools.partial`.) For the settings see
    `Options`; further:

    `driver`: a `Driver` instance instead of the one that the plugins find.
    `name`: shown in `repr`, logs and thread names.
    `clock`: a `System`; for tests (`dbapi_pool.testing.VirtualClock`).

    Opens `min_size` connections before it returns, and raises the driver's own error if it cannot.
    Raises `PoolSettingError` (a `ValueError`) for a setting that cannot work. As a context manager
    it closes itself.
    """

    def __init__(
        self,
        creator: Any,
        *args: Any,
        min_size: int = 0,
        max_size: int = 10,
        max_idle: int | None = None,
        checkout_timeout: float | None = 30.0,
        max_waiting: int | None = None,
        max_lifetime: float | None = 3600.0,
        idle_timeout: float | None = 600.0,
        max_uses: int | None = None,
        ping_after: float | None = 30.0,
        ping_timeout: float = 5.0,
        keepalive: float | None = None,
        reset: Reset = "auto",
        setup: Setup = None,
        leak_after: float | None = None,
        driver: Driver | None = None,
        name: str | None = None,
        clock: System | None = None,
        **kwargs: Any,
    ) -> None:
        # Here and in `_start`, not above: these import dataclasses, re and logging, which take longer
        # than all the rest of `from dbapi_pool import Pool`.
        from .options import Options
        from .source import Source

        self._options = Options(
            min_size=min_size,
            max_size=max_size,
            max_idle=max_idle,
            checkout_timeout=checkout_timeout,
            max_waiting=max_waiting,
            max_lifetime=max_lifetime,
            idle_timeout=idle_timeout,
            max_uses=max_uses,
            ping_after=ping_after,
            ping_timeout=ping_timeout,
            keepalive=keepalive,
            reset=reset,
            setup=setup,
            leak_after=leak_after,
        )
        self._system = clock or REAL
        self._now = self._system.monotonic
        self._ident = self._system.get_ident
        self._source = Source(creator, args, kwargs, driver, self._options, self._system)
        self.name = name or f"pool-{self._source.driver.name}"
        self._start()
        fork.watch(self)
        interpreters.watch(self)
        if min_size:
            self._open_first(min_size)

    def _start(self) -> None:
        """Everything that a fork, or a new pool, begins with."""
        from .events import Events
        from .keeper import Alarm, Keeper
        from .stats import PoolStats

        system, options = self._system, self._options
        signal = system.signal()
        # One for all: a finalizer that is run under it comes to every part of the pool, so several
        # would be taken in any order, and two threads might wait for each other for ever. Here it
        # guards the making of a `Work`, lest two threads with one handle make two.
        self._lock = lock = system.lock()
        self._counters = Counters(lock)
        self._ledger = Ledger(lock, options.min_size, options.max_size, Alarm(signal))
        self._ledger.inline = self._source.driver.local
        self._keeper = Keeper(
            lock, self._ledger, self._source, options, system, self._counters, signal, self.name
        )
        self._inspector = Inspector(self._ledger, system)
        self._events = self._keeper.events = Events(self)
        self._heard_out = self._events.heard("dbapi_pool_checked_out")
        self._heard_in = self._events.heard("dbapi_pool_checked_in")
        # Kept, as nothing can be imported any more when the interpreter ends.
        self._stats: type[PoolStats] = PoolStats
        self._cleaner: Cleaner | None = None
        # Whether more has to be looked at when a connection comes back than in most pools.
        self._choosy = options.max_idle is not None or options.max_uses is not None
        self._ping_after = NEVER if options.ping_after is None else options.ping_after
        self._finalizer = weakref.finalize(self, _abandon, self._ledger, self._keeper)
        self._finalizer.atexit = False

    def _open_first(self, count: int) -> None:
        try:
            self._warm_up(count, None, patient=False)
        except BaseException:
            self.close(timeout=0)
            raise

    # -- checkout ---------------------------------------------------------------------------------

    def connection(self, timeout: float | None = None) -> PooledConnection:
        """Borrow a connection. Give it back with its `close()`, or use it as a context manager.

        `timeout`: seconds that this may take in all; None: `checkout_timeout`. 0: fail at once if
        every connection is lent. Raises `PoolTimeout`, `PoolFull`, `PoolDeadlock`, `PoolClosed`, or
        the driver's own error if it cannot connect and another try would not help.
        """
        frame = _getframe(1)
        return self._borrow(timeout, frame.f_code, frame.f_lasti)

    def lend(self, frame: FrameType, timeout: float | None = None) -> PooledConnection:
        """As `connection()`, for code that stands between the pool and its users: reports name the
        line at which `frame` is."""
        return self._borrow(timeout, frame.f_code, frame.f_lasti)

    def _borrow(self, timeout: float | None, code: CodeType, lasti: int) -> PooledConnection:
        # The common path, written out in one piece since calls are most of its cost.
        # (An attribute that is no method is loaded before it is called: CPython does that faster.)
        ledger = self._ledger
        clock = self._now
        now = clock()
        lease = None
        if not ledger.waiters and ledger.gate is OPEN:
            try:
                lease = ledger.idle.pop()
            except IndexError:
                pass
        if lease is not None:
            member = lease.member
            if now >= member.due or (member.alive is not None and not _alive(member)):
                lease = self._inspect(lease)  # None: nothing here keeps alive what was given away
                now = clock()
        if lease is None:
            lease = self._obtain(timeout, code, lasti)
            now = clock()
        member = lease.member
        member.since = now
        ident = self._ident
        member.thread = ident()
        member.code = code
        member.lasti = lasti
        member.uses += 1
        lease.pool = self
        handle = lend(lease)
        if self._heard_out:
            self._events.tell("dbapi_pool_checked_out", connection=handle)
        return handle

    def _inspect(self, lease: Lease, rejoin: Callable[[], object] = _nothing) -> Lease | None:
        """A closer look at a member. None: it was of no use, or is being pinged.

        `rejoin`: puts its borrower first in line again. That comes before the place is free for
        somebody else, or the next in line would overtake.
        """
        keeper = self._keeper
        opened = lease.member is None
        if opened:  # an empty place, for a driver that is opened here
            keeper.open(lease)
        member: Member = lease.member
        now = self._now()
        reason = None if opened else self._unfit(member, now)
        if reason is None and (opened or now < member.due or self._answers_ping(lease)):
            reason = member.doom  # it may have been drained while it was opened or pinged here
            if reason is None:
                return lease
        try:
            rejoin()
        finally:
            if reason is None and not self._source.driver.local:
                keeper.check(lease)
            else:
                keeper.retire(lease, reason or "failed ping")
        return None

    def _unfit(self, member: Member, now: float) -> str | None:
        """Why a member must not be lent, as far as can be told at once."""
        if member.doom is not None or now >= member.expires:
            return member.doom or "lifetime"
        if member.alive is None or _alive(member):
            return None
        self._keeper.suspect_all()
        return "dead"

    def _answers_ping(self, lease: Lease) -> bool:
        """A ping here and now, for a local driver; of another kind nothing is known yet."""
        if not self._source.driver.local:
            return False
        try:
            return self._keeper.ping(lease.member)
        except BaseException:
            self._keeper.retire(lease, "failed ping")
            raise

    def _obtain(self, timeout: float | None, code: CodeType, lasti: int) -> Lease:
        """A usable member, waiting for it if need be."""
        timeout = self._timeout(timeout)
        signal = self._system.signal()
        waiter = Waiter(signal, self._ident(), self._now(), (code, lasti), timeout != 0)
        deadline = NEVER if timeout is None else waiter.since + (timeout or _CONNECT_PATIENCE)
        try:  # nobody may stand in line after the call has ended
            self._join(waiter)
            try:
                return self._wait(waiter, deadline)
            finally:
                self._counters.waited(self._now() - waiter.since)
        except BaseException as exc:
            self._quit(waiter)
            if isinstance(exc, PoolTimeout):
                self._note_timeout(waiter)
            raise

    def _join(self, waiter: Waiter) -> None:
        try:
            self._ledger.join(waiter, self._options.max_waiting)
        except PoolError as exc:
            raise self._refusal(type(exc), waiter) from self._keeper.last_error

    def _wait(self, waiter: Waiter, deadline: float) -> Lease:
        """Wait in line until a usable member is given, or `deadline`."""
        rejoin = functools.partial(self._rejoin, waiter)
        while True:
            lease = self._inspect(self._answer(waiter, deadline), rejoin)
            if lease is not None:
                return lease

    def _answer(self, waiter: Waiter, deadline: float) -> Lease:
        """What the line gives to this waiter; raises what it was refused with."""
        ledger = self._ledger
        while not waiter.answered:
            left = deadline - self._now()
            locked = self._system.holds_lock()
            if left <= 0 or locked:
                suspects = ledger.stuck(waiter)
                ledger.leave(waiter)
                if waiter.answered:  # at this very instant
                    break
                # In no variable: it and this frame would keep each other, and the caller's, alive.
                raise self._refusal(
                    PoolTimeout, waiter, suspects, locked
                ) from self._keeper.last_error
            left = min(left, self._look_for_deadlock(waiter), self._wish())
            waiter.signal.wait(None if left == NEVER else left)
        if waiter in snapshot(ledger.waiters):  # who told it was struck, or is not done yet
            ledger.leave(waiter)
        return waiter.take()

    def _wish(self) -> float:
        """Have a connection opened if need be; seconds after which to try again."""
        try:
            self._keeper.wish()
        except RuntimeError:  # no thread to be had
            if self._ledger.census().open == 0:
                raise
            return 1.0  # others will return theirs
        return NEVER

    def _look_for_deadlock(self, waiter: Waiter) -> float:
        """Raise `PoolDeadlock` if nobody will ever be served; seconds until the next look."""
        stuck, pause = self._inspector.look(waiter, self._now())
        if stuck:
            text = diagnosis.deadlock(stuck, waiter.where, self._now())
            raise self._error(PoolDeadlock, f"{self.name}: {text}")
        return pause

    def _rejoin(self, waiter: Waiter) -> None:
        try:
            self._ledger.rejoin(waiter)
        except PoolClosed as exc:
            raise self._refusal(type(exc), waiter) from None

    def _quit(self, waiter: Waiter) -> None:
        """Leave the line; what was given at the same instant goes to the next."""
        self._ledger.leave(waiter)
        lease, waiter.lease = waiter.lease, None
        if lease is None:
            return
        if lease.member is None:
            self._keeper.vacate(lease)
        else:
            self._keeper.put(lease)

    def _note_timeout(self, waiter: Waiter) -> None:
        self._counters.timed_out()
        self._events.tell("dbapi_pool_timed_out", seconds=self._now() - waiter.since)

    def _refusal(
        self,
        kind: type[PoolError],
        waiter: Waiter,
        suspects: Sequence[Stuck] = (),
        locked: bool = False,
    ) -> PoolError:
        """The error that the caller sees: the driver's too, with the whole story."""
        text = diagnosis.explain(
            kind, self._ledger, self._options, self._keeper.last_error, waiter, self._now()
        )
        if suspects:
            text = f"{text}; {diagnosis.suspicion(suspects, self._now())}"
        if locked:
            text = f"{text}; {diagnosis.INSIDE_A_LOCK}"
        return self._error(kind, f"{self.name}: {text}")

    def _error(self, kind: type[PoolError], text: str) -> PoolError:
        return for_driver(kind, self._source.errors_from)(text)

    # -- checkin (the desk that handles lead to) --------------------------------------------------

    @property
    def driver(self) -> Driver:
        """What the pool knows about the driver."""
        return self._source.driver

    def begin_work(self, member: Member) -> Work:
        """The record of what the borrower does from now on."""
        with self._lock:
            work = member.work
            if work is None:
                member.thread = self._ident()  # it may have been passed on since it was borrowed
                member.work = work = Work(self._may_change_session, self.driver.known_harmless)
            return work

    def _may_change_session(self, sql: Any) -> bool:
        return self._options.reset != "none" and self._source.driver.may_change_session(sql)

    def check_in(self, lease: Lease) -> None:
        """A borrower is done with it: clean it, then pass it on or retire it."""
        ref = lease.place.ref
        if ref() is not lease:  # see `Ledger.owns`
            return
        member = lease.member
        if member.work is not None:
            reason = self._clean(lease, member, member.work)
            if reason is not None:
                self._tell_checked_in(member)
                self.discard(lease, reason)
                return
            member.work = None
        if self._heard_in:
            self._tell_checked_in(member)
        clock = self._now
        member.returned = now = clock()
        member.thread = 0  # nobody's, lest a thread seem to wait for what it no longer holds
        due = now + self._ping_after
        member.due = due if due < member.expires else member.expires
        # Looked at after `due` was set: who dooms a member sets `due` after `doom`.
        if member.doom is not None or now >= member.expires:
            self.discard(lease, member.doom or "lifetime")
        elif self._choosy and (reason := self._unwanted(member)) is not None:
            self.discard(lease, reason)
        else:
            lease.pool = None
            ledger = self._ledger
            ledger.idle.append(lease)  # as `Keeper.put`, written out like the way there
            if ledger.waiters or ledger.gate is not OPEN:
                del lease
                self._keeper.settle()

    def _unwanted(self, member: Member) -> str | None:
        """Why a good member is not kept."""
        ledger, options = self._ledger, self._options
        if ledger.excess():
            return "resized"
        if not self._source.driver.expendable:
            return None
        if options.max_uses is not None and member.uses >= options.max_uses:
            return "uses"
        most = options.max_idle
        if most is not None and len(ledger.idle) >= most and not ledger.waiters:
            return "surplus"
        return None

    def _tell_checked_in(self, member: Member) -> None:
        self._events.tell("dbapi_pool_checked_in", seconds=self._now() - member.since)

    def _clean(self, lease: Lease, member: Member, work: Work) -> str | None:
        cleaner = self._cleaner
        driver = self._source.driver
        if (
            cleaner is None or cleaner.driver is not driver
        ):  # the first connection tells which it is
            cleaner = Cleaner(driver, self._options.reset, self._options.setup)
            self._cleaner = cleaner
        place = lease.place
        if not driver.local:  # the housekeeper cuts it if it hangs
            place.since = self._now()
            place.task = CLEANING
        try:
            reason = cleaner.clean(member, work)
        except BaseException:
            self.discard(lease, "interrupted")
            raise
        place.task = None
        return reason

    def discard(self, lease: Lease, reason: str) -> None:
        """Retire a member that comes back, or was thrown away."""
        if not self._ledger.owns(lease):
            return
        member = lease.member
        if member.work is not None:
            for cursor in member.work.open_cursors():
                fence(cursor)
        if reason == "broken":
            self._keeper.suspect_all()
        lease.pool = None
        self._keeper.retire(lease, reason)

    def release(self, lease: Lease) -> Any:
        """The driver's connection leaves the pool: it is the borrower's own from now on."""
        if not self._ledger.owns(lease):
            raise self._error(ConnectionReturned, "this connection was lost, and is being closed")
        member = lease.member
        lease.pool = None
        self._counters.retired("detached", member.uses)
        self._keeper.vacate(lease)
        return member.conn

    def failed(self, lease: Lease, exc: BaseException) -> None:
        """A call on the driver's connection raised; a connection that is lost comes not back."""
        member = lease.member
        driver = self._source.driver
        if not isinstance(exc, Exception):
            # Cut in the middle of a conversation with a server, it cannot be resumed.
            lost = not driver.local
        elif driver.is_disconnect(exc, member.conn):
            lost = True
        else:
            lost = driver.is_failover(exc, member.conn)
            if lost and member.doom is None:  # the first one to notice
                self._replace_all("failover")
            elif driver.is_server_wide(exc):
                self._keeper.suspect_all()
        work = member.work
        if lost:
            self.begin_work(member).broken = True
        elif work is not None and work.one and driver.ends_transaction(exc, member.conn):
            work.lose(exc)

    # -- transactions -----------------------------------------------------------------------------

    def transaction(
        self,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Transaction:
        """A lease that is one transaction: `with pool.transaction() as conn:`.

        Commits on success, rolls back on an exception, always returns the connection. `options` are
        the driver's (SQLite: `mode="IMMEDIATE"`). Entering raises as `connection()` does, and
        `PoolSettingError` for what the driver cannot give.
        """
        return Transaction(self, Terms(isolation, readonly, timeout, options))

    def run(
        self,
        fn: Callable[[PooledConnection], T],
        retries: int = 3,
        isolation: str | None = None,
        readonly: bool | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> T:
        """Call `fn(conn)` in a transaction, and return its result once that is committed.

        On a serialization failure, a deadlock, "busy", or a connection lost before COMMIT was sent,
        it is rolled back and `fn` is called again, up to `retries` times more, after an exponential
        backoff with jitter (10 ms to 1 s): `fn` must have no other effects. Then the last error is
        raised. A connection lost during COMMIT raises `CommitOutcomeUnknown`, without another try.
        """
        check_count("retries", retries)
        frame = _getframe(1)
        terms = Terms(isolation, readonly, timeout, options)
        return run(self, fn, retries, terms, frame.f_code, frame.f_lasti)

    def _sleep(self, seconds: float) -> None:
        self._system.sleep(seconds)

    def _chance(self) -> float:
        return self._system.random()

    # -- life cycle -------------------------------------------------------------------------------

    def warm_up(self, count: int | None = None, timeout: float | None = None) -> None:
        """Have `count` (None: `max_size`) connections open; opens what lacks, in parallel.

        `timeout`: seconds; None: `checkout_timeout`. Raises `PoolTimeout`, `PoolClosed`, or the
        driver's own error if it cannot connect and another try would not help.
        """
        wanted = self.max_size if count is None else count
        check_count("count", wanted)
        if wanted > self.max_size:
            raise PoolSettingError(
                f"count={count!r}: must not be more than max_size={self.max_size}"
            )
        self._warm_up(wanted, timeout, patient=True)

    def _warm_up(self, count: int, timeout: float | None, patient: bool) -> None:
        timeout = self._timeout(timeout)
        now = self._now()
        deadline = NEVER if timeout is None else now + (timeout or _CONNECT_PATIENCE)
        waiter = Waiter(self._system.signal(), self._ident(), now, (None, 0))
        try:
            self._keeper.warm_up(count, deadline, patient)
        except PoolTimeout:
            raise self._refusal(PoolTimeout, waiter) from self._keeper.last_error
        if self._ledger.gate is CLOSED:
            raise self._refusal(PoolClosed, waiter)

    def _timeout(self, timeout: float | None) -> float | None:
        if self._is_vain_to_wait():
            return _NO_TIME
        if timeout is None:
            return self._options.checkout_timeout
        check_timeout(timeout)
        return timeout

    def _is_vain_to_wait(self) -> bool:
        """In a finalizer, when no other thread will run, or all may wait for what this one holds."""
        return self._system.is_over() or self._system.holds_lock()

    def drain(self) -> None:
        """Replace every connection: idle ones are closed now, lent ones when they come back.

        Raises `PoolError` for a database in memory, whose data would go with them.
        """
        if not self._source.driver.expendable:
            raise self._error(
                PoolError, f"{self.name}: draining would lose the data, which is in the connections"
            )
        self._replace_all("drained")
        self._keeper.wish()

    def _replace_all(self, reason: str) -> None:
        if not self._source.driver.expendable:
            return
        self._ledger.generation = object()
        for place in tuple(self._ledger.places):
            _doom(place.member, reason)
        self._keeper.retire_all(self._ledger.take_idle(lambda member: True), reason)

    def resize(self, max_size: int | None = None, min_size: int | None = None) -> None:
        """Change the sizes. What is too many is closed: idle ones now, then those that come back."""
        sizes = {
            "max_size": self.max_size if max_size is None else max_size,
            "min_size": self.min_size if min_size is None else min_size,
        }
        changed = type(self._options)(**{**self._options.as_dict(), **sizes})
        self._options = changed
        self._choosy = True
        ledger = self._ledger
        ledger.max_size, ledger.min_size = changed.max_size, changed.min_size
        try:
            gone = ledger.take_idle(lambda member: True, ledger.excess())
            self._keeper.retire_all(gone, "resized")
            ledger.serve()
            self._keeper.wish()
            for waiter in snapshot(ledger.waiters):
                waiter.signal.set()  # with fewer places, perhaps, nobody will ever be served
        except BaseException:
            self._keeper.end()  # the housekeeper does the rest
            raise

    def suspend(self) -> None:
        """Lend nothing until `resume()`: borrowers wait, on their own timeouts."""
        self._shut(SUSPENDED)

    def resume(self) -> None:
        """Lend again."""
        self._shut(OPEN)
        self._keeper.wish()

    def _shut(self, gate: str | None) -> None:
        if not self._ledger.shut(gate):
            raise self._error(PoolClosed, f"{self.name}: the pool is closed")

    def _end_threads(self) -> None:
        """The sub-interpreter ends, and no thread may outlive it; `System.ending` is already set."""
        self.close(timeout=0)

    def close(self, timeout: float = 5.0) -> bool:
        """Close the pool: waiters get `PoolClosed`, idle connections are closed, lent ones on return.

        Waits up to `timeout` seconds until all are closed, and says whether they are; it does not
        wait for connections that the calling thread itself still holds. Harmless the second time.
        """
        check_timeout(timeout)
        timeout = 0 if self._is_vain_to_wait() else timeout
        self._ledger.shut(CLOSED)
        self._ledger.fail(self._error(PoolClosed, f"{self.name}: the pool was closed"))
        self._keeper.retire_all(self._ledger.take_idle(lambda member: True), "closed")
        self._keeper.retire_all(self._ledger.adopt(), "leaked")
        self._keeper.end()
        return self._keeper.wait_until_closed(timeout, self._ident())

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            "a pool cannot be copied or pickled: its connections belong to this process; let each"
            " process make its own (in the initializer of its executor), or inherit one by fork"
        )

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _after_fork(self) -> None:
        """In a child: forget the parent's connections without touching them, and begin anew."""
        self._finalizer.detach()
        gate = self._ledger.gate
        gone = for_driver(ConnectionReturned, self._source.errors_from)
        for place in self._ledger.places:
            if place.member is not None:
                fork.keep_for_ever(place.member.conn)
                fork.abandon(self._source.driver, place.member)
                lease = place.ref()
                if lease is not None:
                    lease.member, lease.pool = fork.ParentsMember(gone), fork.ParentsDesk()
        self._start()
        self._ledger.gate = gate

    # -- what can be seen -------------------------------------------------------------------------

    @property
    def min_size(self) -> int:
        """Connections kept open."""
        return self._ledger.min_size

    @property
    def max_size(self) -> int:
        """Connections open or opening at most."""
        return self._ledger.max_size

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._ledger.gate is CLOSED

    def stats(self) -> PoolStats:
        """Sizes at this moment and totals so far, frozen."""
        return diagnosis.picture(self._stats, self.name, self._ledger, self._counters)

    def __repr__(self) -> str:
        s = self.stats()
        return (
            f"<Pool {s.name!r} {s.state}: {s.size} of {s.max_size} open, {s.in_use} in use,"
            f" {s.idle} idle, {s.opening} opening, {s.waiting} waiting>"
        )


def _alive(member: Member) -> bool:
    """What the driver knows without a round trip; one that raises knows nothing good."""
    try:
        return member.alive is None or member.alive(member.conn)
    except Exception:
        return False


def _doom(member: Any, reason: str) -> None:
    """Have a member retired when it is next seen."""
    if member is not None:
        member.doom = reason
        member.due = AT_ONCE  # after `doom`: see `Pool.check_in`


def _abandon(ledger: Ledger, keeper: Keeper) -> None:
    """The pool was dropped without `close()`: close what is idle."""
    ledger.shut(CLOSED)
    keeper.events = None
    keeper.retire_all(ledger.take_idle(lambda member: True), "closed")
    keeper.retire_all(ledger.adopt(), "leaked")
    keeper.end()
