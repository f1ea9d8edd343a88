"""The classes of `psycopg2.pool`, on the fake driver and on SQLite: keys, sizes, ends, threads."""

from __future__ import annotations

import gc
import inspect
import os
import pickle
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from dbapi_pool import PoolClosed, PoolDeadlock, PoolSettingError, PoolTimeout
from dbapi_pool.dropin.psycopg2_pool import (
    AbstractConnectionPool,
    PersistentConnectionPool,
    PoolClosedError,
    PoolDeadlockError,
    PoolError,
    PoolExhaustedError,
    SimpleConnectionPool,
    ThreadedConnectionPool,
)
from dbapi_pool.testing import FakeDriver, VirtualClock

PATIENCE = 30.0  # seconds; what is waited for comes at once

Make = Callable[..., Any]


@pytest.fixture
def make(clock: VirtualClock, fake: FakeDriver) -> Iterator[Make]:
    """Makes pools on the fake driver; in the end all is closed, and nothing may be open."""
    made: list[Any] = []

    def make(
        minconn: Any = 0,
        maxconn: Any = 4,
        *args: Any,
        kind: type[AbstractConnectionPool] = ThreadedConnectionPool,
        settings: Any = (),
        **kwargs: Any,
    ) -> Any:
        class OnFake(kind):  # type: ignore[misc, valid-type]
            creator = fake
            pool_settings = {"clock": clock, "driver": fake.driver(), **dict(settings)}

        made.append(OnFake(minconn, maxconn, *args, **kwargs))
        return made[-1]

    yield make
    fake.calm()
    for pool in made:
        if not pool.closed:
            pool.closeall()
    clock.run()
    fake.assert_no_leak()


# -- the constructor ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AbstractConnectionPool, SimpleConnectionPool])
def test_the_parameters_are_those_of_psycopg2(kind: type) -> None:
    parameters = inspect.signature(kind).parameters.values()
    assert [str(p.replace(annotation=p.empty)) for p in parameters] == [
        "minconn", "maxconn", "*args", "**kwargs",
    ]  # fmt: skip


def test_all_other_arguments_reach_the_creator_also_those_named_like_settings(make: Make) -> None:
    conn = make(0, 1, "dsn", user="app", driver="odbc", name="x", min_size=3).getconn()
    assert conn.arguments == (
        ("dsn",),
        {"user": "app", "driver": "odbc", "name": "x", "min_size": 3},
    )


def test_minconn_connections_are_open_before_the_constructor_returns(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(3, 5)
    assert (fake.open, pool.minconn, pool.maxconn, pool.closed) == (3, 3, 5, False)


def test_the_constructor_raises_the_drivers_error_if_it_cannot_connect(
    make: Make, fake: FakeDriver
) -> None:
    fake.down = True
    with pytest.raises(fake.OperationalError, match="refused"):
        make(1)


def test_a_number_may_be_a_text_as_with_psycopg2(make: Make) -> None:
    pool = make("1", "3")
    assert (pool.minconn, pool.maxconn) == (1, 3)


@pytest.mark.parametrize(("minconn", "maxconn", "told"), [
    (-1, 4, "minconn=-1: "), ("many", 4, "minconn='many': "), (None, 4, "minconn=None: "),
    (0, 0, "maxconn=0: "), (0, -1, "maxconn=-1: "), (0, [], r"maxconn=\[\]: "),
    (5, 4, "minconn=5 is more than maxconn=4"),
])  # fmt: skip
def test_a_number_that_cannot_be_is_refused_by_its_name(
    make: Make, minconn: object, maxconn: object, told: str
) -> None:
    with pytest.raises(PoolSettingError, match=f"^{told}"):
        make(minconn, maxconn)


def test_a_setting_that_pool_refuses_is_refused_with_these_pools_words_added(make: Make) -> None:
    with pytest.raises(PoolSettingError, match="max_size is maxconn, min_size .* minconn"):
        make(settings={"checkout_timeout": -1})


def test_a_subclass_whose_connect_would_never_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="Mine._connect would never be called: set `creator`"):

        class Mine(SimpleConnectionPool):
            def _connect(self, key: Any = None) -> Any: ...


# -- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("minconn", [0, 1, 2])
def test_no_more_than_minconn_connections_stay_open_unused(
    make: Make, fake: FakeDriver, clock: VirtualClock, minconn: int
) -> None:
    pool = make(minconn, 4)
    for conn in [pool.getconn() for _ in range(4)]:
        pool.putconn(conn)
    clock.run()
    assert (fake.open, pool.pool.stats().idle) == (minconn, minconn)


def test_a_subclass_may_keep_more_of_them(
    make: Make, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make(1, 4, settings={"max_idle": None})
    for conn in [pool.getconn() for _ in range(4)]:
        pool.putconn(conn)
    clock.run()
    assert fake.open == 4


def test_the_last_one_put_back_is_lent_first(make: Make) -> None:
    pool = make(2, 2)
    first, second = pool.getconn(), pool.getconn()
    number = second.number
    pool.putconn(first)
    pool.putconn(second)
    assert pool.getconn().number == number


def test_one_more_than_maxconn_is_refused_at_once_with_the_names_of_its_settings(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(0, 2)
    held = [pool.getconn(), pool.getconn("key")]
    with pytest.raises(PoolExhaustedError, match="^connection pool exhausted: ") as caught:
        pool.getconn()
    text = str(caught.value)
    assert re.search(r"2 of max_size=2 lent.*borrowed at .*test_dropin_psycopg2_pool\.py:\d+", text)
    assert "max_size is maxconn" in text
    assert "pool_settings" in text
    assert isinstance(caught.value, (PoolTimeout, fake.Error))
    assert not isinstance(caught.value, fake.OperationalError)  # nor is psycopg2's
    del held


def test_the_error_can_be_sent_to_another_process(make: Make) -> None:
    pool = make(0, 1)
    held = pool.getconn()
    with pytest.raises(PoolExhaustedError) as caught:
        pool.getconn()
    there = pickle.loads(pickle.dumps(caught.value))
    assert (type(there), str(there)) == (type(caught.value), str(caught.value))
    del held


def test_a_server_that_is_down_is_told_at_once(make: Make, fake: FakeDriver) -> None:
    pool = make()
    fake.down = True
    with pytest.raises(fake.OperationalError, match="refused"):
        pool.getconn()


def test_who_waits_is_served_in_the_order_of_asking(
    make: Make, clock: VirtualClock, fake: FakeDriver
) -> None:
    pool = make(1, 1, settings={"checkout_timeout": None})
    held = pool.getconn()
    served: list[int] = []

    def wait(number: int) -> None:
        conn = pool.getconn()
        served.append(number)
        pool.putconn(conn)

    tasks = []
    for number in range(5):
        tasks.append(clock.start(wait, number))
        clock.run()
    clock.advance(1_000.0)
    assert served == []
    pool.putconn(held)
    for task in tasks:
        task.result()
    assert (served, fake.opened) == ([0, 1, 2, 3, 4], 1)


def test_who_has_a_deadline_hopes_until_then_that_the_server_comes_back(
    make: Make, clock: VirtualClock, fake: FakeDriver
) -> None:
    pool = make(settings={"checkout_timeout": 20.0})
    fake.down = True
    task = clock.start(pool.getconn)
    clock.advance(5.0)
    fake.down = False
    assert task.result().number == 1


def test_who_cannot_connect_in_time_is_not_told_that_the_pool_is_exhausted(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(settings={"checkout_timeout": 2.0})
    fake.down = True
    with pytest.raises(PoolExhaustedError) as caught:
        pool.getconn()
    assert "exhausted" not in str(caught.value)
    assert isinstance(caught.value.__cause__, fake.OperationalError)


def test_a_thread_that_waits_for_itself_is_told_so(make: Make) -> None:
    pool = make(0, 1, settings={"checkout_timeout": None})
    held = pool.getconn()
    with pytest.raises(PoolDeadlockError, match="Return a connection before") as caught:
        pool.getconn()
    assert isinstance(caught.value, (PoolDeadlock, PoolExhaustedError))
    del held


# -- keys -----------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_connection_until_it_is_put_back(make: Make) -> None:
    pool = make()
    conn = pool.getconn("a")
    assert pool.getconn("a") is conn
    assert pool.getconn("b") is not conn
    pool.putconn(conn, "a")
    assert pool.getconn("a") is not conn


def test_a_connection_may_be_put_back_by_its_key_alone(make: Make) -> None:
    pool = make()
    conn = pool.getconn("a")
    pool.putconn(key="a")
    assert conn.closed
    with pytest.raises(PoolError, match="unkeyed"):
        pool.putconn(key="a")


@pytest.mark.parametrize("key", [1, 2, True, "1"])
def test_no_key_of_the_programs_meets_one_that_was_lent_without(make: Make, key: object) -> None:
    pool = make()
    conn = pool.getconn()
    assert pool.getconn(key) is not conn
    assert pool.getconn() is not pool.getconn(key)


def test_a_key_that_is_false_is_one_all_the_same(make: Make) -> None:
    pool = make()
    assert pool.getconn(0) is pool.getconn(0)
    assert pool.getconn("") is pool.getconn("")


def test_a_connection_of_a_key_is_the_pools_when_the_program_forgets_it(make: Make) -> None:
    pool = make(0, 1)
    number = pool.getconn("a").number
    gc.collect()
    assert pool.getconn("a").number == number


@pytest.mark.parametrize(("lent_with", "put_with", "told"), [
    ("a", "b", "under the key 'b', which was borrowed with the key 'a'"),
    (None, "b", "under the key 'b', which was borrowed with none"),
])  # fmt: skip
def test_a_connection_put_back_under_a_key_that_is_not_its_own_stays_lent(
    make: Make, lent_with: Any, put_with: Any, told: str
) -> None:
    pool = make()
    conn = pool.getconn(lent_with)
    with pytest.raises(PoolError, match=told):
        pool.putconn(conn, put_with)
    conn.cursor().execute("SELECT 1")
    pool.putconn(conn)


def test_a_key_whose_connection_was_closed_gets_another(make: Make) -> None:
    pool = make(0, 1)
    closed = pool.getconn("a")
    closed.close()
    conn = pool.getconn("a")
    assert (closed.closed, conn.closed) == (True, False)
    pool.putconn(closed, "a")
    assert pool.getconn("a") is conn
    pool.putconn(conn)


def test_a_key_that_could_not_be_served_is_free_afterwards(make: Make, fake: FakeDriver) -> None:
    pool = make()
    fake.down = True
    with pytest.raises(fake.OperationalError):
        pool.getconn("a")
    fake.down = False
    assert pool.getconn("a").number == 1


def test_threads_that_ask_for_one_key_at_once_get_one_connection() -> None:
    real = FakeDriver()

    class Pool(ThreadedConnectionPool):
        creator = real
        pool_settings = {"driver": real.driver()}

    pool = Pool(0, 8)
    real.on("connect", hang=True, times=1)
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(pool.getconn("a"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    while not real.waiting("connect"):  # one of them connects; the others wait for it
        pass
    real.release("connect")
    for thread in threads:
        thread.join(PATIENCE)
    assert (len(got), len(set(map(id, got))), real.opened) == (6, 1, 1)
    got.clear()
    pool.closeall()


# -- putconn --------------------------------------------------------------------------------------


def test_what_was_not_committed_is_rolled_back(make: Make, fake: FakeDriver) -> None:
    pool = make(1, 1)
    conn = pool.getconn()
    conn.cursor().execute("INSERT INTO t VALUES (1)")
    pool.putconn(conn)
    assert (fake.commits, fake.rollbacks, fake.open) == (0, 1, 1)


def test_with_close_it_is_closed_and_its_place_is_free(
    make: Make, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make(0, 1)
    pool.putconn(pool.getconn(), close=True)
    conn = pool.getconn()
    assert (conn.number, fake.peak) == (2, 1)
    assert pool.pool.stats().closed == {"invalidated": 1}


def test_a_connection_lost_meanwhile_is_not_kept(
    make: Make, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make(1, 1)
    conn = pool.getconn()
    fake.kill_all()
    with pytest.raises(fake.Error):
        conn.cursor().execute("SELECT 1")
    pool.putconn(conn)
    assert pool.getconn().number == 2


@pytest.mark.parametrize("thing", [None, 3, "conn", object(), sqlite3])
def test_what_was_not_borrowed_here_is_refused(make: Make, thing: object) -> None:
    with pytest.raises(PoolError, match="^trying to put unkeyed connection: "):
        make().putconn(thing)


def test_what_another_pool_has_lent_is_refused_and_so_is_the_drivers_own(make: Make) -> None:
    one, other = make(), make()
    conn = other.getconn()
    raw = conn.driver_connection
    for thing in (conn, raw, other.pool.connection()):
        with pytest.raises(PoolError, match="unkeyed"):
            one.putconn(thing)
    with pytest.raises(PoolError, match="unkeyed"):
        other.putconn(raw)
    other.putconn(conn)


def test_the_second_putconn_is_refused_and_takes_nothing_from_the_next_borrower(make: Make) -> None:
    pool = make(1, 1)
    early = pool.getconn()
    pool.putconn(early)
    late = pool.getconn()
    with pytest.raises(PoolError, match="put back before"):
        pool.putconn(early)
    with pytest.raises(late.InterfaceError, match="returned to the pool"):
        early.cursor()
    late.cursor().execute("SELECT 1")
    pool.putconn(late)


def test_of_many_threads_that_put_one_back_at_once_one_succeeds() -> None:
    real = FakeDriver()

    class Pool(ThreadedConnectionPool):
        creator = real
        pool_settings = {"driver": real.driver(local=True)}

    pool = Pool(1, 1)
    for key in (None, "key"):
        conn = pool.getconn(key)
        gate = threading.Barrier(8)
        refused: list[PoolError] = []

        def put(conn: Any = conn, gate: Any = gate, refused: Any = refused) -> None:
            gate.wait(PATIENCE)
            try:
                pool.putconn(conn)
            except PoolError as exc:
                refused.append(exc.with_traceback(None))

        threads = [threading.Thread(target=put) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(refused) == 7
        assert pool.pool.stats().idle == 1
    pool.closeall()


def test_a_connection_that_was_dropped_costs_no_capacity(make: Make, fake: FakeDriver) -> None:
    pool = make(0, 1)
    for _ in range(3):
        pool.getconn().cursor().execute("SELECT 1")
        gc.collect()
    assert (fake.opened, fake.peak) == (3, 1)


def test_the_next_borrower_finds_it_as_if_new(make: Make) -> None:
    pool = make(1, 1)
    conn = pool.getconn()
    conn.cursor().execute("SET search_path TO mine")
    conn.autocommit = True
    pool.putconn(conn)
    conn = pool.getconn()
    assert (conn.number, conn.session, conn.autocommit) == (1, {}, False)


# -- close(), and with ----------------------------------------------------------------------------


def test_close_closes_it_for_good_and_putconn_takes_note(
    make: Make, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make(0, 1)
    conn = pool.getconn()
    conn.close()
    conn.close()
    assert conn.closed
    pool.putconn(conn)
    with pytest.raises(PoolError, match="unkeyed"):
        pool.putconn(conn)
    clock.run()
    assert (fake.open, fake.closed) == (0, 1)


def test_close_without_putconn_frees_the_place_too(make: Make, fake: FakeDriver) -> None:
    pool = make(0, 1)
    for _ in range(3):
        with closing(pool.getconn()) as conn:
            conn.cursor().execute("SELECT 1")
    assert (fake.opened, fake.peak) == (3, 1)


def test_a_with_block_commits_and_the_connection_stays_borrowed(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(1, 1)
    conn = pool.getconn()
    for _ in range(2):
        with conn as same, same.cursor() as cursor:
            assert same is conn
            cursor.execute("INSERT INTO t VALUES (1)")
    assert (fake.commits, fake.rollbacks, conn.closed) == (2, 0, False)
    pool.putconn(conn)


def test_a_with_block_that_fails_rolls_back_and_the_connection_stays_borrowed(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(1, 1)
    conn = pool.getconn()
    with suppress(LookupError), conn:
        conn.cursor().execute("INSERT INTO t VALUES (1)")
        raise LookupError
    assert (fake.commits, fake.rollbacks, conn.closed) == (0, 1, False)
    pool.putconn(conn)


def test_the_error_that_ends_a_block_is_told_and_not_that_of_the_rollback(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(1, 1)
    conn = pool.getconn()

    def fail() -> None:
        with conn:
            conn.cursor().execute("INSERT INTO t VALUES (1)")
            fake.kill_all()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    pool.putconn(conn)
    assert pool.getconn().number == 2


def test_a_connection_may_be_put_back_within_its_block(make: Make, fake: FakeDriver) -> None:
    pool = make(1, 1)
    for _ in range(2):
        with pool.getconn() as conn:
            conn.cursor().execute("INSERT INTO t VALUES (1)")
            conn.commit()
            pool.putconn(conn)
    assert (fake.commits, fake.opened) == (2, 1)


def test_a_block_whose_connection_was_closed_in_it_says_that_nothing_was_committed(
    make: Make, fake: FakeDriver
) -> None:
    pool = make()
    conn = pool.getconn()

    def close_within() -> None:
        with conn:
            conn.cursor().execute("INSERT INTO t VALUES (1)")
            conn.close()

    with pytest.raises(fake.InterfaceError):
        close_within()
    pool.putconn(conn)


def test_a_block_of_a_connection_that_was_put_back_is_refused(make: Make, fake: FakeDriver) -> None:
    pool = make()
    conn = pool.getconn()
    pool.putconn(conn)
    with pytest.raises(fake.InterfaceError), conn:
        pass


def test_what_the_pool_behind_lends_by_itself_goes_back_at_the_end_of_its_block(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(1, 1)
    with pool.pool.transaction() as conn:
        conn.cursor().execute("INSERT INTO t VALUES (1)")
    with pool.pool.connection() as conn:
        conn.cursor().execute("INSERT INTO t VALUES (2)")
    pool.pool.run(lambda conn: conn.cursor().execute("INSERT INTO t VALUES (3)"))
    conn = pool.pool.connection()
    conn.close()
    assert (fake.commits, fake.opened, fake.open) == (3, 1, 1)


# -- closeall -------------------------------------------------------------------------------------


def test_closeall_closes_lent_connections_too(
    make: Make, fake: FakeDriver, clock: VirtualClock
) -> None:
    pool = make(2, 3)
    lent = [pool.getconn(), pool.getconn("a"), pool.getconn("a")]
    pool.closeall()
    clock.run()
    assert (pool.closed, fake.open) == (True, 0)
    for conn in lent:
        assert conn.closed
        with pytest.raises(fake.InterfaceError):
            conn.cursor()


@pytest.mark.parametrize("kind", [SimpleConnectionPool, ThreadedConnectionPool])
def test_a_closed_pool_refuses_everything(make: Make, fake: FakeDriver, kind: Any) -> None:
    pool = make(1, 2, kind=kind)
    conn = pool.getconn()
    pool.closeall()
    acts = (pool.getconn, lambda: pool.getconn("a"), lambda: pool.putconn(conn), pool.closeall)
    for act in acts:
        with pytest.raises(PoolClosedError, match="^connection pool is closed ") as caught:
            act()
        assert isinstance(caught.value, (PoolClosed, PoolError, fake.Error))


def test_who_waits_is_told_that_the_pool_was_closed(
    make: Make, clock: VirtualClock, fake: FakeDriver
) -> None:
    pool = make(0, 1, settings={"checkout_timeout": None})
    held = pool.getconn()
    told: list[Exception] = []

    def wait() -> None:
        try:
            pool.getconn()
        except PoolClosedError as exc:
            told.append(exc.with_traceback(None))

    task = clock.start(wait)
    clock.run()
    pool.closeall()
    task.result()
    assert len(told) == 1
    del held


# -- subclasses, and other creators ---------------------------------------------------------------


def test_the_well_known_subclass_that_waits_with_a_semaphore_works(
    make: Make, fake: FakeDriver
) -> None:
    class Waiting(ThreadedConnectionPool):
        def __init__(self, minconn: int, maxconn: int, *args: Any, **kwargs: Any) -> None:
            self._semaphore = threading.Semaphore(maxconn)
            super().__init__(minconn, maxconn, *args, **kwargs)

        def getconn(self, *args: Any, **kwargs: Any) -> Any:
            self._semaphore.acquire()
            try:
                return super().getconn(*args, **kwargs)
            except Exception:
                self._semaphore.release()
                raise

        def putconn(self, *args: Any, **kwargs: Any) -> None:
            try:
                super().putconn(*args, **kwargs)
            finally:
                self._semaphore.release()

    pool = make(1, 2, kind=Waiting)
    for conn in [pool.getconn(), pool.getconn("k")]:
        pool.putconn(conn)
    assert pool._semaphore.acquire(blocking=False)


def test_a_subclass_of_the_abstract_one_may_have_methods_of_its_own(
    make: Make, fake: FakeDriver
) -> None:
    class ByThread(AbstractConnectionPool):
        def getconn(self) -> Any:
            return self._getconn(threading.get_ident())

        def putconn(self, conn: Any) -> None:
            self._putconn(conn, threading.get_ident())

        def closeall(self) -> None:
            self._closeall()

    pool = make(1, 2, kind=ByThread)
    conn = pool.getconn()
    assert pool.getconn() is conn
    pool.putconn(conn)
    assert fake.opened == 1


def test_a_thread_of_a_persistent_pool_has_one_connection_until_it_puts_it_back(
    make: Make, fake: FakeDriver
) -> None:
    pool = make(1, 2, kind=PersistentConnectionPool)
    conn = pool.getconn()
    assert pool.getconn() is conn
    pool.putconn()
    assert conn.closed
    pool.putconn(pool.getconn(), close=True)
    again = pool.getconn()
    assert again.number == 2
    with pytest.raises(PoolError, match="unkeyed"):
        pool.putconn(conn)


def test_the_connection_of_a_thread_that_has_ended_is_closed_and_its_place_is_free() -> None:
    real = FakeDriver()

    class Pool(PersistentConnectionPool):
        creator = real
        pool_settings = {"driver": real.driver(local=True)}

    pool = Pool(0, 1)
    for _ in range(3):
        thread = threading.Thread(target=lambda: pool.getconn().cursor().execute("SELECT 1"))
        thread.start()
        thread.join(PATIENCE)
        gc.collect()
    assert (real.opened, real.peak) == (3, 1)
    pool.closeall()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = str(tmp_path / "app.db")
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE t (n INTEGER)")
    return path


def test_another_module_may_connect(file: str) -> None:
    class Pool(ThreadedConnectionPool):
        creator = sqlite3

    pool = Pool(1, 2, file)
    conn = pool.getconn()
    with conn:
        conn.execute("INSERT INTO t VALUES (1)")
    assert conn.execute("SELECT n FROM t").fetchall() == [(1,)]
    pool.putconn(conn)
    other = [pool.getconn(), pool.getconn()]
    with pytest.raises(sqlite3.Error, match="exhausted") as caught:
        pool.getconn()
    assert isinstance(caught.value, PoolError)
    del other
    pool.closeall()


def test_a_function_may_connect_and_its_driver_is_known_from_the_first_connection(
    file: str,
) -> None:
    def connect(path: str) -> sqlite3.Connection:
        return sqlite3.connect(path, check_same_thread=False)

    class Pool(ThreadedConnectionPool):
        creator = connect

    pool = Pool(0, 1, file)
    conn = pool.getconn()
    with conn:
        conn.execute("INSERT INTO t VALUES (1)")
    assert pool.pool.driver.name == "sqlite"
    assert not conn.in_transaction
    pool.putconn(conn)
    pool.closeall()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_begins_with_no_connection_and_no_key(file: str) -> None:
    class Pool(PersistentConnectionPool, ThreadedConnectionPool):
        creator = sqlite3

        def keyed(self, key: str) -> Any:
            return self._getconn(key)

    pool = Pool(1, 3, file)
    keyed, mine = pool.keyed("a"), pool.getconn()
    child = os.fork()
    if not child:
        code = 1
        with suppress(BaseException):
            fresh, own = pool.keyed("a"), pool.getconn()
            assert fresh is not keyed
            assert own is not mine
            assert fresh.execute("SELECT 1").fetchone() == own.execute("SELECT 1").fetchone()
            assert pool.keyed("a") is fresh
            assert pool.getconn() is own
            pool._putconn(keyed)  # the parent's: nothing happens
            pool._putconn(key="a")
            code = 0
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert keyed.execute("SELECT 1").fetchone() == (1,)
    assert pool.keyed("a") is keyed
    pool.closeall()


# -- threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [False, True], ids=["without keys", "with keys"])
def test_sixteen_threads_share_four_connections(key: bool) -> None:
    real = FakeDriver()

    class Waiting(ThreadedConnectionPool):
        creator = real
        pool_settings = {"driver": real.driver(), "checkout_timeout": PATIENCE}

    pool = Waiting(1, 4)
    errors: list[BaseException] = []

    def work(me: int) -> None:
        try:
            for _ in range(50):
                conn = pool.getconn(me if key else None)
                with conn, conn.cursor() as cursor:
                    cursor.execute("INSERT INTO t VALUES (1)")
                pool.putconn(conn)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []
    assert (real.commits, real.peak <= 4) == (16 * 50, True)
    pool.closeall()
    real.assert_no_leak()  # and nobody met another within a connection
