"""P10 heals: connects that are never answered do not keep the pool's places for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import servers
from beside import load

from dbapi_pool import Pool, PoolTimeout

MODULES = ["psycopg", "psycopg2", "pymysql"]
wires = load("benchmarks.faults.wire")


@pytest.fixture
def server(request: pytest.FixtureRequest, module: str) -> servers.Server:
    servers.driver_module(module)
    found: servers.Server = request.getfixturevalue(servers.FIXTURE_OF[module])
    return found


@pytest.fixture
def wire(server: servers.Server) -> Iterator[Any]:
    """A way to the server that may be cut."""
    with wires.Wire(server.host, server.port) as made:
        yield made


def through(wire: Any, server: servers.Server, module: str, tls: bool = False) -> dict[str, Any]:
    return {**server.arguments(module, tls=tls), "host": wire.host, "port": wire.port}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("module", MODULES)
def test_a_pool_all_of_whose_connects_were_never_answered_heals(
    server: servers.Server, wire: Any, module: str, tls: bool
) -> None:
    driver = servers.driver_module(module)
    given = through(wire, server, module, tls)
    wire.silent = True
    with Pool(driver, **given, max_size=1, checkout_timeout=0.2) as pool:
        with pytest.raises(PoolTimeout):
            pool.connection()
        wire.heal()
        begin = time.monotonic()
        with pool.connection(timeout=10.0) as conn:
            conn.cursor().execute("SELECT 1")
        assert time.monotonic() - begin < 4.0  # an end of 2 s, and up to a second of backoff


@pytest.mark.parametrize("module", ["pymysql"])
def test_pymysqls_own_end_of_connecting_holds_for_its_handshake(
    server: servers.Server, wire: Any, module: str
) -> None:
    driver = servers.driver_module(module)
    wire.silent = True
    given = {**through(wire, server, module), "connect_timeout": 1}
    with Pool(driver, **given, max_size=1) as pool:
        with pytest.raises(PoolTimeout) as caught:
            pool.connection(timeout=2.0)
    assert isinstance(caught.value.__cause__, driver.err.OperationalError)


@pytest.mark.parametrize("module", ["pymysql"])
def test_the_end_of_connecting_is_none_of_what_follows(
    server: servers.Server, wire: Any, module: str
) -> None:
    driver = servers.driver_module(module)
    given = {**through(wire, server, module), "connect_timeout": 1}
    with Pool(driver, **given, max_size=1) as pool, pool.connection() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT SLEEP(1.5)")
        assert cursor.fetchone() == (0,)
    with Pool(driver, **given, read_timeout=1, max_size=1) as pool:
        with pytest.raises(driver.err.OperationalError), pool.connection() as conn:
            conn.cursor().execute("SELECT SLEEP(1.5)")


@pytest.mark.parametrize("module", ["psycopg", "psycopg2"])
def test_libpq_is_given_an_end_of_connecting_where_nobody_has_set_one(
    server: servers.Server, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = servers.driver_module(module)

    def timeout_of(*args: Any, **kwargs: Any) -> Any:
        with Pool(*args, **kwargs, max_size=1) as pool, pool.connection() as conn:
            if module == "psycopg2":
                return conn.driver_connection.get_dsn_parameters().get("connect_timeout")
            return conn.driver_connection.info.get_parameters().get("connect_timeout")

    given = server.arguments(module)
    url = server.url(module)
    assert timeout_of(driver, **given, checkout_timeout=3.5) == "4"
    assert timeout_of(driver, **given, checkout_timeout=0.1) == "2"
    assert timeout_of(driver, **given, checkout_timeout=None) == "10"
    assert timeout_of(driver, **given) == "10"
    assert timeout_of(driver.connect, **given) == "10"
    assert timeout_of(url) == "10"
    assert timeout_of(driver, **given, connect_timeout=7) == "7"
    assert timeout_of(url + "&connect_timeout=7") == "7"
    assert timeout_of(lambda: driver.connect(**given)) is None
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "9")
    assert timeout_of(driver, **given) in ("9", None)
