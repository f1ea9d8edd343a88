"""P3 clean, on a real PostgreSQL: what one borrower leaves behind, the next does not see.

The dirt itself is data: `tests/support/dirt_postgresql.py`.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import dirt_postgresql
import pytest
import servers
from dirt_postgresql import dirt_of, run, running, shown, value

from dbapi_pool import Pool
from dbapi_pool.testing.contract import Dirt

MODULES = ("psycopg2", "psycopg")
modules = pytest.mark.parametrize("module", MODULES)
MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool(postgresql: servers.Server) -> Iterator[MakePool]:
    pools: list[Pool] = []

    def make(module: str, **settings: Any) -> Pool:
        settings = {"max_size": 1, **settings}
        creator = servers.driver_module(module)
        pools.append(Pool(creator, **postgresql.arguments(module), **settings))
        return pools[-1]

    yield make
    dirt_postgresql.KEPT.clear()
    for pool in pools:
        assert pool.close()


def pid(conn: Any) -> int:
    return int(value(conn, "SELECT pg_backend_pid()"))


def known_dirt() -> list[Any]:
    """Every dirt of every driver that is installed; for the others one that says so."""
    found = []
    for module in MODULES:
        try:
            dirt = dirt_of(module)
        except ImportError:
            dirt = dirt_postgresql.SERVER_SIDE[:1]
        found += [pytest.param(module, one, id=f"{module}-{one.name}") for one in dirt]
    return found


@pytest.mark.parametrize(("module", "dirt"), known_dirt())
def test_the_next_borrower_sees_nothing(make_pool: MakePool, module: str, dirt: Dirt) -> None:
    pool = make_pool(module)
    with pool.connection() as conn:
        baseline = dirt.look(conn)
    with pool.connection() as conn:
        before = pid(conn)

    borrowed = pool.connection()
    dirt.act(borrowed)
    borrowed.close()

    with pool.connection() as conn:
        assert dirt.look(conn) == baseline
        if not dirt.replaced:
            assert pid(conn) == before, pool.stats().closed


@pytest.mark.parametrize(("module", "dirt"), known_dirt())
def test_each_dirt_shows(make_pool: MakePool, module: str, dirt: Dirt) -> None:
    pool = make_pool(module)
    with pool.connection() as conn:
        baseline = dirt.look(conn)

    conn = pool.connection()
    dirt.act(conn)
    try:
        found = dirt.look(conn)
    except Exception as exc:
        found = exc
    conn.invalidate()

    assert found != baseline


def test_there_is_enough_dirt() -> None:
    assert len(dirt_postgresql.SERVER_SIDE) > 16


# -- what costs nothing ---------------------------------------------------------------------------


def session_resets(pool: Pool, postgresql: servers.Server, lease: Callable[[Any], object]) -> int:
    """How many full resets a lease costs: the pool's setup is replayed after each."""
    resets: list[int] = []
    pool.driver.classifier  # noqa: B018
    driver: Any = pool.driver
    native = driver.reset_session
    driver.reset_session = lambda conn, snapshot: resets.append(1) or native(conn, snapshot)
    try:
        with pool.connection() as conn:
            lease(conn)
    finally:
        del driver.reset_session
    return len(resets)


PLAIN = {
    "nothing": lambda conn: None,
    "rows": lambda conn: run(conn, "SELECT relname FROM pg_class LIMIT 1"),
    "set autocommit": lambda conn: setattr(conn, "autocommit", True),
    "looking around": lambda conn: (
        conn.closed,
        conn.fileno(),
        conn.autocommit,
        conn.isolation_level,
        conn.cursor_factory,
        conn.info.transaction_status,
        conn.info.backend_pid,
        conn.info.server_version,
        conn.xid(1, "a", "b"),
    ),
    "commit": lambda conn: conn.commit(),
    "a server-side cursor": lambda conn: run_named(conn, "SELECT 1"),
}
OWN_PLAIN = {
    "psycopg2": {
        "set_session": lambda conn: conn.set_session(readonly=True),
        "get_": lambda conn: (
            conn.get_backend_pid(),
            conn.get_parameter_status("server_version"),
            conn.get_transaction_status(),
            conn.get_dsn_parameters(),
            conn.isexecuting(),
        ),
        "another cursor": lambda conn: conn.cursor(cursor_factory=extras().DictCursor).close(),
        "messages": lambda conn: (list(conn.notices), list(conn.notifies)),
    },
    "psycopg": {
        "set_autocommit": lambda conn: conn.set_autocommit(True),
        "execute": lambda conn: conn.execute("SELECT 1").fetchall(),
        "transaction": lambda conn: in_block(conn, "transaction"),
        "pipeline": lambda conn: in_block(conn, "pipeline"),
        "handlers": lambda conn: conn.add_notice_handler(print),
        "adapters": lambda conn: conn.adapters.get_loader(25, 0),
        "factories": lambda conn: (conn.row_factory, conn.server_cursor_factory),
        "stream": lambda conn: list(conn.cursor().stream("SELECT 1")),
        "connection": lambda conn: conn.connection.connection,
    },
}


def extras() -> Any:
    servers.driver_module("psycopg2")
    return importlib.import_module("psycopg2.extras")


def run_named(conn: Any, sql: str) -> Any:
    with conn.cursor("plain") as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def in_block(conn: Any, name: str) -> None:
    with getattr(conn, name)():
        conn.execute("SELECT 1")


def plain_leases() -> list[Any]:
    return [
        pytest.param(module, lease, id=f"{module}-{name}")
        for module in MODULES
        for name, lease in {**PLAIN, **OWN_PLAIN[module]}.items()
    ]


@pytest.mark.parametrize(("module", "lease"), plain_leases())
def test_what_leaves_no_trace_costs_no_reset(
    make_pool: MakePool, postgresql: servers.Server, module: str, lease: Callable[[Any], object]
) -> None:
    pool = make_pool(module)
    with pool.connection() as conn:
        before = pid(conn)

    assert session_resets(pool, postgresql, lease) == 0

    with pool.connection() as conn:
        assert pid(conn) == before


def test_a_list_of_notices_that_was_kept_gets_none_of_the_next_borrowers(
    make_pool: MakePool,
) -> None:
    pool = make_pool("psycopg2")
    with pool.connection() as conn:
        kept = conn.notices
    with pool.connection() as conn:
        run(conn, "DO $$ BEGIN RAISE NOTICE 'mine'; END $$")
        assert len(conn.notices) == 1

    assert kept == []


@modules
def test_a_reset_is_counted(make_pool: MakePool, postgresql: servers.Server, module: str) -> None:
    pool = make_pool(module)

    assert session_resets(pool, postgresql, running("SET work_mem TO '100kB'")) == 1


# -- setup ----------------------------------------------------------------------------------------

SETUPS: dict[str, Any] = {
    "a statement": "SET work_mem TO '321kB'",
    "several": ["SET statement_timeout TO 5000", "SET work_mem TO '321kB'"],
    "a callable": lambda conn: run(conn, "SET work_mem TO '321kB'"),
}


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
@modules
def test_setup_lasts_and_is_replayed(make_pool: MakePool, module: str, setup: Any) -> None:
    pool = make_pool(module, setup=setup)
    borrowed = pool.connection()
    assert value(borrowed, "SHOW work_mem") == "321kB"
    borrowed.rollback()
    assert value(borrowed, "SHOW work_mem") == "321kB"
    before = pid(borrowed)
    running("SET work_mem TO '100kB'")(borrowed)
    borrowed.close()

    with pool.connection() as conn:
        assert value(conn, "SHOW work_mem") == "321kB"
        assert pid(conn) == before


@modules
def test_setup_may_set_attributes(make_pool: MakePool, module: str) -> None:
    def setup(conn: Any) -> None:
        conn.autocommit = True

    pool = make_pool(module, setup=setup)
    for _ in range(2):
        with pool.connection() as conn:
            assert conn.autocommit
            run(conn, "SET work_mem TO '100kB'")
            conn.autocommit = False


@modules
def test_setup_runs_with_the_users_cursor_classes(postgresql: servers.Server, module: str) -> None:
    driver = servers.driver_module(module)
    if module == "psycopg2":
        connect = lambda **arguments: driver.connect(  # noqa: E731
            cursor_factory=extras().RealDictCursor, **arguments
        )
    else:
        connect = lambda **arguments: driver.connect(  # noqa: E731
            row_factory=driver.rows.dict_row, autocommit=True, **arguments
        )
    arguments = postgresql.arguments(module)
    with Pool(connect, max_size=1, setup="SET work_mem TO '321kB'", **arguments) as pool:
        for _ in range(2):
            with pool.connection() as conn:
                assert run(conn, "SHOW work_mem") == [{"work_mem": "321kB"}]
                run(conn, "SET work_mem TO '100kB'")


@modules
def test_what_the_dsn_says_survives_a_reset(postgresql: servers.Server, module: str) -> None:
    driver = servers.driver_module(module)
    arguments = {
        **postgresql.arguments(module),
        "options": "-c work_mem=99kB",
        "application_name": "shop",
        "client_encoding": "LATIN1",
    }
    with Pool(driver, max_size=1, **arguments) as pool:
        for _ in range(2):
            with pool.connection() as conn:
                assert value(conn, "SHOW work_mem") == "99kB"
                assert value(conn, "SHOW application_name") == "shop"
                assert value(conn, "SELECT 'é'") == "é"
                assert value(conn, "SHOW client_encoding") == "LATIN1"
                running("SET work_mem TO '100kB'", "SET client_encoding TO UTF8")(conn)


# -- particular drivers ----------------------------------------------------------------------------


def test_psycopg_forgets_its_prepared_statements_with_the_server(make_pool: MakePool) -> None:
    pool = make_pool("psycopg")
    for _ in range(3):  # psycopg itself would notice the first time
        with pool.connection() as conn:
            for _ in range(3):
                assert conn.execute("SELECT 'x'", prepare=True).fetchone() == ("x",)
            run(conn, "SET work_mem TO '100kB'")
        assert pool.stats().closed == {}


def test_psycopg_keeps_its_prepared_statements_without_a_reset(make_pool: MakePool) -> None:
    pool = make_pool("psycopg")
    with pool.connection() as conn:
        conn.execute("SELECT 'x'", prepare=True)
    with pool.connection() as conn:
        assert value(conn, "SELECT count(*) FROM pg_prepared_statements") == 1


@pytest.mark.parametrize("module", MODULES)
def test_a_prepared_two_phase_transaction_is_told(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture, module: str
) -> None:
    pool = make_pool(module)
    conn = pool.connection()
    conn.tpc_begin(conn.xid(1, "told", "branch"))
    run(conn, "SELECT 1")
    conn.tpc_prepare()
    with caplog.at_level(logging.WARNING, "dbapi_pool.postgresql"):
        conn.close()

    assert "two-phase transaction" in caplog.text
    if module == "psycopg":  # psycopg2 does not tell its name
        assert "1_dG9sZA==_YnJhbmNo" in caplog.text or "told" in caplog.text
    with pool.connection() as conn:
        dirt_postgresql.prepared_by_whom(conn)  # rolls it back
    assert pool.stats().closed == {"failed reset": 1}


@modules
def test_a_two_phase_transaction_that_ended_is_no_matter(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture, module: str
) -> None:
    pool = make_pool(module)
    with pool.connection() as conn:
        before = pid(conn)
        conn.rollback()
        conn.tpc_begin(conn.xid(1, "ended", module))
        run(conn, "SELECT 1")
        conn.tpc_prepare()
        conn.tpc_commit()
    with pool.connection() as conn:
        assert pid(conn) == before
    assert caplog.text == ""


def test_a_named_cursor_that_a_commit_ended_costs_no_connection(make_pool: MakePool) -> None:
    pool = make_pool("psycopg2")
    with pool.connection() as conn:
        before = pid(conn)
        cursor = conn.cursor("ended")
        cursor.execute("SELECT 1")
    with pool.connection() as conn:
        assert pid(conn) == before
        other = conn.cursor("ended")
        other.execute("SELECT 1")
        conn.commit()
        with pytest.raises(servers.driver_module("psycopg2").ProgrammingError, match="valid"):
            other.close()  # as it is without a pool


@modules
def test_notifications_of_others_do_not_make_an_idle_connection_look_dead(
    make_pool: MakePool, postgresql: servers.Server, module: str
) -> None:
    pool = make_pool(module, setup="LISTEN news")
    with pool.connection() as conn:
        before = pid(conn)
    for _ in range(3):
        postgresql_notify(postgresql, module)
        with pool.connection() as conn:
            assert pid(conn) == before
            assert value(conn, "SELECT 1") == 1
    assert pool.stats().closed == {}


def postgresql_notify(server: servers.Server, module: str) -> None:
    other = servers.driver_module(module).connect(**server.arguments(module))
    run(other, "NOTIFY news, 'hello'")
    other.commit()
    other.close()


@modules
def test_a_flood_of_notifications_does_not_make_an_idle_connection_look_dead(
    make_pool: MakePool, postgresql: servers.Server, module: str
) -> None:
    pool = make_pool(module, setup="LISTEN news")
    with pool.connection() as conn:
        before = pid(conn)
    other = servers.driver_module(module).connect(**postgresql.arguments(module))
    run(other, "SELECT pg_notify('news', n || repeat('x', 7900)) FROM generate_series(1, 300) n")
    other.commit()
    for _ in range(3):  # it takes its time to arrive
        with pool.connection() as conn:
            assert pid(conn) == before
    other.close()
    assert pool.stats().closed == {}


@modules
def test_a_notification_does_not_hide_the_servers_last_words(
    make_pool: MakePool, postgresql: servers.Server, module: str
) -> None:
    pool = make_pool(module, setup="LISTEN news", ping_after=None)
    for _ in range(5):
        with pool.connection() as conn:
            before = pid(conn)
        postgresql_notify(postgresql, module)
        postgresql.kill_session(before)
        with pool.connection() as conn:
            assert pid(conn) != before
            assert value(conn, "SELECT 1") == 1


@modules
def test_a_read_only_attribute_is_undone_on_the_server_too(
    make_pool: MakePool, module: str
) -> None:
    pool = make_pool(module)
    for _ in range(2):
        with pool.connection() as conn:
            assert shown("transaction_read_only")(conn) == "off"
            conn.rollback()
            name = "readonly" if module == "psycopg2" else "read_only"
            setattr(conn, name, True)
            assert shown("transaction_read_only")(conn) == "on"
