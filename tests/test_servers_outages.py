"""P10 heals, on real servers: full, frozen, starting, gone to another address, or read-only."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import servers
from relay import Relay

from dbapi_pool import Pool, PoolTimeout, PoolUnavailable

SIZE = 4
MODULES = sorted(servers.FIXTURE_OF)
POSTGRESQL = [module for module in MODULES if servers.PLUGIN_OF[module] == "postgresql"]
MYSQL = [module for module in MODULES if servers.PLUGIN_OF[module] == "mysql"]


@pytest.fixture
def server(request: pytest.FixtureRequest, module: str) -> servers.Server:
    """A server of this test's own."""
    servers.driver_module(module)
    server: servers.Server = request.getfixturevalue(servers.OWN_FIXTURE_OF[module])
    return server


def make_pool(server: servers.Server, module: str, **settings: Any) -> Pool:
    settings = {"max_size": SIZE, "checkout_timeout": 20.0, **settings}
    return Pool(servers.driver_module(module), **{**server.arguments(module), **settings})


def rows(conn: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor = conn.cursor()
    cursor.execute(sql)
    found = list(cursor.fetchall()) if cursor.description else []
    cursor.close()
    return found


def use(pool: Pool, sql: str = "SELECT 1") -> Any:
    with pool.connection() as conn:
        found = rows(conn, sql)
    return found[0][0] if found else None


def seconds(act: Callable[[], object]) -> float:
    begin = time.monotonic()
    act()
    return time.monotonic() - begin


@contextmanager
def many(count: int, work: Callable[[], object]) -> Iterator[list[BaseException]]:
    """`work` in so many threads, meanwhile; what they raised."""
    raised: list[BaseException] = []

    def body() -> None:
        try:
            work()
        except BaseException as exc:
            raised.append(exc)

    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield raised
    finally:
        for thread in threads:
            thread.join(60)


REPLACED = {"broken": 1, "failover": SIZE - 1}
"""What becomes of all connections when one borrower learns that the server is read-only."""

LIMITED = {
    "postgresql": ("ALTER ROLE pool CONNECTION LIMIT 2", "ALTER ROLE pool CONNECTION LIMIT -1"),
    "mysql": (
        "ALTER USER 'pool'@'%' WITH MAX_USER_CONNECTIONS 2",
        "ALTER USER 'pool'@'%' WITH MAX_USER_CONNECTIONS 0",
    ),
}


@pytest.mark.parametrize("module", MODULES)
def test_where_the_server_takes_no_more_all_share_what_there_is(
    server: servers.Server, module: str
) -> None:
    limit, lift = LIMITED[server.kind]
    server.query(limit)
    with make_pool(server, module) as pool:
        with many(3 * SIZE, lambda: [use(pool) for _ in range(20)]) as raised:
            pass
        assert raised == []
        assert pool.stats().opened <= 2
        server.query(lift)
        lent = [pool.connection() for _ in range(SIZE)]
        assert pool.stats().in_use == SIZE
        for conn in lent:
            conn.close()


@pytest.mark.parametrize("module", MODULES)
def test_who_waits_while_the_server_starts_is_served_within_a_second(
    server: servers.Server, module: str
) -> None:
    with make_pool(server, module) as pool:
        use(pool)
        server.kill9()
        served: list[float] = []
        with many(2 * SIZE, lambda: (use(pool), served.append(time.monotonic()))) as raised:
            time.sleep(1.0)  # a while without a server
            assert pool.stats().connect_errors <= 2 * 10
            server.start()
            started = time.monotonic()
        assert raised == []
        assert len(served) == 2 * SIZE
        assert max(served) - started < 1.0


@pytest.mark.parametrize("module", MODULES)
def test_a_frozen_server_costs_a_deadline_and_nobody_afterwards(
    server: servers.Server, module: str
) -> None:
    with make_pool(server, module, ping_after=0) as pool:
        pool.warm_up()
        time.sleep(1.1)  # what was opened a moment ago is not pinged
        server.pause()
        with pytest.raises(PoolTimeout):
            pool.connection(timeout=0.5)
        server.resume()
        assert seconds(lambda: use(pool)) < 1.0


@pytest.mark.parametrize("module", MODULES)
def test_with_fail_fast_after_nobody_waits_for_a_server_that_is_gone(
    server: servers.Server, module: str
) -> None:
    with make_pool(server, module, fail_fast_after=0.5) as pool:
        use(pool)
        server.kill9()
        with pytest.raises(PoolUnavailable) as caught:
            pool.connection()
        assert isinstance(caught.value.__cause__, servers.driver_module(module).Error)
        assert seconds(lambda: pytest.raises(PoolUnavailable, pool.connection)) < 0.05
        server.start()
        servers.wait_for(lambda: pool.stats().idle == 1, 1.0)
        assert use(pool) == 1


PORT = {"postgresql": "SELECT inet_server_port()", "mysql": "SELECT @@port"}


@pytest.mark.parametrize("module", MODULES)
def test_a_server_that_has_gone_to_another_address_costs_nobody_an_error(
    request: pytest.FixtureRequest, server: servers.Server, module: str
) -> None:
    other: servers.Server = request.getfixturevalue(servers.FIXTURE_OF[module])
    with Relay(server.host, server.port) as relay:
        there = {"host": relay.host, "port": relay.port}
        with make_pool(server, module, **there) as pool:
            pool.warm_up()
            assert use(pool, PORT[server.kind]) == server.port
            relay.lead_to(other.host, other.port)
            servers.wait_for(lambda: server.sessions() == 0, 5)
            lent = [pool.connection() for _ in range(SIZE)]
            for conn in lent:
                assert rows(conn, PORT[server.kind]) == [(other.port,)]
                conn.close()


@pytest.mark.parametrize("module", MYSQL)
def test_a_mysql_server_that_became_read_only_costs_one_error_and_every_connection(
    server: servers.Server, module: str
) -> None:
    with make_pool(server, module) as pool:
        use(pool, "CREATE TABLE t (x INT)")
        pool.warm_up()
        server.query("SET GLOBAL read_only = 1")
        with pytest.raises(servers.driver_module(module).Error, match="read.only"):
            use(pool, "INSERT INTO t VALUES (1)")
        servers.wait_for(lambda: pool.stats().closed == REPLACED, 5)
        server.query("SET GLOBAL read_only = 0")
        use(pool, "INSERT INTO t VALUES (2)")
        assert use(pool, "SELECT SUM(x) FROM t") == 2


class Standby(servers.PostgreSQL):
    """A hot standby of another private server
    (https://www.postgresql.org/docs/current/app-pgbasebackup.html)."""

    primary: servers.Server

    def initialise(self) -> None:
        user = self.run_as()
        if user:
            servers.give_to(user, self.folder)
        (self.folder / "server.key").chmod(0o600)
        subprocess.run(
            [str(self.program("pg_basebackup")), "-D", "data", "-R", "-X", "stream", "-c", "fast",
             "--no-sync", "-h", self.primary.host, "-p", str(self.primary.port),
             "-U", self.admin_user],
            cwd=self.folder, user=user, check=True, extra_groups=[] if user else None,
        )  # fmt: skip

    def create_users(self) -> None:
        """They are the primary's."""


@pytest.fixture
def standby(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.Server]:
    with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write(f"host replication {server.admin_user} 127.0.0.1/32 trust\n")
    server.query("SELECT pg_reload_conf()")
    monkeypatch.setattr(Standby, "primary", server, raising=False)
    with servers.private(Standby) as standby:
        yield standby


@pytest.mark.parametrize("module", POSTGRESQL)
def test_a_failover_to_a_standby_costs_one_error_and_every_connection_until_it_is_promoted(
    server: servers.Server, standby: servers.Server, module: str
) -> None:
    with Relay(server.host, server.port) as relay:
        there = {"host": relay.host, "port": relay.port}
        with make_pool(server, module, **there) as pool:
            use(pool, "CREATE TABLE t (x INT)")
            servers.wait_for(lambda: has_table(standby), 20)
            relay.lead_to(standby.host, standby.port)
            server.kill9()
            pool.warm_up()
            assert use(pool, "SELECT count(*) FROM t") == 0  # reading works, and costs nothing
            with pytest.raises(servers.driver_module(module).Error, match="read-only"):
                use(pool, "INSERT INTO t VALUES (1)")
            servers.wait_for(lambda: pool.stats().closed == REPLACED, 5)
            standby.query("SELECT pg_promote()")
            use(pool, "INSERT INTO t VALUES (2)")
            assert use(pool, "SELECT sum(x) FROM t") == 2


def has_table(standby: servers.Server) -> bool:
    conn = servers.driver_module("psycopg2").connect(**standby.arguments("psycopg2"))
    try:
        return bool(rows(conn, "SELECT to_regclass('t') IS NOT NULL")[0][0])
    finally:
        conn.close()
