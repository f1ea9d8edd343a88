"""Everything in the background: opening, closing, checking, filling, retiring, keepalive, backoff.

Borrowers do no network I/O to get a connection: openers connect, checkers ping, closers close, each
on daemon threads that start on demand and end when there is nothing to do; the housekeeper looks
after the clock. A driver that calls itself `local` is opened, pinged and closed in the caller's
thread instead. The threads hold the keeper weakly while they wait. It must never know the pool.
"""

from __future__ import annotations

import functools
import logging
import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from .adaptive import Adaptive, Governor, Sight
from .counters import Counters
from .crew import Crew
from .drivers.base import Driver
from .duties import LOOK_AGAIN, Duties
from .errors import PoolError, PoolTimeout, PoolUnavailable, replica
from .events import Events
from .leaks import Leaks, Suspect, callers_line, in_lines
from .ledger import (
    CHECKING,
    CLOSED,
    CLOSING,
    OPEN,
    OPENING,
    Census,
    Lease,
    Ledger,
    Wish,
    snapshot,
)
from .logs import Log, whereabouts
from .member import AT_ONCE, NEVER, Member, line_of
from .options import Options
from .outage import TRY_FOR, Outage
from .source import Source
from .system import Signal, System

_HANDS = 32  # threads that close and ping; an opener has a thread of its own
_GOOD_FOR = 1.0  # seconds that a ping or an opening counts, whatever `ping_after` is
_COME_OUT = 0.02  # seconds between two looks whether a thread has come out of the driver


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
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._source = source
        self._options = options
        self._system = system
        self._counters = counters
        self._signal = signal
        self._log = log
        self._name = log.name
        self.events: Events | None = None
        self._governor: Governor | None = None
        self._full = 0  # connects that the server refused since it has too many
        self.health_every = NEVER  # seconds between two looks at it, while anybody listens
        self._outage = Outage()
        # For those whom `fail_fast_after` sent away: with it connecting is tried while nobody waits.
        self._trial: Wish | None = None
        self._tried_for = AT_ONCE
        # Connections opened since nobody waited. A spike is mostly over before the first is open; where
        # it is not, twice as many are opened at a time, and so on.
        self._grown = 0
        self._duties = Duties(ledger, source, options)
        self._leaks = Leaks(options.leak_after)
        self._crew = Crew(lock, system, _HANDS, log)
        # Guards the decision to start or end the housekeeper.
        self._lock = lock
        self._housekeeper: Callable[[], object] = _nobody
        self._revived = AT_ONCE
        self._next_look_at = NEVER
        self._watchers: list[weakref.ref[Wish]] = []  # those who wait until sizes change

    @property
    def _driver(self) -> Driver:
        return self._source.driver

    @property
    def overdue(self) -> int:
        """Connections that are lent for longer than `leak_after` now."""
        return self._leaks.overdue

    @property
    def last_error(self) -> BaseException | None:
        """Of the last try to connect, while connecting fails."""
        return self._outage.last_error

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
        if self._ledger.waiters and not self.looks_soon(self._system.monotonic()):
            self._signal.set()

    def looks_soon(self, now: float) -> bool:
        """Whether the housekeeper looks soon enough for somebody who waits."""
        return self._next_look_at - now <= LOOK_AGAIN and self._housekeeper() is not None

    def _wish_if_possible(self) -> None:
        """As `wish`, for those who only pass by: who waits wishes too."""
        try:
            self.wish()
        except RuntimeError as exc:
            self._no_thread(exc)

    def _no_thread(self, exc: RuntimeError) -> None:
        # At the interpreter's end there is none to be had, and nobody left whom that concerns.
        level = logging.DEBUG if _is_the_end(exc) else logging.WARNING
        self._log.seldom(level, "no thread", "%s", exc)

    def _claim(self) -> Lease | None:
        now = self._system.monotonic()
        if now < self._outage.retry_at:
            return None
        if not self._ledger.waiters:
            self._grown = 0
        slow = now - LOOK_AGAIN
        single = self._outage.failures > 0
        # While connects fail, one that does not come back shall not keep others from trying.
        stuck = slow if single else now - self._options.ping_timeout
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
            seconds = self._system.monotonic() - start
            self._tell("dbapi_pool_connect_failed", error=type(exc).__name__, seconds=seconds)
            raise
        self._ledger.fill(lease, member, OPENING)
        self._ledger.inline = self._driver.inline
        if generation != self._ledger.generation:
            member.doom = "drained"
        elif self._ledger.excess():
            member.doom = "resized"
        self.approve(member)
        seconds = self._system.monotonic() - start
        self._counters.connected(seconds)
        self._succeeded()
        self._log(logging.DEBUG, "connection %d was opened in %.3f s", member.number, seconds)
        self._tell("dbapi_pool_connected", connection_id=member.number, seconds=seconds)
        self._notify()
        self.keep_house()

    def _succeeded(self) -> None:
        self._trial = None
        failed = self._outage.over()
        if failed is not None:
            self._log(logging.WARNING, "connecting succeeds again, after %d failures", failed)

    def _open_failed(self, exc: BaseException) -> None:
        self._counters.connect_failed()
        now, chance = self._system.monotonic(), self._system.random()
        self._outage.failed(exc, now, self.is_transient(exc), chance)
        self._ledger.inline = self._driver.inline
        if self._driver.is_server_wide(exc):
            self.suspect_all()
        if self._governor is not None and self._driver.is_server_full(exc):
            self._full += 1
            self._signal.set()
        kind = type(exc).__name__
        if self._log.seldom(logging.WARNING, "connect", "cannot connect: %s", kind):
            self._outage.told = True

    # -- failing fast -----------------------------------------------------------------------------

    def vain_for(self, now: float) -> float:
        """For how long connecting has been in vain, and nothing is open: see `Outage`."""
        return self._outage.vain_for(now, self._ledger.census(), self._options.ping_timeout)

    def is_vain(self, now: float) -> bool:
        """Whether that is so long that nobody shall wait for it; not while nothing is lent anyway."""
        after = self._options.fail_fast_after
        if after is None or self._ledger.gate is not OPEN:
            return False
        vain_for = self.vain_for(now)
        return vain_for >= after and vain_for > 0

    def go_on_trying(self) -> None:
        """Somebody was sent away: try to connect for a while, though nobody waits."""
        self._tried_for = self._system.monotonic()
        if self._trial is None:
            self._trial = wish = Wish(self._signal, 1)
            _note(self._ledger.wishes, wish)
        self._wish_if_possible()

    def _send_away(self, now: float) -> None:
        """Whoever waits in vain is told."""
        if now - self._tried_for > TRY_FOR:
            self._trial = None
        if not (self._ledger.waiters and self.is_vain(now)):
            return
        if not self._outage.announced:
            self._outage.announced = True
            text = "connecting is in vain, checkouts fail at once"
            if self._log.seldom(logging.WARNING, "vain", text):
                self._outage.told = True
        self._ledger.fail(PoolUnavailable())
        self.go_on_trying()

    def is_transient(self, exc: BaseException) -> bool:
        """Whether connecting may succeed before long, so that those who wait need not be told."""
        return isinstance(exc, Exception) and self._driver.is_transient(exc)

    def _tell_waiters(self, exc: BaseException) -> None:
        """Who waits gets the driver's error at once, unless another try may help before long."""
        if self.is_transient(exc):
            self._ledger.fail(exc, lambda waiter: not waiter.patient)
        else:
            self._ledger.fail(_presentable(exc), most=1 if self._ledger.census().open else None)
            if self._ledger.floor() == 0:
                self._outage.retry_at = AT_ONCE
        self._send_away(self._system.monotonic())
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
            self._notify()

    def put(self, lease: Lease) -> None:
        """A clean member is free."""
        self._ledger.park(lease)
        del lease  # it may be somebody else's by now, or in `settle`'s answer
        if self._ledger.waiters or self._ledger.gate is not OPEN:
            self.settle()

    def settle(self) -> None:
        """After something was appended to `idle`, and somebody waits, or the gate is not open."""
        late = self._ledger.settle()
        if late:
            self.retire_all(late, "closed")

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
            self.give(lease)

    def ping(self, member: Member) -> bool:
        """Ping a member in this thread; False if it failed, and must be retired."""
        start = self._system.monotonic()
        try:
            self._driver.ping(member.conn)
        except BaseException as exc:
            kind = type(exc).__name__
            self._log.seldom(logging.INFO, "ping", "a connection failed its ping: %s", kind)
            self.suspect_all()
            self._tell_pinged(member, start, good=False)
            if isinstance(exc, Exception):
                return False
            raise
        self.approve(member)
        self._tell_pinged(member, start, good=True)
        return True

    def _tell_pinged(self, member: Member, start: float, good: bool) -> None:
        seconds = self._system.monotonic() - start
        self._tell("dbapi_pool_pinged", connection_id=member.number, seconds=seconds, good=good)

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
        member = lease.member
        self._counters.retired(reason, member)
        self._tell_retired(member, reason)
        if self._driver.local:
            self._close(lease)
            return
        self._crew.submit(functools.partial(self._close, lease))

    def _tell_retired(self, member: Member, reason: str) -> None:
        number = member.number
        if reason == "leaked":
            self._leaks.forget(member)
            self._report_dropped(member)
        age = self._system.monotonic() - member.born
        self._log(logging.DEBUG, "connection %d is closed: %s, after %.1f s", number, reason, age)
        self._tell("dbapi_pool_retired", connection_id=number, reason=reason, age=age)

    def _report_dropped(self, member: Member) -> None:
        """As Python does it for files: shown, or not, as the user's filters say."""
        code, site = member.code, line_of(member.code, member.lasti)
        text = f"a connection was dropped without close(); it was borrowed at {site}"
        self._log.seldom(logging.INFO, ("dropped", site), "%s", text)
        ends = self._system.is_over() or self._system.ending  # nobody is left whom that concerns
        if code is not None and not ends:
            line = int(site.rpartition(":")[2])
            try:
                warnings.warn_explicit(
                    f"{self._name}: {text}", ResourceWarning, code.co_filename, line
                )
            except Exception:  # a filter makes it one, and who dropped it is not here to be told
                self._log.seldom(logging.WARNING, ("warning", site), "%s", text)
        self._tell("dbapi_pool_dropped", connection_id=member.number, site=site)

    def _close(self, lease: Lease) -> None:
        try:
            self._wait_for_others(lease.member)
        except BaseException:  # an interrupt: somebody else waits, and closes it
            self._crew.submit(functools.partial(self._close, lease))
            raise
        start, number = self._system.monotonic(), lease.member.number
        try:
            self._driver.close(lease.member.conn)
        except Exception as exc:
            self._log(logging.DEBUG, "closing raised %s", type(exc).__name__)
        finally:
            self.vacate(lease)
        seconds = self._system.monotonic() - start
        self._tell("dbapi_pool_closed", connection_id=number, seconds=seconds)

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

    def release(self, lease: Lease) -> None:
        """The driver's connection leaves the pool, and stays open."""
        member = lease.member
        self._counters.retired("detached", member)
        self.vacate(lease)
        self._tell_retired(member, "detached")

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
        if now - self._revived >= LOOK_AGAIN:  # one that dies at once shall not come back for ever
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
            where = whereabouts(exc)
            text = "the housekeeper failed and goes on: %s"
            self._log.seldom(logging.ERROR, where, text, where)
        self._next_look_at = NEVER
        if self._housekeeper is me:
            return LOOK_AGAIN
        self.keep_house()  # it had just resigned: there shall not be two
        return None

    def tick(self) -> float | None:
        """Do what is due; seconds until the next look, or None to end."""
        now = self._system.monotonic()
        self._crew.tend()
        self.retire_all(self._ledger.adopt(), "leaked")
        self._retire_idle(now)
        self._ledger.serve()
        self._send_away(now)
        self._fill_if_possible()
        census = self._ledger.census()
        if self._duties.worth_a_search(census, now):
            self._system.collect_garbage()
        self._govern(census, now)
        self._keepalive(now)
        self._cut_hung(census, now)
        self._report_leaks(census, now)
        if self.health_every != NEVER and self.events is not None:
            self.events.look_at_health()
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
        look = self._duties.next_look(census, now)
        if self._ledger.waiters:
            look = min(look, LOOK_AGAIN, self._patience_left(now))
        if self._outage.retry_at > now:
            look = min(look, self._outage.retry_at - now)
        look = min(look, self.health_every, self._governors_pause())
        return max(look, 0.001)

    # -- how many there may be --------------------------------------------------------------------

    def govern(self, sizing: Adaptive) -> None:
        """Change the pool's limit as its use asks for, from now on."""
        options = self._options
        self._governor = Governor(sizing, max(options.min_size, 1), options.max_size)
        self._ledger.max_size = self._governor.limit

    def heed(self, options: Options) -> None:
        """The settings were changed."""
        self._options = options

    @property
    def limit(self) -> int:
        """How many there may be now, if that is not simply `max_size`."""
        return self._options.max_size if self._governor is None else self._governor.limit

    def _governors_pause(self) -> float:
        governor = self._governor
        if governor is None:
            return NEVER
        eager = self._ledger.waiters and governor.limit < self._options.max_size
        return governor.pace if eager else governor.rest

    def _govern(self, census: Census, now: float) -> None:
        ledger, governor = self._ledger, self._governor
        if governor is None or ledger.gate is not OPEN or ledger.max_size == 0:
            return
        limit = governor.look(self._sight(census, now))
        if limit == ledger.max_size:
            return
        more = limit > ledger.max_size
        ledger.max_size = limit
        if more:
            self._ledger.serve()
            self._wish_if_possible()
        else:
            gone = ledger.take_idle(lambda member: True, ledger.excess())
            self.retire_all(gone, "resized")
        self._tell("dbapi_pool_changed", what="resized")
        self._log(logging.DEBUG, "%d connections are allowed now", limit)

    def _sight(self, census: Census, now: float) -> Sight:
        options, counters = self._options, self._counters
        waiters = snapshot(self._ledger.waiters)
        members = [place.member for place in tuple(self._ledger.places) if place.member]
        idle = {id(member) for member in self._ledger.idle_members()}
        return Sight(
            now=now,
            least=max(options.min_size, 1),
            most=options.max_size,
            open=census.open + len(census.tasks[OPENING]),
            used=[one.returned if id(one) in idle else now for one in members],
            waiting_for=max((now - waiter.since for waiter in waiters), default=0.0),
            waited=counters.waits.total,
            checkouts=sum(one.uses for one in members) + counters.past_uses,
            refused=counters.timeouts,
            full=self._full,
        )

    def _patience_left(self, now: float) -> float:
        """Until those who wait are to be sent away."""
        after = self._options.fail_fast_after
        if after is None or self._ledger.gate is not OPEN:
            return NEVER
        vain_for = self.vain_for(now)
        return after - vain_for if vain_for > 0 else NEVER

    def _retire_idle(self, now: float) -> None:
        for leases, reason in self._duties.idle_to_close(now):
            self.retire_all(leases, reason)

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
        wanted = self._duties.idle_to_ping(now)
        while wanted:
            self.check(wanted.pop())

    def _cut_hung(self, census: Census, now: float) -> None:
        for member in self._duties.hung(census, now):
            try:
                self._driver.interrupt(member.conn)
            except Exception as exc:
                self._log(logging.DEBUG, "interrupting raised %s", type(exc).__name__)

    def _report_leaks(self, census: Census, now: float) -> None:
        for suspect in self._leaks.over():
            seconds = suspect.ended_at(now) - suspect.since
            self._log.seldom(
                logging.WARNING,
                ("late", suspect.site),
                "the connection that was borrowed at %s came back after all, after %.1f s",
                suspect.site,
                seconds,
            )
            self._tell(
                "dbapi_pool_returned_late",
                connection_id=suspect.member.number,
                site=suspect.site,
                seconds=seconds,
            )
        for suspect in self._leaks.new(census, now):
            self._counters.leak()
            self._report_leak(suspect, now - suspect.since)

    def _report_leak(self, suspect: Suspect, seconds: float) -> None:
        member = suspect.member
        stack = in_lines(member.stack)
        self._log.seldom(
            logging.WARNING,
            ("leak", suspect.site),
            "a connection has been lent for %.1f s, longer than leak_after=%r, to thread %d; it was"
            " borrowed at %s%s",
            seconds,
            self._options.leak_after,
            member.thread,
            suspect.site,
            f", by way of\n{stack}" if stack else "",
        )
        self._tell(
            "dbapi_pool_leak_suspected",
            connection_id=member.number,
            site=suspect.site,
            thread=member.thread,
            seconds=seconds,
            stack=stack,
        )

    def report_sharing(self, member: Member, threads: tuple[int, int]) -> None:
        """Two threads are inside one borrowed connection."""
        site = line_of(member.code, member.lasti)
        self._log.seldom(
            logging.WARNING,
            ("sharing", site),
            "two threads use one connection at the same time, which was borrowed at %s: %s; let"
            " each borrow its own",
            site,
            " and ".join(f"thread {thread} at {callers_line(thread)}" for thread in threads),
        )
        self._tell("dbapi_pool_shared", connection_id=member.number, site=site, threads=threads)

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
    error = PoolError(f"connecting was cut short by {type(exc).__name__}")
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
