"""Django's backends over a pool: what is borrowed, when it goes back, and what settings mean."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import documents
import programs
import pytest
import servers

documents.require("django")

import django  # noqa: E402
from django.conf import settings  # noqa: E402

if not settings.configured:
    settings.configure(SECRET_KEY="for the tests", USE_TZ=True)
    django.setup()

from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.db import OperationalError, transaction  # noqa: E402
from django.db.utils import ConnectionHandler  # noqa: E402

from dbapi_pool import PoolTimeout  # noqa: E402

BACKENDS = {"sqlite3": "sqlite3", "psycopg": "postgresql", "MySQLdb": "mysql"}
"""DB-API module to backend."""
LEAVE = {
    "sqlite3": ("CREATE TEMP TABLE mine (x INTEGER)", "SELECT count(*) FROM sqlite_temp_master", 0),
    "psycopg": ("SET work_mem TO '7MB'", "SHOW work_mem", "4MB"),
    "MySQLdb": ("SET @mine = 7", "SELECT @mine", None),
}
"""What a borrower leaves behind, how the next one would see it, and what it must see."""
SESSION = {"psycopg": "SELECT pg_backend_pid()", "MySQLdb": "SELECT CONNECTION_ID()"}


class Regret(Exception):
    """What ends a block."""


@pytest.fixture(params=BACKENDS)
def module(request: pytest.FixtureRequest) -> str:
    servers.driver_module(request.param)
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, module: str) -> servers.Server | None:
    fixture = servers.FIXTURE_OF.get(module)
    return request.getfixturevalue(fixture) if fixture else None


def database(module: str, server: Any, folder: Any, **options: Any) -> dict[str, Any]:
    engine = {"ENGINE": f"dbapi_pool.django.{BACKENDS[module]}", "OPTIONS": {**options}}
    if server is None:
        return {**engine, "NAME": f"{folder}/shop.db"}
    if module == "MySQLdb":
        engine["OPTIONS"]["ssl_mode"] = "DISABLED"
    return {
        **engine, "HOST": server.host, "PORT": server.port, "USER": server.user,
        "PASSWORD": server.password, "NAME": server.database,
    }  # fmt: skip


@pytest.fixture
def make(
    request: pytest.FixtureRequest, module: str, server: Any, tmp_path: Any
) -> Iterator[Callable[..., Any]]:
    """Makes the databases of a project, with one whose alias is the test's name."""
    handlers = []

    def make(pool: Any = None, **changes: Any) -> Any:
        given = database(module, server, tmp_path, pool=pool or {"max_size": 2})
        handler = ConnectionHandler({"default": {}, request.node.name: {**given, **changes}})
        handlers.append(handler)
        return handler

    yield make
    for handler in handlers:
        handler[request.node.name].close()
        if hasattr(handler[request.node.name], "close_pool"):
            handler[request.node.name].close_pool()


@pytest.fixture
def handler(make: Callable[..., Any]) -> Any:
    return make()


@pytest.fixture
def connection(request: pytest.FixtureRequest, handler: Any) -> Any:
    connection = handler[request.node.name]
    run(connection, "DROP TABLE IF EXISTS django_item")
    run(connection, "CREATE TABLE django_item (name VARCHAR(20))")
    connection.close()
    return connection


def run(connection: Any, sql: str, *params: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        return list(cursor.fetchall()) if cursor.description else []


def insert(connection: Any, name: str) -> None:
    run(connection, "INSERT INTO django_item (name) VALUES (%s)", name)


def names(connection: Any) -> list[str]:
    return [name for (name,) in run(connection, "SELECT name FROM django_item ORDER BY name")]


def atomic(connection: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`transaction.atomic()`, which looks for connections in the one handler of a project."""
    monkeypatch.setattr(transaction, "get_connection", lambda using=None: connection)
    return transaction.atomic()


# -- everyday use ----------------------------------------------------------------------------------


def test_requests_borrow_one_connection_after_the_other_and_need_no_reset(connection):
    pool = connection.dbapi_pool
    prepared = []
    original = pool.driver.reset_session
    pool.driver.reset_session = lambda *args: prepared.append(args) or original(*args)
    before = pool.stats()
    for number in range(20):  # as the end of each request does
        insert(connection, str(number))
        assert pool.stats().in_use == 1
        assert connection.get_autocommit()
        connection.close_if_unusable_or_obsolete()
        connection.close()
    after = pool.stats()

    assert len(names(connection)) == 20
    assert (after.opened, after.closed, prepared) == (before.opened, before.closed, [])
    assert (after.checkouts - before.checkouts, after.in_use) == (20, 0)


def test_atomic_commits_and_rolls_back(connection, monkeypatch):
    with atomic(connection, monkeypatch):
        insert(connection, "kept")
        with suppress(Regret), atomic(connection, monkeypatch):  # a savepoint
            insert(connection, "lost")
            raise Regret
        assert not connection.get_autocommit() or connection.vendor == "sqlite"
    with suppress(Regret), atomic(connection, monkeypatch):
        insert(connection, "lost too")
        raise Regret
    connection.close()

    assert names(connection) == ["kept"]


def test_a_transaction_that_was_left_open_is_rolled_back(connection):
    connection.ensure_connection()
    connection.set_autocommit(False)
    insert(connection, "lost")
    connection.close()

    assert connection.dbapi_pool.stats().in_use == 0
    assert names(connection) == []
    assert connection.get_autocommit()


def test_the_next_borrower_sees_nothing_of_the_one_before(connection, module):
    leave, look, expected = LEAVE[module]
    run(connection, leave)
    connection.close()

    assert run(connection, look) == [(expected,)]


def test_connections_are_prepared_as_django_does_it_also_after_a_reset(connection, module):
    look = {
        "sqlite3": ("SELECT regexp('a.c', 'abc'), foreign_keys FROM pragma_foreign_keys", (1, 1)),
        "psycopg": ("SELECT current_setting('TimeZone'), 1", ("UTC", 1)),
        "MySQLdb": ("SELECT @@tx_isolation, 1", ("READ-COMMITTED", 1)),
    }  # fmt: skip
    sql, expected = look[module]
    for _ in range(2):
        assert run(connection, sql) == [expected]
        run(connection, LEAVE[module][0])
        connection.close()


def test_rows_come_by_a_cursor_of_the_server(connection):
    for name in "abc":
        insert(connection, name)
    with connection.chunked_cursor() as cursor:
        cursor.execute("SELECT name FROM django_item ORDER BY name")
        assert list(cursor.fetchmany(1)) == [("a",)]
    connection.close()

    assert connection.dbapi_pool.stats().in_use == 0


def test_threads_take_turns_with_the_connections(request, connection, handler):
    alias = request.node.name
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                names(handler[alias])
                handler[alias].close()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stats = connection.dbapi_pool.stats()
    assert (failures, stats.in_use, stats.timeouts) == ([], 0, 0)
    assert stats.size <= 2


def test_who_waits_in_vain_gets_djangos_error_with_the_lines(request, make):
    alias = request.node.name
    handler = make({"max_size": 1, "checkout_timeout": 0.5})
    run(handler[alias], "SELECT 1")
    told: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(OperationalError) as failed:
            run(handler[alias], "SELECT 1")
        told.append(failed.value)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()

    assert isinstance(told[0].__cause__, PoolTimeout)
    assert os.path.basename(__file__) in str(told[0])


# -- when things break -----------------------------------------------------------------------------


def test_nobody_notices_that_an_idle_session_was_killed(connection, module, server):
    if server is None:
        pytest.skip("SQLite has no sessions")
    [(session,)] = run(connection, SESSION[module])
    connection.close()
    server.kill_session(session)

    assert names(connection) == []
    assert connection.dbapi_pool.stats().closed["dead"] == 1


def test_a_killed_session_is_replaced_at_the_end_of_the_request(connection, module, server):
    if server is None:
        pytest.skip("SQLite has no sessions")
    [(session,)] = run(connection, SESSION[module])
    server.kill_session(session)
    with pytest.raises(OperationalError):
        names(connection)
    connection.close_if_unusable_or_obsolete()

    assert names(connection) == []
    assert connection.dbapi_pool.stats().closed["broken"] == 1


# -- life cycle ------------------------------------------------------------------------------------


def test_a_closed_pool_makes_place_for_another(connection):
    before = connection.dbapi_pool
    connection.close_pool()

    assert before.closed
    assert names(connection) == []
    assert connection.dbapi_pool is not before


def test_other_settings_make_another_pool(request, connection, server, tmp_path):
    before = connection.dbapi_pool
    connection.settings_dict["NAME"] = server.other_database if server else f"{tmp_path}/other.db"
    run(connection, "SELECT 1")

    assert connection.dbapi_pool is not before
    assert before.closed


def test_a_pool_is_made_once_and_opens_what_it_is_told_to(request, make):
    handler = make({"min_size": 1, "max_size": 2})
    pool = handler[request.node.name].dbapi_pool

    servers.wait_for(lambda: pool.stats().opened == 1, 10)
    assert handler[request.node.name].dbapi_pool is pool
    assert (pool.min_size, pool.name) == (1, f"django-{request.node.name}")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_borrows_anew(module, server, tmp_path):
    given = json.dumps(database(module, server, tmp_path, pool={"max_size": 2}))

    assert programs.run_well("django_forked.py", given) == "both sides worked\n"


# -- settings --------------------------------------------------------------------------------------


def test_without_a_pool_it_is_djangos_own(request, make, server, module, tmp_path):
    handler = make()
    connection = handler[request.node.name]
    connection.settings_dict["OPTIONS"]["pool"] = False
    run(connection, "SELECT 1")

    assert connection.dbapi_pool is None
    assert type(connection.connection).__module__.partition(".")[0] == module


def test_health_checks_ping_at_every_checkout(request, make):
    pool = make(CONN_HEALTH_CHECKS=True)[request.node.name].dbapi_pool
    assert pool._options.ping_after == 0


@pytest.mark.parametrize(
    ("pool", "changes", "text"),
    [
        ({"max_size": 3}, {"CONN_MAX_AGE": 60}, "CONN_MAX_AGE=60"),
        ({"setup": "SELECT 1"}, {}, "'setup'"),
        ({"max_size": 0}, {}, "max_size=0"),
        ({"maximum": 3}, {}, "maximum"),
        ("twenty", {}, "'twenty'"),
    ],
)
def test_what_cannot_work_is_refused(request, make, pool, changes, text):
    connection = make(pool, **changes)[request.node.name]
    with pytest.raises(ImproperlyConfigured, match=text) as refused:
        connection.ensure_connection()
    assert "p@ss/w%rd:1" not in str(refused.value)


def test_databases_in_memory_are_not_pooled():
    for name in (":memory:", "file:shop?mode=memory&cache=shared"):
        handler = ConnectionHandler(
            {"default": {"ENGINE": "dbapi_pool.django.sqlite3", "NAME": name}}
        )
        run(handler["default"], "CREATE TABLE django_item (name VARCHAR(20))")
        handler["default"].close()  # which Django does not do, then
        assert names(handler["default"]) == []
        assert handler["default"].dbapi_pool is None
        handler["default"].connection.close()
