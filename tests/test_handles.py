"""P2 exclusive: a connection has one borrower, and whatever a borrower kept is dead once returned."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from dbapi_pool import ConnectionReturned, Pool
from dbapi_pool.drivers import Driver
from dbapi_pool.member import Member, Work
from dbapi_pool.testing import (
    FakeConnection,
    FakeCursor,
    FakeDriver,
    FakeDriverPlugin,
    VirtualClock,
)

MakePool = Callable[..., Pool]


@pytest.fixture(params=["plugin", "portable"])
def pool(request: pytest.FixtureRequest, make_pool: MakePool, fake: FakeDriver) -> Pool:
    """One pool with native cursors, and one whose driver nobody knows."""
    if request.param == "plugin":
        return make_pool(max_size=1)
    fake.strict = False  # the portable defaults do not know this driver's autocommit
    return make_pool(max_size=1, driver=Driver(FakeConnection))


USES: dict[str, Callable[[Any, Any], object]] = {
    "conn.cursor": lambda conn, cur: conn.cursor(),
    "conn.commit": lambda conn, cur: conn.commit(),
    "conn.rollback": lambda conn, cur: conn.rollback(),
    "conn.execute": lambda conn, cur: conn.execute("SELECT 1"),
    "conn.autocommit": lambda conn, cur: conn.autocommit,
    "setting conn.autocommit": lambda conn, cur: setattr(conn, "autocommit", True),
    "conn.driver_connection": lambda conn, cur: conn.driver_connection,
    "conn.detach": lambda conn, cur: conn.detach(),
    "with conn": lambda conn, cur: conn.__enter__(),
    "cur.execute": lambda conn, cur: cur.execute("SELECT 1"),
    "cur.executemany": lambda conn, cur: cur.executemany("INSERT", [()]),
    "cur.callproc": lambda conn, cur: cur.callproc("p"),
    "cur.fetchone": lambda conn, cur: cur.fetchone(),
    "cur.fetchmany": lambda conn, cur: cur.fetchmany(2),
    "cur.fetchall": lambda conn, cur: cur.fetchall(),
    "iterating cur": lambda conn, cur: list(cur),
    "next(cur)": lambda conn, cur: next(cur),
    "with cur": lambda conn, cur: cur.__enter__(),
}


@pytest.mark.parametrize("use", USES)
def test_what_was_kept_raises_the_drivers_interface_error_after_the_return(
    pool: Pool, fake: FakeDriver, use: str
) -> None:
    fake.rows = [(1,), (2,), (3,)]
    conn = pool.connection()
    cur = conn.cursor()
    cur.execute("SELECT 1")
    conn.close()

    with pool.connection(), pytest.raises(fake.InterfaceError) as caught:
        USES[use](conn, cur)

    assert isinstance(caught.value, ConnectionReturned)


def test_bound_methods_and_iterators_kept_over_the_return_are_dead(
    pool: Pool, fake: FakeDriver
) -> None:
    fake.rows = [(1,), (2,), (3,)]
    conn = pool.connection()
    cur = conn.cursor()
    cur.execute("SELECT 1")
    rows = iter(cur)
    next(rows)
    kept = [(conn.commit, ()), (conn.cursor, ()), (conn.execute, ("SELECT 2",))]
    kept += [(cur.execute, ("SELECT 2",)), (cur.callproc, ("p",))]
    conn.close()
    before = len(fake.executed)

    with pool.connection():
        for method, arguments in kept:
            with pytest.raises(fake.InterfaceError):
                method(*arguments)
        with pytest.raises(fake.InterfaceError):
            next(rows)

    assert len(fake.executed) == before


def test_closing_twice_returns_once(pool: Pool) -> None:
    conn = pool.connection()
    conn.close()
    other = pool.connection()
    conn.close()

    assert pool.stats().in_use == 1
    other.close()
    assert pool.stats().idle == 1


def test_two_threads_that_close_the_same_connection_return_it_once(
    make_pool: MakePool, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=2)
    conn = pool.connection()
    conn.execute("INSERT")
    fake.on("rollback", delay=0.1, times=1)

    tasks = [clock.start(conn.close) for _ in range(2)]
    for task in tasks:
        task.result()

    assert pool.stats().idle == 1
    first, second = pool.connection(), pool.connection()
    assert first.driver_connection is not second.driver_connection
    first.close()
    second.close()


def test_no_connection_is_lent_to_two_borrowers_at_once(
    make_pool: MakePool, clock: VirtualClock
) -> None:
    pool = make_pool(max_size=3)
    lent: set[int] = set()

    def borrow() -> None:
        for _ in range(5):
            with pool.connection() as conn:
                number = conn.number
                assert number not in lent
                lent.add(number)
                clock.sleep(0.01)
                lent.remove(number)

    for task in [clock.start(borrow) for _ in range(8)]:
        task.result()


def test_a_cursor_keeps_its_connection_lent(pool: Pool) -> None:
    cur = pool.connection().cursor()

    assert pool.stats().in_use == 1
    assert cur.execute("SELECT 1").fetchall() == [(1,)]
    cur.connection.close()
    assert pool.stats().in_use == 0


def test_the_cursors_connection_is_the_pooled_one(pool: Pool) -> None:
    with pool.connection() as conn:
        assert conn.cursor().connection is conn
        assert conn.execute("SELECT 1").connection is conn


def test_executing_gives_the_pooled_cursor_not_the_drivers(pool: Pool, fake: FakeDriver) -> None:
    conn = pool.connection()
    cur = conn.cursor()
    result = cur.execute("SELECT 1")
    conn.close()

    with pytest.raises(fake.InterfaceError):
        result.fetchone()


def test_attributes_are_the_drivers_both_ways(pool: Pool, fake: FakeDriver) -> None:
    with pool.connection() as conn:
        conn.note = "mine"
        assert conn.driver_connection.note == "mine"
        assert conn.number == fake.connections[0].number
        cur = conn.cursor()
        cur.arraysize = 7
        assert cur.arraysize == 7
        with pytest.raises(AttributeError):
            conn.no_such_thing  # noqa: B018


def test_a_borrowed_connection_is_an_instance_of_the_drivers_class(pool: Pool) -> None:
    with pool.connection() as conn:
        assert isinstance(conn, FakeConnection)
    assert isinstance(conn, FakeConnection)


def test_the_pep_249_errors_are_attributes_also_after_the_return(
    pool: Pool, fake: FakeDriver
) -> None:
    conn = pool.connection()
    assert conn.Error is fake.Error
    conn.close()
    assert conn.IntegrityError is fake.IntegrityError
    assert conn.closed is True


def test_methods_of_a_returned_connection_can_be_looked_up_and_raise_when_called(
    pool: Pool, fake: FakeDriver
) -> None:
    """As the DB-API compliance suite demands: `assertRaises(Error, con.commit)`."""
    conn = pool.connection()
    conn.close()
    pytest.raises(fake.Error, conn.commit)
    pytest.raises(fake.Error, conn.cursor)


def test_with_commits_on_success_and_returns(pool: Pool, fake: FakeDriver) -> None:
    with pool.connection() as conn:
        conn.cursor().execute("INSERT INTO t VALUES (1)")
    assert fake.commits == 1
    assert pool.stats().idle == 1


def test_with_rolls_back_on_an_exception_of_any_class_and_returns(
    pool: Pool, fake: FakeDriver
) -> None:
    def work(error: type[BaseException]) -> None:
        with pool.connection() as conn:
            conn.cursor().execute("INSERT")
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            work(error)
    assert (fake.commits, fake.rollbacks) == (0, 2)
    assert pool.stats().in_use == 0


def test_with_an_untouched_connection_says_nothing_to_the_server(
    pool: Pool, fake: FakeDriver
) -> None:
    with pool.connection():
        pass
    assert (fake.commits, fake.rollbacks) == (0, 0)


def test_a_failing_commit_is_raised_and_the_connection_returned(
    pool: Pool, fake: FakeDriver
) -> None:
    fake.on("commit", error=fake.IntegrityError("deferred constraint"), times=1)
    with pytest.raises(fake.IntegrityError), pool.connection() as conn:
        conn.cursor().execute("INSERT")
    assert pool.stats().in_use == 0
    assert fake.rollbacks == 1


def test_closing_inside_the_with_block_is_allowed(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.close()
    assert pool.stats().idle == 1


def test_invalidate_throws_the_connection_away(
    pool: Pool, fake: FakeDriver, clock: VirtualClock
) -> None:
    conn = pool.connection()
    cur = conn.cursor()
    conn.invalidate()
    clock.run()

    assert fake.open == 0
    assert pool.stats().closed == {"invalidated": 1}
    with pytest.raises(fake.InterfaceError):
        cur.execute("SELECT 1")


def test_detach_takes_the_drivers_connection_out_of_the_pool(pool: Pool, fake: FakeDriver) -> None:
    conn = pool.connection()
    raw = conn.detach()

    assert pool.stats().size == 0
    assert raw.execute("SELECT 1").fetchall() == [(1,)]
    with pool.connection() as other:
        assert other.driver_connection is not raw
    raw.close()
    with pytest.raises(fake.InterfaceError):
        conn.commit()


def test_repr_says_what_it_is_and_whether_it_is_lent(pool: Pool) -> None:
    conn = pool.connection()
    assert "FakeConnection" in repr(conn)
    assert "lent" in repr(conn)
    conn.close()
    assert "returned" in repr(conn)


def test_many_cursors_of_one_lease_are_not_kept_in_memory(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1)
    with pool.connection() as conn:
        for _ in range(1000):
            conn.cursor().close()
        work = conn._lease.member.work
        assert work is not None
        assert len(work.cursors) <= 128


# -- found missing by mutants ---------------------------------------------------------------------

RAW = "dbapi_pool.testing.fake.FakeConnection"


@pytest.mark.parametrize(("name", "resets"), [("box", 1), ("executed", 0), ("number", 0)])
def test_reading_what_can_be_changed_resets_the_session_unless_it_is_known_as_harmless(
    make_pool: MakePool, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch, name: str, resets: int
) -> None:
    monkeypatch.setattr(f"{RAW}.box", {}, raising=False)
    pool = make_pool(max_size=1)
    conn = pool.connection()
    getattr(conn, name)
    conn.close()
    assert fake.resets == resets


def test_what_a_borrower_deletes_is_there_for_the_next(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    del conn.note
    assert not hasattr(conn, "note")
    conn.close()
    with pool.connection() as other:
        assert other.note is None


def test_dir_shows_the_drivers_names_while_it_is_lent(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    assert {"half_read", "note", "detach", "invalidate", "cursor", "close"} <= set(dir(conn))
    assert dir(conn) == sorted(set(dir(conn)))


def test_dir_shows_the_handles_own_names_after_the_return(make_pool: MakePool) -> None:
    conn = make_pool(max_size=1).connection()
    conn.close()
    assert {"detach", "invalidate", "cursor", "close", "Error"} <= set(dir(conn))
    assert "note" not in dir(conn)


def test_a_connection_that_can_be_called_is_called_through_the_fence(
    make_pool: MakePool, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(max_size=1)
    with pool.connection() as conn:
        assert not callable(conn)

    class Callable_(FakeConnection):
        def __call__(self, word: str) -> str:
            return word

    monkeypatch.setattr(RAW, Callable_)
    pool = make_pool(max_size=1)
    conn = pool.connection()
    assert conn("word") == "word"
    conn.close()
    assert fake.resets == 1  # who knows what that did
    with pytest.raises(fake.InterfaceError):
        conn("word")


def test_a_handle_that_was_thrown_away_is_dead(make_pool: MakePool, fake: FakeDriver) -> None:
    pool = make_pool(max_size=1)
    conn = pool.connection()
    conn.invalidate()
    for use in (conn.commit, conn.cursor, conn.detach, lambda: conn.driver_connection):
        with pytest.raises(fake.InterfaceError):
            use()
    assert repr(conn).endswith(", returned>")


def test_handles_on_connections_of_one_kind_are_of_one_class(make_pool: MakePool) -> None:
    pool = make_pool(max_size=2)
    with pool.connection() as one, pool.connection() as other:
        assert type(one) is type(other)


class Unsure(FakeDriverPlugin):
    """Says no to whether a transaction is open: after some statements that is worth nothing."""

    def in_transaction(self, conn: FakeConnection) -> bool | None:
        return False


class Silent(Unsure):
    """Cannot say it."""

    def in_transaction(self, conn: FakeConnection) -> bool | None:
        return None


class Failing(Unsure):
    """Cannot even be asked."""

    def in_transaction(self, conn: FakeConnection) -> bool | None:
        raise RuntimeError("no word on transactions")


@pytest.mark.parametrize(
    ("plugin", "sql", "commits"),
    [
        (Unsure, "SELECT 1", 0),
        (Unsure, "CALL something", 1),
        (Silent, "INSERT", 1),
        (Failing, "INSERT", 1),
    ],
)
def test_a_with_block_commits_what_may_be_open(
    make_pool: MakePool, fake: FakeDriver, plugin: Any, sql: str, commits: int
) -> None:
    pool = make_pool(max_size=1, driver=plugin(fake))
    with pool.connection() as conn:
        conn.execute(sql)
    assert fake.commits == commits


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_after_the_borrowers_own_end_there_is_nothing_to_end(
    make_pool: MakePool, fake: FakeDriver, end: str
) -> None:
    """Also where only the pool knows, since the driver cannot say."""
    pool = make_pool(max_size=1, driver=Silent(fake))
    with pool.connection() as conn:
        conn.execute("INSERT")
        getattr(conn, end)()
    assert (fake.commits, fake.rollbacks) == (end == "commit", end == "rollback")


@pytest.mark.parametrize("has", ["execute", "fetchone"])
def test_what_only_resembles_a_cursor_is_not_taken_for_one(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, has: str
) -> None:
    thing = type("Thing", (), {has: None})()
    monkeypatch.setattr(f"{RAW}.thing", lambda raw: thing, raising=False)
    with make_pool(max_size=1).connection() as conn:
        assert conn.thing() is thing


def test_a_shorthand_of_the_handle_says_what_it_is(make_pool: MakePool) -> None:
    with make_pool(max_size=1).connection() as conn:
        shorthand = type(conn).execute
    assert shorthand.__name__ == "execute"
    assert shorthand.__doc__ == "Run `execute` on a new cursor and return the cursor."


def test_the_pool_and_its_lock_are_asked_once_for_all_that_a_borrower_does(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(max_size=1)
    begin_work, asked = pool.begin_work, []

    def counted(member: Member) -> Work:
        asked.append(member)
        return begin_work(member)

    monkeypatch.setattr(pool, "begin_work", counted)
    with pool.connection() as conn:
        conn.execute("INSERT")
        conn.note = "mine"
        conn.cursor().execute("INSERT")
        conn.commit()
    assert len(asked) == 1


def cut(raw: FakeConnection) -> None:
    """A method of the driver's own, which asks the server something."""
    raw.rollback()


@pytest.mark.parametrize(
    ("method", "operation"),
    [("cursor", "cursor"), ("commit", "commit"), ("rollback", "rollback"), ("cut", "rollback")],
)
def test_a_connection_that_was_cut_in_the_middle_of_a_call_does_not_come_back(
    make_pool: MakePool,
    fake: FakeDriver,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    operation: str,
) -> None:
    monkeypatch.setattr(f"{RAW}.cut", cut, raising=False)
    pool = make_pool(max_size=1)
    conn = pool.connection()
    fake.on(operation, error=KeyboardInterrupt, times=1)
    with pytest.raises(KeyboardInterrupt):
        getattr(conn, method)()
    conn.close()
    clock.run()
    assert pool.stats().closed == {"broken": 1}


def test_where_the_drivers_connection_gives_itself_the_borrower_gets_the_handle(
    make_pool: MakePool, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{RAW}.connection", property(lambda raw: raw), raising=False)
    monkeypatch.setattr(f"{RAW}.itself", lambda raw: raw, raising=False)
    pool = make_pool(max_size=1)
    with pool.connection() as conn:
        assert conn.connection is conn
        conn.close()
    assert fake.resets == 0
    with pool.connection() as conn:
        assert conn.itself() is conn


def test_a_method_shows_the_attributes_of_the_drivers(
    make_pool: MakePool, fake: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{RAW}.cut", cut, raising=False)
    conn = make_pool(max_size=1).connection()
    method = conn.cut
    assert (method.__name__, method.__func__) == ("cut", cut)
    assert repr(method) == f"<pooled method 'cut' of {conn!r}>"
    conn.close()
    with pytest.raises(fake.InterfaceError):
        method.__name__  # noqa: B018


@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_method_cannot_be_copied_or_pickled(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, act: Any
) -> None:
    monkeypatch.setattr(f"{RAW}.cut", cut, raising=False)
    with make_pool(max_size=1).connection() as conn:
        method = conn.cut
        with pytest.raises(TypeError, match="a method of a borrowed connection cannot be"):
            act(method)


# -- cursors that are opened as the one before -----------------------------------------------------


class Asked(FakeDriverPlugin):
    """Notes when it is asked for a cursor, and makes them as the connection's `factory` says."""

    asked = 0

    def open_cursor(self, conn: Any, pooled: Any, args: Any, kwargs: Any) -> Any:
        self.asked += 1
        kind = getattr(conn, "factory", FakeCursor)
        return super().open_cursor(conn, pooled, args or (kind,), kwargs)


class ByUser(FakeCursor):
    """A cursor class of a user's own."""


def test_a_driver_is_asked_once_how_a_cursor_is_opened(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    pool = make_pool(max_size=1, driver=(driver := Asked(fake)))
    kinds = set()
    for _ in range(3):
        with pool.connection() as conn:
            kinds.add(type(conn.cursor()))
            cursor = conn.cursor()
            cursor.execute("SELECT 1")
            assert cursor.connection is conn
        with pytest.raises(ConnectionReturned):
            cursor.execute("SELECT 1")
    assert (driver.asked, kinds) == (1, {type(cursor).__base__})


def test_a_driver_is_asked_again_for_other_cursors_and_whenever_the_connection_may_differ(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    fake.strict = False  # it is not reset here
    pool = make_pool(max_size=1, driver=(driver := Asked(fake)), reset="none")
    with pool.connection() as conn:
        conn.cursor()
        assert isinstance(conn.cursor(ByUser), ByUser)
        assert (driver.asked, conn._lease.member.work.session) == (2, True)
    with pool.connection() as conn:
        plain = conn.cursor()
        assert not isinstance(plain, ByUser)
        conn.factory = ByUser
        assert isinstance(conn.cursor(), ByUser)
    with pool.connection() as conn:  # nothing is reset
        assert isinstance(conn.cursor(), ByUser)
        assert isinstance(conn.cursor(), ByUser)
        assert conn._lease.member.work.session  # each time: see `is_of_driver`
        conn.driver_connection.factory = FakeCursor
        assert not isinstance(conn.cursor(), ByUser)
        conn.factory = ByUser
        del conn.factory
        assert not isinstance(conn.cursor(), ByUser)


def test_a_cursor_class_may_say_that_it_sends_what_it_is_given(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    class Converting(ByUser):
        sends_as_given = True

    class Sending(Converting):
        sends_as_given = False

    pool = make_pool(max_size=1, driver=Asked(fake))
    with pool.connection() as conn:
        conn.cursor(Converting).execute("SELECT 1")
        assert not conn._lease.member.work.session
        conn.cursor(Sending)
        assert conn._lease.member.work.session
    with pool.connection() as conn:
        conn.cursor(Converting).execute("SET x = 1")
        assert conn._lease.member.work.session


def test_a_cursor_that_is_wrapped_is_of_the_class_of_the_one_within(
    make_pool: MakePool, fake: FakeDriver
) -> None:
    driver = fake.driver()
    driver.open_cursor = lambda *args: None  # type: ignore[method-assign]
    conn = make_pool(driver=driver).connection()
    cursor = conn.cursor()

    assert isinstance(cursor, FakeCursor)
    conn.close()
    assert not isinstance(cursor, FakeCursor)


class Wide(FakeCursor):
    """Takes more than a statement and parameters, as the cursors of some drivers do."""

    def execute(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        self.given = (operation, args, kwargs)
        return super().execute(operation)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("SELECT 1",), {}),
        (("SELECT 1", (1,)), {}),
        (("SELECT 1", None), {}),
        (("SELECT 1", (1,), "third"), {}),
        (("SELECT 1",), {"binary": True}),
        (("SELECT 1", (1,)), {"binary": True}),
        ((), {"operation": "SELECT 1", "binary": True}),
    ],
)
def test_a_statement_and_what_belongs_to_it_are_passed_on_as_they_were_given(
    make_pool: MakePool, args: Any, kwargs: Any
) -> None:
    pool = make_pool(max_size=1)
    with pool.connection() as conn:
        cursor = conn.cursor(Wide)
        conn._lease.member.work.wipe()
        cursor.execute(*args, **kwargs)
        rest = {name: value for name, value in kwargs.items() if name != "operation"}
        assert cursor.given == ("SELECT 1", args[1:], rest)
        assert conn._lease.member.work.session is (not args)  # nobody has read that statement


@pytest.mark.parametrize("by_name", [False, True])
def test_a_cursor_of_a_class_that_was_asked_for_is_not_what_the_next_one_is_like(
    make_pool: MakePool, by_name: bool
) -> None:
    # Of the driver's module, so that it passes for its own work.
    other = type("Other", (FakeCursor,), {"__module__": FakeCursor.__module__})
    pool = make_pool(max_size=1)
    for _ in range(2):
        with pool.connection() as conn:
            asked = conn.cursor(factory=other) if by_name else conn.cursor(other)
            assert isinstance(asked, other)
            assert not isinstance(conn.cursor(), other)


def test_an_attribute_of_a_connection_that_is_being_returned_says_so(pool: Pool) -> None:
    conn = pool.connection()
    lease = conn._lease
    member, lease.member = lease.member, None  # by another thread, at this moment
    with pytest.raises(ConnectionReturned):
        conn.number  # noqa: B018
    lease.member = member
    conn.close()
