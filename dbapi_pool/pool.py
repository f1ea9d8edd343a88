"""`Pool`: the front desk. Checkout, checkin and life cycle; it tells others what to do.

Who gets which connection is decided in `ledger`, what takes time in the background is done by
`keeper`, what a returned connection needs is known to `cleaning`. Here is the way of one connection
to a borrower and back, and the wording of what goes wrong on it.
"""

from __future__ import annotations

import functools
import weakref
from _bisect import bisect_left
from collections.abc import Callable, Sequence
from sys import _getframe
from types import CodeType, FrameType, TracebackType

from . import diagnosis, fork, interpreters, process
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
    PoolUnavailable,
    for_driver,
)
from .handles import PooledConnection, lend
from .leaks import calls_here
from .ledger import CLEANING, CLOSED, OPEN, SUSPENDED, Lease, Ledger, Stuck, Waiter, snapshot
from .member import AT_ONCE, NEVER, Member, Work
from .sharing import Inside
from .system import REAL, System
from .tally import BOUNDS
from .transactions import Terms, Transaction, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    from .adaptive import Adaptive
    from .drivers.base import Driver
    from .health import Health
    from .holders import Holder
    from .keeper import Keeper
    from .options import Options, Reset, Setup
    from .stats import PoolStats

    T = TypeVar("T")

_NO_TIME = -1.0
_DEBUG, _INFO = 10, 20  # as in logging, which takes long to import
CONNECT_PATIENCE = 30.0  # seconds that `timeout=0` waits for a connect that there was room for


def _nothing() -> None:
    """What a borrower does who has not stood in line."""


def _changes_nothing(sql: Any) -> bool:
    """Of a statement in a pool that resets no session."""
    return False


class Pool:
    """A pool of DB-API connections, safe to share among threads.

    `creator` is a DB-API module, a function or class that connects, or a database URL; the
    arguments that are not settings follow it: `Pool(pymysql, host="db", user="app", max_size=20)`.
    (A creator argument named like a setting: use `functools.partial`.) For the settings see
    `Options`; further:

    `driver`: a `Driver` instance instead of the one that the plugins find.
    `name`: shown in `repr`, logs, thread names and metrics, for which it should be the only one.
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
        fail_fast_after: float | None = None,
        leak_after: float | None = None,
        leak_stack: bool = False,
        detect_sharing: bool = False,
        sizing: Adaptive | None = None,
        native: bool = False,
        driver: Driver | None = None,
        name: str | None = None,
        clock: System | None = None,
        **kwargs: Any,
    ) -> None:
        # Here and in `_start`, not above: these import dataclasses, re and logging, which take longer
        # than all the rest of `from dbapi_pool import Pool`.
        from .events import Events
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
            fail_fast_after=fail_fast_after,
            leak_after=leak_after,
            leak_stack=leak_stack,
            detect_sharing=detect_sharing,
            sizing=sizing,
            native=native,
        )
        self._system = clock or REAL
        self._now = self._system.monotonic
        self._ident = self._system.get_ident
        self._source = Source(creator, args, kwargs, driver, self._options, self._system)
        self.name = name or process.unused_name(f"pool-{self._source.driver.name}")
        self._events = Events(self)
        self._start()
        process.watch(self)
        interpreters.watch(self)
        fork.heed_uwsgi()
        self._log(_DEBUG, "started: %s, max_size=%d", self._source.driver.name, max_size)
        self._events.tell("dbapi_pool_started")
        if min_size:
            self._open_first(min_size)

    def _start(self) -> None:
        """Everything that a fork, or a new pool, begins with."""
        from . import health
        from .keeper import Alarm, Keeper
        from .logs import Log
        from .picture import picture

        system, options = self._system, self._options
        signal = system.signal()
        # One for all: a finalizer that is run under it comes to every part of the pool, so several
        # would be taken in any order, and two threads might wait for each other for ever. Here it
        # guards the making of a `Work`, lest two threads with one handle make two.
        self._lock = lock = system.lock()
        self._counters = Counters(lock)
        self._log = Log(self.name, system.monotonic)
        self._ledger = Ledger(lock, options.min_size, options.max_size, Alarm(signal))
        self._ledger.inline = self._source.driver.inline
        self._keeper = Keeper(
            lock, self._ledger, self._source, options, system, self._counters, signal, self._log
        )
        self._inspector = Inspector(self._ledger, system)
        self._keeper.events = self._events
        self._health = health
        self._monitor = health.Monitor(self._now())
        self.note_listeners()
        # Kept, as nothing can be imported any more when the interpreter ends.
        self._picture = picture
        self._cleaner: Cleaner | None = None
        self._ceiling = 0
        self._take_settings(options)
        self._finalizer = weakref.finalize(self, _abandon, self._ledger, self._keeper)
        self._finalizer.atexit = False

    def _take_settings(self, options: Options) -> None:
        """What of the settings is asked at every borrowing, in the form in which it is asked."""
        # Whether more has to be looked at when a connection comes back than in most pools.
        self._choosy = options.max_idle is not None or options.max_uses is not None
        if options.sizing is not None:
            self._choosy = True
            self._ceiling = options.max_size
            self._keeper.govern(options.sizing)
        self._lent: Callable[[PooledConnection], Any] | None = None
        if options.native:
            from .native import lent

            self._lent = lent
        self._may_fail_fast = options.fail_fast_after is not None
        self._ping_after = NEVER if options.ping_after is None else options.ping_after

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
        every connection is lent. Raises `PoolTimeout` (with `fail_fast_after` also at once, as
        `PoolUnavailable`), `PoolFull`, `PoolDeadlock`, `PoolClosed`, or the driver's own error if it
        cannot connect and another try would not help.
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
        begin = now = clock()
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
            return self._hand_over(member, handle, now - begin)  # type: ignore[no-any-return]
        return handle

    def _hand_over(self, member: Member, handle: PooledConnection, waited: float) -> Any:
        """What the borrower gets, where that takes more than most pools do."""
        if self._options.leak_stack:
            member.stack = calls_here()
        conn = self._lent(handle) if self._lent is not None else handle
        number = member.number
        self._events.tell(
            "dbapi_pool_checked_out", connection_id=number, connection=conn, waited=waited
        )
        return conn

    def _inspect(self, lease: Lease, rejoin: Callable[[], object] = _nothing) -> Lease | None:
        """A closer look at a member. None: it was of no use, or is being pinged.

        `rejoin`: puts its borrower first in line again. That comes before the place is free for
        somebody else, or the next in line would overtake.
        """
        keeper = self._keeper
        opened = lease.member is None
        if opened:  # an empty place, for a driver that is opened here
            keeper.open(lease)
            lease.place.task = None
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
        deadline = NEVER if timeout is None else waiter.since + (timeout or CONNECT_PATIENCE)
        in_line = False
        try:  # nobody may stand in line after the call has ended
            if self._may_fail_fast and self._keeper.is_vain(waiter.since):
                self._keeper.go_on_trying()
                self._fail_fast(waiter)
            settled = self._join(waiter)
            in_line = True
            try:
                return self._wait(waiter, deadline, settled)
            finally:
                self._counters.waited(self._now() - waiter.since)
        except BaseException as exc:
            self._quit(waiter)
            self._note_refusal(waiter, exc, in_line)
            raise

    def _join(self, waiter: Waiter) -> bool:
        try:
            return self._ledger.join(waiter, self._options.max_waiting)
        except PoolError as exc:
            raise self._refusal(type(exc), waiter) from self._keeper.last_error

    def _wait(self, waiter: Waiter, deadline: float, settled: bool) -> Lease:
        """Wait in line until a usable member is given, or `deadline`. `settled`: see `Ledger.join`."""
        while True:
            lease = self._answer(waiter, deadline, settled)
            member = lease.member
            if member is not None and self._is_good(member):
                return lease
            good = self._inspect(lease, functools.partial(self._rejoin, waiter))
            if good is not None:
                return good
            del lease  # it is not this thread's any more
            settled = False

    def _is_good(self, member: Member) -> bool:
        """Whether it may be lent without a closer look."""
        return self._now() < member.due and (member.alive is None or _alive(member))

    def _answer(self, waiter: Waiter, deadline: float, settled: bool) -> Lease:
        """What the line gives to this waiter; raises what it was refused with."""
        while waiter.lease is None and waiter.error is None:
            left = self._pause(waiter, deadline, settled)
            if left <= 0:
                break
            waiter.signal.wait(None if left == NEVER else left)
            settled = False  # woken for another reason, perhaps
        return self._accept(waiter)

    def _pause(self, waiter: Waiter, deadline: float, settled: bool) -> float:
        """Seconds after which to look again; 0: it was answered in the last moment. Raises
        `PoolTimeout`, `PoolDeadlock`."""
        now = self._now()
        left = deadline - now
        if left <= 0:
            self._give_up(waiter)
            return 0.0
        if settled and self._keeper.looks_soon(now):
            return left
        return min(left, self._look_for_deadlock(waiter), self._wish())

    def _accept(self, waiter: Waiter) -> Lease:
        """The answer that was given."""
        if waiter.in_line:  # who told it was struck, or is not done yet
            self._ledger.leave(waiter)
        if type(waiter.error) is PoolUnavailable:
            self._fail_fast(waiter)
        return waiter.take()

    def _fail_fast(self, waiter: Waiter) -> NoReturn:
        raise self._refusal(PoolUnavailable, waiter) from self._keeper.last_error

    def _give_up(self, waiter: Waiter) -> None:
        """Time is over: raises, unless the answer comes at this very instant."""
        suspects = self._ledger.stuck(waiter)
        self._ledger.leave(waiter)
        if not waiter.answered:
            # In no variable: it and this frame would keep each other, and the caller's, alive.
            raise self._refusal(PoolTimeout, waiter, suspects) from self._keeper.last_error

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
        if self._ledger.max_size < self._ceiling:
            return NEVER  # `resize` wakes it
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
            self._keeper.give(lease)  # it may have become unwanted meanwhile

    def _note_refusal(self, waiter: Waiter, exc: BaseException, in_line: bool) -> None:
        why, timeout = diagnosis.refusal(exc), isinstance(exc, PoolTimeout)
        seconds = self._now() - waiter.since
        self._counters.refused(why, timeout, in_line)
        if timeout:
            self._events.tell("dbapi_pool_timed_out", seconds=seconds)
        self._events.tell("dbapi_pool_refused", error=why, seconds=seconds)

    def _refusal(
        self,
        kind: type[PoolError],
        waiter: Waiter,
        suspects: Sequence[Stuck] = (),
    ) -> PoolError:
        """The error that the caller sees: the driver's too, with the whole story."""
        keeper, now = self._keeper, self._now()
        text = diagnosis.explain(
            kind, self._ledger, self._options, keeper.last_error, waiter, now, keeper.vain_for(now)
        )
        if suspects:
            text = f"{text}; {diagnosis.suspicion(suspects, self._now())}"
        if kind is PoolTimeout and self._system.holds_lock():
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
        work = member.work
        if work is None:
            # No lock: of two threads with one handle both find the same.
            work = member.record or self._make_record(member)
            ident = self._ident
            member.thread = ident()  # it may have been passed on since it was borrowed
            member.work = work
        return work

    def _make_record(self, member: Member) -> Work:
        driver: Driver = member.driver
        # What an idle connection refers to must not keep the pool alive.
        note = _changes_nothing if self._options.reset == "none" else driver.may_change_session
        with self._lock:
            if member.record is None:
                member.record = record = Work(note, driver.known_harmless, driver.known_inert)
                if self._options.detect_sharing:
                    record.inside = Inside(member, self._keeper.report_sharing)
            return member.record

    def check_in(self, lease: Lease) -> None:
        """A borrower is done with it: clean it, then pass it on or retire it."""
        ref = lease.place.ref
        if ref() is not lease:  # see `Ledger.owns`
            return
        member = lease.member
        if member.work is not None:
            reason = self._clean(lease, member, member.work)
            if reason is not None:
                if self._heard_in:
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
        held = self._now() - member.since
        self._events.tell("dbapi_pool_checked_in", connection_id=member.number, seconds=held)

    def _clean(self, lease: Lease, member: Member, work: Work) -> str | None:
        cleaner = self._cleaner
        driver = self._source.driver
        if (
            cleaner is None or cleaner.driver is not driver
        ):  # the first connection tells which it is
            cleaner = Cleaner(driver, self._options.reset, self._options.setup)
            self._cleaner = cleaner
        place = lease.place
        now = self._now()
        held, holds = now - member.since, work.holds
        holds.counts[bisect_left(BOUNDS, held)] += 1  # as `Tally.add`, written out
        holds.total += held
        if not driver.local:  # the housekeeper cuts it if it hangs
            place.since = now
            place.task = CLEANING
        try:
            reason = cleaner.clean(member, work)
        except BaseException:
            self.discard(lease, "interrupted")
            raise
        place.task = None
        if self._heard_cleaned:
            self._events.tell(
                "dbapi_pool_cleaned",
                connection_id=member.number,
                seconds=self._now() - now,
                reason=reason,
            )
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
        elif reason == "invalidated" and self._heard_in:
            self._tell_checked_in(member)
        lease.pool = None
        self._keeper.retire(lease, reason)

    def release(self, lease: Lease) -> Any:
        """The driver's connection leaves the pool: it is the borrower's own from now on."""
        if not self._ledger.owns(lease):
            raise self._error(ConnectionReturned, "this connection was lost, and is being closed")
        member = lease.member
        if self._heard_in:
            self._tell_checked_in(member)
        lease.pool = None
        self._keeper.release(lease)
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
                self._tell_changed("failover")
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
        terms = Terms(isolation, readonly, timeout, options)
        return self.run_at(_getframe(1), fn, retries, terms)

    def run_at(
        self, frame: FrameType, fn: Callable[[PooledConnection], T], retries: int, terms: Terms
    ) -> T:
        """As `run`, for code that stands between the pool and its users: see `lend`."""
        check_count("retries", retries)
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
        deadline = NEVER if timeout is None else now + (timeout or CONNECT_PATIENCE)
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
        self._tell_changed("drained")

    def _replace_all(self, reason: str) -> None:
        if not self._source.driver.expendable:
            return
        self._ledger.generation = object()
        for place in tuple(self._ledger.places):
            _doom(place.member, reason)
        self._keeper.retire_all(self._ledger.take_idle(lambda member: True), reason)

    def resize(
        self,
        max_size: int | None = None,
        min_size: int | None = None,
        ceiling: int | None = None,
    ) -> None:
        """Change the sizes. What is too many is closed: idle ones now, then those that come back.

        With `max_size=0` (and `min_size=0`) nothing is lent, and nothing kept open, until it is raised
        again. `ceiling`: to how many somebody may raise `max_size` by and by, for whoever waits: below
        that, waiting for itself is no deadlock. Raises `PoolSettingError` for sizes that cannot be.
        """
        sizing = self._options.sizing
        now_most = self.max_size if sizing is None else self._options.max_size
        most = now_most if max_size is None else max_size
        least = self.min_size if min_size is None else min_size
        nothing = most == 0 and least == 0
        sizes = {"max_size": 1 if nothing else most, "min_size": least}
        changed = type(self._options)(**{**self._options.as_dict(), **sizes})
        self._options = changed
        self._keeper.heed(changed)
        self._choosy = True
        ledger = self._ledger
        self._ceiling = ceiling or 0
        if sizing is not None and not nothing:
            self._ceiling = max(self._ceiling, most)
            most = min(most, max(self._keeper.limit, least))
        ledger.max_size, ledger.min_size = 0 if nothing else most, least
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
        self._tell_changed("resized")

    def suspend(self) -> None:
        """Lend nothing until `resume()`: borrowers wait, on their own timeouts."""
        self._shut(SUSPENDED)
        self._tell_changed("suspended")

    def resume(self) -> None:
        """Lend again."""
        self._shut(OPEN)
        self._keeper.wish()
        self._tell_changed("resumed")

    def _tell_changed(self, what: str) -> None:
        sizes = self.min_size, self.max_size
        self._log(_INFO, "%s; min_size=%d, max_size=%d", what, *sizes)
        self._events.tell("dbapi_pool_changed", what=what)

    def _shut(self, gate: str | None) -> None:
        if not self._ledger.shut(gate):
            raise self._error(PoolClosed, f"{self.name}: the pool is closed")

    def _end_threads(self) -> None:
        """The sub-interpreter ends, and no thread may outlive it; `System.ending` is already set."""
        self.close(timeout=0)
        driver = self._source.driver
        if driver.local:
            # Who still holds one drops it without a word, and from Python 3.13 on sqlite3 would warn.
            self._last_rites = [
                weakref.ref(lease, functools.partial(_close_at_last, driver, place.member.conn))
                for place in tuple(self._ledger.places)
                if (lease := place.ref()) is not None and place.member is not None
            ]

    def close(self, timeout: float = 5.0) -> bool:
        """Close the pool: waiters get `PoolClosed`, idle connections are closed, lent ones on return.

        Waits up to `timeout` seconds until all are closed, and says whether they are; it does not
        wait for connections that the calling thread itself still holds. Harmless the second time.
        """
        check_timeout(timeout)
        timeout = 0 if self._is_vain_to_wait() else timeout
        if not self.closed:
            self._log(_DEBUG, "closed")
            self._events.tell("dbapi_pool_ended")
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
                fork.abandon(self._source.driver, place.member, self._log)
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
    def exhausted(self) -> bool:
        """Whether a checkout now would have to wait until somebody returns a connection: nothing is
        idle, and no more may be opened."""
        ledger = self._ledger
        if ledger.idle or len(ledger.places) < ledger.max_size:
            return False
        return ledger.census().occupied >= ledger.max_size

    @property
    def busy(self) -> int:
        """Connections that are lent, or being cleaned after that."""
        census = self._ledger.census()
        return len(census.lent) + len(census.tasks[CLEANING])

    @property
    def occupied(self) -> int:
        """Connections that are open, opening or being closed: what the server may see of this pool."""
        return self._ledger.census().occupied

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._ledger.gate is CLOSED

    @property
    def options(self) -> Options:
        """The settings, as they are now."""
        return self._options

    @property
    def endpoint(self) -> tuple[str, int | None] | None:
        """Host and port of the server, as far as the creator's arguments tell; without any secret."""
        return self._source.endpoint()

    def stats(self) -> PoolStats:
        """Sizes at this moment and totals so far, frozen."""
        return self._picture(self._lock, self.name, self._ledger, self._counters)

    def holders(self) -> list[Holder]:
        """Who has borrowed a connection, since when and at which line; the longest first.

        One moment's view, without anything that keeps a connection lent: a connection that is just
        being handed out may be missing.
        """
        from .holders import holders

        return holders(self._ledger, self._now())

    def health(self) -> Health:
        """How the pool is doing: "ok", "warning" or "critical", and why, in words, with what to change.

        Judged from what happened in the last minute, or since it was last asked, if that is longer ago:
        ask every few seconds, or listen to `dbapi_pool_alert`.
        """
        keeper = self._keeper
        error = None if keeper.last_error is None else type(keeper.last_error).__name__
        outlook = self._health.Outlook(error, keeper.overdue, self._options.checkout_timeout)
        stats = self.stats()
        with self._lock:
            return self._monitor.look(stats, outlook, self._now())

    def look_at_health(self) -> None:
        """Tell the listeners of `dbapi_pool_alert` if the health has changed; the housekeeper does so
        every 5 seconds."""
        health = self.health()
        change = self._monitor.alert(health)
        if change is not None:
            before, level = change
            self._events.tell(
                "dbapi_pool_alert", level=level, before=before, reasons=health.reasons
            )

    def register(self, listener: object) -> None:
        """Let an object listen to this pool: a module, or an object whose methods are event hooks
        (`docs/operations.md` has a list), marked with `dbapi_pool.drivers.hookimpl`.

        They are called by whoever does what they tell of, without any lock held; what they raise is
        logged once. Raises `ValueError` for an object without an event hook, with one that there is
        not, or that listens already.
        """
        self._events.register(listener)
        self.note_listeners()

    def unregister(self, listener: object) -> None:
        """Let it listen no more. Raises `ValueError` if it does not."""
        self._events.unregister(listener)
        self.note_listeners()

    def note_listeners(self) -> None:
        """Look anew whether anybody listens to what happens often. To be called where a listener of
        all pools came or went: see `dbapi_pool.drivers.listen`."""
        heard = self._events.heard
        more = self._options.leak_stack or self._options.native
        self._heard_out = more or heard("dbapi_pool_checked_out")
        self._heard_in = heard("dbapi_pool_checked_in")
        self._heard_cleaned = heard("dbapi_pool_cleaned")
        self._keeper.health_every = self._health.EVERY if heard("dbapi_pool_alert") else NEVER
        self._keeper.end()  # the housekeeper looks when to look again

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


def _close_at_last(driver: Driver, conn: Any, lease: Any) -> None:
    driver.close(conn)


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
