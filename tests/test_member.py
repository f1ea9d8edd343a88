"""The records alone: what is noted about a connection, and about what a borrower did with it."""

from __future__ import annotations

import weakref
from types import CodeType, SimpleNamespace
from typing import Any

import pytest

from dbapi_pool.member import CALL, NEVER, Member, Work, line_of

FEW = 64  # so many cursors are remembered without a look at whether they still live


class Thing:
    """What can be referred to weakly."""


class Counting(Work):
    """Counts how often it looks which cursors still live."""

    sweeps = 0

    def _sweep(self) -> None:
        self.sweeps += 1
        super()._sweep()


class OddError(Exception):
    """Its `args` are not what its `__init__` takes."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def suspects_all(sql: Any) -> bool:
    return True


def test_a_new_member_was_lent_to_nobody_and_is_idle_since_now() -> None:
    member = Member("conn", Thing, {"autocommit": False}, 7.0)
    assert (member.conn, member.handle_class) == ("conn", Thing)
    assert member.snapshot == {"autocommit": False}
    assert (member.born, member.returned, member.pinged, member.since) == (7.0,) * 4
    assert (member.expires, member.due) == (NEVER, NEVER)
    assert (member.uses, member.number, member.thread, member.lasti) == (0,) * 4
    assert (member.alive, member.doom, member.work, member.code) == (None,) * 4


READ, INERT, WRITE, SET = "SELECT * FROM t", "SELECT 1", "UPDATE t", "SET x = 1"


@pytest.mark.parametrize(("statements", "noted"), [
    ([], (False, False, False)),
    ([INERT, INERT], (False, False, False)),
    ([READ], (True, False, False)),
    ([READ, INERT, READ], (True, False, False)),
    ([WRITE], (True, True, False)),
    ([WRITE, READ, INERT], (True, True, False)),
    ([SET, INERT], (True, True, True)),
    ([b"SELECT 1"], (True, True, False)),
    ([type("Text", (str,), {})(READ)], (True, True, False)),
])  # fmt: skip
def test_what_a_statement_that_was_looked_at_may_have_done(
    statements: list[Any], noted: tuple[bool, ...]
) -> None:
    known = {"harmless": {READ}, "inert": {INERT}}
    work = Work(lambda sql: sql == SET, **known)
    for sql in statements:
        work.look(sql)
    assert (work.pending, work.wrote, work.session) == noted
    work.wipe()
    assert (work.pending, work.wrote, work.session) == (False,) * 3


def test_a_text_that_becomes_known_by_the_look_counts_as_known() -> None:
    harmless: set[str] = set()
    inert: set[str] = set()

    def learn(sql: str) -> bool:
        (inert if sql == INERT else harmless).add(sql)
        return False

    work = Work(learn, harmless, inert)
    work.look(INERT)
    assert (work.pending, work.wrote) == (False, False)
    work.look(READ)
    assert (work.pending, work.wrote) == (True, False)


def test_after_a_transaction_was_lost_nothing_is_harmless_or_inert() -> None:
    work = Work(lambda sql: False, {READ}, {INERT})
    work.lose(OddError("deadlock", 1213))
    assert READ not in work.harmless
    for sql in (READ, INERT, WRITE):
        with pytest.raises(OddError):
            work.look(sql)
    work.begin_anew()
    work.look(INERT)
    assert (work.pending, work.harmless, work.inert) == (False, {READ}, {INERT})


def test_what_the_pool_cannot_see_may_have_written() -> None:
    work = Work(lambda sql: False)
    work.unseen()
    assert work.pending
    assert work.wrote


def test_nothing_is_noted_at_first() -> None:
    work = Work(suspects_all)
    noted = (
        work.pending, work.wrote, work.session, work.attributes, work.broken, work.one,
    )  # fmt: skip
    assert noted == (False,) * 6
    assert (work.inside, work.cursors, work.lost) == ([], [], None)
    assert work.note is suspects_all
    assert work.open_cursors() == []


def test_a_member_is_in_a_call_as_long_as_one_has_not_come_back() -> None:
    member = Member(None, Thing, None, 0.0)
    assert member.in_call is False
    member.work = work = Work(suspects_all)
    assert member.in_call is False
    work.inside += CALL
    assert member.in_call is True
    del work.inside[-1]
    assert member.in_call is False


def test_after_what_was_unseen_everything_is_assumed_but_that_it_is_broken() -> None:
    work = Work(suspects_all)
    work.unseen()
    assert (work.pending, work.session, work.attributes) == (True, True, True)
    assert not work.broken


def test_the_error_that_ended_a_transaction_is_raised_again_until_it_is_rolled_back() -> None:
    work = Work(suspects_all)
    work.check()
    work.begin_anew()
    assert work.note is suspects_all
    error = OddError("gone", 3)
    work.lose(error)
    work.lose(OddError("only follows from the first", 4))
    for use in (work.check, work.unseen, lambda: work.note("SELECT 1")):
        with pytest.raises(OddError, match="gone") as caught:
            use()
        assert caught.value is not error
        assert (caught.value.args, caught.value.code) == (("gone",), 3)
    assert not work.session
    work.begin_anew()
    assert work.lost is None
    assert work.note is suspects_all
    work.check()
    work.unseen()
    assert work.session


def test_no_statement_is_known_to_be_harmless_while_a_transaction_is_lost() -> None:
    known = {"SELECT 1"}
    work = Work(suspects_all, known)
    assert work.harmless is known
    work.lose(OddError("gone", 3))
    work.lose(OddError("only follows from the first", 4))
    assert not work.harmless
    work.begin_anew()
    assert work.harmless is known


def test_cursors_are_remembered_and_not_kept_alive_unless_asked() -> None:
    work = Work(suspects_all)
    tracked, dropped, kept = Thing(), Thing(), Thing()
    work.track(tracked)
    work.track(dropped)
    assert work.keep(kept) is kept
    ref, kept_ref = weakref.ref(dropped), weakref.ref(kept)
    del dropped, kept
    assert ref() is None
    assert work.open_cursors() == [kept_ref(), tracked]


def test_a_few_cursors_are_not_looked_at_and_of_more_the_living_are_remembered() -> None:
    work = Counting(suspects_all)
    for _ in range(FEW):
        work.track(Thing())
    assert (len(work.cursors), work.sweeps) == (FEW, 0)
    last = Thing()
    work.track(last)
    assert work.open_cursors() == [last]
    assert (len(work.cursors), work.sweeps) == (1, 1)


def test_many_that_live_are_not_looked_at_each_time() -> None:
    work = Counting(suspects_all)
    living = [Thing() for _ in range(FEW + 1)]
    sizes = []
    while work.sweeps < 4:
        before = work.sweeps
        work.track(living[len(work.cursors)])
        living.append(Thing())
        if work.sweeps > before:
            sizes.append(len(work.cursors))
    assert sizes[0] == FEW + 1
    for size, following in zip(sizes, sizes[1:], strict=False):
        assert following == 2 * size + FEW + 1


def test_while_another_thread_looks_nobody_else_does() -> None:
    work = Work(suspects_all)
    work.broom.pop()  # the other has it
    for _ in range(FEW + 1):
        work.track(Thing())
    assert len(work.cursors) == FEW + 1
    work.broom.append(None)
    work.track(Thing())
    assert len(work.cursors) == 1


def test_who_was_struck_while_looking_takes_the_broom_away_until_the_record_is_wiped() -> None:
    work = Work(suspects_all)
    broom = work.broom
    broom.pop()
    work.many = FEW + 10
    work.wipe()
    assert (work.many, work.broom) == (FEW, [None])
    broom.append(None)  # it was only slow
    assert work.broom == [None]
    kept = work.broom
    work.wipe()
    assert work.broom is kept


def lines(*ranges: tuple[int, int, int | None]) -> CodeType:
    code: Any = SimpleNamespace(
        co_filename="shop.py", co_firstlineno=10, co_lines=lambda: iter(ranges)
    )
    return code  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("lasti", "line"), [(0, 10), (2, 11), (4, 11), (6, 12), (7, 12), (8, 10), (10, 14)]
)
def test_a_site_is_the_line_of_its_instruction_or_the_first_of_the_function(
    lasti: int, line: int
) -> None:
    code = lines((0, 2, None), (2, 6, 11), (6, 8, 12), (8, 10, None), (10, 12, 14))
    assert line_of(code, lasti) == f"shop.py:{line}"


def test_the_site_of_what_was_never_lent_is_unknown() -> None:
    assert line_of(None, 0) == "?"


class Text(str):
    """A text of the user's own kind: what the driver makes of it is up to the driver."""

    __slots__ = ()


def test_what_is_no_plain_text_is_not_taken_for_one_that_begins_nothing() -> None:
    for sql in (Text("SELECT 1"), ["SELECT 1"]):
        work = Work(lambda sql: False, frozenset(), {"SELECT 1"})
        work.look(sql)
        assert (work.pending, work.wrote, work.session) == (True, True, False)
