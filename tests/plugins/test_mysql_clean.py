"""State bleed on MySQL and MariaDB: whatever one borrower leaves, the next one does not see.

Under default settings, on one connection; the dirt is in `tests/support/dirt_mysql.py`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

import dirt_mysql
import pytest
import servers
from dirt_mysql import ALL_ROWS, CAN_ASK, DRIVERS, FEW_ROWS, KEPT, row, run

from dbapi_pool import Pool
from dbapi_pool.testing.contract import Dirt


@pytest.fixture(scope="module")
def server(mariadb_server: servers.Server) -> servers.Server:
    dirt_mysql.prepare(mariadb_server)
    return mariadb_server


@pytest.fixture(params=DRIVERS)
def module(request: pytest.FixtureRequest) -> str:
    dirt_mysql.load(request.param)
    return str(request.param)


@pytest.fixture
def pool(server: servers.Server, module: str) -> Iterator[Pool]:
    dbapi = dirt_mysql.load(module)
    with Pool(dbapi, max_size=1, **dirt_mysql.arguments(server, module)) as pool:
        yield pool


def session(conn: Any) -> int:
    return int(row(conn, "SELECT CONNECTION_ID()")[0])


def kinds() -> list[Any]:
    """Every driver with its dirt. One that is not there is one parameter that skips, or fails."""
    found: list[Any] = []
    for module in DRIVERS:
        try:
            found += [pytest.param(module, d, id=f"{module}-{d}") for d in dirt_mysql.dirt(module)]
        except ImportError:
            found.append(pytest.param(module, None, id=module))
    return found


# Said by mysql-connector for what the borrower left.
@pytest.mark.filterwarnings("ignore:This version of the server does not support Query Attributes")
@pytest.mark.parametrize(("module", "dirt"), kinds())
def test_the_next_borrower_sees_nothing(server: servers.Server, module: str, dirt: Dirt) -> None:
    dbapi = dirt_mysql.load(module)
    with Pool(dbapi, max_size=1, **dirt_mysql.arguments(server, module)) as pool:
        conn = pool.connection()
        first, clean = session(conn), dirt.look(conn)
        conn.close()

        conn = pool.connection()
        dirt.act(conn)
        dirty = dirt.look(conn)
        conn.close()
        conn = pool.connection()
        dirt.act(conn)
        conn.close()

        conn = pool.connection()
        assert dirt.look(conn) == clean
        assert (session(conn) != first) == dirt.replaced, pool.stats().closed
        conn.close()
    assert dirty != clean, "this dirt shows nothing"


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "dropped"])
@pytest.mark.parametrize("read", [True, False], ids=["half-read", "unread"])
def test_a_short_result_that_was_not_read_costs_no_connection(
    pool: Pool, module: str, read: bool, kept: bool
) -> None:
    args, kwargs = dirt_mysql.unbuffered(module)
    conn = pool.connection()
    first = session(conn)
    dirt_mysql.left_open(FEW_ROWS, read, *args, **kwargs)(conn)
    if not kept:
        KEPT.clear()
        gc.collect()
    conn.close()

    with pool.connection() as conn:
        assert CAN_ASK(conn) == "done"
        assert session(conn) == first
    KEPT.clear()


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("read", [True, False], ids=["half-read", "unread"])
def test_a_long_result_that_was_not_read_is_not_read_by_the_pool(
    server: servers.Server, module: str, read: bool, autocommit: bool
) -> None:
    dbapi = dirt_mysql.load(module)
    args, kwargs = dirt_mysql.unbuffered(module)
    with Pool(
        dbapi, max_size=1, autocommit=autocommit, **dirt_mysql.arguments(server, module)
    ) as pool:
        conn = pool.connection()
        first = session(conn)
        dirt_mysql.left_open(ALL_ROWS, read, *args, **kwargs)(conn)
        conn.close()

        with pool.connection() as conn:
            assert CAN_ASK(conn) == "done"
            assert session(conn) != first
        KEPT.clear()
        gc.collect()  # a finalizer that reads on would complain here


# -- cut short ------------------------------------------------------------------------------------


def _while_fetching(conn: Any, module: str) -> None:
    """KeyboardInterrupt when the second row has come in, but was not yet given: it is lost."""
    args, kwargs = dirt_mysql.unbuffered(module)
    cursor = conn.cursor(*args, **kwargs)
    KEPT.append(cursor)
    cursor.execute(FEW_ROWS)
    cursor.fetchone()
    owner, name = {
        "pymysql": lambda raw: (raw, "_read_packet"),
        "mysql.connector": lambda raw: (raw._socket, "recv"),
    }[module](conn._lease.member.conn)
    read = getattr(owner, name)

    def interrupted(*args: Any, **kwargs: Any) -> None:
        setattr(owner, name, read)
        read(*args, **kwargs)
        raise KeyboardInterrupt

    setattr(owner, name, interrupted)
    cursor.fetchone()


def _while_executing(conn: Any, module: str) -> None:
    """KeyboardInterrupt when the columns are known, and no row."""
    from mariadb.cursors import Cursor

    class Interrupted(Cursor):  # type: ignore[misc]
        def _initresult(self) -> None:
            raise KeyboardInterrupt

    cursor = conn.cursor(Interrupted, buffered=False)
    KEPT.append(cursor)
    cursor.execute(FEW_ROWS)


INTERRUPTED = [
    ("pymysql", _while_fetching),
    ("mysql.connector", _while_fetching),
    ("mariadb", _while_executing),
]


@pytest.mark.parametrize(("module", "act"), INTERRUPTED, ids=[name for name, _ in INTERRUPTED])
def test_a_conversation_that_was_cut_short_is_not_gone_on_with(
    server: servers.Server, module: str, act: Any
) -> None:
    """Reading on would wait for rows that have come already; in mariadb it would crash."""
    dbapi = dirt_mysql.load(module)
    with Pool(dbapi, max_size=1, **dirt_mysql.arguments(server, module)) as pool:
        conn = pool.connection()
        first = session(conn)
        with pytest.raises(KeyboardInterrupt):
            act(conn, module)
        started = time.monotonic()
        conn.close()
        assert time.monotonic() - started < 0.5

        with pool.connection() as conn:
            assert CAN_ASK(conn) == "done"
            assert session(conn) != first
        assert pool.stats().closed == {"broken": 1}
        KEPT.clear()
        gc.collect()  # a finalizer that reads on would complain here


def test_an_answer_that_came_too_late_is_given_to_nobody(
    server: servers.Server, module: str
) -> None:
    dbapi = dirt_mysql.load(module)
    arguments = {**dirt_mysql.arguments(server, module), "read_timeout": 1}
    with Pool(dbapi, max_size=1, **arguments) as pool:
        conn = pool.connection()
        with pytest.raises(dbapi.Error):
            run(conn, "UPDATE t SET v = v WHERE id = 1 AND SLEEP(1.2) = 0")
        conn.close()
        with pool.connection() as conn:
            for number in range(3):
                assert row(conn, f"SELECT {number}") == (number,)
        assert pool.stats().closed == {"broken": 1}

        conn = pool.connection()
        with pytest.raises(dbapi.Error):
            run(conn, "SELECT SLEEP(3)")
        started = time.monotonic()
        conn.close()
        assert time.monotonic() - started < 0.5, "it waits for an answer"


def test_a_cursor_of_a_connection_that_was_thrown_away_reads_no_more(
    pool: Pool, module: str
) -> None:
    conn = pool.connection()
    args, kwargs = dirt_mysql.unbuffered(module)
    dirt_mysql.left_open(ALL_ROWS, True, *args, **kwargs)(conn)
    conn.invalidate()
    KEPT.clear()
    gc.collect()  # a finalizer that reads on would complain here

    with pool.connection() as conn:
        assert CAN_ASK(conn) == "done"


@pytest.mark.parametrize("settings", [
    {"charset": "latin1"},
    {"sql_mode": "ANSI"},
    {"init_command": "SET @mine = 5, lc_time_names = 'de_DE'"},
    {"autocommit": True},
    {"setup": ["SET @mine = 7", "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"]},
], ids=lambda settings: next(iter(settings)))  # fmt: skip
def test_a_reset_keeps_what_the_connection_was_made_with(
    server: servers.Server, module: str, settings: dict[str, Any]
) -> None:
    if module == "mariadb" and set(settings) & {"charset", "sql_mode"}:
        pytest.skip("this driver takes no such argument")
    dbapi = dirt_mysql.load(module)
    look = dirt_mysql.looks(
        "@@character_set_client, @@collation_connection, @@sql_mode, @@lc_time_names, @mine,"
        " @@autocommit, @@session.tx_isolation, DATABASE()"
    )
    with Pool(dbapi, max_size=1, **dirt_mysql.arguments(server, module), **settings) as pool:
        conn = pool.connection()
        first, before = session(conn), look(conn)
        run(conn, "SET @other = 1", "SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SET @mine = 1",
            "SET sql_mode = ''", "SET lc_time_names = 'fr_FR'", "USE pool_other")  # fmt: skip
        conn.close()

        with pool.connection() as conn:
            assert look(conn) == before
            assert session(conn) == first


def test_a_connection_without_a_database_gets_none(server: servers.Server, module: str) -> None:
    dbapi = dirt_mysql.load(module)
    arguments = dirt_mysql.arguments(server, module)
    arguments.pop("database", None)
    arguments.pop("db", None)
    with Pool(dbapi, max_size=1, **arguments) as pool:
        with pool.connection() as conn:
            run(conn, "SET @x = 1")
            first = session(conn)
        with pool.connection() as conn:
            assert session(conn) == first
            run(conn, "USE pool")
        with pool.connection() as conn:
            assert row(conn, "SELECT DATABASE()") == (None,)


def test_a_creator_of_the_users_that_sets_nothing_is_reset_in_place(
    server: servers.Server, module: str
) -> None:
    dbapi = dirt_mysql.load(module)
    with Pool(lambda: dbapi.connect(**dirt_mysql.arguments(server, module)), max_size=1) as pool:
        sessions = set()
        for _ in range(3):
            with pool.connection() as conn:
                sessions.add(session(conn))
                assert row(conn, "SELECT @x") == (None,)
                run(conn, "SET @x = 1")
    # mysqlclient can be reset with the password alone, which is the creator's secret.
    assert len(sessions) == (3 if module == "MySQLdb" else 1)


def test_what_a_creator_of_the_users_sets_is_never_lost(
    server: servers.Server, module: str
) -> None:
    dbapi = dirt_mysql.load(module)

    def connect() -> Any:
        conn = dbapi.connect(**dirt_mysql.arguments(server, module))
        cursor = conn.cursor()
        cursor.execute("SET lc_time_names = 'de_DE'")
        cursor.close()
        return conn

    with Pool(connect, max_size=1) as pool:
        for _ in range(3):
            with pool.connection() as conn:
                assert row(conn, "SELECT @@lc_time_names, @x") == ("de_DE", None)
                run(conn, "SET lc_time_names = 'fr_FR'", "SET @x = 1")


def test_another_user_does_not_stay(server: servers.Server, module: str) -> None:
    dbapi = dirt_mysql.load(module)
    change = "cmd_change_user" if module.startswith("mysql.connector") else "change_user"
    if module == "pymysql":
        pytest.skip("PyMySQL has no change_user")
    with Pool(dbapi, max_size=1, **dirt_mysql.arguments(server, module)) as pool:
        conn = pool.connection()
        getattr(conn, change)(server.admin_user, "admin", server.database)
        assert row(conn, "SELECT CURRENT_USER()") == ("admin@%",)
        conn.close()
        with pool.connection() as conn:
            assert row(conn, "SELECT CURRENT_USER()") == ("pool@%",)
