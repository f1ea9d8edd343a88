"""Everything in the background: opening, closing, checking, filling, retiring, keepalive, backoff.

Borrowers do no network I/O to get a connection: openers connect, checkers ping, closers close, each
on daemon threads that start on demand and end when there is nothing to do; the housekeeper looks
after the clock. A driver that calls itself `local` is opened, pinged and closed in the caller's
thread instead. The threads hold the keeper weakly while they wait. It must never know the pool.
"""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from .counters import Counters
from .crew import Crew
from .drivers.base import Driver
from .errors import PoolError, PoolTimeout, replica
from .events import Events, log
from .ledger import (
    CHECKING,
    CLEANING,
    CLOSED,
    CLOSING,
    OPEN,
    Census,
    Lease,
    Ledger,
    Wish,
    snapshot,
)
from .member import AT_ONCE, NEVER, Member, line_of
from .options import Options
from .source import Source
from .system import Signal, System

BACKOFF_FIRST = 0.05
BACKOFF_MOST = 1.0
_HANDS = 32  # threads that close and ping; an opener has a thread of its own
_GOOD_FOR = 1.0  # seconds that a ping or an opening counts, whatever `ping_after` is
_SEARCH_EVERY = 10.0  # seconds at least between two garbage collections
_COME_OUT = 0.02  # seconds between two looks whether a thread has come out of the driver
_CUT = (CHECKING, CLEANING, CLOSING)  # what is cut when it takes longer than `ping_timeout`
_LOOK_AGAIN = 1.0  # seconds between two looks while somebody waits: a safety net, not a clock


class Alarm:
    """Told when a lease was lost; callable from anywhere, also from the garbage collector."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal

    def __call__(self, _: Any) -> None:
        self.signal.set()


class Keeper:
    """The background of one pool."""

    def __init__(
        self,
        lock: AbstractContextManager[object],
        ledger: Ledger,
        source: Source,
        options: Options,
        system: System,
        counters: Counters,
        signal: Signal,
        name: str,
    ) -> None:
        self._ledger = ledger
        self._source = source
        self._options = options
        self._system = system
        self._counters = counters
        self._signal = signal
        self._name = name
        self.events: Events | None = None
        self.last_error: BaseException | None = None  # of the last connect, while connects fail
        self._failures = 0
        # Connections opened since nobody waited. A spike is mostly over before the first is open; where
        # it is not, twice as many are opened at a time, and so on.
        self._grown = 0
        self._retry_at = AT_ONCE
        self._searched = AT_ONCE
        self._crew = Crew(lock, system, _HANDS, f"{name} hands")
        # Guards the decision to start or end the housekeeper.
        self._lock = lock
        self._housekeeper: Callable[[], object] = _nobody
        self._revived = AT_ONCE
        self._next_look_at = NEVER
        self._watchers: list[weakref.ref[Wish]] = []  # those who wait until sizes change

    @property
    def _driver(self) -> Driver:
        return self._source.driver

    # -- opening ----------------------------------------------------------------------------------

    def wish(self) -> None:
        """Start as many openers as the line and `min_size` ask for; look after the clock.

        Raises `RuntimeError` if a thread is needed and there is none to be had.
        """
        self.keep_house()
        self._ask_for_a_look()
        if self._driver.local:  # who waits opens, but nobody waits for what `min_size` lacks
            if self._ledger.min_size and self._ledger.census().open < self._ledger.min_size:
                self._signal.set()
            return
        while (lease := self._claim()) is not None:
            job = functools.partial(self._opener, lease)
            try:
                self._system.spawn(job, f"{self._name} opener")
            except RuntimeError as exc:  # only then is it certain that no thread has the lease
                if not _is_the_end(exc):
                    self._ledger.vacate(lease)
                    raise
                job()  # threads that outlive the main one may still want to work
            del job, lease

    def _ask_for_a_look(self) -> None:
        """Somebody waits: perhaps for what an exception made be lost, and nobody was told of it."""
        if self._ledger.waiters and self._next_look_at - self._system.monotonic() > _LOOK_AGAIN:
            self._signal.set()

    def _wish_if_possible(self) -> None:
        """As `wish`, for those who only pass by: who waits wishes too."""
        try:
            self.wish()
        except RuntimeError as exc:
            self._no_thread(exc)

    def _no_thread(self, exc: RuntimeError) -> None:
        # At the interpreter's end there is none to be had, and nobody left whom that concerns.
        level = logging.DEBUG if _is_the_end(exc) else logging.WARNING
        log.log(level, "%s: %s", self._name, exc)

    def _claim(self) -> Lease | None:
        now = self._system.monotonic()
        if now < self._retry_at:
            return None
        if not self._ledger.waiters:
            self._grown = 0
        stuck, slow = now - self._options.ping_timeout, now - _LOOK_AGAIN
        single = self._failures > 0
        return self._ledger.claim(stuck, single=single, step=1 + self._grown, slow=slow)

    def _opener(self, lease: Lease | None) -> None:
        """An opener thread: open while more is wanted."""
        while lease is not None:
            try:
                self.open(lease)
            except (
                BaseException
            ) as exc:  # this thread is ours alone: it is told to whom it concerns
                lease = None
                self._tell_waiters(exc)
            else:
                self._grown += 1
                self.give(lease)
                lease = self._claim()
                if lease is not None:
                    self._wish_if_possible()  # twice as many as before
        self._wish_if_possible()

    def open(self, lease: Lease) -> None:
        """Open a connection into the empty place of `lease`; on an error the place is empty again."""
        generation = self._ledger.generation
        lease.place.since = start = self._system.monotonic()
        try:
            member = self._source.open()
        except BaseException as exc:
            self._open_failed(exc)
            self.vacate(lease)
            raise
        self._ledger.inline = self._driver.local
        self._ledger.fill(lease, member)
        if generation != self._ledger.generation:
            member.doom = "drained"
        elif self._ledger.excess():
            member.doom = "resized"
        self.approve(member)
        self._counters.connected()
        self._failures = 0
        self._retry_at = AT_ONCE
        self.last_error = None
        self._tell("dbapi_pool_connected", seconds=self._system.monotonic() - start)
        self._notify()
        self.keep_house()

    def _open_failed(self, exc: BaseException) -> None:
        self._counters.connect_failed()
        self.last_error = replica(exc)
        wait = min(BACKOFF_MOST, BACKOFF_FIRST * 2**self._failures)
        self._failures = min(self._failures + 1, 30)
        self._retry_at = self._system.monotonic() + wait * (0.5 + 0.5 * self._system.random())
        self._ledger.inline = self._driver.local
        if self._driver.is_server_wide(exc):
            self.suspect_all()
        log.info("%s: cannot connect: %s", self._name, type(exc).__name__)

    def is_transient(self, exc: BaseException) -> bool:
        """Whether connecting may succeed before long, so that those who wait need not be told."""
        return isinstance(exc, Exception) and self._driver.is_transient(exc)

    def _tell_waiters(self, exc: BaseException) -> None:
        """Who waits gets the driver's error at once, unless another try may help before long."""
        if self.is_transient(exc):
            self._ledger.fail(exc, lambda waiter: not waiter.patient)
        else:
            self._ledger.fail(_presentable(exc), most=1 if self._ledger.census().open else None)
            self._retry_at = AT_ONCE if self._ledger.floor() == 0 else self._retry_at
        self._signal.set()

    def warm_up(self, count: int, deadline: float, patient: bool) -> None:
        """Return when `count` connections are open; at `deadline`, or when connecting fails (if it
        is worth no further try, or `patient` is false), raise the last error of connecting, or
        `PoolTimeout`."""
        wish = Wish(self._system.signal(), count)
        try:
            _note(self._ledger.wishes, wish)
            _note(self._watchers, wish)
            self._open_until(wish, deadline, patient)
        finally:
            _forget(self._ledger.wishes, wish)
            _forget(self._watchers, wish)

    def _open_until(self, wish: Wish, deadline: float, patient: bool) -> None:
        """A function of its own, see `Ledger` about loops."""
        ledger = self._ledger
        errors = self._counters.connect_errors
        while ledger.census().open < wish.count and ledger.gate is not CLOSED:
            self._fill()
            if self._counters.connect_errors > errors and self.last_error is not None:
                if not patient or not self.is_transient(self.last_error):
                    raise replica(_presentable(self.last_error))
            left = deadline - self._system.monotonic()
            if left <= 0:
                raise PoolTimeout
            if ledger.census().open < wish.count:
                wish.signal.wait(None if left == NEVER else left)

    # -- giving, checking, closing ----------------------------------------------------------------

    def give(self, lease: Lease) -> None:
        """A member that was opened or checked is free, unless it became unwanted meanwhile."""
        if lease.member.doom is not None:
            self.retire(lease, lease.member.doom)
        elif self._ledger.excess():
            self.retire(lease, "resized")
        else:
            self.put(lease)

    def put(self, lease: Lease) -> None:
        """A clean member is free."""
        self._ledger.idle.append(lease)
        del lease  # it may be somebody else's by now, or in `settle`'s answer
        if self._ledger.waiters or self._ledger.gate is not OPEN:
            self.settle()

    def settle(self) -> None:
        """After something was appended to `idle`, and somebody waits, or the gate is not open."""
        self.retire_all(self._ledger.settle(), "closed")

    def check(self, lease: Lease) -> None:
        """Ping a member in the background, then put it or retire it."""
        lease.place.since = self._system.monotonic()
        lease.place.task = CHECKING
        self._crew.submit(functools.partial(self._check, lease))

    def _check(self, lease: Lease) -> None:
        good = False
        try:
            good = self.ping(lease.member)
        finally:
            if not good:
                self.retire(lease, "failed ping")
        if good:
            lease.place.task = None
            self.give(lease)

    def ping(self, member: Member) -> bool:
        """Ping a member in this thread; False if it failed, and must be retired."""
        try:
            self._driver.ping(member.conn)
        except BaseException as exc:
            log.info("%s: a connection failed its ping: %s", self._name, type(exc).__name__)
            self.suspect_all()
            if isinstance(exc, Exception):
                return False
            raise
        self.approve(member)
        return True

    def approve(self, member: Member) -> None:
        """Just opened or pinged: good for a while, even with `ping_after=0`."""
        member.pinged = now = self._system.monotonic()
        after = self._options.ping_after
        member.due = min(member.expires, NEVER if after is None else now + max(after, _GOOD_FOR))
        if member.doom is not None:
            member.due = AT_ONCE

    def suspect_all(self) -> None:
        """One connection turned out dead: the others are pinged before they are lent again."""
        if self._options.ping_after is None:
            return
        for member in self._ledger.idle_members():
            member.due = AT_ONCE

    def retire(self, lease: Lease, reason: str) -> None:
        """Close a member for good; its place counts as occupied until the driver has closed it."""
        self.retire_all([lease], reason)

    def retire_all(self, leases: list[Lease], reason: str) -> None:
        """As `retire`, for several."""
        now = self._system.monotonic()
        for lease in leases:
            lease.place.since = now
            lease.place.task = CLOSING
        while leases:
            self._retire(leases.pop(), reason)

    def _retire(self, lease: Lease, reason: str) -> None:
        # From here on its uses are past ones; until then, they are found at its place.
        uses, lease.member.uses = lease.member.uses, 0
        self._counters.retired(reason, uses)
        self._tell("dbapi_pool_retired", reason=reason)
        if self._driver.local:
            self._close(lease)
            return
        self._crew.submit(functools.partial(self._close, lease))

    def _close(self, lease: Lease) -> None:
        try:
            self._wait_for_others(lease.member)
        except BaseException:  # an interrupt: somebody else waits, and closes it
            self._crew.submit(functools.partial(self._close, lease))
            raise
        try:
            self._driver.close(lease.member.conn)
        except Exception as exc:
            log.debug("%s: closing raised %s", self._name, type(exc).__name__)
        finally:
            self.vacate(lease)

    def _wait_for_others(self, member: Member) -> None:
        """Let a thread that is still inside a call come out, for a while: few drivers stand being
        closed under one."""
        end = self._system.monotonic() + self._options.ping_timeout
        while member.in_call and self._system.monotonic() < end:
            self._system.sleep(_COME_OUT)

    def vacate(self, lease: Lease) -> None:
        """The place is empty: whoever waits may have it."""
        self._ledger.vacate(lease)
        self._notify()
        if self._ledger.gate is CLOSED:
            self._signal.set()  # the housekeeper may end
        self._wish_if_possible()

    def _notify(self) -> None:
        """Sizes changed: tell those who wait for that."""
        for ref in tuple(self._watchers):
            wish = ref()
            if wish is not None:
                wish.signal.set()

    def end(self) -> None:
        """The pool was closed, or something was left undone: let the housekeeper see it."""
        self._signal.set()

    def wait_until_closed(self, timeout: float, mine: int) -> bool:
        """Until no place is occupied, but by leases of the thread `mine`; False on timeout."""
        wish = Wish(self._system.signal())
        try:
            _note(self._watchers, wish)
            return self._wait_until_closed(wish, self._system.monotonic() + timeout, mine)
        finally:
            _forget(self._watchers, wish)

    def _wait_until_closed(self, wish: Wish, deadline: float, mine: int) -> bool:
        """A function of its own, see `Ledger` about loops."""
        while (census := self._ledger.census()).occupied:
            left = deadline - self._system.monotonic()
            if left <= 0 or _all_lent_by(census, mine):
                return False
            wish.signal.wait(left)
        return True

    # -- keeping house ----------------------------------------------------------------------------

    def keep_house(self) -> None:
        """Make sure that the housekeeper runs, if there is anything to look after."""
        if self._housekeeper() is not None or self._system.ending:
            return
        with self._lock:
            if self._housekeeper() is not None or self._is_quiet():
                return
            me = weakref.ref(self)
            job = functools.partial(_keep_house, me, self._signal)
            self._housekeeper = weakref.ref(job, functools.partial(_revive, me))
        try:
            self._system.spawn(job, f"{self._name} housekeeper")
        except RuntimeError as exc:  # the next who comes by tries again
            self._housekeeper = _nobody
            self._no_thread(exc)

    def revive(self) -> None:
        """The housekeeper is gone without having resigned: an exception struck its thread."""
        now = self._system.monotonic()
        if now - self._revived >= _LOOK_AGAIN:  # one that dies at once shall not come back for ever
            self._revived = now
            self.keep_house()

    def look(self) -> float | None:
        """As `tick`; whatever goes wrong in it, the housekeeper goes on."""
        if self._system.ending:
            return None
        me = self._housekeeper
        self._next_look_at = AT_ONCE
        try:
            delay = self.tick()
            self._next_look_at = self._system.monotonic() + (NEVER if delay is None else delay)
            return delay
        except BaseException as exc:  # this thread is ours alone
            log.error("%s: the housekeeper failed and goes on: %r", self._name, exc)
        self._next_look_at = NEVER
        if self._housekeeper is me:
            return _LOOK_AGAIN
        self.keep_house()  # it had just resigned: there shall not be two
        return None

    def tick(self) -> float | None:
        """Do what is due; seconds until the next look, or None to end."""
        now = self._system.monotonic()
        self._crew.tend()
        self.retire_all(self._ledger.adopt(), "leaked")
        self._retire_idle(now)
        self._ledger.serve()
        self._fill_if_possible()
        census = self._ledger.census()
        self._search_garbage(census, now)
        self._keepalive(now)
        self._watch(census, now)
        self._report_leaks(census, now)
        return None if self._may_end() else self._next_look(census, now)

    def _may_end(self) -> bool:
        """Whether this housekeeper is not needed any more. It resigns before it looks: whoever gives
        it something to do looks afterwards whether there is one."""
        with self._lock:
            housekeeper = self._housekeeper
            self._housekeeper = _nobody
            if self._is_quiet():
                return True
            self._housekeeper = housekeeper
            return False

    def _is_quiet(self) -> bool:
        """Nothing is open, and nobody waits. Caller holds the lock."""
        if self._ledger.waiters:
            return False
        census = self._ledger.census()
        if census.occupied or census.orphaned:
            return False
        return self._ledger.floor() == 0 or self._ledger.gate is CLOSED

    def _next_look(self, census: Census, now: float) -> float:
        options = self._options
        spans = [options.idle_timeout, options.keepalive, options.leak_after, options.max_lifetime]
        look = min((span / 4 for span in spans if span is not None), default=60.0)
        look = min(look, options.ping_timeout) if not self._driver.local else look
        for task in _CUT:
            for place in census.tasks[task]:
                late = place.since + options.ping_timeout - now
                look = min(look, late if late > 0 else options.ping_timeout)
        if self._ledger.waiters:
            look = min(look, _LOOK_AGAIN)
        if self._retry_at > now:
            look = min(look, self._retry_at - now)
        for member in self._ledger.idle_members():
            look = min(look, self._idle_due(member) - now)
        return max(look, 0.001)

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
        return self._driver.expendable and self._ledger.census().open > self._ledger.min_size

    def _retire_idle(self, now: float) -> None:
        ledger = self._ledger
        for lease in ledger.take_idle(lambda member: member.doom is not None):
            self.retire(lease, lease.member.doom)
        self.retire_all(ledger.take_idle(lambda member: now >= member.expires), "lifetime")
        # Left behind by a `resize()` that was interrupted.
        self.retire_all(ledger.take_idle(lambda member: True, ledger.excess()), "resized")
        if not self._driver.expendable:
            return
        most = self._options.max_idle
        if most is not None:  # what was opened or checked for somebody who then left
            surplus = max(len(ledger.idle) - most, 0)
            self.retire_all(ledger.take_idle(lambda member: True, surplus), "surplus")
        after = self._options.idle_timeout
        if after is None:
            return
        spare = ledger.census().open - ledger.min_size
        old = ledger.take_idle(lambda member: now >= member.returned + after, max(spare, 0))
        self.retire_all(old, "idle")

    def _fill(self) -> None:
        """Open what `min_size` lacks, and retry what failed."""
        if not self._driver.local:
            self.wish()
            return
        while (lease := self._claim()) is not None:
            try:
                self.open(lease)
            except Exception:
                return
            self.give(lease)

    def _fill_if_possible(self) -> None:
        try:
            self._fill()
        except RuntimeError as exc:  # no thread to be had now
            self._no_thread(exc)

    def _keepalive(self, now: float) -> None:
        every = self._options.keepalive
        if every is None:
            return
        wanted = self._ledger.take_idle(
            lambda member: now >= max(member.returned, member.pinged) + every
        )
        while wanted:
            self.check(wanted.pop())

    def _watch(self, census: Census, now: float) -> None:
        """Cut what blocks for longer than `ping_timeout`."""
        for task in _CUT:
            for place in census.tasks[task]:
                member = place.member
                late = now - place.since >= self._options.ping_timeout
                if late and member is not None and place.task == task:
                    self._cut(member.conn)

    def _cut(self, conn: Any) -> None:
        try:
            self._driver.interrupt(conn)
        except Exception as exc:
            log.debug("%s: interrupting raised %s", self._name, type(exc).__name__)

    def _search_garbage(self, census: Census, now: float) -> None:
        """All are lent, and nobody was served for a while: a dropped handle may be in a reference
        cycle (an exception's traceback makes one), which nothing collects while all threads wait."""
        waiters = snapshot(self._ledger.waiters)
        if len(census.lent) < self._ledger.max_size or not waiters:
            return
        waited = now - min(waiter.since for waiter in waiters)
        # Ever more rarely in one long wait, since a collection stops everybody.
        if waited >= _LOOK_AGAIN and now - self._searched >= max(_SEARCH_EVERY, waited / 2):
            self._searched = now
            self._system.collect_garbage()

    def _report_leaks(self, census: Census, now: float) -> None:
        after = self._options.leak_after
        if after is None:
            return
        for place in census.lent:
            member = place.member
            if (
                member is not None
                and now - member.since >= after
                and member.reported != member.uses
            ):
                member.reported = member.uses
                log.warning(
                    "%s: a connection has been lent for %.1f s, longer than leak_after=%r;"
                    " it was borrowed at %s",
                    self._name,
                    now - member.since,
                    after,
                    line_of(member.code, member.lasti),
                )

    def _tell(self, event: str, **facts: Any) -> None:
        if self.events is not None:
            self.events.tell(event, **facts)


def _note(refs: list[weakref.ref[Wish]], wish: Wish) -> None:
    refs.append(weakref.ref(wish))


def _forget(refs: list[weakref.ref[Wish]], wish: Wish) -> None:
    """Take one out, if it was put in, and those that an exception left behind."""
    for ref in tuple(refs):
        if ref() in (None, wish):
            try:
                refs.remove(ref)
            except ValueError:  # somebody was quicker
                pass


def _revive(keeper_ref: weakref.ref[Keeper], _: Any) -> None:
    keeper = keeper_ref()
    if keeper is not None:
        keeper.revive()


def _is_the_end(exc: RuntimeError) -> bool:
    """Whether no thread can be started since the interpreter ends, not since there are too many."""
    return "the interpreter ends" in str(exc) or "interpreter shutdown" in str(exc)


def _nobody() -> None:
    """Stands for the weak reference to a housekeeper that there is not."""
    return None


def _presentable(exc: BaseException) -> Exception:
    """What can be raised in another thread: a driver's error as it is."""
    if isinstance(exc, Exception):
        return exc
    error = PoolError(f"connecting was cut short by {exc!r}")
    # Without the frames, which hold a lease, or whoever keeps the error would keep its place.
    error.__cause__ = exc.with_traceback(None)
    return error


def _all_lent_by(census: Census, thread: int) -> bool:
    """Whether every occupied place is lent, and by that thread: nobody else will return them."""
    members = [place.member for place in census.lent]
    return len(members) == census.occupied and all(
        member is not None and member.thread == thread for member in members
    )


def _keep_house(keeper_ref: weakref.ref[Keeper], signal: Signal) -> None:
    """The housekeeper's thread. It holds the keeper only while it looks."""
    delay: float | None = 0.0
    while delay is not None:
        signal.wait(delay)
        keeper = keeper_ref()
        if keeper is None:
            return
        delay = keeper.look()
        del keeper
