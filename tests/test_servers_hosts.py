"""URLs that name several servers: the one to write to is found, and found again when that changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import servers

from dbapi_pool import Pool, PoolTimeout
from dbapi_pool.adaptive import Adaptive

MYSQL = {
    "pymysql": "pymysql",
    "MySQLdb": "mysqldb",
    "mysql.connector": "mysqlconnector",
    "mariadb": "mariadbconnector",
}
PATIENCE = 20.0


@pytest.fixture(params=sorted(MYSQL))
def module(request: pytest.FixtureRequest) -> str:
    servers.driver_module(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def two() -> Iterator[list[servers.Server]]:
    with (
        servers.running(servers.MariaDB, own=True) as one,
        servers.running(servers.MariaDB, own=True) as other,
    ):
        yield [one, other]


@pytest.fixture
def pair(two: list[servers.Server]) -> Iterator[list[servers.Server]]:
    """The first can be written to, the second is read-only."""
    roles(two, "OFF", "ON")
    yield two
    roles(two, "OFF", "OFF")


def roles(pair: list[servers.Server], *read_only: str) -> None:
    for server, value in zip(pair, read_only, strict=True):
        server.query(f"SET GLOBAL read_only = {value}")


def url_of(pair: list[servers.Server], module: str, **query: str) -> str:
    first = pair[0]
    places = ",".join(f"{server.host}:{server.port}" for server in pair)
    login = f"{quote(first.user, safe='')}:{quote(first.password, safe='')}"
    given = "&".join(f"{name}={value}" for name, value in query.items())
    return f"mysql+{MYSQL[module]}://{login}@{places}/{first.database}?{given}"


def port_of(pool: Pool) -> int:
    with pool.connection(timeout=PATIENCE) as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT @@port")
        return int(cursor.fetchone()[0])


def write(pool: Pool) -> None:
    with pool.connection(timeout=PATIENCE) as conn:
        conn.cursor().execute("CREATE TABLE IF NOT EXISTS roles (i INTEGER)")
        conn.cursor().execute("INSERT INTO roles VALUES (1)")


def test_the_one_to_write_to_is_found_wherever_it_stands(
    pair: list[servers.Server], module: str
) -> None:
    for order in (pair, pair[::-1]):
        with Pool(url_of(order, module), max_size=2) as pool:
            assert port_of(pool) == pair[0].port
            assert pool.endpoint is None


@pytest.mark.parametrize(
    ("wish", "which"),
    [("read-write", 0), ("primary", 0), ("read-only", 1), ("standby", 1), ("prefer-standby", 1),
     ("any", 0)],
)  # fmt: skip
def test_a_wish_is_granted(pair: list[servers.Server], module: str, wish: str, which: int) -> None:
    with Pool(url_of(pair, module, target_session_attrs=wish), max_size=2) as pool:
        assert port_of(pool) == pair[which].port


def test_who_prefers_a_standby_takes_what_there_is(pair: list[servers.Server], module: str) -> None:
    roles(pair, "OFF", "OFF")
    with Pool(url_of(pair, module, target_session_attrs="prefer-standby"), max_size=2) as pool:
        assert port_of(pool) == pair[0].port


def test_a_single_host_may_be_asked_for_its_role_too(
    pair: list[servers.Server], module: str
) -> None:
    url = url_of(pair[1:], module, target_session_attrs="read-write")
    with Pool(url, checkout_timeout=0.3) as pool:
        with pytest.raises(PoolTimeout) as caught:
            pool.connection()
    assert f"no server will do: {pair[1].host}:{pair[1].port} is read-only" in str(
        caught.value.__cause__
    )
    assert isinstance(caught.value.__cause__, servers.driver_module(module).OperationalError)
    assert pair[1].password not in str(caught.value.__cause__)


def test_they_are_taken_by_chance_if_asked_for(pair: list[servers.Server], module: str) -> None:
    url = url_of(pair, module, target_session_attrs="any", load_balance_hosts="random")
    with Pool(url, max_size=8) as pool:
        for _ in range(20):
            if len(ports_of_all(pool)) == 2:
                return
            pool.drain()
    pytest.fail("in 160 connections one of two hosts never was the first")


def ports_of_all(pool: Pool) -> set[int]:
    held = [pool.connection(timeout=PATIENCE) for _ in range(pool.max_size)]
    found = set()
    for conn in held:
        cursor = conn.cursor()
        cursor.execute("SELECT @@port")
        found.add(int(cursor.fetchone()[0]))
        conn.close()
    return found


def test_when_the_roles_change_a_refused_write_replaces_every_connection(
    pair: list[servers.Server], module: str
) -> None:
    with Pool(url_of(pair, module), max_size=3) as pool:
        pool.warm_up()
        write(pool)
        roles(pair, "ON", "OFF")
        with pytest.raises(servers.driver_module(module).Error, match="read-only"):
            write(pool)
        write(pool)
        assert ports_of_all(pool) == {pair[1].port}


def test_when_the_roles_change_a_ping_notices(pair: list[servers.Server], module: str) -> None:
    """Without an error for anybody."""
    with Pool(url_of(pair, module), max_size=3, ping_after=0.0) as pool:
        assert ports_of_all(pool) == {pair[0].port}  # each is pinged when it is lent again
        roles(pair, "ON", "OFF")
        write(pool)
        assert ports_of_all(pool) == {pair[1].port}


def test_while_no_server_will_do_it_is_waited_for_one(
    pair: list[servers.Server], module: str
) -> None:
    roles(pair, "ON", "ON")
    with Pool(url_of(pair, module)) as pool:
        with pytest.raises(PoolTimeout) as caught:
            pool.connection(timeout=0.3)
        assert str(caught.value.__cause__).count("is read-only") == 2
        roles(pair, "ON", "OFF")
        write(pool)


def test_a_dead_host_is_passed_over_and_comes_back(pair: list[servers.Server], module: str) -> None:
    with Pool(url_of(pair, module), max_size=2) as pool:
        write(pool)
        pair[0].kill9()
        try:
            pair[1].query("SET GLOBAL read_only = OFF")
            write(pool)
            assert port_of(pool) == pair[1].port
        finally:
            pair[0].start()
        pair[0].query("SET GLOBAL read_only = ON")
        pool.drain()
        assert port_of(pool) == pair[1].port


def test_servers_that_are_full_are_told_from_others(
    pair: list[servers.Server], module: str
) -> None:
    for server in pair:
        server.query(f"ALTER USER {server.user} WITH MAX_USER_CONNECTIONS 1")
    try:
        with Pool(url_of(pair, module), max_size=3, sizing=Adaptive(start=3)) as pool:
            with pool.connection():
                with pytest.raises(PoolTimeout) as caught:
                    pool.connection(timeout=0.5)
                assert pool.driver.is_server_full(
                    caught.value.__cause__.__cause__ or caught.value.__cause__
                )
                servers.wait_for(lambda: pool.max_size == 1, PATIENCE)
    finally:
        for server in pair:
            server.query(f"ALTER USER {server.user} WITH MAX_USER_CONNECTIONS 0")


def test_a_wrong_password_is_told_at_once(pair: list[servers.Server], module: str) -> None:
    url = url_of(pair, module).replace(quote(pair[0].password, safe=""), "wrong")
    denied = pytest.raises(servers.driver_module(module).Error, match="(?i)access denied")
    with Pool(url) as pool, denied:
        pool.connection(timeout=PATIENCE)


def test_a_reset_and_a_setup_work_as_with_one(pair: list[servers.Server], module: str) -> None:
    with Pool(url_of(pair, module), max_size=1, setup="SET @who = 'app'") as pool:
        with pool.connection() as conn:
            conn.cursor().execute("SET @mine = 1")
        with pool.connection() as conn:
            cursor = conn.cursor()
            cursor.execute("SELECT @mine, @who")
            mine, who = cursor.fetchone()
        assert (mine, who if isinstance(who, str) else bytes(who).decode()) == (None, "app")


@pytest.mark.parametrize("module", ["psycopg2", "psycopg"])
def test_libpq_does_it_for_postgresql(
    own_postgresql: servers.Server, postgresql: servers.Server, module: str
) -> None:
    driver: Any = servers.driver_module(module)
    own_postgresql.query(
        f"ALTER DATABASE {own_postgresql.database} SET default_transaction_read_only = on"
    )
    given = own_postgresql.arguments(module)
    hosts = {
        "host": f"{own_postgresql.host},{postgresql.host}",
        "port": f"{own_postgresql.port},{postgresql.port}",
    }
    with Pool(driver, **{**given, **hosts}, target_session_attrs="read-write") as pool:
        with pool.connection() as conn:
            cursor = conn.cursor()
            cursor.execute("SHOW port")
            assert int(cursor.fetchone()[0]) == postgresql.port
