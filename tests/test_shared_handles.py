"""P2: one handle in two hands, one of which returns it while the other is about to use it.

What another thread may do between two steps is done here by the same thread, at exactly that point.
The same with real threads: `tests/proof/test_free_threading.py`.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from dbapi_pool import Pool, handles
from dbapi_pool.errors import ConnectionReturned
from dbapi_pool.ledger import snapshot
from dbapi_pool.member import Member, Work
from dbapi_pool.testing import FakeCursor, FakeDriver

MakePool = Callable[..., Pool]


class Elsewhere:
    """Another thread's deed, done once, when this one begins to note what it does."""

    def __init__(self, pool: Pool, deed: Callable[[], object]) -> None:
        self.begin_work, self.deed = pool.begin_work, deed
        pool.begin_work = self  # type: ignore[method-assign, assignment]

    def __call__(self, member: Member) -> Work:
        work = self.begin_work(member)
        deed, self.deed = self.deed, lambda: None
        deed()
        return work


def pass_on(pool: Pool, conn: Any, taken: list[Any]) -> Callable[[], None]:
    """Return `conn`, and borrow the same connection for somebody else, who begins a transaction."""

    def deed() -> None:
        conn.close()
        taken.append(pool.connection())
        taken[0].execute("INSERT")

    return deed


@pytest.mark.parametrize("method", ["commit", "rollback", "cancel"])
def test_a_call_that_meets_the_return_does_not_reach_the_next_borrower(
    make_pool: MakePool, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def cancel(raw: Any) -> None:
        raw.rollback()

    monkeypatch.setattr("dbapi_pool.testing.fake.FakeConnection.cancel", cancel, raising=False)
    pool = make_pool(max_size=1, local=True)
    conn = pool.connection()
    call = getattr(conn, method)
    taken: list[Any] = []
    Elsewhere(pool, pass_on(pool, conn, taken))
    with pytest.raises(ConnectionReturned):
        call()
    assert taken[0].in_transaction
    taken[0].close()


@pytest.mark.parametrize("how", ["close", "invalidate"])
@pytest.mark.parametrize("use", ["cursor", "commit", "rollback", "execute"])
def test_who_uses_a_handle_that_another_thread_returns_is_told_so(
    make_pool: MakePool, use: str, how: str, place: str
) -> None:
    pool = make_pool(max_size=1, local=place == "local")
    conn = pool.connection()
    Elsewhere(pool, getattr(conn, how))
    with pytest.raises(ConnectionReturned):
        getattr(conn, use)(*(["INSERT"] if use == "execute" else []))


def test_a_cursor_that_is_made_during_the_return_is_dead(
    make_pool: MakePool, fake: FakeDriver, place: str
) -> None:
    pool = make_pool(max_size=1, local=place == "local")
    conn = pool.connection()
    made: list[Any] = []

    class Cursor(FakeCursor):
        def __init__(self, raw: Any) -> None:
            super().__init__(raw)
            made.append(self)

    fake.on("cursor", call=lambda raw: conn.close(), times=1)
    with pytest.raises(ConnectionReturned):
        conn.cursor(Cursor)
    with pytest.raises(fake.InterfaceError):
        made[0].execute("INSERT")


class Shared(list[Any]):
    """A tether on which another thread is quicker: between the look at it and the taking."""

    def __init__(self, handle: Any) -> None:
        super().__init__(handle._tether)
        self.handle = handle

    def pop(self, index: Any = -1) -> Any:
        handles._tie(self.handle, rest := list(self))
        self.handle.close()
        assert rest == []
        self.clear()
        return super().pop(index)


@pytest.mark.parametrize("way", ["close", "invalidate", "detach"])
def test_a_handle_that_two_threads_give_back_is_returned_once(
    make_pool: MakePool, fake: FakeDriver, way: str
) -> None:
    pool = make_pool(max_size=2)
    conn = pool.connection()
    handles._tie(conn, Shared(conn))
    with pytest.raises(fake.InterfaceError) if way == "detach" else nullcontext():
        getattr(conn, way)()
    assert (pool.stats().size, pool.stats().idle) == (1, 1)
    with pool.connection() as one, pool.connection() as two:
        assert one.driver_connection is not two.driver_connection


def test_an_old_handle_is_not_good_for_the_next_borrowing(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    lease = conn._lease
    conn.close()
    again = pool.connection()
    assert again._lease is lease
    conn.close()
    conn.invalidate()
    assert pool.stats().in_use == 1
    again.execute("INSERT")
    again.close()


class Restless(deque[Any]):
    """Another thread changes it whenever it is walked through."""

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("deque mutated during iteration")

    def __getitem__(self, index: Any) -> Any:
        thing = super().__getitem__(index)
        if index == 2:
            del self[1]  # what is to the right of it moves, so that the next look finds it again
            self.append("late")
            self.pop()
            self.pop()
        return thing


def test_a_snapshot_has_what_was_there_all_the_time() -> None:
    assert snapshot(deque("abcde")) == list("abcde")
    assert snapshot(Restless()) == []
    found = snapshot(Restless("abcde"))
    assert set("acd") <= set(found)
    assert sorted(set(found)) == sorted(found)
    assert found == sorted(found)


def test_a_snapshot_of_what_is_taken_away_meanwhile_is_what_was_seen() -> None:
    class Vanishing(Restless):
        def __getitem__(self, index: Any) -> Any:
            thing = deque.__getitem__(self, index)
            self.clear()
            return thing

    assert snapshot(Vanishing("abc")) == ["c"]


class Thing:
    pass


def test_sweeping_the_cursors_loses_none_that_comes_meanwhile() -> None:
    work = Work(lambda sql: True)
    things = [Thing() for _ in range(50)]
    late = Thing()
    lost = weakref.ref(Thing())

    def meddle() -> None:
        """Stands for a reference that is looked at, while another thread appends and sweeps."""
        work.cursors.append(weakref.ref(late))
        work._sweep()

    for thing in things:
        work.track(thing)
    work.cursors.append(meddle)  # type: ignore[arg-type]
    work.cursors += [lost] * 50
    work.track(things[0])
    assert late in work.open_cursors()
    assert all(thing in work.open_cursors() for thing in things)
    assert lost not in work.cursors
    work.cursors += [lost] * 200
    work.track(late)  # it can be swept again
    assert lost not in work.cursors


@pytest.mark.parametrize("ended", ["returned", "closed"])
def test_who_saw_a_lease_that_ended_is_told_so(
    make_pool: MakePool, fake: FakeDriver, ended: str
) -> None:
    pool = make_pool(max_size=1, local=True)
    conn = pool.connection()
    seen = conn._lease
    if ended == "closed":
        conn.invalidate()
    else:
        conn.close()
    handles._tie(conn, [seen])  # it looked before that, and goes on now
    for use in (conn.commit, conn.rollback, conn.cursor, lambda: setattr(conn, "note", 1)):
        with pytest.raises(fake.InterfaceError):
            use()
    conn._tether.clear()
    assert (fake.commits, fake.rollbacks) == (0, 0)


def test_what_was_kept_notes_nothing_about_the_next_borrower(
    make_pool: MakePool, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Block:
        def __enter__(self) -> Block:
            return self

        def __exit__(self, *exc: object) -> None:
            pass

        def go_on(self) -> None:
            raise AssertionError("it was let through")

    monkeypatch.setattr(
        "dbapi_pool.testing.fake.FakeConnection.block", lambda raw: Block(), raising=False
    )
    pool = make_pool(max_size=1)
    conn = pool.connection()
    kept = conn.block().go_on
    conn.close()
    with pool.connection() as again:
        again.cursor()
        work = again._lease.member.work
        with pytest.raises(fake.InterfaceError):
            kept()
        assert (work.pending, work.session, work.inside) == (False, False, [])
