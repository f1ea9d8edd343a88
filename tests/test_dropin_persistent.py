"""`PersistentDB`: a steady connection for each thread."""

from __future__ import annotations

import gc
import inspect
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dbapi_pool import PoolSettingError
from dbapi_pool.dropin.dbutils import (
    LostTransactionError,
    NotSupportedError,
    PersistentDB,
    PersistentDBError,
    SteadyDBConnection,
)
from dbapi_pool.testing import FakeDriver, VirtualClock

Make = Callable[..., Any]

INSERT = "INSERT INTO t VALUES (1)"


@pytest.fixture
def make(clock: VirtualClock, fake: FakeDriver) -> Iterator[Make]:
    """Makes a `PersistentDB` on the fake driver; when all is dropped, nothing may be open."""
    fake.strict = False  # between transactions a steady connection is looked at while in use
    made: list[Any] = []

    def make(*args: Any, plugin: bool = True, **kwargs: Any) -> Any:
        class OnVirtualClock(PersistentDB):
            pool_settings = {"clock": clock, **({"driver": fake.driver()} if plugin else {})}

        made.append(OnVirtualClock(fake, *args, **kwargs))
        return made[-1]

    yield make
    fake.calm()
    made.clear()
    gc.collect()
    clock.run()
    fake.assert_no_leak()


def in_thread(act: Callable[[], Any]) -> Any:
    """What `act` gives in a thread of its own, which has ended by then."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    return found[0]


def test_the_parameters_are_those_of_dbutils_in_their_order_with_their_defaults() -> None:
    parameters = inspect.signature(PersistentDB).parameters.values()
    assert [str(p.replace(annotation=p.empty)) for p in parameters] == [
        "creator", "maxusage=None", "setsession=None", "failures=None", "ping=1",
        "closeable=False", "threadlocal=None", "isfatal=None", "*args", "**kwargs",
    ]  # fmt: skip


def test_a_thread_always_gets_the_same_connection_and_no_other_thread_gets_it(
    make: Make, fake: FakeDriver
) -> None:
    db = make()
    con = db.connection()
    assert isinstance(con, SteadyDBConnection)
    assert db.connection(shareable=True) is con
    assert db.dedicated_connection() is con
    other = in_thread(lambda: (db.connection() is db.connection(), db.connection().number))
    assert other == (True, 2)
    assert con.number == 1


def test_the_connection_of_a_thread_is_closed_when_the_thread_ends(
    make: Make, fake: FakeDriver
) -> None:
    db = make()
    assert in_thread(lambda: db.connection().cursor().execute(INSERT) and fake.open) == 1
    assert (fake.open, fake.commits) == (0, 0)


def test_all_are_of_one_pool(make: Make, fake: FakeDriver) -> None:
    db = make(closeable=True)
    con = db.connection()
    other = db.steady_connection()
    assert db.pool.stats().in_use == 2
    con.cursor()
    other.close()
    assert (db.pool.stats().in_use, fake.open) == (1, 1)


def test_nothing_is_opened_before_somebody_asks(make: Make, fake: FakeDriver) -> None:
    make()
    assert fake.opened == 0


@pytest.mark.parametrize("closeable", [False, True])
def test_close_closes_only_if_that_is_allowed(
    make: Make, fake: FakeDriver, closeable: bool
) -> None:
    db = make(closeable=closeable)
    con = db.connection()
    con.close()
    assert fake.open == (0 if closeable else 1)
    assert db.connection() is con
    assert fake.open == 1


def test_what_was_not_committed_outlasts_a_close_that_is_ignored(
    make: Make, fake: FakeDriver
) -> None:
    db = make()
    con = db.connection()
    con.cursor().execute(INSERT)
    con.close()
    db.connection().commit()
    assert (fake.commits, fake.rollbacks) == (1, 0)


def test_a_dead_connection_is_replaced_when_it_is_asked_for(make: Make, fake: FakeDriver) -> None:
    db = make()
    con = db.connection()
    fake.kill_all()
    assert db.connection() is con
    assert fake.opened == 2


def test_a_dead_connection_is_not_replaced_in_a_transaction(make: Make, fake: FakeDriver) -> None:
    db = make()
    con = db.connection()
    con.cursor().execute(INSERT)
    fake.kill_all()
    again = db.connection()
    with pytest.raises(fake.OperationalError):
        again.cursor().execute(INSERT)
    with pytest.raises(LostTransactionError):
        con.commit()
    assert (fake.opened, fake.commits) == (1, 0)


def test_a_loss_that_was_told_is_forgotten_when_the_connection_is_asked_for(
    make: Make, fake: FakeDriver
) -> None:
    db = make()
    con = db.connection()
    con.cursor().execute(INSERT)
    fake.kill_all()
    with pytest.raises(fake.OperationalError):
        con.cursor().execute(INSERT)
    with pytest.raises(LostTransactionError):
        con.cursor()
    db.connection().cursor().execute(INSERT)
    assert fake.opened == 2


@pytest.mark.parametrize(
    ("ping", "idle", "pings"),
    [(1, 20.0, 0), (1, 40.0, 1), (0, 500.0, 0), ((1, lambda conn: None), 2.0, 0), (6, 500.0, 0)],
)
def test_with_a_plugin_it_is_pinged_when_asked_for_if_it_was_idle_for_long(
    make: Make, fake: FakeDriver, clock: VirtualClock, ping: Any, idle: float, pings: int
) -> None:
    db = make(ping=ping)
    db.connection()
    clock.advance(idle)
    db.connection()
    assert (fake.pings, fake.opened) == (pings, 1)


@pytest.mark.parametrize("ping", ["SELECT 7", (1, "SELECT 7")])
@pytest.mark.parametrize("plugin", [True, False])
def test_a_statement_given_as_ping_is_run_whenever_it_is_asked_for(
    make: Make, fake: FakeDriver, ping: Any, plugin: bool
) -> None:
    db = make(ping=ping, plugin=plugin)
    db.connection().rollback()
    for _ in range(2):
        db.connection()
    assert [sql for _, sql in fake.executed] == ["SELECT 7"] * 3


def test_one_that_fails_its_ping_is_replaced(make: Make, fake: FakeDriver) -> None:
    answers = [True, False]
    db = make(ping=lambda conn: answers.pop(0))
    db.connection()
    db.connection()
    assert fake.opened == 2


def test_a_server_that_is_down_is_told_to_whoever_asks(make: Make, fake: FakeDriver) -> None:
    db = make()
    con = db.connection()
    fake.kill_all()
    fake.down = True
    with pytest.raises(fake.OperationalError, match="refused"):
        db.connection()
    fake.down = False
    assert db.connection() is con
    con.cursor().execute("SELECT 1")


def test_maxusage_and_setsession_are_those_of_each_connection(make: Make, fake: FakeDriver) -> None:
    db = make(2, ["SET zone = mez"])
    con = db.connection()
    for _ in range(3):
        con.cursor().execute("SELECT 1")
        con.commit()
    assert fake.opened == 2
    assert con.session == {"zone": "mez"}


def test_what_keeps_the_connections_can_be_chosen(make: Make) -> None:
    class Keeper:
        pass

    assert isinstance(make().thread, threading.local)
    db = make(threadlocal=Keeper)
    con = db.connection()
    assert isinstance(db.thread, Keeper)
    assert in_thread(db.connection) is con


@pytest.mark.parametrize("level", [0, None])
def test_a_module_that_is_not_for_threads_is_refused(
    fake: FakeDriver, level: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "threadsafety", level, raising=False)
    with pytest.raises(NotSupportedError, match="not thread-safe") as caught:
        PersistentDB(fake)
    for kind in (PersistentDBError, PoolSettingError):
        assert isinstance(caught.value, kind)


@pytest.mark.parametrize(
    "wrong",
    [{"maxusage": "3"}, {"failures": int}, {"isfatal": 1}, {"ping": (1, 2)}],
)
def test_what_dbutils_refuses_is_refused(make: Make, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        make(**wrong)


def test_threads_work_on_one_file_side_by_side(tmp_path: Path) -> None:
    file = str(tmp_path / "app.db")
    db = PersistentDB(sqlite3, database=file, timeout=30.0)
    db.connection().cursor().execute("CREATE TABLE t (n INTEGER)")
    db.connection().commit()
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        barrier.wait()
        for _ in range(25):
            with db.connection() as con:
                con.cursor().execute("INSERT INTO t VALUES (?)", (number,))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = db.connection().cursor().execute("SELECT n, count(*) FROM t GROUP BY n").fetchall()
    assert counts == [(n, 25) for n in range(4)]
    assert db.pool.stats().in_use == 1
    db.connection().close()
