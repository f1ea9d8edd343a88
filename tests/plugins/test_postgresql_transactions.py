"""`pool.transaction()`, `pool.run()` and failing connections on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import servers
from relay import Relay

from dbapi_pool import CommitOutcomeUnknown, Pool, PoolSettingError, PoolTimeout

MODULES = ("psycopg2", "psycopg")

SCHEMA = """
    DROP TABLE IF EXISTS account;
    CREATE TABLE account (id int PRIMARY KEY, amount int NOT NULL);
    INSERT INTO account VALUES (1, 100), (2, 100)
"""


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> str:
    servers.driver_module(request.param)
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["transactional", "autocommit"])
def autocommit(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(postgresql: servers.Server, module: str) -> Iterator[MakePool]:
    pools: list[Pool] = []

    def make(autocommit: bool = False, **settings: Any) -> Pool:
        arguments = {**postgresql.arguments(module), **settings}

        def connect(**arguments: Any) -> Any:
            conn = servers.driver_module(module).connect(**arguments)
            conn.autocommit = autocommit
            return conn

        pools.append(Pool(connect, **{"max_size": 3, **arguments}))
        return pools[-1]

    yield make
    for pool in pools:
        assert pool.close()


@pytest.fixture
def pool(make_pool: MakePool) -> Pool:
    pool = make_pool()
    with pool.connection() as conn:
        run(conn, SCHEMA)
    return pool


def run(conn: Any, sql: str) -> list[Any]:
    cursor = conn.cursor()
    try:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()


def amounts(pool: Pool) -> list[int]:
    with pool.connection() as conn:
        return [amount for (amount,) in run(conn, "SELECT amount FROM account ORDER BY id")]


# -- transaction() --------------------------------------------------------------------------------


def test_a_transaction_is_real_and_everything_is_as_before(
    make_pool: MakePool, pool: Pool, autocommit: bool
) -> None:
    other = make_pool(autocommit, max_size=1)
    with other.transaction(isolation="serializable", readonly=False, deferrable=True) as conn:
        run(conn, "UPDATE account SET amount = 1 WHERE id = 1")
        assert run(conn, "SHOW transaction_isolation") == [("serializable",)]
        assert amounts(pool) == [100, 100]
        conn.commit()
        assert amounts(pool) == [1, 100]
        run(conn, "UPDATE account SET amount = 2 WHERE id = 1")
        conn.rollback()
    with pytest.raises(ZeroDivisionError):
        fail_in_a_transaction(other)
    with other.transaction() as conn:
        run(conn, "UPDATE account SET amount = 4 WHERE id = 2")

    assert amounts(pool) == [1, 4]
    with other.connection() as conn:
        assert conn.autocommit is autocommit
        assert conn.isolation_level is None
        assert conn.deferrable is None
        assert run(conn, "SHOW transaction_isolation") == [("read committed",)]
    assert other.stats().closed == {}


def fail_in_a_transaction(pool: Pool) -> None:
    with pool.transaction() as conn:
        run(conn, "UPDATE account SET amount = 3")
        raise ZeroDivisionError


def test_a_read_only_transaction_refuses_to_write(pool: Pool, module: str) -> None:
    errors = servers.driver_module(module).errors
    with pytest.raises(errors.ReadOnlySqlTransaction), pool.transaction(readonly=True) as conn:
        run(conn, "UPDATE account SET amount = 0")

    with pool.transaction() as conn:
        run(conn, "UPDATE account SET amount = 7")
    assert amounts(pool) == [7, 7]
    assert "failover" not in pool.stats().closed


def test_what_there_is_not_is_refused(pool: Pool) -> None:
    with pytest.raises(PoolSettingError, match="deferrable"):
        pool.transaction(mode="IMMEDIATE").__enter__()
    with pytest.raises(PoolSettingError, match="SNAPSHOT"):
        pool.run(lambda conn: None, isolation="SNAPSHOT")
    assert pool.stats().in_use == 0


def test_commit_commits_what_was_begun_by_hand(make_pool: MakePool, pool: Pool) -> None:
    with make_pool(autocommit=True).connection() as conn:
        run(conn, "BEGIN")
        run(conn, "UPDATE account SET amount = 5")
        conn.commit()
        run(conn, "BEGIN")
        run(conn, "UPDATE account SET amount = 6")

    assert amounts(pool) == [6, 6]  # leaving the block commits too


# -- a transaction that is lost --------------------------------------------------------------------


def spend_and_fail(conn: Any) -> None:
    """A statement fails, and the error is swallowed: the server will answer COMMIT with ROLLBACK."""
    run(conn, "UPDATE account SET amount = 0")
    with suppress(ZeroDivisionError, conn.DatabaseError):
        run(conn, "SELECT 1/0")


def in_connection(pool: Pool) -> None:
    with pool.connection() as conn:
        spend_and_fail(conn)


def in_transaction(pool: Pool) -> None:
    with pool.transaction() as conn:
        spend_and_fail(conn)


def in_run(pool: Pool) -> None:
    pool.run(spend_and_fail)


def by_hand_in_autocommit(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.autocommit = True
        run(conn, "BEGIN")
        spend_and_fail(conn)


@pytest.mark.parametrize("act", [in_connection, in_transaction, in_run, by_hand_in_autocommit])
def test_a_commit_that_commits_nothing_raises(
    pool: Pool, module: str, act: Callable[[Pool], None]
) -> None:
    errors = servers.driver_module(module).errors
    with pytest.raises(errors.InFailedSqlTransaction, match="nothing was committed"):
        act(pool)

    assert amounts(pool) == [100, 100]
    assert pool.stats().closed == {}


def test_after_a_commit_that_raised_a_new_transaction_begins(pool: Pool, module: str) -> None:
    errors = servers.driver_module(module).errors
    with pool.connection() as conn:
        spend_and_fail(conn)
        with pytest.raises(errors.InFailedSqlTransaction):
            conn.commit()
        run(conn, "UPDATE account SET amount = 7")

    assert amounts(pool) == [7, 7]


def test_a_savepoint_saves_the_transaction(pool: Pool) -> None:
    with pool.transaction() as conn:
        run(conn, "UPDATE account SET amount = 7")
        run(conn, "SAVEPOINT before")
        spend_and_fail(conn)
        run(conn, "ROLLBACK TO before")

    assert amounts(pool) == [7, 7]


def test_a_two_phase_commit_that_commits_nothing_raises(pool: Pool, module: str) -> None:
    errors = servers.driver_module(module).errors
    with pool.connection() as conn:
        conn.tpc_begin(conn.xid(1, "failed", ""))
        spend_and_fail(conn)
        with pytest.raises(errors.InFailedSqlTransaction, match="nothing was committed"):
            conn.tpc_commit()
        conn.tpc_begin(conn.xid(1, "good", ""))
        run(conn, "UPDATE account SET amount = 7")
        conn.tpc_commit()

    assert amounts(pool) == [7, 7]
    assert pool.stats().closed == {}


def spend_in_a_block(conn: Any) -> None:
    with conn.transaction():
        run(conn, "UPDATE account SET amount = 0")
    raise ZeroDivisionError


@pytest.mark.parametrize("module", ["psycopg"], indirect=True)
def test_a_block_of_psycopg_does_not_end_the_transaction_around_it(
    make_pool: MakePool, pool: Pool, autocommit: bool
) -> None:
    other = make_pool(autocommit, max_size=1)
    with pytest.raises(ZeroDivisionError), other.transaction() as conn:
        spend_in_a_block(conn)
    with pytest.raises(ZeroDivisionError):
        other.run(spend_in_a_block, isolation="SERIALIZABLE")
    assert amounts(pool) == [100, 100]

    with other.transaction() as conn, conn.transaction():
        run(conn, "UPDATE account SET amount = 7")
    assert amounts(pool) == [7, 7]
    with pytest.raises(ZeroDivisionError), other.connection() as conn:
        spend_in_a_block(conn)  # here it is a transaction of its own
    assert amounts(pool) == [0, 0]
    assert other.stats().closed == {}


@pytest.mark.parametrize("module", ["psycopg"], indirect=True)
def test_without_a_reset_a_block_is_still_its_own_transaction(
    make_pool: MakePool, pool: Pool
) -> None:
    other = make_pool(max_size=1, reset="none")
    with other.transaction() as conn:
        run(conn, "SELECT 1")
    conn = other.connection()
    with conn.transaction():
        run(conn, "UPDATE account SET amount = 7")
    assert amounts(pool) == [7, 7]
    conn.close()


@pytest.mark.parametrize("module", ["psycopg"], indirect=True)
def test_a_block_of_psycopg_that_commits_nothing_raises(pool: Pool) -> None:
    errors = servers.driver_module("psycopg").errors
    with pool.connection() as conn:
        with pytest.raises(errors.InFailedSqlTransaction), conn.transaction():
            spend_and_fail(conn)
        with conn.transaction(force_rollback=True):
            spend_and_fail(conn)
        with conn.transaction():
            with pytest.raises(errors.InFailedSqlTransaction), conn.transaction("saved"):
                spend_and_fail(conn)
            with pytest.raises(
                servers.driver_module("psycopg").ProgrammingError, match="forbidden"
            ):
                conn.commit()
            conn.execute("ROLLBACK TO SAVEPOINT saved")
        with conn.transaction():
            run(conn, "UPDATE account SET amount = 7")

    assert amounts(pool) == [7, 7]
    assert pool.stats().closed == {}


# -- run() ----------------------------------------------------------------------------------------


def test_a_serialization_failure_is_tried_again(pool: Pool) -> None:
    both = threading.Barrier(2, timeout=20)
    tries: list[str] = []

    def transfer(conn: Any) -> None:
        tries.append(threading.current_thread().name)
        (total,) = run(conn, "SELECT sum(amount) FROM account")[0]
        if tries.count(threading.current_thread().name) == 1:
            both.wait()  # each has read before the other writes
        number = 1 if threading.current_thread().name == "one" else 2
        run(conn, f"UPDATE account SET amount = {total} + {number} WHERE id = {number}")

    in_threads(
        one=lambda: pool.run(transfer, isolation="SERIALIZABLE"),
        two=lambda: pool.run(transfer, isolation="SERIALIZABLE"),
    )

    assert len(tries) == 3
    assert amounts(pool) in ([201, 303], [303, 202])


def test_a_deadlock_is_tried_again(pool: Pool) -> None:
    both = threading.Barrier(2, timeout=20)
    tries: list[str] = []

    def take_both(conn: Any) -> None:
        name = threading.current_thread().name
        tries.append(name)
        first, second = (1, 2) if name == "one" else (2, 1)
        run(conn, f"UPDATE account SET amount = amount + 1 WHERE id = {first}")
        if tries.count(name) == 1:
            both.wait()
        run(conn, f"UPDATE account SET amount = amount + 1 WHERE id = {second}")

    in_threads(one=lambda: pool.run(take_both), two=lambda: pool.run(take_both))

    assert len(tries) == 3
    assert amounts(pool) == [102, 102]


def in_threads(**jobs: Callable[[], object]) -> None:
    errors: list[BaseException] = []

    def work(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=[job], name=name) for name, job in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors


def test_a_lock_timeout_is_tried_again(pool: Pool) -> None:
    tries = []
    holder = pool.connection()
    run(holder, "UPDATE account SET amount = 0 WHERE id = 1")

    def locked(conn: Any) -> None:
        tries.append(1)
        if len(tries) == 3:
            holder.rollback()
        run(conn, "SELECT FROM account WHERE id = 1 FOR UPDATE NOWAIT")
        run(conn, "UPDATE account SET amount = 9 WHERE id = 1")

    pool.run(locked)
    holder.close()

    assert len(tries) == 3
    assert amounts(pool) == [9, 100]


def test_a_connection_lost_before_commit_is_tried_again(
    pool: Pool, postgresql: servers.Server
) -> None:
    backends = []

    def lost_once(conn: Any) -> None:
        run(conn, "UPDATE account SET amount = amount + 1")
        backends.append(conn.info.backend_pid)
        if len(backends) == 1:
            postgresql.kill_session(backends[0])
        run(conn, "UPDATE account SET amount = amount + 1")

    pool.run(lost_once)

    assert len(set(backends)) == 2
    assert amounts(pool) == [102, 102]


def test_another_error_is_not_tried_again(pool: Pool, module: str) -> None:
    tries = []

    def twice(conn: Any) -> None:
        tries.append(1)
        run(conn, "INSERT INTO account VALUES (1, 1)")

    with pytest.raises(servers.driver_module(module).IntegrityError):
        pool.run(twice)

    assert len(tries) == 1


def test_a_commit_that_fails_to_serialize_is_tried_again(pool: Pool) -> None:
    tries = []
    with pool.connection() as conn:
        run(conn, FAILING_COMMIT.format(action="RAISE SQLSTATE '40001'", number=1))

    def work(conn: Any) -> None:
        tries.append(1)
        run(conn, f"UPDATE account SET amount = {len(tries)} WHERE id = 1")

    pool.run(work)

    assert len(tries) == 2  # the trigger lets the second one pass
    assert amounts(pool) == [2, 100]


# A deferred constraint runs during COMMIT.
FAILING_COMMIT = """
    CREATE OR REPLACE FUNCTION during_commit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.amount = {number} THEN {action}; END IF;
        RETURN NULL;
    END $$;
    DROP TRIGGER IF EXISTS during_commit ON account;
    CREATE CONSTRAINT TRIGGER during_commit AFTER UPDATE ON account
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION during_commit()
"""


def test_a_connection_killed_during_commit_has_an_unknown_outcome(pool: Pool, module: str) -> None:
    tries = []
    with pool.connection() as conn:
        kill = "PERFORM pg_terminate_backend(pg_backend_pid())"
        run(conn, FAILING_COMMIT.format(action=kill, number=1))

    def work(conn: Any) -> None:
        tries.append(1)
        run(conn, "UPDATE account SET amount = 1 WHERE id = 1")

    with pytest.raises(CommitOutcomeUnknown) as caught:
        pool.run(work)

    assert isinstance(caught.value, servers.driver_module(module).OperationalError)
    assert len(tries) == 1
    assert amounts(pool) == [100, 100]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_wire_cut_after_commit_was_sent_has_an_unknown_outcome(
    pool: Pool, postgresql: servers.Server, module: str, tls: bool
) -> None:
    tries = []
    armed = threading.Event()
    with Relay(postgresql.host, postgresql.port) as relay:
        relay.cut_when = lambda data: armed.is_set()
        arguments = {**postgresql.arguments(module, tls=tls), "port": relay.port}
        if tls:
            arguments["sslmode"] = "verify-ca"
        with Pool(servers.driver_module(module), max_size=1, **arguments) as cut:

            def work(conn: Any) -> None:
                tries.append(1)
                run(conn, "UPDATE account SET amount = 55 WHERE id = 1")
                armed.set()

            with pytest.raises(CommitOutcomeUnknown):
                cut.run(work)
            armed.clear()
            with cut.connection() as conn:
                assert run(conn, "SELECT 1") == [(1,)]

    assert len(tries) == 1
    servers.wait_for(lambda: amounts(pool) == [55, 100], 10)  # it was committed, as it happens


# -- healing --------------------------------------------------------------------------------------


def test_wrong_passwords_are_told_at_once(postgresql: servers.Server, module: str) -> None:
    arguments = {**postgresql.arguments(module), "password": "wr0ng"}
    driver = servers.driver_module(module)
    with Pool(driver, **arguments) as pool:
        with pytest.raises(driver.OperationalError, match="password") as caught:
            pool.connection(timeout=20)
        assert not isinstance(caught.value, PoolTimeout)
        assert "wr0ng" not in str(caught.value)


def test_a_server_that_is_away_is_waited_for(own_postgresql: servers.Server, module: str) -> None:
    driver = servers.driver_module(module)
    with Pool(driver, max_size=2, **own_postgresql.arguments(module)) as pool:
        with pool.connection() as conn:
            run(conn, "SELECT 1")
        own_postgresql.stop()
        with pytest.raises(PoolTimeout) as caught:
            pool.connection(timeout=0.5)
        assert isinstance(caught.value.__cause__, driver.OperationalError)
        starter = threading.Thread(target=own_postgresql.start)
        starter.start()
        with pool.connection(timeout=30) as conn:
            assert run(conn, "SELECT 1") == [(1,)]
        starter.join()


def test_a_standby_is_left_for_the_new_primary(own_postgresql: servers.Server, module: str) -> None:
    driver = servers.driver_module(module)
    with Pool(driver, max_size=2, **own_postgresql.arguments(module)) as pool:
        own_postgresql.stop()
        signal = own_postgresql.folder / "data" / "standby.signal"
        signal.touch()
        own_postgresql.start()
        conns = [pool.connection(timeout=30) for _ in range(2)]
        with pytest.raises(driver.errors.ReadOnlySqlTransaction):
            run(conns[0], "CREATE TABLE t (n int)")
        own_postgresql.query("SELECT pg_promote()")
        for conn in conns:
            conn.close()
        with pool.connection(timeout=30) as conn:
            run(conn, "CREATE TABLE t (n int)")
        assert pool.stats().closed["failover"] >= 1


def test_a_url_opens_a_pool(postgresql: servers.Server, module: str) -> None:
    for tls in (False, True):
        with Pool(postgresql.url(module, tls=tls), max_size=1) as pool:
            with pool.connection() as conn:
                assert run(conn, "SELECT current_database()") == [(postgresql.database,)]
                encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                assert run(conn, encrypted) == [(tls,)]


def test_a_url_may_name_several_hosts(postgresql: servers.Server, module: str) -> None:
    closed = f"127.0.0.1:{servers.free_port()}"
    url = postgresql.url(module).replace("@127", f"@{closed},127")
    with Pool(url, max_size=1) as pool, pool.connection() as conn:
        assert run(conn, "SELECT 1") == [(1,)]
