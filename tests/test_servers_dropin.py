"""The drop-ins for psycopg2.pool and mysql.connector.pooling on real servers: programs' own idioms."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dirt_mysql
import pytest
import servers

from dbapi_pool.dropin import mysql_connector_pooling as pooling
from dbapi_pool.dropin.dbutils import PooledDB
from dbapi_pool.dropin.mysql_connector_pooling import MySQLConnectionPool
from dbapi_pool.dropin.psycopg2_pool import (
    PersistentConnectionPool,
    PoolExhaustedError,
    SimpleConnectionPool,
    ThreadedConnectionPool,
)

PATIENCE = 60.0  # seconds; what is waited for comes at once
THREADS, TURNS, SIZE = 16, 40, 4


class Crowd:
    """Threads that share connections, and whoever holds one alone."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.holders: Counter[int] = Counter()
        self.sessions: set[int] = set()
        self._lock = threading.Lock()

    def holding(self, session: int) -> None:
        with self._lock:
            self.sessions.add(session)
            self.holders[session] += 1
            assert self.holders[session] == 1, f"two have session {session}"

    def done(self, session: int) -> None:
        with self._lock:
            self.holders[session] -= 1

    def run(self, turn: Callable[[int], None]) -> None:
        def work(me: int) -> None:
            try:
                for _ in range(TURNS):
                    turn(me)
            except BaseException as exc:
                self.errors.append(exc)

        threads = [threading.Thread(target=work, args=(me,)) for me in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
        assert self.errors == []


def row(conn: Any, sql: str) -> Any:
    cursor = conn.cursor()
    cursor.execute(sql)
    found = cursor.fetchone()
    cursor.close()
    return found


# -- psycopg2.pool --------------------------------------------------------------------------------


@pytest.fixture
def psycopg2(postgresql: servers.Server) -> Any:
    postgresql.query("SELECT 1")
    return servers.driver_module("psycopg2")


@pytest.fixture
def table(postgresql: servers.Server, psycopg2: Any) -> str:
    conn = psycopg2.connect(**postgresql.arguments("psycopg2"), options="-c lock_timeout=10s")
    conn.autocommit = True
    conn.cursor().execute("DROP TABLE IF EXISTS dropped_in; CREATE TABLE dropped_in (n INTEGER)")
    conn.close()
    return "dropped_in"


MakePool = Callable[..., Any]


@pytest.fixture
def make(postgresql: servers.Server, table: str) -> Iterator[MakePool]:
    made: list[Any] = []

    def make(minconn: int, maxconn: int, kind: Any = ThreadedConnectionPool, **more: Any) -> Any:
        arguments = postgresql.arguments("psycopg2")
        made.append(kind(minconn, maxconn, **arguments, **more))
        return made[-1]

    yield make
    for pool in made:
        if not pool.closed:
            pool.closeall()


def pid(conn: Any) -> int:
    return int(conn.info.backend_pid)


def leave_in_transaction(conn: Any) -> None:
    conn.cursor().execute("INSERT INTO dropped_in VALUES (1)")


def leave_failed(conn: Any) -> None:
    conn.cursor().execute("INSERT INTO dropped_in VALUES (1)")
    with suppress(Exception):
        conn.cursor().execute("SELECT nonsense")


def leave_begun_by_hand(conn: Any) -> None:
    conn.autocommit = True
    conn.cursor().execute("BEGIN")
    conn.cursor().execute("INSERT INTO dropped_in VALUES (1)")


def leave_committed_by_hand(conn: Any) -> None:
    conn.cursor().execute("SELECT 1")
    conn.cursor().execute("COMMIT")


def leave_a_session_changed(conn: Any) -> None:
    conn.cursor().execute("SET search_path TO nowhere")
    conn.commit()


def leave_idle(conn: Any) -> None:
    conn.cursor().execute("SELECT 1")
    conn.commit()


def leave_closed(conn: Any) -> None:
    conn.close()


def leave_in_a_block(conn: Any) -> None:
    conn.autocommit = True
    conn.__enter__()
    conn.cursor().execute("INSERT INTO dropped_in VALUES (1)")


@pytest.mark.parametrize(("leave", "kept"), [
    (leave_idle, True), (leave_in_transaction, True), (leave_failed, True),
    (leave_begun_by_hand, True), (leave_committed_by_hand, True), (leave_a_session_changed, True),
    (leave_in_a_block, True), (leave_closed, False),
])  # fmt: skip
def test_however_it_is_put_back_the_next_borrower_finds_it_as_if_new(
    make: MakePool, table: str, leave: Callable[[Any], None], kept: bool
) -> None:
    pool = make(1, 2)
    conn = pool.getconn()
    session = pid(conn)
    leave(conn)
    pool.putconn(conn)
    conn = pool.getconn()
    assert (pid(conn) == session) is kept
    assert (conn.autocommit, conn.info.transaction_status) == (False, 0)
    with conn:  # which psycopg2 would refuse if a block of before were still open
        conn.cursor().execute("INSERT INTO dropped_in VALUES (2)")
    assert row(conn, "SELECT string_agg(n::text, ',') FROM dropped_in") == ("2",)
    assert row(conn, "SHOW search_path") == ('"$user", public',)
    pool.putconn(conn)


def test_a_connection_in_the_middle_of_a_copy_is_closed_and_costs_no_place(
    make: MakePool, psycopg2: Any, table: str
) -> None:
    pool = make(1, 1)
    conn = pool.getconn()

    class Stuck:
        def read(self, size: int) -> str:
            pool.putconn(conn)  # by another thread, as far as the driver can tell
            raise LookupError

    with suppress(Exception):
        conn.cursor().copy_expert("COPY dropped_in FROM STDIN", Stuck())
    assert row(pool.getconn(), "SELECT count(*) FROM dropped_in") == (0,)


def test_sessions_that_the_server_ends_while_they_are_idle_are_not_lent(
    make: MakePool, postgresql: servers.Server
) -> None:
    pool = make(2, 3)
    postgresql.kill_sessions()
    lent = [pool.getconn() for _ in range(3)]
    assert [row(conn, "SELECT 1") for conn in lent] == [(1,)] * 3


def test_a_session_that_the_server_ends_while_it_is_lent_costs_one_error(
    make: MakePool, postgresql: servers.Server, psycopg2: Any
) -> None:
    pool = make(1, 1)
    conn = pool.getconn("key")
    postgresql.kill_session(pid(conn))
    with pytest.raises(psycopg2.Error):
        row(conn, "SELECT 1")
    assert pool.getconn("key") is conn
    pool.putconn(conn)
    assert row(pool.getconn("key"), "SELECT 1") == (1,)


def test_a_with_block_is_one_transaction_in_autocommit_mode_too(
    make: MakePool, psycopg2: Any, table: str
) -> None:
    pool = make(1, 1)
    conn = pool.getconn()
    conn.autocommit = True
    with conn, conn.cursor() as cursor:
        cursor.execute("INSERT INTO dropped_in VALUES (1)")
        assert conn.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_INTRANS
    with suppress(LookupError), conn:
        conn.cursor().execute("INSERT INTO dropped_in VALUES (2)")
        raise LookupError
    assert (conn.autocommit, row(conn, "SELECT n FROM dropped_in")) == (True, (1,))
    with conn, pytest.raises(psycopg2.ProgrammingError, match="re-entered"):
        conn.__enter__()
    pool.putconn(conn)


def test_a_block_in_which_a_swallowed_error_has_ended_the_transaction_says_so(
    make: MakePool, psycopg2: Any, table: str
) -> None:
    conn = make(1, 1).getconn()

    def use() -> None:
        with conn, conn.cursor() as cursor:
            cursor.execute("INSERT INTO dropped_in VALUES (1)")
            with suppress(psycopg2.Error):
                cursor.execute("SELECT nonsense")

    with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
        use()
    assert row(conn, "SELECT count(*) FROM dropped_in") == (0,)


def test_programs_that_catch_psycopg2s_own_error_go_on_doing_so(
    make: MakePool, psycopg2: Any
) -> None:
    theirs = pytest.importorskip("psycopg2.pool")
    pool = make(0, 1, SimpleConnectionPool)
    held = pool.getconn()
    with pytest.raises(theirs.PoolError, match="^connection pool exhausted"):
        pool.getconn()
    with pytest.raises(psycopg2.Error) as caught:
        pool.getconn()
    assert not isinstance(caught.value, psycopg2.OperationalError)
    pool.putconn(held)
    pool.closeall()
    with pytest.raises(theirs.PoolError, match="^connection pool is closed"):
        pool.getconn()


def test_what_belongs_to_psycopg2_works_on_a_borrowed_connection(
    make: MakePool, psycopg2: Any, table: str
) -> None:
    extras = pytest.importorskip("psycopg2.extras")
    pool = make(1, 1, cursor_factory=extras.DictCursor)
    conn = pool.getconn()
    assert isinstance(conn, psycopg2.extensions.connection)
    with conn, conn.cursor() as cursor:
        extras.execute_values(cursor, "INSERT INTO dropped_in VALUES %s", [(1,), (2,)])
        cursor.execute("SELECT sum(n) AS total FROM dropped_in")
        assert cursor.fetchone()["total"] == 3
        assert cursor.connection is conn
    conn.set_session(readonly=True)
    pool.putconn(conn)
    assert pool.getconn().readonly is None


def test_a_wrong_password_is_raised_at_once_and_shown_nowhere(
    postgresql: servers.Server, psycopg2: Any
) -> None:
    arguments = {**postgresql.arguments("psycopg2"), "password": "not-this-one"}
    with pytest.raises(psycopg2.OperationalError) as caught:
        ThreadedConnectionPool(1, 2, **arguments)
    assert "not-this-one" not in str(caught.value)


def test_psycopg_connects_where_it_is_the_creator(postgresql: servers.Server, table: str) -> None:
    psycopg = servers.driver_module("psycopg")

    class Pool(ThreadedConnectionPool):
        creator = psycopg

    pool = Pool(1, 2, **postgresql.arguments("psycopg"))
    conn = pool.getconn("key")
    for number in (1, 2):
        with conn:  # which psycopg's own would close
            conn.execute("INSERT INTO dropped_in VALUES (%s)", (number,))
    assert conn.execute("SELECT sum(n) FROM dropped_in").fetchone() == (3,)
    pool.putconn(conn, "key")
    held = [pool.getconn(), pool.getconn()]
    with pytest.raises(psycopg.Error) as caught:
        pool.getconn()
    assert isinstance(caught.value, PoolExhaustedError)
    del held
    pool.closeall()


@pytest.mark.parametrize("kind", ["without keys", "with keys", "by thread"])
def test_sixteen_threads_share_four_connections_of_psycopg2(
    make: MakePool, table: str, kind: str
) -> None:
    base = PersistentConnectionPool if kind == "by thread" else ThreadedConnectionPool

    class Waiting(base):  # type: ignore[misc, valid-type]
        pool_settings = {"checkout_timeout": PATIENCE}

    pool = make(SIZE, SIZE, Waiting)
    crowd = Crowd()

    def turn(me: int) -> None:
        conn = pool.getconn(f"thread {me}") if kind == "with keys" else pool.getconn()
        session = pid(conn)
        crowd.holding(session)
        with conn, conn.cursor() as cursor:
            cursor.execute("INSERT INTO dropped_in VALUES (1)")
        crowd.done(session)
        pool.putconn(conn)

    crowd.run(turn)
    assert len(crowd.sessions) <= SIZE
    assert row(pool.getconn(), "SELECT count(*) FROM dropped_in") == (THREADS * TURNS,)
    assert pool.pool.stats().opened == SIZE


# -- mysql.connector.pooling ----------------------------------------------------------------------


C_AND_PURE = ["mysql.connector", dirt_mysql.C_EXTENSION]


@pytest.fixture(params=C_AND_PURE)
def connector(request: pytest.FixtureRequest) -> str:
    dirt_mysql.load(request.param)
    return str(request.param)


@pytest.fixture
def config(mariadb_server: servers.Server, connector: str) -> dict[str, Any]:
    for database in (mariadb_server.database, mariadb_server.other_database):
        mariadb_server.query(f"CREATE OR REPLACE TABLE {database}.dropped_in (n INTEGER)")
    return dirt_mysql.arguments(mariadb_server, connector)


@pytest.fixture
def make_mysql(config: dict[str, Any]) -> Iterator[MakePool]:
    made: list[MySQLConnectionPool] = []

    def make(size: int, kind: Any = MySQLConnectionPool, **more: Any) -> Any:
        made.append(kind(pool_size=size, **{**config, **more}))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def test_the_driver_connects_with_and_without_its_c_extension(
    make_mysql: MakePool, connector: str
) -> None:
    cnx = make_mysql(1).get_connection()
    assert ("CMySQL" in cnx.__class__.__name__) is (connector == dirt_mysql.C_EXTENSION)
    assert cnx.is_connected()
    assert row(cnx, "SELECT CONNECTION_ID()") == (cnx.connection_id,)


@pytest.mark.parametrize("reset", [True, False])
def test_what_was_not_committed_is_rolled_back_and_variables_are_reset_if_asked(
    make_mysql: MakePool, reset: bool
) -> None:
    pool = make_mysql(1, pool_reset_session=reset)
    with pool.get_connection() as cnx:
        cnx.cursor().execute("SET @mine = 7")
        cnx.cursor().execute("INSERT INTO dropped_in VALUES (1)")
    with pool.get_connection() as cnx:
        found = row(cnx, "SELECT @mine, (SELECT count(*) FROM dropped_in)")
        assert found == (None if reset else 7, 0)
        cnx.cursor().execute("INSERT INTO dropped_in VALUES (1)")
        cnx.commit()
    with pool.get_connection() as cnx:
        assert row(cnx, "SELECT count(*) FROM dropped_in") == (1,)


def test_mysql_sessions_that_the_server_ends_while_they_are_idle_are_not_lent(
    make_mysql: MakePool, mariadb_server: servers.Server
) -> None:
    pool = make_mysql(2)
    for cnx in [pool.get_connection(), pool.get_connection()]:
        cnx.close()
    mariadb_server.kill_sessions()
    lent = [pool.get_connection() for _ in range(2)]
    assert [row(cnx, "SELECT 1") for cnx in lent] == [(1,)] * 2


def test_a_mysql_session_that_the_server_ends_while_it_is_lent_costs_one_error(
    make_mysql: MakePool, mariadb_server: servers.Server
) -> None:
    connector = servers.driver_module("mysql.connector")
    pool = make_mysql(1)
    cnx = pool.get_connection()
    mariadb_server.kill_session(cnx.connection_id)
    with pytest.raises(connector.Error):
        row(cnx, "SELECT 1")
    cnx.close()  # where mysql.connector's own raises
    assert row(pool.get_connection(), "SELECT 1") == (1,)


def test_a_ping_that_would_reconnect_pings(make_mysql: MakePool) -> None:
    connector = servers.driver_module("mysql.connector")
    cnx = make_mysql(1).get_connection()
    cnx.ping(reconnect=True, attempts=3, delay=0)
    with pytest.raises(connector.NotSupportedError, match="does not reconnect"):
        cnx.reconnect()


def test_another_configuration_leads_to_another_database(
    make_mysql: MakePool, mariadb_server: servers.Server, config: dict[str, Any]
) -> None:
    connector = servers.driver_module("mysql.connector")
    pool = make_mysql(2)
    before = pool.get_connection()
    pool.set_config(**{**config, "database": mariadb_server.other_database})
    with pool.get_connection() as cnx:
        cnx.cursor().execute("SET @mine = 7")  # and so after a full reset
    with pool.get_connection() as cnx:
        assert row(cnx, "SELECT DATABASE()") == (mariadb_server.other_database,)
    assert row(before, "SELECT DATABASE()") == (mariadb_server.database,)
    before.close()
    with pytest.raises(connector.PoolError, match="not valid: Unsupported argument 'colour'"):
        pool.set_config(**config, colour="blue")
    with pool.get_connection() as cnx:
        assert row(cnx, "SELECT DATABASE()") == (mariadb_server.other_database,)


def test_a_connection_of_another_database_is_exchanged_when_it_is_added(
    make_mysql: MakePool, mariadb_server: servers.Server, config: dict[str, Any]
) -> None:
    connector = servers.driver_module("mysql.connector")
    pool = make_mysql(1)
    pool.close()
    pool.add_connection(connector.connect(**{**config, "database": mariadb_server.other_database}))
    cnx = pool.get_connection()
    assert row(cnx, "SELECT DATABASE()") == (mariadb_server.database,)
    for thing in (cnx, object()):
        with pytest.raises(connector.PoolError, match="connection of mysql.connector can be added"):
            pool.add_connection(thing)
    with pytest.raises(connector.PoolError, match="^Failed adding connection; queue is full"):
        pool.add_connection()


def test_programs_that_catch_mysql_connectors_own_error_go_on_doing_so(
    make_mysql: MakePool,
) -> None:
    connector = servers.driver_module("mysql.connector")
    cnx = (pool := make_mysql(1)).get_connection()
    with pytest.raises(connector.errors.PoolError, match="^Failed getting connection; pool exhau"):
        pool.get_connection()
    with pytest.raises(connector.errors.PoolError, match="set_config"):
        cnx.config(user="other")
    cnx.close()
    with pytest.raises(connector.InterfaceError):
        cnx.cursor()


def test_cursors_and_attributes_are_mysql_connectors(make_mysql: MakePool) -> None:
    pool = make_mysql(1)
    with pool.get_connection() as cnx, cnx.cursor(dictionary=True) as cursor:
        cursor.execute("SELECT 1 AS one")
        assert cursor.fetchall() == [{"one": 1}]
        cnx.autocommit = True
        cursor.execute("INSERT INTO dropped_in VALUES (1)")
    with pool.get_connection() as cnx:
        assert (cnx.autocommit, row(cnx, "SELECT n FROM dropped_in")) == (False, (1,))


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    pools: dict[str, Any] = {}
    monkeypatch.setattr(pooling, "_pools", pools)
    yield pools
    for pool in pools.values():
        pool.close()


def test_connect_makes_a_pool_or_a_plain_connection(
    named: dict[str, Any], config: dict[str, Any]
) -> None:
    pooled = pooling.connect(pool_name="shop", pool_size=2, **config)
    same = pooling.connect(pool_name="shop", **config)
    assert (same.pool_name, list(named)) == ("shop", ["shop"])
    assert pooled.connection_id != same.connection_id
    plain = pooling.connect(**config)
    assert not hasattr(plain, "pool_name")
    plain.close()


def test_a_pool_may_be_asked_for_in_an_option_file(
    named: dict[str, Any], config: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "my.cnf"
    file.write_text("[connector_python]\npool_name = filed\npool_size = 1\n")
    cnx = pooling.connect(option_files=str(file), **config)
    assert (cnx.pool_name, named["filed"].pool_size) == ("filed", 1)
    cnx.close()
    assert pooling.connect(read_default_file=str(file), **config).pool_name == "filed"


def test_a_pool_goes_on_to_the_next_of_several_servers(
    named: dict[str, Any], config: dict[str, Any]
) -> None:
    here = {name: config.pop(name) for name in ("host", "port")}
    nowhere = {"host": here["host"], "port": servers.free_port(), "priority": 100}
    cnx = pooling.connect(
        pool_name="shop", pool_size=1, failover=[nowhere, {**here, "priority": 50}], **config
    )
    assert row(cnx, "SELECT 1") == (1,)


def test_sixteen_threads_share_four_connections_of_mysql_connector(
    make_mysql: MakePool, mariadb_server: servers.Server
) -> None:
    class Waiting(MySQLConnectionPool):
        pool_settings = {"checkout_timeout": PATIENCE}

    pool = make_mysql(SIZE, Waiting)
    crowd = Crowd()

    def turn(me: int) -> None:
        with pool.get_connection() as cnx:
            session = cnx.connection_id
            crowd.holding(session)
            cnx.cursor().execute("INSERT INTO dropped_in VALUES (1)")
            cnx.commit()
            crowd.done(session)

    crowd.run(turn)
    with pool.get_connection() as cnx:
        assert row(cnx, "SELECT count(*) FROM dropped_in") == (THREADS * TURNS,)
    assert len(crowd.sessions) == pool.pool.stats().opened == SIZE


# -- DBUtils --------------------------------------------------------------------------------------


def test_what_a_drivers_own_handles_add_they_have_behind_the_door_of_dbutils_too(
    mariadb_server: servers.Server,
) -> None:
    pymysql = servers.driver_module("pymysql")
    db = PooledDB(pymysql, maxconnections=1, **mariadb_server.arguments("pymysql"))
    con = db.connection()
    session = con.thread_id()
    con.ping(True)
    mariadb_server.kill_session(session)
    with pytest.raises(pymysql.Error):
        con.ping(True)  # which would go on in another session, and lose the transaction
    with pytest.raises(pymysql.NotSupportedError):
        con.connect()
    con.close()
    db.close()
