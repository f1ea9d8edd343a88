"""Pools over MySQL and MariaDB: round trips, killed sessions, transactions that are tried again."""

from __future__ import annotations

import gc
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dirt_mysql
import pytest
import servers
from dirt_mysql import C_EXTENSION, DRIVERS, row, run
from relay import Relay

from dbapi_pool import CommitOutcomeUnknown, Pool
from dbapi_pool_mysql import faults


@pytest.fixture(scope="module")
def server(mariadb_server: servers.Server) -> servers.Server:
    dirt_mysql.prepare(mariadb_server)
    return mariadb_server


@pytest.fixture(params=DRIVERS)
def module(request: pytest.FixtureRequest) -> str:
    dirt_mysql.load(request.param)
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(server: servers.Server, module: str) -> Iterator[MakePool]:
    pools: list[Pool] = []

    def make(tls: bool = False, **settings: Any) -> Pool:
        arguments = {**dirt_mysql.arguments(server, module, tls), **settings}
        pools.append(Pool(dirt_mysql.load(module), **arguments))
        return pools[-1]

    yield make
    for pool in pools:
        assert pool.close(), f"not everything was returned: {pool!r}"


def session(conn: Any) -> int:
    return int(row(conn, "SELECT CONNECTION_ID()")[0])


# -- round trips ----------------------------------------------------------------------------------


@pytest.fixture
def relay(server: servers.Server) -> Iterator[Relay]:
    with Relay(server.host, server.port) as relay:
        yield relay


def lease(pool: Pool, *statements: str, end: str = "") -> None:
    conn = pool.connection()
    run(conn, *statements)
    if end:
        getattr(conn, end)()
    conn.close()


# What a reset takes besides the statement: ROLLBACK, the reset, SET, and a look at where it is.
RESET = {"pymysql": 4, "MySQLdb": 6, "mysql.connector": 5, "mariadb": 4}

LEASES = [
    (True, ("SELECT 1",), "", 1),
    (True, ("SELECT * FROM t", "UPDATE t SET v = v WHERE id = 1"), "", 2),
    (True, ("START TRANSACTION", "SELECT 1"), "", 3),
    (False, ("SELECT * FROM t",), "", 2),
    (False, ("SELECT 1",), "commit", 2),
    (False, ("UPDATE t SET v = v WHERE id = 1",), "rollback", 2),
    (False, (), "", 0),
]


@pytest.mark.parametrize(("autocommit", "statements", "end", "expected"), LEASES)
def test_a_lease_costs_no_more_round_trips_than_needed(
    make_pool: MakePool, relay: Relay, module: str, autocommit: bool, statements: tuple[str, ...],
    end: str, expected: int,
) -> None:  # fmt: skip
    pool = make_pool(max_size=1, autocommit=autocommit, host=relay.host, port=relay.port)
    if autocommit and module == "MySQLdb" and not end and statements[0] != "START TRANSACTION":
        expected += 1  # it does not show whether a transaction is open
    lease(pool, *statements, end=end)
    before = relay.round_trips
    lease(pool, *statements, end=end)

    assert relay.round_trips - before == expected


def test_a_with_block_commits_only_what_may_be_open(
    make_pool: MakePool, relay: Relay, module: str
) -> None:
    if module == "MySQLdb":
        pytest.skip("it does not show whether a transaction is open")
    pool = make_pool(max_size=1, autocommit=True, host=relay.host, port=relay.port)
    for statements, expected in [(("SELECT 1",), 1), (("BEGIN", "SELECT 1"), 3)]:
        for _ in range(2):
            before = relay.round_trips
            with pool.connection() as conn:
                run(conn, *statements)
        assert relay.round_trips - before == expected


def test_a_full_reset_costs_what_the_docs_say(
    make_pool: MakePool, relay: Relay, module: str
) -> None:
    pool = make_pool(max_size=1, host=relay.host, port=relay.port)
    # mysqlclient names the database when it logs in again.
    extra = 1 if module != "MySQLdb" and _has_another_default_charset(pool) else 0
    lease(pool, "SET SESSION auto_increment_increment = 1")
    before = relay.round_trips
    lease(pool, "SET SESSION auto_increment_increment = 1")

    assert relay.round_trips - before == 1 + RESET[module] + extra


def _has_another_default_charset(pool: Pool) -> bool:
    """Then a reset has to name the database again."""
    with pool.connection() as conn:
        names = row(conn, "SELECT @@global.character_set_server, @@character_set_database")
    return names[0] != names[1]


# -- killed ---------------------------------------------------------------------------------------


def test_no_borrower_sees_what_was_killed_while_idle(
    make_pool: MakePool, server: servers.Server, module: str, tls: bool
) -> None:
    if module == C_EXTENSION:
        pytest.skip("the C extension shows no descriptor: use ping_after=0")
    pool = make_pool(tls, max_size=3, ping_after=None)
    for _ in range(5):
        handles = [pool.connection() for _ in range(3)]
        old = {session(conn) for conn in handles}
        for conn in handles:
            conn.close()
        for number in old:
            server.kill_session(number)
        for _ in range(3):
            with pool.connection() as conn:
                assert session(conn) not in old


def test_a_pool_outlives_a_restart_of_the_server(own_mariadb: servers.Server, module: str) -> None:
    arguments = dirt_mysql.arguments(own_mariadb, module)
    with Pool(dirt_mysql.load(module), max_size=2, **arguments) as pool:
        with pool.connection() as conn:
            assert row(conn, "SELECT 1") == (1,)
        own_mariadb.restart()
        with pool.connection() as conn:
            assert row(conn, "SELECT 1") == (1,)


# -- tried again ----------------------------------------------------------------------------------


def change(conn: Any, number: int) -> None:
    run(conn, f"UPDATE t SET v = v + 1 WHERE id = {number}")


@pytest.fixture
def values(server: servers.Server) -> Iterator[Callable[[], list[int]]]:
    """The rows of `t` as committed; put back in the end."""
    server.query("REPLACE INTO t VALUES (1, 10), (2, 20)")
    yield lambda: [v for (v,) in server.query("SELECT v FROM t ORDER BY id")]
    server.query("REPLACE INTO t VALUES (1, 10), (2, 20)")


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_deadlock_is_tried_again(
    make_pool: MakePool, values: Callable[[], list[int]], autocommit: bool
) -> None:
    pool = make_pool(max_size=2, autocommit=autocommit)
    both_have_one = threading.Barrier(2)
    tries = [0, 0]

    def crosswise(me: int) -> Callable[[Any], None]:
        def work(conn: Any) -> None:
            tries[me] += 1
            change(conn, me + 1)
            if tries[me] == 1:
                both_have_one.wait(10)
            change(conn, 2 - me)

        return work

    threads = [threading.Thread(target=pool.run, args=(crosswise(me),)) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(tries) == [1, 2]
    assert values() == [12, 22]


def victim(pool: Pool, conn: Any) -> None:
    """Changes row 1, and loses that to a deadlock over row 2, which it swallows."""
    other = pool.connection()
    # The server sacrifices whoever has changed less.
    run(other, "BEGIN", "SELECT * FROM t WHERE id = 2 FOR UPDATE", "DELETE FROM many")
    change(conn, 1)
    thread = threading.Thread(target=change, args=(other, 1))
    thread.start()  # whoever of the two comes first: both wait for each other in the end
    with pytest.raises(Exception, match="(?i)deadlock"):
        change(conn, 2)
    thread.join(10)
    other.rollback()
    other.close()


@pytest.mark.parametrize("autocommit", [True, False])
def test_what_follows_a_deadlock_that_was_swallowed_is_not_committed(
    make_pool: MakePool, module: str, values: Callable[[], list[int]], autocommit: bool
) -> None:
    dbapi = dirt_mysql.load(module)
    pool = make_pool(max_size=2, autocommit=autocommit)
    nothing_more: list[Callable[[Any], object]] = [
        lambda conn: None,
        lambda conn: change(conn, 2),
        lambda conn: conn.cursor().callproc("sets_variable"),
    ]
    for more in nothing_more:
        with pytest.raises(dbapi.Error, match="(?i)deadlock") as caught:  # noqa: PT012
            with pool.transaction() as conn:
                victim(pool, conn)
                more(conn)
        assert faults.code_of(caught.value) == 1213
    with pool.transaction() as conn:
        victim(pool, conn)
        conn.rollback()
        change(conn, 2)

    assert values() == [10, 21]


def test_run_starts_over_after_a_deadlock_that_was_swallowed(
    make_pool: MakePool, values: Callable[[], list[int]]
) -> None:
    pool = make_pool(max_size=2)
    tries = []

    def work(conn: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            victim(pool, conn)
        else:
            change(conn, 1)
        change(conn, 2)

    pool.run(work)

    assert len(tries) == 2
    assert values() == [11, 21]


def test_a_plain_connection_goes_on_after_a_deadlock_as_the_drivers_does(
    make_pool: MakePool, values: Callable[[], list[int]]
) -> None:
    pool = make_pool(max_size=2)
    with pool.connection() as conn:
        victim(pool, conn)
        change(conn, 2)

    assert values() == [10, 21]


def test_a_lock_that_took_too_long_is_tried_again(
    make_pool: MakePool, values: Callable[[], list[int]]
) -> None:
    pool = make_pool(max_size=2, setup="SET SESSION innodb_lock_wait_timeout = 1")
    other = pool.connection()
    change(other, 1)
    tries = []

    def work(conn: Any) -> None:
        tries.append(1)
        change(conn, 2)
        try:
            change(conn, 1)
        finally:
            other.rollback()

    pool.run(work)
    other.close()

    assert len(tries) == 2
    assert values() == [11, 21]


def test_a_connection_killed_before_the_commit_is_tried_again(
    make_pool: MakePool, server: servers.Server, values: Callable[[], list[int]]
) -> None:
    pool = make_pool(max_size=1)
    sessions: list[int] = []

    def work(conn: Any) -> None:
        sessions.append(session(conn))
        change(conn, 1)
        if len(sessions) == 1:
            server.kill_session(sessions[0])
            change(conn, 2)

    pool.run(work)

    assert len(set(sessions)) == 2
    assert values() == [11, 20]


def test_a_connection_lost_during_the_commit_is_not_tried_again(
    make_pool: MakePool, relay: Relay, module: str, values: Callable[[], list[int]]
) -> None:
    pool = make_pool(max_size=1, host=relay.host, port=relay.port)
    calls: list[int] = []

    def work(conn: Any) -> None:
        calls.append(1)
        change(conn, 1)
        relay.cut_when = lambda data: re.search(b"commit", data, re.IGNORECASE) is not None

    with pytest.raises(CommitOutcomeUnknown, match="lost during COMMIT"):
        pool.run(work)
    relay.cut_when = lambda data: False

    assert calls == [1]
    servers.wait_for(
        lambda: values() == [11, 20], 5
    )  # it was committed, and nobody here could know
    with pool.connection() as conn:
        assert row(conn, "SELECT 1") == (1,)


def test_a_transaction_has_what_was_asked_and_leaves_nothing(
    make_pool: MakePool, module: str, values: Callable[[], list[int]]
) -> None:
    pool = make_pool(max_size=1, autocommit=True)
    with pool.transaction(isolation="SERIALIZABLE", readonly=False) as conn:
        change(conn, 1)
        first = session(conn)
    assert values() == [11, 20]
    errors = dirt_mysql.load(module).Error
    with pytest.raises(errors, match="READ ONLY"), pool.transaction(readonly=True) as conn:
        change(conn, 1)
    with pytest.raises(errors, match="no_such"), pool.transaction() as conn:
        run(conn, "UPDATE t SET v = 0 WHERE id = 1", "SELECT * FROM no_such")
    with pool.connection() as conn:
        change(conn, 2)
        assert row(conn, "SELECT @@autocommit, @@in_transaction") == (1, 0)
        assert session(conn) == first
    assert values() == [11, 21]


# -- what the collector does ------------------------------------------------------------------------


def in_a_cycle(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.me = cursor


def in_a_cycle_and_closed(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.me = cursor
    cursor.close()


def in_the_traceback_of_an_error_in_a_cycle(conn: Any) -> None:
    cursor = conn.cursor()
    try:
        cursor.execute("SELECT no_such_column")
    except Exception as exc:
        vars(exc)["me"] = exc


@pytest.mark.parametrize(
    "leave", [in_a_cycle, in_a_cycle_and_closed, in_the_traceback_of_an_error_in_a_cycle]
)
@pytest.mark.parametrize("returned", [False, True], ids=["lent", "returned"])
def test_a_cursor_that_the_collector_ends_leaves_its_connection_whole(
    make_pool: MakePool, leave: Callable[[Any], None], returned: bool
) -> None:
    # The mariadb driver would give back a reference to the connection that it never took.
    pool = make_pool(max_size=1)
    with pool.connection() as conn:
        raw = conn.driver_connection
    gc.collect()
    before = sys.getrefcount(raw)
    gc.disable()
    try:
        for _ in range(20):
            with pool.connection() as conn:
                leave(conn)
                if not returned:
                    gc.collect()
            gc.collect()
    finally:
        gc.enable()
    assert sys.getrefcount(raw) >= before
    with pool.connection() as conn:
        assert conn.driver_connection is raw
        assert row(conn, "SELECT 42") == (42,)


def test_cursors_that_end_without_the_collector_keep_nothing_alive(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1)
    with pool.connection() as conn:
        raw = conn.driver_connection
        before = sys.getrefcount(raw)
        for _ in range(20):
            assert row(conn, "SELECT 42") == (42,)
            conn.cursor()
        assert sys.getrefcount(raw) <= before


@pytest.mark.parametrize("autocommit", [False, True])
def test_pymysql_forgets_what_the_last_borrower_changed(
    server: servers.Server, autocommit: bool
) -> None:
    arguments = dirt_mysql.arguments(server, "pymysql", False)
    server.query(
        f"CREATE OR REPLACE TABLE {server.database}.ids (id INT PRIMARY KEY AUTO_INCREMENT)"
    )
    with Pool(dirt_mysql.load("pymysql"), max_size=1, autocommit=autocommit, **arguments) as pool:
        for _ in range(3):
            with pool.connection() as conn:
                assert (conn.affected_rows(), conn.insert_id()) == (0, 0)
                run(conn, "INSERT INTO ids VALUES ()")
                assert conn.affected_rows() == 1
                assert conn.insert_id() > 0
        assert pool.stats().opened == 1
