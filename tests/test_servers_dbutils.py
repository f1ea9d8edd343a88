"""DBUtils' classes on real servers: what is prepared stays, what is lost is told, the dead replaced."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import servers

from dbapi_pool.dropin.dbutils import (
    LostTransactionError,
    PersistentDB,
    PooledDB,
    SteadyDBConnection,
    connect,
)

MODULES = sorted(servers.FIXTURE_OF)
PROGRAM = Path(__file__).parent / "programs" / "steady_forked.py"
PATIENCE = 60
QUICK = 0.5  # seconds that a ping may take, where it will hang
CUT = 15.0  # seconds in which a ping that hangs, and a connect that hangs, have been given up

SQL = {  # how to set a variable of the session's own, to read it, and to learn which session it is
    "postgresql": (
        "SET application_name = '{}'", "SHOW application_name", "SELECT pg_backend_pid()"
    ),
    "mariadb": ("SET @prepared = '{}'", "SELECT @prepared", "SELECT CONNECTION_ID()"),
}  # fmt: skip


class Database:
    """A server as one driver sees it, with a table of one column."""

    def __init__(self, server: servers.Server, module: ModuleType) -> None:
        self.server = server
        self.module = module
        self.arguments = server.arguments(module.__name__)
        kind = server.kind if server.kind in SQL else "mariadb"
        self._set, self.read_variable, self.which_session = SQL[kind]

    def set_variable(self, value: str) -> str:
        return self._set.format(value)

    def rows(self) -> list[int]:
        with self._connected() as cur:
            cur.execute("SELECT n FROM dbutils_test ORDER BY n")
            return [n for (n,) in cur.fetchall()]

    def run(self, *statements: str) -> None:
        with self._connected() as cur:
            for sql in statements:
                cur.execute(sql)

    def _connected(self) -> Any:
        con = connect(self.module, **self.arguments)

        class Cursor:
            def __enter__(self) -> Any:
                return con.cursor()

            def __exit__(self, *exc: object) -> None:
                con.commit()
                con.close()

        return Cursor()


@pytest.fixture
def database(request: pytest.FixtureRequest, module: str) -> Iterator[Database]:
    found = servers.driver_module(module)
    server: servers.Server = request.getfixturevalue(servers.FIXTURE_OF[module])
    database = Database(server, found)
    database.run("DROP TABLE IF EXISTS dbutils_test", "CREATE TABLE dbutils_test (n INTEGER)")
    yield database
    database.run("DROP TABLE dbutils_test")


@pytest.fixture
def own(request: pytest.FixtureRequest, module: str) -> Database:
    """On a server of this test's own."""
    found = servers.driver_module(module)
    return Database(request.getfixturevalue(servers.OWN_FIXTURE_OF[module]), found)


def one(cur: Any, sql: str) -> Any:
    cur.execute(sql)
    [(value,)] = cur.fetchall()
    return value


def insert(number: int) -> str:
    return f"INSERT INTO dbutils_test VALUES ({number})"


def in_threads(*acts: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run(act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []


# -- PooledDB -------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_setsession_outlasts_rollbacks_returns_and_resets(database: Database) -> None:
    setsession = [database.set_variable("prepared")]
    db = PooledDB(
        database.module, 1, 0, 0, 1, False, None, setsession, True, None, 1, None,
        **database.arguments,
    )  # fmt: skip
    for spoil in (insert(1), database.set_variable("spoilt")):
        con = db.connection()
        cur = con.cursor()
        assert one(cur, database.read_variable) in ("prepared", b"prepared")
        cur.execute(spoil)
        con.rollback()
        con.close()
    con = db.connection()
    assert one(con.cursor(), database.read_variable) in ("prepared", b"prepared")
    con.close()
    db.close()


@pytest.mark.parametrize("ping", [0, 1, 7, "SELECT 1", (7, "SELECT 1"), lambda conn: None])
@pytest.mark.parametrize("module", MODULES)
def test_a_session_killed_while_idle_costs_nobody_an_error(database: Database, ping: Any) -> None:
    # Without mincached: what is opened in the background would be killed while it connects.
    db = PooledDB(database.module, maxconnections=2, ping=ping, **database.arguments)
    for _ in range(3):
        database.server.kill_sessions()
        with db.connection() as con:
            assert one(con.cursor(), "SELECT 5") == 5
    db.close()


@pytest.mark.parametrize("module", MODULES)
def test_begin_begins_and_what_is_not_committed_is_gone(database: Database) -> None:
    db = PooledDB(database.module, maxconnections=1, **database.arguments)
    for number, end in ((1, "commit"), (2, "rollback"), (3, "close")):
        con = db.connection()
        if database.module.__name__ != "mariadb":  # its `begin` is a class method of another kind
            con.begin()
        con.cursor().execute(insert(number))
        getattr(con, end)()
        con.close()
    db.close()
    assert database.rows() == [1]


@pytest.mark.parametrize(("reset", "kept"), [(True, False), (False, True), (None, True)])
@pytest.mark.parametrize("module", MODULES)
def test_reset_says_whether_the_session_comes_back_as_if_new(
    database: Database, reset: bool | None, kept: bool
) -> None:
    db = PooledDB(database.module, maxconnections=1, reset=reset, **database.arguments)
    con = db.connection()
    con.cursor().execute(database.set_variable("mine"))
    con.commit()
    con.close()
    con = db.connection()
    assert (one(con.cursor(), database.read_variable) in ("mine", b"mine")) is kept
    con.close()
    db.close()


@pytest.mark.parametrize("parameters", [{}, {"isfatal": lambda exc: False}])
@pytest.mark.parametrize("module", MODULES)
def test_a_transaction_lost_while_borrowed_raises_and_its_connection_is_replaced(
    database: Database, parameters: dict[str, Any]
) -> None:
    db = PooledDB(database.module, maxconnections=1, **parameters, **database.arguments)
    con = db.connection()
    con.cursor().execute(insert(1))
    database.server.kill_sessions()
    with pytest.raises(database.module.Error):
        con.cursor().execute(insert(2))
    with pytest.raises(database.module.Error):
        con.commit()
    con.close()
    with db.connection() as con:
        con.cursor().execute(insert(3))
    db.close()
    assert database.rows() == [3]


@pytest.mark.parametrize("module", MODULES)
def test_failures_cost_the_connection_although_the_server_has_it_still(database: Database) -> None:
    db = PooledDB(
        database.module, maxconnections=1, failures=database.module.Error, **database.arguments
    )
    con = db.connection()
    with pytest.raises(database.module.Error):
        con.cursor().execute("SELECT no_such_column FROM dbutils_test")
    con.close()
    db.connection().close()
    assert db.pool.stats().closed == {"broken": 1}
    db.close()


@pytest.mark.parametrize("module", MODULES)
def test_a_dropped_connection_goes_back_to_the_pool(database: Database) -> None:
    db = PooledDB(database.module, maxconnections=1, **database.arguments)
    for number in range(3):
        db.connection().cursor().execute(insert(number))
    assert db.pool.stats().opened == 1
    db.close()
    assert database.rows() == []


# -- steady connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_between_transactions_a_killed_session_is_replaced_and_nothing_is_sent_twice(
    database: Database,
) -> None:
    con = connect(database.module, **database.arguments)
    cur = con.cursor()
    for number in range(5):
        cur.execute(insert(number))
        con.commit()
        database.server.kill_sessions()
    con.close()
    assert database.rows() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("module", MODULES)
def test_in_a_transaction_a_killed_session_raises_until_it_is_rolled_back(
    database: Database,
) -> None:
    con = connect(database.module, **database.arguments)
    cur = con.cursor()
    for number in range(3):
        cur.execute(insert(number))
        database.server.kill_sessions()
        with pytest.raises(database.module.Error):
            cur.execute(insert(10 + number))
        for use in (lambda: cur.execute(insert(20)), con.cursor):
            with pytest.raises(LostTransactionError) as caught:
                use()
            assert isinstance(caught.value, database.module.OperationalError)
        con.rollback()
    cur.execute(insert(7))
    con.commit()
    con.close()
    assert database.rows() == [7]


@pytest.mark.parametrize("module", MODULES)
def test_a_commit_that_was_lost_raises(database: Database) -> None:
    con = connect(database.module, **database.arguments)
    con.cursor().execute(insert(1))
    database.server.kill_sessions()
    with pytest.raises(database.module.Error):
        con.commit()
    con.cursor().execute(insert(2))
    con.commit()
    con.close()
    assert database.rows() == [2]


@pytest.mark.parametrize("module", MODULES)
def test_in_autocommit_mode_no_killed_session_costs_an_error(database: Database) -> None:
    if database.module.__name__ == "psycopg2":
        con = connect(database.module, **database.arguments)
        con.autocommit = True
    else:
        con = connect(database.module, autocommit=True, **database.arguments)
    cur = con.cursor()
    for number in range(5):
        cur.execute(insert(number))
        database.server.kill_sessions()
    assert one(cur, "SELECT count(*) FROM dbutils_test") == 5
    con.close()


@pytest.mark.parametrize("module", MODULES)
def test_setsession_prepares_every_session(database: Database) -> None:
    con = connect(
        database.module, setsession=[database.set_variable("prepared")], **database.arguments
    )
    for _ in range(3):
        assert one(con.cursor(), database.read_variable) in ("prepared", b"prepared")
        con.rollback()
        database.server.kill_sessions()
    con.close()


@pytest.mark.parametrize("module", MODULES)
def test_closing_ends_the_session(database: Database) -> None:
    con = connect(database.module, **database.arguments)
    session = one(con.cursor(), database.which_session)
    con.cursor().execute(insert(1))
    assert session in database.server.session_ids()
    con.close()
    servers.wait_for(lambda: session not in database.server.session_ids(), PATIENCE)
    assert database.rows() == []


@pytest.mark.parametrize("module", MODULES)
def test_a_server_that_was_restarted_is_found_again(own: Database) -> None:
    con = connect(own.module, **own.arguments)
    db = PersistentDB(own.module, **own.arguments)
    con.cursor()
    db.connection()
    own.server.stop()
    for use in (con.cursor, db.connection):
        with pytest.raises(own.module.Error):
            use()
    own.server.start()
    assert one(con.cursor(), "SELECT 5") == 5
    assert one(db.connection().cursor(), "SELECT 5") == 5
    con.close()


@pytest.mark.parametrize("module", ["psycopg", "psycopg2", "pymysql"])
def test_a_ping_that_hangs_is_cut_off(own: Database) -> None:
    class Impatient(SteadyDBConnection):
        pool_settings = {"ping_timeout": QUICK}

    con = Impatient(own.module, ping=4, connect_timeout=2, **own.arguments)
    cur = con.cursor()
    own.server.pause()
    start = time.monotonic()
    with pytest.raises(own.module.Error):
        cur.execute("SELECT 5")
    assert time.monotonic() - start < CUT
    own.server.resume()
    assert one(cur, "SELECT 5") == 5
    con.close()


# -- PersistentDB ---------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_each_thread_has_a_session_of_its_own_which_ends_with_it(database: Database) -> None:
    db = PersistentDB(database.module, **database.arguments)
    sessions: list[int] = []
    together = threading.Barrier(4, timeout=PATIENCE)

    def work(number: int) -> None:
        first = db.connection()
        together.wait()
        with db.connection() as con:
            assert con is first
            sessions.append(one(con.cursor(), database.which_session))
            con.cursor().execute(insert(number))
        together.wait()
        if number == 0:
            database.server.kill_sessions()
        together.wait()
        with db.connection() as con:
            sessions.append(one(con.cursor(), database.which_session))
            con.cursor().execute(insert(10 + number))

    in_threads(*(lambda number=number: work(number) for number in range(4)))  # type: ignore[misc]
    assert len(set(sessions)) == 8
    servers.wait_for(lambda: set(sessions).isdisjoint(database.server.session_ids()), PATIENCE)
    assert database.rows() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert db.pool.stats().in_use == 0


@pytest.mark.parametrize("module", MODULES)
def test_after_a_request_that_failed_the_next_one_works(database: Database) -> None:
    db = PersistentDB(database.module, **database.arguments)
    db.connection().cursor().execute(insert(1))
    database.server.kill_sessions()
    with pytest.raises(database.module.Error):
        db.connection().cursor().execute(insert(2))
    with db.connection() as con:
        con.cursor().execute(insert(3))
    assert database.rows() == [3]


# -- fork -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this platform has no os.fork")
@pytest.mark.parametrize("module", MODULES)
def test_a_child_has_sessions_of_its_own_and_the_parents_survive(database: Database) -> None:
    strict = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    arguments = json.dumps(database.arguments)
    done = subprocess.run(
        [sys.executable, *strict, PROGRAM, database.module.__name__, arguments],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert (done.stderr, done.stdout, done.returncode) == ("", "both sides worked\n", 0)
    with suppress(TimeoutError):
        servers.wait_for(lambda: database.rows() == [1, 2, 3, 4, 5, 6], 1)
    assert database.rows() == [1, 2, 3, 4, 5, 6]
