"""Programs that know of no pool, on real servers: with `dbapi-pool run` they print the same."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
from typing import Any

import pytest
import servers
from programs import FOLDER, PATIENCE

from dbapi_pool import manage, patch

MODULES = sorted(servers.FIXTURE_OF)


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> str:
    servers.driver_module(request.param)
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, module: str) -> Any:
    return request.getfixturevalue(servers.FIXTURE_OF[module])


def run(program: str, *args: str, before: tuple[str, ...] = (), **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, *before, str(FOLDER / program), *args],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


POOLED = ("-m", "dbapi_pool", "run")


def test_a_legacy_program_sees_the_same(module: str, server: Any) -> None:
    arguments = json.dumps(server.arguments(module))

    bare = run("legacy_idioms.py", module, ARGUMENTS=arguments)
    pooled = run("legacy_idioms.py", module, before=POOLED, ARGUMENTS=arguments)

    assert (bare.returncode, bare.stderr) == (0, "")
    assert pooled.stdout == bare.stdout
    assert (pooled.returncode, pooled.stderr) == (0, "")


def connect(server: Any, module: str, db: Any, **more: Any) -> Any:
    return db.connect(**{**server.arguments(module), **more})


@pytest.fixture
def db(module: str) -> Any:
    managed = manage(module)
    yield managed
    gc.collect()
    managed.close()


def test_connections_are_opened_once_and_used_again(module: str, server: Any, db: Any) -> None:
    for _ in range(5):
        conn = connect(server, module, db)
        cursor = conn.cursor()
        cursor.execute("SELECT 1")
        assert tuple(cursor.fetchone()) == (1,)
        cursor.close()
        conn.close()

    stats = db.stats()
    assert (stats.connects, stats.opened, stats.unpooled, stats.saved) == (5, 1, 0, 4)
    assert 0 < stats.connect_time < 30
    assert stats.first_connect_time == stats.connect_time
    assert stats.saved_time == pytest.approx(4 * stats.connect_time)


def test_sessions_end_with_the_module(module: str, server: Any) -> None:
    before = server.sessions()
    db = manage(module)
    conns = [connect(server, module, db) for _ in range(3)]
    assert server.sessions() == before + 3
    for conn in conns:
        conn.close()
    db.close()

    servers.wait_for(lambda: server.sessions() == before, 10)


def test_a_wrong_password_is_told_as_without(module: str, server: Any, db: Any) -> None:
    wrong = {"password": "wr0ng"}
    told = []
    for connecting in (db, servers.driver_module(module)):
        with pytest.raises(connecting.Error) as caught:
            connect(server, module, connecting, **wrong)
        told.append((type(caught.value), str(caught.value)))

    assert told[0] == told[1]
    assert "wr0ng" not in told[0][1]


OF_ITS_OWN: dict[str, dict[str, Any]] = {
    "pymysql": {"defer_connect": True},
    "psycopg2": {"async_": 1},
    "mysql.connector": {"pool_size": 2, "pool_name": "own"},
    "mariadb": {"reconnect": True},
}


@pytest.mark.parametrize("module", OF_ITS_OWN)
def test_what_the_driver_pools_or_leaves_open_by_itself_is_its_own(
    module: str, request: pytest.FixtureRequest
) -> None:
    driver = servers.driver_module(module)
    server = request.getfixturevalue(servers.FIXTURE_OF[module])
    db = manage(module)
    more = OF_ITS_OWN[module]
    conn, bare = (connect(server, module, one, **more) for one in (db, driver))

    assert type(conn) is type(bare)
    assert (db.stats().unpooled, db.pools()) == (1, ())
    if module != "pymysql":  # whose connection is not open
        conn.close()
        bare.close()


def test_a_session_that_was_changed_is_clean_for_the_next(
    module: str, server: Any, db: Any
) -> None:
    setting, query = {
        "postgresql": ("SET search_path TO nowhere", "SHOW search_path"),
        "mysql": ("SET SESSION sql_mode = 'ANSI'", "SELECT @@sql_mode"),
    }[servers.PLUGIN_OF[module]]
    found = []
    for _ in range(2):
        conn = connect(server, module, db)
        cursor = conn.cursor()
        cursor.execute(query)
        found += cursor.fetchall()
        cursor.execute(setting)
        cursor.close()
        conn.commit()
        conn.close()

    assert found[0] == found[1]


def test_a_session_that_was_killed_costs_nobody_anything_later(
    module: str, server: Any, db: Any
) -> None:
    connect(server, module, db).close()
    server.kill_sessions()

    conn = connect(server, module, db)
    cursor = conn.cursor()
    cursor.execute("SELECT 1")
    assert tuple(cursor.fetchall()[0]) == (1,)
    conn.close()


def test_functions_of_psycopg2_take_borrowed_connections_while_patched(postgresql: Any) -> None:
    psycopg2 = servers.driver_module("psycopg2")
    from psycopg2 import extensions, extras, sql

    originals = extensions.quote_ident, extensions.register_type, sql.Literal.as_string
    arguments = postgresql.arguments("psycopg2")
    with patch("psycopg2") as module:
        conn = psycopg2.connect(**arguments, cursor_factory=extras.RealDictCursor)
        assert extensions.quote_ident('a"b', conn) == '"a""b"'
        assert sql.SQL("SELECT {}").format(sql.Identifier("x")).as_string(conn) == 'SELECT "x"'
        assert sql.Literal("a'b").as_string(conn) == "'a''b'"
        extensions.register_type(extensions.UNICODE, conn)
        extras.register_json(conn, loads=str, oid=114, array_oid=199)  # has imported it by name
        for adapter in (extras.Json({}), extras.Inet("::1"), extensions.SQL_IN((1, "a"))):
            adapter.prepare(conn)
            assert adapter.getquoted()
        extras.register_uuid(conn_or_curs=conn)
        with conn, conn.cursor() as cursor:
            cursor.execute("SELECT 1 AS one")
            assert cursor.fetchone() == {"one": 1}
        with conn:
            pass
        assert conn.closed == 0
        conn.close()
        assert module.stats().opened == 1
    assert (
        extensions.quote_ident, extensions.register_type, sql.Literal.as_string
    ) == originals  # fmt: skip


def test_the_variables_that_libpq_reads_lead_to_other_pools(
    postgresql: Any, monkeypatch: Any
) -> None:
    servers.driver_module("psycopg2")
    db = manage("psycopg2")
    arguments = postgresql.arguments("psycopg2")
    del arguments["dbname"]
    found = []
    for name in (postgresql.database, postgresql.other_database, postgresql.database):
        monkeypatch.setenv("PGDATABASE", name)
        conn = db.connect(**arguments)
        cursor = conn.cursor()
        cursor.execute("SELECT current_database()")
        found += cursor.fetchall()
        assert "connect_timeout" not in conn.dsn
        conn.close()

    assert [name for (name,) in found] == [
        postgresql.database, postgresql.other_database, postgresql.database,
    ]  # fmt: skip
    assert (len(db.pools()), db.stats().opened) == (2, 2)
    db.close()


def test_an_interrupted_statement_costs_the_connection(mariadb_server: Any) -> None:
    pymysql = servers.driver_module("pymysql")
    db = manage("pymysql")
    conn = db.connect(**mariadb_server.arguments("pymysql"))
    previous = signal.signal(signal.SIGALRM, _interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            conn.cursor().execute("SELECT SLEEP(30)")
    finally:
        signal.signal(signal.SIGALRM, previous)
    conn.close()

    with db.connect(**mariadb_server.arguments("pymysql")) as other, other.cursor() as cursor:
        cursor.execute("SELECT 2")
        assert cursor.fetchone() == (2,)
    assert db.stats().opened == 2
    assert pymysql.connect is not db.connect
    db.close()


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def test_an_error_of_connecting_has_the_drivers_own_traceback(module: str) -> None:
    nobody = {"host": "127.0.0.1", "port": servers.free_port(), "user": "nobody"}
    text = f"import {module} as db\ndb.connect(**{nobody!r})\n"

    bare, pooled = (
        subprocess.run(
            [sys.executable, *how, "-"],
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        for how in ((), POOLED)
    )

    assert bare.returncode == pooled.returncode == 1
    expected = bare.stderr
    if (
        module == "pymysql"
    ):  # connects later, to share an SSL context: without this one of its frames
        before, _, rest = expected.partition(", in __init__\n")
        expected = before.rpartition("  File")[0] + rest.partition("\n")[2]
    assert pooled.stderr == expected
