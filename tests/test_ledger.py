"""The ledger alone: places, leases and the line, without a pool, a driver or a thread.

What another thread or a finalizer may do between two steps is done here at exactly that point.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace, TracebackType
from typing import Any

import pytest

from dbapi_pool.errors import PoolClosed, PoolFull, PoolTimeout
from dbapi_pool.ledger import (
    CHECKING,
    CLEANING,
    CLOSED,
    CLOSING,
    NOT_YET,
    OPEN,
    OPENING,
    SUSPENDED,
    Lease,
    Ledger,
    Place,
    Waiter,
    Wish,
    snapshot,
)


class Lock:
    """Knows whether it is held; `deed` is done once, right after it was taken."""

    def __init__(self) -> None:
        self.depth = 0
        self.deed: Callable[[], object] | None = None

    def __enter__(self) -> None:
        self.depth += 1
        deed, self.deed = self.deed, None
        if deed is not None:
            deed()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.depth -= 1


class Bell:
    """A signal that counts."""

    def __init__(self) -> None:
        self.rung = 0

    def set(self) -> None:
        self.rung += 1

    def wait(self, timeout: float | None = None) -> bool:
        raise AssertionError("the ledger must never wait")


class GuardedList(list[Any]):
    """May be changed under the lock only."""

    lock: Lock

    def append(self, thing: Any) -> None:
        assert self.lock.depth, "changed without the lock"
        super().append(thing)

    def remove(self, thing: Any) -> None:
        assert self.lock.depth, "changed without the lock"
        super().remove(thing)

    def __iter__(self) -> Any:
        assert self.lock.depth, "walked through without the lock"
        return super().__iter__()


class GuardedLine(deque[Any]):
    """May be changed, and its first taken, under the lock only."""

    lock: Lock

    def append(self, thing: Any) -> None:
        assert self.lock.depth, "changed without the lock"
        super().append(thing)

    def appendleft(self, thing: Any) -> None:
        assert self.lock.depth, "changed without the lock"
        super().appendleft(thing)

    def insert(self, index: int, thing: Any) -> None:
        assert self.lock.depth, "changed without the lock"
        super().insert(index, thing)

    def remove(self, thing: Any) -> None:
        assert self.lock.depth, "changed without the lock"
        super().remove(thing)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __getitem__(self, index: Any) -> Any:
        assert self.lock.depth, "served without the lock"
        return super().__getitem__(index)


class GuardedLedger(Ledger):
    """Its gate is switched, and served, under the lock only."""

    def _serve(self) -> None:
        assert self._lock.depth, "served without the lock"  # type: ignore[attr-defined]
        super()._serve()

    def _census(self) -> Any:
        assert self._lock.depth, "counted without the lock"  # type: ignore[attr-defined]
        return super()._census()

    def _lease(self, place: Place, task: str) -> Lease | None:
        assert self._lock.depth, "leased without the lock"  # type: ignore[attr-defined]
        return super()._lease(place, task)


class Member:
    """Anything that says who has borrowed it."""

    thread = 0


def make_ledger(max_size: int = 2, min_size: int = 0) -> tuple[Any, Lock]:
    lock = Lock()
    ledger = GuardedLedger(lock, min_size, max_size, lambda _: None)
    ledger.places, ledger.waiters = GuardedList(), GuardedLine()
    ledger.places.lock = ledger.waiters.lock = lock  # type: ignore[attr-defined]
    return ledger, lock


def make_waiter(patient: bool = True) -> Any:
    return Waiter(Bell(), 1, 0.0, None, patient)


def stand_in_line(ledger: Ledger, patient: bool = True) -> Any:
    waiter = make_waiter(patient)
    ledger.join(waiter, None)
    return waiter


def opened(ledger: Ledger) -> Lease:
    """A lease on a place with a new member, as a borrower has it."""
    wish = Wish(Bell(), 99)
    ledger.wishes.append(weakref.ref(wish))
    lease = ledger.claim(0.0)
    assert lease is not None
    ledger.fill(lease, Member())
    return lease


def park(ledger: Ledger, *leases: Lease) -> None:
    ledger.idle.extend(leases)


# -- the census -----------------------------------------------------------------------------------


def test_the_census_finds_every_place_where_it_is() -> None:
    ledger, _ = make_ledger(max_size=10)
    leases = [opened(ledger) for _ in range(8)]
    park(ledger, leases[0])
    for lease, task in zip(leases[1:5], [OPENING, CHECKING, CLEANING, CLOSING], strict=True):
        lease.place.task = task
    orphan = leases[5].place
    del leases[5], lease
    census = ledger.census()
    assert census.idle == [leases[0].place]
    assert [census.tasks[task] for task in (OPENING, CHECKING, CLEANING, CLOSING)] == [
        [lease.place] for lease in leases[1:5]
    ]
    assert census.orphaned == [orphan]
    assert census.lent == [lease.place for lease in leases[5:]]
    assert census.open == 1 + 2 + 1 + 2
    assert census.occupied == 8


def test_a_place_whose_lease_died_before_it_was_filled_is_empty() -> None:
    ledger, _ = make_ledger(max_size=1)
    stand_in_line(ledger)
    assert ledger.claim(0.0) is not None  # and dropped
    census = ledger.census()
    assert census.occupied == 0
    assert ledger.adopt() == []
    assert ledger.claim(0.0) is not None


def test_new_places_are_idle_at_no_time_yet_and_belong_to_nobody() -> None:
    ledger, _ = make_ledger()
    stand_in_line(ledger)
    lease = ledger.claim(0.0)
    assert (lease.pool, lease.member, lease.place.since) == (None, None, NOT_YET)
    assert lease.place.task == OPENING
    assert ledger.owns(lease)
    assert not ledger.owns(Lease(lease.place))


# -- the line -------------------------------------------------------------------------------------


def test_who_comes_first_is_served_first_and_rung_once() -> None:
    ledger, _ = make_ledger()
    first, second = stand_in_line(ledger), stand_in_line(ledger)
    lease = opened(ledger)
    park(ledger, lease)
    ledger.serve()
    assert first.take() is lease
    assert (first.signal.rung, second.signal.rung) == (1, 0)
    assert list(ledger.waiters) == [second]


def test_who_joins_is_served_at_once_if_something_is_free() -> None:
    ledger, _ = make_ledger()
    lease = opened(ledger)
    park(ledger, lease)
    waiter = stand_in_line(ledger)
    assert waiter.answered
    assert waiter.take() is lease
    assert not waiter.answered


def test_who_returns_to_the_line_is_first_in_it_and_served_again() -> None:
    ledger, _ = make_ledger()
    one, other = opened(ledger), opened(ledger)
    park(ledger, one)
    waiter, later = stand_in_line(ledger), stand_in_line(ledger)
    assert waiter.lease is one
    ledger.rejoin(waiter)
    assert waiter.lease is None
    assert list(ledger.waiters) == [waiter, later]
    park(ledger, other)
    ledger.serve()
    assert (waiter.lease, later.lease) == (other, None)


def test_rejoining_serves() -> None:
    ledger, _ = make_ledger()
    one, other = opened(ledger), opened(ledger)
    park(ledger, one)
    waiter = stand_in_line(ledger)
    park(ledger, other)
    ledger.rejoin(waiter)
    assert waiter.lease is other


def test_who_was_served_in_vain_is_behind_those_that_came_before_it_and_are_back() -> None:
    ledger, _ = make_ledger(max_size=3)
    park(ledger, *(opened(ledger) for _ in range(2)))
    first, second, third = (stand_in_line(ledger) for _ in range(3))
    ledger.rejoin(first)
    ledger.rejoin(second)
    assert list(ledger.waiters) == [first, second, third]
    assert (first.answered, second.answered) == (False, False)


def test_the_order_of_coming_back_does_not_matter() -> None:
    ledger, _ = make_ledger(max_size=3)
    park(ledger, *(opened(ledger) for _ in range(2)))
    first, second, third = (stand_in_line(ledger) for _ in range(3))
    ledger.rejoin(second)
    ledger.rejoin(first)
    assert list(ledger.waiters) == [first, second, third]


def test_who_was_struck_after_it_got_its_lease_gets_no_other_and_leaves_the_line() -> None:
    ledger, _ = make_ledger()
    one, other = opened(ledger), opened(ledger)
    first, second = stand_in_line(ledger), stand_in_line(ledger)
    first.lease = one  # an exception came before it was let go
    park(ledger, other)
    ledger.serve()
    assert (first.lease, second.lease) == (one, other)
    assert (first.signal.rung, second.signal.rung) == (1, 1)
    assert not ledger.waiters


def test_who_is_in_line_is_so_until_it_was_told_or_has_left() -> None:
    ledger, _ = make_ledger()
    waiter = make_waiter()
    assert not waiter.in_line
    ledger.join(waiter, None)
    assert waiter.in_line
    lease = opened(ledger)
    park(ledger, lease)
    ledger.serve()
    assert not waiter.in_line
    ledger.rejoin(waiter)
    assert waiter.in_line
    ledger.leave(waiter)
    assert not waiter.in_line
    ledger.shut(CLOSED)
    with pytest.raises(PoolClosed):
        ledger.rejoin(waiter)
    assert not waiter.in_line


def test_a_waiter_knows_where_and_since_when_it_waits() -> None:
    waiter = Waiter(Bell(), 5, 7.0, "there")
    assert (waiter.thread, waiter.since, waiter.where, waiter.patient) == (5, 7.0, "there", True)


def test_leaving_the_line_serves_those_who_stay() -> None:
    ledger, _ = make_ledger()
    first, second = stand_in_line(ledger), stand_in_line(ledger)
    lease = opened(ledger)
    park(ledger, lease)
    ledger.leave(first)
    assert (first.answered, second.lease) == (False, lease)
    ledger.leave(first)  # harmless the second time


def test_nobody_stands_in_the_line_of_a_closed_pool() -> None:
    ledger, _ = make_ledger()
    waiter = make_waiter()
    assert ledger.shut(CLOSED)
    for enter in (lambda: ledger.join(waiter, None), lambda: ledger.rejoin(waiter)):
        with pytest.raises(PoolClosed):
            enter()
    assert not ledger.waiters
    assert not ledger.shut(OPEN)
    assert ledger.shut(CLOSED)


def test_a_suspended_pool_gives_nothing_until_it_is_opened_again() -> None:
    ledger, _ = make_ledger()
    lease = opened(ledger)
    park(ledger, lease)
    ledger.shut(SUSPENDED)
    waiter = stand_in_line(ledger)
    ledger.serve()
    assert not waiter.answered
    assert ledger.claim(0.0) is None
    ledger.shut(OPEN)
    assert waiter.lease is lease


def test_who_may_not_wait_is_turned_away_unless_there_is_room_for_all_before_it() -> None:
    ledger, _ = make_ledger(max_size=2)
    ledger.join(make_waiter(patient=False), 0)  # one may still be opened for each of these two
    ledger.join(make_waiter(patient=False), 0)
    with pytest.raises(PoolTimeout):
        ledger.join(make_waiter(patient=False), None)
    with pytest.raises(PoolFull):
        ledger.join(make_waiter(), 0)
    ledger.join(make_waiter(), 1)
    with pytest.raises(PoolTimeout):  # two in line more than there is room for
        ledger.join(make_waiter(patient=False), None)
    with pytest.raises(PoolFull):
        ledger.join(make_waiter(), 1)
    assert len(ledger.waiters) == 3


def test_more_lent_than_the_bound_after_it_was_lowered_makes_no_room() -> None:
    ledger, _ = make_ledger(max_size=3)
    held = [opened(ledger) for _ in range(3)]
    ledger.max_size = 1
    with pytest.raises(PoolFull):
        ledger.join(make_waiter(), 0)
    ledger.join(make_waiter(), 1)
    assert len(held) == 3


def test_errors_go_to_the_first_to_whom_they_matter_each_with_one_of_its_own() -> None:
    ledger, _ = make_ledger()
    waiters = [stand_in_line(ledger, patient) for patient in (True, True, True)]
    error = ValueError("no")
    ledger.fail(error, lambda waiter: waiter is not waiters[0], most=1)
    assert [waiter.answered for waiter in waiters] == [False, True, False]
    ledger.fail(error)
    raised = []
    for waiter in waiters:
        assert waiter.signal.rung == 1
        with pytest.raises(ValueError, match="no") as caught:
            waiter.take()
        raised.append(caught.value)
    assert len({id(one) for one in [*raised, error]}) == 4
    assert not ledger.waiters


def test_an_error_comes_too_late_for_who_was_served_or_left_meanwhile() -> None:
    ledger, lock = make_ledger()
    first, second = stand_in_line(ledger), stand_in_line(ledger)
    lease = opened(ledger)

    def meanwhile() -> None:
        ledger.waiters.remove(second)
        first.lease = lease

    lock.deed = meanwhile
    ledger.fail(ValueError("no"))
    assert (first.error, second.error) == (None, None)
    assert first.take() is lease


def test_an_error_is_told_at_once_also_behind_one_who_goes_on_waiting() -> None:
    ledger, _ = make_ledger()
    first, second = stand_in_line(ledger), stand_in_line(ledger)
    ledger.fail(PoolClosed("no"), lambda waiter: waiter is second)
    assert list(ledger.waiters) == [first]
    assert (first.signal.rung, second.signal.rung) == (0, 1)


def test_failing_serves_those_who_stay() -> None:
    ledger, _ = make_ledger()
    first, second = stand_in_line(ledger), stand_in_line(ledger)
    lease = opened(ledger)
    park(ledger, lease)
    ledger.fail(ValueError("no"), lambda waiter: waiter is first)
    assert second.lease is lease


def test_the_error_of_a_waiter_keeps_nothing_alive() -> None:
    class Marker:
        pass

    def take() -> weakref.ref[Marker]:
        marker = Marker()
        waiter = make_waiter()
        waiter.error = ValueError("no")
        with contextlib.suppress(ValueError):
            waiter.take()
        return weakref.ref(marker)

    gc.disable()
    try:
        assert take()() is None
    finally:
        gc.enable()


def test_who_is_rung_alone_has_what_it_was_given() -> None:
    ledger, _ = make_ledger()
    lease = opened(ledger)
    place = lease.place
    park(ledger, lease)
    del lease
    seen: list[Any] = []

    class Careless(Bell):
        def set(self) -> None:
            waiter.take()  # and drops it
            seen.append(place.ref())

    waiter = Waiter(Careless(), 1, 0.0, None)
    assert waiter.patient
    ledger.join(waiter, None)
    assert seen == [None]


# -- waiting for each other -----------------------------------------------------------------------


class Lent:
    """A member, as far as it matters to who waits for whom."""

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.uses = 1
        self.in_call = False


def lent_to(ledger: Ledger, *threads: int) -> list[Lease]:
    leases = [opened(ledger) for _ in threads]
    for lease, thread in zip(leases, threads, strict=True):
        ledger.fill(lease, Lent(thread))
    return leases


def waiting(ledger: Ledger, thread: int) -> Waiter:
    waiter = Waiter(Bell(), thread, 0.0, None)
    ledger.join(waiter, None)
    return waiter


def test_stuck_are_those_who_hold_all_and_wait_and_one_of_them_leaves_with_the_list() -> None:
    ledger, _ = make_ledger()
    leases = lent_to(ledger, 1, 2)
    first = waiting(ledger, 1)
    assert ledger.stuck(first) == []  # the other may yet return what it holds
    second = waiting(ledger, 2)
    found = ledger.stuck(first)
    assert [one.place for one in found] == [lease.place for lease in leases]
    assert [one.member for one in found] == [lease.member for lease in leases]
    assert [one.uses for one in found] == [1, 1]
    assert [one.waiter for one in found] == [first, second]
    assert ledger.leave_stuck(first, found) == found
    assert (first.in_line, second.in_line) == (False, True)
    assert list(ledger.waiters) == [second]
    assert ledger.stuck(first) == []  # since it waits no more
    assert ledger.leave_stuck(second, found) == []
    assert list(ledger.waiters) == [second]


def test_nobody_is_stuck_while_there_is_room_or_one_is_idle_or_at_work() -> None:
    ledger, _ = make_ledger(max_size=2)
    leases = lent_to(ledger, 1)
    waiter = waiting(ledger, 1)
    assert ledger.stuck(waiter) == []
    leases += lent_to(ledger, 1)
    assert len(ledger.stuck(waiter)) == 2
    leases[1].member.in_call = True
    assert ledger.stuck(waiter) == []
    leases[1].member.in_call = False
    leases[1].member.thread = 3
    assert ledger.stuck(waiter) == []
    leases[1].member.thread = 1
    park(ledger, leases.pop())
    assert ledger.stuck(waiter) == []


def test_more_lent_than_the_bound_after_it_was_lowered_may_be_stuck_too() -> None:
    ledger, _ = make_ledger(max_size=2)
    leases = lent_to(ledger, 1, 1)
    waiter = waiting(ledger, 1)
    ledger.max_size = 1
    assert len(ledger.stuck(waiter)) == len(leases)


@pytest.mark.parametrize(
    ("threads", "settled"),
    [((1, 2), True), ((1,), False), ((1, 3), False), ((3, 2), False)],
    ids=[
        "others have borrowed all",
        "there is room",
        "the last is its own",
        "the first is its own",
    ],
)
def test_there_is_nothing_to_do_but_wait_where_others_have_borrowed_all(
    threads: tuple[int, ...], settled: bool
) -> None:
    ledger, _ = make_ledger(max_size=2)
    _leases = lent_to(ledger, *threads)
    assert ledger.join(Waiter(Bell(), 3, 0.0, None), None) is settled


def test_more_than_to_wait_is_to_be_done_where_a_place_is_empty_or_being_emptied() -> None:
    ledger, _ = make_ledger(max_size=2)
    one, _other = lent_to(ledger, 1, 2)
    one.place.member = None
    assert ledger.join(Waiter(Bell(), 3, 0.0, None), None) is False


def test_with_more_places_than_allowed_there_is_nothing_to_do_but_wait() -> None:
    ledger, _ = make_ledger(max_size=2)
    _leases = lent_to(ledger, 1, 2)
    ledger.max_size = 1
    assert ledger.join(Waiter(Bell(), 3, 0.0, None), None) is True


def test_a_place_that_is_emptied_at_this_moment_is_not_stuck() -> None:
    ledger, _ = make_ledger(max_size=1)
    (lease,) = lent_to(ledger, 1)
    waiter = waiting(ledger, 1)
    lease.place.member = None
    assert ledger.stuck(waiter) == []


@pytest.mark.parametrize("what", ["lent again", "another member", "another waiter"])
def test_who_is_stuck_no_more_as_before_stays_in_the_line(what: str) -> None:
    ledger, _ = make_ledger(max_size=1)
    (lease,) = lent_to(ledger, 1)
    waiter = waiting(ledger, 1)
    before = ledger.stuck(waiter)
    if what == "lent again":
        lease.member.uses += 1
    elif what == "another member":
        ledger.fill(lease, Lent(1))
    else:
        ledger.leave(waiter)
        waiter = waiting(ledger, 1)
    assert len(ledger.stuck(waiter)) == 1
    assert ledger.leave_stuck(waiter, before) == []
    assert list(ledger.waiters) == [waiter]


def test_who_left_the_line_is_not_stuck_whoever_else_of_its_thread_waits() -> None:
    ledger, _ = make_ledger(max_size=1)
    leases = lent_to(ledger, 1)
    one, other = waiting(ledger, 1), waiting(ledger, 1)
    before = ledger.stuck(other)
    assert len(before) == len(leases)
    ledger.leave(one)
    assert ledger.stuck(one) == []
    assert ledger.leave_stuck(one, before) == []


def test_a_suspicion_is_like_no_other_thing() -> None:
    ledger, _ = make_ledger(max_size=1)
    lease = lent_to(ledger, 1)
    (found,) = ledger.stuck(waiting(ledger, 1))
    assert found != lease
    assert found != SimpleNamespace(member=found.member, uses=found.uses, waiter=found.waiter)


# -- what a finalizer may do meanwhile ------------------------------------------------------------


class Meddling(Ledger):
    """Something happens in the middle of looking for what is free."""

    deed: Callable[[], object] = staticmethod(lambda: None)

    def _next(self) -> Lease | None:
        lease = super()._next()
        deed, self.deed = self.deed, lambda: None  # type: ignore[method-assign]
        deed()
        return lease


@pytest.mark.parametrize("how", ["left", "answered"])
def test_what_was_meant_for_one_who_is_gone_goes_to_the_next(how: str) -> None:
    ledger = Meddling(Lock(), 0, 2, lambda _: None)
    first, second = make_waiter(), make_waiter()
    lease = opened(ledger)
    ledger.waiters.extend([first, second])
    park(ledger, lease)
    if how == "left":
        ledger.deed = lambda: ledger.waiters.remove(first)  # type: ignore[method-assign]
    else:

        def answer() -> None:
            first.error = ValueError("no")
            ledger.waiters.remove(first)

        ledger.deed = answer  # type: ignore[method-assign]
    ledger.serve()
    assert first.lease is None
    assert second.lease is lease
    assert not ledger.idle


def test_what_nobody_wants_any_more_is_idle_again_but_an_empty_place_is_not() -> None:
    ledger = Meddling(Lock(), 0, 2, lambda _: None)
    lease = opened(ledger)
    waiter = make_waiter()
    ledger.waiters.append(waiter)
    park(ledger, lease)
    ledger.deed = ledger.waiters.clear  # type: ignore[method-assign]
    ledger.serve()
    assert list(ledger.idle) == [lease]
    ledger.idle.clear()
    ledger.inline = True
    ledger.waiters.append(waiter)
    ledger.deed = ledger.waiters.clear  # type: ignore[method-assign]
    ledger.serve()
    assert not ledger.idle
    assert ledger.census().occupied == 1


def test_who_was_served_by_a_finalizer_is_not_missed_in_the_line() -> None:
    ledger = Meddling(Lock(), 0, 2, lambda _: None)
    waiter = make_waiter()
    waiter.lease = opened(ledger)
    ledger._dismiss(waiter)  # it left the line already
    assert waiter.signal.rung == 1


def test_of_two_leases_on_one_place_that_are_made_at_once_one_counts() -> None:
    ledger, lock = make_ledger(max_size=1)
    place = Place()
    rivals: list[Lease | None] = []

    class Rival(Place):
        """A finalizer runs while its member is looked at, and leases it."""

        @property
        def member(self) -> Any:  # type: ignore[override]
            if not rivals:
                rivals.append(None)
                rivals[0] = ledger._lease(self, OPENING)

        @member.setter
        def member(self, value: Any) -> None:
            pass

    place = Rival()
    with lock:
        assert ledger._lease(place, OPENING) is None
    assert ledger.owns(rivals[0])
    with lock:
        rivals[0] = None
        assert ledger._lease(place, OPENING) is not None


# -- idle ones ------------------------------------------------------------------------------------


class Restless(deque[Any]):
    """Others append and pop all the while, as they may without the GIL."""

    def __iter__(self) -> Any:
        raise RuntimeError("deque mutated during iteration")

    def __len__(self) -> int:
        return super().__len__() + 1  # one was popped right after


def test_what_stays_in_a_deque_is_seen_once_while_others_change_it() -> None:
    one, other = Member(), Member()
    assert snapshot(Restless([one, other])) == [one, other]
    assert snapshot(Restless([one, other, other])) == [one, other]  # it moved under the eyes


def test_idle_ones_are_taken_longest_idle_first_and_no_more_than_wanted() -> None:
    ledger, _ = make_ledger(max_size=4)
    leases = [opened(ledger) for _ in range(4)]
    park(ledger, *leases)
    asked: list[Any] = []

    def wanted(member: Any) -> bool:
        asked.append(member)
        return member is not leases[0].member

    assert ledger.take_idle(wanted, 2) == leases[1:3]
    assert asked == [lease.member for lease in leases[:3]]  # and no longer looked for
    assert ledger.idle_members() == [leases[0].member, leases[3].member]
    assert ledger.take_idle(lambda member: True, 0) == []
    assert ledger.take_idle(lambda member: True) == [leases[0], leases[3]]


@pytest.mark.parametrize("error", [ValueError, IndexError])
def test_one_that_another_takes_at_the_same_instant_is_not_taken(error: type[Exception]) -> None:
    ledger, _ = make_ledger()
    leases = [opened(ledger), opened(ledger)]

    class Contested(deque[Any]):
        def remove(self, lease: Any) -> None:
            if lease is leases[0]:
                raise error
            super().remove(lease)

    ledger.idle = Contested(leases)
    assert ledger.take_idle(lambda member: True) == [leases[1]]


def test_one_that_was_closed_meanwhile_is_not_looked_at() -> None:
    ledger, _ = make_ledger()
    leases = [opened(ledger), opened(ledger)]
    park(ledger, *leases)
    leases[0].member = None
    assert ledger.take_idle(lambda member: True) == [leases[1]]
    assert ledger.idle_members() == []


def test_settling_serves_and_gives_out_what_a_closed_pool_must_close() -> None:
    ledger, _ = make_ledger(max_size=3)
    waiter = stand_in_line(ledger)
    leases = [opened(ledger), opened(ledger)]
    park(ledger, *leases)
    assert ledger.settle() == []
    assert waiter.lease is leases[1]
    ledger.shut(CLOSED)
    assert ledger.settle() == [leases[0]]


# -- opening and closing --------------------------------------------------------------------------


@pytest.mark.parametrize("task", [OPENING, CHECKING, CLEANING])
def test_one_is_opened_for_each_waiter_that_nothing_is_on_its_way_to(task: str) -> None:
    ledger, _ = make_ledger(max_size=3)
    coming = opened(ledger)
    coming.place.task, coming.place.since = task, 10.0
    assert ledger.claim(5.0) is None
    stand_in_line(ledger)
    assert ledger.claim(5.0) is None
    assert ledger.claim(10.0) is not None  # too old to be relied upon
    stand_in_line(ledger)
    assert ledger.claim(5.0) is not None


def test_two_that_are_on_their_way_are_enough_for_two() -> None:
    ledger, _ = make_ledger(max_size=9)
    coming = [opened(ledger) for _ in range(3)]
    for lease, task in zip(coming, [OPENING, CHECKING, CLEANING], strict=True):
        lease.place.task, lease.place.since = task, 10.0
    for _ in range(3):
        stand_in_line(ledger)
    assert ledger.claim(5.0) is None
    stand_in_line(ledger)
    assert ledger.claim(5.0, single=True, step=2) is None  # one is opening
    assert ledger.claim(5.0, step=2) is not None


def test_where_some_are_open_no_more_than_a_step_are_opened_at_a_time_for_those_who_wait() -> None:
    ledger, _ = make_ledger(max_size=9)
    held = [opened(ledger)]
    for _ in range(8):
        stand_in_line(ledger)
    coming = [ledger.claim(0.0, step=3) for _ in range(3)]
    for lease in coming:
        assert lease is not None
        lease.place.since = 1.0
    assert ledger.claim(0.0, step=3) is None
    more = ledger.claim(0.0, step=4)
    assert more is not None
    ledger.min_size = 7  # what lacks is opened at once
    assert ledger.claim(0.0, step=1) is not None
    ledger.min_size = 0
    assert held


def test_unless_told_otherwise_one_at_a_time_is_opened_however_long_it_takes() -> None:
    ledger, _ = make_ledger(max_size=9)
    held = [opened(ledger)]
    for _ in range(3):
        stand_in_line(ledger)
    lease = ledger.claim(-9.0)
    assert lease is not None
    lease.place.since = -5.0
    assert ledger.claim(-9.0) is None
    assert ledger.claim(-9.0, slow=-5.0) is not None
    assert held


def test_where_none_is_open_all_that_wait_are_opened_for() -> None:
    ledger, _ = make_ledger(max_size=9)
    for _ in range(3):
        stand_in_line(ledger)
    coming = []
    for _ in range(3):
        lease = ledger.claim(0.0, step=1)
        assert lease is not None
        lease.place.since = 1.0
        coming.append(lease)
    assert ledger.claim(0.0, step=1) is None


def test_no_more_are_opened_than_fit() -> None:
    ledger, _ = make_ledger(max_size=2)
    held = [opened(ledger), opened(ledger)]
    stand_in_line(ledger)
    assert ledger.claim(0.0) is None
    ledger.vacate(held.pop())
    lease = ledger.claim(0.0)
    assert lease is not None
    assert len(ledger.places) == 2  # the empty place was used again


def test_as_many_are_opened_as_shall_be_open_at_least() -> None:
    ledger, _ = make_ledger(max_size=9, min_size=1)
    first = ledger.claim(0.0)
    assert first is not None
    first.place.since = 10.0
    assert ledger.claim(0.0) is None  # it is on its way
    ledger.fill(first, Member())
    assert ledger.claim(0.0) is None
    wishes = [Wish(Bell(), count) for count in (2, 1)]
    ledger.wishes += map(weakref.ref, wishes)
    assert ledger.floor() == 2
    assert ledger.claim(0.0) is not None


def test_an_empty_place_is_given_to_who_opens_it_itself() -> None:
    ledger, _ = make_ledger()
    assert ledger.inline is False
    waiter = stand_in_line(ledger)
    assert not waiter.answered
    ledger.inline = True
    ledger.serve()
    assert waiter.take().place.task == OPENING


def test_a_place_that_is_vacated_is_empty_and_the_next_is_served() -> None:
    ledger, _ = make_ledger(max_size=1)
    ledger.inline = True
    lease = opened(ledger)
    lease.place.task = CLOSING
    waiter = stand_in_line(ledger)
    ledger.vacate(lease)
    assert lease.member is None
    assert not ledger.owns(lease)
    assert waiter.lease.place is lease.place
    assert waiter.lease.place.member is None
    assert len(ledger.places) == 1


def test_places_above_a_bound_that_was_lowered_go_as_they_are_vacated() -> None:
    ledger, _ = make_ledger(max_size=3)
    held = [opened(ledger) for _ in range(3)]
    assert ledger.excess() == 0
    ledger.max_size = 1
    assert ledger.excess() == 2
    held[0].place.task = CLOSING
    assert ledger.excess() == 1
    held[1].place.task = OPENING
    assert ledger.excess() == 1
    ledger.vacate(held[0])
    ledger.vacate(held[1])
    assert len(ledger.places) == 1
    assert ledger.excess() == 0
    held[2].place.task = CLOSING
    ledger.vacate(held[2])
    assert len(ledger.places) == 1  # within the bound, a place is kept


def test_fewer_open_than_the_bound_are_no_excess_however_many_are_being_closed() -> None:
    ledger, _ = make_ledger(max_size=3)
    held = [opened(ledger) for _ in range(3)]
    for lease in held:
        lease.place.task = CLOSING
    ledger.max_size = 2
    assert ledger.excess() == 0


def test_what_was_dropped_is_adopted_once() -> None:
    ledger, _ = make_ledger()
    member = opened(ledger).member
    kept = opened(ledger)
    adopted = ledger.adopt()
    assert [lease.member for lease in adopted] == [member]
    assert adopted[0].place.task == CLOSING
    assert ledger.adopt() == []
    assert ledger.owns(kept)
