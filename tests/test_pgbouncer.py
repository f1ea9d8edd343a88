"""The promises behind a PgBouncer in both modes, with default settings; what no pool can keep there.

The contract kit runs through it too: tests/plugins/test_contract_postgresql.py.
"""

from __future__ import annotations

import configparser
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bouncers
import pytest
import servers

from dbapi_pool import Pool, PoolTimeout

ROOT = Path(__file__).parent.parent
MODULES = ("psycopg2", "psycopg")
SIZE = 4
ROUNDS = 20
PATIENCE = 20  # seconds; far more than anything here takes

by_both_drivers = pytest.mark.parametrize("module", MODULES)
in_both_modes = pytest.mark.parametrize("mode", bouncers.MODES)


def make_pool(server: servers.Server, module: str, **settings: Any) -> Pool:
    settings = {"max_size": SIZE, **settings}
    return Pool(servers.driver_module(module), **server.arguments(module), **settings)


def connect(server: servers.Server, module: str, **changed: Any) -> Any:
    return servers.driver_module(module).connect(**{**server.arguments(module), **changed})


def value(conn: Any, sql: str) -> Any:
    """The one value that a query gives; None if it gives no rows."""
    cursor = conn.cursor()
    try:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None
    finally:
        cursor.close()


def session(conn: Any) -> int:
    """The session that it is in now."""
    return int(value(conn, "SELECT pg_backend_pid()"))


def use_all(pool: Pool) -> None:
    """Borrow all at once, so that each idle connection is lent, and use each."""
    lent = [pool.connection(timeout=PATIENCE) for _ in range(pool.max_size)]
    for number, conn in enumerate(lent):
        assert value(conn, f"SELECT {number}") == number
        conn.close()


@pytest.fixture
def shared(request: pytest.FixtureRequest, mode: str) -> bouncers.PgBouncer:
    """The one that all tests share."""
    bouncer: bouncers.PgBouncer = request.getfixturevalue(f"pgbouncer_by_{mode}")
    return bouncer


@pytest.fixture
def own(postgresql: servers.Server, mode: str) -> Iterator[bouncers.PgBouncer]:
    """One that a test may break, with sessions for `SIZE` connections and one more."""
    with bouncers.bouncing(
        postgresql, mode, default_pool_size=SIZE + 1, query_wait_timeout=PATIENCE
    ) as bouncer:
        yield bouncer


def kill_sessions(bouncer: bouncers.PgBouncer) -> None:
    """End its sessions on the server, and wait until it knows."""
    killed = {row["remote_pid"] for row in bouncer.shown("SERVERS")}
    for pid in killed:
        bouncer.behind.query(f"SELECT pg_terminate_backend({pid})")
    servers.wait_for(
        lambda: not killed & {row["remote_pid"] for row in bouncer.shown("SERVERS")}, PATIENCE
    )


# -- P4 alive, P10 heals --------------------------------------------------------------------------


@in_both_modes
@by_both_drivers
def test_sessions_killed_while_idle_cost_nobody_an_error(
    own: bouncers.PgBouncer, mode: str, module: str
) -> None:
    with make_pool(own, module, ping_after=None) as pool:
        use_all(pool)
        for _ in range(ROUNDS):
            kill_sessions(own)
            use_all(pool)
        # By transaction, a connection outlives the session that it had last.
        lost = {"dead": SIZE * ROUNDS} if mode == "session" else {}
        assert pool.stats().closed == lost


@in_both_modes
@by_both_drivers
def test_one_killed_in_use_costs_its_borrower_one_error_of_the_driver_and_is_replaced(
    own: bouncers.PgBouncer, module: str
) -> None:
    errors = servers.driver_module(module).Error
    with make_pool(own, module, max_size=1) as pool:
        for _ in range(10):
            with pool.connection() as conn:
                own.behind.kill_session(session(conn))
                with pytest.raises(errors):
                    value(conn, "SELECT 2")
                conn.invalidate()
            use_all(pool)


@in_both_modes
@by_both_drivers
def test_a_pgbouncer_that_is_restarted_or_killed_costs_nobody_an_error_but_who_is_in_it(
    own: bouncers.PgBouncer, module: str
) -> None:
    errors = servers.driver_module(module).Error
    with make_pool(own, module) as pool:
        for end in (own.stop, own.kill9):
            use_all(pool)
            conn = pool.connection()
            value(conn, "SELECT 1")
            end()
            own.start()
            with pytest.raises(errors):
                value(conn, "SELECT 2")
            conn.close()
            use_all(pool)
        closed = pool.stats().closed
        assert closed == {"broken": 2, "dead": 2 * (SIZE - 1)}


@in_both_modes
@by_both_drivers
def test_it_works_again_when_the_server_behind_is_back(
    own_postgresql: servers.Server, mode: str, module: str
) -> None:
    """Later by PgBouncer's own `server_login_retry`, 15 s if nobody sets it."""
    with (
        bouncers.bouncing(own_postgresql, mode, server_login_retry=1) as bouncer,
        make_pool(bouncer, module) as pool,
    ):
        use_all(pool)
        own_postgresql.restart()
        use_all(pool)
        own_postgresql.kill9()
        own_postgresql.start()
        use_all(pool)


def refused(pool: Pool, error: type[Exception]) -> BaseException | None:
    """Why there is no connection any more. In transaction mode PgBouncer takes some in until it has
    found out that its server is away; of these the first statement fails."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        opened = pool.stats().opened
        try:
            conn = pool.connection(timeout=2)
        except PoolTimeout as exc:
            assert pool.stats().opened == opened
            return exc.__cause__
        with pytest.raises(error):
            value(conn, "SELECT 1")
        conn.close()
    raise AssertionError("connections are taken in still")


@in_both_modes
@by_both_drivers
def test_while_the_server_behind_is_away_borrowers_wait_and_are_served_when_it_is_back(
    own_postgresql: servers.Server, mode: str, module: str
) -> None:
    """PgBouncer takes clients in all the same, and then ends them at their first statement."""
    settings = {"server_login_retry": 1, "query_wait_timeout": 1}
    with (
        bouncers.bouncing(own_postgresql, mode, **settings) as bouncer,
        make_pool(bouncer, module) as pool,
    ):
        with pool.connection() as conn:
            value(conn, "SELECT 1")
        own_postgresql.stop()
        cause = refused(pool, servers.driver_module(module).Error)
        assert is_of_pgbouncer(cause, module, "server_login_retry")
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(use_all, pool)
            own_postgresql.start()
            waiting.result(PATIENCE)


# -- P2 exclusive, P5 no lies ---------------------------------------------------------------------


@in_both_modes
@by_both_drivers
def test_transactions_stay_whole_where_sessions_are_fewer_than_borrowers(
    postgresql: servers.Server, mode: str, module: str
) -> None:
    """Eight threads count on two rows each, through fewer sessions than that; nothing is lost, nor seen
    half done."""
    table = f"bouncer_counts_{module}_{mode}"
    postgresql_pool = {"default_pool_size": 3, "query_wait_timeout": PATIENCE}
    size = 8 if mode == "transaction" else 3  # by session, one each is what there is
    with (
        bouncers.bouncing(postgresql, mode, **postgresql_pool) as bouncer,
        make_pool(bouncer, module, max_size=size) as pool,
    ):
        with pool.transaction() as conn:
            value(conn, f"CREATE TABLE {table} (id int PRIMARY KEY, n int)")
            value(conn, f"INSERT INTO {table} VALUES (1, 0), (2, 0)")

        def count(_: int) -> None:
            for _ in range(25):
                with pool.transaction(timeout=PATIENCE) as conn:
                    mine = session(conn)
                    value(conn, f"UPDATE {table} SET n = n + 1 WHERE id = 1")
                    value(conn, f"UPDATE {table} SET n = n + 1 WHERE id = 2")
                    assert value(conn, f"SELECT count(DISTINCT n) FROM {table}") == 1
                    assert session(conn) == mine

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(count, range(8)))
        with pool.connection() as conn:
            assert value(conn, f"SELECT min(n) FROM {table}") == 8 * 25
            value(conn, f"DROP TABLE {table}")


@in_both_modes
@by_both_drivers
def test_what_a_borrower_kept_runs_nothing_on_the_next_ones_connection(
    shared: bouncers.PgBouncer, module: str
) -> None:
    interface_error = servers.driver_module(module).InterfaceError
    with make_pool(shared, module, max_size=1) as pool:
        conn = pool.connection()
        cursor = conn.cursor()
        conn.close()
        with pool.connection() as other:
            value(other, "CREATE TEMP TABLE mine (n int) ON COMMIT DROP")
            for late in (cursor.execute, lambda sql, conn=conn: value(conn, sql)):
                with pytest.raises(interface_error):
                    late("INSERT INTO mine VALUES (1)")
            assert value(other, "SELECT count(*) FROM mine") == 0


# -- P3 clean -------------------------------------------------------------------------------------

DIRTY = "SET work_mem TO '123kB'"
SEEN = "SHOW work_mem"


def reaches_the_next(bouncer: bouncers.PgBouncer, module: str, **settings: Any) -> bool:
    """Whether what a borrower leaves in its session reaches the next one, where another program gets
    that session before the pool cleans it."""
    other = connect(bouncer, module)
    with make_pool(bouncer, module, max_size=1, **settings) as pool:
        with pool.connection() as conn:
            before = value(conn, SEEN)
            value(conn, DIRTY)
            conn.commit()
            session(other)  # begins a transaction
        other.rollback()
        with pool.connection() as conn:
            found = value(conn, SEEN)
    other.close()
    return bool(found != before)


@by_both_drivers
def test_by_session_nobody_sees_what_another_left(
    pgbouncer_by_session: bouncers.PgBouncer, module: str
) -> None:
    assert not reaches_the_next(pgbouncer_by_session, module)


@pytest.mark.parametrize("reset", ["auto", "always", "transaction"])
@by_both_drivers
def test_by_transaction_no_pool_can_clean_what_another_program_has_got(
    postgresql: servers.Server, module: str, reset: str
) -> None:
    with bouncers.bouncing(postgresql, "transaction") as bouncer:
        assert reaches_the_next(bouncer, module, reset=reset)


@pytest.mark.parametrize("reset", ["auto", "transaction"])
@by_both_drivers
def test_by_transaction_pgbouncer_cleans_if_it_is_told_to(
    postgresql: servers.Server, module: str, reset: str
) -> None:
    with bouncers.bouncing(postgresql, "transaction", server_reset_query_always=1) as bouncer:
        assert not reaches_the_next(bouncer, module, reset=reset)


@by_both_drivers
def test_by_transaction_what_ends_with_it_is_safe(
    pgbouncer_by_transaction: bouncers.PgBouncer, module: str
) -> None:
    with make_pool(pgbouncer_by_transaction, module, max_size=1) as pool:
        with pool.transaction(isolation="SERIALIZABLE", readonly=True) as conn:
            value(conn, "SET LOCAL work_mem TO '123kB'")
            assert value(conn, SEEN) == "123kB"
            assert value(conn, "SHOW transaction_isolation") == "serializable"
            assert value(conn, "SHOW transaction_read_only") == "on"
        with pool.connection() as conn:
            assert value(conn, SEEN) != "123kB"
            assert value(conn, "SHOW transaction_isolation") == "read committed"
            assert value(conn, "SHOW transaction_read_only") == "off"


# -- prepared statements --------------------------------------------------------------------------


def without_prepared_statements() -> dict[str, Any]:
    """Settings for a PgBouncer that knows nothing of them, as all did before 1.21."""
    return {} if bouncers.PgBouncer.version() < (1, 21) else {"max_prepared_statements": 0}


OWN = "SELECT 'mine' || %s"
OTHERS = "SELECT 'of another' || %s"
OFTEN = 6  # executions, after which psycopg prepares a statement


def answer_in_anothers_session(conn: Any, other: Any) -> str:
    """What `conn` gets for its own statement in the session where `other` ran its own last, after
    psycopg had reason to prepare both."""
    for _ in range(OFTEN):
        conn.execute(OWN, ["!"])
        other.execute(OTHERS, ["!"])  # both are in a transaction: in sessions of their own
    conn.commit()
    other.commit()
    return str(conn.execute(OWN, ["!"]).fetchone()[0])


def test_psycopg_alone_runs_a_statement_of_another_client(postgresql: servers.Server) -> None:
    """Why the plugin has it prepare nothing. If this fails, that may be needed no more."""
    servers.driver_module("psycopg")
    settings = without_prepared_statements()
    with bouncers.bouncing(postgresql, "transaction", **settings) as bouncer:
        conn, other = connect(bouncer, "psycopg"), connect(bouncer, "psycopg")
        assert answer_in_anothers_session(conn, other) == "of another!"
        conn.close()
        other.close()


@in_both_modes
def test_borrowers_run_their_own_statements(postgresql: servers.Server, mode: str) -> None:
    servers.driver_module("psycopg")
    settings = without_prepared_statements()
    with (
        bouncers.bouncing(postgresql, mode, **settings) as bouncer,
        make_pool(bouncer, "psycopg") as pool,
        pool.connection() as conn,
        pool.connection() as other,
    ):
        assert conn.prepare_threshold is None
        assert answer_in_anothers_session(conn, other) == "mine!"


def test_psycopg_prepares_as_it_is_told_and_where_there_is_no_pooler(
    postgresql: servers.Server, pgbouncer_by_session: bouncers.PgBouncer
) -> None:
    servers.driver_module("psycopg")
    for server, settings, threshold in (
        (postgresql, {}, 5),
        (pgbouncer_by_session, {}, None),
        (pgbouncer_by_session, {"prepare_threshold": 7}, 7),
        (pgbouncer_by_session, {"setup": lambda conn: setattr(conn, "prepare_threshold", 3)}, 3),
    ):
        with make_pool(server, "psycopg", max_size=1, **settings) as pool:
            for _ in range(2):
                with pool.connection() as conn:
                    assert conn.prepare_threshold == threshold
                    conn.prepare_threshold = 1


def test_a_newer_pgbouncer_keeps_prepared_statements_apart(postgresql: servers.Server) -> None:
    """What the documentation says of `prepare_threshold`."""
    psycopg = servers.driver_module("psycopg")
    if bouncers.PgBouncer.version() < (1, 21) or psycopg.pq.version() < 170000:
        pytest.skip("PgBouncer is older than 1.21, or libpq than 17")
    with (
        bouncers.bouncing(postgresql, "transaction", max_prepared_statements=100) as bouncer,
        make_pool(bouncer, "psycopg", prepare_threshold=5, reset="transaction") as pool,
    ):
        for end in ("commit", "rollback"):
            with pool.connection() as conn, pool.connection() as other:
                assert answer_in_anothers_session(conn, other) == "mine!"
                getattr(conn, end)()
                assert conn.execute(OWN, ["!"]).fetchone() == ("mine!",)


# -- waiting, and what it refuses -----------------------------------------------------------------


@contextmanager
def taken(bouncer: bouncers.PgBouncer, module: str, number: int) -> Iterator[None]:
    """So many of its sessions are used by another program."""
    others = [connect(bouncer, module) for _ in range(number)]
    try:
        for other in others:
            session(other)
        yield
    finally:
        for other in others:
            other.close()


@by_both_drivers
def test_by_transaction_a_statement_that_gets_no_session_in_time_is_one_error(
    postgresql: servers.Server, module: str
) -> None:
    errors = servers.driver_module(module).OperationalError
    few = {"default_pool_size": 1, "query_wait_timeout": 1}
    with (
        bouncers.bouncing(postgresql, "transaction", **few) as bouncer,
        make_pool(bouncer, module, max_size=1) as pool,
    ):
        use_all(pool)
        with taken(bouncer, module, 1):
            conn = pool.connection()
            with pytest.raises(errors) as raised:
                value(conn, "SELECT 1")
            assert pool.driver.is_disconnect(raised.value, conn.driver_connection)
            conn.close()
        use_all(pool)
        assert pool.stats().closed == {"broken": 1}


@pytest.mark.parametrize(
    ("module", "how"),
    [("psycopg2", {}), ("psycopg", {}), ("psycopg", {"prepare_threshold": None})],
)
def test_by_session_only_what_has_got_a_session_is_lent(
    postgresql: servers.Server, module: str, how: dict[str, Any]
) -> None:
    """PgBouncer takes in more clients than it has sessions for."""
    few = {"default_pool_size": 1, "query_wait_timeout": 1}
    with (
        bouncers.bouncing(postgresql, "session", **few) as bouncer,
        make_pool(bouncer, module, max_size=1, **how) as pool,
    ):
        with taken(bouncer, module, 1), pytest.raises(PoolTimeout) as raised:
            pool.connection(timeout=3)
        assert is_of_pgbouncer(raised.value.__cause__, module, "query_wait_timeout")
        use_all(pool)


def is_of_pgbouncer(error: BaseException | None, module: str, text: str) -> bool:
    """Whether PgBouncer has ended a connection for this reason, as far as the driver tells."""
    return (text if module == "psycopg" else "server closed the connection") in str(error)


@by_both_drivers
def test_a_pause_of_pgbouncer_is_a_wait_and_no_error(
    postgresql: servers.Server, module: str
) -> None:
    with (
        bouncers.bouncing(postgresql, "transaction") as bouncer,
        make_pool(bouncer, module, max_size=1) as pool,
    ):
        use_all(pool)
        bouncer.query("PAUSE")
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(use_all, pool)
            servers.wait_for(lambda: bouncer.pools()["cl_waiting"] == 1, PATIENCE)
            bouncer.query("RESUME")
            waiting.result(PATIENCE)
        assert pool.stats().closed == {}


@in_both_modes
@by_both_drivers
def test_who_finds_no_place_in_it_waits_until_there_is_one(
    postgresql: servers.Server, mode: str, module: str
) -> None:
    with (
        bouncers.bouncing(postgresql, mode) as bouncer,
        make_pool(bouncer, module, max_size=1) as pool,
    ):
        bouncer.query("SET max_client_conn = 2")  # its console is one of them
        other = connect(bouncer, module)
        with pytest.raises(PoolTimeout) as raised:
            pool.connection(timeout=0.5)
        assert "no more connections allowed" in str(raised.value.__cause__)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(use_all, pool)
            servers.wait_for(lambda: pool.stats().waiting == 1, PATIENCE)
            other.close()
            waiting.result(PATIENCE)


@in_both_modes
@by_both_drivers
def test_a_startup_parameter_that_it_does_not_take_is_refused_at_once(
    shared: bouncers.PgBouncer, module: str
) -> None:
    errors = servers.driver_module(module).OperationalError
    with (
        make_pool(shared, module, options="-c work_mem=1MB") as pool,
        pytest.raises(errors, match="unsupported startup parameter"),
    ):
        pool.connection(timeout=PATIENCE)


@by_both_drivers
def test_startup_parameters_that_it_ignores_do_nothing(
    postgresql: servers.Server, module: str
) -> None:
    with (
        bouncers.bouncing(postgresql, "session", ignore_startup_parameters="options") as bouncer,
        make_pool(bouncer, module, options="-c work_mem=123kB") as pool,
        pool.connection() as conn,
    ):
        assert value(conn, SEEN) != "123kB"


@by_both_drivers
def test_by_statement_there_are_no_transactions_but_autocommit_works(
    postgresql: servers.Server, module: str
) -> None:
    errors = servers.driver_module(module).OperationalError

    def autocommit(conn: Any) -> None:
        conn.autocommit = True

    with bouncers.bouncing(postgresql, "statement") as bouncer:
        with make_pool(bouncer, module, setup=autocommit) as pool:
            use_all(pool)
            with pytest.raises(errors), pool.transaction() as conn:
                value(conn, "SELECT 1")
            use_all(pool)
        with make_pool(bouncer, module) as pool, pool.connection() as conn:
            with pytest.raises(errors):
                value(conn, "SELECT 1")
            conn.close()


@in_both_modes
@by_both_drivers
def test_tls_to_pgbouncer_passes_unharmed(shared: bouncers.PgBouncer, module: str) -> None:
    dbapi = servers.driver_module(module)
    with Pool(dbapi, **shared.arguments(module, tls=True), max_size=1) as pool:
        use_all(pool)
        with pool.connection() as conn:
            assert pool.driver.server(conn.driver_connection).tls == "TLS"


# -- what the documentation gives to paste --------------------------------------------------------


@by_both_drivers
def test_the_pgbouncer_ini_of_the_documentation_works(
    postgresql: servers.Server, module: str
) -> None:
    text = (ROOT / "docs/postgresql.md").read_text("utf-8")
    (block,) = re.findall(r"^```ini\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    told = configparser.ConfigParser()
    told.read_string(block)
    settings = dict(told["pgbouncer"])
    for place in ("listen_addr", "listen_port", "auth_file"):
        settings.pop(place)
    with bouncers.bouncing(postgresql, settings.pop("pool_mode"), **settings) as bouncer:
        used = {row["key"]: row["value"] for row in bouncer.shown("CONFIG")}
        assert {name: used[name] for name in settings} == settings
        assert bouncer.pools() == {} or bouncer.pools()["pool_mode"] == "transaction"
        assert not reaches_the_next(bouncer, module, reset="transaction")
        with make_pool(bouncer, module, reset="transaction") as pool:
            use_all(pool)
            bouncer.restart()
            use_all(pool)
